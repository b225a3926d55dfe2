"""Outputs of the parser's networks to feature trees."""

from __future__ import annotations

from mmbroker.processors.features.identification import Coverage, identified
from mmbroker.processors.features.lines import LineCalibration, continuum_of, lines_of
from mmbroker.processors.features.maps import MapCalibration, MapInput, morphology_of
from mmbroker.processors.features.patches import Array32, Patches
from mmbroker.processors.features.tree import FeatureTree

MOST_LINES = 24
"""Of a spectrum: more are of no galaxy but of a spectrum whose errors are too small."""


def spectrum_tree(
    patches: Patches, outputs: Array32, calibration: LineCalibration, model: str
) -> FeatureTree:
    """Lines with their candidates and continuum of one spectrum.

    Args:
        patches: the spectrum.
        outputs: of the network, shape (N, OUTPUTS) or more rows.
        calibration: of them.
        model: name and version of the network.
    """
    lines = lines_of(patches, outputs, calibration, most=MOST_LINES)
    if lines:
        lines = identified(lines, Coverage.of(patches))
    return FeatureTree(tuple(lines), tuple(continuum_of(patches, outputs)), None, model)


def map_tree(
    source: MapInput,
    morphology_logits: Array32,
    cells: Array32,
    calibration: MapCalibration,
    model: str,
) -> FeatureTree:
    """Morphology and components of one map; arguments as for ``morphology_of``."""
    morphology = morphology_of(source, morphology_logits, cells, calibration)
    return FeatureTree((), (), morphology, model)
