"""Measures fluxes of the comb's lines in merged spectra at known redshifts, also of faint lines.

All lines of a galaxy are taken to have the same width. Fluxes are means over widths, weighted by
how well a width fits all lines together. Where no line is bright enough to fix the width, the
widths typical of such galaxies have the most weight.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mmbroker.processors import relations
from mmbroker.processors.frequency_grid import BIN_WIDTH_KM_S, LOG_EDGES, LOG_STEP
from mmbroker.processors.redshift.spectral_lines import Residual
from mmbroker.processors.relations import FWHM_PER_SIGMA

Array = NDArray[np.float64]
Integers = NDArray[np.int64]

LINES = (
    *("CO(1-0)", "CO(2-1)", "CO(3-2)", "CO(4-3)", "[CI](1-0)", "CO(5-4)", "CO(6-5)"),
    *("CO(7-6)", "[CI](2-1)", "CO(8-7)", "CO(9-8)", "[CII]"),
)
"""The lines that are measured and recovered, by rising frequency."""

_REST_HZ: Array = np.array([relations.LINES_HZ[name] for name in LINES])
_WIDTHS_KM_S: Array = np.geomspace(100.0, 1300.0, 10)
_LOG_WIDTH_PRIOR: Array = -0.5 * np.square(
    np.log10(_WIDTHS_KM_S / relations.LINE_WIDTH_KM_S) / relations.LINE_WIDTH_SCATTER_DEX
)
_REACH = 8  # bins on either side of its centre within which a line is fitted
_OFFSET: Integers = np.arange(-_REACH, _REACH + 1)
_BLEND_BINS = _REACH  # lines nearer to each other than this are fitted together


@dataclass(frozen=True, slots=True, eq=False)
class MeasuredLines:
    """Lines of N spectra, in the order of LINES.

    Attributes:
        flux_jy_km_s: fluxes, float64, shape (N, LINES); 0 where not observed.
        error_jy_km_s: 1 sigma errors, float64, shape (N, LINES); inf where not observed.
        width_km_s: full width at half maximum, shape (N,).
    """

    flux_jy_km_s: Array
    error_jy_km_s: Array
    width_km_s: Array


def measure(observed: Sequence[Residual | None], redshift: Array) -> MeasuredLines:
    """Measure fluxes and errors of all lines of N galaxies.

    Args:
        observed: spectra without their continuum, see ``redshift.spectral_lines.residual``; None
            for a galaxy without a spectrum.
        redshift: redshifts of the galaxies, shape (N,).
    """
    count = len(observed)
    flux, error = np.zeros((count, len(LINES))), np.full((count, len(LINES)), np.inf)
    width = np.full(count, relations.LINE_WIDTH_KM_S)
    density, weight, start = _joined(observed)
    place = (np.log(_REST_HZ) - np.log1p(redshift)[:, None] - LOG_EDGES[0]) / LOG_STEP - 0.5
    first = np.array([0 if one is None else one.first_bin for one in observed])
    length = np.array([0 if one is None else len(one.flux) for one in observed])
    inside = place - first[:, None]
    nearest = np.rint(inside).astype(np.int64)
    covered = (nearest >= 0) & (nearest < length[:, None])
    covered[covered] = weight[(start[:, None] + nearest)[covered]] > 0
    galaxy, line = np.nonzero(covered)
    if not len(galaxy):
        return MeasuredLines(flux, error, width)
    bins = (start[:, None] + nearest)[covered][:, None] + _OFFSET
    shift = (nearest - inside)[covered]
    profile = _profile(_OFFSET + shift[:, None])  # (pairs, widths, bins)
    weighted = profile * weight[bins][:, None]
    product = np.einsum("pwb,pb->pw", weighted, density[bins])
    square = np.einsum("pwb,pwb->pw", weighted, profile)

    # Neighbouring lines of one galaxy whose profiles overlap.
    second = np.flatnonzero(
        (np.diff(galaxy) == 0) & (np.abs(np.diff(inside[galaxy, line])) < _BLEND_BINS)
    )
    apart = np.diff(inside[galaxy, line])[second]
    other = _profile(_OFFSET + (shift[second] - apart)[:, None])
    cross = np.einsum("pwb,pwb->pw", weighted[second], other)
    fitted, variance = product / square, 1 / square
    one, two = second, second + 1
    determinant = square[one] * square[two] - cross**2
    fitted[one], fitted[two] = (
        (product[one] * square[two] - product[two] * cross) / determinant,
        (product[two] * square[one] - product[one] * cross) / determinant,
    )
    variance[one], variance[two] = square[two] / determinant, square[one] / determinant

    improvement = 0.5 * product * np.maximum(fitted, 0.0)
    score = np.zeros((count, len(_WIDTHS_KM_S))) + _LOG_WIDTH_PRIOR
    np.add.at(score, galaxy, improvement)
    share = np.exp(score - score.max(axis=1, keepdims=True))
    share /= share.sum(axis=1, keepdims=True)
    width = np.exp(share @ np.log(_WIDTHS_KM_S))
    of_pair = share[galaxy]
    mean = (of_pair * fitted).sum(axis=1)
    flux[galaxy, line] = mean
    # The noise, and the scatter of the flux between widths.
    error[galaxy, line] = np.sqrt(
        (of_pair * (variance + np.square(fitted - mean[:, None]))).sum(axis=1)
    )
    return MeasuredLines(flux, error, width)


def _joined(observed: Sequence[Residual | None]) -> tuple[Array, Array, Integers]:
    """Join spectra to one array, with gaps as wide as the reach of a line.

    Returns:
        Flux density, weight, and the index at which each spectrum starts.
    """
    gap = np.zeros(_REACH)
    fluxes, weights, starts, end = [gap], [gap], [], _REACH
    for one in observed:
        starts.append(end)
        if one is not None:
            fluxes += [one.flux, gap]
            weights += [one.weight, gap]
            end += len(one.flux) + _REACH
    return np.concatenate(fluxes), np.concatenate(weights), np.array(starts, np.int64)


def _profile(offset: Array) -> Array:
    """Flux density in Jy of a line of 1 Jy km/s, (..., widths, bins), at offsets (..., bins)."""
    sigma = np.hypot(_WIDTHS_KM_S / FWHM_PER_SIGMA, BIN_WIDTH_KM_S / np.sqrt(12))
    velocity = offset[..., None, :] * BIN_WIDTH_KM_S / sigma[:, None]
    return np.asarray(np.exp(-0.5 * np.square(velocity)) / (np.sqrt(2 * np.pi) * sigma[:, None]))
