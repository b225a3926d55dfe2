"""Copies of the package in which something is another, for tests of what other code does."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
FOLDERS = ("schemas", "processors", "models", "streams", "deploy")
LEFT_OUT = shutil.ignore_patterns("__pycache__", "reports", "demo", "README.md")


def copy_package(target: Path, changes: Mapping[str, tuple[str, str]] | None = None) -> Path:
    """A copy of the package, to be put on ``PYTHONPATH``.

    Args:
        target: a folder that is to be made.
        changes: by the path of a file, what stands in it once and what shall stand there.
    """
    package = target / "mmbroker"
    package.mkdir(parents=True)
    for file in (REPOSITORY / ".package" / "mmbroker").glob("*.py"):
        shutil.copy(file, package)
    for folder in FOLDERS:
        shutil.copytree(REPOSITORY / folder, package / folder, ignore=LEFT_OUT)
    for path, (before, after) in (changes or {}).items():
        text = (package / path).read_text()
        assert text.count(before) == 1, f"{before!r} stands {text.count(before)} times in {path}"
        (package / path).write_text(text.replace(before, after))
    return target


def run_in(copy: Path, program: str, *arguments: str | Path) -> str:
    """What a program prints that imports mmbroker from a copy."""
    result = subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)],
        # Each copy would be compiled anew, which takes longer than to interpret what is asked here.
        env={**os.environ, "PYTHONPATH": str(copy), "NUMBA_DISABLE_JIT": "1"},
        cwd=copy,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()
