"""Measure redshift estimates against spectroscopic redshifts.

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
"""Makes the median absolute deviation of a Gaussian its standard deviation."""


def deviation(redshift: Array, truth: Array) -> Array:
    """Δ = (z - z_true) / (1 + z_true), shape of the inputs."""
    return np.asarray((redshift - truth) / (1 + truth))


def mae(delta: Array) -> Array:
    """Mean |Δ| over the last axis."""
    return np.asarray(np.abs(delta).mean(axis=-1))


def nmad(delta: Array) -> Array:
    """1.4826 median|Δ - median Δ| over the last axis."""
    centre = np.median(delta, axis=-1, keepdims=True)
    return np.asarray(NMAD_FACTOR * np.median(np.abs(delta - centre), axis=-1))


def outliers(delta: Array) -> Array:
    """Share of |Δ| > 0.15 over the last axis."""
    return np.asarray((np.abs(delta) > OUTLIER).mean(axis=-1))


def mean_of_known(values: Array) -> Array:
    """Mean over the last axis of what is not NaN; NaN where all is."""
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
"""Figures of an estimator by name: of Δ, of each galaxy's CRPS, of whether it is covered."""


def covered(lower: Array, upper: Array, truth: Array) -> Array:
    """1 where the truth is within [lower, upper], else 0, and NaN without an interval."""
    stated = np.isfinite(lower) & np.isfinite(upper)
    return np.where(stated, (truth >= lower) & (truth <= upper), np.nan)


def crps(grid: Array, probability: Array, truth: Array) -> Array:
    """Continuous ranked probability score of discrete posteriors.

    Args:
        grid: ascending redshifts, shape (points,).
        probability: shape (galaxies, points), each row summing to 1.
        truth: shape (galaxies,).

    Returns:
        Integral over z of (cumulative probability - step at the truth)**2, shape (galaxies,).
    """
    cumulative = np.cumsum(probability, axis=1)[:, :-1]
    lower, upper = grid[:-1], grid[1:]
    above = np.clip(upper - np.maximum(lower, truth[:, None]), 0, upper - lower)
    below = (upper - lower) - above
    inside = (below * cumulative**2 + above * (1 - cumulative) ** 2).sum(axis=1)
    outside = np.maximum(truth - grid[-1], 0) + np.maximum(grid[0] - truth, 0)
    return np.asarray(inside + outside)


def bootstrap(measure: Measure, delta: Array, seed: int = 0) -> tuple[float, float]:
    """95 % percentile interval of a measure over resampled galaxies.

    Args:
        measure: a function over the last axis, e.g. ``nmad``.
        delta: shape (galaxies,).
        seed: of the resamples.
    """
    return resampling.bootstrap(measure, delta, seed=seed)


def paired_bootstrap(
    measure: Measure, delta: Array, reference: Array, seed: int = 0
) -> tuple[float, float]:
    """95 % percentile interval of measure(delta) - measure(reference) on the same galaxies.

    Args:
        measure: a function over the last axis.
        delta: of one estimator, shape (galaxies,).
        reference: of the other on the same galaxies in the same order.
        seed: of the resamples.

    Raises:
        ValueError: the two have different lengths.
    """
    return resampling.bootstrap(
        lambda one, other: np.asarray(measure(one) - measure(other)), delta, reference, seed=seed
    )
