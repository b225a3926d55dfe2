"""Training of the refined redshift on the real tables, in miniature."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="training needs torch")

from mmbroker.models.packaged.refined import load_refined
from mmbroker.models.packaged.templates import load_templates
from mmbroker.models.real_data.catalogues import cosmos, goods_north
from mmbroker.models.real_data.split import TRAIN, VALIDATION
from mmbroker.models.redshift.baselines.baselines import load_baselines
from mmbroker.models.redshift.figures import TEMPLATES_MINUS, judged_part
from mmbroker.models.redshift.refined import train as train_refined
from mmbroker.models.redshift.refined.train import Recipe, sharpness, train, write
from mmbroker.models.redshift.sample import Estimate, Sample, judge, sample_of
from mmbroker.processors.redshift import ConventionalRedshift, refined
from mmbroker.processors.redshift.grids import COARSE
from mmbroker.processors.redshift.refined import RefinedRedshift
from mmbroker.processors.redshift.refined_networks import NumpyNetworks

RECIPE = Recipe(members=2, fold_members=1, folds=2, epochs=2, width=8, gate_epochs=2, gate_width=4)


@pytest.fixture(scope="module")
def conventional() -> ConventionalRedshift:
    return ConventionalRedshift(template_fit=load_templates())


@pytest.fixture(scope="module")
def everything(shared_data: Path, conventional: ConventionalRedshift) -> Sample:
    return sample_of(goods_north(shared_data), conventional)


@pytest.fixture(scope="module")
def weights(everything: Sample, conventional: ConventionalRedshift) -> dict[str, Any]:
    trained = train(everything.select(everything.split == TRAIN), RECIPE, conventional.identity)
    return {name: array for name, array in trained.items() if not name.startswith("held_out")}


def test_validation_is_judged_beside_every_baseline(
    everything: Sample, weights: dict[str, Any], conventional: ConventionalRedshift
) -> None:
    baselines = load_baselines(conventional)
    validation = everything.select(everything.split == VALIDATION)
    figures = judged_part(
        validation, baselines, conventional, RefinedRedshift(weights, conventional)
    )
    for subset in ("all", "faint", "faint positive", "z > 1.5"):
        names = {"conventional", "templates", "stacked", "stacked, log-linear", "trees", "refined"}
        assert names < set(figures[subset])
        assert len({one["n"] for one in figures[subset].values()}) == 1
    trees = figures["faint"]["trees"]
    ours = figures["faint"]["refined"]["mae"][0]
    assert trees["refined_minus"]["mae"][0] == pytest.approx(ours - trees["mae"][0], abs=1.1e-4)
    assert set(figures["photometry alone"]) == {
        "conventional",
        "conventional with templates",
        "refined",
    }
    far_infrared = figures["far infrared alone"]
    assert far_infrared["refined"]["crps"] == far_infrared["conventional"]["crps"]
    assert figures["fallbacks"]["far infrared alone"] == {
        refined.Fallback.FEW_BANDS: far_infrared["refined"]["n"]
    }
    assert "conventional_minus" not in figures[TEMPLATES_MINUS]["conventional"]


def test_weights_survive_being_written(
    tmp_path: Path,
    everything: Sample,
    weights: dict[str, Any],
    conventional: ConventionalRedshift,
) -> None:
    write(tmp_path, weights, {"name": "refined"})
    some = everything.select(np.arange(20)).inputs
    written, reasons = load_refined(conventional, tmp_path).log_posterior(some)
    expected, expected_reasons = RefinedRedshift(weights, conventional).log_posterior(some)
    assert (written == expected).all()
    assert reasons == expected_reasons


def test_weights_with_the_card_of_others_are_refused(
    tmp_path: Path, weights: dict[str, Any], conventional: ConventionalRedshift
) -> None:
    with pytest.raises(FileNotFoundError, match=r"models.redshift.refined.train"):
        load_refined(conventional, tmp_path)
    write(tmp_path, weights, {"name": "refined"})
    (tmp_path / "refined.json").write_text('{"sha256": "0"}')
    with pytest.raises(ValueError, match="its card says 0"):
        load_refined(conventional, tmp_path)


def test_galaxies_without_near_infrared_bands_stay_conventional(
    shared_data: Path, weights: dict[str, Any], conventional: ConventionalRedshift
) -> None:
    some = sample_of(cosmos(shared_data)[:20], conventional)
    log_posterior, reasons = RefinedRedshift(weights, conventional).log_posterior(some.inputs)
    assert set(reasons) == {refined.Fallback.FEW_BANDS}
    assert (log_posterior == some.inputs.log_fallback).all()


def test_networks_are_the_same_in_numpy_and_in_torch() -> None:
    given = np.random.default_rng(0).normal(size=(30, 6)).astype(np.float32)
    target = np.abs(given[:, 0])
    networks = [
        train_refined.fit_colours(given, target, np.ones(30), RECIPE, seed) for seed in range(2)
    ]
    expected = train_refined.densities(networks, given)
    layers = train_refined.stacked("colours", [[*each.layers] for each in networks])
    assert refined.density_of(NumpyNetworks(layers).colours(given)) == pytest.approx(
        expected, abs=1e-6
    )


def test_paired_differences_have_the_sign_of_the_refined_minus_the_other() -> None:
    truth = np.linspace(0.5, 3.0, 40)
    estimates = {
        "refined": Estimate.of_points(truth + 0.01, truth),
        "other": Estimate.of_points(truth + 0.5, truth),
    }
    figures = judge(estimates, truth, {"all": np.ones(40, bool)})["all"]["other"]["refined_minus"]
    assert figures["mae"][2] < 0
    assert figures["crps"][0] == pytest.approx(-0.49)


def test_sharpness_makes_intervals_cover_what_they_state() -> None:
    random = np.random.default_rng(0)
    truth = random.uniform(0.5, 2.0, 800)
    centre = np.log1p(truth) + random.normal(0, 0.05, 800)
    too_broad = np.exp(-0.5 * np.square((COARSE - centre[:, None]) / 0.0625))
    assert sharpness(too_broad, truth) == pytest.approx(1.25**2, abs=0.2)
