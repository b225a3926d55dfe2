"""Measures the stated probability that a redshift is right: shares, Brier score, ranking, bins."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from astropy.stats import binom_conf_interval
from numpy.typing import NDArray
from scipy.stats import rankdata

from mmbroker.models.measures import resampling
from mmbroker.models.redshift.real_galaxies import Array, Difference

EDGES = (0.0, 0.1, 0.3, 0.5, 0.7, 0.8, 0.9, 1.0)
"""Edges of the bins of stated probabilities."""

FEWEST = 30
"""With fewer galaxies figures are stated as those of a few."""


@dataclass(frozen=True, slots=True)
class Bin:
    """The galaxies whose stated probability lies between two edges.

    Attributes:
        lower: lower edge, included.
        upper: upper edge, included in the last bin alone.
        count: number of galaxies.
        stated: their mean stated probability.
        right: share that is right, with its 95 % interval.
    """

    lower: float
    upper: float
    count: int
    stated: float
    right: Difference


@dataclass(frozen=True, slots=True)
class Reliability:
    """How good the stated probabilities of N galaxies are.

    Intervals are of 95 %: by the bootstrap, those of shares by Wilson (1927), which stay wide where
    all of a few galaxies are right.

    Attributes:
        count: N.
        figures: by name. ``stated``: mean probability. ``right``: share of right redshifts.
            ``stated_minus_right``: their difference. ``brier``: mean square of probability minus
            outcome. ``area_under_curve``: probability that a right redshift has the higher one;
            None where all are right or all are wrong.
        bins: of the stated probability, those that have galaxies.
    """

    count: int
    figures: Mapping[str, Difference | None]
    bins: tuple[Bin, ...]


def reliability(stated: Array, right: NDArray[np.bool_]) -> Reliability:
    """Measure stated probabilities against what came true.

    Args:
        stated: probabilities in [0, 1], shape (N,), at least one.
        right: whether the redshift of each galaxy is right, shape (N,).
    """
    outcome = right.astype(float)
    areas = right.any() and not right.all()
    figures = {
        "stated": _mean(stated),
        "right": share(right),
        "stated_minus_right": _mean(stated - outcome),
        "brier": _mean((stated - outcome) ** 2),
        "area_under_curve": _area_with_interval(stated, right) if areas else None,
    }
    return Reliability(len(stated), figures, tuple(_bins(stated, right)))


def area_under_curve(stated: Array, right: NDArray[np.bool_]) -> Array:
    """The probability that a right case has a higher number than a wrong one; ties count half.

    By the ranks of the right cases (Mann & Whitney 1947). Needs SciPy alone.

    Args:
        stated: numbers, shape (..., N).
        right: whether each case is right, shape (..., N).

    Returns:
        float64, shape (...); NaN where all cases are of one kind.
    """
    ranks = rankdata(stated, axis=-1)
    positive = right.sum(axis=-1)
    negative = right.shape[-1] - positive
    above = np.where(right, ranks, 0.0).sum(axis=-1) - positive * (positive + 1) / 2
    pairs = np.asarray(positive * negative, float)
    none = np.full(np.shape(pairs), np.nan)
    return np.asarray(np.divide(above, pairs, out=none, where=pairs > 0))


def _bins(stated: Array, right: NDArray[np.bool_]) -> list[Bin]:
    found = []
    for lower, upper in itertools.pairwise(EDGES):
        inside = (stated >= lower) & ((stated < upper) | (upper == EDGES[-1]))
        if inside.any():
            mean = float(stated[inside].mean())
            found.append(Bin(lower, upper, int(inside.sum()), mean, share(right[inside])))
    return found


def _mean(values: Array) -> Difference:
    ends = resampling.bootstrap(lambda drawn: np.asarray(drawn.mean(axis=-1)), values)
    return float(values.mean()), *ends


def share(right: NDArray[np.bool_]) -> Difference:
    """The share of cases that are right, with its 95 % interval (Wilson 1927)."""
    count = int(right.sum())
    lower, upper = binom_conf_interval(count, len(right), 0.95, interval="wilson")
    return count / len(right), float(lower), float(upper)


def _area_with_interval(stated: Array, right: NDArray[np.bool_]) -> Difference:
    drawn = resampling.rows(len(stated))
    areas = area_under_curve(stated[drawn], right[drawn])
    ends = resampling.interval(areas)
    return float(area_under_curve(stated, right)), *ends
