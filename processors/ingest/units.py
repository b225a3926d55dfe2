"""Units as tables and mappings write them, and flux densities, errors and angles in them."""

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
_NAMES = {"ABmag": "mag(AB)", "STmag": "mag(ST)"}
_PLURALS = {
    "degrees": u.deg, "degs": u.deg, "hours": u.h, "hrs": u.h, "radians": u.rad,
    "arcminutes": u.arcmin, "arcmins": u.arcmin, "arcseconds": u.arcsec, "arcsecs": u.arcsec,
}  # fmt: skip
_SEXAGESIMAL = (
    (re.compile(r"h+[: ]?m+[: ]?s+(\.s*)?", re.IGNORECASE), u.hourangle),
    (re.compile(r"d+[: ]?m+[: ]?s+(\.s*)?", re.IGNORECASE), u.deg),
)


def unit_from(text: str) -> u.UnitBase:
    """The unit that a text names, as people, CDS, VOTable or FITS write it.

    Raises:
        ValueError: it is no unit, or one that is hardly ever meant; the message says what may be.
    """
    text = text.strip().strip('"')
    if text in ("AB", "ST"):
        raise ValueError(f"{text} is a zero point, not a magnitude (did you mean {text}mag?)")
    if (plural := _PLURALS.get(text.lower())) is not None:
        return plural
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", u.UnitsWarning)
        try:
            return u.Unit(_NAMES.get(text, text))
        except ValueError as error:
            try:
                return u.Unit(text, format="cds")  # such as [mJy], its logarithm
            except ValueError:
                raise ValueError(f"is no unit: {unit_problem(error)}") from error


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
