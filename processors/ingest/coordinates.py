"""Makes the coordinate system of an image from the keywords of its header.

wcslib gets a header that was written anew: from the keywords that are needed, with numbers that
were read as numbers, and with units and types as the FITS standard has them now. It does not read
exponents with D, and repairs what is old without asking what was meant.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.utils.exceptions import AstropyWarning
from astropy.wcs import WCS, WCSSUB_CELESTIAL, WCSSUB_SPECTRAL
from astropy.wcs.utils import wcs_to_celestial_frame

from mmbroker.processors.ingest.headers import (
    Header,
    HeaderError,
    equatorial_frame,
    equinox,
    fits_date,
    frame_words,
    number,
    stated_unit,
)
from mmbroker.processors.ingest.spectral_axis import is_spectral, rest_cards, standard_type

MOST_AXES = 9
STOKES_I = 1

_NUMBERS = re.compile(r"(CRVAL|CRPIX|CDELT|CROTA)([1-9])|(PV)([1-9]_\d{1,2})|(CD|PC)([1-9]_[1-9])")
_OLD_MATRIX = re.compile(r"PC0([1-9])_0([1-9])|PC00([1-9])00([1-9])")
_DISTORTION = re.compile(r"(A|B|AP|BP)_ORDER|C[PQ]DIS[1-9]|D[PQ][1-9]")
_CELESTIAL = re.compile(r"(RA--|DEC-|[A-Z]LON|[A-Z]LAT|[A-Z]{2}LN|[A-Z]{2}LT)(-[A-Z]{3}|)")


def coordinate_system(header: Header, shape: Sequence[int]) -> WCS:
    """The coordinate system of an image.

    Args:
        header: header of the image.
        shape: shape of its array. Axes that are only in the header are one pixel long (FITS
            standard 4.0, section 8.2).

    Returns:
        The coordinate system, with the length of each of its axes in ``pixel_shape``.

    Raises:
        HeaderError: the header makes no sense, or distorts its coordinates.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AstropyWarning)
        try:
            wcs = WCS(_written_anew(header, len(shape)))
            wcs.wcs.set()
            _require_separate_axes(wcs)
        except HeaderError:
            raise
        except Exception as error:  # wcslib raises many kinds
            reason = (str(error).strip().splitlines() or [type(error).__name__])[-1]
            advice = ": set RESTFRQ, or give --rest-frequency-ghz" if "rest freq" in reason else ""
            raise HeaderError(
                f"CTYPE, CRVAL, CRPIX and CDELT are no coordinate system: {reason}{advice}"
            ) from error
    wcs.pixel_shape = [*reversed(shape), *[1] * wcs.naxis][: wcs.naxis]
    return wcs


def _written_anew(header: Header, dimensions: int) -> fits.Header:
    """A header with the keywords that a coordinate system needs, and no others."""
    own = header.own
    stated = list(dict.fromkeys(own.cards[0]))  # in the order of the file: so is what is written
    if distorted := sorted(filter(_DISTORTION.fullmatch, stated)):
        raise HeaderError(f"{distorted[0]}: distorted coordinates: resample the image")
    numbers = {}
    for name in sorted(stated, key=lambda name: _OLD_MATRIX.fullmatch(name) is None):
        if old := _OLD_MATRIX.fullmatch(name):
            row, column = filter(None, old.groups())
            numbers[f"PC{row}_{column}"] = own.number(name) or 0.0
        elif _NUMBERS.fullmatch(name) and (value := own.number(name)) is not None:
            numbers[name] = value
    types = [name for name in stated if re.fullmatch(r"CTYPE[1-9]", name)]
    indices = [int(name[5]) for name in (*numbers, *types) if name[:2] in ("CT", "CR")]
    axes = max(dimensions, int(header.number("WCSAXES") or 0), *indices, 1)
    if axes > MOST_AXES:
        raise HeaderError(f"WCSAXES = {axes}: more than {MOST_AXES} axes")
    anew = fits.Header({"WCSAXES": axes})
    for axis in range(1, axes + 1):
        anew.update(_axis(header, axis, numbers))
    anew.update(numbers)
    for name in ("LONPOLE", "LATPOLE"):
        if (value := header.number(name)) is not None:
            anew[name] = value
    anew.update(rest_cards(header))
    if any(str(anew[f"CTYPE{axis}"]).startswith(("RA--", "DEC-")) for axis in range(1, axes + 1)):
        anew.update(_equatorial(header))
    anew.update(_place_and_time(header))
    return anew


def _require_separate_axes(wcs: WCS) -> None:
    for kind, axis, part in (
        ("spectral axis", wcs.wcs.spec, WCSSUB_SPECTRAL),
        ("celestial axes", wcs.wcs.lng, WCSSUB_CELESTIAL),
    ):
        try:
            if axis >= 0:
                wcs.wcs.sub([part])
        except ValueError as error:  # wcslib's own are kinds of it
            raise HeaderError(
                f"CTYPE{axis + 1} = {wcs.wcs.ctype[axis]}: PC or CD mixes the {kind} with others"
            ) from error


def _axis(header: Header, axis: int, numbers: dict[str, float]) -> Iterator[tuple[str, str]]:
    """CTYPE and CUNIT of an axis, as the standard has them."""
    ctype = (header.own.text(f"CTYPE{axis}") or "").upper()
    unit = header.own.text(f"CUNIT{axis}")
    if is_spectral(ctype):
        ctype = standard_type(header, f"CTYPE{axis}", ctype)
    elif _CELESTIAL.fullmatch(ctype):
        pass
    else:
        unit = None
        if numbers.get(f"CDELT{axis}") == 0.0:  # the value of all its pixels is CRVAL
            numbers |= {f"CDELT{axis}": 1.0, f"CRPIX{axis}": 1.0}
        ctype = ctype if re.fullmatch(r"[A-Z0-9]{0,8}", ctype) else ""
    yield f"CTYPE{axis}", ctype
    if unit is not None:
        found = stated_unit(f"CUNIT{axis}", unit)
        if _CELESTIAL.fullmatch(ctype) and not found.is_equivalent(u.deg):
            raise HeaderError(f"CUNIT{axis} = {unit!r} of {ctype} is no unit of an angle")
        yield f"CUNIT{axis}", found.to_string("fits")


def _equatorial(header: Header) -> Iterator[tuple[str, str | float]]:
    system = header.text("RADESYS", "RADECSYS")
    if system is not None:
        equatorial_frame(header)
        yield "RADESYS", system.upper()
    if (year := equinox(header)) is not None:
        yield "EQUINOX", year


def _place_and_time(header: Header) -> Iterator[tuple[str, str | float]]:
    """What astropy writes into the header of a cut-out."""
    system = header.text("SPECSYS")
    if system is not None and re.fullmatch(r"[A-Z]{1,8}", system):
        yield "SPECSYS", system
    scale = header.text("TIMESYS")
    if scale is not None and re.fullmatch(r"[A-Z]{2,3}", scale):
        yield "TIMESYS", scale
    date = fits_date(header.text("DATE-OBS") or "")
    if date is not None:
        yield "DATE-OBS", date
    for name in ("MJD-OBS", "OBSGEO-X", "OBSGEO-Y", "OBSGEO-Z"):
        value = header.get(name)
        if value is not None and not isinstance(value[1], str):
            yield name, number(*value)


def axis_keywords(wcs: WCS, axes: Iterable[int]) -> str:
    """The keywords of the header with type and length of some axes, which are counted from 0."""
    return ", ".join(
        f"CTYPE{axis + 1} = {wcs.wcs.ctype[axis]}, NAXIS{axis + 1} = {wcs.pixel_shape[axis]}"
        for axis in axes
    )


def long_axes(wcs: WCS) -> list[int]:
    """The axes, counted from 0, that are longer than one pixel, without that of polarisation."""
    return [
        axis
        for axis in range(wcs.naxis)
        if wcs.pixel_shape[axis] > 1 and wcs.wcs.ctype[axis] != "STOKES"
    ]


def sky_axes(wcs: WCS) -> list[int]:
    """The celestial axes, counted from 0, in the order of the header."""
    return sorted((wcs.wcs.lng, wcs.wcs.lat)) if wcs.has_celestial else []


def stokes_plane(wcs: WCS) -> tuple[int, int] | None:
    """The axis of polarisation, counted from 0, and its pixel with Stokes I; None without such.

    Raises:
        HeaderError: no plane is Stokes I.
    """
    axes = [axis for axis in range(wcs.naxis) if wcs.wcs.ctype[axis] == "STOKES"]
    if not axes:
        return None
    axis = axes[0]
    pixels = np.arange(1, wcs.pixel_shape[axis] + 1)
    values = wcs.wcs.crval[axis] + (pixels - wcs.wcs.crpix[axis]) * wcs.wcs.get_cdelt()[axis]
    planes = np.flatnonzero(np.abs(values - STOKES_I) < 0.01)
    if len(planes) != 1:
        shown = ", ".join(f"{value:g}" for value in values[:8])
        raise HeaderError(
            f"CTYPE{axis + 1} = STOKES has the values {shown}: none is 1, Stokes I, the total "
            "intensity"
        )
    return axis, int(planes[0])


def sky_frame(wcs: WCS) -> str:
    """Name and equinox of the frame of the celestial axes.

    Raises:
        HeaderError: they are neither equatorial nor galactic. Of others astropy says ICRS, where
            RADESYS does.
    """
    kinds = {wcs.wcs.ctype[axis][:4] for axis in (wcs.wcs.lng, wcs.wcs.lat)}
    if kinds not in ({"RA--", "DEC-"}, {"GLON", "GLAT"}):
        raise _no_position(wcs, "neither equatorial nor galactic")
    return frame_words(wcs_to_celestial_frame(wcs.celestial))


def sky_position(wcs: WCS, column: float, row: float) -> tuple[float, float]:
    """ICRS position in degrees of a pixel of the celestial axes, counted from 0.

    Raises:
        HeaderError: the pixel is not on the sky, or the frame cannot be converted.
    """
    sky_frame(wcs)
    place = wcs.celestial.pixel_to_world(column, row).icrs
    if not (np.isfinite(place.ra.deg) and np.isfinite(place.dec.deg)):
        values = ", ".join(
            f"CRPIX{axis + 1} = {wcs.wcs.crpix[axis]:g}" for axis in (wcs.wcs.lng, wcs.wcs.lat)
        )
        raise HeaderError(
            f"{values}: pixel {column + 1:g}, {row + 1:g} is not on the sky: "
            "give --right-ascension and --declination"
        )
    return float(place.ra.deg), float(place.dec.deg)


def sky_pixel(wcs: WCS, position: tuple[float, float]) -> tuple[float, float]:
    """Column and row, counted from 0, of an ICRS position on the celestial axes.

    Raises:
        HeaderError: the projection does not reach the position.
    """
    sky_frame(wcs)
    place = SkyCoord(*position, unit="deg")
    try:
        column, row = map(float, wcs.celestial.world_to_pixel(place))
    except ValueError:
        column = row = np.nan
    if not (np.isfinite(column) and np.isfinite(row)):
        raise outside(position)
    return column, row


def outside(position: tuple[float, float]) -> HeaderError:
    """An error that says that a given position is not in the image."""
    return HeaderError(
        f"--right-ascension {position[0]} --declination {position[1]} is outside the image"
    )


def _no_position(wcs: WCS, reason: str) -> HeaderError:
    types = ", ".join(
        f"CTYPE{axis + 1} = {wcs.wcs.ctype[axis]}" for axis in (wcs.wcs.lng, wcs.wcs.lat)
    )
    return HeaderError(f"{types}: {reason}: give --right-ascension and --declination")
