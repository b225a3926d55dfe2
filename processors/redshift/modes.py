"""Finds the modes of redshift posteriors, and states the redshift that is most probably right.

A median may lie between two modes, where no galaxy is. So the stated redshift is the median of one
mode: of that in which it is right with the highest probability.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit

from mmbroker.processors.redshift.grids import Array
from mmbroker.schemas.events import Interval, RedshiftMode

REDSHIFT_TOLERANCE = 0.05
"""A redshift counts as right when |dz| / (1 + z) is at most this."""

VALLEY = 0.5
"""Two peaks are of two modes if the density between them falls below this share of the lower."""

LEAST_PROBABILITY = 0.005
"""Modes with less probability are not listed."""

SECOND = 0.1
"""A posterior has several modes worth telling apart if the second one has this probability."""


@dataclass(frozen=True, slots=True)
class Modes:
    """The modes of one posterior.

    Attributes:
        best: the mode with the most probability of its own within ``REDSHIFT_TOLERANCE`` (1 + z)
            of its median.
        modes: those with at least ``LEAST_PROBABILITY``, by falling probability.
    """

    best: RedshiftMode
    modes: list[RedshiftMode]

    @property
    def several(self) -> bool:
        """Whether intervals should tell modes apart."""
        return len(self.modes) > 1 and self.modes[1].probability >= SECOND


def modes_of(cumulative: Array, edges: Array, per_cell: int = 1) -> list[Modes]:
    """The modes of N posteriors.

    Args:
        cumulative: probability below each edge, float64, shape (N, edges).
        edges: in ln(1 + z), evenly spaced, shape (edges,).
        per_cell: how many cells count as one where peaks are looked for, so that the noise of a
            spectrum makes none; a divisor of the number of cells.
    """
    counts, chosen, found = _modes(cumulative, edges, per_cell)
    redshift = np.expm1(found[:, :3]).tolist()
    probability = found[:, 3].tolist()
    listed_rows = np.flatnonzero(found[:, 3] >= LEAST_PROBABILITY).tolist()
    result = []
    first = place = 0
    for count, best in zip(counts.tolist(), chosen.tolist(), strict=True):
        listed = []
        while place < len(listed_rows) and listed_rows[place] < first + count:
            row = listed_rows[place]
            listed.append(_mode(redshift[row], probability[row]))
            place += 1
        listed.sort(key=_falling)
        row = first + best
        result.append(Modes(_mode(redshift[row], probability[row]), listed))
        first += count
    return result


def _mode(redshift: list[float], probability: float) -> RedshiftMode:
    lower, median, upper = redshift
    return RedshiftMode(lower, median, upper, probability)


def _falling(mode: RedshiftMode) -> float:
    return -mode.probability


def densest(probability: Array, edges: Array, *shares: float) -> list[list[Interval]]:
    """The densest cells that hold shares of one posterior together, as intervals of redshift.

    Args:
        probability: of the cells, float64, shape (cells,).
        edges: of the cells, in ln(1 + z), shape (cells + 1,).
        shares: ascending, at most the sum of the probabilities.

    Returns:
        For each share the intervals, ascending.
    """
    inside = np.zeros((len(shares), len(probability) + 2), bool)
    _mark_densest(probability, np.array(shares), inside)
    found = []
    for one in inside:
        turns = np.flatnonzero(one[1:] != one[:-1])
        ends = np.expm1(edges[turns]).tolist()
        found.append([Interval(*each) for each in zip(ends[::2], ends[1::2], strict=True)])
    return found


@njit(cache=True)
def _mark_densest(probability, shares, inside):  # type: ignore[no-untyped-def]
    """Mark the densest cells for each share; there is a cell more at each end, outside."""
    cells = np.flatnonzero(probability > 0)
    order = cells[np.argsort(-probability[cells], kind="mergesort")]
    total, reached = 0.0, 0
    for cell in order:
        inside[reached:, cell + 1] = True
        total += probability[cell]
        while reached < len(shares) and total >= shares[reached]:
            reached += 1
        if reached == len(shares):
            break


@njit(cache=True)
def _modes(cumulative, edges, per_cell):  # type: ignore[no-untyped-def]
    """The modes of all rows, joined.

    Returns:
        The number of modes of each row; which of them is the best; and of each mode its lower end,
        median and upper end in ln(1 + z), and its probability.
    """
    rows = len(cumulative)
    counts, chosen = np.empty(rows, np.int64), np.empty(rows, np.int64)
    found = np.empty((max(4 * rows, 64), 4))
    total = 0
    for row in range(rows):
        below = cumulative[row]
        at_cells = below[::per_cell]
        cuts = _cuts(at_cells[1:] - at_cells[:-1])
        best, most = 0, -1.0
        counts[row] = len(cuts) - 1
        if total + counts[row] > len(found):
            larger = np.empty((2 * (total + counts[row]), 4))
            larger[:total] = found[:total]
            found = larger
        for number in range(counts[row]):
            start, stop = cuts[number] * per_cell, cuts[number + 1] * per_cell
            inside = below[stop] - below[start]
            median = _place(below, edges, below[start] + 0.5 * inside)
            high = np.interp(median - np.log(1 - REDSHIFT_TOLERANCE), edges, below)
            low = np.interp(median - np.log(1 + REDSHIFT_TOLERANCE), edges, below)
            right = min(high, below[stop]) - max(low, below[start])
            if right > most:
                best, most = number, right
            found[total, 0], found[total, 1], found[total, 2] = edges[start], median, edges[stop]
            found[total, 3] = inside
            total += 1
        chosen[row] = best
    return counts, chosen, found[:total]


@njit(cache=True)
def _cuts(probability):  # type: ignore[no-untyped-def]
    """The ends of the modes: the first cell, the lowest cell of each valley, the end of cells."""
    cells = len(probability)
    cuts = [0]
    peak = low = probability[0]
    lowest = 0
    for cell in range(1, cells):
        here = probability[cell]
        if here < low:
            low, lowest = here, cell
        if low < VALLEY * min(peak, here):
            cuts.append(lowest)
            peak = low = here
            lowest = cell
        elif here > peak:
            peak = low = here
            lowest = cell
    cuts.append(cells)
    return cuts


@njit(cache=True)
def _place(below, edges, wanted):  # type: ignore[no-untyped-def]
    """Where the cumulative probability reaches a value, in ln(1 + z)."""
    cell = min(max(np.searchsorted(below, wanted) - 1, 0), len(below) - 2)
    inside = max(below[cell + 1] - below[cell], 1e-300)
    share = min(max((wanted - below[cell]) / inside, 0.0), 1.0)
    return edges[cell] + share * (edges[cell + 1] - edges[cell])
