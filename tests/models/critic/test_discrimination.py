from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mmbroker.models.critic.discrimination import (
    area_under_curve,
    calibration_error,
    interval,
    receiver_curve,
    resampled_areas,
    resampled_means,
)
from mmbroker.schemas.events import Floats

NUMBERS = arrays(np.float64, st.integers(1, 30), elements=st.integers(-5, 5).map(float))


def test_the_area_under_the_curve_counts_ties_half() -> None:
    assert area_under_curve(np.array([2.0, 3.0]), np.array([0.0, 1.0])) == 1
    assert area_under_curve(np.array([1.0]), np.array([1.0])) == 0.5
    assert area_under_curve(np.array([0.0, 1.0]), np.array([0.0, 1.0])) == 0.5


@given(NUMBERS, NUMBERS)
def test_the_area_is_that_under_the_receiver_curve(positive: Floats, negative: Floats) -> None:
    false, true = receiver_curve(positive, negative)
    assert (false[0], true[0], false[-1], true[-1]) == (0, 0, 1, 1)
    assert (np.diff(false) >= 0).all()
    assert (np.diff(true) >= 0).all()
    assert np.trapezoid(true, false) == pytest.approx(area_under_curve(positive, negative))


def test_resamples_scatter_around_the_area() -> None:
    random = np.random.default_rng(1)
    positive, negative = random.normal(1, 1, 200), random.normal(0, 1, 200)
    galaxy = np.arange(200) // 2
    areas = resampled_areas(positive, negative, (galaxy, galaxy))
    low, high = interval(areas)
    assert low < area_under_curve(positive, negative) < high
    assert high - low < 0.2
    assert np.array_equal(areas, resampled_areas(positive, negative, (galaxy, galaxy)))


def test_cases_of_one_galaxy_are_resampled_together() -> None:
    values = np.repeat(np.random.default_rng(1).normal(size=50), 4)
    together = resampled_means(values, np.repeat(np.arange(50), 4)).std()
    apart = resampled_means(values, np.arange(200)).std()
    assert together == pytest.approx(2 * apart, rel=0.15)


def test_a_calibrated_probability_has_little_error() -> None:
    random = np.random.default_rng(1)
    probability = random.random(20_000)
    label = (random.random(20_000) < probability).astype(float)
    assert calibration_error(probability, label) < 0.02
    assert calibration_error(probability, 1 - label) > 0.3
