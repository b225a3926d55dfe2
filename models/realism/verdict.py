"""Says which simulated catalogues are off, in which bands, and by how much."""

from __future__ import annotations

from typing import Any

LIMITS = {"close": 0.65, "usable": 0.80, "apart": 0.15}
"""The limits of the protocol.

The first two are areas under the curve below which a catalogue is called close, and usable. A band
is apart if the interval of its Kolmogorov-Smirnov distance lies above the third.
"""

_AROMATIC = "MIPS-24/IRAC4"
_AROMATIC_FROM = 1.5
"""The colour in which aromatic bands are seen, and the redshift from which they are seen."""

_MILLIMETRE = ("ALMA-3mm", "SPT-150GHz")


def word(area: float) -> str:
    """The protocol's word for an area under the curve.

    Args:
        area: the area.
    """
    if area < LIMITS["close"]:
        return "close"
    return "usable" if area < LIMITS["usable"] else "off"


def with_verdict(numbers: dict[str, Any]) -> dict[str, Any]:
    """Add to the numbers what they say.

    Args:
        numbers: the numbers of the report, as in its JSON; they and those of its tables are
            changed.
    """
    numbers["limits"] = LIMITS
    tables = numbers.get("tables")
    if tables:
        for each in tables.values():
            each["word"] = {view: word(area["value"]) for view, area in each["area"].items()}
            each["apart"] = [
                band
                for band, distance in each["distance"]["flux density"].items()
                if distance is not None and distance["low"] > LIMITS["apart"]
            ]
        numbers["found"] = {
            "aromatic": _aromatic(tables["GOODS-N"]["colours"]),
            "millimetre_factor": _millimetre_factor(tables["SPT"]["training part"]["bands"]),
        }
    return numbers


def _aromatic(colours: list[dict[str, Any]]) -> dict[str, Any]:
    """How much the colour differs at the redshifts where it has aromatic bands."""
    warm = [
        each
        for each in colours
        if each["colour"] == _AROMATIC and each["redshift"][0] >= _AROMATIC_FROM
    ]
    apart = [each["median difference"] for each in warm]
    return {
        "redshift": [
            min(each["redshift"][0] for each in warm),
            max(each["redshift"][1] for each in warm),
        ],
        "median difference": [min(apart), max(apart)],
    }


def _millimetre_factor(bands: dict[str, Any]) -> float:
    """The factor by which simulated medians at 3 mm are too high, beside those at 2 mm."""
    long, short = (bands[name]["simulated"][1] / bands[name]["real"][1] for name in _MILLIMETRE)
    return float(long / short)
