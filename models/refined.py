"""The packaged weights of the learned redshift."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np

from processors.redshift import ConventionalRedshift
from processors.redshift.refined import Refined

from .repository import WEIGHTS
from .templates import load_templates


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
