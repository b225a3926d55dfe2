"""The layers keep to their directions of import, as pyproject.toml states them."""

from __future__ import annotations

from importlinter.cli import lint_imports


def test_imports_keep_to_the_layers() -> None:
    assert lint_imports() == 0
