"""Reads positions from the designations of sources.

A designation as the IAU recommends it contains the truncated coordinates of the source:
``H-ATLASJ083051.0+013224`` stands for 08h30m51.0s, +01d32m24s. Half a unit of the last digit is
added, because digits are cut off and not rounded.
"""

from __future__ import annotations

import math
import re
from typing import NamedTuple

_DESIGNATION = re.compile(
    r"(?<![\d.])(\d{2})(\d{2})(\d{2})(?:\.(\d*))?([-+])(\d{2})(\d{2})(\d{2})(?:\.(\d*))?(?!\d)"
)
MINUS_SIGNS = str.maketrans({"−": "-", "–": "-"})


class DesignatedPosition(NamedTuple):
    """A position read from a designation.

    Attributes:
        right_ascension_deg, declination_deg: position in degrees.
        error_arcsec: 1 sigma error due to the truncation, on the worse axis.
    """

    right_ascension_deg: float
    declination_deg: float
    error_arcsec: float


def position_in(designation: str) -> DesignatedPosition | None:
    """The position in a designation such as ``SMMJ123711+622212``; None without a full position."""
    found = _DESIGNATION.search(designation.translate(MINUS_SIGNS))
    if found is None:
        return None
    hours, minutes, seconds, second_digits, sign, degrees, arcmin, arcsec, arcsec_digits = (
        found.groups(default="")
    )
    second_unit, arcsec_unit = 10.0 ** -len(second_digits), 10.0 ** -len(arcsec_digits)
    time = _sexagesimal(hours, minutes, seconds, second_digits, second_unit)
    angle = _sexagesimal(degrees, arcmin, arcsec, arcsec_digits, arcsec_unit)
    if time is None or angle is None or time >= 24.0 or angle > 90.0:
        return None
    widest = max(15.0 * second_unit * math.cos(math.radians(angle)), arcsec_unit)
    return DesignatedPosition(
        15.0 * time, -angle if sign == "-" else angle, widest / math.sqrt(12.0)
    )


def _sexagesimal(
    whole: str, sixtieths: str, seconds: str, digits: str, unit: float
) -> float | None:
    if int(sixtieths) >= 60 or int(seconds) >= 60:
        return None
    second = float(f"{seconds}.{digits or 0}") + unit / 2
    return int(whole) + int(sixtieths) / 60 + second / 3600
