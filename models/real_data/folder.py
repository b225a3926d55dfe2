"""Adds the option ``--data`` to every command that reads the published tables."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

DATA_VARIABLE = "MMBROKER_DATA"
"""The environment variable with the folder of the tables."""


def add_data_option(parser: argparse.ArgumentParser, without: str | None = None) -> None:
    """Add ``--data``, a path, whose default is that in the environment.

    Args:
        parser: the parser of the command.
        without: what the command does without tables; None if it needs them.
    """
    stated = os.environ.get(DATA_VARIABLE)
    parser.add_argument(
        "--data",
        type=Path,
        default=Path(stated) if stated else None,
        required=not stated and without is None,
        help=f"folder of the published tables, ${DATA_VARIABLE} by default"
        + (f"; without it, {without}" if without else ""),
    )
