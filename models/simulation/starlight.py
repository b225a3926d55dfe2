"""Simulates starlight of galaxies: population templates, dust, intergalactic absorption."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
from astropy.table import Table

from mmbroker.processors import relations
from mmbroker.schemas.events import Floats

TEMPLATES = ("dusty", "young", "intermediate", "old", "post_starburst")
"""Five stellar populations that together make the light of galaxies from the ultraviolet to some
5 um (Blanton & Roweis 2007, AJ 133 734); ``starlight.ecsv`` says where they come from."""


def starlight(
    wavelength_um: Floats, log_mass: Floats, shares: Floats, attenuation_mag: Floats
) -> Floats:
    """The luminosity density of the stars.

    Args:
        wavelength_um: rest wavelengths in um, shape (wavelengths,).
        log_mass: log10 of the mass of the stars in Msun, shape (N,).
        shares: the shares of TEMPLATES in the mass, which add up to 1, shape (N, templates).
        attenuation_mag: A_V in mag by dust besides that of the templates, shape (N,).

    Returns:
        L_nu in Lsun/Hz, shape (N, wavelengths).
    """
    light = 10 ** log_mass[:, None] * (shares @ _templates(tuple(wavelength_um.tolist())))
    dimming = np.outer(attenuation_mag, attenuation_curve(wavelength_um))
    result: Floats = light * 10 ** (-0.4 * dimming)
    return result


def attenuation_curve(wavelength_um: Floats) -> Floats:
    """A(wavelength)/A_V of starburst galaxies.

    Args:
        wavelength_um: rest wavelengths in um, shape (wavelengths,).

    Returns:
        float64, shape (wavelengths,); 0 where the curve would be negative, beyond 2 um.
    """
    inverse = 1 / np.maximum(wavelength_um, relations.LYMAN_LIMIT_MICRON)
    blue = np.polyval(relations.ATTENUATION_BLUE[::-1], inverse)
    red = np.polyval(relations.ATTENUATION_RED[::-1], inverse)
    k = np.where(wavelength_um < relations.ATTENUATION_BREAK_MICRON, blue, red)
    curve: Floats = relations.ATTENUATION_FACTOR * k + relations.ATTENUATION_RATIO
    return curve.clip(0.0) / relations.ATTENUATION_RATIO


def intergalactic_transmission(wavelength_um: Floats, redshift: Floats) -> Floats:
    """The mean share of the light that passes the intergalactic medium.

    Args:
        wavelength_um: rest wavelengths in um, shape (wavelengths,).
        redshift: the redshifts, shape (N,).

    Returns:
        float64, shape (N, wavelengths).
    """
    stretch = 1 + redshift[:, None]
    opacity = np.zeros((len(redshift), len(wavelength_um)))
    series = zip(relations.LYMAN_SERIES_MICRON, relations.LYMAN_SERIES_OPACITY, strict=True)
    for line, strength in series:
        through = strength * (wavelength_um * stretch / line) ** relations.LYMAN_OPACITY_EXPONENT
        opacity += np.where(wavelength_um < line, through, 0.0)
    transmission: Floats = np.exp(-opacity)
    # Broad bands hardly see what little passes below the Lyman limit.
    return np.where(wavelength_um < relations.LYMAN_LIMIT_MICRON, 1e-6, transmission)


@cache
def _templates(wavelength_um: tuple[float, ...]) -> Floats:
    """The L_nu of the templates in Lsun/Hz per Msun, shape (templates, wavelengths)."""
    table = Table.read(Path(__file__).with_name("starlight.ecsv"))
    log_wavelength, known = np.log(wavelength_um), np.log(table["wavelength_um"])
    templates: Floats = np.exp(
        [np.interp(log_wavelength, known, np.log(table[name]), left=-80.0) for name in TEMPLATES]
    )
    # Beyond the table, the tail of the stars' thermal emission.
    tail = np.minimum(table["wavelength_um"][-1] / np.array(wavelength_um), 1.0) ** 2
    return np.asarray(templates * tail)
