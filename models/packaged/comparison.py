"""Finds the files that models are compared with, which only a working copy of the project has."""

from __future__ import annotations

from pathlib import Path

COMPARISON = Path(__file__).parents[1] / "comparison"


def kept_to_compare(name: str) -> Path:
    """The path of a file or folder in ``COMPARISON``.

    Args:
        name: its path below that folder.

    Raises:
        FileNotFoundError: it is missing, as in an installed package.
    """
    path = COMPARISON / name
    if not path.exists():
        raise FileNotFoundError(
            f"{path} is missing: what models are compared with is not installed; "
            "do this in a working copy of the project"
        )
    return path
