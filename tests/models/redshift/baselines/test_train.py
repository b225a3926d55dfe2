"""Stacks and trees: what they are fitted to, and that the packaged ones are these."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="the baselines are fitted with scikit-learn")

from sklearn.ensemble import HistGradientBoostingRegressor

from mmbroker.models.packaged.templates import load_templates
from mmbroker.models.real_data.catalogues import goods_north
from mmbroker.models.redshift.baselines.baselines import (
    COMPONENTS,
    LOG_LINEAR,
    STACKED,
    TREES,
    load_baselines,
    log_components,
    save_baselines,
    table,
)
from mmbroker.models.redshift.baselines.train import (
    as_arrays,
    fitted_on,
    pool,
    stack,
    training_part,
)
from mmbroker.models.redshift.sample import Sample, sample_of, without_published
from mmbroker.processors.redshift import ConventionalRedshift
from mmbroker.processors.redshift.grids import COARSE


@pytest.fixture(scope="module")
def conventional() -> ConventionalRedshift:
    return ConventionalRedshift().with_templates(load_templates())


@pytest.fixture(scope="module")
def training(shared_data: Path, conventional: ConventionalRedshift) -> Sample:
    return training_part(sample_of(goods_north(shared_data), conventional))


@pytest.mark.slow
def test_what_is_packaged_is_what_the_command_fits(
    shared_data: Path, training: Sample, conventional: ConventionalRedshift
) -> None:
    packaged = load_baselines(conventional).fitted
    fitted = fitted_on(training, conventional, shared_data)
    read = table(training.inputs)
    assert packaged.shares == pytest.approx(fitted.shares, abs=1e-3)
    assert packaged.exponents == pytest.approx(fitted.exponents, abs=1e-3)
    assert packaged.errors == pytest.approx(fitted.errors, abs=1e-3)
    assert packaged.trees.predict(read) == pytest.approx(fitted.trees.predict(read), abs=1e-3)


def test_what_is_written_is_read_again(tmp_path: Path, conventional: ConventionalRedshift) -> None:
    fitted = load_baselines(conventional).fitted
    save_baselines(fitted, {"conventional": conventional.identity}, tmp_path)
    again = load_baselines(conventional, tmp_path).fitted
    assert (again.shares == fitted.shares).all()
    assert (again.exponents == fitted.exponents).all()
    assert (again.errors == fitted.errors).all()
    for each in fields(fitted.trees):
        assert (getattr(again.trees, each.name) == getattr(fitted.trees, each.name)).all()


def test_baselines_of_another_conventional_redshift_are_refused(
    tmp_path: Path, conventional: ConventionalRedshift
) -> None:
    with pytest.raises(FileNotFoundError, match=r"models.redshift.baselines.train"):
        load_baselines(conventional, tmp_path)
    save_baselines(load_baselines(conventional).fitted, {"conventional": "other"}, tmp_path)
    with pytest.raises(ValueError, match="conventional redshift other, not"):
        load_baselines(conventional, tmp_path)


def test_trees_say_what_those_of_scikit_learn_say() -> None:
    random = np.random.default_rng(0)
    rows = random.normal(size=(400, 6))
    rows[random.uniform(size=rows.shape) < 0.3] = np.nan
    columns = np.array([0, 2, 5])
    known = rows[:, columns]
    target = np.nan_to_num(known[:, 0]) + np.isnan(known[:, 1]) + random.normal(size=400) / 5
    regressor = HistGradientBoostingRegressor(loss="absolute_error", max_iter=30, random_state=0)
    regressor.fit(known[:300], target[:300])
    found = as_arrays(regressor, columns).predict(rows)
    assert found == pytest.approx(regressor.predict(known), abs=1e-12)


def test_stacking_finds_the_component_that_galaxies_follow() -> None:
    density = np.array([[1.0, 0.1], [1.0, 0.1], [0.1, 1.0], [1.0, 0.1]])
    assert stack(density)[0] > 0.7


def test_the_log_linear_pool_leaves_out_what_misleads() -> None:
    random = np.random.default_rng(0)
    truth = random.uniform(0.5, 2.0, 60)
    good, bad = np.log1p(truth) + random.normal(0, 0.05, 60), np.log1p(random.uniform(0.5, 2, 60))
    factors = np.stack(
        [-0.5 * np.square((COARSE - each[:, None]) / 0.05) for each in (good, bad)], axis=1
    )
    exponents = pool(factors, truth)
    assert exponents[0] > 10 * exponents[1]


def test_components_are_densities_and_flat_where_nothing_is_published(training: Sample) -> None:
    some = training.select(np.arange(20))
    step = COARSE[1] - COARSE[0]
    densities = np.exp(log_components(without_published(some.inputs)))
    assert densities.shape == (20, len(COMPONENTS), len(COARSE))
    assert densities.sum(axis=2) * step == pytest.approx(np.ones((20, len(COMPONENTS))))
    published = densities[:, COMPONENTS.index("published")]
    assert published == pytest.approx(np.full(published.shape, 1 / (len(COARSE) * step)))


def test_the_stacks_are_mixture_and_product_of_what_they_name(
    training: Sample, conventional: ConventionalRedshift
) -> None:
    some = training.select(np.arange(20))
    baselines = load_baselines(conventional)
    one_only = np.eye(len(COMPONENTS))[COMPONENTS.index("conventional")]
    baselines.fitted = replace(baselines.fitted, shares=one_only, exponents=np.array([1.0, 1.0, 0]))
    found = baselines.log_densities(some.fingerprints, some.inputs)
    assert found.keys() == {STACKED, LOG_LINEAR, TREES}
    for name in (STACKED, LOG_LINEAR):
        assert _normalised(found[name]) == pytest.approx(_normalised(some.inputs.log_fallback))


def _normalised(log_density: np.ndarray) -> np.ndarray:
    density = np.exp(log_density - log_density.max(axis=1, keepdims=True))
    return density / density.sum(axis=1, keepdims=True)
