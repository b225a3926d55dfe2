"""Simulates infrared emission: of dust, of aromatic bands, and of dust around active nuclei."""

from __future__ import annotations

from functools import cache

import numpy as np
from astropy import constants, units

from mmbroker.processors import relations
from mmbroker.schemas.events import Floats

EMISSIVITY_INDICES: Floats = np.linspace(1.3, 2.5, 7)
"""The emissivity indices of simulated dust."""

_SILICATE_UM = 9.7
_SILICATE_WIDTH = 0.25
"""Centre in µm of the silicate feature, and its full width at half maximum over that. Assumed: a
single profile, about as wide as the feature, serves broad bands."""

_BROAD_FILTER_UM = (6.4, 9.4)
"""Assumed ends of the broad filter at 8 µm, whose response is taken for flat."""

_TORUS_END_SLOPE = 3.5
"""Assumed: how steeply the flux density of a torus falls with wavelength beyond its last break."""

_HOTTEST_TORUS_UM = 1.2
"""Assumed wavelength in µm below which a torus hardly radiates, because hotter dust sublimates."""

_HOTTEST_DUST_UM = 11.0
"""Assumed wavelength in µm below which the power law of dust fades. There the aromatic bands take
over, and dust that is hot enough to radiate sublimates."""

_LEAST_CONTRAST = 1.05
"""Assumed: the least temperature of dust in units of the background's, which heats it."""


def dust(
    wavelength_um: Floats,
    log_luminosity: Floats,
    peak_um: Floats,
    emissivity_index: Floats,
    mid_infrared_slope: Floats,
    redshift: Floats,
) -> Floats:
    """L_nu of dust: a modified blackbody with a power law in the mid-infrared.

    Only its excess over the cosmic microwave background behind it counts (da Cunha et al. 2013, ApJ
    766 13).

    Args:
        wavelength_um: rest wavelengths in um, in equal steps of the logarithm, shape
            (wavelengths,).
        log_luminosity: log10 of L_IR in Lsun, shape (N,).
        peak_um: the rest wavelength in um where S_nu peaks, shape (N,).
        emissivity_index: one of EMISSIVITY_INDICES, shape (N,).
        mid_infrared_slope: the exponent of the power law in wavelength, shape (N,).
        redshift: the redshifts, shape (N,).

    Returns:
        L_nu in Lsun/Hz, float64, shape (N, wavelengths).
    """
    temperature = _temperature(wavelength_um, peak_um, emissivity_index)
    shape = _modified_blackbody(wavelength_um, temperature, emissivity_index, mid_infrared_slope)
    low, high = relations.INFRARED_LUMINOSITY_MICRON
    inside = (low <= wavelength_um) & (high >= wavelength_um)
    log_step = np.log(wavelength_um[1] / wavelength_um[0])
    total = (shape * _frequency_hz(wavelength_um))[:, inside].sum(axis=1) * log_step
    background = relations.CMB_TEMPERATURE_K * (1 + redshift)
    contrast = 1 - _planck_factor(wavelength_um, background) / _planck_factor(
        wavelength_um, np.maximum(temperature, _LEAST_CONTRAST * background)
    )
    emission: Floats = shape * contrast * (10**log_luminosity / total)[:, None]
    return emission


def aromatic_bands(wavelength_um: Floats, luminosity_at_8_um: Floats) -> Floats:
    """L_nu of the aromatic bands.

    Args:
        wavelength_um: rest wavelengths in um, shape (wavelengths,).
        luminosity_at_8_um: nu L_nu in the broad filter at 8 um, in Lsun, shape (N,).

    Returns:
        L_nu in Lsun/Hz, float64, shape (N, wavelengths).
    """
    shape = np.zeros_like(wavelength_um)
    for centre, width, strength in relations.AROMATIC_BANDS:
        shape += strength * _drude(wavelength_um, centre, width)
    short, long = _BROAD_FILTER_UM
    in_filter = (wavelength_um > short) & (wavelength_um < long)
    shape = shape / shape[in_filter].mean()
    return np.outer(luminosity_at_8_um, shape / _frequency_hz(wavelength_um))


def torus(wavelength_um: Floats, luminosity: Floats) -> Floats:
    """L_nu of dust around active nuclei.

    Args:
        wavelength_um: rest wavelengths in um, in equal steps of the logarithm, shape
            (wavelengths,).
        luminosity: the luminosity over all these wavelengths, in Lsun, shape (N,).

    Returns:
        L_nu in Lsun/Hz, float64, shape (N, wavelengths).
    """
    near, far = relations.TORUS_SLOPES
    middle, end = relations.TORUS_BREAKS_MICRON
    shape = np.where(
        wavelength_um < middle, (wavelength_um / middle) ** near, (wavelength_um / middle) ** far
    )
    shape = np.where(
        wavelength_um > end,
        (end / middle) ** far * (end / wavelength_um) ** _TORUS_END_SLOPE,
        shape,
    )
    shape = shape * np.exp(-((_HOTTEST_TORUS_UM / wavelength_um) ** 2))
    step = np.log(wavelength_um[1] / wavelength_um[0])
    total = (shape * _frequency_hz(wavelength_um)).sum() * step
    return np.outer(luminosity, shape / total)


def silicate_absorption(wavelength_um: Floats, depth: Floats) -> Floats:
    """The share of light that passes silicate dust.

    Args:
        wavelength_um: rest wavelengths in um, shape (wavelengths,).
        depth: the optical depth at 9.7 um, shape (N,).

    Returns:
        float64, shape (N, wavelengths).
    """
    passed: Floats = np.exp(-np.outer(depth, _drude(wavelength_um, _SILICATE_UM, _SILICATE_WIDTH)))
    return passed


def _frequency_hz(wavelength_um: Floats) -> Floats:
    return relations.SPEED_OF_LIGHT_KM_S * 1e9 / wavelength_um


def _drude(wavelength_um: Floats, centre: float, width: float) -> Floats:
    """A Drude profile of height 1; its width is a share of the centre."""
    profile: Floats = width**2 / ((wavelength_um / centre - centre / wavelength_um) ** 2 + width**2)
    return profile


def _planck_factor(wavelength_um: Floats, temperature: Floats) -> Floats:
    """1 / (exp(h nu / k T) - 1), shape (N, wavelengths)."""
    scale = (constants.h * constants.c / constants.k_B).to_value(units.K * units.um)
    exponent = (scale / wavelength_um / temperature[:, None]).clip(None, 600.0)
    factor: Floats = 1 / np.expm1(exponent)
    return factor


def _modified_blackbody(
    wavelength_um: Floats, temperature: Floats, beta: Floats, slope: Floats
) -> Floats:
    """The emission up to a factor, with a power law on the Wien side; shape (N, wavelengths)."""
    opacity = (relations.DUST_OPACITY_ONE_MICRON / wavelength_um) ** beta[:, None]
    thermal = -np.expm1(-opacity) / wavelength_um**3 * _planck_factor(wavelength_um, temperature)
    # The power law touches the blackbody where both have its slope, which is where S nu**slope
    # is largest; towards shorter wavelengths it takes over.
    power = (wavelength_um / 100.0) ** slope[:, None]
    tilted = thermal / power
    touching = tilted.argmax(axis=1)[:, None]
    power_law = np.take_along_axis(tilted, touching, axis=1) * power
    emission = np.where(np.arange(len(wavelength_um)) < touching, power_law, thermal)
    faded: Floats = emission * np.exp(-((_HOTTEST_DUST_UM / wavelength_um) ** 2))
    return faded


def _temperature(wavelength_um: Floats, peak_um: Floats, beta: Floats) -> Floats:
    temperatures, peaks = _temperature_of_peak(tuple(wavelength_um.tolist()))
    temperature = np.empty_like(peak_um)
    for value, peak in zip(EMISSIVITY_INDICES, peaks, strict=True):
        chosen = beta == value
        temperature[chosen] = np.interp(-peak_um[chosen], -peak, temperatures)
    return temperature


@cache
def _temperature_of_peak(wavelength_um: tuple[float, ...]) -> tuple[Floats, list[Floats]]:
    """Temperatures in K, and for each emissivity index the peak wavelengths in µm at these."""
    wavelength = np.array(wavelength_um)
    temperatures = np.geomspace(10.0, 200.0, 200)
    slope = np.full(200, relations.MID_INFRARED_SLOPE)
    peaks = []
    for beta in EMISSIVITY_INDICES:
        emission = _modified_blackbody(wavelength, temperatures, np.full(200, beta), slope)
        top = emission.argmax(axis=1)
        # A parabola through the three highest points, in log-log.
        y = np.log(np.array([emission[np.arange(200), top + k] for k in (-1, 0, 1)]))
        shift = 0.5 * (y[0] - y[2]) / (y[0] - 2 * y[1] + y[2])
        step = np.log(wavelength[1] / wavelength[0])
        peaks.append(wavelength[top] * np.exp(shift * step))
    return temperatures, peaks
