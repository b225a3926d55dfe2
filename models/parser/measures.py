"""Measures of a parser that its calibration and its judge share."""

from __future__ import annotations

import numpy as np

from mmbroker.models.parser.judged.line_detections import Detections, Truth
from mmbroker.schemas.events import Floats

PURITY = 0.9
"""Of what is reported."""

VERSIONS = {"parser": 2, "map_parser": 1}
"""Of the packaged networks; raise one with its weights."""


def line_pulls(found: Detections, truth: Truth) -> dict[str, Floats]:
    """(Measured - true) / error of the detections that are true, in order."""
    true = found.matched >= 0
    which = found.matched[true]
    return {
        "frequency": (found.frequency_hz[true] - truth.frequency_hz[which])
        / found.frequency_error_hz[true],
        "width": (found.width_km_s[true] - truth.width_km_s[which]) / found.width_error_km_s[true],
        "flux": (found.flux_jy_km_s[true] - truth.flux_jy_km_s[which])
        / found.flux_error_jy_km_s[true],
    }


def robust_scatter(values: Floats) -> float:
    """Half of the central 68 %, about the median: 1 for a unit Gaussian."""
    low, high = np.percentile(values, [15.87, 84.13])
    return float(high - low) / 2
