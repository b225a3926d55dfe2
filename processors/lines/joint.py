"""Predicts luminosities of lines that are not measured, or not well, from all that is known.

At a given redshift, log10 of the luminosities L' of the lines of the comb and of the infrared
luminosity have a joint normal distribution. It is learnt from galaxies with several measured lines.
The distribution is conditioned on one measurement of a galaxy after the other: first the infrared
luminosity, then the lines, the most significant first. The error of a faint line is normal in the
flux, not in its logarithm, and a bright line may be an outlier. So each update matches the first
two moments of the exact posterior of its line. (Expectation propagation, which updates every
measurement again in view of the others, was worse in cross-validation: it takes unusual galaxies
for outliers.)

All luminosities are apparent, as seen through a gravitational lens where there is one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmbroker.processors import relations
from mmbroker.processors.lines.measure import LINES
from mmbroker.processors.redshift.luminosity import LUMINOSITY_DISTANCE_MPC
from mmbroker.processors.redshift.luminosity import REDSHIFT as _DISTANCE_REDSHIFT

Array = NDArray[np.float64]
Integers = NDArray[np.int64]

QUANTITIES = (*LINES, "infrared")
"""The joint quantities: log10 of L' in K km/s pc2 of each line, and log10 of L_IR in Lsun."""

INFRARED = len(LINES)

OUTLIER_SHARE = 0.05
OUTLIER_ERROR_DEX = 0.4
"""Share of measurements that are wrong by more than their error says, and the additional error of
those: other apertures, differential lensing, mistakes in the literature. Chosen by
cross-validation."""

_NORMAL_LOGARITHM = 6.0  # signal-to-noise ratio above which ln(flux) is nearly normal
_POINTS = 48
_REACH = 5.0
_FINE_REACH = 8.0  # the posterior of a faint line has a long tail to low fluxes

_REST_GHZ: Array = np.array([relations.LINES_HZ[name] for name in LINES]) / 1e9


@dataclass(frozen=True, slots=True, eq=False)
class LinePosterior:
    """Lines of N galaxies, in the order of LINES; arrays are float64 of shape (N, LINES).

    Attributes:
        log_luminosity: median of log10 of L' in K km/s pc2.
        half_width_68: half of the 68 % interval, in dex.
        half_width_95: half of the 95 % interval, in dex.
        flux_jy_km_s: flux of a line with the median luminosity.
        known: whether more than the redshift was known of each galaxy; bool, shape (N,).
    """

    log_luminosity: Array
    half_width_68: Array
    half_width_95: Array
    flux_jy_km_s: Array
    known: NDArray[np.bool_]


def log_luminosity_per_flux(redshift: Array) -> Array:
    """log10 of L' in K km/s pc2 of a line of 1 Jy km/s, shape (N, LINES).

    L' = 3.25e7 F nu_obs**-2 D_L**2 (1+z)**-3 (``relations.LINE_LUMINOSITY_FACTOR``).
    """
    # D_L / ln(1+z) is smooth enough to interpolate.
    log_growth = np.log1p(redshift)
    nodes = np.log1p(_DISTANCE_REDSHIFT)
    distance = np.interp(log_growth, nodes, LUMINOSITY_DISTANCE_MPC / nodes) * log_growth
    common = relations.LINE_LUMINOSITY_FACTOR * distance**2 / (1 + redshift)
    return np.asarray(np.log10(common)[:, None] - 2 * np.log10(_REST_GHZ))


class LineRecovery:
    """The joint distribution, which predicts the lines of galaxies.

    Args:
        weights: arrays by name, as ``models.lines.train`` writes them. ``mean`` and ``slope``,
            shape (QUANTITIES,), give the mean of the quantities as a linear function of
            ``evolution(redshift)``. ``covariance``, shape (2, QUANTITIES, QUANTITIES), is that of
            their scatter for local and for evolved galaxies. ``mean_covariance``, shape (3,
            QUANTITIES, QUANTITIES), is the covariance of the error of the mean, as coefficients of
            a polynomial in the evolution. ``width_68`` and ``width_95`` are half of the intervals
            in standard deviations.

    Raises:
        ValueError: the weights are for other lines.
    """

    def __init__(self, weights: Mapping[str, NDArray[Any]]) -> None:
        lines = tuple(str(each) for each in weights["lines"])
        if lines != LINES:
            raise ValueError(f"the weights are of the lines {lines}, not {LINES}")
        self._weights = weights

    def prior(self, redshift: Array) -> tuple[Array, Array]:
        """Mean (N, QUANTITIES) and covariance (N, QUANTITIES, QUANTITIES) at given redshifts."""
        stage = evolution(redshift)
        mean = self._weights["mean"] + stage[:, None] * self._weights["slope"]
        power = stage[:, None] ** np.arange(3)
        uncertain = np.einsum("np,pij->nij", power, self._weights["mean_covariance"])
        local, evolved = self._weights["covariance"]
        scatter = local + stage[:, None, None] * (evolved - local)
        return np.asarray(mean), np.asarray(scatter + uncertain)

    def recover(
        self,
        redshift: Array,
        flux_jy_km_s: Array,
        error_jy_km_s: Array,
        log_infrared: Array,
        infrared_error_dex: Array,
    ) -> LinePosterior:
        """The posterior of every line, including its own measurement if there is one.

        Args:
            redshift: redshifts, shape (N,).
            flux_jy_km_s: apparent line fluxes, shape (N, LINES); may be negative.
            error_jy_km_s: 1 sigma of the noise, shape (N, LINES); inf where not observed.
            log_infrared: log10 of the apparent L_IR in Lsun, shape (N,).
            infrared_error_dex: 1 sigma error of ``log_infrared``, shape (N,); inf where unknown.

        Raises:
            ValueError: a redshift or an error is not positive; the message names row and value.
        """
        _positive("redshift", redshift)
        _positive("error_jy_km_s", error_jy_km_s)
        _positive("infrared_error_dex", infrared_error_dex)
        scale = log_luminosity_per_flux(redshift)
        mean, covariance = self.posterior(
            redshift, flux_jy_km_s, error_jy_km_s, log_infrared, infrared_error_dex
        )
        spread = np.sqrt(np.diagonal(covariance, axis1=1, axis2=2)[:, :INFRARED])
        log_luminosity = mean[:, :INFRARED]
        return LinePosterior(
            log_luminosity=log_luminosity,
            half_width_68=spread * self._weights["width_68"],
            half_width_95=spread * self._weights["width_95"],
            flux_jy_km_s=10 ** (log_luminosity - scale),
            known=np.isfinite(error_jy_km_s).any(axis=1) | np.isfinite(infrared_error_dex),
        )

    def posterior(
        self,
        redshift: Array,
        flux_jy_km_s: Array,
        error_jy_km_s: Array,
        log_infrared: Array,
        infrared_error_dex: Array,
    ) -> tuple[Array, Array]:
        """Mean and covariance of all quantities; arguments as for ``recover``."""
        mean, covariance = self.prior(redshift)
        seen = np.isfinite(np.column_stack([error_jy_km_s, infrared_error_dex]))
        flux = np.where(seen[:, :INFRARED], flux_jy_km_s, 0.0)
        error = np.hypot(error_jy_km_s, relations.FLUX_SCALE_ERROR * flux)
        scale = log_luminosity_per_flux(redshift)
        order = np.argsort(-np.column_stack([flux / error, np.full(len(flux), np.inf)]), axis=1)
        for place in range(len(QUANTITIES)):
            column = order[:, place]
            rows = np.flatnonzero(seen[np.arange(len(seen)), column])
            if not len(rows):
                continue
            column = column[rows]
            before = mean[rows, column], covariance[rows, column, column]
            if place == 0:
                after = normal_update(*before, log_infrared[rows], infrared_error_dex[rows])
            else:
                at = rows, column
                after = flux_update(*before, flux[at], error[at], scale[at])
            _condition(mean, covariance, rows, column, *after)
        return mean, covariance


def evolution(redshift: Array) -> Array:
    """Stage of evolution, from 0 for local galaxies to 1 at z = 2 and above; shape of the input."""
    return np.asarray(np.clip(np.log1p(redshift) / np.log(3.0), 0.0, 1.0))


def normal_update(mean: Array, variance: Array, value: Array, error: Array) -> tuple[Array, Array]:
    """Mean and variance of a normal quantity after a measurement, which may be an outlier.

    The posterior is a mixture of two parts: the measurement is right, or it is an outlier. Mean and
    variance are those of the mixture.
    """
    parts = [
        _normal_update(mean, variance, value, np.square(error) + extra**2)
        for extra in (0.0, OUTLIER_ERROR_DEX)
    ]
    (right, right_variance, right_density), (wrong, wrong_variance, wrong_density) = parts
    odds = (
        OUTLIER_SHARE
        / (1 - OUTLIER_SHARE)
        * np.exp(np.minimum(wrong_density - right_density, 50.0))
    )
    share = odds / (1 + odds)
    after = right + share * (wrong - right)
    spread = share * (1 - share) * np.square(wrong - right)
    return after, right_variance + share * (wrong_variance - right_variance) + spread


def _normal_update(
    mean: Array, variance: Array, value: Array, error_squared: Array
) -> tuple[Array, Array, Array]:
    """Mean and variance after a measurement, and ln of the density of the measured value."""
    total = variance + error_squared
    gain = variance / total
    log_density = -0.5 * (np.square(value - mean) / total + np.log(total))
    return mean + gain * (value - mean), (1 - gain) * variance, log_density


def flux_update(
    mean: Array, variance: Array, flux: Array, error: Array, scale: Array
) -> tuple[Array, Array]:
    """Mean and variance of a log10 luminosity after its flux was measured.

    Args:
        mean: mean before, shape (N,).
        variance: variance before, shape (N,).
        flux: measured flux in Jy km/s, with a normal error, shape (N,).
        error: 1 sigma error of the flux, shape (N,).
        scale: log10 luminosity of a line of 1 Jy km/s, shape (N,).
    """
    bright = flux >= _NORMAL_LOGARITHM * error
    log_flux = np.log10(np.where(bright, flux, 1.0)) + scale
    log_error = error / np.where(bright, flux, error) / np.log(10)
    after_mean, after_variance = normal_update(mean, variance, log_flux, log_error)
    faint = np.flatnonzero(~bright)
    if len(faint):
        after_mean[faint], after_variance[faint] = _faint_update(
            mean[faint], np.sqrt(variance[faint]), flux[faint], error[faint], scale[faint]
        )
    return after_mean, after_variance


def _faint_update(
    mean: Array, spread: Array, flux: Array, error: Array, scale: Array
) -> tuple[Array, Array]:
    """``flux_update`` by quadrature, first coarse over the prior, then fine over the posterior."""
    centre, reach = mean, _REACH * spread
    step = 2 * _REACH / (_POINTS - 1) * spread
    for _ in range(2):
        grid = centre + reach * np.linspace(-1.0, 1.0, _POINTS)[:, None]
        log_density = -0.5 * (
            np.square((grid - mean) / spread) + np.square((flux - 10 ** (grid - scale)) / error)
        )
        density = np.exp(log_density - log_density.max(axis=0))
        density /= density.sum(axis=0)
        centre = (density * grid).sum(axis=0)
        variance = (density * np.square(grid - centre)).sum(axis=0)
        reach = _FINE_REACH * np.sqrt(variance + 0.25 * step**2)
    return centre, variance


def _condition(
    mean: Array, covariance: Array, rows: Integers, column: Integers, value: Array, variance: Array
) -> None:
    """Update mean and covariance of all quantities, in place, for new moments of one quantity."""
    before = covariance[rows, column, column]
    gain = covariance[rows, column] / before[:, None]
    mean[rows] += gain * (value - mean[rows, column])[:, None]
    covariance[rows] -= (gain * (before - variance)[:, None])[:, :, None] * gain[:, None, :]


def _positive(name: str, values: Array) -> None:
    wrong = np.argwhere(~(values > 0))
    if len(wrong):
        raise ValueError(f"{name} of row {wrong[0, 0]} is {values[tuple(wrong[0])]}, not positive")
