"""Judges morphologies and components that are read off simulated maps, whose truth is known."""

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
"""The largest distance in beams between a found component and the true one."""


@dataclass(frozen=True, slots=True, eq=False)
class JudgedMaps:
    """N maps with C detected and T true components.

    Attributes:
        morphology: the true index into MORPHOLOGIES, int64, shape (N,).
        probabilities: the probability of each morphology, float64, shape (N, MORPHOLOGIES).
        conventional: the morphology by ``conventional_morphology``, int64, shape (N,).
        signal_to_noise: the true peak signal-to-noise ratio, float64, shape (N,).
        component_logit: the logit of the probability of each detection, float64, shape (C,).
        component_matched: whether a detection is a true component, bool, shape (C,).
        component_flux_pull: (measured - true) / error of its flux, NaN where it is not matched,
            float64, shape (C,).
        true_signal_to_noise: the signal-to-noise ratio of each true component's own peak, float64,
            shape (T,).
        true_found: whether a true component was detected, at the threshold of the calibration,
            bool, shape (T,).
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
    """Parse simulated maps, and compare with the truth.

    Args:
        network: the parser of maps.
        calibration: its calibration, whose threshold decides which components are detected.
        maps: the number of maps, which is rounded up to a multiple of 100.
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
    """Match the components of one map by falling probability, and add them to both lists."""
    truth = simulated.components
    bright = np.flatnonzero(ratio[row] >= FAINTEST_COMPONENT)
    taken: set[int] = set()
    for component in sorted(components, key=lambda each: -each.probability):
        probability = min(max(component.probability, 1e-9), 1 - 1e-9)
        logit = float(np.log(probability / (1 - probability)))
        # What is called arcsec is in beams here.
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
    """Classify a map by its peaks above 5 sigma.

    Three peaks or more are a jet, and two are a double. A single one is compact, unless its flux is
    well above its peak.

    Args:
        source: the map.

    Returns:
        The index into MORPHOLOGIES.
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
    """Count how often each class was called each.

    Args:
        true: the true classes, int64, shape (N,).
        said: the classes that were said, int64, shape (N,).
        classes: the number of classes.

    Returns:
        int64, shape (classes, classes), true classes in rows.
    """
    table = np.zeros((classes, classes), int)
    np.add.at(table, (true, said), 1)
    return table
