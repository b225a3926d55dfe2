"""Runs what stands in a Markdown page, as a reader would who copies it."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tomllib
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cache
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import typer
from pydantic import ValidationError

from mmbroker.processors.ingest.mapping import Mapping as TableMapping
from mmbroker.streams.cli.main import app
from mmbroker.streams.settings import CONFIG_VARIABLE, PREFIX, Settings, SettingsError, load
from tests.markdown import Block, blocks, code_in_text, commands, faults

REPOSITORY = Path(__file__).parents[1]
MAKEFILE = (REPOSITORY / "Makefile").read_text()
TARGETS = set(re.findall(r"^([a-z-]+):.*## ", MAKEFILE, re.MULTILINE))

COMMAND_LIMIT_S = 240.0
ALIVE_S = 8.0
"""So long has to live what ends by Ctrl-C alone."""
END_LIMIT_S = 60.0
SAID_CHARACTERS = 1500
NOT_EVERYWHERE = {"jq", "kcat", "prometheus", "promtool"}
"""Programs of others that a page may use and that need not be installed for the tests."""

_SEPARATORS = {"|", "||", "&&", ";", ">", ">>", "<"}
_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=")
_WARNED = re.compile(r"^\S+:\d+: \w*Warning: .*", re.MULTILINE)
"""A warning of Python, which says nothing to who uses a command."""
_KEPT = re.compile(r"(export|eval|cd) ")
"""What changes the shell, for the commands after it too."""


@dataclass
class World:
    """What a reader has who copies a command.

    Attributes:
        environment: the variables that say where the broker is.
        stands_for: what to write in place of what the pages leave open, such as ``GALAXY``.
        prepare: brings about what the page takes for granted before a command; it is given the
            command and the folder where it will be run.
    """

    environment: Mapping[str, str]
    stands_for: Mapping[str, str] = field(default_factory=dict)
    prepare: Callable[[str, Path], None] = lambda command, folder: None


@dataclass
class Outcome:
    """What came of a page: what is wrong, and what could not be run for want of a program."""

    problems: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    run: int = 0
    """How many commands and programs were run."""


Worlds = Callable[[Block, Path], AbstractContextManager[World]]


def run_page(page: Path, worlds: Worlds, make_folder: Callable[[], Path]) -> Outcome:
    """Run every block of a page.

    Args:
        page: the page.
        worlds: gives the world for a block, and the folder where it will be run.
        make_folder: makes an empty folder.
    """
    outcome = Outcome()
    text = page.read_text(encoding="utf-8")
    for block in blocks(text):
        wrong = list(faults(block))
        outcome.problems += [f"{page.name}:{block.line}: {each}" for each in wrong]
        if wrong:
            continue
        if block.not_run is not None:
            _look_at(page, block, outcome)
        elif block.language in ("console", "python"):
            folder = make_folder()
            (folder / "deploy").symlink_to(REPOSITORY / "deploy")
            (folder / ".venv").symlink_to(sys.prefix)
            with worlds(block, folder) as world:
                _run(page, block, world, folder, outcome)
        elif problem := _problem_of_data(block, make_folder()):
            outcome.problems.append(f"{page.name}:{block.line}: {problem}")
    for code in code_in_text(text):
        if problem := unknown_in(code.text):
            outcome.problems.append(f"{page.name}:{code.line}: `{code.text}`: {problem}")
    return outcome


# Running ------------------------------------------------------------------------------------------


def _run(page: Path, block: Block, world: World, folder: Path, outcome: Outcome) -> None:
    """Run a block; what follows a command that fails is not tried."""
    if block.language == "python":
        typed = [(block.line, "python block.py", _never_ends_python(block.content))]
        (folder / "block.py").write_text(_filled(block.content, world))
    else:
        typed = [(each.line, each.text, never_ends(each.text)) for each in commands(block)]
    kept: list[str] = []
    for line, command, endless in typed:
        place = f"{page.name}:{line}: {command.strip()!r}"
        checked = checked_otherwise(command)
        if checked is not None:
            problem = checked
        elif absent := sorted(
            name
            for name, *_ in parts(command)
            if name in NOT_EVERYWHERE and shutil.which(name) is None
        ):
            outcome.missing.append(f"{place}: no {absent[0]} here")
            problem = unknown_in(command)
        else:
            world.prepare(command, folder)
            filled = _filled(command, world)
            problem = execute("\n".join([*kept, filled]), folder, world.environment, endless)
            outcome.run += 1
            if _KEPT.match(command):
                kept.append(filled)
        if problem:
            outcome.problems.append(f"{place} {problem}")
            return


def execute(
    script: str, folder: Path, environment: Mapping[str, str], endless: bool = False
) -> str:
    """Run a script as a shell does at a terminal, and end by Ctrl-C what does not end by itself.

    Returns:
        What is wrong; empty if nothing is.
    """
    said = folder / ".said"
    with said.open("wb") as file:
        process = subprocess.Popen(
            ["bash", "-o", "pipefail", "-c", script],
            cwd=folder,
            env=variables(environment),
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            start_new_session=True,
        )
    try:
        status = process.wait(ALIVE_S if endless else COMMAND_LIMIT_S)
        good = status == 0 and not endless
        what = f"ends with status {status}" + (", and should go on" if endless else "")
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGINT)
        try:
            status = process.wait(END_LIMIT_S)
            good = endless and status in (0, 128 + signal.SIGINT, -signal.SIGINT)
            what = f"ends with status {status} after Ctrl-C" if endless else "does not end"
        except subprocess.TimeoutExpired:
            good, what = False, "does not end by Ctrl-C"
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    text = said.read_text(errors="replace")
    interrupted = endless and "KeyboardInterrupt" in text
    if "Traceback" in text and not interrupted:
        good, what = False, f"{what}, with a traceback"
    elif warned := _WARNED.search(text):
        good, what = False, f"{what}, with a raw warning ({warned[0]})"
    return "" if good else f"{what}:\n{text[-SAID_CHARACTERS:]}"


def variables(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment of a command: the world's, with mmbroker and its Python on the path."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    return {
        **own,
        **environment,
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "PYTHONPATH": str(REPOSITORY / ".package"),
        "COLUMNS": "120",
    }


def _filled(text: str, world: World) -> str:
    for name, value in world.stands_for.items():
        text = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", value, text)
    return text


def never_ends(command: str) -> bool:
    """Whether a command goes on until Ctrl-C."""
    for name, *words in parts(command):
        first = words[0] if words else ""
        if name == "mmbroker" and (
            first in ("run", "stage")
            or (first == "demo" and "--once" not in words)
            or (first == "top" and "--watch" in words)
            or (first == "subscribe" and "--until-end" not in words)
        ):
            return "--help" not in words
        if name == "prometheus":
            return True
    return False


def _never_ends_python(program: str) -> bool:
    """Whether a program follows a stream until Ctrl-C."""
    return bool(
        ("subscribe(" in program and not re.search(r"until_end\s*=\s*True", program))
        or (re.search(r"\bStream\(", program) and not re.search(r"until_eos\s*=\s*True", program))
    )


# Not run, but looked at ---------------------------------------------------------------------------


def checked_otherwise(command: str) -> str | None:
    """What is wrong with a command that would change this machine; None for one that is to be run.

    What makes the checkout and its environment is not run in it: of ``make`` the recipe is asked
    for, of ``pip`` whether what it would install is what the tests have. Of the tests, which would
    run themselves, it is seen whether they are there. That a package of the distribution or a
    repository of that address is there is not checked.
    """
    (name, *words), *more = parts(command) or [("",)]
    if name == "make":
        asked = [each for each in words if not each.startswith("-")]
        return unknown_in(command) or _dry_run(asked)
    if name == "pip" and words[:1] == ["install"] and not more:
        wanted = [each for each in words[1:] if not each.startswith("-")]
        return "; ".join(filter(None, map(_not_installed, wanted)))
    if name.startswith("python") and words[:2] == ["-m", "pytest"]:
        named = [each for each in words[2:] if each.startswith("tests")]
        return "; ".join(
            f"there is no {each}" for each in named if not (REPOSITORY / each).exists()
        )
    if name == "source":
        (folder,) = re.findall(r"^VENV := (\S+)$", MAKEFILE, re.MULTILINE)
        made = f"{folder}/bin/activate"
        return "" if words == [made] else f"make installs into {made}"
    if name in ("apt-get", "git"):
        return ""
    return None


def _look_at(page: Path, block: Block, outcome: Outcome) -> None:
    """Of a block that is not run, see at least that it is a program and names what there is."""
    if block.language == "python":
        try:
            compile(block.content, str(page), "exec")
        except SyntaxError as error:
            outcome.problems.append(f"{page.name}:{block.line}: {error}")
    elif block.language == "console":
        for command in commands(block):
            if problem := unknown_in(command.text):
                outcome.problems.append(f"{page.name}:{command.line}: {command.text!r}: {problem}")


def unknown_in(command: str) -> str:
    """What of ours a command names and there is not: a command, an option, a target, a module."""
    for name, *words in parts(command):
        if name == "mmbroker" and (problem := _unknown_to_mmbroker(words)):
            return problem
        if name == "make":
            for word in words:
                if not word.startswith("-") and "=" not in word and word not in TARGETS:
                    return f"make has no target {word}"
        if name.startswith("python") and words[:1] == ["-m"]:
            module = words[1]
            if module.startswith("mmbroker") and "…" not in module and not _module(module):
                return f"there is no module {module}"
        for word in words:
            path = re.search(r"(?:^|=)(deploy/.+)", word)
            if path and not (REPOSITORY / path[1]).exists():
                return f"there is no {path[1]}"
    return ""


def parts(command: str) -> list[list[str]]:
    """The words of each part of a pipeline, without what sets variables, as far as they are told.

    The first word of each is the name of a program without its folder.
    """
    lexer = shlex.shlex(command.replace("\\\n", " "), posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    try:
        words = list(lexer)
    except ValueError:  # text between backticks need not be shell
        return []
    found: list[list[str]] = [[]]
    for word in words:
        if word in _SEPARATORS:
            found.append([])
        elif found[-1] or not (_ASSIGNMENT.match(word) or word == "sudo"):
            found[-1].append(word)
    return [[Path(each[0]).name, *each[1:]] for each in found if each]


def _unknown_to_mmbroker(words: list[str]) -> str:
    command: Any = typer.main.get_command(app)
    path = "mmbroker"
    for word in words:
        if word.startswith("-"):
            options = {name for each in command.params for name in each.opts + each.secondary_opts}
            if word.partition("=")[0] not in options | {"--help"} and not word[1:2].isdigit():
                return f"{path} has no option {word}"
        elif hasattr(command, "commands"):
            if word not in command.commands:
                return f"{path} has no command {word}"
            command, path = command.commands[word], f"{path} {word}"
    return ""


def _module(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def _dry_run(words: list[str]) -> str:
    result = subprocess.run(
        ["make", "-n", *words], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    return "" if result.returncode == 0 else result.stderr


def _not_installed(requirement: str) -> str:
    match = re.fullmatch(r"([\w.-]+)(?:\[(\w+)\])?", requirement)
    if match is None:
        return f"{requirement}: that it can be installed is not known"
    name, extra = match.groups()
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    if name in ("mmbroker", "."):
        known = extra is None or extra in project["optional-dependencies"]
        return "" if known else f"mmbroker has no extra {extra}"
    try:
        metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return f"the tests do without {name}"
    return ""


# Settings and data --------------------------------------------------------------------------------


def _problem_of_data(block: Block, folder: Path) -> str:
    """What is wrong with TOML, which is settings or a mapping of columns, or with JSON."""
    try:
        if block.language == "json":
            json.loads(block.content)
        elif block.language == "toml":
            content = tomllib.loads(block.content)
            if content.keys() & TableMapping.model_fields.keys():
                TableMapping.model_validate(content)
            else:
                _load_settings(block.content, folder / "mmbroker.toml")
    except (ValueError, ValidationError, SettingsError) as error:
        return f"the {block.language} is refused: {error}"
    return ""


def _load_settings(content: str, file: Path) -> Settings:
    """The settings that a file gives where nothing else says any."""
    file.write_text(content)
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if name.startswith(PREFIX):
                patch.delenv(name)
        patch.setenv(CONFIG_VARIABLE, str(file))
        return load()


@cache
def tracked(pattern: str) -> list[Path]:
    """The files of the repository whose names fit a pattern, as ``*.md``."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", pattern],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    files = [REPOSITORY / name for name in listed.stdout.split("\0") if name]
    return [each for each in files if each.is_file()]
