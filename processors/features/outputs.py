"""Outputs of the parser's networks to feature trees, as fingerprints hold them: of bounded size."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from mmbroker.processors.features.identification import Coverage, identified
from mmbroker.processors.features.inputs import SourceInMap
from mmbroker.processors.features.lines import LineCalibration, continuum_of, lines_of
from mmbroker.processors.features.maps import MapCalibration, morphology_of
from mmbroker.processors.features.patches import Array32, Patches
from mmbroker.schemas.events import Morphology, Observation, ParsedObservation

MOST_LINES = 24
"""Most lines of a spectrum; more lines than this mean that its errors are too small."""

MOST_CANDIDATES = 4
"""Of each line, the most probable ones."""

MOST_SEGMENTS = 16
"""Of a spectrum, the widest ones."""

MOST_COMPONENTS = 16
"""Of a map, the brightest ones."""


def spectrum_tree(
    observation: Observation,
    patches: Patches,
    outputs: Array32,
    calibration: LineCalibration,
    model: str,
) -> ParsedObservation:
    """Lines with their candidates and continuum of one spectrum.

    Args:
        observation: with the spectrum.
        patches: the spectrum.
        outputs: outputs of the network, shape (at least N, OUTPUTS).
        calibration: calibration of the outputs.
        model: name, version and hash of the network, separated by blanks.
    """
    lines = lines_of(patches, outputs, calibration, most=MOST_LINES)
    if lines:
        lines = identified(lines, Coverage.of(patches), most=MOST_CANDIDATES)
    segments = continuum_of(patches, outputs)
    segments = sorted(segments, key=lambda each: each.low_hz - each.high_hz)[:MOST_SEGMENTS]
    segments.sort(key=lambda each: each.low_hz)
    return ParsedObservation(
        observation.observation_id, observation.time_mjd, model, lines, segments
    )


def map_tree(
    observation: Observation,
    source: SourceInMap,
    morphology_logits: Array32,
    cells: Array32,
    calibration: MapCalibration,
    model: str,
) -> ParsedObservation:
    """Morphology and components of one map, these told from the middle of the whole map.

    Args:
        observation: with the map.
        source: the map around its source.
        morphology_logits: of the network, see ``morphology_of``.
        cells: likewise.
        calibration: of them.
        model: name and version of the network.
    """
    found = morphology_of(source.input, morphology_logits, cells, calibration)
    components = [
        replace(
            each,
            x_arcsec=source.x_arcsec + each.x_arcsec,
            y_arcsec=source.y_arcsec + each.y_arcsec,
        )
        for each in found.components[:MOST_COMPONENTS]
    ]
    morphology = Morphology(found.name, found.probabilities.astype(np.float32), components)
    return ParsedObservation(
        observation.observation_id, observation.time_mjd, model, [], [], morphology
    )
