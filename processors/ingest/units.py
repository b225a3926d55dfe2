"""Units as files, mappings and people write them, and flux densities, errors and angles in them."""

from __future__ import annotations

import math
import re
import warnings

import numpy as np
from astropy import units as u
from numpy.typing import NDArray

from mmbroker.schemas.wording import unit_problem

Numbers = NDArray[np.float64]

PERCENT = u.percent
_WORDS = {
    "JY": "Jy", "UJY": "uJy", "ABMAG": "mag(AB)", "STMAG": "mag(ST)",
    "BEAM": "beam", "BM": "beam", "PIXEL": "pix", "PIX": "pix",
    "K": "K", "KELVIN": "K", "SR": "sr", "W": "W",
    "HZ": "Hz", "KHZ": "kHz", "MHZ": "MHz", "GHZ": "GHz",
    "S": "s", "SEC": "s", "HOURS": "h", "HRS": "h",
    "KM": "km", "M": "m", "CM": "cm", "MM": "mm", "UM": "um", "MICRON": "um", "MICRONS": "um",
    "ANGSTROM": "Angstrom", "ANGSTROMS": "Angstrom",
    "DEG": "deg", "DEGS": "deg", "DEGREE": "deg", "DEGREES": "deg",
    "ARCMIN": "arcmin", "ARCMINS": "arcmin", "ARCMINUTE": "arcmin", "ARCMINUTES": "arcmin",
    "ARCSEC": "arcsec", "ARCSECS": "arcsec", "ARCSECOND": "arcsec", "ARCSECONDS": "arcsec",
    "RAD": "rad", "RADIAN": "rad", "RADIANS": "rad",
}  # fmt: skip
"""Words that are no units as they stand, in capitals, and what they can only mean."""
_WORD = re.compile(r"[A-Za-z]+")
_MILLI_OR_MEGA = re.compile(r"\bM(JY|K)\b")
_MAIN_BEAM = re.compile(r"(m?K)\s*\(?\s*T_?(?:mb|b)\s*\)?", re.IGNORECASE)
_ANTENNA = re.compile(r"m?K\s*\(?\s*T_?(?:A|R|sys)\b.*", re.IGNORECASE)
_SEXAGESIMAL = (
    (re.compile(r"h+[: ]?m+[: ]?s+(\.s*)?", re.IGNORECASE), u.hourangle),
    (re.compile(r"d+[: ]?m+[: ]?s+(\.s*)?", re.IGNORECASE), u.deg),
)


_SCALES = (1e-100, 1e100)


def unit_from(text: str) -> u.UnitBase:
    """The unit that a text means, as people, observatories, CDS, VOTable or FITS write it.

    Raises:
        ValueError: it is no unit, could mean two, or is hardly ever meant; the message says what is
            wrong with it, as in ``is no unit``.
    """
    text = text.strip().strip('"')
    if text in ("AB", "ST"):
        raise ValueError(f"is a zero point, not a magnitude (did you mean {text}mag?)")
    if _MILLI_OR_MEGA.search(text):
        raise ValueError("may be milli or mega")
    if _ANTENNA.fullmatch(text):
        raise ValueError("is an antenna temperature: convert it to K (Tmb), of the main beam")
    if main_beam := _MAIN_BEAM.fullmatch(text):
        return u.Unit({"K": "K", "MK": "mK"}[main_beam[1].upper()])
    in_words = _WORD.sub(lambda word: _WORDS.get(word[0].upper(), word[0]), text)
    problem = ""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", u.UnitsWarning)
        for stated, form in ((text, None), (in_words, None), (text, "cds")):
            try:
                return _of_sane_scale(u.Unit(stated, format=form))  # [mJy] of CDS: a logarithm
            except ValueError as error:
                problem = problem or unit_problem(error)
    raise ValueError(f"is no unit: {problem}")


def _of_sane_scale(unit: u.UnitBase) -> u.UnitBase:
    """The unit; a number in it such as 1e-300 leaves none that values can be converted to."""
    scale = getattr(unit, "physical_unit", unit).decompose().scale
    if not _SCALES[0] < abs(scale) < _SCALES[1]:
        raise ValueError(f"has a scale of {scale:.3g}")
    return unit


def sexagesimal_unit(text: str) -> u.UnitBase | None:
    """Unit of the first number of sexagesimal text, from a column's unit such as ``h:m:s``."""
    stated = text.strip().strip('"')
    return next((unit for form, unit in _SEXAGESIMAL if form.fullmatch(stated)), None)


def degrees_per(unit: u.UnitBase) -> float | None:
    """Degrees in a unit of angle or of time, in which 24 h are the circle; None for others."""
    if unit.is_equivalent(u.deg):
        return float(unit.to(u.deg))
    if unit.is_equivalent(u.s):
        return float(unit.to(u.h) * 15.0)
    return None


def in_jansky(values: Numbers, unit: u.UnitBase, frequency_hz: float) -> Numbers:
    """Flux densities in Jy, from any unit of flux density, magnitudes or logarithms.

    Nanomaggies are 3.631 µJy: their zero point is that of AB magnitudes.

    Raises:
        UnitConversionError: it is no unit of flux density.
    """
    known = u.spectral_density(frequency_hz * u.Hz) + u.zero_point_flux(1 * u.AB)
    if isinstance(unit, u.function.FunctionUnitBase):
        converted: Numbers = (values * unit).to_value(u.Jy, known)
        return converted
    if unit == u.mag:
        raise u.UnitConversionError("magnitudes of which system? (did you mean ABmag?)")
    if unit.is_equivalent(u.Jy / u.beam):
        raise u.UnitConversionError(
            "a flux per beam is no flux density; if the sources are unresolved, write "
            f"{(unit * u.beam).to_string()}"
        )
    factor = float(unit.to(u.Jy, equivalencies=known))
    return values * factor


def error_in_jansky(
    error: Numbers, unit: u.UnitBase, flux_jy: Numbers, frequency_hz: float
) -> Numbers:
    """1 sigma errors in Jy, from a unit of flux density, per cent, magnitudes or dex.

    Args:
        error: the errors.
        unit: their unit.
        flux_jy: the flux densities that they belong to; small errors in magnitudes or dex are
            relative ones.
        frequency_hz: frequency of the band.

    Raises:
        UnitConversionError: it is none of these units.
    """
    step = getattr(unit, "function_unit", unit)
    if step in (u.mag, u.dex, u.dB):
        per_step = abs(step.to(u.dex)) * math.log(10.0)
        return np.abs(flux_jy) * float(per_step) * error
    if unit == PERCENT:
        return np.abs(flux_jy) * error / 100.0
    return in_jansky(error, unit, frequency_hz)
