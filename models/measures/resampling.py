"""Puts an interval on any figure by the bootstrap: draws again the galaxies that it rests on.

See Efron 1979, Annals of Statistics 7 1. If each galaxy is one case, ``bootstrap`` draws cases.
If a galaxy has several cases, these are not independent: ``counts`` draws galaxies, each
with all its cases. ``scipy.stats.bootstrap`` knows no such groups, and refuses a sample of one; for
other independent cases it gives the same intervals.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mmbroker.schemas.events import Floats

Integers = NDArray[np.int64]
Seed = int | np.random.Generator
"""The seed of resamples: a number, or a generator, whose state moves on."""

RESAMPLES = 1_000


def bootstrap(
    figure: Callable[..., Floats], *samples: NDArray[Any], seed: Seed = 0
) -> tuple[float, float]:
    """The 95 % percentile interval of a figure over resamples of independent cases.

    Args:
        figure: takes each sample with shape (RESAMPLES, cases), and reduces the last axis.
        samples: what is known of the cases, each of shape (cases,); they are resampled together.
        seed: the seed of the resamples.

    Returns:
        The lower and the upper end.

    Raises:
        ValueError: the samples are not of the same cases.
    """
    sizes = [len(each) for each in samples]
    if len(set(sizes)) > 1:
        raise ValueError(f"{' and '.join(map(str, sizes))} galaxies are not pairs")
    drawn = rows(sizes[0], seed)
    return interval(figure(*(each[drawn] for each in samples)))


def rows(size: int, seed: Seed = 0) -> Integers:
    """Indices of resampled cases, int64, shape (RESAMPLES, size).

    Args:
        size: number of cases.
        seed: the seed of the resamples.
    """
    return np.random.default_rng(seed).integers(0, size, (RESAMPLES, size))


def counts(galaxies: ArrayLike, seed: Seed = 0) -> Integers:
    """How often each case counts in resamples of galaxies, each drawn with all its cases.

    Two calls with the same galaxies and seed see the same resamples: their differences are paired.

    Args:
        galaxies: the galaxy of each case, by number or name; shape (cases,).
        seed: the seed of the resamples.

    Returns:
        int64, shape (RESAMPLES, cases).
    """
    names, place = np.unique(galaxies, return_inverse=True)
    chance = np.full(len(names), 1 / len(names))
    drawn = np.random.default_rng(seed).multinomial(len(names), chance, RESAMPLES)
    return np.asarray(drawn[:, place])


def means(values: Floats, galaxies: ArrayLike, seed: Seed = 0) -> Floats:
    """Means over resamples of galaxies, each with all its cases; float64, shape (RESAMPLES,).

    Args:
        values: the value of each case, shape (cases,).
        galaxies: the galaxy of each case, shape (cases,).
        seed: the seed of the resamples.
    """
    weight = counts(galaxies, seed)
    return np.asarray(weight @ values / weight.sum(axis=1))


def interval(figures: Floats) -> tuple[float, float]:
    """The 95 % percentile interval: lower and upper end.

    Args:
        figures: the figure of each resample, shape (resamples,); NaN where a resample has none.
            Where none has, both ends are NaN.
    """
    known = figures[~np.isnan(figures)]
    if not len(known):
        return float("nan"), float("nan")
    low, high = np.quantile(known, [0.025, 0.975])
    return float(low), float(high)
