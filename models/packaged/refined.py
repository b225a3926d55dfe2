"""Loads the packaged refined redshift, and reads and writes the cards of its two networks."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmbroker.models.packaged.arrays import read_packaged
from mmbroker.models.packaged.networks import WEIGHTS, Card, tensors_of
from mmbroker.models.packaged.templates import load_templates
from mmbroker.processors.fingerprint import vector
from mmbroker.processors.redshift import ConventionalRedshift
from mmbroker.processors.redshift.refined import RefinedRedshift

COLOURS, GATE = "refined_colours", "refined_gate"
"""The names of its two networks in ONNX and on Triton."""

REFINED_ROLE = "refined-redshift"
"""The role of the models that it consists of, see ``ModelUsed``."""


@dataclass(frozen=True, slots=True)
class Numbers:
    """The numbers that a field of a network's card can hold.

    Attributes:
        dtype: the dtype of the numbers.
        for_each_flux: whether the field has a number for each flux that the network reads.
        above: a limit that all numbers exceed. The default leaves only finite numbers.
        below: a limit that all numbers stay under.
    """

    dtype: type[np.generic]
    for_each_flux: bool = False
    above: float = -math.inf
    below: float = math.inf

    def read(self, said: Any, fluxes: int) -> NDArray[Any]:
        """Convert the field to an array of ``dtype``, shape (fluxes,) or ().

        Args:
            said: the value on the card, from JSON.
            fluxes: the number of fluxes that the network reads.

        Raises:
            ValueError: the value is not of such numbers; the message says which are wanted.
        """
        whole = issubclass(self.dtype, np.integer)
        try:
            given = np.array(said)
        except (ValueError, OverflowError):  # lists of several lengths, endless numbers
            given = np.array(None)
        shape = (fluxes,) if self.for_each_flux else ()
        if given.dtype.kind in ("i" if whole else "if") and given.shape == shape:
            with np.errstate(over="ignore"):
                found = given.astype(self.dtype)
            if ((found > self.above) & (found < self.below)).all():
                return found
        wanted = "one whole number" if whole else "one finite number"
        wanted += f" above {self.above:g}" if math.isfinite(self.above) else ""
        wanted += f" and below {self.below:g}" if math.isfinite(self.below) else ""
        raise ValueError(f"{wanted} for each of {fluxes} fluxes" if self.for_each_flux else wanted)


_INTERVAL = Numbers(np.int64, True, above=-1, below=len(vector.BROADBAND_CENTRES_HZ))
_FLUX = Numbers(np.float32, True)

BESIDE: dict[str, dict[str, Numbers]] = {
    COLOURS: {
        "intervals": _INTERVAL,
        "mean": _FLUX,
        "scatter": Numbers(np.float32, True, above=0),
        "lowest": _FLUX,
        "highest": _FLUX,
        "fewest": Numbers(np.int64),
        "largest_disagreement": Numbers(np.float64),
    },
    GATE: {"sharpness": Numbers(np.float64, above=0)},
}
"""The weights that stand on the card of each network, by name.

The colours' card says how fluxes are scaled, which fluxes are like those of the training, and how
far the members may disagree. The gate's card says how much the mixture is sharpened.
"""

TRAINING, CONVENTIONAL = "training", "conventional"
"""What stands on both cards, besides those weights.

The first field has the name, the version and the SHA-256 of the weights that both networks are of:
networks of one training belong together. The second is the identity of the conventional redshift.
"""

FLUXES = "fluxes"
"""The input of the colours' network."""

_SHOWN = 60  # characters of a value in an error


@dataclass(frozen=True, slots=True, eq=False)
class Beside:
    """The arrays and numbers that a network is used with, and that stand on its card.

    Attributes:
        training: the name, version and SHA-256 of the weights.
        conventional: the identity of the conventional redshift.
        weights: the arrays by name, with the shapes and dtypes of ``BESIDE``.
    """

    training: Mapping[str, Any]
    conventional: str
    weights: Mapping[str, NDArray[Any]]

    @classmethod
    def read(cls, model: str, card: Card) -> Beside:
        """Read them from the card of a network, where they stand under ``calibration``.

        Args:
            model: the name of the network.
            card: its card.

        Raises:
            ValueError: a field is missing or impossible; the message names the field and its value.
        """
        said, wanted = card.get("calibration"), (TRAINING, CONVENTIONAL, *BESIDE[model])
        if not isinstance(said, dict) or not said.keys() >= {*wanted}:
            raise ValueError(f"does not say what belongs beside the network: {', '.join(wanted)}")
        if not _is_training(said[TRAINING]):
            raise _unusable(TRAINING, said, "name, version and SHA-256 of the weights")
        if not isinstance(said[CONVENTIONAL], str):
            raise _unusable(CONVENTIONAL, said, "the identity of a conventional redshift")
        _, shape = tensors_of(card)["inputs"].get(FLUXES, ("", [0]))
        weights = {}
        for name, numbers in BESIDE[model].items():
            try:
                weights[name] = numbers.read(said[name], shape[0])
            except ValueError as error:
                raise _unusable(name, said, str(error)) from None
        return cls(said[TRAINING], said[CONVENTIONAL], weights)


def load_refined(conventional: ConventionalRedshift, weights: Path = WEIGHTS) -> RefinedRedshift:
    """Load the refined redshift with the weights in a folder.

    Args:
        conventional: the conventional redshift, which it refines and falls back on. If it has no
            template fit, the packaged one is added.
        weights: the folder with refined.npz and its card refined.json.

    Raises:
        FileNotFoundError: one of the files is missing.
        ValueError: the card belongs to other weights, or the weights were trained with another
            conventional redshift.
    """
    arrays, _ = read_packaged(
        weights, "refined", "python -m mmbroker.models.redshift.refined.train"
    )
    if conventional.template_fit is None:
        conventional = conventional.with_templates(load_templates(weights))
    return RefinedRedshift(arrays, conventional)


def beside(
    model: str, weights: Mapping[str, NDArray[Any]], card: Mapping[str, Any]
) -> dict[str, Any]:
    """The arrays and numbers for a network's card, which ``Beside.read`` reads again.

    Args:
        model: the name of the network.
        weights: the arrays of the refined redshift, by name.
        card: the card of those arrays.
    """
    training = {name: card[name] for name in ("name", "version", "sha256")}
    own = {name: weights[name].tolist() for name in BESIDE[model]}
    return {TRAINING: training, CONVENTIONAL: str(weights[CONVENTIONAL]), **own}


def weights_beside(colours: Beside, gate: Beside) -> dict[str, NDArray[Any]]:
    """The weights of the refined redshift that stand on the cards of its two networks."""
    return {CONVENTIONAL: np.asarray(colours.conventional), **colours.weights, **gate.weights}


def _is_training(said: Any) -> bool:
    return (
        isinstance(said, dict)
        and all(isinstance(said.get(name), str) for name in ("name", "sha256"))
        and isinstance(said.get("version"), (str, int))
    )


def _unusable(name: str, said: Mapping[str, Any], wanted: str) -> ValueError:
    text = json.dumps(said[name])
    shown = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
    return ValueError(f"says {name} = {shown}, not {wanted}")
