"""Areas under curves: the library's, and the same of all resamples at once."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

pytest.importorskip("sklearn", reason="judging needs scikit-learn: pip install -e '.[train]'")

from sklearn.metrics import roc_auc_score

from mmbroker.models.measures.discrimination import (
    area_under_curve,
    calibration_error,
    receiver_curve,
    resampled_areas,
    weighted_areas,
)
from mmbroker.models.measures.resampling import interval
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


@given(NUMBERS, NUMBERS, st.data())
def test_weighted_areas_are_those_of_scikit_learn(
    positive: Floats, negative: Floats, data: st.DataObject
) -> None:
    def counts(cases: int) -> np.ndarray:
        drawn = data.draw(arrays(np.int64, (3, cases), elements=st.integers(0, 4)))
        drawn[:, 0] += 1
        return drawn

    first, second = counts(len(positive)), counts(len(negative))
    label = np.repeat([1, 0], [len(positive), len(negative)])
    numbers = np.concatenate([positive, negative])
    expected = [
        roc_auc_score(label, numbers, sample_weight=np.concatenate(weight))
        for weight in zip(first, second, strict=True)
    ]
    found = weighted_areas(positive, negative, first, second)
    assert found == pytest.approx(expected, abs=1e-6)


def test_resamples_scatter_around_the_area() -> None:
    random = np.random.default_rng(1)
    positive, negative = random.normal(1, 1, 200), random.normal(0, 1, 200)
    galaxy = np.arange(200) // 2
    areas = resampled_areas(positive, negative, (galaxy, galaxy))
    low, high = interval(areas)
    assert low < area_under_curve(positive, negative) < high
    assert high - low < 0.2
    assert np.array_equal(areas, resampled_areas(positive, negative, (galaxy, galaxy)))


def test_a_calibrated_probability_has_little_error() -> None:
    random = np.random.default_rng(1)
    probability = random.random(20_000)
    label = (random.random(20_000) < probability).astype(float)
    assert calibration_error(probability, label) < 0.02
    assert calibration_error(probability, 1 - label) > 0.3
