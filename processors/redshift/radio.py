"""Compares radio flux densities with the infrared luminosity, by the infrared-radio correlation."""

from __future__ import annotations

import numpy as np
from astropy import units as u

from mmbroker.processors import relations
from mmbroker.processors.redshift import luminosity
from mmbroker.processors.redshift.dust import DustPosterior
from mmbroker.processors.redshift.grids import NODES, Array
from mmbroker.processors.redshift.tuned import Tuned

HIGHEST_FREQUENCY_HZ = 10e9
"""Highest frequency that counts as radio; above it free-free emission and dust take over."""

_REFERENCE_HZ = 1.4e9
_W_PER_HZ_IN_JY_MPC2 = (1 * u.W / u.Hz).to_value("Jy Mpc2")
_LOG_STELLAR_MASS = 10.5
"""Assumed log10 of the stellar mass in Msun, of a typical galaxy of the luminosity function."""

_EXCESS_DEX = 0.7
_EXCESS_SCATTER_DEX = 0.7
"""Assumed: radio-loud galaxies lie up to a hundred times above the correlation."""

_QUADRATURE = 15


def log_likelihood(
    tuned: Tuned, dust: DustPosterior, log_frequency: Array, flux: Array, weight: Array
) -> Array:
    """The ln of the likelihood of the radio bands at each redshift node.

    Bands are converted to 1.4 GHz with the mean spectral index; its scatter is added to their
    errors.

    Args:
        tuned: the tuned constants.
        dust: infrared luminosity of the galaxies from the dust continuum.
        log_frequency: ln(frequency / Hz), shape (bands,).
        flux: flux densities in Jy, shape (galaxies, bands).
        weight: inverse variances in Jy**-2, shape (galaxies, bands); 0 where not measured.

    Returns:
        float64, shape (galaxies, NODES); 0 where nothing was measured.
    """
    lever = log_frequency - np.log(_REFERENCE_HZ)
    to_reference = np.exp(relations.RADIO_SPECTRAL_INDEX * lever)
    spread = relations.RADIO_SPECTRAL_INDEX_SCATTER * np.abs(lever)
    error = np.where(weight > 0, weight, np.inf) ** -0.5
    scaled_error = np.where(
        weight > 0, np.hypot(error, spread * np.maximum(flux, 0)) * to_reference, np.inf
    )
    inverse = scaled_error**-2.0
    total = inverse.sum(axis=1)
    measured = total > 0
    result = np.zeros((len(flux), len(NODES)))
    if not measured.any():
        return result
    mean = (inverse * np.where(weight > 0, flux * to_reference, 0)).sum(axis=1)[measured]
    mean /= total[measured]
    sigma = total[measured] ** -0.5
    expected = dust.log_luminosity[measured] + _log_flux_per_luminosity()
    dex = np.log(10)
    variance = dust.log_luminosity_variance[measured]
    forming = _log_normal_likelihood(
        mean, sigma, expected, variance + (relations.RADIO_Q_SCATTER_DEX * dex) ** 2
    )
    active = _log_normal_likelihood(
        mean, sigma, expected + _EXCESS_DEX * dex, variance + (_EXCESS_SCATTER_DEX * dex) ** 2
    )
    share = tuned.radio_excess
    both = np.logaddexp(np.log1p(-share) + forming, np.log(share) + active)
    result[measured] = tuned.radio_temper * both
    return result


def _log_flux_per_luminosity() -> Array:
    """ln(flux density at observed 1.4 GHz in Jy per Lsun), shape (NODES,)."""
    q = relations.RADIO_Q * np.exp(
        NODES * relations.RADIO_Q_REDSHIFT_EXPONENT
    ) + relations.RADIO_Q_MASS_SLOPE * (_LOG_STELLAR_MASS - 10)
    per_hz = relations.SOLAR_LUMINOSITY_W / relations.Q_REFERENCE_FREQUENCY_HZ / 10**q
    growth = np.exp(NODES * (1 - relations.RADIO_SPECTRAL_INDEX))
    area = 4 * np.pi * luminosity.LUMINOSITY_DISTANCE_MPC**2
    return np.asarray(np.log(per_hz * _W_PER_HZ_IN_JY_MPC2 * growth / area))


def _log_normal_likelihood(flux: Array, sigma: Array, mean: Array, variance: Array) -> Array:
    """The ln of the density of a measured flux with Gaussian error, if the true flux is log-normal.

    Above 3 sigma the measured flux is taken as log-normal, too. Otherwise the true flux is
    integrated out numerically.

    Args:
        flux: measured flux in Jy, shape (galaxies,).
        sigma: error of the flux in Jy, shape (galaxies,).
        mean: mean of ln(true flux), shape (galaxies, NODES).
        variance: variance of ln(true flux), shape (galaxies, NODES).
    """
    ratio = flux / sigma
    clear = ratio > 3
    result = np.empty_like(mean)
    if clear.any():
        total = variance[clear] + (ratio[clear] ** -2)[:, None]
        offset = np.log(flux[clear])[:, None] - mean[clear]
        log_normal = -0.5 * (np.square(offset) / total + np.log(total))
        result[clear] = log_normal - np.log(ratio[clear])[:, None]
    faint = ~clear
    if faint.any():
        points = np.linspace(-4, 4, _QUADRATURE)
        shares = np.exp(-0.5 * points**2)
        shares /= shares.sum()
        truth = np.exp(mean[faint][:, :, None] + np.sqrt(variance[faint])[:, :, None] * points)
        offset = ratio[faint][:, None, None] - truth / sigma[faint][:, None, None]
        exponent = -0.5 * np.square(offset)
        result[faint] = np.log(np.exp(exponent) @ shares + 1e-30)
    return result
