"""Defines the grids of trial redshift, which are uniform in ln(1 + z).

The fine grid has the step of the spectral grid, so that a line moves by one bin of the spectrum
from one trial redshift to the next. Functions that vary slowly are computed on coarser grids, each
cell of which is a whole number of fine cells.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mmbroker.processors.frequency_grid import LOG_STEP

Array = NDArray[np.float64]
Array32 = NDArray[np.float32]

FINE_POINTS = 3072
FINE_PER_COARSE = 6
COARSE_PER_CELL = 2
COARSE_PER_NODE = 8


def _centres(cells_per_point: int) -> Array:
    points = FINE_POINTS // cells_per_point
    return np.asarray(
        (np.arange(points) * cells_per_point + (cells_per_point - 1) / 2) * LOG_STEP, float
    )


FINE: Array = _centres(1)
"""ln(1 + z) of the fine grid, to z = 12; float64, shape (3072,)."""

COARSE: Array = _centres(FINE_PER_COARSE)
"""ln(1 + z) for photometric redshifts, in steps of 0.005; float64, shape (512,)."""

NODES: Array = _centres(FINE_PER_COARSE * COARSE_PER_NODE)
"""ln(1 + z) for continuum templates, in steps of 0.04; float64, shape (64,)."""

PUBLISHED: Array = _centres(FINE_PER_COARSE * COARSE_PER_CELL)
"""ln(1 + z) of the published posterior; float64, shape (256,)."""


def interpolation_matrix(start: Array, end: Array) -> Array32:
    """The matrix that interpolates linearly from grid ``start`` to grid ``end``.

    Beyond the ends of ``start`` the interpolation is constant.

    Returns:
        float32, shape (start points, end points): values at ``end`` = values at ``start`` @ matrix.
    """
    position = np.clip((end - start[0]) / (start[1] - start[0]), 0, len(start) - 1)
    left = np.minimum(position.astype(int), len(start) - 2)
    fraction = position - left
    matrix = np.zeros((len(start), len(end)), np.float32)
    columns = np.arange(len(end))
    matrix[left, columns] = 1 - fraction
    matrix[left + 1, columns] += fraction
    return matrix


NODES_TO_COARSE: Array32 = interpolation_matrix(NODES, COARSE)
