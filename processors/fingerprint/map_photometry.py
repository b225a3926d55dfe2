"""Measures flux density, peak and extent of the source in a small map."""

from __future__ import annotations

import math

import numpy as np
from astropy.stats import mad_std

from mmbroker.processors.fingerprint.errors import UnusableError
from mmbroker.processors.fingerprint.map_wcs import celestial_wcs
from mmbroker.processors.relations import FWHM_PER_SIGMA
from mmbroker.processors.validation import FAINTEST_ERROR_JY
from mmbroker.schemas.events import ContinuumMap, Floats, MapStatistics

MAP_FREQUENCY_STEP = 0.05
"""Width in ln(frequency) of the bins within which maps are merged."""

DETECTION_SIGMAS = 5.0
"""The extent of a source is measured only above this signal-to-noise ratio of its peak."""

APERTURE_FWHM = 1.0
"""Radius of the aperture in units of the beam's full width at half maximum."""

_POINT_SOURCE_FRACTION = 1.0 - 2.0 ** (-4.0 * APERTURE_FWHM**2)
"""Share of a Gaussian beam that is within the aperture."""

LEAST_OBSERVED_FRACTION = 0.5
"""A map is unusable if its observed part has less than this share of the light of a point source
in the aperture."""


def measure(
    continuum_map: ContinuumMap, right_ascension_deg: float, declination_deg: float
) -> MapStatistics:
    """Measure the source at a position.

    The flux density is summed in an ellipse whose semi-axes are the beam's full widths at half
    maximum. It is divided by the share of a point source that falls on the observed pixels of the
    ellipse. This is right for compact sources, also at an edge or beside blank pixels, and too low
    for very extended ones. The noise is measured on the map if none is stated.

    Args:
        continuum_map: the map.
        right_ascension_deg: ICRS right ascension of the source in degrees.
        declination_deg: ICRS declination of the source in degrees.

    Raises:
        UnusableError: the WCS cannot be read, most of the aperture lies outside of what was
            observed, or the noise is neither stated nor measurable.
    """
    image = continuum_map.image.astype(float)
    wcs = celestial_wcs(continuum_map.wcs_header)
    pixel_arcsec = wcs.pixel_side_arcsec
    x, y = wcs.pixel_of(right_ascension_deg, declination_deg)
    beam_arcsec = math.sqrt(continuum_map.beam_major_arcsec * continuum_map.beam_minor_arcsec)
    rows, columns = np.indices(image.shape)
    distance_arcsec = np.hypot(columns - x, rows - y) * pixel_arcsec
    # The distance that a round beam of the same area has where this beam is as faint.
    on_beam_arcsec = distance_arcsec
    if continuum_map.beam_major_arcsec != continuum_map.beam_minor_arcsec:
        angle = wcs.angle_on_pixels_rad(continuum_map.beam_position_angle_deg)
        stretch = math.sqrt(continuum_map.beam_major_arcsec / continuum_map.beam_minor_arcsec)
        along = (columns - x) * math.cos(angle) + (rows - y) * math.sin(angle)
        across = (rows - y) * math.cos(angle) - (columns - x) * math.sin(angle)
        on_beam_arcsec = np.hypot(along / stretch, across * stretch) * pixel_arcsec
    aperture = (on_beam_arcsec <= APERTURE_FWHM * beam_arcsec) & np.isfinite(image)
    if not aperture.any():
        raise UnusableError(
            f"continuum_map has no observed pixel within {APERTURE_FWHM * beam_arcsec:.3g} arcsec "
            f"of right ascension {right_ascension_deg:.6f}, declination {declination_deg:.6f}"
        )
    noise = continuum_map.noise_jy_per_beam or _noise(image, on_beam_arcsec, beam_arcsec)
    pixels_per_beam = 2 * math.pi * (beam_arcsec / FWHM_PER_SIGMA / pixel_arcsec) ** 2
    beam = _beam(on_beam_arcsec[aperture], beam_arcsec)
    share = float(beam.sum()) / pixels_per_beam
    if share < LEAST_OBSERVED_FRACTION * _POINT_SOURCE_FRACTION:
        raise UnusableError(
            f"continuum_map was observed in {share:.0%} of the beam at right ascension "
            f"{right_ascension_deg:.6f}, declination {declination_deg:.6f}"
        )
    beams = max(aperture.sum() / pixels_per_beam, 1.0)
    flux = float(image[aperture].sum()) / pixels_per_beam / share
    error = noise * math.sqrt(beams) / share
    peak = float(image[aperture].max())
    extent = 0.0
    if peak >= DETECTION_SIGMAS * noise:
        extent = _deconvolved_fwhm(image[aperture], beam, distance_arcsec[aperture])
    weight = error**-2
    return MapStatistics(
        frequency_bin=frequency_bin(continuum_map.frequency_hz),
        weight=weight,
        weighted_frequency=weight * continuum_map.frequency_hz,
        weighted_flux=weight * flux,
        weighted_square=weight * flux**2,
        weighted_peak=weight * peak,
        weighted_extent=weight * extent,
        smallest_beam_arcsec=beam_arcsec,
        count=1,
    )


def frequency_bin(frequency_hz: float) -> int:
    """The bin of a map's frequency; maps of one bin are merged."""
    return math.floor(math.log(frequency_hz) / MAP_FREQUENCY_STEP)


def _noise(image: Floats, distance_arcsec: Floats, beam_arcsec: float) -> float:
    """1 sigma noise away from the source, robust against other sources in the map."""
    away = image[(distance_arcsec > 2 * beam_arcsec) & np.isfinite(image)]
    sample = away if away.size >= 16 else image[np.isfinite(image)]
    noise = float(mad_std(sample))
    if not noise >= FAINTEST_ERROR_JY:
        raise UnusableError(
            f"continuum_map.noise_jy_per_beam is unknown and the map has a noise of {noise:.3g} "
            f"Jy/beam, below {FAINTEST_ERROR_JY:g}"
        )
    return noise


def _beam(distance_arcsec: Floats, beam_arcsec: float) -> Floats:
    """A Gaussian beam of peak one."""
    profile: Floats = np.exp(-0.5 * np.square(distance_arcsec * FWHM_PER_SIGMA / beam_arcsec))
    return profile


def _deconvolved_fwhm(flux: Floats, beam: Floats, distance_arcsec: Floats) -> float:
    """Full width at half maximum in arcsec, from second moments without the beam's.

    The aperture reduces the moments of beam and source alike. So the moment of the beam is measured
    in the same pixels.

    Args:
        flux: surface brightness of each pixel of the aperture.
        beam: the beam there.
        distance_arcsec: distance of each pixel from the source.
    """
    radius_squared = distance_arcsec**2
    light = np.clip(flux, 0.0, None)
    variance = [float((each * radius_squared).sum() / each.sum() / 2) for each in (light, beam)]
    return FWHM_PER_SIGMA * math.sqrt(max(variance[0] - variance[1], 0.0))
