"""What a spectral axis means: its type, its rest frame, and its frequencies."""

from __future__ import annotations

import re
from typing import get_args

import numpy as np
from astropy import constants
from astropy import units as u
from astropy.wcs import WCS

from mmbroker.processors.ingest.headers import Header, HeaderError, VelocityConvention
from mmbroker.schemas.events import Floats, SpectralFrame

_FRAMES: dict[str, SpectralFrame] = {
    "BARYCENT": "BARYCENTRIC",
    "HELIOCEN": "BARYCENTRIC",  # they differ by 13 m/s, far below a channel
    "LSRK": "LSRK",
    "TOPOCENT": "TOPOCENTRIC",
}
_SHORT_FRAMES: dict[str, SpectralFrame] = {
    "LSR": "LSRK",
    "LSRK": "LSRK",
    "LRK": "LSRK",
    "HEL": "BARYCENTRIC",
    "HELI": "BARYCENTRIC",
    "BAR": "BARYCENTRIC",
    "BARY": "BARYCENTRIC",
    "OBS": "TOPOCENTRIC",
    "TOP": "TOPOCENTRIC",
    "TOPO": "TOPOCENTRIC",
}
"""Names of frames in CTYPE of AIPS and in VELDEF."""
_VELREF_FRAMES: dict[int, SpectralFrame] = {1: "LSRK", 2: "BARYCENTRIC", 3: "TOPOCENTRIC"}
_VELREF_RADIO = 256
_STANDARD = re.compile(
    r"(FREQ|WAVE|AWAV|WAVN|ENER|VRAD|VOPT|ZOPT|VELO|BETA)(-(LOG|[FWVA]2[FWVA]))?"
)
_OF_AIPS = re.compile(r"(FREQ|VELO|FELO|VELOCITY)(-[A-Z]{3,4})?")
_VELOCITIES = {
    "VRAD": u.doppler_radio,
    "VOPT": u.doppler_optical,
    "VELO": u.doppler_relativistic,
}
_CONVENTIONS: dict[VelocityConvention, str] = {
    "RADIO": "VRAD",
    "OPTICAL": "VOPT",
    "RELATIVISTIC": "VELO",
}


def is_spectral(ctype: str) -> bool:
    """Whether CTYPE is that of a spectral axis, by the FITS standard or by AIPS and CLASS."""
    return bool(_STANDARD.fullmatch(ctype) or _OF_AIPS.fullmatch(ctype))


def standard_type(header: Header, keyword: str, stated: str) -> str:
    """CTYPE of a spectral axis as the FITS standard 4.0, table 25, has it.

    Args:
        header: the header.
        keyword: name of the CTYPE.
        stated: what it says, in capitals.

    Raises:
        HeaderError: it is a velocity of which nothing says whether it is radio or optical.
    """
    kind = stated.partition("-")[0]
    if kind == "FELO":  # channels of equal width in frequency, with optical velocities
        header.note("velocity", "optical", keyword)
        return "VOPT-F2W"
    velref = header.number("VELREF")
    if kind == "VELOCITY" or (kind == "VELO" and _standard(stated) is None):
        return _of_velocity(header, f"{keyword} = {stated}", velref)
    if stated == "VELO" and (velref or header.given.velocity_convention):
        return _of_velocity(header, f"{keyword} = {stated}", velref)
    return _standard(stated) or kind


def column_type(header: Header) -> str:
    """Type of a column of velocities: VRAD, VOPT or VELO.

    Raises:
        HeaderError: nothing says which.
    """
    velref, stated = header.number("VELREF"), (header.text("VELDEF") or "").upper()
    kinds = {"RADI": "VRAD", "OPTI": "VOPT", "RELA": "VELO"}
    if header.given.velocity_convention is None and stated[:4] in kinds:
        header.note("velocity", stated, "VELDEF")
        return kinds[stated[:4]]
    return _of_velocity(header, "a column of velocities, without VELDEF", velref)


def frame(header: Header, ctype: str = "") -> SpectralFrame:
    """Rest frame of a spectral axis.

    Args:
        header: the header.
        ctype: CTYPE of the axis in the file.

    Raises:
        HeaderError: neither the header nor ``--frame`` says it, or two keywords contradict.
    """
    if header.given.frame is not None:
        header.note("frame", header.given.frame, "--frame")
        return header.given.frame
    stated = (header.text("SPECSYS") or "").upper()
    kind, _, short = ctype.upper().partition("-")
    of_axis = _SHORT_FRAMES.get(short) if _OF_AIPS.fullmatch(ctype.upper()) else None
    if stated:
        if stated not in _FRAMES:
            raise HeaderError(f"SPECSYS = {stated!r} is none of {', '.join(_FRAMES)}: give --frame")
        if of_axis is not None and of_axis != _FRAMES[stated]:
            raise HeaderError(f"SPECSYS = {stated!r}, but CTYPE = {ctype}: give --frame")
        header.note("frame", _FRAMES[stated], "SPECSYS")
        return _FRAMES[stated]
    if of_axis is not None:
        header.note("frame", of_axis, f"CTYPE = {ctype}")
        return of_axis
    velref = header.number("VELREF")
    if kind in ("VELO", "VELOCITY", "FELO") and not short and velref:
        by_number = _VELREF_FRAMES.get(int(velref) % _VELREF_RADIO)
        if by_number is not None:
            header.note("frame", by_number, f"VELREF = {velref:g}")
            return by_number
    definition = (header.text("VELDEF") or "").upper().partition("-")[2]
    if (by_definition := _SHORT_FRAMES.get(definition)) is not None and not ctype:
        header.note("frame", by_definition, "VELDEF")
        return by_definition
    said = f"CTYPE = {ctype}" if short and kind in ("VELO", "FELO", "FREQ") else "SPECSYS = ''"
    raise HeaderError(f"{said} is none of {', '.join(_FRAMES)}: give --frame")


def rest_cards(header: Header) -> dict[str, float]:
    """The card with the rest frequency (Hz) or wavelength (m) of a header; none without one."""
    if (given := header.given.rest_frequency_hz) is not None:
        return {"RESTFRQ": given}
    for name, unit, keywords in (
        ("RESTFRQ", u.Hz, ("RESTFRQ", "RESTFREQ")), ("RESTWAV", u.m, ("RESTWAV",)),
    ):  # fmt: skip
        stated = header.quantity(unit, *keywords)
        if stated is not None and stated > 0.0:
            return {name: stated}
    return {}


def rest_frequency(header: Header) -> float:
    """Rest frequency of a velocity axis in Hz.

    Raises:
        HeaderError: none is given and none is in the header.
    """
    if (given := header.given.rest_frequency_hz) is not None:
        header.note("rest frequency", f"{given:.10g} Hz", "--rest-frequency-ghz")
        return given
    cards = rest_cards(header)
    for name, stated in cards.items():
        hertz = constants.c.value / stated if name == "RESTWAV" else stated
        header.note("rest frequency", f"{hertz:.10g} Hz", name)
        return float(hertz)
    raise HeaderError(
        "a velocity axis without RESTFRQ: set it, in Hz, or give --rest-frequency-ghz"
    )


def frequencies(header: Header, axis: u.Quantity, kind: str) -> Floats:
    """A spectral axis in Hz.

    Args:
        header: the header, for its rest frequency.
        axis: the axis, shape (channels,).
        kind: first four letters of its standard CTYPE.

    Returns:
        float64, shape (channels,).

    Raises:
        HeaderError: it cannot be converted.
    """
    if kind == "AWAV":
        raise HeaderError("CTYPE = AWAV: give wavelengths in vacuum")
    if kind == "ZOPT":
        axis, kind = axis.to_value(u.dimensionless_unscaled) * constants.c, "VOPT"
    elif kind == "BETA":
        axis, kind = axis.to_value(u.dimensionless_unscaled) * constants.c, "VELO"
    equivalencies = u.spectral()
    if kind in _VELOCITIES:
        equivalencies = _VELOCITIES[kind](rest_frequency(header) * u.Hz)
    try:
        return np.asarray(axis.to_value(u.Hz, equivalencies), dtype=np.float64)
    except u.UnitConversionError as error:
        raise HeaderError(f"axis in {axis.unit}: {error}") from error


def image_frequencies(header: Header, wcs: WCS, channels: int) -> Floats:
    """Frequencies in Hz of the first channels of an image with a spectral axis, float64.

    Raises:
        HeaderError: the axis is mixed with others, or cannot be converted.
    """
    axis = wcs.wcs.spec + 1
    try:
        spectral = wcs.spectral
        values = spectral.pixel_to_world_values(np.arange(channels))
    except ValueError as error:  # wcslib's own are kinds of it
        reason = str(error).strip().splitlines()[-1]
        raise HeaderError(
            f"CTYPE{axis} = {wcs.wcs.ctype[axis - 1]}: {reason}: does it need RESTFRQ, or "
            "--rest-frequency-ghz?"
        ) from error
    quantity = u.Quantity(values, spectral.world_axis_units[0])
    found = frequencies(header, quantity, spectral.wcs.ctype[0][:4])
    ends = f"{found[0] / 1e9:.9g} ... {found[-1] / 1e9:.9g} GHz" if channels > 1 else (
        f"{found[0] / 1e9:.9g} GHz"
    )  # fmt: skip
    unit = header.own.text(f"CUNIT{axis}") or f"{spectral.world_axis_units[0]}, by default"
    header.note("frequency", ends, f"CTYPE{axis} = {header.own.text(f'CTYPE{axis}')} in {unit}")
    return found


def _standard(stated: str) -> str | None:
    """A type of the FITS standard; the frames that AIPS adds are no part of it."""
    return stated if _STANDARD.fullmatch(stated) else None


def _of_velocity(header: Header, said: str, velref: float | None) -> str:
    if (given := header.given.velocity_convention) is not None:
        header.note("velocity", given, "--velocity-convention")
        return _CONVENTIONS[given]
    if velref:
        convention: VelocityConvention = "RADIO" if velref > _VELREF_RADIO else "OPTICAL"
        header.note("velocity", convention, f"VELREF = {velref:g}")
        return _CONVENTIONS[convention]
    choice = ", ".join(each.lower() for each in get_args(VelocityConvention))
    raise HeaderError(
        f"{said}: nothing says whether it is a radio or an optical velocity: set VELREF, or "
        f"CTYPE to VRAD or VOPT, or give --velocity-convention ({choice})"
    )
