"""The layers keep to their directions of import, as pyproject.toml states them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]


def test_imports_keep_to_the_layers() -> None:
    # In a process of its own: import-linter sets up logging for itself.
    command = [
        sys.executable,
        "-c",
        "from importlinter.cli import lint_imports as lint; exit(lint())",
    ]
    result = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
