"""Measures the purity of a list of lines by the signal-to-noise ratio that its method states."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from mmbroker.models.measures import resampling
from mmbroker.models.parser.judged.line_detections import Detections, Integers, Judged
from mmbroker.schemas.events import Floats

FEWEST_DETECTIONS = 20
"""The fewest detections in a bin whose purity is shown."""


def measured_ratio(found: Detections, by_score: bool) -> Floats:
    """The signal-to-noise ratio of detections as their method measured it, float64, shape (D,).

    Args:
        found: the detections of one method.
        by_score: whether its score is that ratio; otherwise it is the flux over its error.
    """
    return found.score if by_score else found.flux_jy_km_s / found.flux_error_jy_km_s


def purity_by_ratio(
    judged: Judged,
    name: str,
    threshold: float,
    ratio: Floats,
    bins: Sequence[tuple[float, float]],
) -> list[dict[str, Any]]:
    """The share of a method's detections that are true, in bins of a ratio, with 95 % intervals.

    Args:
        judged: the methods on the same spectra.
        name: the name of the method.
        threshold: the lowest score that counts.
        ratio: the ratio of each of its detections, shape (D,).
        bins: the lower end of each bin, inside, and its upper end, outside.

    Returns:
        For each bin the number of ``detections`` and, if there are any, the median ``ratio`` and
        the ``purity`` with the ends of its interval, from resamples of the spectra.
    """
    found = judged.found[name]
    spectra = len(judged.regime)
    rows = resampling.rows(spectra, seed=4)
    result: list[dict[str, Any]] = []
    for low, high in bins:
        inside = (found.score >= threshold) & (ratio >= low) & (ratio < high)
        entry: dict[str, Any] = {"detections": int(inside.sum())}
        if inside.any():
            count = np.bincount(found.spectrum[inside], minlength=spectra)
            true = np.bincount(found.spectrum[inside & (found.matched >= 0)], minlength=spectra)
            entry["ratio"] = float(np.median(ratio[inside]))
            entry["purity"] = _share(true, count, rows)
        result.append(entry)
    return result


def _share(true: Integers, count: Integers, rows: Integers) -> list[float]:
    """The share of true ones, and its 95 % interval over resamples of the spectra."""
    total = count[rows].sum(axis=1)
    drawn = true[rows].sum(axis=1)[total > 0] / total[total > 0]
    return [float(true.sum() / count.sum()), *resampling.interval(drawn)]
