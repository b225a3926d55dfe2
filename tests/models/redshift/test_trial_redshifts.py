"""Critic and generator across trial redshifts."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="judging needs scikit-learn: pip install -e '.[train]'")
pytest.importorskip("onnxruntime", reason="the exported networks need onnxruntime")

from mmbroker.models.redshift.sample import at_truth
from mmbroker.models.redshift.trial_redshifts import (
    CENTRES,
    combined,
    conditions,
    exponent,
    on_grid,
)
from mmbroker.processors.redshift.grids import COARSE

TRUTH = np.expm1(np.random.default_rng(0).uniform(0.3, 1.5, 200))


def gaussians(centre: np.ndarray, width: float, grid: np.ndarray) -> np.ndarray:
    return -0.5 * np.square((grid[None, :] - centre[:, None]) / width)


def test_a_condition_is_a_probability_about_its_trial_redshift() -> None:
    probability = np.square(conditions())
    assert probability.sum(axis=1) == pytest.approx(np.ones(len(CENTRES)), abs=1e-5)
    assert (probability.argmax(axis=1) == np.arange(len(CENTRES))).all()
    assert probability.max(axis=1).min() > 0.7


def test_a_curve_that_knows_the_redshift_has_an_exponent_and_one_that_does_not_has_none() -> None:
    flat = np.zeros((len(TRUTH), len(COARSE)))
    knows = on_grid(gaussians(np.log1p(TRUTH), 0.2, CENTRES))
    value, gain = exponent(flat, knows, TRUTH)
    assert value > 0.5
    assert gain > 1.0
    better = combined(flat, knows, value)
    better -= np.logaddexp.reduce(better, axis=1, keepdims=True)
    flat -= np.logaddexp.reduce(flat, axis=1, keepdims=True)
    assert at_truth(better, TRUTH).mean() - at_truth(flat, TRUTH).mean() == pytest.approx(gain)
    random = np.random.default_rng(1)
    measured = np.log1p(TRUTH) + random.normal(0, 0.1, len(TRUTH))
    noise = on_grid(random.normal(size=(len(TRUTH), len(CENTRES))))
    value, gain = exponent(gaussians(measured, 0.1, COARSE), noise, TRUTH)
    assert value < 0.3
    assert gain < 0.02


def test_the_networks_say_the_same_again() -> None:
    from mmbroker.models.critic.exported import ExportedNetworks
    from mmbroker.models.redshift.trial_redshifts import BANDWIDTHS, curves
    from mmbroker.models.simulation.observations import simulate
    from mmbroker.processors.fingerprint.merge import build
    from mmbroker.processors.fingerprint.vector import vectors

    galaxies = [build(each.observation_id, [each]) for each in simulate(3, seed=6)][:3]
    networks = ExportedNetworks()
    found, again = (curves(networks, vectors(galaxies)) for _ in range(2))
    assert (found.critic == again.critic).all()
    assert found.critic.shape == (3, len(CENTRES))
    for width in BANDWIDTHS:
        assert (found.generator[width] == again.generator[width]).all()
        assert (found.generator[width] <= 0).all()
    alone = curves(networks, vectors(galaxies[1:2]))
    assert alone.generator[1.0][0] == pytest.approx(found.generator[1.0][1], abs=1e-4)
