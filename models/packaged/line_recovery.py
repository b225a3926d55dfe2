"""Loads the packaged joint distribution of line luminosities."""

from __future__ import annotations

import json
from pathlib import Path

from mmbroker.models.packaged.arrays import read_packaged
from mmbroker.models.packaged.networks import WEIGHTS
from mmbroker.processors.lines.joint import LineRecovery
from mmbroker.schemas.events import ModelUsed


def load_line_recovery(weights: Path = WEIGHTS) -> LineRecovery:
    """Load the recovery of lines with the weights in a folder.

    Args:
        weights: the folder with weak_lines.npz and its card weak_lines.json.

    Raises:
        FileNotFoundError: one of the files is missing.
        ValueError: the card belongs to other weights.
    """
    arrays, _ = read_packaged(weights, "weak_lines", "python -m mmbroker.models.lines.train")
    return LineRecovery(arrays)


def line_recovery_used(weights: Path = WEIGHTS) -> ModelUsed:
    """Name, version and hash of the packaged model, as a score states which model it used."""
    card = json.loads((weights / "weak_lines.json").read_text())
    return ModelUsed("recovered-lines", "weak_lines", str(card.get("version", 1)), card["sha256"])
