"""Reads the celestial coordinate system of a small map from the header that came with it.

The header comes from strangers, and wcslib, which is written in C, does not bear every text. So it
never sees the header: it is given numbers only, which were read and checked here, and names out of
fixed lists. What would change where pixels lie and is not known here is refused.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from astropy import units as u
from astropy.coordinates import (
    FK4,
    FK5,
    ICRS,
    BaseCoordinateFrame,
    CartesianRepresentation,
    FK4NoETerms,
    Galactic,
)
from astropy.time import Time
from astropy.wcs import Wcsprm

from mmbroker.processors.fingerprint.errors import UnusableError
from mmbroker.processors.sky import unit_vector
from mmbroker.schemas.events import Floats

_ZENITHAL = ("SIN", "TAN", "ARC", "STG", "ZEA", "NCP")
_FORMER_PROJECTIONS = ("NCP", "GLS")
"""Projections that wcslib replaces by newer ones."""

_PARAMETERS = dict.fromkeys(
    (*_ZENITHAL, "CAR", "CEA", "MER", "SFL", "GLS", "PAR", "MOL", "AIT", "HPX"), 0
) | {"SIN": 2, "CEA": 1}
"""The projections, and how many parameters PV of the latitude each may have."""

_LATITUDES = ("DEC-", "GLAT")
_TYPES = {
    types[::way]
    for name in _PARAMETERS
    for types in ((f"RA---{name}", f"DEC--{name}"), (f"GLON-{name}", f"GLAT-{name}"))
    for way in (1, -1)
}
"""The types of the first and second axis that are understood."""

_UNITS = dict.fromkeys(("", "deg", "degree", "degrees"), "deg") | {
    unit: unit for unit in ("arcmin", "arcsec", "mas", "rad")
}

MOST_AXES = 4
LARGEST_NUMBER = 1e9
"""Largest size of any number in a header; reference pixels of large mosaics are below a million."""

LARGEST_PARAMETER = 1000.0
"""Largest size of a projection's parameter; that of an east-west array is the cotangent of its
declination."""

EQUINOXES = (1800.0, 2200.0)
PIXELS_ARCSEC = (1e-7, 7200.0)
"""Smallest and largest side of a pixel."""

LEAST_SINE = 0.01
"""Least sine of the angle between the two sides of a pixel."""

_CARD = 80
_TEXT = re.compile(r" *'((?:[^']|'')*)' *(?:/|$)")
_NUMBER = re.compile(r" *([+-]?(?:\d+\.?\d*|\.\d+)(?:[EDed][+-]?\d+)?) *(?:/|$)", re.ASCII)
_TEXTS = re.compile(r"(?:CTYPE|CUNIT)[12]|RADESYS|RADECSYS")
_NUMBERS = re.compile(
    r"(?:CRPIX|CRVAL|CDELT|CROTA)[12]|PV[12]_\d\d?|LONPOLE|LATPOLE|EQUINOX|EPOCH|WCSAXES"
)
_PLAIN = ("CTYPE1", "CTYPE2", "CUNIT1", "CUNIT2", "CRPIX1", "CRPIX2", "WCSAXES")
"""Keywords whose values cannot be senseless together with others."""

_MATRICES = re.compile(r"(PC|CD)(?:0?([1-4])_0?([1-4])|00([1-4])00([1-4]))")
_FURTHER_AXES = re.compile(r"(?:CTYPE|CRPIX|CRVAL|CDELT|CUNIT|CROTA)[34]|PV[34]_\d\d?")
"""Keywords of the further axes, which do not change where pixels lie on the sky."""

_COORDINATES = re.compile(
    r"(?:CTYPE|CRPIX|CRVAL|CDELT|CUNIT|CROTA)\d+|(?:PC|CD|PV|PS)\d+_?\d+|"
    r"PROJP\d+|(?:[AB]P?)_(?:ORDER|\d+_\d+)|(?:CPDIS|CQDIS|DP|DQ|D2IMDIS|D2IMARR)\d+"
)
"""Keywords that change where pixels lie; those that the patterns above leave out are refused."""

Cards = dict[str, Any]


@dataclass(frozen=True, slots=True, eq=False)
class CelestialWcs:
    """Where the pixels of a map lie on the sky.

    Attributes:
        projection: wcslib's coordinate system of two axes, which is set and must not be changed.
        frame: the map's celestial frame; None for ICRS.
        rotation: matrix from ICRS to the frame, shape (3, 3); None if the two differ by more than a
            rotation, or not at all.
        pixels_deg: change along the projection's axes, one a row, for a step along each pixel axis,
            in degrees; float64, shape (2, 2).
        pixel_side_arcsec: side of a square with the area of a pixel at the reference point.
        turn_deg: angle from the map's north at the reference point to the projection's, through
            east.
    """

    projection: Wcsprm
    frame: BaseCoordinateFrame | None
    rotation: Floats | None
    pixels_deg: Floats
    pixel_side_arcsec: float
    turn_deg: float

    def angle_on_pixels_rad(self, position_angle_deg: float) -> float:
        """Angle on the pixels of a direction on the sky at the reference point.

        It counts from the direction in which the column number grows towards that in which the row
        number grows.

        Args:
            position_angle_deg: position angle of the direction, from the north of the map's frame
                through east.
        """
        direction = np.empty(2)
        angle = math.radians(position_angle_deg + self.turn_deg)
        axes = self.projection
        direction[axes.lng], direction[axes.lat] = math.sin(angle), math.cos(angle)
        along, across = np.linalg.solve(self.pixels_deg, direction)
        return math.atan2(across, along)

    def pixel_of(self, right_ascension_deg: float, declination_deg: float) -> tuple[float, float]:
        """Column and row of an ICRS position, counted from 0.

        Raises:
            UnusableError: the projection of the map does not reach the position.
        """
        world = np.empty((1, 2))
        axes = self.projection
        world[0, [axes.lng, axes.lat]] = self._in_frame(right_ascension_deg, declination_deg)
        try:
            column, row = self.projection.s2p(world, 0)["pixcrd"][0]
        except Exception as error:  # wcslib raises many kinds
            raise UnusableError(
                f"continuum_map.wcs_header does not hold the source: {error}"
            ) from error
        return float(column), float(row)

    def _in_frame(self, right_ascension_deg: float, declination_deg: float) -> tuple[float, float]:
        """Longitude and latitude of an ICRS position in the map's frame, in degrees."""
        if self.frame is None:
            return right_ascension_deg, declination_deg
        if self.rotation is None:
            there = ICRS(right_ascension_deg * u.deg, declination_deg * u.deg).transform_to(
                self.frame
            )
            return float(there.spherical.lon.deg), float(there.spherical.lat.deg)
        x, y, z = self.rotation @ unit_vector(right_ascension_deg, declination_deg)
        return math.degrees(math.atan2(y, x)), math.degrees(math.atan2(z, math.hypot(x, y)))


@lru_cache(maxsize=128)
def celestial_wcs(header: str) -> CelestialWcs:
    """The first two axes of a header, which have to be the celestial ones.

    The result is cached, because a batch of maps is first measured and then parsed.

    Args:
        header: FITS cards of 80 characters each, one after another.

    Raises:
        UnusableError: the header is not understood; the message names keyword and value.
    """
    cards = _cards(header)
    projection, kind = _projection(cards)
    pixels_deg: Floats = np.diag(projection.get_cdelt()) @ projection.get_pc()
    return CelestialWcs(
        projection,
        *_frame(*_system(kind, cards)),
        pixels_deg,
        _side_arcsec(pixels_deg),
        turn_deg=180.0 - projection.lonpole if kind[5:] in _ZENITHAL else 0.0,
    )


def _cards(header: str) -> Cards:
    """Values by keyword of the cards that say where the pixels of two axes lie."""
    cards: Cards = {}
    for start in range(0, len(header), _CARD):
        if header.startswith("END     ", start):
            break
        if not header.startswith("= ", start + 8):
            continue
        keyword, read = _reader(header[start : start + 8])
        if read is not None:
            cards[keyword] = read(keyword, header[start + 10 : start + _CARD])
    if cards.get("WCSAXES", 2) > MOST_AXES:
        raise _unusable("WCSAXES", f"{cards['WCSAXES']:g}", f"is over {MOST_AXES}")
    return cards


@lru_cache(maxsize=256)
def _reader(keyword: str) -> tuple[str, Callable[[str, str], Any] | None]:
    """The usual name of a keyword, and what reads its value; None for what does not matter here."""
    keyword = keyword.rstrip(" ")
    if _TEXTS.fullmatch(keyword):
        return keyword, _text
    if _NUMBERS.fullmatch(keyword):
        return keyword, _number
    if matrix := _MATRICES.fullmatch(keyword):
        name, row, column = filter(None, matrix.groups())
        couples = (row in "12") != (column in "12")
        return f"{name}{row}_{column}", _zero if couples else _number
    if _COORDINATES.fullmatch(keyword) and not _FURTHER_AXES.fullmatch(keyword):
        return keyword, _not_understood
    return keyword, None


def _unusable(keyword: str, value: str, why: str) -> UnusableError:
    shown = value[:30].partition(" /")[0].strip()
    return UnusableError(f"continuum_map.wcs_header has {keyword} = {shown!r}, which {why}")


def _text(keyword: str, value: str) -> str:
    found = _TEXT.match(value)
    if found is None:
        raise _unusable(keyword, value, "is no text in quotation marks")
    return found[1].rstrip()


def _number(keyword: str, value: str) -> float:
    found = _NUMBER.match(value)
    number = math.nan if found is None else float(found[1].upper().replace("D", "E"))
    if not abs(number) <= LARGEST_NUMBER:
        raise _unusable(keyword, value, f"is no number of at most {LARGEST_NUMBER:g} in size")
    return number


def _zero(keyword: str, value: str) -> float:
    if _number(keyword, value):
        raise _unusable(keyword, value, "makes a further axis depend on the first two")
    return 0.0


def _not_understood(keyword: str, value: str) -> None:
    raise _unusable(keyword, value, "is not understood")


def _projection(cards: Cards) -> tuple[Wcsprm, str]:
    """The coordinate system of two axes for wcslib, and the type of its longitude."""
    types = [cards.get(f"CTYPE{axis}", "") for axis in (1, 2)]
    if tuple(types) not in _TYPES:
        raise UnusableError(
            f"continuum_map.wcs_header has CTYPE1 = {types[0][:20]!r}, CTYPE2 = {types[1][:20]!r}, "
            "which are no celestial axes that are known: those are RA with DEC, or GLON with GLAT, "
            f"in one of the projections {', '.join(_PARAMETERS)}"
        )
    units = [cards.get(f"CUNIT{axis}", "") for axis in (1, 2)]
    if not all(each.lower() in _UNITS for each in units):
        raise UnusableError(
            f"continuum_map.wcs_header has CUNIT1 = {units[0][:20]!r}, CUNIT2 = {units[1][:20]!r}: "
            f"known are {', '.join(dict.fromkeys(_UNITS.values()))}"
        )
    latitude = 1 + (types[1][:4] in _LATITUDES)
    kind = types[2 - latitude]
    wcs = Wcsprm(naxis=2)
    wcs.ctype = types
    units = [_UNITS[each.lower()] for each in units]
    if units != ["deg", "deg"]:  # wcslib's default; to set a unit takes long
        wcs.cunit = units
    wcs.crpix = _of_axes(cards, "CRPIX", 0.0)
    wcs.crval = _of_axes(cards, "CRVAL", 0.0)
    _set_scale(wcs, cards)
    for keyword in ("LONPOLE", "LATPOLE"):
        if keyword in cards:
            setattr(wcs, keyword.lower(), cards[keyword])
    parameters = _parameters(cards, latitude, kind[5:])
    if parameters:
        wcs.set_pv(parameters)
    try:
        if kind[5:] in _FORMER_PROJECTIONS:
            wcs.celfix()
        wcs.set()
    except Exception as error:  # wcslib raises many kinds
        reason = (str(error).strip().splitlines() or [type(error).__name__])[-1]
        numbers = ", ".join(
            f"{name} = {value!r}" for name, value in cards.items() if name not in _PLAIN
        )
        raise UnusableError(
            f"continuum_map.wcs_header makes no sense: {reason} (of {numbers[:300]})"
        ) from error
    return wcs, kind


def _of_axes(cards: Cards, keyword: str, default: float) -> list[float]:
    return [cards.get(f"{keyword}{axis}", default) for axis in (1, 2)]


def _set_scale(wcs: Wcsprm, cards: Cards) -> None:
    """Set the size and the rotation of pixels, in the way in which the header gives them."""
    matrices = {
        name: [[cards.get(f"{name}{row}_{column}") for column in (1, 2)] for row in (1, 2)]
        for name in ("PC", "CD")
    }
    given = {
        name: any(each is not None for row in matrix for each in row)
        for name, matrix in matrices.items()
    }
    if given["CD"]:
        wcs.cd = [[each or 0.0 for each in row] for row in matrices["CD"]]
        return
    if not ("CDELT1" in cards and "CDELT2" in cards):
        raise UnusableError("continuum_map.wcs_header has neither CDELT1 and CDELT2 nor CD1_1")
    wcs.cdelt = _of_axes(cards, "CDELT", 1.0)
    if given["PC"]:
        wcs.pc = [
            [float(row == column) if each is None else each for column, each in enumerate(line)]
            for row, line in enumerate(matrices["PC"])
        ]
    elif "CROTA1" in cards or "CROTA2" in cards:
        wcs.crota = _of_axes(cards, "CROTA", 0.0)


def _parameters(cards: Cards, latitude: int, projection: str) -> list[tuple[int, int, float]]:
    """The parameters of the projection as wcslib takes them: axis, number, value.

    Those of the longitude say where the fiducial point is: a zenithal projection's is its pole.
    """
    found = []
    for keyword, value in cards.items():
        if not keyword.startswith("PV"):
            continue
        axis, number = int(keyword[2]), int(keyword[4:])
        known = (
            1 <= number <= _PARAMETERS[projection]
            if axis == latitude
            else number <= 4 and projection not in _ZENITHAL
        )
        if not (known and abs(value) <= LARGEST_PARAMETER):
            raise _unusable(keyword, f"{value:g}", "is no parameter of its projection")
        found.append((axis, number, value))
    return found


def _side_arcsec(pixels_deg: Floats) -> float:
    """Side of a square with the area of a pixel, from ``CelestialWcs.pixels_deg``."""
    sides = np.linalg.norm(pixels_deg, axis=0)
    width, height = (sides * 3600.0).tolist()
    least, most = PIXELS_ARCSEC
    if not (least <= width <= most and least <= height <= most):
        raise UnusableError(
            f"continuum_map.wcs_header has pixels of {width:.6g} by {height:.6g} arcsec, "
            f"not between {least:g} and {most:g}: see its CDELT, PC and CD"
        )
    (a, b), (c, d) = (pixels_deg * 3600.0).tolist()
    if not abs(a * d - b * c) >= LEAST_SINE * width * height:
        raise UnusableError(
            "continuum_map.wcs_header has pixels whose sides are parallel: see its PC and CD"
        )
    return float(np.sqrt(np.prod(sides))) * 3600.0


def _system(kind: str, cards: Cards) -> tuple[str, float]:
    """The celestial system of the axes and its equinox (FITS standard 4.0, section 8.3)."""
    if kind.startswith("GLON"):
        return "GALACTIC", 0.0
    system = cards.get("RADESYS") or cards.get("RADECSYS") or ""
    equinox = cards.get("EQUINOX", cards.get("EPOCH"))
    if equinox is not None and not EQUINOXES[0] <= equinox <= EQUINOXES[1]:
        raise UnusableError(
            f"continuum_map.wcs_header has EQUINOX = {equinox!r}, "
            f"not between {EQUINOXES[0]:g} and {EQUINOXES[1]:g}"
        )
    if system == "ICRS" or (not system and equinox is None):
        return "ICRS", 0.0
    if system not in ("", "FK5", "FK4", "FK4-NO-E"):
        raise UnusableError(
            f"continuum_map.wcs_header has RADESYS = {system[:20]!r}: "
            "known are ICRS, FK5, FK4 and FK4-NO-E"
        )
    if not system:
        system = "FK4" if equinox is not None and equinox < 1984.0 else "FK5"
    return system, equinox or (2000.0 if system == "FK5" else 1950.0)


@lru_cache(maxsize=64)
def _frame(system: str, equinox: float) -> tuple[BaseCoordinateFrame | None, Floats | None]:
    """A celestial frame, and the matrix of its rotation, as in ``CelestialWcs``."""
    if system == "ICRS":
        return None, None
    if system == "FK4":
        return FK4(equinox=Time(equinox, format="byear")), None
    if system == "GALACTIC":
        frame = Galactic()
    elif system == "FK5":
        frame = FK5(equinox=Time(equinox, format="jyear"))
    else:
        frame = FK4NoETerms(equinox=Time(equinox, format="byear"))
    axes = ICRS(CartesianRepresentation(np.eye(3)))
    return frame, axes.transform_to(frame).cartesian.xyz.value
