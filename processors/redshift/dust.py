"""Compares modified black bodies with the measured far-infrared and millimetre continuum.

A template has a peak wavelength and an emissivity index; its amplitude is the infrared luminosity.
For a given template and redshift the likelihood is Gaussian in the amplitude. So it follows from
two sums over bands, which are matrix products over the batch. The integral of the Gaussian over the
luminosity prior depends only on the error and the signal-to-noise ratio of the amplitude. It is
read from a table that is made once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from astropy import constants
from astropy import units as u
from numba import njit
from numpy.typing import NDArray
from scipy.special import log_ndtr

from mmbroker.processors import relations
from mmbroker.processors.redshift import luminosity
from mmbroker.processors.redshift.grids import NODES, Array, Array32
from mmbroker.processors.redshift.tuned import Tuned

LOWEST_FREQUENCY_HZ = 60e9
HIGHEST_FREQUENCY_HZ = 5e12
"""Observed frequencies that are used: from 5 mm, beyond which free-free emission takes over, to
60 um."""

_WIEN_MICRON = 60.0
"""Assumed rest wavelength below which warm dust and small grains outshine the black body."""

_PLANCK_H_OVER_K = (constants.h / constants.k_B).to_value("s K")
_MICRON_HZ = relations.SPEED_OF_LIGHT_KM_S * 1e9  # frequency in Hz times wavelength in micrometre
_JY_MPC2_HZ_PER_LSUN = (relations.SOLAR_LUMINOSITY_W * u.W).to_value("Jy Mpc2 Hz")

PEAKS: Array = np.log(np.geomspace(50.0, 190.0, 14))
"""ln(rest wavelength of the peak / um) of the templates."""

EMISSIVITIES: Array = relations.SUBMILLIMETRE_EMISSIVITY_INDEX + math.sqrt(
    3
) * relations.SUBMILLIMETRE_EMISSIVITY_INDEX_SCATTER * np.array([-1.0, 0.0, 1.0])
_LOG_EMISSIVITY_WEIGHTS = np.log(np.array([1, 4, 1]) / 6)  # quadrature of their scatter

_FREQUENCIES: Array = np.linspace(np.log(LOWEST_FREQUENCY_HZ), np.log(2e13), 192)
"""ln(observed frequency / Hz) of the template table."""

_LOG_ERROR_STEP = 0.3
_LOG_ERRORS: Array = np.arange(np.log(1e6), np.log(1e18), _LOG_ERROR_STEP)
_RATIO_STEP = 0.25
_RATIOS: Array = np.arange(-2.5, 2.8, _RATIO_STEP)  # asinh of the signal-to-noise ratio
_LARGEST_RATIO = float(np.sinh(_RATIOS[-1]))

_NEGLIGIBLE = 15.0  # ln of the evidence below the best at which a template no longer counts
_AT_ONCE = 16  # redshift nodes at a time, which bounds the memory; a node's tables are read once

_POINTS, _SHARES = np.polynomial.hermite_e.hermegauss(5)
_SHARES /= _SHARES.sum()
# From the mean upwards: each point but the first also stands for its mirror image below the mean.
_POINTS, _SHARES = _POINTS[2:], _SHARES[2:]
_SAFE_MARGIN = 5.0  # a limit this many sigma above the flux says nothing
_MARGIN_STEP = 0.005
_MARGINS: Array = np.arange(-12.0, _SAFE_MARGIN + 2 * _MARGIN_STEP, _MARGIN_STEP)
"""Margins below a limit, in sigma, for which the likelihood is tabulated; see ``_margin``."""


@dataclass(frozen=True, slots=True)
class DustPosterior:
    """Likelihood and infrared luminosity at each redshift node, from the dust continuum.

    Attributes:
        log_likelihood: the ln of the evidence, which includes the prior of luminosity and redshift;
            float64, shape (galaxies, NODES).
        log_luminosity: mean of ln(L_IR / Lsun), apparent if lensed; float64, shape (galaxies,
            NODES).
        log_luminosity_variance: variance of ln(L_IR / Lsun), float64, shape (galaxies, NODES).
    """

    log_likelihood: Array
    log_luminosity: Array
    log_luminosity_variance: Array

    def select(self, rows: Sequence[int]) -> DustPosterior:
        """The posterior of the galaxies in the given rows."""
        return DustPosterior(
            self.log_likelihood[rows], self.log_luminosity[rows], self.log_luminosity_variance[rows]
        )


class Dust:
    """Templates and prior tables; ``posterior`` evaluates a batch of galaxies.

    Args:
        tuned: the tuned constants.
    """

    def __init__(self, tuned: Tuned) -> None:
        self._tuned = tuned
        self._templates = _templates()
        self._evidence, self._moments = _amplitude_tables(tuned)
        self._below = np.exp(tuned.dust_temper * log_ndtr(_MARGINS))
        """Likelihood that a flux stayed below a limit, for ``_MARGINS``."""

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
            flux: flux densities in Jy, shape (galaxies, bands); any value where not measured.
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
        # Band after band: bands of other galaxies add zeros and so do not change the result at all.
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
        nodes, galaxies, _ = cross.shape
        found = np.empty((3, galaxies, nodes))
        for first in range(0, nodes, _AT_ONCE):
            part = slice(first, first + _AT_ONCE)
            _marginalise(
                _table_places(cross[part], square[part]),
                self._evidence[part],
                self._moments[part],
                model[:, :, part],
                limit,
                limit_error,
                self._below,
                found[:, :, part],
            )
        return DustPosterior(found[0] + constant, found[1], found[2])


def _table_places(cross: Array32, square: Array32) -> Array32:
    """Position of each template's amplitude in the table.

    The Gaussian of a very well measured amplitude is narrower than any in the table. It is read at
    the largest tabulated signal-to-noise ratio and the same amplitude; the excess allows the caller
    to correct for the smaller width.

    Returns:
        Row and column in the table, the amplitude's signal-to-noise ratio, and the ln of its excess
        over the largest ratio in the table; shape (4, nodes, galaxies, templates).
    """
    root = np.sqrt(np.maximum(square, np.float32(1e-36)))
    ratio = cross / root
    largest = np.float32(_LARGEST_RATIO)
    excess = np.log(np.maximum(ratio / largest, np.float32(1)))
    row = (excess - np.log(root) - np.float32(_LOG_ERRORS[0])) / np.float32(_LOG_ERROR_STEP)
    sine = np.abs(np.minimum(ratio, largest))
    area = np.log(sine + np.sqrt(np.square(sine) + np.float32(1)))  # numpy's arcsinh is slow
    column = (np.copysign(area, ratio) - np.float32(_RATIOS[0])) / np.float32(_RATIO_STEP)
    np.clip(row, 0, np.float32(len(_LOG_ERRORS) - 1.001), out=row)
    np.clip(column, 0, np.float32(len(_RATIOS) - 1.001), out=column)
    return np.stack([row, column, ratio, excess])


@njit(cache=True)
def _marginalise(
    places: Array32,
    evidence: Array32,
    moments: Array32,
    model: Array32,
    limit: Array,
    limit_error: Array,
    below: Array,
    found: Array,
) -> None:
    """Integrate over amplitude and template, with the likelihood of the upper limits as a factor.

    Templates whose evidence is negligible beside the best are left out.

    Args:
        places: see ``_table_places``.
        evidence: see ``_amplitude_tables``.
        moments: see ``_amplitude_tables``.
        model: flux density per luminosity, shape (templates, bands, nodes).
        limit: upper limits in Jy, shape (galaxies, bands); NaN where there is none.
        limit_error: noise behind the limits in Jy, shape (galaxies, bands).
        below: likelihood that a flux stayed below a limit, for ``_MARGINS``.
        found: output: ln(evidence), mean and variance of ln L, shape (3, galaxies, nodes).
    """
    row, column, ratio, excess = places
    nodes, galaxies, templates = row.shape
    log_evidence = np.empty(templates)
    limited = [np.flatnonzero(np.isfinite(limit[galaxy])) for galaxy in range(galaxies)]
    # Node after node, so that a node's tables stay in the processor's cache.
    for node in range(nodes):
        for galaxy in range(galaxies):
            for template in range(templates):
                peak = template // len(EMISSIVITIES)
                clear = max(ratio[node, galaxy, template], np.float32(0))
                log_evidence[template] = (
                    _between(
                        evidence[node, peak],
                        row[node, galaxy, template],
                        column[node, galaxy, template],
                    )
                    + 0.5 * clear * clear
                    - excess[node, galaxy, template]
                    + _LOG_EMISSIVITY_WEIGHTS[template % len(EMISSIVITIES)]
                )
            # Sums relative to the largest evidence, which is the first unless limits change that.
            largest = -np.inf
            total = first = second = 0.0
            best = int(log_evidence.argmax())
            for step in range(templates):
                template = best + step
                if template >= templates:
                    template -= templates
                value = log_evidence[template]
                if value < largest - _NEGLIGIBLE:
                    continue
                peak = template // len(EMISSIVITIES)
                near_row = int(row[node, galaxy, template] + np.float32(0.5))
                near_column = int(column[node, galaxy, template] + np.float32(0.5))
                beyond = excess[node, galaxy, template]
                mean = float(moments[node, peak, near_row, near_column, 0])
                variance = float(moments[node, peak, near_row, near_column, 1])
                if beyond > 0:
                    log_error = _LOG_ERRORS[0] + _LOG_ERROR_STEP * row[node, galaxy, template]
                    mean = math.log(_LARGEST_RATIO) + log_error
                    variance *= math.exp(-2 * beyond)
                if len(limited[galaxy]):
                    value += _log_below(
                        mean,
                        math.sqrt(variance),
                        model,
                        template,
                        node,
                        limit[galaxy],
                        limit_error[galaxy],
                        limited[galaxy],
                        below,
                    )
                if value > largest:
                    shrunk = math.exp(largest - value)
                    total, first, second = total * shrunk, first * shrunk, second * shrunk
                    largest = value
                share = math.exp(value - largest)
                total += share
                first += share * mean
                second += share * (variance + mean * mean)
            first /= total
            found[0, galaxy, node] = largest + math.log(total)
            found[1, galaxy, node] = first
            found[2, galaxy, node] = max(second / total - first * first, 1e-4)


@njit(cache=True)
def _between(table: Array32, row: float, column: float) -> float:
    """Interpolate in a table, linearly in both directions."""
    top, left = int(row), int(column)
    down, right = row - top, column - left
    upper = table[top, left] * (1 - right) + table[top, left + 1] * right
    lower = table[top + 1, left] * (1 - right) + table[top + 1, left + 1] * right
    return float(upper * (1 - down) + lower * down)


@njit(cache=True)
def _log_below(
    mean: float,
    deviation: float,
    model: Array32,
    template: int,
    node: int,
    limit: Array,
    error: Array,
    limited: NDArray[np.int64],
    below: Array,
) -> float:
    """The ln of the likelihood that the flux stayed below all upper limits.

    Args:
        mean: mean of ln L.
        deviation: standard deviation of ln L.
        model: flux density per luminosity, shape (templates, bands, nodes).
        template: index of the template.
        node: index of the trial redshift.
        limit: upper limits in Jy, shape (bands,).
        error: noise behind the limits in Jy, shape (bands,).
        limited: indices of the bands with a limit.
        below: likelihood that a flux stayed below a limit, for ``_MARGINS``.
    """
    middle = math.exp(mean)
    step, far_step = math.exp(_POINTS[1] * deviation), math.exp(_POINTS[2] * deviation)
    for band in limited:
        flux = middle * far_step * model[template, band, node]
        if not _margin(flux, limit[band], error[band]) > _SAFE_MARGIN:
            break
    else:
        return 0.0
    # Written out for speed: this takes much of the time of scoring a galaxy with limits.
    at_mean = brighter = fainter = brightest = faintest = 1.0
    for band in limited:
        flux = middle * model[template, band, node]
        kept, noise = limit[band], error[band]
        at_mean *= _likelihood_below(flux, kept, noise, below)
        brighter *= _likelihood_below(flux * step, kept, noise, below)
        fainter *= _likelihood_below(flux / step, kept, noise, below)
        brightest *= _likelihood_below(flux * far_step, kept, noise, below)
        faintest *= _likelihood_below(flux / far_step, kept, noise, below)
    total = _SHARES[0] * at_mean
    total += _SHARES[1] * (brighter + fainter)
    total += _SHARES[2] * (brightest + faintest)
    return math.log(total + 1e-30)


@njit(cache=True)
def _margin(flux: float, limit: float, error: float) -> float:
    """By how many sigma a flux is below a limit; negative if it is above.

    A tenth of the flux is added in quadrature to the noise behind the limit. So a flux above a
    positive limit is less than 10 sigma above it.
    """
    return (limit - flux) / math.sqrt(error * error + 0.01 * flux * flux)


@njit(cache=True)
def _likelihood_below(flux: float, limit: float, error: float, below: Array) -> float:
    """The likelihood that a flux stayed below a limit, from the table."""
    place = (_margin(flux, limit, error) - _MARGINS[0]) / _MARGIN_STEP
    place = min(max(place, 0.0), len(below) - 1.001)
    left = int(place)
    return float(below[left] + (place - left) * (below[left + 1] - below[left]))


def _black_body(frequency: Array, temperature: Array) -> Array:
    """Planck function in an arbitrary unit."""
    exponent = np.minimum(_PLANCK_H_OVER_K * frequency / temperature, 700)
    return np.asarray(frequency**3 / np.expm1(exponent))


def _emission(frequency: Array, temperature: Array, beta: float, background: Array) -> Array:
    """Modified black body of general opacity against the cosmic microwave background.

    The heating by the CMB and the contrast against it follow da Cunha et al. 2013, ApJ 766 13.
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
                    # Dust as cold as the CMB of this redshift cannot be seen.
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


def _amplitude_tables(tuned: Tuned) -> tuple[Array32, Array32]:
    """Evidence and moments of a template's amplitude L, by its error and signal-to-noise ratio.

    The evidence is the integral over ln L of the prior times exp(-(L/error - ratio)**2 / 2). For a
    ratio that is not positive it has an additional factor exp(ratio**2 / 2).

    Returns:
        ln(evidence), shape (NODES, PEAKS, errors, ratios), and mean and variance of ln L, shape
        (NODES, PEAKS, errors, ratios, 2).
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

    def by_page(values: Array) -> Array32:
        shape = (len(_LOG_ERRORS), len(_RATIOS), -1, *values.shape[2:])
        by_error = values.reshape(shape)
        pages = np.ascontiguousarray(np.moveaxis(by_error, 2, 0), np.float32)
        return pages.reshape(len(NODES), len(PEAKS), *pages.shape[1:])

    moments = np.stack([mean, np.maximum(variance, 1e-3)], axis=-1)
    return by_page(np.log(evidence)), by_page(moments)
