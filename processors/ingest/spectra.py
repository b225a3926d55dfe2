"""Reads one-dimensional spectra from FITS and ECSV files.

A FITS image with one spectral axis (frequency, wavelength or velocity), a pixel of a cube, or a
table with such a column, becomes an observation with a spectrum. Frequencies are converted with
``astropy``; the frame is that of SPECSYS. The position of an image is that of its one pixel on the
sky. It is not that of the reference pixel, because a spectrum that was cut out of a cube keeps the
reference pixel of the cube. If the file has no errors, the noise is measured on the spectrum, and
the calibration note says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from astropy import units as u
from astropy.stats import mad_std
from astropy.table import Column, Table

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
    in_file,
    stated_unit,
)
from mmbroker.processors.ingest.images import (
    Image,
    cube_problem,
    find_data,
    header_of,
    image_in,
    opened,
)
from mmbroker.processors.ingest.spectral_axis import (
    column_type,
    frame,
    frequencies,
    image_frequencies,
)
from mmbroker.processors.ingest.uncertainties import (
    error_kind,
    is_mask,
    looks_like_errors,
    rank,
    standard_deviation,
)
from mmbroker.schemas.events import Floats, Observation, Spectrum

_FREQUENCY_COLUMNS = ("frequency", "freq", "nu")
_WAVELENGTH_COLUMNS = ("wavelength", "wave", "lambda")
_VELOCITY_COLUMNS = ("velocity", "vel")
_AXIS_COLUMNS = (*_FREQUENCY_COLUMNS, *_WAVELENGTH_COLUMNS, *_VELOCITY_COLUMNS)
_FLUX_COLUMNS = ("flux_density", "flux", "fluxdensity", "s_nu", "intensity")
_FLUX_UNITS = "Jy, Jy/beam, K, W m-2 Hz-1, W m-2 um-1 or a multiple such as mJy"
_NOISE_MEASURED = "channel error measured as 1.48 times the median absolute deviation"
_UNRESOLVED = "surface brightness per beam taken as the flux density of an unresolved source"
_MAIN_BEAM = ("TMB", "TB", "TB(MB)")
"""Values of TEMPSCAL that are brightness temperatures."""


@dataclass(frozen=True, slots=True)
class _Read:
    """A spectrum as it is in the file; all arrays have shape (channels,).

    Attributes:
        ctype: CTYPE of its axis; empty for a column.
        centre_deg: ICRS position of its pixel in degrees.
        part: that position, if it chose the pixel.
    """

    header: Header
    frequency_hz: Floats
    ctype: str
    flux: u.Quantity
    error: u.Quantity | None
    beam: Beam | None
    centre_deg: tuple[float, float] | None = None
    part: tuple[float, float] | None = None


def read_spectrum(
    path: str | Path, given: Given | None = None, origins: list[Origin] | None = None
) -> Observation:
    """Read the observation in a file with one spectrum, or with a cube at a given position.

    Args:
        path: FITS (image with a spectral axis, or binary table) or ECSV.
        given: values that replace those of the header.
        origins: list to which is added what was read, and from where.

    Raises:
        HeaderError: the file has no spectrum, or its axis, unit, frame, position or time is not
            known; the message names keyword and file.
    """
    path, given = Path(path), given or Given()
    with in_file(path):
        if path.suffix.lower() == ".ecsv":
            read = _read_table(path, given)
            observation = _observation(path, read)
    if path.suffix.lower() != ".ecsv":
        with opened(path) as extensions:
            extension = find_data(extensions, given)
            if extension.is_image:
                read = _from_image(image_in(extensions, extension, given))
            else:
                header = header_of(extensions, extension, given)
                read = _from_columns(Table.read(extension), header)
            observation = _observation(path, read)
    if origins is not None:
        origins += read.header.origins
    return observation


def _observation(path: Path, read: _Read) -> Observation:
    header, notes = read.header, []
    flux = _jansky(header, read.flux, read.frequency_hz, read.beam)
    if read.error is not None:
        error = _jansky(header, read.error, read.frequency_hz, read.beam)
    else:
        error = np.full(len(flux), mad_std(flux, ignore_nan=True))
        notes.append(_NOISE_MEASURED)
        header.note("error", f"{error[0]:.4g} Jy", "measured on the spectrum")
    if "beam" in str(read.flux.unit):
        notes.append(_UNRESOLVED)
    axes = None if read.beam is None else read.beam.axes
    bare = bare_observation(path, header, read.centre_deg, axes, "; ".join(notes), read.part)
    major, minor, angle = axes or (None, None, None)
    return replace(
        bare,
        spectrum=Spectrum(
            frequency_hz=read.frequency_hz,
            frame=frame(header, read.ctype),
            flux_density_jy=flux.astype(np.float32),
            flux_error_jy=error.astype(np.float32),
            beam_major_arcsec=major,
            beam_minor_arcsec=minor,
            beam_position_angle_deg=angle,
        ),
    )


def _read_table(path: Path, given: Given) -> _Read:
    try:
        table = Table.read(path, format="ascii.ecsv")
    except Exception as error:  # astropy's readers raise errors of every kind
        raise HeaderError(f"cannot be read: {error}") from error
    cards = {str(key).upper(): value for key, value in table.meta.items()}
    return _from_columns(table, Header(cards, given=given))


def _from_image(image: Image) -> _Read:
    header, wcs, position = image.header, image.wcs, image.header.given.position
    spec = wcs.wcs.spec
    if spec < 0:
        types = [header.own.text(f"CTYPE{axis + 1}") or "" for axis in range(wcs.naxis)]
        raise HeaderError(f"CTYPE = {', '.join(types)}: none is a spectral axis")
    channels = wcs.pixel_shape[spec]
    others = [axis for axis in long_axes(wcs) if axis != spec]
    sky = sky_axes(wcs)
    if others and not set(others) <= set(sky):
        raise HeaderError(
            f"{axis_keywords(wcs, others)}: there is more than one spectrum: cut out one, with "
            "NAXIS = 1 for all axes but the spectral one"
        )
    if others and (channels == 1 or position is None):
        raise cube_problem(axis_keywords(wcs, others))
    if channels == 1:
        raise HeaderError(f"the image has shape {image.extension.shape}, not one spectrum")
    wanted: dict[int, slice | int] = {spec: slice(None)}
    centre = None
    if others and position is not None:
        pixel = [round(place) for place in sky_pixel(wcs, position)]
        for axis, place in zip(sky, pixel, strict=True):
            if not 0 <= place < wcs.pixel_shape[axis]:
                raise outside(position)
            wanted[axis] = place
        header.note("pixel", f"{pixel[0] + 1}, {pixel[1] + 1}", "the one at the given position")
    elif position is None and wcs.has_celestial:
        centre = sky_position(wcs, 0, 0)  # pixel 1 of FITS
        header.note("coordinates", sky_frame(wcs), "CTYPE, RADESYS, EQUINOX")
    index = image.index(wanted)
    stokes = stokes_plane(wcs)
    beam = read_beam(header, image.extensions, 0 if stokes is None else stokes[1], channels)
    frequency = image_frequencies(header, wcs, channels)
    name, unit = _flux_unit(header, "BUNIT", header.text("BUNIT"))
    header.note("unit", unit, name)
    return _Read(
        header,
        frequency,
        header.own.text(f"CTYPE{spec + 1}") or "",
        u.Quantity(image.read(index), unit),
        image.errors(index, unit),
        beam,
        centre,
        position if others else None,
    )


def _from_columns(table: Table, header: Header) -> _Read:
    columns = {name.lower(): name for name in table.colnames}
    axis = next((name for name in _AXIS_COLUMNS if name in columns), None)
    flux = next((name for name in _FLUX_COLUMNS if name in columns), None)
    if axis is None or flux is None:
        wanted = _AXIS_COLUMNS if axis is None else _FLUX_COLUMNS
        raise HeaderError(
            f"none of the columns {', '.join(table.colnames)} is called {', '.join(wanted)}: this "
            "is no spectrum"
        )

    def column(name: str) -> Column:
        return table[columns[name]]

    values = _channels(column(axis))
    stated, unit = _flux_unit(header, f"unit of column {columns[flux]}", column(flux).unit)
    header.note("unit", unit, stated)
    fluxes = _channels(column(flux))
    for name in filter(is_mask, columns):
        fluxes[np.nan_to_num(_channels(column(name)), nan=1.0) != 0.0] = np.nan
        header.note("mask", "not 0 is not observed", f"column {columns[name]}")
    kind = column_type(header) if axis in _VELOCITY_COLUMNS else "FREQ"
    if axis in _WAVELENGTH_COLUMNS and (header.text("AIRORVAC") or "").upper() == "AIR":
        kind = "AWAV"
    axis_unit = _column_unit(column(axis))
    frequency = frequencies(header, u.Quantity(values, axis_unit), kind)
    header.note(
        "frequency",
        f"{frequency[0] / 1e9:.9g} ... {frequency[-1] / 1e9:.9g} GHz",
        f"column {columns[axis]} in {axis_unit}",
    )
    return _Read(
        header,
        frequency,
        "",
        u.Quantity(fluxes, unit),
        _error_column(table, header, (columns[axis], columns[flux]), unit),
        read_beam(header, channels=len(values)),
    )


def _error_column(
    table: Table, header: Header, others: Iterable[str], flux_unit: u.UnitBase
) -> u.Quantity | None:
    """The errors in a column; None if there are none."""
    names = [name for name in table.colnames if name not in others and not is_mask(name)]
    found = [name for name in names if error_kind(name) or looks_like_errors(name)]
    if header.given.measure_noise or not found:
        return None
    best = min(found, key=rank)
    name, kind = f"column {best}", error_kind(best)
    unit = None if table[best].unit is None else _column_unit(table[best])
    if unit is None and header.given.unit is None:
        raise HeaderError(f"unit of {name} is not set: mend it, or give --unit or --measure-noise")
    error, kind = standard_deviation(name, kind, _channels(table[best]), unit, flux_unit)
    header.note("error", f"{kind}, in {unit or 'the unit of the fluxes'}", name)
    return error


def _channels(column: Column) -> Floats:
    """A column as float64, shape (channels,), NaN where masked; of a table of one row its cell.

    Raises:
        HeaderError: there is more than one spectrum, or the column holds no numbers.
    """
    cells = column
    if column.dtype.kind == "O" or column.ndim > 1:
        if len(column) != 1:
            raise HeaderError(
                f"column {column.name} has arrays in {len(column)} rows: there is more than one "
                "spectrum"
            )
        cells = np.ma.ravel(np.ma.asarray(column[0]))
    try:
        return np.ma.filled(np.ma.asarray(cells).astype(np.float64), np.nan)
    except (TypeError, ValueError) as error:
        raise HeaderError(f"column {column.name} does not hold numbers: {error}") from error


def _column_unit(column: Column) -> u.UnitBase:
    if column.unit is None:
        raise HeaderError(f"unit of column {column.name} is not set")
    return stated_unit(f"unit of column {column.name}", column.unit)


def _flux_unit(header: Header, name: str, stated: object) -> tuple[str, u.UnitBase]:
    """Where the unit of the fluxes is stated, and the unit."""
    if header.given.unit is not None:
        name, stated = "--unit", header.given.unit
    if stated is None:
        raise HeaderError(f"{name} is not set: use {_FLUX_UNITS}, or give --unit")
    unit = stated_unit(name, stated)
    scale = (header.text("TEMPSCAL") or "").upper().replace("_", "")
    if unit.is_equivalent(u.K) and name != "--unit" and scale and scale not in _MAIN_BEAM:
        raise HeaderError(
            f"TEMPSCAL = {scale!r} is no main-beam temperature: convert it, or give --unit K"
        )
    return f"{name} = {stated}", unit


def _jansky(header: Header, flux: u.Quantity, frequency: Floats, beam: Beam | None) -> Floats:
    per_beam = flux.unit * u.beam
    try:
        if per_beam.is_equivalent(u.Jy):
            flux = flux.value * per_beam
        if flux.unit.is_equivalent(u.K):
            if beam is None:
                raise HeaderError(f"flux in {flux.unit} needs the beam (BMAJ, BMIN): give --beam")
            scale: Callable[..., Any] = u.brightness_temperature(frequency * u.Hz, beam.solid_angle)
            return np.array(flux.to_value(u.Jy, scale), dtype=np.float64)
        density = u.spectral_density(frequency * u.Hz)
        return np.array(flux.to_value(u.Jy, density), dtype=np.float64)
    except u.UnitConversionError as error:
        raise HeaderError(
            f"BUNIT = {flux.unit}: {error}: use {_FLUX_UNITS}, or give --unit"
        ) from error
