from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mmbroker.models.redshift import measures

DELTAS = arrays(float, st.integers(5, 60), elements=st.floats(-1, 1, width=32))


def test_deviation_is_relative_to_one_plus_the_true_redshift() -> None:
    delta = measures.deviation(np.array([1.2, 3.0]), np.array([1.0, 4.0]))
    assert delta == pytest.approx([0.1, -0.2])


def test_measures_of_a_known_case() -> None:
    delta = np.array([-0.2, -0.01, 0.0, 0.01, 0.3])
    assert measures.mae(delta) == pytest.approx(0.104)
    assert measures.nmad(delta) == pytest.approx(1.4826 * 0.01)
    assert measures.outliers(delta) == pytest.approx(0.4)


def test_nmad_of_a_gaussian_is_its_standard_deviation() -> None:
    delta = np.random.default_rng(1).normal(0.1, 0.03, 200_000)
    assert measures.nmad(delta) == pytest.approx(0.03, rel=0.01)


@given(DELTAS, st.floats(-0.5, 0.5))
def test_nmad_does_not_see_a_shift(delta: np.ndarray, shift: float) -> None:
    assert measures.nmad(delta + shift) == pytest.approx(measures.nmad(delta), abs=1e-9)


@given(DELTAS)
def test_measures_work_on_the_last_axis(delta: np.ndarray) -> None:
    stacked = np.stack([delta, delta[::-1]])
    for measure in (measures.mae, measures.nmad, measures.outliers):
        assert measure(stacked).tolist() == pytest.approx([float(measure(delta))] * 2)


def test_coverage_counts_what_has_an_interval() -> None:
    lower, upper = np.array([0.0, 1.0, np.nan]), np.array([1.0, 2.0, np.nan])
    covered = measures.covered(lower, upper, np.array([0.5, 3.0, 1.0]))
    assert covered[:2].tolist() == [1.0, 0.0]
    assert np.isnan(covered[2])
    assert measures.mean_of_known(covered) == 0.5


def test_mean_of_known_leaves_out_what_is_missing() -> None:
    values = np.array([[1.0, np.nan, 0.0], [np.nan, np.nan, np.nan]])
    mean = measures.mean_of_known(values)
    assert mean[0] == 0.5
    assert np.isnan(mean[1])


def test_crps_of_a_point_is_the_distance() -> None:
    grid = np.linspace(0, 4, 401)
    probability = np.zeros((2, 401))
    probability[:, 100] = 1.0
    scores = measures.crps(grid, probability, np.array([1.0, 2.5]))
    assert scores == pytest.approx([0.0, 1.5], abs=1e-9)


def test_crps_prefers_the_sharper_of_two_centred_posteriors() -> None:
    grid = np.linspace(0, 4, 401)
    widths = np.array([[0.1], [0.5]])
    probability = np.exp(-0.5 * ((grid - 2) / widths) ** 2)
    probability /= probability.sum(axis=1, keepdims=True)
    sharp, wide = measures.crps(grid, probability, np.array([2.0, 2.0]))
    assert sharp < wide
    # of a Gaussian at its mean: sigma (sqrt(2) - 1) / sqrt(pi)
    assert sharp == pytest.approx(0.1 * (2**0.5 - 1) / np.pi**0.5, rel=0.05)


def test_bootstrap_holds_the_measure_and_narrows_with_more_galaxies() -> None:
    random = np.random.default_rng(2)
    few, many = random.normal(0, 0.05, 100), random.normal(0, 0.05, 4000)
    low, high = measures.bootstrap(measures.mae, few)
    assert low < measures.mae(few) < high
    narrow = measures.bootstrap(measures.mae, many)
    assert narrow[1] - narrow[0] < high - low


def test_paired_bootstrap_sees_a_difference_that_single_intervals_hide() -> None:
    reference = np.random.default_rng(3).normal(0, 0.1, 300)
    better = 0.95 * reference
    assert measures.bootstrap(measures.mae, better)[1] > measures.mae(reference)
    assert measures.paired_bootstrap(measures.mae, better, reference)[1] < 0


def test_paired_bootstrap_refuses_what_is_not_paired() -> None:
    with pytest.raises(ValueError, match="3 and 2 galaxies"):
        measures.paired_bootstrap(measures.mae, np.zeros(3), np.zeros(2))
