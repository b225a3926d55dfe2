"""Says whether the figures of the parser meet the conditions of the protocol."""

from __future__ import annotations

from typing import Any

from mmbroker.models.parser.judged.line_purity import FEWEST_DETECTIONS
from mmbroker.models.simulation.line_profiles import SHAPE_SHARES
from mmbroker.processors.features import inputs
from mmbroker.processors.features.lines import SHAPES
from mmbroker.processors.redshift.comb import EVIDENCE_WEIGHT

_LARGEST_LOSS = 0.03
"""The largest loss of completeness in ideal noise."""

_PULLS = (0.9, 1.1)
_LARGEST_LOSS_OF_REDSHIFTS = 0.01


def with_verdict(numbers: dict[str, Any]) -> dict[str, Any]:
    """Add to the numbers whether they meet the conditions, and the limits of what is read.

    Args:
        numbers: the numbers of the report, as in its JSON.
    """
    least = {
        group: min(
            entry[key][1]
            for entry in numbers["lines"][group].values()
            for key in ("parser_minus_this", "at_this_purity")
            if key in entry
        )
        for group in ("all", "receiver", "ideal")
    }
    pulls = [
        value
        for each in numbers["measurements"]["parser"].values()
        for value in each["pulls"].values()
    ]
    redshifts = numbers["redshift"]["all"]["parser's list"]["right_minus_comb"]
    measured = [each for bins in numbers["measurements"].values() for each in bins.values()]
    rivals = {name: one for name, one in numbers["lines"]["all"].items() if name != "parser"}
    return numbers | {
        "best_rival": max(rivals, key=lambda name: float(rivals[name]["completeness_4_8"])),
        "least_gain": least,
        "pulls": [min(pulls), max(pulls)],
        "unmeasured": sum(each.get("unmeasured", 0) for each in measured),
        "conditions": {
            "completeness": least["all"] > 0,
            "completeness_receiver": least["receiver"] > 0,
            "completeness_ideal": least["ideal"] > -_LARGEST_LOSS,
            "pulls": _PULLS[0] <= min(pulls) and max(pulls) <= _PULLS[1],
            "redshifts": redshifts[1] > -_LARGEST_LOSS_OF_REDSHIFTS,
        },
        "fewest_detections": FEWEST_DETECTIONS,
        "shape_shares": dict(zip(SHAPES, SHAPE_SHARES, strict=True)),
        "evidence_weight": EVIDENCE_WEIGHT,
        "limits": {
            "frequencies_ghz": [each / 1e9 for each in inputs.FREQUENCIES_HZ],
            "widest_channel_km_s": inputs.WIDEST_CHANNEL_KM_S,
            "least_observed": inputs.LEAST_OBSERVED,
            "fewest_pixels_per_beam": inputs.FEWEST_PIXELS_PER_BEAM,
            "faintest_peak": inputs.FAINTEST_PEAK,
        },
    }
