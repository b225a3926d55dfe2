"""How well one number per fingerprint tells two kinds of them apart."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mmbroker.schemas.events import Floats

Integers = NDArray[np.int64]

RESAMPLES = 1000


def area_under_curve(positive: Floats, negative: Floats) -> float:
    """Probability that a positive case has the higher number, ties counting half."""
    ordered = np.sort(negative)
    below = np.searchsorted(ordered, positive, side="left")
    not_above = np.searchsorted(ordered, positive, side="right")
    return float((below + not_above).mean() / 2 / len(negative))


def receiver_curve(positive: Floats, negative: Floats) -> tuple[Floats, Floats]:
    """The receiver operating curve: shares of negative and positive cases above each threshold.

    Returns:
        Two ascending arrays from 0 to 1 of the same length.
    """
    thresholds = np.unique(np.concatenate([positive, negative]))[::-1]

    def share(cases: Floats) -> Floats:
        above = len(cases) - np.searchsorted(np.sort(cases), thresholds, side="left")
        return np.concatenate([[0.0], above / len(cases)])

    return share(negative), share(positive)


def resampled_areas(
    positive: Floats,
    negative: Floats,
    galaxies: tuple[Integers, Integers],
    seed: int = 0,
) -> Floats:
    """Areas under the curve over resamples of galaxies, each with all its cases.

    Two calls with the same galaxies and seed see the same resamples: their differences are paired.

    Args:
        positive: numbers of the positive cases.
        negative: numbers of the negative cases.
        galaxies: the galaxy of each positive and of each negative case.
        seed: of the resamples.

    Returns:
        Shape (RESAMPLES,).
    """
    names, place = np.unique(np.concatenate(galaxies), return_inverse=True)
    chance = np.full(len(names), 1 / len(names))
    weights = np.random.default_rng(seed).multinomial(len(names), chance, RESAMPLES)
    of_positive, of_negative = np.split(weights[:, place].astype(np.float32), [len(positive)], 1)
    higher = np.heaviside(positive[:, None] - negative, 0.5).astype(np.float32)
    total = of_positive.sum(axis=1) * of_negative.sum(axis=1)
    return np.asarray(((of_positive @ higher) * of_negative).sum(axis=1) / total, np.float64)


def resampled_means(values: Floats, galaxies: Integers, seed: int = 0) -> Floats:
    """Means over resamples of galaxies, each with all its cases; shape (RESAMPLES,)."""
    names, place = np.unique(galaxies, return_inverse=True)
    chance = np.full(len(names), 1 / len(names))
    weights = np.random.default_rng(seed).multinomial(len(names), chance, RESAMPLES)[:, place]
    return np.asarray(weights @ values / weights.sum(axis=1))


def interval(resampled: Floats) -> tuple[float, float]:
    """The 95 % percentile interval."""
    low, high = np.quantile(resampled, [0.025, 0.975])
    return float(low), float(high)


def calibration_error(probability: Floats, label: Floats) -> float:
    """Mean difference between probability and share of genuine ones in ten bins of probability."""
    place: Integers = np.minimum((probability * 10).astype(np.int64), 9)
    counts = np.bincount(place, minlength=10)
    difference = np.bincount(place, probability, 10) - np.bincount(place, label, 10)
    return float(np.abs(difference).sum() / counts.sum())
