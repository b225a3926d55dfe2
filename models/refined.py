"""The packaged weights of the learned redshift."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from processors.redshift import ConventionalRedshift
from processors.redshift.refined import Refined

from .packaged import read_packaged
from .repository import WEIGHTS
from .templates import load_templates

COLOURS, GATE = "refined_colours", "refined_gate"
"""Names of its networks in ONNX, also on Triton."""

REFINED_ROLE = "refined-redshift"
"""What a model that has a part in it made, see ``ModelUsed``."""

BESIDE: dict[str, dict[str, type[np.generic]]] = {
    COLOURS: {
        "intervals": np.int64,
        "mean": np.float32,
        "scatter": np.float32,
        "lowest": np.float32,
        "highest": np.float32,
        "fewest": np.int64,
        "largest_disagreement": np.float64,
    },
    GATE: {"sharpness": np.float64},
}
"""What of the weights belongs beside each network, and its type: how fluxes are scaled, which are
like those of the training, how far the members may disagree, how much the mixture is sharpened."""

Beside = Mapping[str, Any]

TRAINING, CONVENTIONAL = "training", "conventional"
"""Beside both: name, version and SHA-256 of the weights, and the conventional redshift's identity.
Networks of one training belong together."""


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
    arrays, _ = read_packaged(weights, "refined", "python -m models.train_refined")
    if conventional.template_fit is None:
        conventional = conventional.with_templates(load_templates(weights))
    return Refined(arrays, conventional)


def beside(model: str, weights: Mapping[str, NDArray[Any]], card: Mapping[str, Any]) -> Beside:
    """What stands beside a network on its own card.

    Args:
        model: name of the network.
        weights: of the refined redshift, by name.
        card: of the weights.
    """
    training = {name: card[name] for name in ("name", "version", "sha256")}
    own = {name: weights[name].tolist() for name in BESIDE[model]}
    return {TRAINING: training, CONVENTIONAL: str(weights[CONVENTIONAL]), **own}


def weights_beside(colours: Beside, gate: Beside) -> dict[str, NDArray[Any]]:
    """The weights again that stand beside two networks, those of the networks left out.

    Raises:
        LookupError, TypeError, ValueError: they do not.
    """
    found = {CONVENTIONAL: np.asarray(colours[CONVENTIONAL])}
    for model, own in ((COLOURS, colours), (GATE, gate)):
        for name, dtype in BESIDE[model].items():
            found[name] = np.asarray(own[name], dtype)
    return found
