"""Training, in miniature: needs torch, which only training installs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="training needs torch: pip install -e '.[train]'")
pytest.importorskip("onnx", reason="training needs onnx: pip install -e '.[train]'")

import torch

from models.networks import NOISE, Generator, Normalisation
from models.train_critic import Recipe, Trainer, area_under_curve, train
from models.training_data import (
    CORRUPTIONS,
    SPLIT_SHARES,
    TRAIN,
    Examples,
    corrupted,
    simulated_examples,
    split_of,
)
from processors import vector
from processors.calibration import Calibration

RECIPE = Recipe(galaxies=60, simulated_epochs=2, frozen_epochs=1, batch=16, seed=3)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def examples() -> Examples:
    return simulated_examples(RECIPE.galaxies, RECIPE.seed)


def test_training_writes_networks_calibration_and_card(tmp_path: Path) -> None:
    card = train(RECIPE, None, tmp_path, tmp_path / "curves.png")
    network = (tmp_path / "critic.onnx").read_bytes()
    assert json.loads((tmp_path / "critic.json").read_text()) == card
    assert card["sha256"] == hashlib.sha256(network).hexdigest()
    assert card["trained_on"] == "simulated galaxies alone"
    assert set(card["test"]) == {"simulated"}
    calibration = Calibration.from_json((tmp_path / "critic_calibration.json").read_text())
    assert card["calibration_id"] == calibration.calibration_id
    assert (tmp_path / "generator.onnx").exists()
    assert (tmp_path / "curves.png").stat().st_size > 0


def test_training_is_resumed_where_it_stopped(examples: Examples, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    half = Recipe(galaxies=60, simulated_epochs=1, frozen_epochs=0, batch=16, seed=3)
    Trainer(half, examples, path).run()
    resumed = Trainer(RECIPE, examples, path)
    assert len(resumed.history) == 1
    resumed.run()
    straight = Trainer(RECIPE, examples)
    straight.run()
    assert resumed.history == straight.history


def test_generated_vectors_look_like_vectors(examples: Examples) -> None:
    generator = Generator(Normalisation.of(examples.vectors))
    mask = torch.from_numpy(examples.vectors.mask)
    condition = torch.from_numpy(examples.condition)
    with torch.no_grad():
        values = generator(torch.randn(len(mask), NOISE), mask, condition).numpy()
    assert not values[examples.vectors.mask == 0].any()
    spectrum = values[:, vector.SPECTRUM]
    assert spectrum.min() >= 0
    assert spectrum.max() == 1
    low, high = np.split(values[:, vector.WINDOW_LIMITS], 2, axis=1)
    assert (high >= low).all()
    again = vector.scale(vector.unscale(vector.FingerprintVectors(values, examples.vectors.mask)))
    assert again.values == pytest.approx(values, abs=1e-2)


def test_corruptions_change_what_they_say(examples: Examples) -> None:
    wrong, kind = corrupted(examples, np.random.default_rng(1))
    assert set(kind) == set(range(len(CORRUPTIONS)))
    changed = (wrong.vectors.values != examples.vectors.values).any(axis=1)
    moved = (wrong.condition != examples.condition).any(axis=1)
    redshift = kind == CORRUPTIONS.index("wrong redshift")
    assert not changed[redshift].any()
    assert not moved[~redshift].any()
    assert moved[redshift].mean() > 0.8
    # Galaxies with nothing but a spectrum have no flux to scale.
    with_bands = examples.vectors.mask[:, vector.BROADBAND].any(axis=1)
    assert changed[with_bands & (kind == CORRUPTIONS.index("scaled"))].mean() > 0.8
    assert np.array_equal(wrong.vectors.mask, examples.vectors.mask)


def test_the_split_is_by_galaxy_and_in_proportion(examples: Examples) -> None:
    split = np.array([split_of(f"galaxy {number}") for number in range(5_000)])
    assert np.bincount(split) / 5_000 == pytest.approx(SPLIT_SHARES, abs=0.02)
    assert set(examples.split) <= {0, 1, 2}
    assert (examples.split == TRAIN).mean() > 0.5


def test_an_example_has_something_to_judge(examples: Examples) -> None:
    assert examples.vectors.mask.any(axis=1).all()


def test_the_area_under_the_curve_counts_ties_half() -> None:
    assert area_under_curve(np.array([2.0, 3.0]), np.array([0.0, 1.0])) == 1
    assert area_under_curve(np.array([1.0]), np.array([1.0])) == 0.5
    assert area_under_curve(np.array([0.0, 1.0]), np.array([0.0, 1.0])) == 0.5
