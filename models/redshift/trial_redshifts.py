"""Asks critic and generator about a galaxy at trial redshifts, as evidence of its redshift.

The critic judges how genuine a fingerprint looks if its condition says a trial redshift. The
generator draws fingerprints under that condition, which resemble it or not. Either gives a curve
over the trial redshifts. The curve times an exponent is added to the ln of a posterior. Needs
onnxruntime.
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
"""The standard deviation in ln(1 + z) of the condition at a trial redshift."""

DRAWS = 128
"""How many fingerprints the generator draws for each galaxy and trial redshift."""

BANDWIDTHS = (0.5, 1.0, 2.0)
"""The widths of the kernel that compares scaled fluxes; one is chosen by its likelihood."""

_LARGEST_EXPONENT = 3.0
_EDGES = np.log1p(vector.REDSHIFT_EDGES)
CENTRES: Array = (_EDGES[1:] + _EDGES[:-1]) / 2
"""ln(1 + z) of the trial redshifts, shape (REDSHIFT_CELLS,)."""


@dataclass(frozen=True, slots=True, eq=False)
class Curves:
    """The curves of each network for N galaxies, shape (N, REDSHIFT_CELLS).

    Attributes:
        critic: the critic's outputs.
        generator: the ln of the mean kernel between galaxy and draws, by its width.
    """

    critic: Array
    generator: dict[float, Array]

    def select(self, chosen: NDArray[np.bool_] | NDArray[np.int64]) -> Curves:
        """The curves of the chosen galaxies.

        Args:
            chosen: whether each galaxy is chosen, shape (N,), or the indices of the chosen ones.
        """
        return Curves(
            self.critic[chosen], {width: each[chosen] for width, each in self.generator.items()}
        )


def conditions() -> Float32:
    """The condition at each trial redshift: the square root of a narrow Gaussian's probabilities.

    Returns:
        float32, shape (trial redshifts, REDSHIFT_CELLS).
    """
    fine = np.linspace(_EDGES[0], _EDGES[-1], 8 * len(CENTRES) + 1)
    middle = (fine[1:] + fine[:-1]) / 2
    density = np.exp(-0.5 * np.square((middle[None, :] - CENTRES[:, None]) / WIDTH))
    share = density.reshape(len(CENTRES), len(CENTRES), 8).sum(axis=2)
    return np.asarray(np.sqrt(share / share.sum(axis=1, keepdims=True)), np.float32)


def curves(networks: ExportedNetworks, vectors: FingerprintVectors, seed: int = 0) -> Curves:
    """Ask both networks at every trial redshift.

    Args:
        networks: the critic and the generator.
        vectors: the fingerprint vectors of N galaxies.
        seed: the seed of the draws.
    """
    critic = np.empty((len(vectors), len(CENTRES)))
    generator = {width: np.empty_like(critic) for width in BANDWIDTHS}
    trials = conditions()
    drawn_trials = np.repeat(trials, DRAWS, axis=0)
    for row in range(len(vectors)):
        at_trials = _repeated(vectors, row, trials)
        critic[row] = networks.outputs(at_trials)
        drawn = _repeated(vectors, row, drawn_trials)
        # The same draws at every trial redshift, so that the curve is not their noise.
        values = networks.generated(drawn, seed, together=DRAWS).vectors.values
        distance = _distance(values, vectors, row).reshape(len(CENTRES), DRAWS)
        for width, found in generator.items():
            exponent = -0.5 * distance / width**2
            found[row] = np.logaddexp.reduce(exponent, axis=1) - np.log(DRAWS)
    return Curves(critic, generator)


def _repeated(vectors: FingerprintVectors, row: int, condition: Float32) -> Examples:
    """Combine one galaxy with several conditions."""
    count = len(condition)
    same = FingerprintVectors(
        np.repeat(vectors.values[row : row + 1], count, axis=0),
        np.repeat(vectors.mask[row : row + 1], count, axis=0),
    )
    none = np.zeros(count, np.int64)
    return Examples(same, condition, none, none.astype(bool), none)


def _distance(values: Float32, vectors: FingerprintVectors, row: int) -> Array:
    """The sum of squared differences of the observed broadband fluxes, shape (draws,)."""
    seen = np.flatnonzero(vectors.mask[row, vector.BROADBAND] > 0)
    return np.asarray(
        np.square(values[:, seen] - vectors.values[row, seen]).sum(axis=1), np.float64
    )


def on_grid(curve: Array) -> Array:
    """Interpolate curves to the grid of posteriors.

    Args:
        curve: curves over the trial redshifts, shape (N, REDSHIFT_CELLS).

    Returns:
        float64, shape (N, COARSE).
    """
    return np.array([np.interp(COARSE, CENTRES, row) for row in curve])


def exponent(log_density: Array, curve: Array, truth: Array) -> tuple[float, float]:
    """Find the exponent of a curve that maximises the likelihood of a posterior with it.

    Args:
        log_density: the ln of the posteriors, normalised or not, shape (N, COARSE).
        curve: the curves on the grid, shape (N, COARSE).
        truth: the true redshifts, shape (N,).

    Returns:
        The exponent, from 0 to 3, and how much it raises the mean ln density at the truth.
    """

    def loss(value: float) -> float:
        found = combined(log_density, curve, value)
        found -= np.logaddexp.reduce(found, axis=1, keepdims=True)
        return -float(at_truth(found, truth).mean())

    best = minimize_scalar(loss, bounds=(0.0, _LARGEST_EXPONENT), method="bounded")
    gain = loss(0.0) - float(best.fun)
    return (float(best.x), gain) if gain > 0 else (0.0, 0.0)


def combined(log_density: Array, curve: Array, value: float) -> Array:
    """Multiply posteriors by curves with an exponent.

    Args:
        log_density: the ln of the posteriors, shape (N, COARSE).
        curve: the curves on the grid, shape (N, COARSE).
        value: the exponent.

    Returns:
        The ln of the posteriors, not normalised, shape (N, COARSE).
    """
    return np.asarray(log_density + value * curve)
