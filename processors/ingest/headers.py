"""Reads position, time, instrument and project of an observation from the header of a file."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from astropy import units as u
from astropy.coordinates import Angle
from astropy.time import Time
from astropy.wcs import WCS, FITSFixedWarning

from mmbroker.processors.relations import ASTROMETRIC_FLOOR_ARCSEC
from mmbroker.schemas.events import Acquisition, Observation, Quality, SpectralFrame

Header = Mapping[str, Any]

BEAM_FRACTION_OF_POSITION_ERROR = 0.1
"""Position error as a fraction of the beam, where none is given.

It is that of a source with a signal-to-noise ratio of 5, from beam / (2 S/N)."""


class HeaderError(ValueError):
    """Raised for an incomplete or senseless header; the message names keyword, value and file."""


@dataclass(frozen=True, slots=True)
class Given:
    """Values from the publisher, which replace those of the header; None keeps the header's.

    Attributes:
        instrument: name of the instrument; by default TELESCOP, or INSTRUME.
        right_ascension_deg, declination_deg: ICRS position in degrees.
        position_error_arcsec: 1 sigma on each axis; by default a tenth of the beam.
        time_mjd: mid-point of the observation in UTC; by default MJD-AVG, MJD-OBS, DATE-AVG or
            DATE-OBS.
        project, quality, calibration, data_url, bibcode: see ``Acquisition``.
        simulated: whether the data are simulated.
        frame: rest frame of a spectrum's axis; by default that of SPECSYS.
        rest_frequency_hz: rest frequency of a velocity axis; by default RESTFRQ or RESTFREQ.
        frequency_hz: effective frequency of a map; by default that of its spectral axis, or else
            RESTFRQ, RESTFREQ, FREQ or OBSFREQ.
        side_arcsec: side of the cut-out from a map; by default 64 pixels. It is limited to between
            4 and 1024 pixels.

    Raises:
        HeaderError: one coordinate is missing, or the position is not on the sky.
    """

    instrument: str | None = None
    right_ascension_deg: float | None = None
    declination_deg: float | None = None
    position_error_arcsec: float | None = None
    time_mjd: float | None = None
    project: str | None = None
    quality: Quality | None = None
    calibration: str | None = None
    data_url: str | None = None
    bibcode: str | None = None
    simulated: bool = False
    frame: SpectralFrame | None = None
    rest_frequency_hz: float | None = None
    frequency_hz: float | None = None
    side_arcsec: float | None = None

    def __post_init__(self) -> None:
        right_ascension, declination = self.right_ascension_deg, self.declination_deg
        if (right_ascension is None) != (declination is None):
            raise HeaderError("--right-ascension and --declination need each other")
        if right_ascension is not None and not 0.0 <= right_ascension < 360.0:
            raise HeaderError(f"--right-ascension {right_ascension:g}: must be in [0, 360)")
        if declination is not None and not -90.0 <= declination <= 90.0:
            raise HeaderError(f"--declination {declination:g}: must be in [-90, 90]")


def bare_observation(
    path: Path, header: Header, given: Given, centre_deg: tuple[float, float] | None, note: str
) -> Observation:
    """Make the observation in a file, without its payload.

    Its id follows from the content of the file. So publishing the file again, even under another
    name, changes nothing.

    Args:
        path: the file.
        header: its header.
        given: values that replace those of the header.
        centre_deg: ICRS position from the coordinate system of the file; None without one.
        note: how the payload was prepared; it is added to the calibration note.

    Raises:
        HeaderError: instrument, position, position error or time is neither given nor in the
            header.
    """
    instrument = given.instrument or _first(header, ("TELESCOP", "INSTRUME"))
    if not instrument:
        raise HeaderError(f"{path}: neither TELESCOP nor INSTRUME in the header: give --instrument")
    right_ascension, declination = _position(path, header, given, centre_deg)
    calibration = given.calibration or _first(header, ("ORIGIN",))
    content = hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()
    return Observation(
        observation_id=f"file/{content}",
        instrument=str(instrument).strip(),
        right_ascension_deg=right_ascension % 360.0,
        declination_deg=declination,
        position_error_arcsec=_position_error(path, header, given),
        time_mjd=_time(path, header, given),
        simulated=given.simulated,
        acquisition=Acquisition(
            project=given.project or _first(header, ("PROJECT", "PROPOSID", "PROPID")),
            observing_unit=_first(header, ("MEMBER", "OBSID", "OBSUNIT")),
            quality=given.quality or "UNKNOWN",
            calibration="; ".join(filter(None, (calibration, note))) or None,
            array=_first(header, ("ARRAY", "ARRCFG")),
            integration_time_s=_positive(header, ("EXPTIME", "EXPOSURE", "INTTIME")),
            data_url=given.data_url,
            bibcode=given.bibcode or _first(header, ("BIBCODE", "REFERENC")),
        ),
    )


def coordinate_system(path: Path, header: Header, shape: Sequence[int]) -> WCS:
    """The coordinate system of an image, without astropy's warnings about repairs of its header.

    Args:
        path: path of the file.
        header: header of the image.
        shape: shape of its array. Axes that are only in the header are one pixel long (FITS
            standard 4.0, section 8.2).

    Returns:
        The coordinate system, with the length of each of its axes in ``pixel_shape``.

    Raises:
        HeaderError: the header makes no sense.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FITSFixedWarning)
        try:
            wcs = WCS(header)
            wcs.wcs.set()
        except ValueError as error:  # wcslib's own are kinds of it
            reason = str(error).strip().splitlines()[-1]
            raise HeaderError(
                f"{path}: CTYPE, CRVAL, CRPIX and CDELT are no coordinate system: {reason}"
            ) from error
    wcs.pixel_shape = [*reversed(shape), *[1] * wcs.naxis][: wcs.naxis]
    return wcs


def axis_keywords(wcs: WCS, axes: Iterable[int]) -> str:
    """The keywords of the header with type and length of some axes, which are counted from 0."""
    return ", ".join(
        f"CTYPE{axis + 1} = {wcs.wcs.ctype[axis]}, NAXIS{axis + 1} = {wcs.pixel_shape[axis]}"
        for axis in axes
    )


def beam_arcsec(header: Header) -> tuple[float, float, float] | None:
    """Major and minor axis (arcsec) and position angle (deg) of the beam; None without BMAJ."""
    major, minor = header.get("BMAJ"), header.get("BMIN", header.get("BMAJ"))
    if not major or not minor:
        return None
    return float(major) * 3600.0, float(minor) * 3600.0, float(header.get("BPA") or 0.0)


def beam_area(beam: tuple[float, float, float]) -> u.Quantity:
    """Solid angle of a Gaussian beam, which is as of ``beam_arcsec``."""
    return np.pi / (4.0 * np.log(2.0)) * beam[0] * beam[1] * u.arcsec**2


def _position(
    path: Path, header: Header, given: Given, centre_deg: tuple[float, float] | None
) -> tuple[float, float]:
    if given.right_ascension_deg is not None and given.declination_deg is not None:
        return given.right_ascension_deg, given.declination_deg
    if centre_deg is not None:
        return centre_deg
    for names in (("RA", "DEC"), ("OBSRA", "OBSDEC"), ("RA_TARG", "DEC_TARG")):
        values = [header.get(name) for name in names]
        if None in values:
            continue
        try:
            return (
                _angle(values[0], u.hourangle),
                _angle(values[1], u.deg),
            )
        except ValueError as error:
            raise HeaderError(f"{path}: {', '.join(names)} = {values}: {error}") from error
    raise HeaderError(
        f"{path}: no position in the header (RA, DEC): give --right-ascension and --declination"
    )


def _angle(value: Any, sexagesimal: u.UnitBase) -> float:
    try:
        return float(value)
    except ValueError:
        return float(Angle(value, sexagesimal).deg)


def _position_error(path: Path, header: Header, given: Given) -> float:
    if given.position_error_arcsec is not None:
        return given.position_error_arcsec
    beam = beam_arcsec(header)
    if beam is None:
        raise HeaderError(f"{path}: no BMAJ in the header: give --position-error")
    return max(BEAM_FRACTION_OF_POSITION_ERROR * beam[0], ASTROMETRIC_FLOOR_ARCSEC)


def _time(path: Path, header: Header, given: Given) -> float:
    if given.time_mjd is not None:
        return given.time_mjd
    modified = _first(header, ("MJD-AVG", "MJD-OBS"))
    if modified is not None:
        return float(modified)
    text = _first(header, ("DATE-AVG", "DATE-OBS"))
    if text is None:
        raise HeaderError(f"{path}: neither MJD-OBS nor DATE-OBS in the header: give --time-mjd")
    try:
        return float(Time(str(text), scale="utc").mjd)
    except ValueError as error:
        raise HeaderError(f"{path}: DATE-OBS = {text!r}: {error}") from error


def _first(header: Header, names: Iterable[str]) -> Any:
    values = (header.get(name) for name in names)
    return next((value for value in values if value not in (None, "")), None)


def _positive(header: Header, names: Iterable[str]) -> float | None:
    value = _first(header, names)
    return float(value) if isinstance(value, int | float) and value > 0 else None
