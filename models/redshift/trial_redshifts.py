"""Ask critic and generator about a galaxy at trial redshifts, as evidence of its redshift.

The critic judges how genuine a fingerprint looks where its condition is put at a trial redshift;
the generator's draws there come near to it or not. Either gives a curve over the cells of the
condition, added to the ln of a posterior with an exponent. Needs onnxruntime.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from mmbroker.models.critic.examples import Examples
from mmbroker.models.critic.exported import ExportedNetworks
from mmbroker.models.redshift.sample import at_truth
from mmbroker.processors.fingerprint import vector
from mmbroker.processors.fingerprint.vector import FingerprintVectors, Float32
from mmbroker.processors.redshift.grids import COARSE, Array

WIDTH = 0.03
"""Of the condition at a trial redshift, in ln(1 + z)."""

DRAWS = 128
"""Of the generator, for each galaxy and trial redshift."""

BANDWIDTHS = (0.5, 1.0, 2.0)
"""By which differences of scaled fluxes are divided; one of them is chosen by likelihood."""

_LARGEST_EXPONENT = 3.0
_EDGES = np.log1p(vector.REDSHIFT_EDGES)
CENTRES: Array = (_EDGES[1:] + _EDGES[:-1]) / 2
"""ln(1 + z) of the trial redshifts, shape (REDSHIFT_CELLS,)."""


@dataclass(frozen=True, slots=True, eq=False)
class Curves:
    """What each network says of N galaxies at the trial redshifts, shape (N, REDSHIFT_CELLS).

    Attributes:
        critic: its output.
        generator: ln of the mean closeness of its draws, by bandwidth.
    """

    critic: Array
    generator: dict[float, Array]

    def select(self, chosen: NDArray[np.bool_] | NDArray[np.int64]) -> Curves:
        """The curves of the chosen galaxies."""
        return Curves(
            self.critic[chosen], {width: each[chosen] for width, each in self.generator.items()}
        )


def conditions() -> Float32:
    """The condition at each trial redshift: a narrow Gaussian, shape (cells, REDSHIFT_CELLS)."""
    fine = np.linspace(_EDGES[0], _EDGES[-1], 8 * len(CENTRES) + 1)
    middle = (fine[1:] + fine[:-1]) / 2
    density = np.exp(-0.5 * np.square((middle[None, :] - CENTRES[:, None]) / WIDTH))
    share = density.reshape(len(CENTRES), len(CENTRES), 8).sum(axis=2)
    return np.asarray(np.sqrt(share / share.sum(axis=1, keepdims=True)), np.float32)


def curves(networks: ExportedNetworks, vectors: FingerprintVectors, seed: int = 0) -> Curves:
    """Judge and draw at every trial redshift.

    Args:
        networks: critic and generator.
        vectors: of N galaxies.
        seed: of the draws.
    """
    critic = np.empty((len(vectors), len(CENTRES)))
    generator = {width: np.empty_like(critic) for width in BANDWIDTHS}
    trials = conditions()
    drawn_trials = np.repeat(trials, DRAWS, axis=0)
    for row in range(len(vectors)):
        at_trials = _repeated(vectors, row, trials)
        critic[row] = networks.outputs(at_trials)
        drawn = _repeated(vectors, row, drawn_trials)
        # The same draws at every trial redshift: the curve shall not be their noise.
        values = networks.generated(drawn, seed, together=DRAWS).vectors.values
        distance = _distance(values, vectors, row).reshape(len(CENTRES), DRAWS)
        for width, found in generator.items():
            exponent = -0.5 * distance / width**2
            found[row] = np.logaddexp.reduce(exponent, axis=1) - np.log(DRAWS)
    return Curves(critic, generator)


def _repeated(vectors: FingerprintVectors, row: int, condition: Float32) -> Examples:
    """One galaxy at several conditions."""
    count = len(condition)
    same = FingerprintVectors(
        np.repeat(vectors.values[row : row + 1], count, axis=0),
        np.repeat(vectors.mask[row : row + 1], count, axis=0),
    )
    none = np.zeros(count, np.int64)
    return Examples(same, condition, none, none.astype(bool), none)


def _distance(values: Float32, vectors: FingerprintVectors, row: int) -> Array:
    """Sum of squared differences of the broadband fluxes that were observed, shape (draws,)."""
    seen = np.flatnonzero(vectors.mask[row, vector.BROADBAND] > 0)
    return np.asarray(
        np.square(values[:, seen] - vectors.values[row, seen]).sum(axis=1), np.float64
    )


def on_grid(curve: Array) -> Array:
    """Curves interpolated over ln(1 + z), shape (N, COARSE)."""
    return np.array([np.interp(COARSE, CENTRES, row) for row in curve])


def exponent(log_density: Array, curve: Array, truth: Array) -> tuple[float, float]:
    """The exponent of highest likelihood of a curve beside a posterior.

    Args:
        log_density: of the posteriors, normalised or not, shape (N, COARSE).
        curve: see ``on_grid``.
        truth: redshifts, shape (N,).

    Returns:
        The exponent, from 0 to 3, and by how much the mean ln density at the truth is higher.
    """

    def loss(value: float) -> float:
        found = combined(log_density, curve, value)
        found -= np.logaddexp.reduce(found, axis=1, keepdims=True)
        return -float(at_truth(found, truth).mean())

    best = minimize_scalar(loss, bounds=(0.0, _LARGEST_EXPONENT), method="bounded")
    gain = loss(0.0) - float(best.fun)
    return (float(best.x), gain) if gain > 0 else (0.0, 0.0)


def combined(log_density: Array, curve: Array, value: float) -> Array:
    """A posterior with a curve at an exponent, not normalised, shape (N, COARSE)."""
    return np.asarray(log_density + value * curve)
