"""Training, in miniature: needs torch, which only training installs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="training needs torch: pip install -e '.[train]'")
pytest.importorskip("onnx", reason="training needs onnx: pip install -e '.[train]'")

import torch

from mmbroker.models.critic.adversarial import Trainer
from mmbroker.models.critic.examples import (
    CORRUPTIONS,
    Examples,
    corrupted,
    exchanged,
    real_examples,
    simulated_examples,
)
from mmbroker.models.critic.exported import ExportedNetworks
from mmbroker.models.critic.networks import NOISE, Critic, Generator, Normalisation
from mmbroker.models.critic.recipes import RECIPES, Recipe
from mmbroker.models.critic.train import train
from mmbroker.models.real_data.split import SPLIT_SHARES, TRAIN, split_of
from mmbroker.processors.fingerprint import vector
from mmbroker.processors.scoring.calibration import Calibration

RECIPE = Recipe(
    galaxies=60,
    simulated_epochs=2,
    real_epochs=2,
    frozen_epochs=2,
    further_epochs=1,
    measured_every=2,
    checkpoint_every=1,
    batch=16,
    seed=3,
)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def examples() -> Examples:
    return simulated_examples(RECIPE.galaxies, RECIPE.seed)


def test_training_writes_networks_calibration_curves_and_card(tmp_path: Path) -> None:
    card = train(RECIPE, None, tmp_path, open_test=True)
    assert card is not None
    network = (tmp_path / "critic.onnx").read_bytes()
    assert (tmp_path / "critic.json").read_text() == json.dumps(card, indent=1) + "\n"
    assert card["sha256"] == hashlib.sha256(network).hexdigest()
    assert card["trained_on"] == "simulated galaxies alone"
    assert set(card["test"]) == set(card["validation"]) == {"simulated"}
    calibration = Calibration.from_json((tmp_path / "critic_calibration.json").read_text())
    assert card["calibration_id"] == calibration.calibration_id
    history = json.loads((tmp_path / "critic_curves.json").read_text())
    assert len(history) == RECIPE.epochs
    assert {"distance", "gradient_norm", "two_sample", "marginals"} <= set(history[1])


def test_the_test_split_stays_closed_unless_told(tmp_path: Path) -> None:
    card = train(RECIPE, None, tmp_path)
    assert card is not None
    assert "test" not in card


def test_training_is_resumed_where_it_stopped(examples: Examples, tmp_path: Path) -> None:
    straight = Trainer(RECIPE, examples)
    straight.run()
    path = tmp_path / "checkpoint.pt"
    while not (part := Trainer(RECIPE, examples, path)).finished:
        part.run(at_most=1)
        torch.manual_seed(0)  # whatever happens in between
    # What cannot be measured on so few galaxies is no number, and equal to nothing.
    assert str(part.history) == str(straight.history)
    for name, weights in straight.critic.state_dict().items():
        assert torch.equal(part.critic.state_dict()[name], weights)
    for name, weights in straight.averaged.state_dict().items():
        assert torch.equal(part.averaged.state_dict()[name], weights)


def test_an_unfinished_training_writes_no_weights(tmp_path: Path) -> None:
    assert train(RECIPE, None, tmp_path, tmp_path / "checkpoint.pt", at_most=1) is None
    assert not (tmp_path / "critic.onnx").exists()
    assert train(RECIPE, None, tmp_path, tmp_path / "checkpoint.pt") is not None


def test_a_checkpoint_of_another_recipe_is_refused(examples: Examples, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    Trainer(RECIPE, examples, path).run(at_most=1)
    with pytest.raises(ValueError, match="another recipe"):
        Trainer(replace(RECIPE, batch=8), examples, path)


def test_the_full_recipe_is_the_one_of_the_source() -> None:
    assert RECIPES["full"].adversarial_epochs == 1_000
    assert RECIPES["full"].batch == 64


def test_real_galaxies_are_trained_on_beside_simulated_ones(
    examples: Examples, shared_data: Path
) -> None:
    real = real_examples(shared_data, RECIPE.seed)
    some = real.where(np.isin(real.galaxy, np.unique(real.galaxy)[::10]))
    trainer = Trainer(replace(RECIPE, past_generators=1), examples + some)
    trainer.run()
    assert trainer.finished
    assert len(trainer.past) == 1


def test_the_slope_of_the_critic_is_its_derivative(examples: Examples) -> None:
    critic = Critic(Normalisation.of(examples.vectors))
    values, mask, condition = (
        torch.from_numpy(each)
        for each in (examples.vectors.values, examples.vectors.mask, examples.condition)
    )
    values = (values + 0.01 * torch.randn(values.shape) * mask).requires_grad_()
    absent = torch.rand(len(values), vector.BROADBAND.stop, requires_grad=True)
    output = critic(values, mask, condition, absent).sum()
    of_values, of_absent = torch.autograd.grad(output, (values, absent))
    slope, slope_of_absent = critic.slope(values, mask, condition, absent)
    assert torch.allclose(slope, of_values * critic.scatter, atol=1e-6)
    assert torch.allclose(slope_of_absent, of_absent, atol=1e-6)


def test_a_critic_sees_by_itself_which_fluxes_are_not_detected(examples: Examples) -> None:
    critic = Critic(Normalisation.of(examples.vectors)).eval()
    generator = Generator(Normalisation.of(examples.vectors))
    mask = torch.from_numpy(examples.vectors.mask)
    condition = torch.from_numpy(examples.condition)
    values, absent = generator.drawn(torch.randn(len(mask), NOISE), mask, condition)
    assert (values[:, vector.BROADBAND][absent == 1] == 0).all()
    assert torch.equal(critic(values, mask, condition), critic(values, mask, condition, absent))


def test_the_critic_is_not_shown_all_fluxes(examples: Examples) -> None:
    trainer = Trainer(replace(RECIPE, hidden=0.5), examples)
    left = trainer._left(torch.from_numpy(examples.vectors.mask))
    broadband = left[:, vector.BROADBAND]
    assert 0.65 < float(broadband.mean()) < 0.85
    assert left[:, vector.BROADBAND.stop :].all()


def test_exported_networks_answer_as_trained_ones(examples: Examples, tmp_path: Path) -> None:
    train(RECIPE, None, tmp_path)
    networks = ExportedNetworks(tmp_path)
    drawn = networks.generated(examples, seed=1)
    assert not drawn.vectors.values[examples.vectors.mask == 0].any()
    assert np.array_equal(networks.generated(examples, seed=1).vectors.values, drawn.vectors.values)
    assert np.isfinite(networks.outputs(drawn)).all()


def test_some_fluxes_are_not_detected_and_how_many_is_learnt(examples: Examples) -> None:
    generator = Generator(Normalisation.of(examples.vectors))
    log_odds = slice(2 * vector.BROADBAND.stop, None)
    mask = torch.from_numpy(examples.vectors.mask)
    condition = torch.from_numpy(examples.condition)
    noise = torch.randn(len(mask), NOISE, generator=torch.Generator().manual_seed(1))
    drawn = mask[:, vector.BROADBAND] > 0

    def zeros() -> float:
        flux = generator(noise, mask, condition)[:, vector.BROADBAND]
        flux.square().sum().backward()
        return float((flux[drawn] == 0).float().mean())

    assert 0 < zeros() < 0.1
    bias = generator.broadband.bias
    with torch.no_grad():
        bias[log_odds] = -100.0
    assert 0.8 < zeros() < 0.95
    assert bias.grad is not None
    # Fainter on the whole are fluxes that are seldom detected.
    assert bias.grad[log_odds].sum() > 0


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


def test_an_exchange_moves_two_fluxes_of_a_galaxy(examples: Examples) -> None:
    moved = exchanged(examples, np.random.default_rng(1))
    broadband = slice(vector.BROADBAND.start, vector.BROADBAND.stop)
    before, after = examples.vectors.values[:, broadband], moved.vectors.values[:, broadband]
    assert np.array_equal(np.sort(before, axis=1), np.sort(after, axis=1))
    assert set(np.unique((before != after).sum(axis=1))) <= {0, 2}
    assert (before != after).any(axis=1).mean() > 0.8


def test_the_split_is_by_galaxy_and_in_proportion(examples: Examples) -> None:
    split = np.array([split_of(f"galaxy {number}") for number in range(5_000)])
    assert np.bincount(split) / 5_000 == pytest.approx(SPLIT_SHARES, abs=0.02)
    assert set(examples.split) <= {0, 1, 2}
    assert (examples.split == TRAIN).mean() > 0.5


def test_an_example_has_something_to_judge(examples: Examples) -> None:
    assert examples.vectors.mask.any(axis=1).all()
