"""Finds lines in a merged spectrum: subtracts the continuum and applies a matched filter."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache, reduce
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from mmbroker.processors.features.continuum import robust_scatter
from mmbroker.processors.frequency_grid import BIN_WIDTH_KM_S, CENTRES_HZ
from mmbroker.processors.redshift.grids import Array
from mmbroker.processors.relations import FWHM_PER_SIGMA
from mmbroker.schemas.events import CHUNK_BINS, Fingerprint, Floats

SIGNIFICANT = 5.0
"""Lowest signal-to-noise ratio of a line that is reported."""

WIDTHS_KM_S = (350.0, 700.0)
"""Trial full widths at half maximum, around that of submillimetre galaxies (see
``relations.LINE_WIDTH_KM_S``)."""

_FINE_WIDTHS_KM_S = tuple(np.geomspace(150.0, 1500.0, 12).tolist())
CONTINUUM_BINS = 2 * CHUNK_BINS
"""Of a spectrum, over which its continuum is a straight line."""

TRUSTED_BINS = 45
"""Assumed: as many bins the stated errors are worth beside what a spectrum scatters by."""


@dataclass(frozen=True, slots=True)
class DetectedLine:
    """A significant line of the spectrum."""

    bin: int
    frequency_hz: float
    flux_jy_km_s: float
    peak_jy: float
    width_km_s: float
    signal_to_noise: float


@dataclass(frozen=True, slots=True, eq=False)
class Residual:
    """A spectrum without its continuum, from its first observed chunk to its last.

    The arrays are float64, of shape (bins,).

    Attributes:
        first_bin: the place of its first bin on the spectral grid.
        flux: flux density in Jy; 0 where nothing was observed.
        weight: inverse variance in Jy**-2; 0 where nothing was observed. It follows the scatter of
            the spectrum where that is larger than the stated errors.
    """

    first_bin: int
    flux: Array
    weight: Array


@dataclass(frozen=True, slots=True, eq=False)
class Filtered:
    """A residual spectrum filtered with the profile of a line; arrays have shape (bins,).

    Attributes:
        flux: flux in Jy km/s of a line centred on each bin; 0 where nothing was observed.
        inverse_variance: inverse variance of the flux; 0 where nothing was observed.
        signal_to_noise: signal-to-noise ratio of the flux; 0 where nothing was observed.
        highest: the highest signal-to-noise ratio.
    """

    flux: Array
    inverse_variance: Array
    signal_to_noise: Array
    highest: float


def residual(fingerprint: Fingerprint) -> Residual:
    """The spectrum of a fingerprint without its continuum, with realistic errors.

    In correlators neighbouring channels share noise, baselines have ripples, and errors are
    misjudged. So the output of a filter for lines scatters more than the stated errors say.
    """
    first, flux, weight = _residual(
        fingerprint.chunk_index, fingerprint.chunk_weight, fingerprint.chunk_weighted_flux
    )
    return Residual(first, flux, weight / _own_variance(flux, weight, _profile(WIDTHS_KM_S[0])))


@njit(cache=True)
def _residual(
    index: NDArray[np.signedinteger[Any]], chunk_weight: Floats, chunk_weighted_flux: Floats
) -> tuple[int, Array, Array]:
    first = int(index.min())
    bins = (int(index.max()) - first + 1) * CHUNK_BINS
    flux, weight = np.zeros(bins), np.zeros(bins)
    for chunk in range(len(index)):
        start = (int(index[chunk]) - first) * CHUNK_BINS
        for place in range(CHUNK_BINS):
            if chunk_weight[chunk, place] > 0:
                weight[start + place] = chunk_weight[chunk, place]
                flux[start + place] = chunk_weighted_flux[chunk, place] / weight[start + place]
    return first * CHUNK_BINS, subtract_continuum(flux, weight), weight


@njit(cache=True)
def subtract_continuum(flux: Array, weight: Array) -> Array:
    """Subtract the continuum: a running straight line, fitted without clipped lines.

    Args:
        flux: flux density in Jy, float64, shape (bins,).
        weight: inverse variance, float64, shape (bins,); 0 where nothing was observed.
    """
    bins = len(flux)
    used = weight.copy()
    continuum = np.zeros(bins)
    for _ in range(4):
        _running_line(flux, used, weight > 0, continuum)
        clipped = weight.copy()
        for index in range(bins):
            if abs(flux[index] - continuum[index]) * np.sqrt(weight[index]) > 3:
                # Clip two more bins on either side: they are the wings of the line.
                clipped[max(index - 2, 0) : index + 3] = 0.0
        if (clipped == used).all():
            break
        used = clipped
    return np.where(weight > 0, flux - continuum, 0.0)


@njit(cache=True)
def _running_line(flux: Array, weight: Array, wanted: NDArray[np.bool_], continuum: Array) -> None:
    """Set the continuum in each wanted bin by a weighted straight line through the bins around.

    With few bins around it is their mean. Without any, the continuum stays as it was.
    """
    bins = len(flux)
    totals, flux_sums, index_sums = np.zeros(bins + 1), np.zeros(bins + 1), np.zeros(bins + 1)
    square_sums, product_sums, counts = np.zeros(bins + 1), np.zeros(bins + 1), np.zeros(bins + 1)
    for index in range(bins):
        moment = weight[index]
        totals[index + 1] = totals[index] + moment
        flux_sums[index + 1] = flux_sums[index] + moment * flux[index]
        index_sums[index + 1] = index_sums[index] + moment * index
        square_sums[index + 1] = square_sums[index] + moment * index * index
        product_sums[index + 1] = product_sums[index] + moment * index * flux[index]
        counts[index + 1] = counts[index] + (moment > 0)
    half = CONTINUUM_BINS // 2
    for index in range(bins):
        low, high = max(index - half, 0), min(index + half + 1, bins)
        count = counts[high] - counts[low]
        if count == 0 or not wanted[index]:
            continue
        total = totals[high] - totals[low]
        if total <= 0:  # the weights elsewhere are so large that these are lost in rounding
            continue
        mean = (flux_sums[high] - flux_sums[low]) / total
        centre = (index_sums[high] - index_sums[low]) / total
        slope = 0.0
        if count >= CONTINUUM_BINS / 4:
            variance = (square_sums[high] - square_sums[low]) / total - centre * centre
            product = (product_sums[high] - product_sums[low]) / total - centre * mean
            slope = product / max(variance, 1.0)
        continuum[index] = mean + slope * (index - centre)


def matched_filter(flux_density: Array, weight: Array, width_km_s: float) -> Filtered:
    """Flux and error of a Gaussian line of the given full width at half maximum at each bin."""
    return Filtered(*_filtered(flux_density, weight, _profile(width_km_s)))


@njit(cache=True)
def _filtered(
    flux_density: Array, weight: Array, profile: Array
) -> tuple[Array, Array, Array, float]:
    bins = len(weight)
    flux, inverse_variance, ratio = np.zeros(bins), np.zeros(bins), np.zeros(bins)
    for index in range(bins):
        if weight[index] > 0:  # the centre of the line has to be observed
            flux[index], inverse_variance[index] = _line_at(index, flux_density, weight, profile)
            ratio[index] = flux[index] * np.sqrt(inverse_variance[index])
    return flux, inverse_variance, ratio, ratio.max()


@njit(cache=True)
def _own_variance(flux_density: Array, weight: Array, profile: Array) -> float:
    """Variance of a filter's output over what its errors say; at least 1.

    It is measured with the median absolute value, since most of a spectrum is free of lines. With
    few bins the stated errors keep most of their weight.
    """
    observed = weight > 0
    ratio = _filtered(flux_density, weight, profile)[2]
    excess = max(robust_scatter(ratio, observed) ** 2 - 1, 0.0)
    bins = observed.sum()
    return float(1 + excess * bins / (bins + TRUSTED_BINS))


@njit(cache=True)
def _line_at(index: int, flux_density: Array, weight: Array, profile: Array) -> tuple[float, float]:
    """Flux of a line centred on an observed bin, and its inverse variance."""
    reach = len(profile) // 2
    signal = inverse = 0.0
    for other in range(max(index - reach, 0), min(index + reach + 1, len(weight))):
        share = profile[other - index + reach]
        signal += weight[other] * flux_density[other] * share
        inverse += weight[other] * share * share
    return signal / inverse, inverse


@cache
def _profile(width_km_s: float) -> Array:
    """Flux density per bin of a line of 1 Jy km/s, in Jy, shape (odd,)."""
    sigma = np.hypot(width_km_s / FWHM_PER_SIGMA, BIN_WIDTH_KM_S / np.sqrt(12))
    reach = int(np.ceil(3 * sigma / BIN_WIDTH_KM_S))
    velocity = np.arange(-reach, reach + 1) * BIN_WIDTH_KM_S
    shape = np.exp(-0.5 * np.square(velocity / sigma))
    return np.asarray(shape / (shape.sum() * BIN_WIDTH_KM_S))


def filtered(observed: Residual) -> list[Filtered]:
    """The spectrum filtered with each trial width."""
    return [matched_filter(observed.flux, observed.weight, width) for width in WIDTHS_KM_S]


def significant(observed: Residual, copies: list[Filtered]) -> list[DetectedLine]:
    """The significant lines, by falling signal-to-noise ratio.

    A candidate within the width of a brighter line is not a line of its own.

    Args:
        observed: the spectrum without its continuum.
        copies: the spectrum filtered with each trial width.
    """
    found: list[DetectedLine] = []
    if max(copy.highest for copy in copies) < SIGNIFICANT:
        return found
    best = reduce(np.maximum, [copy.signal_to_noise for copy in copies])
    taken = np.zeros(len(best), bool)
    bright = np.flatnonzero(best >= SIGNIFICANT)
    for index in bright[np.argsort(-best[bright])]:
        if taken[index]:
            continue
        line = _measured(observed, int(index))
        reach = int(np.ceil(line.width_km_s / BIN_WIDTH_KM_S)) + 1
        taken[max(index - reach, 0) : index + reach + 1] = True
        found.append(line)
    return found


def _measured(observed: Residual, index: int) -> DetectedLine:
    """The line centred on a bin, with the width that gives the highest signal-to-noise ratio."""
    trials = [
        _line_at(index, observed.flux, observed.weight, _profile(width))
        for width in _FINE_WIDTHS_KM_S
    ]
    ratios = [flux * math.sqrt(inverse) for flux, inverse in trials]
    best = max(range(len(ratios)), key=ratios.__getitem__)
    flux, width = trials[best][0], _FINE_WIDTHS_KM_S[best]
    absolute = observed.first_bin + index
    return DetectedLine(
        bin=absolute,
        frequency_hz=float(CENTRES_HZ[absolute]),
        flux_jy_km_s=flux,
        peak_jy=flux * float(_profile(width).max()),
        width_km_s=width,
        signal_to_noise=ratios[best],
    )
