"""Makes feature trees from the outputs of the parser's networks."""

from __future__ import annotations

from mmbroker.processors.features.identification import Coverage, identified
from mmbroker.processors.features.lines import LineCalibration, continuum_of, lines_of
from mmbroker.processors.features.maps import MapCalibration, MapInput, morphology_of
from mmbroker.processors.features.patches import Array32, Patches
from mmbroker.processors.features.tree import FeatureTree

MOST_LINES = 24
"""Most lines of a spectrum; more lines than this mean that its errors are too small."""


def spectrum_tree(
    patches: Patches, outputs: Array32, calibration: LineCalibration, model: str
) -> FeatureTree:
    """The feature tree of one spectrum: lines with their identifications, and continuum.

    Args:
        patches: the spectrum.
        outputs: outputs of the network, shape (at least N, OUTPUTS).
        calibration: calibration of the outputs.
        model: name, version and hash of the network, separated by blanks.
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
    """The feature tree of one map: its morphology and components.

    Arguments are those of ``morphology_of``, and the ``model`` of ``spectrum_tree``.
    """
    morphology = morphology_of(source, morphology_logits, cells, calibration)
    return FeatureTree((), (), morphology, model)
