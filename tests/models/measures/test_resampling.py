"""Intervals over resamples: the library's where it has them, and galaxies whole everywhere."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from scipy import stats

from mmbroker.models.measures import resampling
from mmbroker.schemas.events import Floats

VALUES = np.random.default_rng(1).normal(size=60)
REFERENCE = VALUES + np.random.default_rng(2).normal(0.1, 0.3, 60)


def test_the_interval_of_a_figure_is_that_of_scipy() -> None:
    def spread(values: Floats, axis: int = -1) -> Floats:
        return np.asarray(np.median(np.abs(values), axis=axis))

    found = stats.bootstrap(
        (VALUES,), spread, n_resamples=1000, method="percentile", rng=np.random.default_rng(0)
    )
    assert resampling.bootstrap(spread, VALUES) == pytest.approx(tuple(found.confidence_interval))


def test_the_interval_of_a_figure_of_pairs_is_that_of_scipy() -> None:
    def difference(one: Floats, other: Floats, axis: int = -1) -> Floats:
        return np.asarray(np.median(one, axis=axis) - np.median(other, axis=axis))

    found = stats.bootstrap(
        (VALUES, REFERENCE),
        difference,
        n_resamples=1000,
        method="percentile",
        paired=True,
        rng=np.random.default_rng(7),
    )
    ours = resampling.bootstrap(difference, VALUES, REFERENCE, seed=7)
    assert ours == pytest.approx(tuple(found.confidence_interval))


def test_a_figure_of_one_galaxy_has_an_interval() -> None:
    assert resampling.bootstrap(lambda values: values.mean(axis=-1), np.array([0.3])) == (0.3, 0.3)


def test_a_resample_without_a_figure_is_left_out() -> None:
    figures = np.array([np.nan, *np.linspace(0, 1, 41)])
    assert resampling.interval(figures) == pytest.approx((0.025, 0.975))


def test_without_any_figure_there_is_no_interval_and_no_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.isnan(resampling.interval(np.full(5, np.nan))).all()
        assert np.isnan(resampling.interval(np.zeros(0))).all()


def test_each_resample_has_as_many_galaxies_as_there_are_with_all_their_cases() -> None:
    galaxies = np.array(["b", "a", "b", "c", "a", "b"])
    counts = resampling.counts(galaxies, seed=3)
    assert counts.shape == (resampling.RESAMPLES, 6)
    assert (counts[:, galaxies == "b"] == counts[:, [0]]).all()
    assert (counts[:, [0, 1, 3]].sum(axis=1) == 3).all()
    assert np.array_equal(counts, resampling.counts(galaxies, seed=3))


def test_cases_of_one_galaxy_are_resampled_together() -> None:
    values = np.repeat(np.random.default_rng(1).normal(size=50), 4)
    together = resampling.means(values, np.repeat(np.arange(50), 4)).std()
    apart = resampling.means(values, np.arange(200)).std()
    assert together == pytest.approx(2 * apart, rel=0.15)


def test_a_generator_goes_on_where_it_is() -> None:
    random = np.random.default_rng(4)
    first, second = resampling.rows(9, random), resampling.rows(9, random)
    assert np.array_equal(first, resampling.rows(9, 4))
    assert not np.array_equal(first, second)
