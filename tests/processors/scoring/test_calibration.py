"""From outputs to probabilities."""

from __future__ import annotations

import json

import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmbroker.processors.scoring.calibration import Calibration, fit
from mmbroker.schemas.events import Floats

ROUNDING = 1e-15
"""Between two knots that are hardly apart, an interpolation may end a last bit above the next."""

CALIBRATION = Calibration(np.array([-1.0, 0.0, 2.0]), np.array([0.1, 0.4, 0.9]))


@given(
    outputs=arrays.arrays(np.float64, st.integers(4, 200), elements=st.floats(-1e6, 1e6)),
    data=st.data(),
)
def test_a_fit_never_falls_and_is_never_certain(outputs: Floats, data: st.DataObject) -> None:
    genuine = data.draw(arrays.arrays(np.bool_, len(outputs)))
    genuine[:2] = True, False
    calibration = fit(outputs, genuine)
    probability = calibration.apply(np.sort(outputs))
    assert (np.diff(probability) >= -ROUNDING).all()
    assert probability.min() > 0
    assert probability.max() < 1


def test_a_fit_recovers_the_probability_behind_the_labels() -> None:
    random = np.random.default_rng(3)
    outputs = random.normal(0, 2, 20_000)
    probability = 1 / (1 + np.exp(-outputs))
    calibration = fit(outputs, random.random(20_000) < probability)
    at = np.linspace(-3, 3, 13)
    assert calibration.apply(at) == pytest.approx(1 / (1 + np.exp(-at)), abs=0.04)


def test_outputs_that_tell_nothing_give_the_share() -> None:
    random = np.random.default_rng(4)
    calibration = fit(random.normal(size=20_000), random.random(20_000) < 0.3)
    assert calibration.apply(np.array([-5.0, 0.0, 5.0])) == pytest.approx(0.3, abs=0.06)


def test_beyond_the_knots_it_is_constant_and_nan_stays_nan() -> None:
    assert CALIBRATION.apply(np.array([-100.0, 1.0, 100.0])) == pytest.approx([0.1, 0.65, 0.9])
    assert np.isnan(CALIBRATION.apply(np.array([np.nan])))


def test_a_calibration_is_read_back_with_its_id() -> None:
    back = Calibration.from_json(CALIBRATION.to_json())
    assert back.calibration_id == CALIBRATION.calibration_id
    assert np.array_equal(back.outputs, CALIBRATION.outputs)
    assert np.array_equal(back.probabilities, CALIBRATION.probabilities)


def test_another_map_has_another_id() -> None:
    other = Calibration(CALIBRATION.outputs, np.array([0.1, 0.4, 0.91]))
    assert other.calibration_id != CALIBRATION.calibration_id


def test_a_calibration_that_was_tampered_with_is_refused() -> None:
    content = json.loads(CALIBRATION.to_json())
    content["probabilities"][0] = 0.2
    with pytest.raises(ValueError, match="is not the hash"):
        Calibration.from_json(json.dumps(content))


@pytest.mark.parametrize(
    "text", ["", "{}", "[1]", "[" * 5000, '{"outputs": 1, "probabilities": 2}']
)
def test_what_is_no_calibration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a calibration"):
        Calibration.from_json(text)


@pytest.mark.parametrize(
    ("outputs", "probabilities"),
    [
        ([], []),
        ([0.0, 0.0], [0.1, 0.2]),
        ([0.0, np.nan], [0.1, 0.2]),
        ([0.0, 1.0], [0.3, 0.2]),
        ([0.0, 1.0], [0.0, 0.2]),
        ([0.0, 1.0], [0.1, 1.0]),
        ([0.0, 1.0], [0.1]),
    ],
)
def test_maps_that_are_none_are_refused(outputs: list[float], probabilities: list[float]) -> None:
    with pytest.raises(ValueError, match=r"calibration|match"):
        Calibration(np.array(outputs), np.array(probabilities))


def test_cases_of_one_kind_or_not_finite_are_refused() -> None:
    with pytest.raises(ValueError, match="both genuine and other"):
        fit(np.arange(4.0), np.ones(4, bool))
    with pytest.raises(ValueError, match="not finite"):
        fit(np.array([0.0, np.nan]), np.array([True, False]))
