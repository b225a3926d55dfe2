"""Simulates spectra that ALMA would take of simulated galaxies: scans and tunings.

They have the noise, ripples, mistaken errors and flagged channels of ``spectral_noise``.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from mmbroker.models.simulation.line_emission import REST_HZ
from mmbroker.models.simulation.line_profiles import LineProfiles
from mmbroker.models.simulation.population import Population
from mmbroker.models.simulation.spectral_axes import Axis
from mmbroker.models.simulation.spectral_noise import (
    BASELINE,
    RECEIVER,
    REGIME_SHARES,
    REGIMES,
    convolved,
    draw_kernels,
    draw_mistakes,
    draw_observed,
    draw_ripples,
)
from mmbroker.processors import relations
from mmbroker.schemas.events import Floats, Spectrum

Integers = NDArray[np.int64]
Float32 = NDArray[np.float32]

SCAN_FREQUENCY_HZ: Floats = np.linspace(84.2e9, 114.9e9, 1000)
"""A 3 mm spectral scan (as of Weiss et al. 2013, ApJ 767 88), 31 MHz channels."""

TUNING_CENTRES_HZ: Floats = np.array([100e9, 144e9, 233e9, 343.5e9])
TUNING_OFFSETS_HZ: Floats = np.concatenate(
    [np.linspace(-7.75e9, -4.05e9, 480), np.linspace(4.05e9, 7.75e9, 480)]
)
"""The channels of tunings of ALMA's receivers in bands 3, 4, 6 and 7: two sidebands of 3.75 GHz
with 7.7 MHz channels. Assumed: a common set-up."""

_AXES = (
    Axis(SCAN_FREQUENCY_HZ, 30.7e6, np.repeat(np.arange(5), 200)),
    *(
        Axis(centre + TUNING_OFFSETS_HZ, 7.7e6, np.repeat(np.arange(4), 240))
        for centre in TUNING_CENTRES_HZ
    ),
)
"""The scan, whose windows are its five tunings, and the tunings, with two windows in a sideband."""

SPECTRUM_NOISE_JY = 0.4e-3
"""1 sigma in Jy in a channel of the scan; a tuning is as deep over the same width in km/s.
Assumed."""

_SCAN_SHARE = 0.5
"""The share of scans among the spectra; the rest are tunings. Assumed."""

_DEPTH_SCATTER_DEX = 0.2
_BRIGHT_JY = 3e-3
_TIME_RANGE = (0.5, 10.0)
"""The scatter of the depth, the flux density at 850 um at which a source gets the standard time,
and the range of that time's inverse: brighter sources get less time in proportion. Assumed."""

_BEAM_ARCSEC = (1.5, 1.2)
"""The major and the minor axis of the beam. Assumed."""

_REACH_IN_WIDTHS = 2.0


def spectra(
    population: Population, galaxies: Integers, random: np.random.Generator
) -> list[Spectrum]:
    """Simulate one spectrum of each galaxy: half are scans, half are tunings to a strong line.

    Args:
        population: the population that the galaxies are part of.
        galaxies: the indices of the galaxies in it, int64, shape (n,).
        random: the generator of random numbers.
    """
    scans = random.random(len(galaxies)) < _SCAN_SHARE
    tuning = _tunings(population, galaxies, random)
    axis = np.where(scans, 0, 1 + tuning)
    taken: dict[int, Spectrum] = {}
    for number, each in enumerate(_AXES):
        places = np.flatnonzero(axis == number)
        if len(places):
            spectra_of = _at(population, each, galaxies[places], random)
            taken.update(zip(places.tolist(), spectra_of, strict=True))
    return [taken[place] for place in range(len(galaxies))]


def add_lines(
    flux_jy: Float32, frequency_hz: Floats, population: Population, galaxies: Integers
) -> None:
    """Add the lines of galaxies to spectra in place.

    Args:
        flux_jy: the flux densities in Jy, float32, shape (n, channels); lines are added to them.
        frequency_hz: the frequencies in Hz, ascending, with or without gaps, shape (channels,).
        population: the population that the galaxies are part of.
        galaxies: the indices of the galaxies in it, int64, shape (n,).
    """
    edges = _edges(frequency_hz)
    for line, rest_hz in enumerate(REST_HZ):
        centre = rest_hz / (1 + population.redshift[galaxies])
        rows = np.flatnonzero((centre > frequency_hz[0]) & (centre < frequency_hz[-1]))
        if not len(rows):
            continue
        profiles = _of(population.profiles, galaxies[rows])
        reach = _REACH_IN_WIDTHS * profiles.width_km_s.max() / relations.SPEED_OF_LIGHT_KM_S
        first = np.searchsorted(frequency_hz, centre[rows] * (1 - reach))
        last = np.searchsorted(frequency_hz, centre[rows] * (1 + reach))
        channel = first[:, None] + np.arange((last - first).max())
        inside = channel < last[:, None]
        channel = np.minimum(channel, len(frequency_hz) - 1)
        velocity = relations.SPEED_OF_LIGHT_KM_S * (1 - edges[channel] / centre[rows, None, None])
        share = profiles.cumulative(velocity[:, :, 0]) - profiles.cumulative(velocity[:, :, 1])
        density = share / (velocity[:, :, 0] - velocity[:, :, 1]) * inside
        integral = population.line_flux_jy_km_s[galaxies[rows], line][:, None]
        flux_jy[rows[:, None], channel] += np.where(inside, integral * density, 0.0)


def _tunings(population: Population, galaxies: Integers, random: np.random.Generator) -> Integers:
    """The index of the tuning in which the strongest line is, or of any."""
    line_hz = REST_HZ / (1 + population.redshift[galaxies])[:, None]
    offset = np.abs(line_hz[:, :, None] - TUNING_CENTRES_HZ)
    inside = (offset > -TUNING_OFFSETS_HZ[479]) & (offset < -TUNING_OFFSETS_HZ[0])
    flux = population.line_flux_jy_km_s[galaxies][:, :, None]
    best = (flux * inside).max(axis=1)
    anything = random.integers(len(TUNING_CENTRES_HZ), size=len(galaxies))
    return np.where(best.max(axis=1) > 0, best.argmax(axis=1), anything)


def _at(
    population: Population, axis: Axis, galaxies: Integers, random: np.random.Generator
) -> Iterator[Spectrum]:
    frequency = axis.frequency_hz
    channel_km_s = relations.SPEED_OF_LIGHT_KM_S * axis.width_hz / frequency
    scan_channel_km_s = relations.SPEED_OF_LIGHT_KM_S * _AXES[0].width_hz / 100e9
    noise = SPECTRUM_NOISE_JY * np.sqrt(scan_channel_km_s / channel_km_s)
    bright = population.flux_density_jy(np.array([352.7e9]), galaxies)
    spread = _DEPTH_SCATTER_DEX * random.standard_normal((len(galaxies), 1))
    error = 10**spread * np.sqrt((bright / _BRIGHT_JY).clip(*_TIME_RANGE)) * noise
    ends = population.flux_density_jy(frequency[[0, -1]], galaxies)
    slope = np.log(ends[:, 1] / ends[:, 0]) / np.log(frequency[-1] / frequency[0])
    shape_of_continuum = np.exp(slope[:, None] * np.log(frequency / frequency[0]))
    continuum = ends[:, :1] * shape_of_continuum
    received, stated = _received(continuum, error, axis, random)
    flux = received.astype(np.float32)
    add_lines(flux, frequency, population, galaxies)
    for fluxes, errors in zip(flux, stated.astype(np.float32), strict=True):
        yield Spectrum(frequency, "BARYCENTRIC", fluxes, errors, *_BEAM_ARCSEC, 0.0)


def _received(
    continuum: Floats, error: Floats, axis: Axis, random: np.random.Generator
) -> tuple[Floats, Floats]:
    """The flux density, NaN in flagged channels, and the stated error in Jy, (n, channels) each.

    Args:
        continuum: the noiseless continuum in Jy, shape (n, channels).
        error: the true noise in Jy, shape (n, channels).
        axis: the axis of all spectra.
        random: the generator of random numbers.
    """
    regime = random.choice(len(REGIMES), len(error), p=REGIME_SHARES)
    observed = draw_observed(len(error), error.shape[1], random)
    noise = convolved(random.standard_normal(error.shape), draw_kernels(regime, random))
    flux = continuum + noise * error
    troubled = regime >= BASELINE
    flux[troubled] += draw_ripples(error[troubled], continuum[troubled], axis, random)
    broken = regime == RECEIVER
    stated = error.copy()
    stated[broken], spikes = draw_mistakes(error[broken], axis, random)
    flux[broken] += spikes
    return np.where(observed, flux, np.nan), stated


def _edges(frequency_hz: Floats) -> Floats:
    """The edges of channels, which are as wide as their nearer neighbour is far, (channels, 2)."""
    spacing = np.diff(frequency_hz)
    half = np.minimum(np.append(spacing, spacing[-1]), np.insert(spacing, 0, spacing[0])) / 2
    return np.stack([frequency_hz - half, frequency_hz + half], axis=1)


def _of(profiles: LineProfiles, galaxies: Integers) -> LineProfiles:
    return LineProfiles(
        shape=profiles.shape[galaxies],
        width_km_s=profiles.width_km_s[galaxies],
        separation=profiles.separation[galaxies],
        contrast=profiles.contrast[galaxies],
        valley=profiles.valley[galaxies],
        width_ratio=profiles.width_ratio[galaxies],
    )
