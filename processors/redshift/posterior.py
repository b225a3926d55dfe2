"""Makes posteriors of evidence: quantiles, modes, and the lines that explain each mode."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mmbroker.processors.redshift import comb, grids, spectral_lines
from mmbroker.processors.redshift.grids import COARSE, FINE, PUBLISHED, Array
from mmbroker.schemas.events import Interval, LineIdentification, RedshiftPosterior

_MODE_BINS = 4  # fine cells on either side of a line identification, 1000 km/s
_LEAST_MODE = 0.005


def posteriors_of(log_posterior: Array, inputs: Sequence[Sequence[str]]) -> list[RedshiftPosterior]:
    """Make posteriors without lines from the ln of unnormalised densities.

    Args:
        log_posterior: ln of the density per unit of ln(1 + z), shape (galaxies, COARSE).
        inputs: for each galaxy, the kinds of evidence that its posterior rests on.
    """
    probability = to_probability(log_posterior)
    quantiles = quantiles_of(cumulated(probability), _COARSE_EDGES)
    cells = probability.reshape(-1, len(PUBLISHED), grids.COARSE_PER_CELL).sum(axis=2)
    return [
        posterior_from(quantiles[row], cells[row], [], list(used))
        for row, used in enumerate(inputs)
    ]


def to_probability(log_posterior: Array) -> Array:
    """The probability in each cell of a grid, of sum 1 for each galaxy.

    Args:
        log_posterior: ln of the unnormalised density per cell, float64, shape (galaxies, cells).
    """
    probability = np.exp(log_posterior - log_posterior.max(axis=1, keepdims=True))
    return np.asarray(probability / probability.sum(axis=1, keepdims=True))


def _edges(grid: Array) -> Array:
    step = grid[1] - grid[0]
    return np.asarray(np.maximum(np.concatenate([grid - step / 2, [grid[-1] + step / 2]]), 0.0))


FINE_EDGES, _COARSE_EDGES = _edges(FINE), _edges(COARSE)
"""Edges of the grids' cells in ln(1 + z), one more than there are cells."""

_PUBLISHED_REDSHIFT = np.expm1(PUBLISHED).astype(np.float32)

_NEAR = 0.05
"""Redshifts that differ by at most this fraction of 1 + z are near each other."""

_LEVELS: Array = np.array([0.025, 0.16, 0.5, 0.84, 0.975])


def cumulated(probability: Array) -> Array:
    """Probability below each edge of the grid's cells, shape (galaxies, cells + 1).

    Args:
        probability: of the cells, float64, shape (galaxies, cells).
    """
    cumulative = np.zeros((len(probability), probability.shape[1] + 1))
    np.cumsum(probability, axis=1, out=cumulative[:, 1:])
    return cumulative


def quantiles_of(cumulative: Array, edges: Array) -> Array:
    """Redshifts at ``_LEVELS`` of the cumulative probability, float64, shape (galaxies, 5).

    Args:
        cumulative: see ``cumulated``.
        edges: of the cells, in ln(1 + z), shape (cells + 1,).
    """
    right = [np.searchsorted(row, _LEVELS) for row in cumulative]
    cell = np.array(right, int).reshape(-1, len(_LEVELS)) - 1
    cell = np.clip(cell, 0, cumulative.shape[1] - 2)
    before = np.take_along_axis(cumulative, cell, axis=1)
    inside = np.take_along_axis(cumulative, cell + 1, axis=1) - before
    fraction = np.clip((_LEVELS - before) / np.maximum(inside, 1e-300), 0, 1)
    return np.asarray(np.expm1(edges[cell] + fraction * (edges[cell + 1] - edges[cell])))


def posterior_from(
    quantiles: Array,
    cells: Array,
    modes: list[LineIdentification],
    inputs: list[str],
) -> RedshiftPosterior:
    """A posterior as it is published.

    Args:
        quantiles: redshifts at ``_LEVELS``, shape (5,).
        cells: probability in each cell of the published grid.
        modes: what lines were identified as.
        inputs: what it rests on.
    """
    low95, low68, median, high68, high95 = (float(value) for value in quantiles)
    return RedshiftPosterior(
        best=median,
        interval_68=Interval(low68, high68),
        interval_95=Interval(low95, high95),
        grid_redshift=_PUBLISHED_REDSHIFT,
        grid_probability=cells.astype(np.float32),
        identifications=modes,
        inputs=inputs,
    )


def most_likely_right(cumulative: Array, posterior: RedshiftPosterior) -> float:
    """Of the median and the identified modes, the redshift with most probability within 5 %.

    Lines make separate narrow modes, and the median may lie between them, where no galaxy is.

    Args:
        cumulative: of one galaxy on the fine grid, see ``cumulated``.
        posterior: of the same.
    """
    if not posterior.identifications:
        return posterior.best
    trials = np.array([posterior.best, *(mode.redshift for mode in posterior.identifications)])
    low_high = np.log1p(trials) - np.log([[1 + _NEAR], [1 - _NEAR]])
    below, upto = np.interp(low_high, FINE_EDGES, cumulative)
    return float(trials[np.argmax(upto - below)])


def identify(
    probability: Array, cumulative: Array, found: list[spectral_lines.DetectedLine]
) -> list[LineIdentification]:
    """Modes of the posterior at which lines of the comb fall on significant features.

    Args:
        probability: of one galaxy on the fine grid.
        cumulative: the same below each edge, see ``cumulated``.
        found: significant lines of its spectrum.
    """
    if not found:
        return []
    step = FINE[1] - FINE[0]
    cells = np.unique(np.rint(comb.candidate_redshifts(found) / step).astype(int))
    starts = np.maximum(cells - _MODE_BINS, 0)
    stops = np.minimum(cells + _MODE_BINS + 1, len(probability))
    inside = cumulative[stops] - cumulative[starts]
    modes: list[LineIdentification] = []
    taken = np.zeros(len(probability), bool)
    for order in np.argsort(-inside):
        if inside[order] < _LEAST_MODE:
            break
        mode = slice(int(starts[order]), int(stops[order]))
        if taken[mode].any():
            continue
        taken[mode] = True
        share = probability[mode]
        redshift = float(np.expm1(np.sum(share * FINE[mode]) / share.sum()))
        named = comb.names_at(redshift, found)
        modes.append(
            LineIdentification(
                redshift=redshift,
                probability=float(min(share.sum(), 1.0)),
                lines=[name for name, _ in named],
                observed_frequencies_hz=[frequency for _, frequency in named],
            )
        )
    return modes
