"""Measures a parser: what its calibration and its judge share."""

from __future__ import annotations

import numpy as np

from mmbroker.schemas.events import Floats

PURITY = 0.9
"""The share of reported lines and components that shall be true."""

VERSIONS = {"parser": 2, "map_parser": 1}
"""The versions of the packaged networks; raise one with its weights."""


def central_half_width(values: Floats) -> float:
    """Half of the width of the central 68 %: 1 for a unit Gaussian.

    Args:
        values: finite values in any unit, shape (N,), at least one.
    """
    low, high = np.percentile(values, [15.87, 84.13])
    return float(high - low) / 2
