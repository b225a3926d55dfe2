"""HyperScore and V."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmbroker.processors.scoring.hyperscore import RISES, hyperscore, renormalised, value

unit = st.floats(0, 1)


@pytest.mark.parametrize(
    ("form", "v", "expected"),
    [
        ("plus-gamma", 0.5, 100.2), ("plus-gamma", 0.8, 105.3), ("plus-gamma", 0.95, 114.7),
        ("plus-gamma", 1.0, 119.2), ("printed", 0.5, 187.8), ("printed", 1.0, 135.4),
        ("centred", 0.5, 135.4), ("centred", 0.95, 194.2),
    ],
)  # fmt: skip
def test_published_values(form: str, v: float, expected: float) -> None:
    assert float(hyperscore(v, form)) == pytest.approx(expected, abs=0.05)  # type: ignore[arg-type]


@given(unit, unit)
@pytest.mark.parametrize("form", list(RISES))
def test_each_form_is_monotonic_as_it_says(form: str, one: float, other: float) -> None:
    low, high = hyperscore(np.array(sorted((one, other))), form)  # type: ignore[arg-type]
    assert low <= high if RISES[form] else low >= high  # type: ignore[index]


@given(unit)
@pytest.mark.parametrize("form", list(RISES))
def test_the_score_lies_between_100_and_200(form: str, v: float) -> None:
    assert 100 <= float(hyperscore(v, form)) <= 200  # type: ignore[arg-type]


def test_the_centred_form_has_its_midpoint_at_one_half() -> None:
    assert float(hyperscore(0.5, "centred")) == pytest.approx(100 * (1 + 0.5**1.5))


@pytest.mark.parametrize("v", [-0.1, 1.1, math.nan])
def test_a_value_out_of_range_is_an_error(v: float) -> None:
    with pytest.raises(ValueError, match="not in"):
        hyperscore(v)


scores = st.dictionaries(st.sampled_from("abcde"), st.none() | unit, min_size=1)


@given(scores, st.none() | unit)
def test_v_is_a_mean_of_what_is_present(
    given_scores: dict[str, float | None], p: float | None
) -> None:
    weights = renormalised(dict.fromkeys("abcde", 0.2), given_scores)
    present = [each for each in given_scores.values() if each is not None]
    assert sum(weights.values()) == pytest.approx(1.0 if present else 0.0)
    v = value(weights, given_scores, p)
    expected = (sum(present) / len(present) if present else 0.0) * (1.0 if p is None else p)
    assert v == pytest.approx(expected)


@given(unit, unit, unit)
def test_v_rises_with_every_score(other: float, one: float, another: float) -> None:
    low, high = sorted((one, another))
    values = []
    for score in (low, high):
        present = {"a": score, "b": other, "c": None}
        values.append(value(renormalised(dict.fromkeys("abc", 1.0), present), present, 0.7))
    assert values[0] <= values[1]
