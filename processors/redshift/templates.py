"""Fits templates of galaxies to photometry from the ultraviolet to 24 um.

A template is the spectrum of a kind of galaxy. Its fluxes through the bands are tabulated over
redshift (``models.redshift.templates.library``). Each template is fitted with a free amplitude, and
the posterior is a sum over templates, weighted by how common they are. Templates are not perfect.
So a fraction of the flux, which depends on the rest wavelength, is added to the errors, like the
template error function of EAZY (Brammer, van Dokkum & Coppi 2008, ApJ 686 1503). The prior of
redshift depends on the magnitude near 2.2 um, in the form of Benítez (2000, ApJ 536 571).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from mmbroker.processors import relations
from mmbroker.processors.redshift.grids import COARSE, PUBLISHED, Array, Array32
from mmbroker.schemas.events import Fingerprint

GRID: Array = PUBLISHED
"""ln(1 + z) at which the fluxes are tabulated, shape (points,)."""

NEAREST_BAND = 0.04
"""A band counts as one of the table's if their wavelengths differ by less than this fraction."""

ERROR_KNOTS_UM: Array = np.array([0.1, 0.25, 0.4, 1.5, 3.5, 7.0, 25.0])
"""Rest wavelengths in um of the templates' errors."""

PRIOR_UM, PRIOR_RANGE = 2.16, 0.8
"""Wavelength in um of the magnitude that the prior depends on, and the largest distance in
ln(wavelength) at which a band may replace it."""

_NEGLIGIBLE = 12.0  # ln of the evidence below the best at which a template no longer counts
_LOGARITHM_OF = 8  # variances that are multiplied before one logarithm, which is slow
_FARTHEST = 8.0  # ln by which the prior is at most below its peak
_MICRON_HZ = relations.SPEED_OF_LIGHT_KM_S * 1e9
_PLACE: Array = np.clip((COARSE - GRID[0]) / (GRID[1] - GRID[0]), 0, len(GRID) - 1.001)
_LEFT: NDArray[np.int64] = _PLACE.astype(np.int64)
_RIGHT_SHARE: Array = _PLACE - _LEFT  # a matrix product would round differently by batch


@dataclass(frozen=True, slots=True, eq=False)
class Templates:
    """Fluxes of templates in bands, and constants fitted to galaxies of known redshift.

    Attributes:
        names: names of the T templates.
        wavelength_um: pivot wavelengths of the F bands, ascending, shape (F,).
        flux: flux densities at luminosity 1 in any one unit, float32, shape (F, GRID, T).
        share: how common each template is; the shares sum to 1, shape (T,).
        error: fractional errors of the templates at ``ERROR_KNOTS_UM``.
        temper: exponent of the likelihood.
        prior: parameters of the prior z**exponent exp(-(z / z0)**exponent): the exponent, ln(z0) at
            AB magnitude 21, and the growth of ln(z0) per magnitude.
        floor: probability that a galaxy is like no template, spread evenly over the grid.
        beside_published: exponent of the likelihood if there is a published redshift, which rests
            on much of the same photometry.
        alone: exponent of the likelihood without a published redshift.
    """

    names: tuple[str, ...]
    wavelength_um: Array
    flux: Array32
    share: Array
    error: Array
    temper: float
    prior: tuple[float, float, float]
    floor: float
    beside_published: float
    alone: float

    @property
    def identity(self) -> str:
        """Hash over all attributes, hexadecimal."""
        digest = hashlib.blake2b(repr(self.names).encode(), digest_size=8)
        for array in (self.wavelength_um, self.flux, self.share, self.error):
            digest.update(np.ascontiguousarray(array).tobytes())
        numbers = (self.temper, *self.prior, self.floor, self.beside_published, self.alone)
        digest.update(repr([float(one) for one in numbers]).encode())
        return digest.hexdigest()


@dataclass(frozen=True, slots=True, eq=False)
class BandFluxes:
    """Measured fluxes of N galaxies in bands of the table, joined galaxy after galaxy.

    Attributes:
        start: index of the first measurement of each galaxy, and the end, shape (N + 1,).
        band: index of the band in the table, shape (measurements,).
        flux: flux densities in Jy, shape (measurements,).
        error: 1 sigma errors in Jy, shape (measurements,).
    """

    start: NDArray[np.int64]
    band: NDArray[np.int64]
    flux: Array
    error: Array

    @property
    def count(self) -> NDArray[np.int64]:
        """Number of measurements of each galaxy, shape (N,)."""
        return np.diff(self.start)


def photometry(fingerprints: Sequence[Fingerprint], wavelength_um: Array) -> BandFluxes:
    """The measurements of fingerprints in bands of the table.

    An upper limit counts as a flux of zero with the noise behind the limit.

    Args:
        fingerprints: fingerprints of N galaxies.
        wavelength_um: wavelengths of the table's bands, ascending.
    """
    longest = _MICRON_HZ / (wavelength_um[-1] * (1 + NEAREST_BAND))
    owner: list[int] = []
    measured: list[tuple[float, float, float]] = []
    for row, one in enumerate(fingerprints):
        for band in one.bands:
            if band.frequency_hz < longest:
                continue
            if band.weight > 0:
                value = band.weighted_flux / band.weight, band.weight**-0.5
            elif band.upper_limit_error_jy:
                value = 0.0, band.upper_limit_error_jy
            else:
                continue
            owner.append(row)
            measured.append((band.frequency_hz, *value))
    frequency, flux, error = np.array(measured, float).reshape(-1, 3).T
    wavelength = _MICRON_HZ / frequency
    right = np.clip(np.searchsorted(wavelength_um, wavelength), 1, len(wavelength_um) - 1)
    nearer = wavelength - wavelength_um[right - 1] < wavelength_um[right] - wavelength
    index = np.where(nearer, right - 1, right)
    known = np.abs(wavelength / wavelength_um[index] - 1) < NEAREST_BAND
    count = np.bincount(np.array(owner, int)[known], minlength=len(fingerprints))
    start = np.concatenate([[0], np.cumsum(count)])
    return BandFluxes(start, index[known], flux[known], error[known])


@dataclass(frozen=True, slots=True, eq=False)
class FittedTemplates:
    """The result of a template fit to N galaxies.

    Attributes:
        log_likelihood: ln of the likelihood averaged over templates, float64, shape (N, COARSE).
        log_prior: ln of the prior by magnitude, flat without a magnitude, float64, shape (N,
            COARSE).
        magnitude: AB magnitude near ``PRIOR_UM``, NaN without one, shape (N,).
        count: number of measurements of each galaxy, shape (N,).
        identity: that of the templates.
    """

    log_likelihood: Array
    log_prior: Array
    magnitude: Array
    count: NDArray[np.int64]
    identity: str

    @property
    def with_magnitude(self) -> NDArray[np.bool_]:
        """Whether each galaxy has a magnitude, shape (N,)."""
        return np.isfinite(self.magnitude)

    @property
    def log_posterior(self) -> Array:
        """The ln of probabilities per cell, summing to 1, float64, shape (N, COARSE)."""
        return _normalised(self.log_likelihood + self.log_prior)

    def select(self, rows: Sequence[int]) -> FittedTemplates:
        """The fits to the galaxies in the given rows."""
        return FittedTemplates(
            self.log_likelihood[rows],
            self.log_prior[rows],
            self.magnitude[rows],
            self.count[rows],
            self.identity,
        )


class TemplateFit:
    """Computes redshift posteriors from templates.

    Args:
        templates: the templates, with their fluxes and fitted constants.
    """

    def __init__(self, templates: Templates) -> None:
        self.templates = templates
        self.identity = templates.identity
        rest = np.log(templates.wavelength_um)[:, None] - GRID
        self._error = np.interp(rest, np.log(ERROR_KNOTS_UM), templates.error)
        self._flux = np.ascontiguousarray(templates.flux.transpose(0, 2, 1))
        self._log_share = np.log(templates.share)
        reference = np.abs(np.log(templates.wavelength_um / PRIOR_UM))
        self._from_reference = np.where(reference < PRIOR_RANGE, reference, np.inf)

    def fitted(self, fingerprints: Sequence[Fingerprint]) -> FittedTemplates:
        """Fit the templates to the measurements of N galaxies."""
        measured = photometry(fingerprints, self.templates.wavelength_um)
        magnitude = self.magnitude(measured)
        return FittedTemplates(
            self.log_likelihood(measured),
            self._log_prior(magnitude),
            magnitude,
            measured.count,
            self.identity,
        )

    def fitted_to(
        self, fingerprints: Sequence[Fingerprint], rows: Sequence[int]
    ) -> FittedTemplates:
        """Fit the templates to some of N galaxies alone; the others are as without measurements."""
        count = len(fingerprints)
        some = self.fitted([fingerprints[row] for row in rows])
        likelihood = np.zeros((count, len(COARSE)))
        prior = np.full((count, len(COARSE)), -np.log(len(COARSE)))
        magnitude, measured = np.full(count, np.nan), np.zeros(count, np.int64)
        for whole, part in (
            (likelihood, some.log_likelihood),
            (prior, some.log_prior),
            (magnitude, some.magnitude),
            (measured, some.count),
        ):
            whole[rows] = part
        return FittedTemplates(likelihood, prior, magnitude, measured, self.identity)

    def log_posterior(self, measured: BandFluxes) -> Array:
        """The ln of probabilities per cell, summing to 1, float64, shape (N, COARSE)."""
        log_prior = self._log_prior(self.magnitude(measured))
        return _normalised(self.log_likelihood(measured) + log_prior)

    def log_likelihood(self, measured: BandFluxes) -> Array:
        """The ln of the likelihood averaged over templates, float64, shape (N, COARSE).

        The mean of the likelihood over the grid is 1. It includes ``Templates.floor``, the
        probability that no template is like the galaxy. Without a measurement it is 1 everywhere.
        """
        templates = self.templates
        found = np.asarray(
            _log_likelihood(
                self._flux,
                self._error,
                self._log_share,
                templates.temper,
                *(measured.start, measured.band, measured.flux, measured.error),
            )
        )
        likelihood = np.exp(found - found.max(axis=1, keepdims=True))
        likelihood /= likelihood.mean(axis=1, keepdims=True)
        found = np.log((1 - templates.floor) * likelihood + templates.floor)
        # np.take keeps the rows contiguous; indexing would change the layout and the order of sums.
        left, right = np.take(found, _LEFT, axis=1), np.take(found, _LEFT + 1, axis=1)
        return np.asarray(left * (1 - _RIGHT_SHARE) + right * _RIGHT_SHARE)

    def exponent(self, published: NDArray[np.bool_]) -> Array:
        """The exponent of each likelihood, shape (N,).

        Args:
            published: whether each galaxy has a published redshift, shape (N,).
        """
        return np.where(published, self.templates.beside_published, self.templates.alone)

    def evidence(
        self,
        fitted: FittedTemplates,
        published: NDArray[np.bool_],
        far_infrared: NDArray[np.bool_],
        log_prior: Array,
    ) -> Array:
        """The term that the templates add to the ln of the posteriors of N galaxies.

        Without far-infrared photometry, the prior of infrared galaxies is replaced by the prior of
        galaxies of the same magnitude.

        Args:
            fitted: the fit to the galaxies.
            published: whether each galaxy has a published redshift, shape (N,).
            far_infrared: whether each galaxy has far-infrared photometry, shape (N,).
            log_prior: ln of the prior of infrared galaxies, shape (COARSE,).

        Returns:
            The term, float64, shape (N, COARSE); 0 everywhere for an exponent of 0.
        """
        exponent = self.exponent(published)
        found = exponent[:, None] * fitted.log_likelihood
        by_magnitude = (exponent > 0) & ~far_infrared & fitted.with_magnitude
        found[by_magnitude] += fitted.log_prior[by_magnitude] - log_prior
        return np.asarray(found)

    def _log_prior(self, magnitude: Array) -> Array:
        """The ln of the prior per cell, shape (N, COARSE); flat without a magnitude."""
        known = np.isfinite(magnitude)
        result = np.full((len(magnitude), len(COARSE)), -np.log(len(COARSE)))
        result[known] = log_prior(self.templates.prior, magnitude[known])
        return result

    def magnitude(self, measured: BandFluxes) -> Array:
        """AB magnitude in the band nearest to ``PRIOR_UM``, shape (N,); NaN without such a band.

        Of several measurements in that band the most precise is used.
        """
        result = np.full(len(measured.start) - 1, np.nan)
        distance = self._from_reference[measured.band]
        for row in range(len(result)):
            some = slice(measured.start[row], measured.start[row + 1])
            if np.isfinite(distance[some]).any():
                order = np.lexsort((measured.flux[some], measured.error[some], distance[some]))
                nearest = measured.start[row] + int(order[0])
                flux = max(measured.flux[nearest], measured.error[nearest])
                result[row] = -2.5 * np.log10(flux / relations.AB_ZERO_JY)
        return result

    def log_likelihood_at(self, measured: BandFluxes, point: NDArray[np.int64]) -> Array:
        """The ln of the likelihood of each template at one point of the grid for each galaxy.

        Args:
            measured: measurements of N galaxies.
            point: index into ``GRID``, shape (N,).

        Returns:
            The ln of the likelihoods, float64, shape (N, T).
        """
        return np.asarray(
            _log_likelihood_at(
                self._flux,
                self._error,
                self.templates.temper,
                point,
                *(measured.start, measured.band, measured.flux, measured.error),
            )
        )


def log_prior(prior: tuple[float, float, float], magnitude: Array) -> Array:
    """The ln of the prior per cell, shape (N, COARSE); the probabilities sum to 1.

    Args:
        prior: see ``Templates``.
        magnitude: AB magnitudes, shape (N,).
    """
    exponent, log_typical, growth = prior
    log_ratio = np.log(np.expm1(COARSE)) - (log_typical + growth * (magnitude[:, None] - 21.0))
    found = exponent * log_ratio - np.exp(np.minimum(exponent * log_ratio, 50.0)) + COARSE
    found = np.maximum(found, found.max(axis=1, keepdims=True) - _FARTHEST)
    return _normalised(found)


def _normalised(log_probability: Array) -> Array:
    """Normalise the ln of probabilities, so that these sum to 1 over the last axis."""
    found = log_probability - log_probability.max(axis=-1, keepdims=True)
    return np.asarray(found - np.log(np.exp(found).sum(axis=-1, keepdims=True)))


@njit(cache=True)
def _fit(table, fraction, band, flux, error, amplitude, gain, nothing):  # type: ignore[no-untyped-def]
    """Fit every template to a galaxy at some redshifts.

    Args:
        table: flux densities, float32, shape (F, T, points).
        fraction: fractional errors of the templates, shape (F, points).
        band: index of the band, shape (measurements,).
        flux: flux densities in Jy, shape (measurements,).
        error: 1 sigma errors in Jy, shape (measurements,).
        amplitude: scratch space, float32, shape (T, points).
        gain: output: decrease of chi square by each template, float32, shape (T, points).
        nothing: output: ln of the likelihood of zero flux, shape (points,).
    """
    templates, points = gain.shape
    signal, weight = np.empty(points, np.float32), np.empty(points, np.float32)
    variances = np.ones(points)
    amplitude[:] = 0.0
    gain[:] = 1e-30
    nothing[:] = 0.0
    for m in range(len(band)):
        for k in range(points):
            systematic = fraction[band[m], k] * flux[m]
            variance = error[m] * error[m] + systematic * systematic
            signal[k], weight[k] = flux[m] / variance, 1 / variance
            nothing[k] -= 0.5 * flux[m] * flux[m] / variance
            variances[k] *= variance
        if (m + 1) % _LOGARITHM_OF == 0 or m + 1 == len(band):
            for k in range(points):
                nothing[k] -= 0.5 * math.log(variances[k])
                variances[k] = 1.0
        for t in range(templates):
            row, up, down = table[band[m], t], amplitude[t], gain[t]
            for k in range(points):
                up[k] += signal[k] * row[k]
                down[k] += weight[k] * row[k] * row[k]
    for t in range(templates):
        for k in range(points):
            positive = max(amplitude[t, k], np.float32(0.0))
            gain[t, k] = positive * positive / gain[t, k]


@njit(cache=True)
def _log_likelihood(table, fraction, log_share, temper, start, band, flux, error):  # type: ignore[no-untyped-def]
    galaxies, (templates, points) = len(start) - 1, table.shape[1:]
    result = np.zeros((galaxies, points))
    amplitude = np.empty((templates, points), np.float32)
    gain = np.empty((templates, points), np.float32)
    best, total = np.empty(points, np.float32), np.empty(points)
    for n in range(galaxies):
        some = slice(start[n], start[n + 1])
        if start[n] == start[n + 1]:
            continue
        _fit(table, fraction, band[some], flux[some], error[some], amplitude, gain, result[n])
        best[:] = 0.0
        total[:] = 0.0
        for t in range(templates):
            for k in range(points):
                best[k] = max(best[k], gain[t, k])
        for t in range(templates):
            for k in range(points):
                lower = 0.5 * temper * (best[k] - gain[t, k])
                if lower < _NEGLIGIBLE:
                    # A flat prior in the ln of the amplitude.
                    total[k] += math.exp(log_share[t] - lower) / math.sqrt(1 + gain[t, k])
        for k in range(points):
            result[n, k] = temper * (result[n, k] + 0.5 * best[k]) + math.log(total[k])
    return result


@njit(cache=True)
def _log_likelihood_at(table, fraction, temper, point, start, band, flux, error):  # type: ignore[no-untyped-def]
    galaxies, templates = len(start) - 1, table.shape[1]
    result = np.zeros((galaxies, templates))
    amplitude = np.empty((templates, 1), np.float32)
    gain, nothing = np.empty((templates, 1), np.float32), np.empty(1)
    for n in range(galaxies):
        some, here = slice(start[n], start[n + 1]), slice(point[n], point[n] + 1)
        known, there = table[:, :, here], fraction[:, here]
        _fit(known, there, band[some], flux[some], error[some], amplitude, gain, nothing)
        for t in range(templates):
            result[n, t] = temper * (nothing[0] + 0.5 * gain[t, 0]) - 0.5 * math.log1p(gain[t, 0])
    return result
