"""What contributors and continuous integration are told to run is what there is."""

from __future__ import annotations

import os
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import yaml

REPOSITORY = Path(__file__).parents[1]


def read(name: str) -> Any:
    return yaml.safe_load((REPOSITORY / name).read_text())


def recipe(target: str) -> list[str]:
    """The commands that make would run, without those that install."""
    result = subprocess.run(
        ["make", "--no-print-directory", "--always-make", "--dry-run", target],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    (own,) = re.findall(
        rf"^{target}:.*\n((?:\t.*\n)+)", (REPOSITORY / "Makefile").read_text(), re.M
    )
    return result.stdout.splitlines()[-len(own.splitlines()) :]


def test_pre_commit_runs_what_make_lint_runs() -> None:
    (repository,) = read(".pre-commit-config.yaml")["repos"]
    assert repository["repo"] == "local"
    assert [hook["entry"] for hook in repository["hooks"]] == recipe("lint")
    for hook in repository["hooks"]:
        assert hook["language"] == "system"
        assert hook["pass_filenames"] is False


def test_continuous_integration_runs_its_script_on_the_lowest_python_and_newer() -> None:
    (job,) = read(".github/workflows/ci.yml")["jobs"].values()
    (command,) = (step["run"] for step in job["steps"] if "run" in step)
    assert os.access(REPOSITORY / command, os.X_OK)
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    lowest, *newer = job["strategy"]["matrix"]["python"]
    assert project["requires-python"] == f">={lowest}"
    assert newer


def test_its_script_names_targets_of_make() -> None:
    script = (REPOSITORY / ".ci" / "run").read_text()
    targets = re.findall(r"^make (\w+)$", script, re.MULTILINE)
    assert targets == ["lint", "test"]
    for target in targets:
        assert recipe(target)
