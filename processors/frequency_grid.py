"""Defines the logarithmic frequency grid that all spectra are put on.

Bins are equal in ln(frequency) and 250 km/s wide, so that a line of 500 km/s covers two. The grid
of trial redshifts has the same step in ln(1 + z): from one trial redshift to the next a line moves
by one bin, so the comb of lines is a sum over shifted copies.
"""

from __future__ import annotations

import math

import numpy as np

from mmbroker.processors.relations import SPEED_OF_LIGHT_KM_S
from mmbroker.schemas.events import CHUNK_BINS, Floats

BIN_WIDTH_KM_S = 250.0
LOG_STEP = BIN_WIDTH_KM_S / SPEED_OF_LIGHT_KM_S
"""Width of a bin in ln(frequency)."""

LOWEST_FREQUENCY_HZ = 30e9
"""Lower end of the grid, below ALMA band 1."""

HIGHEST_FREQUENCY_HZ = 1000e9
"""The grid reaches at least up to here, above ALMA band 10."""

CHUNKS = math.ceil(math.log(HIGHEST_FREQUENCY_HZ / LOWEST_FREQUENCY_HZ) / LOG_STEP / CHUNK_BINS)
BINS = CHUNKS * CHUNK_BINS

LOG_EDGES: Floats = math.log(LOWEST_FREQUENCY_HZ) + LOG_STEP * np.arange(BINS + 1)
"""ln(frequency / Hz) of the bins' edges, float64, shape (BINS + 1,)."""

EDGES_HZ: Floats = np.exp(LOG_EDGES)
"""Edges of the bins in Hz, float64, shape (BINS + 1,)."""

CENTRES_HZ: Floats = np.exp(LOG_EDGES[:-1] + LOG_STEP / 2)
"""Centres of the bins in Hz, float64, shape (BINS,)."""
