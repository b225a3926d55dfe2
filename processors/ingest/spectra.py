"""Reads one-dimensional spectra from FITS and ECSV files.

A FITS image with one spectral axis (frequency, wavelength or velocity), or a table with such a
column, becomes an observation with a spectrum. Frequencies are converted with ``astropy``; the
frame is that of SPECSYS. The position of an image is that of its one pixel on the sky. It is not
that of the reference pixel, because a spectrum that was cut out of a cube keeps the reference pixel
of the cube. If the file has no errors, the noise is measured on the spectrum, and the calibration
note says so.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.io import fits
from astropy.stats import mad_std
from astropy.table import Table
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
from mmbroker.schemas.events import Floats, Observation, SpectralFrame, Spectrum
from mmbroker.schemas.wording import unit_problem

_FRAMES: dict[str, SpectralFrame] = {
    "BARYCENT": "BARYCENTRIC",
    "HELIOCEN": "BARYCENTRIC",  # they differ by 13 m/s, far below a channel
    "LSRK": "LSRK",
    "TOPOCENT": "TOPOCENTRIC",
}
_AXIS_COLUMNS = ("frequency", "freq", "nu", "wavelength", "wave", "lambda", "velocity", "vel")
_FLUX_COLUMNS = ("flux_density", "flux", "fluxdensity", "s_nu", "intensity")
_ERROR_COLUMNS = ("flux_error", "error", "err", "sigma", "uncertainty", "noise", "rms")
_ERROR_EXTENSIONS = ("ERROR", "ERR", "SIGMA", "UNCERT", "NOISE", "RMS")
_VELOCITIES = {
    "VRAD": u.doppler_radio,
    "VOPT": u.doppler_optical,
    "VELO": u.doppler_relativistic,
}
_FLUX_UNITS = "Jy, Jy/beam, K, W m-2 Hz-1, W m-2 um-1 or a multiple such as mJy"
_NOISE_MEASURED = "channel error measured as 1.48 times the median absolute deviation"
_UNRESOLVED = "surface brightness per beam taken as the flux density of an unresolved source"


@dataclass(frozen=True, slots=True)
class _Read:
    """A spectrum as it is in the file."""

    header: Header
    axis: u.Quantity
    axis_type: str
    flux: u.Quantity
    error: u.Quantity | None
    centre_deg: tuple[float, float] | None = None


def read_spectrum(path: str | Path, given: Given | None = None) -> Observation:
    """Read the observation in a file with one spectrum.

    Args:
        path: FITS (image with one spectral axis, or binary table) or ECSV.
        given: values that replace those of the header.

    Raises:
        HeaderError: the file has no spectrum, or its axis, unit, frame, position or time is not
            known; the message names keyword and file.
    """
    path, given = Path(path), given or Given()
    read = _read_table(path) if path.suffix.lower() == ".ecsv" else _read_fits(path, given)
    frequency = _frequency_hz(path, read, given.rest_frequency_hz)
    beam = beam_arcsec(read.header)
    notes = []
    flux = _jansky(path, read.flux, frequency, beam)
    if read.error is not None:
        error = _jansky(path, read.error, frequency, beam)
    else:
        error = np.full(len(flux), mad_std(flux, ignore_nan=True))
        notes.append(_NOISE_MEASURED)
    if "beam" in str(read.flux.unit):
        notes.append(_UNRESOLVED)
    bare = bare_observation(path, read.header, given, read.centre_deg, "; ".join(notes))
    major, minor, angle = beam or (None, None, None)
    return replace(
        bare,
        spectrum=Spectrum(
            frequency_hz=frequency,
            frame=given.frame or _frame(path, read.header),
            flux_density_jy=flux.astype(np.float32),
            flux_error_jy=error.astype(np.float32),
            beam_major_arcsec=major,
            beam_minor_arcsec=minor,
            beam_position_angle_deg=angle,
        ),
    )


def _read_fits(path: Path, given: Given) -> _Read:
    try:
        with fits.open(path, memmap=False) as extensions:
            primary = extensions[0].header
            for extension in extensions:
                if isinstance(extension, fits.BinTableHDU):
                    header = _merged(primary, extension.header)
                    return _from_columns(path, Table.read(extension), header)
                if extension.data is not None:
                    header = _merged(primary, extension.header)
                    return _from_image(path, given, extension, header, extensions)
    except OSError as error:
        raise HeaderError(f"{path} cannot be read: {error}") from error
    raise HeaderError(f"{path} has neither an image nor a table")


def _read_table(path: Path) -> _Read:
    try:
        table = Table.read(path, format="ascii.ecsv")
    except Exception as error:  # astropy's readers raise errors of every kind
        raise HeaderError(f"{path} cannot be read: {error}") from error
    return _from_columns(path, table, {key.upper(): value for key, value in table.meta.items()})


def _from_image(
    path: Path, given: Given, extension: fits.ImageHDU, header: Header, extensions: fits.HDUList
) -> _Read:
    shape = extension.data.shape
    flux = np.squeeze(extension.data)
    wcs = coordinate_system(path, extension.header, shape)
    if wcs.wcs.spec < 0:
        axes = ", ".join(wcs.wcs.ctype)
        raise HeaderError(f"{path}: CTYPE = {axes}: none is a spectral axis")
    others = [axis for axis in range(wcs.naxis) if axis != wcs.wcs.spec]
    long = [axis for axis in others if wcs.pixel_shape[axis] > 1]
    if long:
        raise HeaderError(
            f"{path}: {axis_keywords(wcs, long)}: there is more than one spectrum: cut out one, "
            "with NAXIS = 1 for all axes but the spectral one"
        )
    if flux.ndim != 1:
        raise HeaderError(f"{path}: the image has shape {shape}, not one spectrum")
    spectral = _spectral(path, wcs)
    axis = u.Quantity(
        spectral.pixel_to_world_values(np.arange(len(flux))), spectral.world_axis_units[0]
    )
    errors = [
        np.squeeze(other.data)
        for other in extensions
        if other.name in _ERROR_EXTENSIONS and other.data is not None
    ]
    if not header.get("BUNIT"):
        raise HeaderError(f"{path}: BUNIT is not set: use {_FLUX_UNITS}")
    unit = _unit(path, "BUNIT", header["BUNIT"])
    return _Read(
        header,
        axis,
        spectral.wcs.ctype[0][:4],
        u.Quantity(_native(flux), unit),
        u.Quantity(_native(errors[0]), unit) if errors and errors[0].shape == flux.shape else None,
        _sky_position(path, given, wcs),
    )


def _from_columns(path: Path, table: Table, header: Header) -> _Read:
    columns = {name.lower(): name for name in table.colnames}

    def quantity(names: Iterable[str]) -> tuple[str, u.Quantity] | None:
        for name in names:
            if name in columns:
                column = table[columns[name]]
                unit = _unit(path, f"unit of column {column.name}", column.unit)
                return name, u.Quantity(_native(np.ma.filled(column.astype(float), np.nan)), unit)
        return None

    axis, flux, error = map(quantity, (_AXIS_COLUMNS, _FLUX_COLUMNS, _ERROR_COLUMNS))
    if axis is None or flux is None:
        wanted = _AXIS_COLUMNS if axis is None else _FLUX_COLUMNS
        raise HeaderError(
            f"{path}: none of the columns {', '.join(table.colnames)} is called "
            f"{', '.join(wanted)}: this is no spectrum"
        )
    axis_type = {"v": str(header.get("VELDEF", "RADI"))[:4]}.get(axis[0][0], "FREQ")
    velocity = {"RADI": "VRAD", "OPTI": "VOPT", "RELA": "VELO"}.get(axis_type, axis_type)
    return _Read(header, axis[1], velocity, flux[1], error and error[1])


def _frequency_hz(path: Path, read: _Read, rest_frequency_hz: float | None) -> Floats:
    """The axis in Hz, float64, shape (channels,)."""
    if read.axis_type == "AWAV":
        raise HeaderError(f"{path}: CTYPE = AWAV: give wavelengths in vacuum")
    equivalencies = u.spectral()
    if read.axis_type in _VELOCITIES:
        rest = rest_frequency_hz or read.header.get("RESTFRQ") or read.header.get("RESTFREQ")
        if not rest:
            raise HeaderError(f"{path}: a velocity axis without RESTFRQ: set it, in Hz")
        equivalencies = _VELOCITIES[read.axis_type](float(rest) * u.Hz)
    try:
        return np.asarray(read.axis.to_value(u.Hz, equivalencies), dtype=np.float64)
    except u.UnitConversionError as error:
        raise HeaderError(f"{path}: axis in {read.axis.unit}: {error}") from error


def _jansky(
    path: Path, flux: u.Quantity, frequency: Floats, beam: tuple[float, float, float] | None
) -> Floats:
    per_beam = flux.unit * u.beam
    try:
        if per_beam.is_equivalent(u.Jy):
            flux = flux.value * per_beam
        if flux.unit.is_equivalent(u.K):
            if beam is None:
                raise HeaderError(f"{path}: flux in {flux.unit} needs the beam (BMAJ, BMIN)")
            scale = u.brightness_temperature(frequency * u.Hz, beam_area(beam))
            return np.asarray(flux.to_value(u.Jy, scale), dtype=np.float64)
        density = u.spectral_density(frequency * u.Hz)
        return np.asarray(flux.to_value(u.Jy, density), dtype=np.float64)
    except u.UnitConversionError as error:
        raise HeaderError(f"{path}: BUNIT = {flux.unit}: {error}: use {_FLUX_UNITS}") from error


def _frame(path: Path, header: Header) -> SpectralFrame:
    stated = str(header.get("SPECSYS", "")).strip().upper()
    if stated not in _FRAMES:
        known = ", ".join(_FRAMES)
        raise HeaderError(f"{path}: SPECSYS = {stated!r} is none of {known}: give --frame")
    return _FRAMES[stated]


def _spectral(path: Path, wcs: WCS) -> WCS:
    try:
        return wcs.spectral
    except ValueError as error:  # wcslib's own are kinds of it
        axis = wcs.wcs.spec + 1
        raise HeaderError(
            f"{path}: CTYPE{axis} = {wcs.wcs.ctype[axis - 1]}: PC or CD mixes the spectral axis "
            "with others"
        ) from error


def _sky_position(path: Path, given: Given, wcs: WCS) -> tuple[float, float] | None:
    """ICRS position of the one pixel on the sky in degrees.

    None if the position is given, and if the image has no celestial axes.
    """
    if given.right_ascension_deg is not None or not wcs.has_celestial:
        return None
    axes = [axis + 1 for axis in (wcs.wcs.lng, wcs.wcs.lat)]
    try:
        place = wcs.celestial.pixel_to_world(0, 0).icrs  # pixel 1 of FITS
    except ValueError as error:
        types = ", ".join(f"CTYPE{axis} = {wcs.wcs.ctype[axis - 1]}" for axis in axes)
        raise HeaderError(
            f"{path}: {types}: {error}: give --right-ascension and --declination"
        ) from error
    if not (np.isfinite(place.ra.deg) and np.isfinite(place.dec.deg)):
        values = ", ".join(f"CRPIX{axis} = {wcs.wcs.crpix[axis - 1]:g}" for axis in axes)
        raise HeaderError(
            f"{path}: {values}: the first pixel is not on the sky: give --right-ascension and "
            "--declination"
        )
    return float(place.ra.deg), float(place.dec.deg)


def _unit(path: Path, name: str, unit: object) -> u.UnitBase:
    if not unit:
        raise HeaderError(f"{path}: {name} is not set")
    try:
        return u.Unit(str(unit).strip())
    except ValueError as error:
        raise HeaderError(f"{path}: {name} = {unit}: {unit_problem(error)}") from error


def _merged(primary: fits.Header, header: fits.Header) -> fits.Header:
    merged = primary.copy()
    merged.update(header)
    return merged


def _native(values: Floats) -> Floats:
    """Convert values to float64 in the byte order of the machine, since FITS is big-endian."""
    return np.ascontiguousarray(values, dtype=np.float64)
