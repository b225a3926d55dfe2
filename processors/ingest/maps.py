"""Reads continuum and radio maps from FITS images, cut out around a position."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.nddata import NoOverlapError, overlap_slices
from astropy.wcs import WCS

from mmbroker.processors.ingest.beams import Beam, read_beam
from mmbroker.processors.ingest.coordinates import (
    axis_keywords,
    long_axes,
    outside,
    sky_axes,
    sky_frame,
    sky_pixel,
    sky_position,
    stokes_plane,
)
from mmbroker.processors.ingest.headers import (
    Given,
    Header,
    HeaderError,
    Origin,
    bare_observation,
    stated_unit,
)
from mmbroker.processors.ingest.images import Image, find_data, image_in, opened
from mmbroker.processors.ingest.spectral_axis import image_frequencies
from mmbroker.processors.validation import LARGEST_SIDE, SMALLEST_SIDE
from mmbroker.schemas.events import ContinuumMap, Observation

DEFAULT_SIDE_PIXELS = 64
FINEST_PIXEL_ARCSEC = 1e-6
"""Below that of any interferometer."""
_UNITS = "Jy/beam, Jy/pixel or a multiple such as mJy/beam"


def read_map(
    path: str | Path, given: Given | None = None, origins: list[Origin] | None = None
) -> Observation:
    """Read the observation in a FITS image, cut out around the given position or the centre.

    Axes of length one are dropped. The others must be the two axes of the sky, in any order; of
    polarisations Stokes I is read.

    Args:
        path: FITS file with a celestial coordinate system, BUNIT in Jy/beam or Jy/pixel and the
            beam in BMAJ, BMIN, BPA.
        given: values that replace those of the header.
        origins: list to which is added what was read, and from where.

    Raises:
        HeaderError: the file has no image; its coordinates, unit, beam, frequency, position or time
            is not known; or the position is outside of the image. The message names keyword and
            file.
    """
    path, given = Path(path), given or Given()
    with opened(path) as extensions:
        extension = find_data(extensions, given)
        if not extension.is_image:
            raise HeaderError("holds no image of two dimensions")
        image = image_in(extensions, extension, given)
        observation = _observation(path, image)
    if origins is not None:
        origins += image.header.origins
    return observation


def _observation(path: Path, image: Image) -> Observation:
    header, wcs, given = image.header, image.wcs, image.header.given
    if not wcs.has_celestial:
        raise HeaderError(f"CTYPE = {', '.join(wcs.wcs.ctype)}: no celestial axes")
    sky = sky_axes(wcs)
    if long_axes(wcs) != sky:
        raise HeaderError(
            f"{axis_keywords(wcs, long_axes(wcs))}: this is no map of the sky, whose axes are "
            f"CTYPE{sky[0] + 1} and CTYPE{sky[1] + 1}"
        )
    header.note("coordinates", sky_frame(wcs), "CTYPE, RADESYS, EQUINOX")
    celestial = wcs.celestial
    stokes = stokes_plane(wcs)
    beam = read_beam(header, image.extensions, 0 if stokes is None else stokes[1])
    if beam is None:
        raise HeaderError("no beam in the header (BMAJ, BMIN): give --beam")
    frequency = _frequency(header, wcs)
    rows, columns = _cut(wcs, celestial, given)
    part = image.read(image.index({sky[0]: columns, sky[1]: rows}))
    unit = _unit(header)
    factor = _jy_per_beam(unit, celestial, beam)
    values = part * factor
    cut = celestial.deepcopy()
    cut.wcs.crpix -= (columns.start, rows.start)
    height, width = values.shape
    centre = sky_position(cut, (width - 1) / 2, (height - 1) / 2)
    return replace(
        bare_observation(path, header, centre, beam.axes, part=given.position),
        continuum_map=ContinuumMap(
            image_jy_per_beam=values.astype(np.float32).ravel(),
            height=height,
            width=width,
            wcs_header=cut.to_header_string(),
            frequency_hz=frequency,
            beam_major_arcsec=beam.axes[0],
            beam_minor_arcsec=beam.axes[1],
            beam_position_angle_deg=beam.axes[2],
            noise_jy_per_beam=_noise(image, unit, factor),
        ),
    )


def _frequency(header: Header, wcs: WCS) -> float:
    if (given := header.given.frequency_hz) is not None:
        header.note("frequency", f"{given / 1e9:.9g} GHz", "--frequency-ghz")
        return given
    if wcs.wcs.spec >= 0:
        return float(image_frequencies(header, wcs, 1)[0])
    for name in ("RESTFRQ", "RESTFREQ", "FREQ", "OBSFREQ"):
        if stated := header.number(name):
            header.note("frequency", f"{stated / 1e9:.9g} GHz", name)
            return stated
    raise HeaderError("no frequency axis and no RESTFRQ in the header: give --frequency-ghz")


def _cut(wcs: WCS, celestial: WCS, given: Given) -> tuple[slice, slice]:
    """Rows and columns of the cut-out."""
    width, height = celestial.pixel_shape
    area = celestial.proj_plane_pixel_area().to_value(u.arcsec**2)
    if not FINEST_PIXEL_ARCSEC**2 <= area < np.inf:
        raise HeaderError(f"CDELT, CD: pixels of {area:.3g} arcsec2 are none of a map")
    column, row = (width - 1) / 2, (height - 1) / 2
    if given.position is not None:
        column, row = sky_pixel(wcs, given.position)
    side = DEFAULT_SIDE_PIXELS
    if given.side_arcsec is not None:
        side = round(given.side_arcsec / np.sqrt(area))
    side = min(max(side, SMALLEST_SIDE), LARGEST_SIDE)
    try:
        rows, columns = overlap_slices((height, width), (side, side), (row, column), "trim")[0]
    except NoOverlapError as error:
        raise outside(given.position or (np.nan, np.nan)) from error
    if rows.start == rows.stop or columns.start == columns.stop:
        raise outside(given.position or (np.nan, np.nan))
    return rows, columns


def _noise(image: Image, unit: u.UnitBase, factor: float) -> float | None:
    """Noise in Jy/beam at the given position or in the middle; None if it is to be measured."""
    wcs, position = image.wcs, image.header.given.position
    sky = sky_axes(wcs)
    pixel = [(wcs.pixel_shape[axis] - 1) / 2 for axis in sky]
    if position is not None:
        pixel = list(sky_pixel(wcs, position))
    error = image.errors(image.index(dict(zip(sky, map(round, pixel), strict=True))), unit)
    if error is None:
        image.header.note("noise", "to be measured on the cut-out", "no extension with errors")
        return None
    noise = float(error.to_value(unit)) * factor
    if not 0.0 < noise < np.inf:
        raise HeaderError(f"the error is {noise:g} Jy/beam at the position: give --measure-noise")
    return noise


def _unit(header: Header) -> u.UnitBase:
    """Unit of the pixels."""
    name, text = "--unit", header.given.unit
    if text is None:
        name, text = "BUNIT", header.text("BUNIT")
    if text is None:
        raise HeaderError(f"BUNIT is not set: use {_UNITS}, or give --unit")
    unit = stated_unit(name, text)
    header.note("unit", unit, f"{name} = {text}")
    return unit


def _jy_per_beam(unit: u.UnitBase, wcs: WCS, beam: Beam) -> float:
    """The factor that converts pixel values to Jy/beam."""
    if (unit * u.pix).is_equivalent(u.Jy):
        return float((unit * u.pix).to(u.Jy) * beam.solid_angle / wcs.proj_plane_pixel_area())
    try:
        return float(unit.to(u.Jy / u.beam, equivalencies=u.beam_angular_area(beam.solid_angle)))
    except u.UnitConversionError as error:
        raise HeaderError(f"BUNIT = '{unit}': {error}: use {_UNITS}, or give --unit") from error
