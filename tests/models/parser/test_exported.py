"""The packaged parsers: what they find in spectra and maps that are easy to read."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest

pytest.importorskip("onnxruntime")

from mmbroker.models.packaged.cards import about
from mmbroker.models.packaged.networks import identity, read_model
from mmbroker.models.parser.exported import (
    WEIGHTS,
    ExportedMapParser,
    ExportedSpectrumParser,
    batches_of_like_length,
    packaged_calibration,
    packaged_map_calibration,
)
from mmbroker.models.parser.map_targets import map_inputs
from mmbroker.models.parser.measures import VERSIONS
from mmbroker.models.simulation.line_profiles import BLENDED, DOUBLE_HORNED, GAUSSIAN
from mmbroker.models.simulation.radio_maps import COMPACT, DOUBLE, EXTENDED, JET, simulate_maps
from mmbroker.models.simulation.spectra import simulate_spectra
from mmbroker.processors.features.inputs import SourceInMap
from mmbroker.processors.features.lines import SHAPES
from mmbroker.processors.features.maps import MORPHOLOGIES
from mmbroker.processors.features.outputs import map_tree, spectrum_tree
from mmbroker.processors.features.patches import patches_of
from mmbroker.schemas.events import Observation

OBSERVATION = Observation("o", "ALMA", 150.0, 2.0, 0.2, 59000.0)


@pytest.fixture(scope="module")
def network() -> ExportedSpectrumParser:
    return ExportedSpectrumParser()


@pytest.mark.parametrize("name", ["parser", "map_parser"])
def test_a_card_is_that_of_its_weights(name: str) -> None:
    path = WEIGHTS / f"{name}.onnx"
    card = json.loads((WEIGHTS / f"{name}.json").read_text())
    assert card["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert path.stat().st_size < 5e6


@pytest.mark.parametrize("name", ["parser", "map_parser"])
def test_a_card_says_how_good_its_network_is_and_what_to_beware_of(name: str) -> None:
    card = json.loads((WEIGHTS / f"{name}.json").read_text())
    assert card["version"] == VERSIONS[name]
    assert about(name).items() <= card.items()
    assert all(0 < share <= 1 for share in card["validation"].values())
    assert (WEIGHTS.parents[1] / card["report"]).is_file()


@pytest.mark.parametrize("name", ["parser", "map_parser"])
def test_what_a_card_says_beside_the_calibration_makes_no_other_version(name: str) -> None:
    _, card = read_model(WEIGHTS, name)
    bare = {key: card[key] for key in card if key not in ("version", "validation", "caveats")}
    assert identity(bare) == identity(card)


def test_classes_have_the_names_that_they_were_trained_with() -> None:
    assert SHAPES == ("gaussian", "double-horned", "blended")
    assert (GAUSSIAN, DOUBLE_HORNED, BLENDED) == (0, 1, 2)
    assert MORPHOLOGIES == ("compact", "extended", "double", "jet")
    assert (COMPACT, EXTENDED, DOUBLE, JET) == (0, 1, 2, 3)


def test_bright_lines_are_found_and_measured(network: ExportedSpectrumParser) -> None:
    found = bright = 0
    for seed in range(6):
        simulated = simulate_spectra(8, np.random.default_rng([100, seed]))
        spectra = [patches_of(*simulated.spectrum(row)) for row in range(8)]
        for row, (each, outputs) in enumerate(zip(spectra, network.outputs(spectra), strict=True)):
            tree = spectrum_tree(OBSERVATION, each, outputs, packaged_calibration(), "test")
            for k in np.flatnonzero(simulated.lines.signal_to_noise[row] > 12):
                centre = simulated.lines.frequency_hz[row, k]
                bright += 1
                near = [
                    line
                    for line in tree.lines
                    if abs(line.frequency_hz / centre - 1) < 3e-4
                    and abs(np.log(line.flux_jy_km_s / simulated.lines.flux_jy_km_s[row, k])) < 0.5
                ]
                found += bool(near)
    assert bright > 10
    assert found > 0.8 * bright


def test_noise_alone_has_a_continuum_and_hardly_any_line(network: ExportedSpectrumParser) -> None:
    random = np.random.default_rng(7)
    frequency = np.linspace(84e9, 115e9, 1000)
    spectra = [
        patches_of(frequency, 2e-3 + 4e-4 * random.standard_normal(1000), np.full(1000, 4e-4))
        for _ in range(40)
    ]
    trees = [
        spectrum_tree(OBSERVATION, each, outputs, packaged_calibration(), "test")
        for each, outputs in zip(spectra, network.outputs(spectra), strict=True)
    ]
    assert sum(len(tree.lines) for tree in trees) <= 5
    fluxes = [tree.continuum[0].flux_density_jy for tree in trees]
    assert np.mean(fluxes) == pytest.approx(2e-3, abs=1e-5)


def test_probabilities_rise_with_what_the_network_says() -> None:
    calibration = packaged_calibration()
    assert (np.diff(calibration.probability) >= 0).all()
    assert (calibration.error_scale > 0).all()
    assert calibration.error_scale.shape == (len(calibration.error_logit), 3)


def test_bright_sources_have_their_morphology() -> None:
    simulated = simulate_maps(120, np.random.default_rng(8))
    inputs = map_inputs(simulated)
    logits, cells = ExportedMapParser().outputs(inputs)
    calibration = packaged_map_calibration()
    said = [
        map_tree(OBSERVATION, SourceInMap(each, 0.0, 0.0), *outputs, calibration, "test").morphology
        for each, *outputs in zip(inputs, logits, cells, strict=True)
    ]
    bright = np.flatnonzero(simulated.signal_to_noise > 30)
    right = [
        said[row] is not None and said[row].name == MORPHOLOGIES[simulated.morphology[row]]  # type: ignore[union-attr]
        for row in bright
    ]
    assert np.mean(right) > 0.8


def test_batches_hold_every_spectrum_once_with_little_padding() -> None:
    lengths = np.random.default_rng(9).integers(2, 80, 200).tolist()
    batches = batches_of_like_length(lengths)
    assert sorted(row for each in batches for row in each) == list(range(200))
    for each in batches:
        assert max(lengths[row] for row in each) <= 1.25 * min(lengths[row] for row in each)
