"""Simulates maps that ALMA and the VLA would make of simulated galaxies."""

from __future__ import annotations

import numpy as np
from astropy.wcs import WCS
from numpy.typing import NDArray

from mmbroker.models.simulation import radio_maps
from mmbroker.models.simulation.population import Population
from mmbroker.processors import relations
from mmbroker.schemas.events import ContinuumMap, Floats

Integers = NDArray[np.int64]

MAP_SIDE = 48
MAP_PIXELS_PER_BEAM = 5.0

_INSTRUMENTS = ("ALMA", "VLA", "VLA")
_SHARES = (0.5, 0.25, 0.25)
_FREQUENCY_HZ = np.array([233e9, 1.4e9, 8e9])
_NOISE_JY = np.array([40e-6, 4e-6, 2e-6])
_BEAM_ARCSEC = np.array([0.8, 1.5, 0.6])
"""Instrument, share, frequency, noise and beam of each kind of map. Assumed: snapshots of ALMA and
deep fields of the VLA."""

_WIDEST_BEAMS = 4.0
"""The largest extent of a source in beams. Assumed: a larger source is observed with a wider beam,
so that it fits the map."""


def maps(
    population: Population,
    galaxies: Integers,
    right_ascension_deg: Floats,
    declination_deg: Floats,
    random: np.random.Generator,
) -> list[tuple[str, ContinuumMap]]:
    """Simulate one map of each galaxy at its position.

    Args:
        population: the population that the galaxies are part of.
        galaxies: the indices of the galaxies in it, int64, shape (N,).
        right_ascension_deg: right ascensions of the middles of the maps in degrees, shape (N,).
        declination_deg: their declinations in degrees, shape (N,).
        random: the generator of random numbers.

    Returns:
        The name of the instrument and the map, of each galaxy.
    """
    kind = random.choice(len(_INSTRUMENTS), len(galaxies), p=_SHARES)
    frequency, noise, beam_arcsec = _FREQUENCY_HZ[kind], _NOISE_JY[kind], _BEAM_ARCSEC[kind]
    flux = population.flux_density_jy(frequency[:, None], galaxies)[:, 0]
    is_radio = frequency < 50e9
    # Dust has no lobes.
    morphology = np.where(is_radio, population.morphology[galaxies], radio_maps.EXTENDED)
    disc_kpc = relations.FWHM_PER_RADIUS * population.dust_radius_kpc[galaxies]
    extent_kpc = np.where(is_radio, population.radio_extent_kpc[galaxies], disc_kpc)
    extent_arcsec = extent_kpc * population.arcsec_per_kpc(galaxies)
    beam_arcsec = np.maximum(beam_arcsec, extent_arcsec / _WIDEST_BEAMS)
    round_beam = radio_maps.Beam(
        pixels=np.full(len(galaxies), MAP_PIXELS_PER_BEAM),
        axis_ratio=np.ones(len(galaxies)),
        angle=np.zeros(len(galaxies)),
    )
    components = radio_maps.draw_components(morphology, flux, random)
    components = radio_maps.resized(components, extent_arcsec / beam_arcsec)
    images = radio_maps.images(components, round_beam, MAP_SIDE)
    images += radio_maps.correlated_noise(noise, round_beam, MAP_SIDE, random)
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---SIN", "DEC--SIN"]
    wcs.wcs.crpix = [MAP_SIDE / 2 + 0.5] * 2
    made = []
    for row in range(len(galaxies)):
        pixel_deg = beam_arcsec[row] / MAP_PIXELS_PER_BEAM / 3600
        wcs.wcs.cdelt = [-pixel_deg, pixel_deg]
        wcs.wcs.crval = [right_ascension_deg[row], declination_deg[row]]
        continuum_map = ContinuumMap(
            image_jy_per_beam=images[row].ravel(),
            height=MAP_SIDE,
            width=MAP_SIDE,
            wcs_header=wcs.to_header_string(),
            frequency_hz=float(frequency[row]),
            beam_major_arcsec=float(beam_arcsec[row]),
            beam_minor_arcsec=float(beam_arcsec[row]),
            noise_jy_per_beam=float(noise[row]),
        )
        made.append((_INSTRUMENTS[kind[row]], continuum_map))
    return made
