"""Measures redshift estimates against spectroscopic redshifts.

With Δ = (z - z_true) / (1 + z_true): NMAD = 1.4826 median|Δ - median Δ|, the robust dispersion of
Δ about its median; MAE = mean |Δ|; outliers, the share with |Δ| > 0.15. Coverage is the share of
true redshifts inside the stated interval. CRPS is that of the posterior in z. Lower is better for
all but coverage, which should equal its nominal value.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from mmbroker.models.measures import resampling

Array = NDArray[np.float64]
Measure = Callable[[Array], Array]

OUTLIER = 0.15
NMAD_FACTOR = 1.4826
"""The factor from a Gaussian's median absolute deviation to its standard deviation."""


def deviation(redshift: Array, truth: Array) -> Array:
    """Δ = (z - z_true) / (1 + z_true), dimensionless, float64, shape (...).

    Args:
        redshift: the estimated redshifts, shape (...).
        truth: the true redshifts, shape (...).
    """
    return np.asarray((redshift - truth) / (1 + truth))


def mae(delta: Array) -> Array:
    """Mean |Δ| over the last axis.

    Args:
        delta: Δ, float64, shape (..., galaxies).

    Returns:
        float64, shape (...).
    """
    return np.asarray(np.abs(delta).mean(axis=-1))


def nmad(delta: Array) -> Array:
    """1.4826 median|Δ - median Δ| over the last axis.

    Args:
        delta: Δ, float64, shape (..., galaxies).

    Returns:
        float64, shape (...).
    """
    centre = np.median(delta, axis=-1, keepdims=True)
    return np.asarray(NMAD_FACTOR * np.median(np.abs(delta - centre), axis=-1))


def outliers(delta: Array) -> Array:
    """Share of galaxies with |Δ| > 0.15 over the last axis.

    Args:
        delta: Δ, float64, shape (..., galaxies).

    Returns:
        float64, shape (...).
    """
    return np.asarray((np.abs(delta) > OUTLIER).mean(axis=-1))


def mean_of_known(values: Array) -> Array:
    """Mean of the finite values over the last axis; NaN where there are none.

    Args:
        values: float64, shape (..., galaxies).

    Returns:
        float64, shape (...).
    """
    known = np.isfinite(values)
    count = known.sum(axis=-1)
    total = np.where(known, values, 0.0).sum(axis=-1)
    return np.asarray(
        np.divide(total, count, out=np.full(np.shape(count), np.nan), where=count > 0)
    )


MEASURES: dict[str, Measure] = {
    "mae": mae,
    "nmad": nmad,
    "outliers": outliers,
    "crps": mean_of_known,
    "coverage68": mean_of_known,
    "coverage95": mean_of_known,
}
"""The measures of an estimator by name; each is computed from one of ``Estimate.values``."""


def covered(lower: Array, upper: Array, truth: Array) -> Array:
    """1 where the truth is within [lower, upper], else 0, and NaN without an interval.

    Args:
        lower: lower ends of the intervals in z, NaN or infinite without one, shape (galaxies,).
        upper: upper ends, shape (galaxies,).
        truth: the true redshifts, shape (galaxies,).

    Returns:
        float64, shape (galaxies,).
    """
    stated = np.isfinite(lower) & np.isfinite(upper)
    return np.where(stated, (truth >= lower) & (truth <= upper), np.nan)


def crps(grid: Array, probability: Array, truth: Array) -> Array:
    """Continuous ranked probability score of discrete posteriors.

    Args:
        grid: ascending redshifts, shape (points,).
        probability: the posteriors, shape (galaxies, points), each row summing to 1.
        truth: the true redshifts, shape (galaxies,).

    Returns:
        The integral over z of (cumulative probability - step at the truth)**2, in units of z,
        float64, shape (galaxies,).
    """
    cumulative = np.cumsum(probability, axis=1)[:, :-1]
    lower, upper = grid[:-1], grid[1:]
    above = np.clip(upper - np.maximum(lower, truth[:, None]), 0, upper - lower)
    below = (upper - lower) - above
    inside = (below * cumulative**2 + above * (1 - cumulative) ** 2).sum(axis=1)
    outside = np.maximum(truth - grid[-1], 0) + np.maximum(grid[0] - truth, 0)
    return np.asarray(inside + outside)


def bootstrap(measure: Measure, delta: Array, seed: int = 0) -> tuple[float, float]:
    """The 95 % percentile interval of a measure over resampled galaxies.

    Args:
        measure: a function over the last axis, e.g. ``nmad``.
        delta: what is measured of each galaxy, shape (galaxies,).
        seed: the seed of the resamples.
    """
    return resampling.bootstrap(measure, delta, seed=seed)


def paired_bootstrap(
    measure: Measure, delta: Array, reference: Array, seed: int = 0
) -> tuple[float, float]:
    """The 95 % percentile interval of measure(delta) - measure(reference) on the same galaxies.

    Args:
        measure: a function over the last axis.
        delta: what is measured of each galaxy with one estimator, shape (galaxies,).
        reference: the same with the other estimator, in the same order, shape (galaxies,).
        seed: the seed of the resamples.

    Raises:
        ValueError: the two have different lengths.
    """
    return resampling.bootstrap(
        lambda one, other: np.asarray(measure(one) - measure(other)), delta, reference, seed=seed
    )
