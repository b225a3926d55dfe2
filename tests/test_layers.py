"""The layers keep to their directions of import, as pyproject.toml states them."""

from __future__ import annotations

import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

from grimp import build_graph

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


def test_no_module_imports_itself_by_way_of_others() -> None:
    """Nor a package what is in it and imports the package; imports within functions count."""
    graph = build_graph("mmbroker", cache_dir=None)
    imported = {each: graph.find_modules_directly_imported_by(each) for each in graph.modules}
    assert len(imported) > 100
    TopologicalSorter(imported).prepare()  # raises an error that names a circle
