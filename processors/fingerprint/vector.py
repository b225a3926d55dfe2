"""Converts fingerprints to the vectors of fixed length that the networks read.

A vector has three blocks:

* ``BROADBAND``: flux densities in canonical wavelength intervals from the ultraviolet to metre
  waves, each the inverse-variance mean of the bands and maps in its interval;
* ``SPECTRUM``: the spectrum in elements of ``BINS_PER_ELEMENT`` bins of the frequency grid, min-max
  scaled within its spectral window (an ALMA receiver band);
* ``WINDOW_LIMITS``: the minima and the maxima of all windows. With them the scaling of the spectrum
  can be inverted from the vector alone.

Flux densities are compressed to asinh(flux density / depth), the scale of Lupton, Gunn & Szalay
(1999, AJ 118 1406): linear within the noise, where fluxes may be negative, and logarithmic above.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmbroker.processors.frequency_grid import BINS, CENTRES_HZ, CHUNKS
from mmbroker.processors.relations import (
    DEEP_SURVEY_DEPTHS,
    RECEIVER_BAND_EDGES_HZ,
    SPEED_OF_LIGHT_KM_S,
)
from mmbroker.schemas.events import CHUNK_BINS, Fingerprint, Floats, RedshiftPosterior

Float32 = NDArray[np.float32]
Indices = NDArray[np.int64]

WAVELENGTH_EDGES_UM: Floats = np.array(
    [
        # U, B, V, r, i, z, Y, J, H, K
        *(0.3, 0.4, 0.5, 0.58, 0.7, 0.83, 0.95, 1.13, 1.4, 1.9),
        # 3.6, 4.5, 5.8, 8, 16, 24, 30 to 60, 70, 100, 160 µm
        *(2.6, 4.0, 5.1, 6.7, 10.0, 19.0, 30.0, 60.0, 85.0, 125.0),
        # 250, 350, 500, 700, 850 µm, 1.1, 1.4, 2, 3 mm
        *(200.0, 290.0, 410.0, 560.0, 740.0, 1000.0, 1250.0, 1700.0, 2400.0),
        # 5 to 10 mm, 22, 15, 8, 5, 3, 1.4 GHz, 610, 325 MHz
        *(4e3, 1e4, 1.6e4, 2.5e4, 4.8e4, 8e4, 1.4e5, 3e5, 6.5e5, 1.2e6),
    ]
)
"""Edges in µm of the canonical intervals, between the common bands; shape (intervals + 1,)."""

BINS_PER_ELEMENT = 8
NOISIEST_ELEMENT = 4.0
"""An element is masked if it is noisier than the best of its window by more than this factor."""

_MICRON_HZ = SPEED_OF_LIGHT_KM_S * 1e9
_ELEMENTS_PER_CHUNK = CHUNK_BINS // BINS_PER_ELEMENT
_EDGES_HZ = _MICRON_HZ / WAVELENGTH_EDGES_UM[::-1]

BROADBAND_CENTRES_HZ: Floats = np.sqrt(_EDGES_HZ[1:] * _EDGES_HZ[:-1])
"""Centres of the canonical intervals in Hz, ascending; float64, shape (intervals,)."""

ELEMENT_CENTRES_HZ: Floats = np.exp(np.log(CENTRES_HZ).reshape(-1, BINS_PER_ELEMENT).mean(axis=1))
"""Centres of the spectral elements in Hz, ascending; float64, shape (elements,)."""

WINDOW_OF_ELEMENT: Indices = np.searchsorted(
    RECEIVER_BAND_EDGES_HZ, ELEMENT_CENTRES_HZ, side="right"
).astype(np.int64)
"""Index of the spectral window that each element is in; shape (elements,)."""

WINDOWS = len(RECEIVER_BAND_EDGES_HZ) + 1
_INTERVALS = len(BROADBAND_CENTRES_HZ)
_ELEMENTS = BINS // BINS_PER_ELEMENT

BROADBAND = slice(0, _INTERVALS)
SPECTRUM = slice(BROADBAND.stop, BROADBAND.stop + _ELEMENTS)
WINDOW_LIMITS = slice(SPECTRUM.stop, SPECTRUM.stop + 2 * WINDOWS)
LENGTH = WINDOW_LIMITS.stop
"""Length D of a vector."""

REDSHIFT_CELLS = 32
HIGHEST_REDSHIFT = 12.0
REDSHIFT_EDGES: Floats = np.expm1(np.linspace(0.0, np.log1p(HIGHEST_REDSHIFT), REDSHIFT_CELLS + 1))
"""Edges of the cells of ``condition``, equal in ln(1 + z); shape (REDSHIFT_CELLS + 1,)."""

_FIRST_ELEMENT = np.searchsorted(WINDOW_OF_ELEMENT, np.arange(WINDOWS))


def depth_jy(frequency_hz: Floats) -> Floats:
    """Depth of deep surveys in Jy, which is the scale of flux densities.

    Between the measured depths it is a power law of frequency; beyond them it is constant.
    """
    frequencies, depths = np.array(DEEP_SURVEY_DEPTHS).T
    depth: Floats = np.exp(np.interp(np.log(frequency_hz), np.log(frequencies), np.log(depths)))
    return depth


BROADBAND_DEPTH_JY = depth_jy(BROADBAND_CENTRES_HZ)
WINDOW_DEPTH_JY = depth_jy(ELEMENT_CENTRES_HZ[_FIRST_ELEMENT])


@dataclass(frozen=True, slots=True, eq=False)
class FingerprintVectors:
    """Vectors of N galaxies.

    Attributes:
        values: scaled flux densities, float32, shape (N, LENGTH); 0 where nothing was observed.
        mask: 1 where something was observed, else 0; float32, shape (N, LENGTH).
    """

    values: Float32
    mask: Float32

    def __len__(self) -> int:
        return len(self.values)

    @property
    def observed(self) -> NDArray[np.bool_]:
        """Whether each galaxy has any flux; a network can say nothing of the others. Shape (N,)."""
        return np.asarray(self.mask.any(axis=1))


@dataclass(frozen=True, slots=True, eq=False)
class FluxDensities:
    """The flux densities of vectors in Jy; NaN where nothing was observed.

    Attributes:
        broadband: flux densities at ``BROADBAND_CENTRES_HZ``, shape (N, intervals).
        spectrum: flux densities at ``ELEMENT_CENTRES_HZ``, shape (N, elements).
    """

    broadband: Floats
    spectrum: Floats


def vectors(fingerprints: Sequence[Fingerprint]) -> FingerprintVectors:
    """The vectors of fingerprints.

    An upper limit counts as a flux density of zero with the noise behind the limit.
    """
    return scale(FluxDensities(_broadband(fingerprints), _spectrum(fingerprints)))


def scale(fluxes: FluxDensities) -> FingerprintVectors:
    """Scale flux densities to vectors; ``unscale`` is its inverse."""
    count = len(fluxes.broadband)
    values = np.full((count, LENGTH), np.nan)
    values[:, BROADBAND] = np.arcsinh(fluxes.broadband / BROADBAND_DEPTH_JY)
    with_spectrum = np.flatnonzero(np.isfinite(fluxes.spectrum).any(axis=1))
    if len(with_spectrum):
        spectrum = fluxes.spectrum[with_spectrum]
        low = np.fmin.reduceat(spectrum, _FIRST_ELEMENT, axis=1)
        high = np.fmax.reduceat(spectrum, _FIRST_ELEMENT, axis=1)
        span = np.where(high > low, high - low, 1.0)
        scaled = (spectrum - low[:, WINDOW_OF_ELEMENT]) / span[:, WINDOW_OF_ELEMENT]
        values[with_spectrum, SPECTRUM] = scaled
        limits = np.concatenate([low / WINDOW_DEPTH_JY, high / WINDOW_DEPTH_JY], axis=1)
        values[with_spectrum, WINDOW_LIMITS] = np.arcsinh(limits)
    mask = np.isfinite(values)
    return FingerprintVectors(
        np.where(mask, values, 0.0).astype(np.float32), mask.astype(np.float32)
    )


def unscale(vectors: FingerprintVectors) -> FluxDensities:
    """The flux densities of vectors; inverse of ``scale`` within float32's precision."""
    values = np.where(vectors.mask > 0, vectors.values, np.nan).astype(np.float64)
    broadband = np.sinh(values[:, BROADBAND]) * BROADBAND_DEPTH_JY
    limits = np.sinh(values[:, WINDOW_LIMITS])
    low = limits[:, :WINDOWS] * WINDOW_DEPTH_JY
    high = limits[:, WINDOWS:] * WINDOW_DEPTH_JY
    spectrum = low[:, WINDOW_OF_ELEMENT] + values[:, SPECTRUM] * (high - low)[:, WINDOW_OF_ELEMENT]
    return FluxDensities(broadband, spectrum)


def condition(posteriors: Sequence[RedshiftPosterior]) -> Float32:
    """The condition that the networks read: the conventional redshift.

    Returns:
        The square root of the probability in each of ``REDSHIFT_CELLS`` cells, float32, shape (N,
        REDSHIFT_CELLS). The root keeps broad posteriors visible beside narrow ones. Redshifts
        beyond ``HIGHEST_REDSHIFT`` count in the last cell.
    """
    probability = np.zeros((len(posteriors), REDSHIFT_CELLS))
    grid: Floats = np.empty(0)
    cells: Indices = np.empty(0, np.int64)
    for row, posterior in zip(probability, posteriors, strict=True):
        if posterior.grid_redshift is not grid and not np.array_equal(
            posterior.grid_redshift, grid
        ):
            grid = posterior.grid_redshift
            cells = np.searchsorted(REDSHIFT_EDGES[1:-1], grid, side="right").astype(np.int64)
        row[:] = np.bincount(cells, posterior.grid_probability, REDSHIFT_CELLS)
    total = probability.sum(axis=1, keepdims=True)
    return np.sqrt(probability / np.where(total > 0, total, 1.0)).astype(np.float32)


def _broadband(fingerprints: Sequence[Fingerprint]) -> Floats:
    """Inverse-variance mean flux density in Jy per canonical interval."""
    measured: list[tuple[Any, ...]] = []
    for row, fingerprint in enumerate(fingerprints):
        for band in fingerprint.bands:
            if band.weight > 0:
                measured.append((row, band.frequency_hz, band.weight, band.weighted_flux))
            elif band.upper_limit_error_jy:
                measured.append((row, band.frequency_hz, band.upper_limit_error_jy**-2, 0.0))
        measured.extend(
            (row, part.weighted_frequency / part.weight, part.weight, part.weighted_flux)
            for part in fingerprint.maps
            if part.weight > 0
        )
    shape = (len(fingerprints), _INTERVALS)
    if not measured:
        return np.full(shape, np.nan)
    rows, frequency, weight, weighted_flux = np.array(measured).T
    interval = np.searchsorted(_EDGES_HZ, frequency, side="right") - 1
    inside = (interval >= 0) & (interval < _INTERVALS)
    cell = rows[inside].astype(np.int64) * _INTERVALS + interval[inside]
    size = len(fingerprints) * _INTERVALS
    total: Floats = np.bincount(cell, weight[inside], size).astype(np.float64)
    flux: Floats = np.bincount(cell, weighted_flux[inside], size).astype(np.float64)
    return _mean(flux, total).reshape(shape)


def _spectrum(fingerprints: Sequence[Fingerprint]) -> Floats:
    """Inverse-variance mean flux density in Jy per spectral element."""
    observed = [row for row, one in enumerate(fingerprints) if len(one.chunk_index)]
    if not observed:
        return np.full((len(fingerprints), _ELEMENTS), np.nan)
    parts = [fingerprints[row] for row in observed]
    rows = np.repeat(observed, [len(part.chunk_index) for part in parts])
    chunks = np.concatenate([part.chunk_index for part in parts])

    def in_elements(bins: list[Floats]) -> Floats:
        sums = np.zeros((len(fingerprints), CHUNKS, _ELEMENTS_PER_CHUNK))
        sums[rows, chunks] = (
            np.concatenate(bins).reshape(-1, _ELEMENTS_PER_CHUNK, BINS_PER_ELEMENT).sum(axis=2)
        )
        return sums.reshape(len(fingerprints), _ELEMENTS)

    weight = in_elements([part.chunk_weight for part in parts])
    weighted_flux = in_elements([part.chunk_weighted_flux for part in parts])
    best = np.maximum.reduceat(weight, _FIRST_ELEMENT, axis=1)[:, WINDOW_OF_ELEMENT]
    return _mean(weighted_flux, np.where(weight * NOISIEST_ELEMENT**2 >= best, weight, 0.0))


def _mean(weighted: Floats, weight: Floats) -> Floats:
    """Divide sums by sums of weight; NaN where the weight is 0."""
    mean = np.full(weight.shape, np.nan)
    np.divide(weighted, weight, out=mean, where=weight > 0)
    return mean
