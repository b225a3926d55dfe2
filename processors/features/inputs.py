"""Observations as the parser's networks read them.

What is far from all that the networks were trained on is not given to them: no tree is better than
one that means nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mmbroker.processors.features.maps import MapInput, map_input
from mmbroker.processors.features.patches import Patches, median, patches_of
from mmbroker.processors.fingerprint.contribution import barycentric_frequency_hz
from mmbroker.processors.fingerprint.map_photometry import (
    UnusableError,
    angle_on_pixels_rad,
    celestial_wcs,
    pixel_of,
    pixel_side_arcsec,
)
from mmbroker.schemas.events import Observation

FREQUENCIES_HZ = (75e9, 370e9)
"""Where simulated spectra lie: the receivers from 3 to 0.85 mm."""

WIDEST_CHANNEL_KM_S = 250.0
MOST_PATCHES = 2048
"""All of the range in the narrowest channels, which is 1,870, and some gaps."""

LEAST_OBSERVED = 0.4
"""Share of the network's square that lies in a map: simulated maps are 8 beams wide or more."""

FEWEST_PIXELS_PER_BEAM = 2.0
FAINTEST_PEAK = 4.0
"""Signal-to-noise ratio of the faintest simulated source."""


@dataclass(frozen=True, slots=True, eq=False)
class SourceInMap:
    """A map around its source.

    Args:
        input: of the network.
        x_arcsec: offset of the source from the middle of the map along its columns.
        y_arcsec: along its rows.
    """

    input: MapInput
    x_arcsec: float
    y_arcsec: float


def spectrum_input(observation: Observation) -> Patches | None:
    """The spectrum of a valid observation in the barycentric frame.

    None without one, where fewer than eight channels were observed, and off the network's range.
    """
    spectrum = observation.spectrum
    if spectrum is None:
        return None
    low, high = sorted((float(spectrum.frequency_hz[0]), float(spectrum.frequency_hz[-1])))
    if low < FREQUENCIES_HZ[0] or high > FREQUENCIES_HZ[1]:
        return None
    try:
        patches = patches_of(
            barycentric_frequency_hz(observation, spectrum),
            spectrum.flux_density_jy,
            spectrum.flux_error_jy,
            MOST_PATCHES,
        )
    except (ValueError, ArithmeticError):
        return None
    if median(patches.width_km_s) > WIDEST_CHANNEL_KM_S:
        return None
    return patches if np.isfinite(patches.channels).all() else None


def source_in_map(observation: Observation) -> SourceInMap | None:
    """The map of a valid observation around its position.

    None without one, where the map is blank, too small or too coarse, and where nothing in it is as
    bright as what the network was trained on.
    """
    continuum_map = observation.continuum_map
    if continuum_map is None:
        return None
    try:
        wcs = celestial_wcs(continuum_map.wcs_header)
        x, y = pixel_of(wcs, observation.right_ascension_deg, observation.declination_deg)
        image = continuum_map.image.astype(float)
        pixel_arcsec = pixel_side_arcsec(wcs)
        found = map_input(
            image,
            pixel_arcsec,
            continuum_map.beam_major_arcsec,
            continuum_map.beam_minor_arcsec,
            angle_on_pixels_rad(wcs, continuum_map.beam_position_angle_deg),
            continuum_map.noise_jy_per_beam,
            middle=(x, y),
        )
    except (UnusableError, ValueError, ArithmeticError):
        return None
    if (
        found.beam_arcsec < FEWEST_PIXELS_PER_BEAM * pixel_arcsec
        or found.observed < LEAST_OBSERVED
        or not np.isfinite(found.pixels).all()
        or found.peak < FAINTEST_PEAK
    ):
        return None
    height, width = image.shape
    return SourceInMap(
        found, (x - (width - 1) / 2) * pixel_arcsec, (y - (height - 1) / 2) * pixel_arcsec
    )
