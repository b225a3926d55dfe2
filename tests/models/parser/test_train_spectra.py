"""Training the parsers: a tiny recipe learns, resumes, and exports what it learnt."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

# ruff: noqa: E402 - what follows needs these
torch = pytest.importorskip("torch")
pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from mmbroker.models.parser import (
    train_maps,
    train_spectra,
)
from mmbroker.models.parser.exported import (
    ExportedMapParser,
    ExportedSpectrumParser,
)
from mmbroker.models.parser.map_targets import (
    cell_targets,
    map_inputs,
)
from mmbroker.models.parser.spectrum_targets import parser_batch
from mmbroker.models.simulation.radio_maps import simulate_maps
from mmbroker.models.simulation.spectra import simulate_spectra
from mmbroker.processors.features.maps import (
    CELL_GRID,
    CELL_OUTPUTS,
)
from mmbroker.processors.features.patches import patches_of

TINY = train_spectra.Recipe(steps=4, batch=4, width=16, depth=1, stem=8)


def test_a_line_is_asked_for_where_it_is() -> None:
    spectra = simulate_spectra(20, np.random.default_rng(1))
    targets = parser_batch(spectra).targets
    bright = np.nan_to_num(spectra.lines.signal_to_noise).max(axis=1) > 8
    quiet = np.isnan(spectra.lines.frequency_hz).all(axis=1)
    assert ((targets[..., 0] == 1).any(axis=1) >= bright).mean() > 0.9
    assert not (targets[quiet, :, 0] == 1).any()
    # The measurements of each line weigh one in all, or nothing where its middle is not seen.
    np.testing.assert_array_less(
        targets[..., 1].sum(axis=1), np.isfinite(spectra.lines.frequency_hz).sum(axis=1) + 1e-4
    )


def test_training_resumes_to_the_same_network(tmp_path: Path) -> None:
    whole, _ = train_spectra.train(TINY)
    checkpoint = tmp_path / "parser.pt"
    train_spectra.train(replace(TINY, steps=2, schedule=4), checkpoint)
    resumed, curve = train_spectra.train(TINY, checkpoint)
    assert curve[-1]["step"] == 4
    for name, values in whole.state_dict().items():
        torch.testing.assert_close(resumed.state_dict()[name], values)


def test_the_exported_network_says_the_same_in_any_batch(tmp_path: Path) -> None:
    network, _ = train_spectra.train(replace(TINY, steps=1))
    path = tmp_path / "parser.onnx"
    train_spectra.export(network, path)
    exported = ExportedSpectrumParser(path)
    random = np.random.default_rng(2)
    spectra = [patches_of(*simulate_spectra(1, random).spectrum(0)) for _ in range(5)]
    together = exported.outputs(spectra)
    for one, output in zip(spectra, together, strict=True):
        np.testing.assert_allclose(exported.outputs([one])[0], output, atol=2e-4)
        assert len(output) == len(one.flux_jy)


def test_components_are_asked_for_where_they_are() -> None:
    maps = simulate_maps(30, np.random.default_rng(3))
    targets = cell_targets(maps)
    counts = (maps.components.flux_jy > 0).sum(axis=1)
    asked = targets[..., 0].sum(axis=(1, 2))
    assert (asked <= counts).all()
    assert asked.sum() > 0.5 * counts.sum()
    assert np.abs(targets[..., 1:3]).max() <= 0.5


def test_the_parser_of_maps_trains_and_exports(tmp_path: Path) -> None:
    network = train_maps.train(train_maps.Recipe(steps=2, batch=4, width=16, depth=1))
    path = tmp_path / "map_parser.onnx"
    train_maps.export(network, path)
    inputs = map_inputs(simulate_maps(3, np.random.default_rng(4)))
    morphology, cells = ExportedMapParser(path).outputs(inputs)
    assert morphology.shape == (3, 4)
    assert cells.shape == (3, CELL_GRID, CELL_GRID, CELL_OUTPUTS)
