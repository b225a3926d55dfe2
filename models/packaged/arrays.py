"""Read and write packaged arrays, ``NAME.npz``, with the card ``NAME.json`` that describes them."""

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
    """The arrays of a folder and their card.

    Args:
        folder: with both files.
        name: of both.
        command: what makes them, for the error.

    Raises:
        FileNotFoundError: one is missing.
        ValueError: the card is that of other arrays.
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
    """Write arrays and their card, which gets their SHA-256."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.npz"
    np.savez_compressed(path, **dict(arrays))  # type: ignore[arg-type]
    card = {"sha256": hashlib.sha256(path.read_bytes()).hexdigest(), **card}
    (folder / f"{name}.json").write_text(json.dumps(card, indent=1) + "\n")
