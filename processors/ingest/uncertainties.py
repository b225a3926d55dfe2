"""What columns and extensions beside a spectrum say of its errors, and of what is no observation.

An error may be given as a standard deviation, a variance or an inverse variance; its name, its
type and its unit say which. What looks like an error and is none of these is refused by name, so
that no other errors take its place without a word.
"""

from __future__ import annotations

import re
from typing import Literal

import numpy as np
from astropy import units as u

from mmbroker.processors.ingest.headers import HeaderError
from mmbroker.schemas.events import Floats

Kind = Literal["standard deviation", "variance", "inverse variance"]

_SIGMA: Kind = "standard deviation"
_VARIANCE: Kind = "variance"
_INVERSE: Kind = "inverse variance"

_OF_FLUX = r"(flux|flux_?density|s_?nu|intensity)"
_NAMES: dict[Kind, re.Pattern[str]] = {
    kind: re.compile(rf"({_OF_FLUX}_?)?({words})|({words})_?{_OF_FLUX}")
    for kind, words in {
        _SIGMA: "e|d|err|error|errors|unc|uncert|uncertainty|sigma|noise|rms|std|stdev|stddev",
        _VARIANCE: "var|variance",
        _INVERSE: "ivar|invvar|inverse_?variance",
    }.items()
}
_LOOKS_LIKE_ONE = re.compile(
    r"(^|_)(d|e|sig|stat|std|var|weights?|wht|wgt)(_|$)|^d_?flux|err(?!a)|unc(ert)?(_|$|flux)|sigma"
    r"|noise|rms|stdd?ev|variance|i_?var|inv_?var",
    re.IGNORECASE,
)
_TYPES: dict[str, Kind] = {
    "STDDEVUNCERTAINTY": _SIGMA, "STD": _SIGMA, "RMSE": _SIGMA,
    "VARIANCEUNCERTAINTY": _VARIANCE, "VAR": _VARIANCE, "MSE": _VARIANCE,
    "INVERSEVARIANCE": _INVERSE, "IVAR": _INVERSE, "INVMSE": _INVERSE,
}  # fmt: skip
"""Values of UTYPE as astropy writes it, and of HDUCLAS3 as ESO does."""
_POWERS: dict[Kind, int] = {_SIGMA: 1, _VARIANCE: 2, _INVERSE: -2}
_MASKS = re.compile(r"mask|dq|flags?|qual|quality", re.IGNORECASE)


def error_kind(name: str) -> Kind | None:
    """What a column or an extension of this name holds; None if its name is not that of errors."""
    found = [kind for kind, names in _NAMES.items() if names.fullmatch(name.lower())]
    return found[0] if found and len(name) > 1 else None


def rank(name: str) -> int:
    """Order of preference: standard deviations first, what only its unit can explain last."""
    return [_SIGMA, _VARIANCE, _INVERSE, None].index(error_kind(name))


def looks_like_errors(name: str) -> bool:
    """Whether a name may be that of errors, of a kind that it does not say."""
    return bool(_LOOKS_LIKE_ONE.search(name))


def is_mask(name: str) -> bool:
    """Whether a column or an extension of this name says which values are no observations."""
    return bool(_MASKS.fullmatch(name))


def stated_kind(name: str, stated: str | None) -> Kind | None:
    """What errors are by the type that is stated for them, or else by their name.

    Raises:
        HeaderError: the type is none that is known.
    """
    if not stated:
        return error_kind(name)
    if stated.upper() not in _TYPES:
        raise HeaderError(
            f"{name}: its type {stated!r} is none of {', '.join(sorted(_TYPES))}: "
            "give --measure-noise"
        )
    return _TYPES[stated.upper()]


def standard_deviation(
    name: str, kind: Kind | None, values: Floats, unit: u.UnitBase | None, flux_unit: u.UnitBase
) -> tuple[u.Quantity, Kind]:
    """Errors as standard deviations.

    Args:
        name: name of their column or extension.
        kind: what they are; None if only their unit says it.
        values: the values, shape (channels,).
        unit: their unit; None if they have none of their own.
        flux_unit: unit of the fluxes.

    Returns:
        The standard deviations, NaN where an inverse variance is 0, and what they were.

    Raises:
        HeaderError: nothing says what they are, or name and unit contradict.
    """
    if unit is None and kind is not None:
        unit = flux_unit ** _POWERS[kind]
    fitting = [
        each
        for each, power in _POWERS.items()
        if unit is not None and _alike(unit, flux_unit**power)
    ]
    if kind is None and len(fitting) == 1:
        kind = fitting[0]
    if unit is None or kind is None or kind not in fitting:
        shown = "no unit" if unit is None else f"the unit {unit}"
        raise HeaderError(
            f"{name} has {shown} beside fluxes in {flux_unit}: it is no "
            f"{kind or 'standard deviation, variance or inverse variance'}: "
            "mend it, or give --measure-noise"
        )
    if kind == _SIGMA:
        return u.Quantity(values, unit), kind
    with np.errstate(divide="ignore", invalid="ignore"):
        found = values ** (1.0 / _POWERS[kind])
    found[~np.isfinite(found)] = np.nan
    return u.Quantity(found, unit ** (1.0 / _POWERS[kind])), kind


def _alike(unit: u.UnitBase, other: u.UnitBase) -> bool:
    """Whether one unit converts to the other, also from fluxes per frequency to per wavelength."""
    return bool(unit.is_equivalent(other, u.spectral_density(1.0 * u.GHz)))
