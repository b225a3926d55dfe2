"""Judge morphologies and components that are read off simulated maps, whose truth is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter

from mmbroker.models.parser.exported import ExportedMapParser
from mmbroker.models.parser.map_targets import FAINTEST_COMPONENT, map_inputs, own_signal_to_noise
from mmbroker.models.simulation.radio_maps import (
    COMPACT,
    DOUBLE,
    EXTENDED,
    JET,
    SimulatedMaps,
    simulate_maps,
)
from mmbroker.processors.features.maps import MORPHOLOGIES, MapCalibration, MapInput, morphology_of
from mmbroker.schemas.events import Floats, MapComponent

Integers = NDArray[np.int64]

VALIDATION_MAPS_SEED, TEST_MAPS_SEED = 41, 42
VALIDATION_MAPS, TEST_MAPS = 2_000, 4_000
_BATCH = 100

NEAR_BEAMS = 0.4
"""A component is found within so much of its place."""


@dataclass(frozen=True, slots=True, eq=False)
class JudgedMaps:
    """N maps with C detected and T true components; shapes (N,), (C,) and (T,).

    Attributes:
        probabilities: shape (N, MORPHOLOGIES).
        conventional: morphology by the rules of ``conventional_morphology``.
        component_flux_pull: NaN where not matched.
        true_found: at the threshold of the calibration.
    """

    morphology: Integers
    probabilities: Floats
    conventional: Integers
    signal_to_noise: Floats
    component_logit: Floats
    component_matched: NDArray[np.bool_]
    component_flux_pull: Floats
    true_signal_to_noise: Floats
    true_found: NDArray[np.bool_]


def judge_maps(
    network: ExportedMapParser, calibration: MapCalibration, maps: int, seed: int
) -> JudgedMaps:
    """Parse simulated maps.

    Args:
        network: of the parser.
        calibration: of it; its threshold decides which components are detected.
        maps: how many.
        seed: the seed of the simulation.
    """
    columns: dict[str, list[NDArray[Any]]] = {
        name: [] for name in ("morphology", "probabilities", "conventional", "ratio")
    }
    found: list[tuple[float, bool, float]] = []
    true: list[tuple[float, bool]] = []
    for first in range(0, maps, _BATCH):
        simulated = simulate_maps(_BATCH, np.random.default_rng([seed, first]))
        inputs = map_inputs(simulated)
        logits, cells = network.outputs(inputs)
        parsed = [
            morphology_of(*each, calibration) for each in zip(inputs, logits, cells, strict=True)
        ]
        columns["morphology"].append(simulated.morphology)
        columns["probabilities"].append(np.array([each.probabilities for each in parsed]))
        columns["conventional"].append(np.array([conventional_morphology(each) for each in inputs]))
        columns["ratio"].append(simulated.signal_to_noise)
        ratio = own_signal_to_noise(simulated)
        for row, each in enumerate(parsed):
            _match(simulated, ratio, row, each.components, found, true)
    table, truth = np.array(found).reshape(-1, 3), np.array(true).reshape(-1, 2)
    return JudgedMaps(
        np.concatenate(columns["morphology"]).astype(int),
        np.concatenate(columns["probabilities"]),
        np.concatenate(columns["conventional"]).astype(int),
        np.concatenate(columns["ratio"]),
        table[:, 0],
        table[:, 1] > 0,
        table[:, 2],
        truth[:, 0],
        truth[:, 1] > 0,
    )


def _match(
    simulated: SimulatedMaps,
    ratio: Floats,
    row: int,
    components: Sequence[MapComponent],
    found: list[tuple[float, bool, float]],
    true: list[tuple[float, bool]],
) -> None:
    """Match the components of one map by falling probability, and add what came of it."""
    truth = simulated.components
    bright = np.flatnonzero(ratio[row] >= FAINTEST_COMPONENT)
    taken: set[int] = set()
    for component in sorted(components, key=lambda each: -each.probability):
        probability = min(max(component.probability, 1e-9), 1 - 1e-9)
        logit = float(np.log(probability / (1 - probability)))
        # Lengths are in beams, called arcsec.
        away = np.hypot(
            truth.x_beams[row, bright] - component.x_arcsec,
            truth.y_beams[row, bright] - component.y_arcsec,
        )
        free = [k for k in np.argsort(away) if bright[k] not in taken and away[k] < NEAR_BEAMS]
        if free:
            which = int(bright[free[0]])
            taken.add(which)
            pull = (component.flux_jy - truth.flux_jy[row, which]) / component.flux_error_jy
            found.append((logit, True, float(pull)))
        else:
            found.append((logit, False, float("nan")))
    true.extend((float(ratio[row, k]), int(k) in taken) for k in bright)


def conventional_morphology(source: MapInput) -> int:
    """Index into MORPHOLOGIES by peaks above 5 sigma.

    Three are a jet, two a double; one is compact unless its flux is well above its peak.
    """
    # Undo the compression c = s / sqrt(1 + |s|).
    c = np.asarray(source.pixels, float)
    scaled = np.sign(c) * (c**2 + np.sqrt(c**4 + 4 * c**2)) / 2
    peaks = (scaled == maximum_filter(scaled, 3)) & (scaled > 5) & (scaled > 0.08 * scaled.max())
    count = int(peaks.sum())
    if count >= 3:
        return JET
    if count == 2:
        return DOUBLE
    rows, columns = np.indices(scaled.shape)
    row, column = np.unravel_index(int(scaled.argmax()), scaled.shape)
    aperture = np.hypot(rows - row, columns - column) <= 4.5
    # A beam of 3 pixels has an area of 1.133 x 9 square pixels.
    flux = scaled[aperture].sum() / (1.133 * 9)
    noise = np.sqrt(aperture.sum() / (1.133 * 9))
    return EXTENDED if flux - 2 * noise > 1.25 * scaled.max() else COMPACT


def confusion(true: Integers, said: Integers, classes: int = len(MORPHOLOGIES)) -> Integers:
    """How often each class was called each, shape (classes, classes), true ones in rows."""
    table = np.zeros((classes, classes), int)
    np.add.at(table, (true, said), 1)
    return table
