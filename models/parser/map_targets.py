"""Turns simulated maps into what the parser's network reads, and the answers that it learns."""

from __future__ import annotations

import math

import numpy as np

from mmbroker.models.simulation.radio_maps import SimulatedMaps
from mmbroker.processors.features.maps import (
    CELL_GRID,
    CELL_PIXELS,
    PIXELS_PER_BEAM,
    MapInput,
    map_input,
)
from mmbroker.schemas.events import Floats

FAINTEST_COMPONENT = 3.0
"""The signal-to-noise ratio of a component's own peak below which it does not count as one."""


def map_inputs(maps: SimulatedMaps) -> list[MapInput]:
    """Convert simulated maps to the network's inputs; what is called arcsec is in beams there.

    Args:
        maps: N maps.
    """
    beam = maps.beam
    return [
        map_input(
            maps.image_jy_per_beam[row],
            pixel_arcsec=1 / float(beam.pixels[row]),
            beam_major_arcsec=1 / math.sqrt(beam.axis_ratio[row]),
            beam_minor_arcsec=math.sqrt(beam.axis_ratio[row]),
            beam_angle_rad=float(beam.angle[row]),
            noise_jy=float(maps.noise_jy[row]),
        )
        for row in range(len(maps.morphology))
    ]


def own_signal_to_noise(maps: SimulatedMaps) -> Floats:
    """The signal-to-noise ratio of each component's peak if it were alone.

    Args:
        maps: N maps.

    Returns:
        float64, shape (N, COMPONENTS).
    """
    components = maps.components
    dilution = np.sqrt((1 + components.major_beams**2) * (1 + components.minor_beams**2))
    ratio: Floats = components.flux_jy / dilution / maps.noise_jy[:, None]
    return ratio


def cell_targets(maps: SimulatedMaps) -> Floats:
    """Make the answers that the network learns.

    Args:
        maps: N maps.

    Returns:
        For each cell whether it has a component, the component's offsets in x and y in cells, and
        ln(flux / noise); float32, shape (N, CELL_GRID, CELL_GRID, 4).
    """
    components = maps.components
    targets = np.zeros((len(maps.morphology), CELL_GRID, CELL_GRID, 4), np.float32)
    middle = (CELL_GRID - 1) / 2
    x = components.x_beams * PIXELS_PER_BEAM / CELL_PIXELS + middle
    y = components.y_beams * PIXELS_PER_BEAM / CELL_PIXELS + middle
    bright = own_signal_to_noise(maps) >= FAINTEST_COMPONENT
    column, row = np.rint(x).astype(int), np.rint(y).astype(int)
    inside = bright & (np.minimum(column, row) >= 0) & (np.maximum(column, row) < CELL_GRID)
    source, component = np.nonzero(inside)
    # If two are in a cell the brighter counts: it is written last.
    order = np.argsort(components.flux_jy[source, component], kind="stable")
    source, component = source[order], component[order]
    at = (source, row[source, component], column[source, component])
    targets[(*at, 0)] = 1.0
    targets[(*at, 1)] = (x - column)[source, component]
    targets[(*at, 2)] = (y - row)[source, component]
    flux = components.flux_jy[source, component] / maps.noise_jy[source]
    targets[(*at, 3)] = np.log(flux)
    return targets
