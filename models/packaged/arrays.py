"""Reads and writes packaged arrays, ``NAME.npz``, with the card ``NAME.json`` beside them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Arrays = dict[str, NDArray[Any]]


def read_packaged(folder: Path, name: str, command: str) -> tuple[Arrays, dict[str, Any]]:
    """Read packaged arrays and their card.

    Args:
        folder: the folder that has both files.
        name: the name of both files, without its ending.
        command: the command that makes them, for the error message.

    Raises:
        FileNotFoundError: one of the files is missing.
        ValueError: the card belongs to other arrays.
    """
    path, card_path = folder / f"{name}.npz", folder / f"{name}.json"
    for each in (path, card_path):
        if not each.exists():
            raise FileNotFoundError(f"{each} is missing; make it: {command}")
    found, card = hashlib.sha256(path.read_bytes()).hexdigest(), json.loads(card_path.read_text())
    if card["sha256"] != found:
        raise ValueError(f"SHA-256 of {path} is {found}, its card says {card['sha256']}")
    with np.load(path) as arrays:
        return dict(arrays), card


def write_packaged(
    folder: Path, name: str, arrays: Mapping[str, NDArray[Any]], card: Mapping[str, Any]
) -> None:
    """Write arrays and their card, to which the SHA-256 of their file is added.

    Args:
        folder: the folder; made if it is missing.
        name: the name of both files, without its ending.
        arrays: the arrays by name, of any shape and dtype.
        card: what the card says besides.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.npz"
    np.savez_compressed(path, **dict(arrays))  # type: ignore[arg-type]
    card = {"sha256": hashlib.sha256(path.read_bytes()).hexdigest(), **card}
    (folder / f"{name}.json").write_text(json.dumps(card, indent=1) + "\n")
