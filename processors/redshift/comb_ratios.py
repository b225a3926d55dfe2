"""Computes likelihood ratios of a measured flux, with a line of an expected flux and without one.

In units of the noise, a ratio depends on two numbers only: the measured signal-to-noise ratio, and
the expected flux over the noise. The ratios are tabulated once and then read for every bin of a
spectrum.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from mmbroker.processors import relations
from mmbroker.processors.redshift.grids import Array, Array32

STEP = 0.4
"""Step in ln(flux), smaller than the scatter of line ratios."""

LOG_FLUX: Array = np.arange(np.log(1e-5), np.log(1e5), STEP)
"""ln(expected flux / (Jy km/s)) for which the ratios are given, shape (fluxes,)."""

ABSENT = 0.05
"""Assumed share of lines outside the scatter: absorbed, lensed differently, an odd ratio."""

ARTEFACTS = 3e-4
ARTEFACT_WIDTH = 10.0
"""Share of bins with an artefact, and the scatter of artefacts in units of the noise.

An artefact is neither noise nor a line of the galaxy: a bad channel, a ripple or a line of another
galaxy. Assumed: several values were tried on simulated spectra (seeds 77 of
``models.simulation.observations``, 904 of ``models.simulation.spectra``). With these, the density
of the posteriors at the truth was nearly highest in both samples."""

TRUSTED = 8.0  # signal-to-noise ratio

FEATURE = 2
"""Number of bins on either side to which a line reaches, seen through a filter of its own width.

An artefact explains all of such a feature. So each bin is compared with an artefact of the highest
signal-to-noise ratio around it, and a line beside the middle of an artefact is not preferred."""

_NEGLIGIBLE = -5.0  # ln of the odds below which an artefact does not count

_ROW_STEP = 0.1
_LARGEST_ROW = 60.0  # a signal-to-noise ratio of 5,000
_PHASES = 8
"""Number of fluxes within a step for which the table has columns."""

_LOG_EXPECTED: Array = np.arange(np.log(1e-4), np.log(3e5), STEP / _PHASES)
"""ln(expected flux / noise) of the table: below it a line cannot be seen, above it is excluded."""


class LineRatios:
    """The table of likelihood ratios."""

    def __init__(self) -> None:
        rows = np.arange(-_LARGEST_ROW, _LARGEST_ROW + _ROW_STEP / 2, _ROW_STEP)
        significance = np.sign(rows) * _significance(np.abs(rows))
        expected = np.exp(_LOG_EXPECTED)
        exponent = expected * (significance[:, None] - 0.5 * expected)
        exponent *= _trust(np.abs(significance))[:, None]
        scatter = relations.LINE_RATIO_SCATTER_DEX * np.log(10)
        spread = np.exp(-0.5 * np.square((_LOG_EXPECTED[:, None] - _LOG_EXPECTED) / scatter))
        ratio = np.exp(np.maximum(exponent, -700)) @ (spread / spread.sum(axis=0))
        table = np.log((1 - ABSENT) * ratio + ABSENT).astype(np.float32)
        columns = table.shape[1] // _PHASES
        by_phase = table[:, : columns * _PHASES].reshape(len(rows), columns, _PHASES)
        self._table = np.ascontiguousarray(by_phase.transpose(2, 0, 1))
        """ln of the ratios, shape (phases, rows, columns).

        The columns of one phase are ``STEP`` apart.
        """

    def of(self, measured: Array, inverse_variance: Array) -> tuple[Array32, NDArray[np.int64]]:
        """The ln of p(data | line of an expected flux) / p(data | no line) in each observed bin.

        Three effects are included: lines scatter about their expected flux, a few lines are absent,
        and some features are artefacts.

        Args:
            measured: fluxes in Jy km/s, shape (bins,).
            inverse_variance: inverse variances of the fluxes, 0 where nothing was observed, shape
                (bins,).

        Returns:
            The ln of the ratios for ``LOG_FLUX``, shape (observed bins, fluxes); and for each bin
            its row in them, -1 where nothing was observed, shape (bins,).
        """
        return _of(self._table, measured, inverse_variance)


@njit(cache=True)
def _trust(significance):  # type: ignore[no-untyped-def]
    """Factor on the ln of the likelihood of a feature with this signal-to-noise ratio.

    A very bright line differs from any template by more than its noise. So the factor is 1 up to
    ``TRUSTED``; beyond, it falls so that the effective signal-to-noise ratio grows only with the
    logarithm.
    """
    excess = np.maximum(significance / TRUSTED, 1.0)
    return np.square((1 + 0.25 * np.log(excess)) / excess)


@njit(cache=True)
def _log_artefact(significance: float) -> float:
    """The ln of how much more probable a feature is with an artefact than with noise alone.

    It has the same factor as a line of the same brightness, see ``_trust``.
    """
    square = significance * significance * _trust(significance)
    odds = math.log(ARTEFACTS / (1 - ARTEFACTS)) - math.log(ARTEFACT_WIDTH)
    return float(odds + 0.5 * square * (1 - 1 / ARTEFACT_WIDTH**2))


@njit(cache=True)
def _row(significance: float) -> float:
    """Position of a signal-to-noise ratio along the rows, which are equidistant in it.

    The position is the ratio itself up to ``TRUSTED`` and grows with its logarithm beyond.
    """
    if significance <= TRUSTED:
        return significance
    return min(TRUSTED * (1 + math.log(significance / TRUSTED)), _LARGEST_ROW)


def _significance(row: Array) -> Array:
    """The signal-to-noise ratio of a position; the inverse of ``_row``."""
    excess = np.maximum(row / TRUSTED - 1, 0)
    return np.asarray(np.minimum(row, TRUSTED) * np.exp(excess))


@njit(cache=True)
def _of(
    table: Array32, measured: Array, inverse_variance: Array
) -> tuple[Array32, NDArray[np.int64]]:
    row = np.full(len(measured), -1)
    observed = np.flatnonzero(inverse_variance)
    found = np.empty((len(observed), len(LOG_FLUX)), np.float32)
    for index in range(len(observed)):
        row[observed[index]] = index
        root = math.sqrt(inverse_variance[observed[index]])
        significance = measured[observed[index]] * root
        place = math.copysign(_row(abs(significance)), significance)
        # Column of the first flux, counted in phases; it may lie outside.
        first = (LOG_FLUX[0] + math.log(root) - _LOG_EXPECTED[0]) * (_PHASES / STEP)
        _read(table, (place + _LARGEST_ROW) / _ROW_STEP, round(first), found[index])
        artefact = _log_artefact(_peak(observed[index], measured, inverse_variance))
        if artefact > _NEGLIGIBLE:
            neither = np.logaddexp(0.0, artefact)
            for flux in range(len(LOG_FLUX)):
                found[index, flux] = np.logaddexp(found[index, flux], artefact) - neither
    return found, row


@njit(cache=True)
def _peak(place: int, measured: Array, inverse_variance: Array) -> float:
    """The highest absolute signal-to-noise ratio of the feature that a bin is part of."""
    highest = 0.0
    for other in range(max(place - FEATURE, 0), min(place + FEATURE + 1, len(measured))):
        square = measured[other] * measured[other] * inverse_variance[other]
        highest = max(highest, square)
    return math.sqrt(highest)


@njit(cache=True)
def _read(table: Array32, row: float, first: int, found: Array32) -> None:
    """Interpolate the ratios of one bin between two rows of the table.

    Args:
        table: the table of ``LineRatios``.
        row: position between the rows.
        first: column of the first flux, counted in phases; may lie outside of the table.
        found: output: ln of the ratios, shape (fluxes,).
    """
    phases, rows, columns = table.shape
    upper = min(int(row), rows - 2)
    share = np.float32(row - upper)
    phase, column = first % phases, first // phases
    one, other = table[phase, upper], table[phase, upper + 1]
    for flux in range(len(found)):
        place = min(max(column + flux, 0), columns - 1)
        found[flux] = one[place] + share * (other[place] - one[place])
