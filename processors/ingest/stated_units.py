"""Reads units as observatories write them: in capitals, in full words, with what they are of."""

from __future__ import annotations

import re

from astropy import units as u

from mmbroker.processors.ingest.headers import HeaderError
from mmbroker.schemas.wording import unit_problem

_WORDS = {
    "JY": "Jy", "UJY": "uJy", "BEAM": "beam", "BM": "beam", "PIXEL": "pix", "PIX": "pix",
    "K": "K", "KELVIN": "K", "SR": "sr", "W": "W",
    "HZ": "Hz", "KHZ": "kHz", "MHZ": "MHz", "GHZ": "GHz", "S": "s", "SEC": "s",
    "KM": "km", "M": "m", "CM": "cm", "MM": "mm", "UM": "um", "MICRON": "um", "MICRONS": "um",
    "ANGSTROM": "Angstrom", "ANGSTROMS": "Angstrom",
    "DEG": "deg", "DEGREE": "deg", "DEGREES": "deg", "ARCMIN": "arcmin", "ARCSEC": "arcsec",
    "ARCSECOND": "arcsec", "ARCSECONDS": "arcsec", "RAD": "rad", "RADIAN": "rad", "RADIANS": "rad",
}  # fmt: skip
"""Words that are no units as they stand, in capitals, and what they can only mean."""
_PARTS = re.compile(r"([A-Za-z]+)")
_MILLI_OR_MEGA = re.compile(r"\bM(JY|K)\b")
_MAIN_BEAM = re.compile(r"(m?K)\s*\(?\s*T_?(?:mb|b)\s*\)?", re.IGNORECASE)
_ANTENNA = re.compile(r"m?K\s*\(?\s*T_?(?:A|R|sys)\b.*", re.IGNORECASE)


def stated_unit(name: str, text: object) -> u.UnitBase:
    """The unit that a text means.

    Args:
        name: keyword, column or option that states it.
        text: the text.

    Raises:
        HeaderError: it is no unit, or could mean two.
    """
    stated = str(text).strip()
    if _MILLI_OR_MEGA.search(stated):
        raise HeaderError(f"{name} = {stated!r} may be milli or mega: give --unit")
    try:
        return u.Unit(stated)
    except ValueError as error:
        problem = unit_problem(error)
    if _ANTENNA.fullmatch(stated):
        raise HeaderError(
            f"{name} = {stated!r} is an antenna temperature: convert it to main-beam temperature, "
            "K (Tmb)"
        )
    main_beam = _MAIN_BEAM.fullmatch(stated)
    if main_beam:
        return u.Unit({"K": "K", "MK": "mK"}[main_beam[1].upper()])
    try:
        return u.Unit(_PARTS.sub(lambda word: _WORDS.get(word[1].upper(), word[1]), stated))
    except ValueError:
        advice = "" if name == "--unit" else ": give --unit"
        raise HeaderError(f"{name} = {stated!r}: {problem}{advice}") from None
