"""The packaged joint distribution of line luminosities."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np

from processors.line_recovery import LineRecovery
from schemas.events import ModelUsed

from .repository import WEIGHTS


def load_line_recovery(weights: Path = WEIGHTS) -> LineRecovery:
    """The recovery of lines with the weights of a folder.

    Args:
        weights: folder with weak_lines.npz and its card weak_lines.json.

    Raises:
        FileNotFoundError: there are no such weights.
        ValueError: the card is that of other weights.
    """
    path, card_path = weights / "weak_lines.npz", weights / "weak_lines.json"
    for each in (path, card_path):
        if not each.exists():
            raise FileNotFoundError(f"{each} is missing; fit it: python -m models.train_weak_lines")
    found, stated = hashlib.sha256(path.read_bytes()).hexdigest(), json.loads(card_path.read_text())
    if stated["sha256"] != found:
        raise ValueError(f"SHA-256 of {path} is {found}, its card says {stated['sha256']}")
    with np.load(path) as arrays:
        return LineRecovery(dict(arrays))


def line_recovery_used(weights: Path = WEIGHTS) -> ModelUsed:
    """Which model that is."""
    card = json.loads((weights / "weak_lines.json").read_text())
    return ModelUsed("recovered-lines", "weak_lines", str(card.get("version", 1)), card["sha256"])
