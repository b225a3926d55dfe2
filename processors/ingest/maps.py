"""Reads continuum and radio maps from FITS images, cut out around a position."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.nddata import Cutout2D, NoOverlapError
from astropy.wcs import WCS

from mmbroker.processors.ingest.headers import (
    Given,
    Header,
    HeaderError,
    axis_keywords,
    bare_observation,
    beam_arcsec,
    beam_area,
    coordinate_system,
)
from mmbroker.processors.validation import LARGEST_SIDE, SMALLEST_SIDE
from mmbroker.schemas.events import ContinuumMap, Floats, Observation
from mmbroker.schemas.wording import unit_problem

DEFAULT_SIDE_PIXELS = 64
_UNITS = "Jy/beam, Jy/pixel or a multiple such as mJy/beam"


def read_map(path: str | Path, given: Given | None = None) -> Observation:
    """Read the observation in a FITS image, cut out around the given position or the centre.

    Axes of length one are dropped. The others must be the two axes of the sky, in any order.

    Args:
        path: FITS file with a celestial coordinate system, BUNIT in Jy/beam or Jy/pixel and the
            beam in BMAJ, BMIN, BPA.
        given: values that replace those of the header.

    Raises:
        HeaderError: the file has no image; its coordinates, unit, beam, frequency, position or time
            is not known; or the position is outside of the image. The message names keyword and
            file.
    """
    path, given = Path(path), given or Given()
    stored, header = _image(path)
    wcs = coordinate_system(path, header, stored.shape)
    if not wcs.has_celestial:
        raise HeaderError(f"{path}: CTYPE = {', '.join(wcs.wcs.ctype)}: no celestial axes")
    sky = wcs.wcs.lng, wcs.wcs.lat
    long = [axis for axis in range(wcs.naxis) if wcs.pixel_shape[axis] > 1]
    if long != sorted(sky):
        raise HeaderError(
            f"{path}: {axis_keywords(wcs, long)}: this is no map of the sky, whose axes are "
            f"CTYPE{sky[0] + 1} and CTYPE{sky[1] + 1}"
        )
    celestial = wcs.celestial
    data = np.ascontiguousarray(np.squeeze(stored), dtype=np.float64)
    beam = beam_arcsec(header)
    if beam is None:
        raise HeaderError(f"{path}: no beam in the header (BMAJ, BMIN)")
    frequency = given.frequency_hz or _frequency(path, wcs, header)
    cutout = _cutout(path, data, celestial, given)
    image = cutout.data * _jy_per_beam(path, header, celestial, beam)
    middle = ((image.shape[1] - 1) / 2, (image.shape[0] - 1) / 2)
    centre = cutout.wcs.pixel_to_world(*middle).icrs
    bare = bare_observation(path, header, given, (float(centre.ra.deg), float(centre.dec.deg)), "")
    return replace(
        bare,
        continuum_map=ContinuumMap(
            image_jy_per_beam=image.astype(np.float32).ravel(),
            height=image.shape[0],
            width=image.shape[1],
            wcs_header=cutout.wcs.to_header_string(),
            frequency_hz=frequency,
            beam_major_arcsec=beam[0],
            beam_minor_arcsec=beam[1],
            beam_position_angle_deg=beam[2],
        ),
    )


def _image(path: Path) -> tuple[Floats, fits.Header]:
    """The first image with exactly two axes longer than one, as it is stored, and its header."""
    try:
        with fits.open(path, memmap=False) as extensions:
            for extension in extensions:
                if not extension.is_image or extension.data is None:
                    continue
                if np.squeeze(extension.data).ndim == 2:
                    header = extensions[0].header.copy()
                    header.update(extension.header)
                    return extension.data, header
    except OSError as error:
        raise HeaderError(f"{path} cannot be read: {error}") from error
    raise HeaderError(f"{path} holds no image of two dimensions")


def _frequency(path: Path, wcs: WCS, header: Header) -> float:
    if wcs.wcs.spec >= 0 and wcs.wcs.ctype[wcs.wcs.spec].startswith(("FREQ", "WAVE")):
        spectral = wcs.spectral
        middle = u.Quantity(spectral.pixel_to_world_values(0.0), spectral.world_axis_units[0])
        return float(middle.to_value(u.Hz, u.spectral()))
    for name in ("RESTFRQ", "RESTFREQ", "FREQ", "OBSFREQ"):
        if header.get(name):
            return float(header[name])
    raise HeaderError(
        f"{path}: no frequency axis and no RESTFRQ in the header: give --frequency-ghz"
    )


def _cutout(path: Path, data: Floats, wcs: WCS, given: Given) -> Cutout2D:
    height, width = data.shape
    place: SkyCoord | tuple[float, float] = ((width - 1) / 2, (height - 1) / 2)
    if given.right_ascension_deg is not None and given.declination_deg is not None:
        place = SkyCoord(given.right_ascension_deg, given.declination_deg, unit="deg")
    side = DEFAULT_SIDE_PIXELS
    if given.side_arcsec is not None:
        side = round(
            given.side_arcsec / (np.sqrt(wcs.proj_plane_pixel_area().to_value(u.arcsec**2)))
        )
    side = min(max(side, SMALLEST_SIDE), LARGEST_SIDE)
    try:
        return Cutout2D(data, place, (side, side), wcs=wcs, mode="trim", copy=True)
    except (NoOverlapError, ValueError) as error:  # ValueError: the cut-out has no pixel
        raise HeaderError(
            f"{path}: --right-ascension {given.right_ascension_deg} --declination "
            f"{given.declination_deg} is outside the image"
        ) from error


def _jy_per_beam(path: Path, header: Header, wcs: WCS, beam: tuple[float, float, float]) -> float:
    """The factor that converts pixel values to Jy/beam."""
    text = str(header.get("BUNIT", "")).strip()
    if not text:
        raise HeaderError(f"{path}: BUNIT is not set: use {_UNITS}")
    try:
        unit = u.Unit(text)
    except ValueError as error:
        raise HeaderError(f"{path}: BUNIT = {text!r}: {unit_problem(error)}") from error
    if (unit * u.pix).is_equivalent(u.Jy):
        return float((unit * u.pix).to(u.Jy) * beam_area(beam) / wcs.proj_plane_pixel_area())
    try:
        return float(unit.to(u.Jy / u.beam, equivalencies=u.beam_angular_area(beam_area(beam))))
    except u.UnitConversionError as error:
        raise HeaderError(f"{path}: BUNIT = {text!r}: {error}: use {_UNITS}") from error
