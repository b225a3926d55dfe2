"""Measures of a parser that its calibration and its judge share."""

from __future__ import annotations

import numpy as np

from mmbroker.schemas.events import Floats

PURITY = 0.9
"""Of what is reported."""

VERSIONS = {"parser": 2, "map_parser": 1}
"""Of the packaged networks; raise one with its weights."""


def robust_scatter(values: Floats) -> float:
    """Half of the central 68 %, about the median: 1 for a unit Gaussian."""
    low, high = np.percentile(values, [15.87, 84.13])
    return float(high - low) / 2
