"""Compares the comb of CO, [CI] and [CII] lines with the spectrum at every trial redshift.

The spectrum without its continuum is filtered with the profile of a line. For each bin this gives
the flux of a line centred there, and its error. Trial redshifts move every line by whole bins, so
the comb is a sum of shifted copies of one table with a row for each bin and a column for each
brightness of the galaxy. A line that is seen counts for a redshift, and an expected line that is
not seen counts against it.
"""

from __future__ import annotations

from operator import attrgetter

import numpy as np
from numba import njit
from numpy.typing import NDArray

from mmbroker.processors import relations
from mmbroker.processors.frequency_grid import LOG_EDGES, LOG_STEP
from mmbroker.processors.redshift import luminosity
from mmbroker.processors.redshift.comb_ratios import LOG_FLUX, STEP, LineRatios
from mmbroker.processors.redshift.grids import (
    COARSE_PER_NODE,
    FINE,
    FINE_PER_COARSE,
    FINE_POINTS,
    NODES,
    Array,
    Array32,
)
from mmbroker.processors.redshift.spectral_lines import (
    DetectedLine,
    Filtered,
    Residual,
)

EVIDENCE_WEIGHT = 0.75
"""Exponent of the comb's likelihood in a posterior.

The noise of real spectra differs from what the likelihood assumes, and a wrong likelihood is
overconfident; an exponent below 1 repairs that (Grünwald & van Ommen 2017, Bayesian Analysis 12,
1069). Assumed: several values were tried on simulated galaxies (seeds 11 to 13 of
``models.simulation.observations``). With this one the stated probabilities were most nearly right,
and the density at the truth was nearly highest."""

_BRIGHTNESS: Array = np.arange(np.log(1e9), np.log(1e13), STEP)
"""ln(L'_CO(1-0) / (K km/s pc2)) of the trial brightnesses, apparent where a galaxy is lensed; shape
(brightnesses,)."""

_NAMES = tuple(relations.LINES_HZ)
_REST_HZ: Array = np.array([relations.LINES_HZ[name] for name in _NAMES])
_LOG_RATIO: Array = np.log([relations.LINE_RATIOS[name] for name in _NAMES])

_FINE_PER_NODE = FINE_PER_COARSE * COARSE_PER_NODE
_FIRST_NODE = (_FINE_PER_NODE - 1) / 2  # in fine cells

_BLENDED = np.append(False, np.diff(np.log(_REST_HZ)) < 1500.0 / relations.SPEED_OF_LIGHT_KM_S)
"""Whether a line is blended with the line before it, bool, shape (lines,)."""


class Comb:
    """The comb at every trial redshift of the fine grid."""

    def __init__(self) -> None:
        # F = L' nu_rest**2 (1+z) / (3.25e7 D_L**2), from the definition of L'. D_L / ln(1+z) is
        # smooth enough to interpolate.
        log_distance = np.log(luminosity.LUMINOSITY_DISTANCE_MPC / NODES)
        log_distance = np.interp(FINE, NODES, log_distance) + np.log(FINE + 0.5 * LOG_STEP)
        scale = FINE - 2 * log_distance - np.log(relations.LINE_LUMINOSITY_FACTOR)
        strength = 2 * np.log(_REST_HZ / 1e9) + _LOG_RATIO
        log_flux = scale[:, None] + strength[None, :] + _BRIGHTNESS[0] - LOG_FLUX[0]
        self._column = np.clip(
            np.rint(log_flux / STEP), 0, len(LOG_FLUX) - len(_BRIGHTNESS)
        ).astype(int)
        """Column of the table of fluxes for the faintest brightness, shape (FINE_POINTS, lines)."""
        place = (np.log(_REST_HZ) - FINE[0] - LOG_EDGES[0]) / LOG_STEP - 0.5
        self._bin = np.rint(place).astype(int)
        """Bin of each line at the first trial redshift, shape (lines,).

        It is one lower at each next trial redshift.
        """
        self._beside = np.where(place < self._bin, -1, 1)
        """Side of the second nearest bin of each line: 1 above, -1 below; shape (lines,)."""
        share = np.maximum(np.abs(place - self._bin), 1e-3)
        self._log_shares = np.log([1 - share, share]).T.astype(np.float32)
        """ln of the shares of a trial redshift's cell in which a line falls on its nearest and
        on its second nearest bin, shape (lines, 2)."""
        self._ratios = LineRatios()

    def log_likelihood(
        self,
        observed: Residual,
        copies: list[Filtered],
        log_luminosity: Array | None,
        variance: Array | None,
    ) -> Array:
        """The ln of the likelihood ratio against a spectrum without lines, shape (FINE_POINTS,).

        All lines of a galaxy are taken to have the width of its clearest line.

        Args:
            observed: the spectrum without its continuum.
            copies: the spectrum filtered with each trial width.
            log_luminosity: mean of ln(L_IR / Lsun), shape (NODES,); None if unknown.
            variance: variance of ln(L_IR / Lsun), shape (NODES,); None if unknown.
        """
        copy = max(copies, key=attrgetter("highest"))
        log_ratio, row = self._ratios.of(copy.flux, copy.inverse_variance)
        joint = np.empty((FINE_POINTS, len(_BRIGHTNESS)), np.float32)
        covered = np.empty(FINE_POINTS, np.int64)
        largest = np.empty(FINE_POINTS, np.float32)
        count = _sum_over_lines(
            log_ratio,
            row,
            self._bin - observed.first_bin,
            self._beside,
            self._log_shares,
            self._column,
            _log_brightness_prior(log_luminosity, variance),
            joint,
            covered,
            largest,
        )
        share = np.exp(joint[:count]) @ np.ones(len(_BRIGHTNESS), np.float32)
        result = np.zeros(FINE_POINTS)
        result[covered[:count]] = largest[:count] + np.log(share)
        return result


@njit(cache=True)
def _sum_over_lines(
    log_ratio: Array32,
    row: NDArray[np.int64],
    line_bin: NDArray[np.int64],
    line_beside: NDArray[np.int64],
    log_shares: Array32,
    column: NDArray[np.int64],
    log_prior: Array32,
    joint: Array32,
    covered: NDArray[np.int64],
    largest: Array32,
) -> int:
    """Sum the ln of prior and likelihood ratios of all lines observed at a trial redshift.

    Args:
        log_ratio: ln of the likelihood ratios, see ``LineRatios.of``, shape (observed bins,
            fluxes).
        row: row of ``log_ratio`` for each bin of the spectrum; -1 where the bin was not observed;
            shape (bins,).
        line_bin: bin of each line at the first trial redshift, ascending, shape (lines,).
        line_beside: side of the second nearest bin of each line, 1 or -1, shape (lines,).
        log_shares: ln of the shares of the nearest and the second nearest bin, shape (lines, 2).
        column: column in ``log_ratio`` of the faintest brightness, shape (FINE_POINTS, lines).
        log_prior: ln of the prior of each brightness, shape (NODES, brightnesses).
        joint: output: the sums less about the largest of them, with a row for each covered trial;
            shape (FINE_POINTS, brightnesses).
        covered: output: the trials at which a line was observed, shape (FINE_POINTS,).
        largest: output: what was subtracted from each row of ``joint``, shape (FINE_POINTS,).

    Returns:
        Number of covered trials. Only so many entries of the outputs are set.
    """
    brightnesses = joint.shape[1]
    last = np.empty(brightnesses, np.float32)  # what the previous line added
    count = first_line = stop_line = 0
    for trial in range(len(covered)):
        # The lines that fall on the spectrum.
        while first_line < len(line_bin) and line_bin[first_line] < trial:
            first_line += 1
        while stop_line < len(line_bin) and line_bin[stop_line] < trial + len(row):
            stop_line += 1
        found = False
        total = joint[count]
        before = False  # whether a previous line may see the same photons
        for line in range(first_line, stop_line):
            near = line_bin[line] - trial
            far = near + line_beside[line]
            seen, beside = row[near], row[far] if 0 <= far < len(row) else -1
            if seen < 0:
                before = False
                continue
            if not found:
                _interpolate(log_prior, trial, total)
                found = True
            # Slices, since indices that might be negative keep the loops from being vectorised.
            first, shares = column[trial, line], log_shares[line]
            one = log_ratio[seen, first : first + brightnesses]
            other = log_ratio[max(beside, 0), first : first + brightnesses]
            if beside < 0:
                other = one
            if _BLENDED[line] and before:
                # Of two blended lines the better one counts.
                for index in range(brightnesses):
                    added = max(one[index] + shares[0], other[index] + shares[1])
                    total[index] += max(added - last[index], np.float32(0))
                    last[index] = added
            else:
                for index in range(brightnesses):
                    added = max(one[index] + shares[0], other[index] + shares[1])
                    total[index] += added
                    last[index] = added
            before = True
        if found:
            covered[count] = trial
            # Every fourth is near enough to the largest to keep the exponentials in range.
            reference = total[0]
            for index in range(4, brightnesses, 4):
                reference = max(reference, total[index])
            for index in range(brightnesses):
                total[index] -= reference
            largest[count] = reference
            count += 1
    return count


@njit(cache=True)
def _interpolate(at_nodes: Array32, trial: int, result: Array32) -> None:
    """Interpolate between the nodes around a fine trial redshift, into ``result``."""
    place = (trial - _FIRST_NODE) / _FINE_PER_NODE
    place = min(max(place, 0.0), len(at_nodes) - 1.0)
    left = min(int(place), len(at_nodes) - 2)
    lower, upper, share = at_nodes[left], at_nodes[left + 1], np.float32(place - left)
    for index in range(len(result)):
        result[index] = lower[index] + share * (upper[index] - lower[index])


def _log_brightness_prior(log_luminosity: Array | None, variance: Array | None) -> Array32:
    """The ln of the prior probability of each brightness, shape (NODES, brightnesses).

    It is uniform if the infrared luminosity is unknown.
    """
    if log_luminosity is None or variance is None:
        shape = len(NODES), len(_BRIGHTNESS)
        return np.full(shape, -np.log(len(_BRIGHTNESS)), np.float32)
    dex = np.log(10)
    slope = relations.CO_LUMINOSITY_SLOPE
    mean = (log_luminosity - relations.CO_LUMINOSITY_INTERCEPT * dex) / slope
    total = variance / slope**2 + (relations.CO_LUMINOSITY_SCATTER_DEX * dex) ** 2
    log_share = -0.5 * np.square(_BRIGHTNESS[None, :] - mean[:, None]) / total[:, None]
    log_share -= np.log(np.exp(log_share).sum(axis=1, keepdims=True) + 1e-300)
    return np.asarray(log_share, np.float32)


def names_at(
    redshift: float, lines: list[DetectedLine], tolerance_bins: float = 2.5
) -> list[tuple[str, float]]:
    """Names and frequencies (Hz) of the comb's lines that fall on significant lines."""
    expected = (np.log(_REST_HZ / (1 + redshift)) - LOG_EDGES[0]) / LOG_STEP - 0.5
    matched = []
    for name, place in zip(_NAMES, expected.tolist(), strict=True):
        near = [line for line in lines if abs(line.bin - place) <= tolerance_bins]
        if near:
            nearest = min(near, key=lambda line: abs(line.bin - place))
            matched.append((name, nearest.frequency_hz))
    return matched


def candidate_redshifts(lines: list[DetectedLine]) -> Array:
    """ln(1 + z) for every pairing of a significant line with a line of the comb, ascending."""
    frequencies = np.array([line.frequency_hz for line in lines])
    shifts = np.log(_REST_HZ[:, None] / frequencies[None, :]).ravel()
    return np.sort(shifts[(shifts >= 0) & (shifts <= FINE[-1])])
