"""Far-infrared and millimetre continuum: modified black bodies against the measured bands.

A template is a peak wavelength and an emissivity index; its amplitude is the infrared luminosity.
For given template and redshift the likelihood is Gaussian in the amplitude, so it follows from two
sums over bands, matrix products over the batch. The integral of that Gaussian over the luminosity
prior depends only on the amplitude's error and signal-to-noise ratio, and is read from a table
made once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
from astropy import constants
from astropy import units as u
from numpy.typing import NDArray
from scipy.special import log_ndtr

from .. import relations
from . import luminosity
from .grids import NODES, Array, Array32
from .tuned import Tuned

LOWEST_FREQUENCY_HZ = 60e9
HIGHEST_FREQUENCY_HZ = 5e12
"""Between 5 mm, where free-free emission takes over, and 60 um."""

_WIEN_MICRON = 60.0
"""Rest wavelength below which warm dust and small grains take over from the black body."""

_PLANCK_H_OVER_K = (constants.h / constants.k_B).to_value("s K")
_MICRON_HZ = relations.SPEED_OF_LIGHT_KM_S * 1e9  # frequency in Hz times wavelength in micrometre
_JY_MPC2_HZ_PER_LSUN = (relations.SOLAR_LUMINOSITY_W * u.W).to_value("Jy Mpc2 Hz")

PEAKS: Array = np.log(np.geomspace(50.0, 190.0, 14))
"""ln(rest wavelength of the peak / um) of the templates."""

EMISSIVITIES: Array = relations.SUBMILLIMETRE_EMISSIVITY_INDEX + math.sqrt(
    3
) * relations.SUBMILLIMETRE_EMISSIVITY_INDEX_SCATTER * np.array([-1.0, 0.0, 1.0])
_EMISSIVITY_WEIGHTS = np.array([1, 4, 1]) / 6  # Gauss-Hermite quadrature of their scatter

_FREQUENCIES: Array = np.linspace(np.log(LOWEST_FREQUENCY_HZ), np.log(2e13), 192)
"""ln(observed frequency / Hz) of the template table."""

_LOG_ERROR_STEP = 0.3
_LOG_ERRORS: Array = np.arange(np.log(1e6), np.log(1e18), _LOG_ERROR_STEP)
_RATIO_STEP = 0.25
_RATIOS: Array = np.arange(-2.5, 2.8, _RATIO_STEP)  # asinh of the signal-to-noise ratio
_LARGEST_RATIO = float(np.sinh(_RATIOS[-1]))


@dataclass(frozen=True, slots=True)
class DustPosterior:
    """What the dust continuum says at each redshift node."""

    log_likelihood: Array
    """The ln of evidence times luminosity prior and volume, float64, shape (galaxies, NODES)."""

    log_luminosity: Array
    """Mean of ln(L_IR / Lsun), apparent where lensed, float64, shape (galaxies, NODES)."""

    log_luminosity_variance: Array
    """Variance of the same, float64, shape (galaxies, NODES)."""


class Dust:
    """Templates and prior tables; ``posterior`` evaluates a batch of galaxies."""

    def __init__(self, tuned: Tuned) -> None:
        self._tuned = tuned
        self._templates = _templates()
        self._evidence, self._mean, self._variance = _amplitude_tables(tuned)

    def posterior(
        self,
        log_frequency: Array,
        flux: Array,
        weight: Array,
        limit: Array,
        limit_error: Array,
    ) -> DustPosterior:
        """Evidence and luminosity of each galaxy at each redshift node.

        Args:
            log_frequency: ln(frequency / Hz) of the bands, shape (bands,).
            flux: flux densities in Jy, shape (galaxies, bands); anything where not measured.
            weight: inverse variances in Jy**-2, shape (galaxies, bands); 0 where not measured.
            limit: upper limits in Jy, shape (galaxies, bands); NaN where there is none.
            limit_error: noise behind the limits in Jy, shape (galaxies, bands).
        """
        tuned = self._tuned
        model = self.flux_per_luminosity(log_frequency)
        variance = 1 / np.where(weight > 0, weight, 1)
        fraction = self._model_error(log_frequency)
        floor = np.square(np.maximum(flux, 0))[:, :, None] * np.square(fraction)[None, :, :]
        total = (variance[:, :, None] + floor).astype(np.float32)
        measured = (weight > 0)[:, :, None]
        inverse = np.where(measured, 1 / total, 0)
        inverse *= np.float32(tuned.dust_temper)
        normalisation = -0.5 * np.sum(
            np.where(measured, np.log(total / variance[:, :, None]), 0), axis=1
        )
        # (NODES, galaxies, bands) @ (NODES, bands, templates)
        by_node = inverse.transpose(2, 0, 1)
        bands_first = model.transpose(2, 1, 0)
        signal = np.where(weight > 0, flux, 0).astype(np.float32)
        cross = np.matmul(by_node * signal, bands_first)
        square = np.matmul(by_node, np.square(bands_first))
        # Band after band, so that bands of other galaxies, which add zeros, do not change a bit.
        weighted_square = inverse * np.square(signal)[:, :, None]
        constant = -0.5 * np.add.reduce(weighted_square, axis=1, dtype=np.float64)
        constant += tuned.dust_temper * normalisation
        return self._marginal(cross, square, constant, model, limit, limit_error)

    def flux_per_luminosity(self, log_frequency: Array) -> Array32:
        """Flux density in Jy per Lsun, shape (templates, bands, NODES)."""
        position = np.clip(
            (log_frequency - _FREQUENCIES[0]) / (_FREQUENCIES[1] - _FREQUENCIES[0]),
            0,
            len(_FREQUENCIES) - 1.001,
        )
        left = position.astype(int)
        fraction = (position - left)[None, :, None]
        table = self._templates
        log_model = table[:, left] * (1 - fraction) + table[:, left + 1] * fraction
        return np.asarray(np.exp(log_model), np.float32)

    def _model_error(self, log_frequency: Array) -> Array:
        """Fractional error of the templates, shape (bands, NODES)."""
        tuned = self._tuned
        log_rest_micron = np.log(_MICRON_HZ) - log_frequency[:, None] - NODES[None, :]
        short = np.maximum(np.log(_WIEN_MICRON) - log_rest_micron, 0)
        return np.asarray(np.hypot(tuned.dust_error, tuned.dust_wien_error * short))

    def _marginal(
        self,
        cross: Array32,
        square: Array32,
        constant: Array,
        model: Array32,
        limit: Array,
        limit_error: Array,
    ) -> DustPosterior:
        nodes, _, templates = cross.shape
        root = np.sqrt(np.maximum(square, np.float32(1e-36)))
        ratio = cross / root
        log_error = -np.log(root)
        # A well measured amplitude is a narrow Gaussian: read the table at the largest tabulated
        # ratio and the same amplitude, and account for the smaller width.
        excess = np.log(np.maximum(ratio, np.float32(_LARGEST_RATIO)) / np.float32(_LARGEST_RATIO))
        row = _position(log_error + excess, _LOG_ERRORS)
        column = _position(np.arcsinh(np.minimum(ratio, np.float32(_LARGEST_RATIO))), _RATIOS)
        page = np.arange(nodes)[:, None, None] * len(PEAKS) + np.arange(templates)[
            None, None, :
        ] // len(EMISSIVITIES)
        log_evidence = _bilinear(self._evidence, page, row, column)
        log_evidence += np.float32(0.5) * np.square(np.maximum(ratio, 0)) - excess
        log_evidence += np.tile(np.log(_EMISSIVITY_WEIGHTS), len(PEAKS)).astype(np.float32)
        mean = _nearest(self._mean, page, row, column) + 0.0
        precise = excess > 0
        mean[precise] = (np.log(np.maximum(ratio, 1e-30)) + log_error)[precise]
        variance = _nearest(self._variance, page, row, column) * np.exp(-2 * excess)
        self._censor(log_evidence, mean, variance, model, limit, limit_error)
        largest = log_evidence.max(axis=2, keepdims=True)
        share = np.exp(log_evidence - largest)
        total = share.sum(axis=2)
        share /= total[:, :, None]
        log_mean = np.sum(share * mean, axis=2)
        log_variance = np.sum(share * (variance + np.square(mean)), axis=2) - np.square(log_mean)
        return DustPosterior(
            (largest[:, :, 0] + np.log(total)).T.astype(float) + constant,
            log_mean.T.astype(float),
            np.maximum(log_variance.T.astype(float), 1e-4),
        )

    def _censor(
        self,
        log_evidence: Array32,
        mean: Array32,
        variance: Array32,
        model: Array32,
        limit: Array,
        limit_error: Array,
    ) -> None:
        """Multiply in the probability of having stayed below each upper limit."""
        galaxy = np.flatnonzero(np.isfinite(limit).any(axis=1))
        if not len(galaxy):
            return
        points, weights = np.polynomial.hermite_e.hermegauss(5)
        below = np.zeros((len(points), len(mean), len(galaxy), mean.shape[2]))
        deviation = np.sqrt(np.maximum(variance[:, galaxy], 0))
        for band in np.flatnonzero(np.isfinite(limit).any(axis=0)):
            limited = np.isfinite(limit[galaxy, band])
            edge = np.where(limited, limit[galaxy, band], np.inf)[None, :, None]
            error = np.where(limited, limit_error[galaxy, band], 1.0)[None, :, None]
            for index, point in enumerate(points):
                flux = np.exp(mean[:, galaxy] + point * deviation) * model[:, band].T[:, None, :]
                below[index] += log_ndtr((edge - flux) / np.hypot(error, 0.1 * flux))
        below *= self._tuned.dust_temper
        shares = (weights / weights.sum())[:, None, None, None]
        log_evidence[:, galaxy] += np.log(np.sum(shares * np.exp(below), axis=0) + 1e-30)


def _position(value: Array32, grid: Array) -> Array32:
    step = np.float32(grid[1] - grid[0])
    position = (value - np.float32(grid[0])) / step
    return np.asarray(np.clip(position, 0, np.float32(len(grid) - 1.001)), np.float32)


def _bilinear(table: Array32, page: NDArray[np.int64], row: Array32, column: Array32) -> Array32:
    rows, columns = table.shape[1:]
    top, left = row.astype(np.int32), column.astype(np.int32)
    down, right = row - top, column - left
    index = (page * rows + top) * columns + left
    flat = table.ravel()
    upper = flat[index] * (1 - right) + flat[index + 1] * right
    index += columns
    lower = flat[index] * (1 - right) + flat[index + 1] * right
    return np.asarray(upper * (1 - down) + lower * down)


def _nearest(table: Array32, page: NDArray[np.int64], row: Array32, column: Array32) -> Array32:
    rows, columns = table.shape[1:]
    index = (page * rows + np.rint(row).astype(np.int32)) * columns + np.rint(column).astype(
        np.int32
    )
    return np.asarray(table.ravel()[index])


def _black_body(frequency: Array, temperature: Array) -> Array:
    """Planck function in an arbitrary unit."""
    exponent = np.minimum(_PLANCK_H_OVER_K * frequency / temperature, 700)
    return np.asarray(frequency**3 / np.expm1(exponent))


def _emission(frequency: Array, temperature: Array, beta: float, background: Array) -> Array:
    """Modified black body of general opacity against the cosmic microwave background.

    What the CMB adds to the temperature, and the contrast against it, as in da Cunha et al. 2013,
    ApJ 766 13.
    """
    present = relations.CMB_TEMPERATURE_K
    exponent = 4 + beta
    heated = (temperature**exponent + background**exponent - present**exponent) ** (1 / exponent)
    thick = _MICRON_HZ / relations.DUST_OPACITY_ONE_MICRON
    opacity = -np.expm1(-((frequency / thick) ** beta))
    return np.asarray(
        opacity * (_black_body(frequency, heated) - _black_body(frequency, background))
    )


def _with_power_law(log_frequency: Array, emission: Array) -> Array:
    """Replace the Wien side by a power law where its slope becomes steeper (Casey 2012)."""
    log_emission = np.log(np.maximum(emission, 1e-300))
    slope = np.gradient(log_emission, log_frequency, axis=-1)
    steep = (slope < -relations.MID_INFRARED_SLOPE) & (log_frequency > np.log(1e12))
    first = np.argmax(steep, axis=-1)[..., None]
    joined = np.take_along_axis(log_emission, first, axis=-1) - relations.MID_INFRARED_SLOPE * (
        log_frequency - log_frequency[first]
    )
    beyond = np.arange(len(log_frequency)) >= first
    return np.asarray(np.exp(np.where(beyond, joined, log_emission)))


@cache
def _templates() -> Array:
    """ln(flux density in Jy per Lsun), shape (templates, frequencies, NODES)."""
    rest = np.linspace(np.log(5e10), np.log(5e13), 1200)
    frequency = np.exp(rest)
    cold = np.array([relations.CMB_TEMPERATURE_K])
    background = relations.CMB_TEMPERATURE_K * np.exp(NODES)
    trial = np.geomspace(12.0, 160.0, 120)
    low, high = (_MICRON_HZ / edge for edge in reversed(relations.INFRARED_LUMINOSITY_MICRON))
    band = (frequency >= low) & (frequency <= high)
    distance = 4 * np.pi * luminosity.LUMINOSITY_DISTANCE_MPC**2
    table = np.empty((len(PEAKS), len(EMISSIVITIES), len(_FREQUENCIES), len(NODES)))
    for column, beta in enumerate(EMISSIVITIES):
        bodies = _emission(frequency, trial[:, None], beta, cold)
        peak = np.log(_MICRON_HZ) - rest[np.argmax(bodies, axis=1)]
        temperatures = np.interp(PEAKS, peak[::-1], trial[::-1])
        for row, temperature in enumerate(temperatures):
            alone = _with_power_law(rest, _emission(frequency, temperature, beta, cold))
            power = np.trapezoid(alone[band] * frequency[band], rest[band])
            for node, around in enumerate(background):
                if temperature <= 1.02 * around:
                    # As cold as the CMB of this redshift: nothing to see.
                    emission = alone * 1e-6
                else:
                    emission = _with_power_law(
                        rest, _emission(frequency, temperature, beta, np.array([around]))
                    )
                flux = np.interp(_FREQUENCIES + NODES[node], rest, np.log(emission / power))
                scale = np.log(_JY_MPC2_HZ_PER_LSUN * np.exp(NODES[node]) / distance[node])
                table[row, column, :, node] = flux + scale
    return table.reshape(-1, len(_FREQUENCIES), len(NODES))


def expected_log_peak(log_luminosity: Array) -> Array:
    """Mean ln(peak wavelength / um) at ln(L_IR / Lsun), shape of the input."""
    brightness = log_luminosity - np.log(relations.PEAK_WAVELENGTH_LUMINOSITY)
    return np.asarray(
        np.log(relations.PEAK_WAVELENGTH_MICRON) + relations.PEAK_WAVELENGTH_SLOPE * brightness
    )


def _amplitude_tables(tuned: Tuned) -> tuple[Array32, Array32, Array32]:
    """ln(evidence), mean and variance of ln L, each shape (NODES * PEAKS, errors, ratios).

    The evidence is the integral over ln L of the prior times exp(-(L/error - ratio)**2 / 2),
    without the factor exp(ratio**2 / 2) where the ratio is positive.
    """
    log_l = luminosity.LOG_LUMINOSITY
    expected = expected_log_peak(log_l)
    scatter = tuned.dust_peak_scatter
    peak_share = np.exp(-0.5 * np.square((PEAKS[:, None] - expected[None, :]) / scatter))
    peak_share /= peak_share.sum(axis=0) + 1e-300
    prior = luminosity.lensed(luminosity.density()[None, :, :] * peak_share[:, None, :])
    prior *= luminosity.completeness(tuned.luminosity_limit)
    prior = prior.transpose(1, 0, 2).reshape(-1, len(log_l))
    prior /= prior.sum()
    amplitude = np.exp(log_l[None, :] - _LOG_ERRORS[:, None])[:, None, :]
    ratio = np.sinh(_RATIOS)[None, :, None]
    exponent = (
        ratio * amplitude - 0.5 * np.square(amplitude) - 0.5 * np.square(np.maximum(ratio, 0))
    )
    kernel = np.exp(exponent).reshape(-1, len(log_l))
    evidence = kernel @ prior.T + 1e-290
    mean = (kernel * log_l) @ prior.T / evidence
    variance = (kernel * np.square(log_l)) @ prior.T / evidence - np.square(mean)

    def table(values: Array) -> Array32:
        shape = (len(_LOG_ERRORS), len(_RATIOS), -1)
        return np.ascontiguousarray(values.reshape(shape).transpose(2, 0, 1), np.float32)

    return table(np.log(evidence)), table(mean), table(np.maximum(variance, 1e-3))
