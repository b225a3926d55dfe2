"""The layers keep to their directions of import, as pyproject.toml states them."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
from graphlib import TopologicalSorter
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from grimp import build_graph

REPOSITORY = Path(__file__).parents[1]
PACKAGES = REPOSITORY / ".package"
SETTINGS = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
CONTRACTS = [contract["name"] for contract in SETTINGS["tool"]["importlinter"]["contracts"]]
BREACHES = {
    "each layer imports from those below it only": ("processors", "import mmbroker.streams"),
    "the local servers know nothing of the broker": ("deploy", "import mmbroker.schemas.events"),
    "schemas and processors are pure: no network, no store, no processes": (
        "processors",
        "import asyncio, concurrent.futures, http.client, requests, select, socket, ssl, threading",
    ),
    "what runs the stream does not need torch": ("streams", "import torch"),
    "the settings are told of local servers and do not look for them": (
        "streams/kafka",
        "import mmbroker.deploy.local",
    ),
    "no circles: neither modules nor the folders that they are in import each other": (
        "models/critic",
        "import mmbroker.models.realism",
    ),
    "of models, stages import serving and packaged only": (
        "streams/stages",
        "import mmbroker.models.parser",
    ),
    "within models: reports, what trains and judges, serving, packaged": (
        "models/serving",
        "import mmbroker.models.measures, mmbroker.models.pages, mmbroker.models.report",
    ),
    "what serves and what is packaged trains nothing and makes no pages": (
        "models/packaged",
        "import jinja2, onnx, sklearn.metrics, torch",
    ),
    "within streams: commands, proofs, operation, processes and clients, Kafka, stages, store": (
        "streams/stages",
        "import mmbroker.streams.running",
    ),
}
"""A folder, and imports in it, each of which a contract forbids."""


# Layers -------------------------------------------------------------------------------------------


def lint_imports(packages: Path) -> CompletedProcess[str]:
    """Run import-linter in a process of its own: it sets up logging for itself."""
    code = "from importlinter.cli import lint_imports; exit(lint_imports(no_cache=True))"
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(packages)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_imports_keep_to_the_layers() -> None:
    result = lint_imports(PACKAGES)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("contract", CONTRACTS)
def test_an_import_against_a_contract_is_found(contract: str, tmp_path: Path) -> None:
    shutil.copytree(
        PACKAGES / "mmbroker",
        tmp_path / "mmbroker",
        ignore=lambda _, names: {name for name in names if Path(name).suffix not in ("", ".py")},
    )
    assert lint_imports(tmp_path).returncode == 0
    folder, breach = BREACHES[contract]
    (tmp_path / "mmbroker" / folder / "breach.py").write_text(breach + "\n")
    result = lint_imports(tmp_path)
    assert result.returncode == 1, result.stderr
    said = " ".join(result.stdout.split())
    assert f"{contract} BROKEN" in said
    several = breach.removeprefix("import ").split(", ")
    for imported in several if len(several) > 1 else []:
        name = imported if imported.startswith("mmbroker.") else imported.partition(".")[0]
        assert re.search(rf"-> {re.escape(name)}\b", said), f"{name} may be imported"


# No clock -----------------------------------------------------------------------------------------

CLOCKS = {"now", "today", "utcnow"}
"""Methods of dates and times, of the library and of astropy, that ask the clock."""


def impure(source: str) -> list[str]:
    """What a module does that import-linter does not see: asks the clock, or opens an address."""
    nodes = list(ast.walk(ast.parse(source)))
    asked = [each.attr for each in nodes if isinstance(each, ast.Attribute) and each.attr in CLOCKS]
    imported = [each.module for each in nodes if isinstance(each, ast.ImportFrom)] + [
        name.name for each in nodes if isinstance(each, ast.Import) for name in each.names
    ]
    return asked + [each for each in imported if each == "urllib.request"]


@pytest.mark.parametrize("folder", ["schemas", "processors"])
def test_schemas_and_processors_ask_no_clock(folder: str) -> None:
    modules = list((REPOSITORY / folder).rglob("*.py"))
    assert len(modules) >= 5
    assert [(each.name, said) for each in modules for said in impure(each.read_text())] == []


def test_a_module_that_asks_the_clock_is_found() -> None:
    assert impure("import datetime as dt\nx = dt.datetime.now(dt.UTC)\n") == ["now"]
    assert impure("from datetime import date\nx = date.today\n") == ["today"]
    assert impure("from urllib.request import urlopen\n") == ["urllib.request"]
    assert impure("import urllib.request\nnow = 1\n") == ["urllib.request"]


# One name for a module ----------------------------------------------------------------------------


def lint(code: str) -> str:
    """What ruff says about the imports of a module, with the rules of the project."""
    result = subprocess.run(
        [sys.executable, "-m", "ruff", "check", "--no-cache", "--output-format", "concise",
         "--stdin-filename", "streams/some.py", "-"],
        cwd=REPOSITORY,
        input=code,
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip
    assert result.returncode == 1, result.stderr  # it has no docstring, at least
    return "".join(line for line in result.stdout.splitlines(True) if " TID" in line)


@pytest.mark.parametrize("folder", ["schemas", "processors", "models", "streams", "deploy"])
@pytest.mark.parametrize(
    "statement", ["import {}", "import {}.part", "from {} import part", "from {}.part import thing"]
)
def test_a_module_has_no_second_name(folder: str, statement: str) -> None:
    said = lint(statement.format(folder) + "\n")
    assert "TID251" in said
    assert f"import mmbroker.{folder}" in said
    assert lint(statement.format(f"mmbroker.{folder}") + "\n") == ""


def test_imports_are_absolute() -> None:
    assert "TID252" in lint("from . import part\n")
    assert "TID252" in lint("from ..part import thing\n")


def test_no_module_imports_itself_by_way_of_others() -> None:
    """Nor a package what is in it and imports the package; imports within functions count."""
    graph = build_graph("mmbroker", cache_dir=None)
    imported = {each: graph.find_modules_directly_imported_by(each) for each in graph.modules}
    assert len(imported) > 100
    TopologicalSorter(imported).prepare()  # raises an error that names a circle
