"""Modes of redshift posteriors, and the redshift that is stated."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmbroker.processors.redshift.grids import COARSE, FINE, Array
from mmbroker.processors.redshift.modes import densest, modes_of
from mmbroker.processors.redshift.posterior import COARSE_EDGES, FINE_EDGES, cumulated


def peaks(*each: tuple[float, float, float], grid: Array = COARSE) -> Array:
    """Probability with peaks of (redshift, width in ln(1 + z), share), shape (1, cells)."""
    total = sum(
        share / width * np.exp(-0.5 * np.square((grid - np.log1p(redshift)) / width))
        for redshift, width, share in each
    )
    return np.asarray(total / np.sum(total))[None]


def test_two_peaks_are_two_modes_and_the_likelier_one_is_stated() -> None:
    probability = peaks((0.5, 0.03, 0.4), (2.5, 0.03, 0.6))
    (found,) = modes_of(cumulated(probability), COARSE_EDGES)
    assert [mode.median for mode in found.modes] == pytest.approx([2.5, 0.5], abs=0.02)
    assert [mode.probability for mode in found.modes] == pytest.approx([0.6, 0.4], abs=0.01)
    assert found.best == found.modes[0]
    assert found.modes[1].upper == found.modes[0].lower


def test_of_a_wide_mode_and_a_narrow_one_the_narrow_one_is_stated() -> None:
    """In the wide one there is more probability, but less within 0.05 (1 + z)."""
    probability = peaks((0.3, 0.3, 0.6), (4.0, 0.01, 0.4))
    (found,) = modes_of(cumulated(probability), COARSE_EDGES)
    assert found.best.median == pytest.approx(4.0, abs=0.05)
    assert found.modes[0].median < 1.5


def test_a_shoulder_is_no_mode_of_its_own() -> None:
    probability = peaks((1.0, 0.05, 0.5), (1.18, 0.05, 0.5))
    (found,) = modes_of(cumulated(probability), COARSE_EDGES)
    assert len(found.modes) == 1


def test_the_noise_of_a_fine_grid_makes_no_modes() -> None:
    noise = np.random.default_rng(0).uniform(0.1, 1.9, len(FINE))
    probability = peaks((1.0, 0.1, 1.0), grid=FINE) * noise
    probability /= probability.sum()
    many, few = (
        modes_of(cumulated(probability), FINE_EDGES, per_cell)[0].modes for per_cell in (1, 6)
    )
    assert len(many) > 3 * len(few)


@given(
    st.lists(
        st.tuples(st.floats(0.0, 8.0), st.floats(0.005, 0.3), st.floats(0.01, 1.0)),
        min_size=1,
        max_size=5,
    )
)
def test_modes_share_out_the_probability(each: list[tuple[float, float, float]]) -> None:
    probability = peaks(*each)
    (found,) = modes_of(cumulated(probability), COARSE_EDGES)
    total = sum(mode.probability for mode in found.modes)
    assert total == pytest.approx(1.0, abs=0.005 * 6)
    assert [mode.probability for mode in found.modes] == sorted(
        (mode.probability for mode in found.modes), reverse=True
    )
    for mode in found.modes:
        assert mode.lower <= mode.median <= mode.upper


@given(st.integers(0, 10_000), st.floats(0.1, 0.95))
def test_the_densest_cells_hold_the_share_and_no_other_cells_are_denser(
    seed: int, share: float
) -> None:
    probability = np.random.default_rng(seed).dirichlet(np.full(len(COARSE), 0.1))
    pieces, wider = densest(probability, COARSE_EDGES, share, 0.96)
    assert pieces[0].lower >= wider[0].lower
    assert pieces[-1].upper <= wider[-1].upper
    middle = np.expm1(COARSE)
    inside = np.zeros(len(COARSE), bool)
    for piece in pieces:
        inside |= (middle > piece.lower) & (middle < piece.upper)
    assert probability[inside].sum() >= share - 1e-12
    assert probability[inside].min() >= probability[~inside].max()
    ends = [end for piece in pieces for end in (piece.lower, piece.upper)]
    assert ends == sorted(ends)
