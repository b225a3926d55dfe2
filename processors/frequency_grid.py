"""The one logarithmic frequency grid of every spectrum, and of every trial redshift.

Bins are equal in ln(frequency), 250 km/s wide, so that a line of 500 km/s covers two. A shift in
ln(1 + z) is a shift by whole bins, which makes the comb of lines a sum over shifted copies.
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
"""Below ALMA band 1."""

HIGHEST_FREQUENCY_HZ = 1000e9
"""Above ALMA band 10."""

CHUNKS = math.ceil(math.log(HIGHEST_FREQUENCY_HZ / LOWEST_FREQUENCY_HZ) / LOG_STEP / CHUNK_BINS)
BINS = CHUNKS * CHUNK_BINS

LOG_EDGES: Floats = math.log(LOWEST_FREQUENCY_HZ) + LOG_STEP * np.arange(BINS + 1)
"""ln(frequency / Hz) of the bins' edges, float64, shape (BINS + 1,)."""

EDGES_HZ: Floats = np.exp(LOG_EDGES)
"""Edges of the bins in Hz, float64, shape (BINS + 1,)."""

CENTRES_HZ: Floats = np.exp(LOG_EDGES[:-1] + LOG_STEP / 2)
"""Centres of the bins in Hz, float64, shape (BINS,)."""
