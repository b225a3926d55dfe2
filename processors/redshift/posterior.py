"""Makes posteriors of evidence: quantiles, modes, and the lines that explain each mode."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mmbroker.processors.redshift import comb, spectral_lines
from mmbroker.processors.redshift.grids import COARSE, FINE, PUBLISHED, Array
from mmbroker.processors.redshift.modes import densest, modes_of
from mmbroker.schemas.events import (
    Interval,
    LineIdentification,
    RedshiftMode,
    RedshiftPosterior,
)

_MODE_BINS = 4  # fine cells on either side of a line identification, 1000 km/s
_LEAST_MODE = 0.005


def posteriors_of(log_posterior: Array, inputs: Sequence[Sequence[str]]) -> list[RedshiftPosterior]:
    """Make posteriors without lines from the ln of unnormalised densities.

    Args:
        log_posterior: ln of the density per unit of ln(1 + z), shape (galaxies, COARSE).
        inputs: for each galaxy, the kinds of evidence that its posterior rests on.
    """
    probability = to_probability(log_posterior)
    return posteriors_from(
        probability, cumulated(probability), COARSE_EDGES, inputs, [[] for _ in inputs]
    )


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


FINE_EDGES, COARSE_EDGES = _edges(FINE), _edges(COARSE)
"""Edges of the grids' cells in ln(1 + z), one more than there are cells."""

_PUBLISHED_REDSHIFT = np.expm1(PUBLISHED).astype(np.float32)

_LEVELS: Array = np.array([0.025, 0.16, 0.84, 0.975])


def cumulated(probability: Array) -> Array:
    """Probability below each edge of the grid's cells, shape (galaxies, cells + 1).

    Args:
        probability: of the cells, float64, shape (galaxies, cells).
    """
    cumulative = np.zeros((len(probability), probability.shape[1] + 1))
    np.cumsum(probability, axis=1, out=cumulative[:, 1:])
    return cumulative


def quantiles_of(cumulative: Array, edges: Array) -> Array:
    """Redshifts at ``_LEVELS`` of the cumulative probability, float64, shape (galaxies, 4).

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


def posteriors_from(
    probability: Array,
    cumulative: Array,
    edges: Array,
    inputs: Sequence[Sequence[str]],
    identifications: Sequence[list[LineIdentification]],
) -> list[RedshiftPosterior]:
    """Posteriors of N galaxies as they are published.

    Args:
        probability: of the cells of a grid, float64, shape (N, cells).
        cumulative: the same below each edge, see ``cumulated``.
        edges: of the cells, in ln(1 + z), shape (cells + 1,).
        inputs: for each galaxy, what its posterior rests on.
        identifications: for each galaxy, what its lines were identified as.
    """
    quantiles = quantiles_of(cumulative, edges).tolist()
    count, size = probability.shape
    cells = probability.reshape(count, len(PUBLISHED), size // len(PUBLISHED)).sum(axis=2)
    per_cell = size // len(COARSE)
    found = modes_of(cumulative, edges, per_cell)
    result = []
    for row, one in enumerate(found):
        low95, low68, high68, high95 = quantiles[row]
        best = _stated(one.best, identifications[row])
        inner, outer = (
            _around([Interval(*ends)], best) for ends in ((low68, high68), (low95, high95))
        )
        pieces = [inner]
        if one.several:
            # Without lines the cells of a spectrum say no more than wider ones, and take long.
            step = 1 if identifications[row] else per_cell
            some = probability[row].reshape(-1, step).sum(axis=1)
            pieces, wider = densest(some, edges[::step], 0.68, 0.95)
            inner, outer = _around(pieces, best), _around(wider, best)
        result.append(
            RedshiftPosterior(
                best=best,
                interval_68=inner,
                interval_95=outer,
                grid_redshift=_PUBLISHED_REDSHIFT,
                grid_probability=cells[row].astype(np.float32),
                identifications=identifications[row],
                inputs=list(inputs[row]),
                modes=one.modes,
                interval_68_pieces=pieces,
            )
        )
    return result


def _stated(mode: RedshiftMode, identifications: Sequence[LineIdentification]) -> float:
    """The redshift of the lines that make most of a mode, or else its median."""
    inside = [each for each in identifications if mode.lower <= each.redshift <= mode.upper]
    likeliest = max(inside, key=lambda each: each.probability, default=None)
    if likeliest is not None and likeliest.probability >= mode.probability / 2:
        return likeliest.redshift
    return mode.median


def _around(pieces: Sequence[Interval], redshift: float) -> Interval:
    """From the lowest to the highest of some intervals; it includes a redshift."""
    return Interval(min(pieces[0].lower, redshift), max(pieces[-1].upper, redshift))


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
