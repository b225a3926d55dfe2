"""Observations as the parser's networks read them.

Observations that are far from all training data are not given to the networks: no feature tree is
better than a meaningless one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mmbroker.processors.features.maps import MapInput, map_input
from mmbroker.processors.features.patches import Patches, median, patches_of
from mmbroker.processors.fingerprint.contribution import barycentric_frequency_hz
from mmbroker.processors.fingerprint.errors import UnusableError
from mmbroker.processors.fingerprint.map_wcs import celestial_wcs
from mmbroker.schemas.events import Observation

FREQUENCIES_HZ = (75e9, 370e9)
"""Range of the simulated spectra of the training: the receivers from 3 to 0.85 mm."""

WIDEST_CHANNEL_KM_S = 250.0
MOST_PATCHES = 2048
"""Enough for the whole range in the narrowest channels, which takes 1,870, and some gaps."""

LEAST_OBSERVED = 0.4
"""Least share of the network's square that must lie in a map.

The simulated maps of the training are at least 8 beams wide."""

FEWEST_PIXELS_PER_BEAM = 2.0
FAINTEST_PEAK = 4.0
"""Signal-to-noise ratio of the faintest simulated source."""


@dataclass(frozen=True, slots=True, eq=False)
class SourceInMap:
    """The network's input for a map around its source.

    Attributes:
        input: input of the network.
        x_arcsec: offset of the source from the middle of the map in the direction in which the
            column number grows.
        y_arcsec: offset in the direction in which the row number grows.
    """

    input: MapInput
    x_arcsec: float
    y_arcsec: float


def spectrum_input(observation: Observation) -> Patches | None:
    """The spectrum of a valid observation, in the barycentric frame, as input of the network.

    Returns:
        The spectrum; None without one, outside of the network's range of frequencies, with fewer
        than eight observed channels, with channels wider than the limit, and with too many patches.
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
    """The map of a valid observation around its position, as input of the network.

    Returns:
        The map; None without one, if the map is blank, too small or too coarse, and if nothing in
        it is as bright as the sources of the training.
    """
    continuum_map = observation.continuum_map
    if continuum_map is None:
        return None
    try:
        wcs = celestial_wcs(continuum_map.wcs_header)
        x, y = wcs.pixel_of(observation.right_ascension_deg, observation.declination_deg)
        image = continuum_map.image.astype(float)
        pixel_arcsec = wcs.pixel_side_arcsec
        found = map_input(
            image,
            pixel_arcsec,
            continuum_map.beam_major_arcsec,
            continuum_map.beam_minor_arcsec,
            wcs.angle_on_pixels_rad(continuum_map.beam_position_angle_deg),
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
