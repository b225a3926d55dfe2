"""What is kept only to be compared with: a working copy has it, an installed package does not."""

from __future__ import annotations

from pathlib import Path

COMPARISON = Path(__file__).parents[1] / "comparison"


def kept_to_compare(name: str) -> Path:
    """A file or folder in ``COMPARISON``.

    Raises:
        FileNotFoundError: it is not there.
    """
    path = COMPARISON / name
    if not path.exists():
        raise FileNotFoundError(
            f"{path} is missing: what models are compared with is not installed; "
            "do this in a working copy of the project"
        )
    return path
