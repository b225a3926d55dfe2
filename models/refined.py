"""The packaged weights of the learned redshift."""

from __future__ import annotations

import hashlib
import json
from functools import lru_cache
from pathlib import Path

import numpy as np

from processors.redshift import ConventionalRedshift
from processors.redshift.refined import Refined
from schemas.events import ModelUsed

from .repository import WEIGHTS
from .templates import load_templates

COLOURS, GATE = "refined_colours", "refined_gate"
"""Names of its networks in ONNX, also on Triton."""

REFINED_ROLE = "refined-redshift"
"""What a model that has a part in it made, see ``ModelUsed``."""


def load_refined(conventional: ConventionalRedshift, weights: Path = WEIGHTS) -> Refined:
    """The learned redshift with the weights of a folder.

    Args:
        conventional: what it rests and falls back on; the packaged template fit is added to it.
        weights: folder with refined.npz and its card refined.json.

    Raises:
        FileNotFoundError: there are no such weights.
        ValueError: the card is that of other weights, or they go with another conventional
            redshift.
    """
    path, card_path = weights / "refined.npz", weights / "refined.json"
    for each in (path, card_path):
        if not each.exists():
            raise FileNotFoundError(f"{each} is missing; train it: python -m models.train_refined")
    found, stated = hashlib.sha256(path.read_bytes()).hexdigest(), json.loads(card_path.read_text())
    if stated["sha256"] != found:
        raise ValueError(f"SHA-256 of {path} is {found}, its card says {stated['sha256']}")
    if conventional.template_fit is None:
        conventional = conventional.with_templates(load_templates(weights))
    with np.load(path) as arrays:
        return Refined(dict(arrays), conventional)


@lru_cache
def refined_used(weights: Path = WEIGHTS) -> ModelUsed:
    """Which model that is."""
    card = json.loads((weights / "refined.json").read_text())
    return ModelUsed(REFINED_ROLE, card["name"], str(card["version"]), card["sha256"])
