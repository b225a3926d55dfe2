"""Ranks galaxies by probability, with a histogram that several workers can share.

Probabilities are counted in bins of 1e-4. The rank of a galaxy is one more than the number of
galaxies in higher bins. So galaxies in one bin share a rank, as in a competition.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

BINS = 10_001

Histogram = NDArray[np.int64]
"""Number of galaxies per bin, int64, shape (BINS,)."""


def bin_of(probability: float) -> int:
    """The bin of a probability in [0, 1]."""
    return math.floor(min(max(probability, 0.0), 1.0) * (BINS - 1))


def empty_histogram() -> Histogram:
    """A histogram without galaxies."""
    return np.zeros(BINS, np.int64)


def rank(histogram: Histogram, bin_index: int) -> int:
    """Rank of a galaxy in a bin: 1 is best."""
    return 1 + int(histogram[bin_index + 1 :].sum())


def move(histogram: Histogram, before: int | None, after: int | None) -> None:
    """Move one galaxy between bins, in place.

    Args:
        histogram: the histogram, which is changed.
        before: bin that the galaxy leaves; None if it was not ranked.
        after: bin that the galaxy goes to; None if it is not ranked any more.
    """
    if before is not None:
        histogram[before] -= 1
    if after is not None:
        histogram[after] += 1
