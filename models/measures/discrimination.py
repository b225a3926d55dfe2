"""Measures how well one number per case tells two kinds apart: the receiver operating curve."""

from __future__ import annotations

import numpy as np
from sklearn.metrics import roc_auc_score, roc_curve

from mmbroker.models.measures.resampling import Integers, counts
from mmbroker.schemas.events import Floats


def area_under_curve(positive: Floats, negative: Floats) -> float:
    """The probability that a positive case has the higher number; ties count half.

    Args:
        positive: the numbers of the positive cases, shape (P,).
        negative: the numbers of the negative cases, shape (N,).
    """
    return float(roc_auc_score(*_labelled(positive, negative)))


def receiver_curve(positive: Floats, negative: Floats) -> tuple[Floats, Floats]:
    """The receiver operating curve: shares of negative and positive cases above each threshold.

    Args:
        positive: the numbers of the positive cases, shape (P,).
        negative: the numbers of the negative cases, shape (N,).

    Returns:
        Two ascending arrays from 0 to 1 of the same length.
    """
    false, true, _ = roc_curve(*_labelled(positive, negative), drop_intermediate=False)
    return false, true


def resampled_areas(
    positive: Floats,
    negative: Floats,
    galaxies: tuple[Integers, Integers],
    seed: int = 0,
) -> Floats:
    """Areas under the curve over resamples of galaxies, each with all its cases.

    Two calls with the same galaxies and seed see the same resamples: their differences are paired.

    Args:
        positive: the numbers of the positive cases, shape (P,).
        negative: the numbers of the negative cases, shape (N,).
        galaxies: the galaxy of each positive case, shape (P,), and of each negative case, shape
            (N,).
        seed: the seed of the resamples.

    Returns:
        float64, shape (RESAMPLES,).
    """
    drawn = counts(np.concatenate(galaxies), seed)
    return weighted_areas(positive, negative, drawn[:, : len(positive)], drawn[:, len(positive) :])


def weighted_areas(
    positive: Floats, negative: Floats, of_positive: Integers, of_negative: Integers
) -> Floats:
    """Areas under the curve where cases count several times or not at all.

    They are computed at once, as a product of matrices. A thousand calls of ``roc_auc_score`` with
    weights give the same, and take twenty times as long or more.

    Args:
        positive: the numbers of the positive cases, shape (P,).
        negative: the numbers of the negative cases, shape (N,).
        of_positive: how often each positive case counts, shape (resamples, P).
        of_negative: how often each negative case counts, shape (resamples, N).

    Returns:
        float64, shape (resamples,).
    """
    higher = np.heaviside(positive[:, None] - negative, 0.5).astype(np.float32)
    first, second = of_positive.astype(np.float32), of_negative.astype(np.float32)
    total = first.sum(axis=1) * second.sum(axis=1)
    return np.asarray(((first @ higher) * second).sum(axis=1) / total, np.float64)


def calibration_error(probability: Floats, label: Floats) -> float:
    """The mean difference between probability and share of genuine cases in ten bins.

    Args:
        probability: the stated probabilities, float64, shape (N,).
        label: 1 for genuine cases, else 0; float64, shape (N,).
    """
    place: Integers = np.minimum((probability * 10).astype(np.int64), 9)
    cases = np.bincount(place, minlength=10)
    difference = np.bincount(place, probability, 10) - np.bincount(place, label, 10)
    return float(np.abs(difference).sum() / cases.sum())


def _labelled(positive: Floats, negative: Floats) -> tuple[Floats, Floats]:
    """The labels, 1 for positive cases and 0 for negative ones, and the numbers of both."""
    label = np.repeat([1.0, 0.0], [len(positive), len(negative)])
    return label, np.concatenate([positive, negative])
