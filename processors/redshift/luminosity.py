"""The prior of redshift and luminosity: the infrared luminosity function with strong lensing."""

from __future__ import annotations

import numpy as np
from astropy.cosmology import Planck18

from mmbroker.processors import relations
from mmbroker.processors.redshift.grids import NODES, Array

LOG_STEP = 0.1
LOG_LUMINOSITY: Array = np.arange(np.log(1e8), np.log(3e15), LOG_STEP)
"""ln(L_IR / Lsun), apparent where a galaxy is lensed; float64, shape (luminosities,)."""

REDSHIFT: Array = np.expm1(NODES)
LUMINOSITY_DISTANCE_MPC: Array = Planck18.luminosity_distance(REDSHIFT).to_value("Mpc")


def _power_evolution(evolution: tuple[float, float, float]) -> Array:
    """Evolution as two powers of 1 + z that meet at a break; 1 at the local function's redshift.

    Args:
        evolution: exponent below the break, redshift of the break, exponent above it.
    """
    below, break_redshift, above = evolution
    growth, joint = 1 + REDSHIFT, 1 + break_redshift
    factor = np.minimum(growth, joint) ** below * np.maximum(growth / joint, 1) ** above
    return np.asarray(factor / (1 + relations.LUMINOSITY_FUNCTION_REDSHIFT) ** below)


def density() -> Array:
    """Number of galaxies per unit of ln L and ln(1 + z), by luminosity without lensing.

    Returns:
        float64, shape (NODES, luminosities), in an arbitrary unit.
    """
    characteristic = 10**relations.LUMINOSITY_FUNCTION_LOG_L * _power_evolution(
        relations.LUMINOSITY_EVOLUTION
    )
    normalisation = 10**relations.LUMINOSITY_FUNCTION_LOG_PHI * _power_evolution(
        relations.DENSITY_EVOLUTION
    )
    ratio = np.exp(LOG_LUMINOSITY[None, :]) / characteristic[:, None]
    sigma = relations.LUMINOSITY_FUNCTION_SIGMA
    shape = ratio ** (1 - relations.LUMINOSITY_FUNCTION_ALPHA) * np.exp(
        -(np.log10(1 + ratio) ** 2) / (2 * sigma**2)
    )
    volume = Planck18.differential_comoving_volume(REDSHIFT).value * (1 + REDSHIFT)
    return np.asarray((normalisation * volume)[:, None] * shape)


def completeness(limit: float) -> Array:
    """Share of galaxies that are bright enough to be in a catalogue, by apparent luminosity.

    Args:
        limit: luminosity in Lsun at which half of the galaxies at z = 1 are missing. At other
            redshifts the limit has the same flux.

    Returns:
        float64, shape (NODES, luminosities).
    """
    reference = Planck18.luminosity_distance(1.0).to_value("Mpc")
    least = limit * (LUMINOSITY_DISTANCE_MPC / reference) ** 2
    return np.asarray(1 / (1 + least[:, None] / np.exp(LOG_LUMINOSITY[None, :])))


def lensed(intrinsic: Array) -> Array:
    """Turn a density of intrinsic luminosity into one of apparent luminosity.

    Lensed galaxies have magnifications mu from 2 to 200 with a density ~ mu**-3.

    Args:
        intrinsic: density by luminosity without lensing, shape (..., NODES, luminosities).

    Returns:
        Density by apparent luminosity, the same shape.
    """
    comoving = LUMINOSITY_DISTANCE_MPC / (1 + REDSHIFT)
    hubble_distance = Planck18.hubble_distance.to_value("Mpc")
    depth = relations.LENSING_F / 30 * (comoving / hubble_distance) ** 3
    steps = np.arange(round(np.log(2) / LOG_STEP), round(np.log(200) / LOG_STEP))
    weight = np.exp(-2 * LOG_STEP * steps)
    weight /= weight.sum()
    magnified = np.zeros_like(intrinsic)
    for step, share in zip(steps, weight, strict=True):
        magnified[..., step:] += share * intrinsic[..., :-step]
    return np.asarray((1 - depth)[:, None] * intrinsic + depth[:, None] * magnified)
