"""Profiles of simulated lines: unit flux, the stated width, the stated shape."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmbroker.models.simulation.line_profiles import (
    BLENDED,
    DOUBLE_HORNED,
    GAUSSIAN,
    draw_profiles,
)
from mmbroker.processors.features.lines import SHAPES

VELOCITY = np.linspace(-3000.0, 3000.0, 6001)


@settings(max_examples=30)
@given(st.integers(0, 2**31), st.floats(60.0, 900.0), st.sampled_from(range(len(SHAPES))))
def test_a_profile_has_unit_flux_and_is_nowhere_negative(
    seed: int, width: float, shape: int
) -> None:
    random = np.random.default_rng(seed)
    profiles = draw_profiles(np.full(4, width), random, np.full(4, shape))
    share = profiles.cumulative(np.tile(VELOCITY, (4, 1)))
    assert share[:, 0] == pytest.approx(0, abs=1e-6)
    assert share[:, -1] == pytest.approx(1, abs=1e-6)
    assert (np.diff(share, axis=1) >= -1e-12).all()


@pytest.mark.parametrize("shape", [GAUSSIAN, DOUBLE_HORNED])
def test_the_width_lies_between_the_outer_half_maxima(shape: int) -> None:
    random = np.random.default_rng(1)
    profiles = draw_profiles(np.full(20, 400.0), random, np.full(20, shape))
    density = np.diff(profiles.cumulative(np.tile(VELOCITY, (20, 1))), axis=1)
    middles = (VELOCITY[1:] + VELOCITY[:-1]) / 2
    for row in density:
        left, right = row[middles < 0], row[middles > 0]
        low = middles[middles < 0][np.flatnonzero(left >= left.max() / 2)[0]]
        high = middles[middles > 0][np.flatnonzero(right >= right.max() / 2)[-1]]
        assert high - low == pytest.approx(400.0, abs=3.0)


def test_horns_and_most_blends_have_two_peaks_and_a_gaussian_one() -> None:
    random = np.random.default_rng(2)
    for shape, expected in ((GAUSSIAN, 1), (DOUBLE_HORNED, 2), (BLENDED, 2)):
        profiles = draw_profiles(np.full(200, 500.0), random, np.full(200, shape))
        density = np.diff(profiles.cumulative(np.tile(VELOCITY, (200, 1))), axis=1)
        rising = np.diff(density, axis=1) > 1e-12
        peaks = (rising[:, :-1] & ~rising[:, 1:]).sum(axis=1)
        assert np.median(peaks) == expected


def test_a_width_that_is_not_positive_is_refused() -> None:
    with pytest.raises(ValueError, match="width_km_s must be positive"):
        draw_profiles(np.array([300.0, 0.0]), np.random.default_rng(0))
