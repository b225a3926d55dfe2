"""Measures flux density, peak and extent of the source in a small map."""

from __future__ import annotations

import math
import warnings
from functools import lru_cache

import numpy as np
from astropy.stats import mad_std
from astropy.utils.exceptions import AstropyWarning
from astropy.wcs import Wcsprm

from mmbroker.processors.relations import FWHM_PER_SIGMA
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


class UnusableError(ValueError):
    """Raised for a well-formed observation that cannot be used; the message says why."""


def measure(
    continuum_map: ContinuumMap, right_ascension_deg: float, declination_deg: float
) -> MapStatistics:
    """Measure the source at a position.

    The flux density is summed in a circle whose radius is the beam's full width at half maximum. It
    is divided by the share of a point source that falls on the observed pixels of the circle. This
    is right for compact sources, also at an edge or beside blank pixels, and too low for very
    extended ones. The noise is measured on the map if none is stated.

    Args:
        continuum_map: the map.
        right_ascension_deg: ICRS right ascension of the source in degrees.
        declination_deg: ICRS declination of the source in degrees.

    Raises:
        UnusableError: the WCS cannot be read, or most of the aperture lies outside of what was
            observed.
    """
    image = continuum_map.image.astype(float)
    wcs = celestial_wcs(continuum_map.wcs_header)
    pixel_arcsec = pixel_side_arcsec(wcs)
    x, y = pixel_of(wcs, right_ascension_deg, declination_deg)
    beam_arcsec = math.sqrt(continuum_map.beam_major_arcsec * continuum_map.beam_minor_arcsec)
    rows, columns = np.indices(image.shape)
    distance_arcsec = np.hypot(columns - x, rows - y) * pixel_arcsec
    aperture = (distance_arcsec <= APERTURE_FWHM * beam_arcsec) & np.isfinite(image)
    if not aperture.any():
        raise UnusableError(
            f"continuum_map has no observed pixel within {APERTURE_FWHM * beam_arcsec:.3g} arcsec "
            f"of right ascension {right_ascension_deg:.6f}, declination {declination_deg:.6f}"
        )
    noise = continuum_map.noise_jy_per_beam or _noise(image, distance_arcsec, beam_arcsec)
    pixels_per_beam = 2 * math.pi * (beam_arcsec / FWHM_PER_SIGMA / pixel_arcsec) ** 2
    share = float(_beam(distance_arcsec[aperture], beam_arcsec).sum()) / pixels_per_beam
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
        extent = _deconvolved_fwhm(image, aperture, distance_arcsec, beam_arcsec)
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


@lru_cache(maxsize=128)
def celestial_wcs(header: str) -> Wcsprm:
    """The first two axes of a WCS, which have to be the celestial ones.

    Of astropy's two classes this is the plain one, which reads a header in a tenth of the time. The
    result is cached, because a batch of maps is first measured and then parsed.

    Raises:
        UnusableError: the header cannot be read, or its first two axes are not celestial.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AstropyWarning)
        try:
            wcs = Wcsprm(header=header.encode("ascii"), relax=True)
            wcs.fix()
            celestial = wcs.sub(2)
            celestial.set()
        except Exception as error:  # wcslib raises many kinds
            raise UnusableError(f"continuum_map.wcs_header cannot be read: {error}") from error
    if celestial.lng < 0 or celestial.lat < 0:
        raise UnusableError(f"continuum_map.wcs_header has no celestial axes: {header[:80]!r}")
    return celestial


def pixel_side_arcsec(celestial: Wcsprm) -> float:
    """Side of a square with the area of a pixel at the reference point."""
    sides = np.linalg.norm(np.diag(celestial.get_cdelt()) @ celestial.get_pc(), axis=0)
    return float(np.sqrt(np.prod(sides))) * 3600.0


def angle_on_pixels_rad(celestial: Wcsprm, position_angle_deg: float) -> float:
    """Angle on the pixels of a map of a direction on the sky.

    It counts from the direction in which the column number grows towards that in which the row
    number grows.

    Args:
        celestial: coordinate system of the map.
        position_angle_deg: position angle of the direction, from north through east.
    """
    direction = np.empty(2)
    angle = math.radians(position_angle_deg)
    direction[celestial.lng], direction[celestial.lat] = math.sin(angle), math.cos(angle)
    along, across = np.linalg.solve(np.diag(celestial.get_cdelt()) @ celestial.get_pc(), direction)
    return math.atan2(across, along)


def pixel_of(
    celestial: Wcsprm, right_ascension_deg: float, declination_deg: float
) -> tuple[float, float]:
    """Column and row of a position, counted from 0.

    Raises:
        UnusableError: the projection of the map does not reach the position.
    """
    world = np.empty((1, 2))
    world[0, celestial.lng], world[0, celestial.lat] = right_ascension_deg, declination_deg
    try:
        column, row = celestial.s2p(world, 0)["pixcrd"][0]
    except Exception as error:  # as above
        raise UnusableError(
            f"continuum_map.wcs_header does not hold the source: {error}"
        ) from error
    return float(column), float(row)


def _noise(image: Floats, distance_arcsec: Floats, beam_arcsec: float) -> float:
    """1 sigma noise away from the source, robust against other sources in the map."""
    away = image[(distance_arcsec > 2 * beam_arcsec) & np.isfinite(image)]
    sample = away if away.size >= 16 else image[np.isfinite(image)]
    noise = float(mad_std(sample))
    if not noise > 0:
        raise UnusableError("continuum_map.noise_jy_per_beam is unknown and the map has no noise")
    return noise


def _beam(distance_arcsec: Floats, beam_arcsec: float) -> Floats:
    """A Gaussian beam of peak one."""
    profile: Floats = np.exp(-0.5 * np.square(distance_arcsec * FWHM_PER_SIGMA / beam_arcsec))
    return profile


def _deconvolved_fwhm(
    image: Floats, aperture: np.ndarray[tuple[int, ...], np.dtype[np.bool_]],
    distance_arcsec: Floats, beam_arcsec: float,
) -> float:  # fmt: skip
    """Full width at half maximum in arcsec, from second moments without the beam's.

    The aperture reduces the moments of beam and source alike. So the moment of the beam is measured
    in the same pixels.
    """
    radius_squared = distance_arcsec[aperture] ** 2
    beam = _beam(distance_arcsec[aperture], beam_arcsec)
    light = np.clip(image[aperture], 0.0, None)
    variance = [float((each * radius_squared).sum() / each.sum() / 2) for each in (light, beam)]
    return FWHM_PER_SIGMA * math.sqrt(max(variance[0] - variance[1], 0.0))
