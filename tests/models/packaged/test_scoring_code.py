"""The code that scores has a name that follows its content."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from mmbroker.models.packaged.scoring_code import LIBRARIES, code_version, scoring_code, sources
from mmbroker.schemas import __version__
from tests.code_copies import REPOSITORY, copy_package, run_in

NAME = "from mmbroker.models.packaged.scoring_code import scoring_code; print(scoring_code())"
LOADED = """
import json, sys
from mmbroker.streams.running.stages import _score_galaxies
import mmbroker.streams.stages.clients, mmbroker.streams.stages.score_galaxies
import mmbroker.streams.stages.scorers
print(json.dumps([m.__file__ for n, m in sys.modules.items() if n.startswith("mmbroker.")]))
"""
PACKAGE = f"{REPOSITORY / '.package' / 'mmbroker'}/"
NOT_SCORING = ("processors/alerts/", "processors/ingest/")
"""What the scoring stage loads besides: how alert streams are declared stands in the settings."""


def test_the_version_is_followed_by_the_code() -> None:
    assert code_version() == f"{__version__}+{scoring_code()}"


@cache
def loaded_by_the_stage() -> set[str]:
    """The paths of the modules that the scoring stage loads, below the package."""
    said = subprocess.run(
        [sys.executable, "-c", LOADED], capture_output=True, text=True, check=True
    ).stdout
    return {name.removeprefix(PACKAGE) for name in json.loads(said)}


def hashed() -> set[str]:
    return {str(path).removeprefix(PACKAGE) for path in sources()}


def imported_by(path: Path) -> set[str]:
    """The packages that a module imports, also within its functions."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {each.name.partition(".")[0] for each in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add((node.module or "").partition(".")[0])
    return names


def test_the_versions_of_all_libraries_that_scoring_modules_import_are_hashed() -> None:
    scoring = loaded_by_the_stage() & hashed()
    imported = set.union(*(imported_by(Path(PACKAGE, each)) for each in scoring))
    distributions = packages_distributions()
    libraries = {
        name
        for each in imported - sys.stdlib_module_names - {"mmbroker"}
        for name in distributions[each]
    }
    assert {_normal(each) for each in libraries} == set(LIBRARIES)


def _normal(distribution: str) -> str:
    return distribution.lower().replace("_", "-")


def test_all_that_the_scoring_stage_loads_of_science_and_clients_is_hashed() -> None:
    needed = {each for each in loaded_by_the_stage() if each.startswith(("processors/", "models/"))}
    needed = {each for each in needed if not each.startswith(NOT_SCORING)}
    assert needed - {"models/__init__.py"} <= hashed()
    assert {"processors/redshift/dust.py", "streams/stages/score_galaxies.py"} <= hashed()


def test_the_same_files_elsewhere_are_the_same_code(tmp_path: Path) -> None:
    assert run_in(copy_package(tmp_path / "same"), NAME) == scoring_code()


@pytest.mark.parametrize(
    ("path", "before", "after"),
    [
        ("processors/scoring/hyperscore.py", "KAPPA = 1.5", "KAPPA = 1.6"),
        ("processors/redshift/comb.py", "EVIDENCE_WEIGHT = 0.75", "EVIDENCE_WEIGHT = 0.7"),
        ("models/serving/triton.py", "ROWS = 8", "ROWS = 4"),
    ],
)
def test_another_constant_is_other_code(tmp_path: Path, path: str, before: str, after: str) -> None:
    changed = copy_package(tmp_path / "changed", {path: (before, after)})
    assert run_in(changed, NAME) != scoring_code()
