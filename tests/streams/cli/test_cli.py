"""What the command line refuses, in words of its user; none of this needs a server."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from mmbroker.streams.cli.main import app
from mmbroker.streams.settings import Settings
from mmbroker.streams.subscribing import top


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "option"),
    [
        (["top", "--rows", "-3"], "--rows"),
        (["top", "--rows", "0"], "--rows"),
        (["publish", "--simulated", "-3"], "--simulated"),
    ],
)
def test_a_number_below_one_is_refused_by_the_option_s_name(
    arguments: list[str], option: str
) -> None:
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2
    assert option in result.output


@pytest.mark.parametrize(
    ("position", "said"),
    [
        (["--right-ascension", "500", "--declination", "62"], "--right-ascension 500"),
        (["--right-ascension", "50"], "need each other"),
    ],
)
def test_a_position_off_the_sky_is_not_published(position: list[str], said: str) -> None:
    result = CliRunner().invoke(app, ["publish", "--check", *position, "any.fits"])
    assert said in str(result.exception)


def test_a_picture_or_backup_goes_where_there_is_a_directory() -> None:
    for arguments in (["top", "--svg", "nowhere/x.svg"], ["backup", "nowhere/a"]):
        result = CliRunner().invoke(app, arguments)
        assert isinstance(result.exception, ValueError)
        assert str(result.exception).startswith(("--svg nowhere/x.svg: ", "nowhere/a: "))
        assert "there is no directory" in str(result.exception)
    assert not Path("nowhere").exists()


def test_a_file_of_galaxies_is_named_rightly_before_anything_is_compared() -> None:
    table = Path("mine.ecsv")
    table.write_text("not read")
    for name, said in (
        ("mine.txt", "has to end in one of .ecsv, .csv, .fits"),
        ("nowhere/mine.csv", "there is no directory nowhere"),
        ("./mine.ecsv", "this is the table; name another file"),
    ):
        told = CliRunner().invoke(app, ["evaluate", "redshift", str(table), "--galaxies", name])
        assert isinstance(told.exception, ValueError)
        assert said in str(told.exception)
    assert table.read_text() == "not read"


def test_a_stack_that_does_not_run_is_stopped_in_one_line(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["stack", "down"])
    assert "".join(result.output.split()) == f"nostackranin{tmp_path}/.mmbroker/stack"


def test_what_follows_the_ranking_in_a_pipe_begins_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(*_: Any, **__: Any) -> list[Any]:
        return []

    monkeypatch.setattr(top, "read", nothing)
    console = Console(file=io.StringIO(), width=80)
    top.watch(Settings(), console, 20, stop=lambda: True)
    assert console.file.getvalue().endswith("\n")


# Where the output goes ----------------------------------------------------------------------------


def in_a_shell(command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A shell with ``mmbroker`` as a function; what its commands say, in Latin-1."""
    script = f'mmbroker() {{ "{sys.executable}" -m mmbroker "$@"; }}\n{command}'
    variables = {**os.environ, **environment}
    return subprocess.run(
        ["bash", "-c", script], env=variables, capture_output=True, encoding="latin-1", check=False
    )


def test_a_closed_output_ends_in_no_traceback() -> None:
    without_errors = in_a_shell("mmbroker stack down 2>&-")
    assert without_errors.stdout.startswith("no stack ran in ")
    assert without_errors.returncode == 0
    without_output = in_a_shell("mmbroker subscribe confident >&-")
    assert without_output.stderr.startswith("mmbroker: kafka.bootstrap_servers = ")
    assert len(without_output.stderr.splitlines()) == 1
    assert without_output.returncode == 1


def test_a_reader_that_has_ended_ends_a_command_without_a_word() -> None:
    said = in_a_shell("mmbroker --help | true; exit ${PIPESTATUS[0]}")
    assert (said.returncode, said.stderr) == (1, "")


@pytest.mark.parametrize(
    ("encoding", "shown"), [("iso-8859-1", "\\u03bb±"), ("ascii", "\\u03bb\\xb1")]
)
def test_a_character_that_the_locale_lacks_is_shown_as_an_escape(encoding: str, shown: str) -> None:
    said = in_a_shell("mkdir -p λ± && cd λ± && mmbroker stack down", PYTHONIOENCODING=encoding)
    assert said.stdout.startswith("no stack ran in ")
    assert f"/{shown}/" in said.stdout
    assert (said.returncode, said.stderr) == (0, "")
