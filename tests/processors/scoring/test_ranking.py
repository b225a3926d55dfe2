"""Ranks among all galaxies."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mmbroker.processors.scoring import ranking


@given(st.lists(st.floats(0, 1), min_size=1, max_size=50))
def test_ranks_are_those_of_a_competition(probabilities: list[float]) -> None:
    bins = [ranking.bin_of(each) for each in probabilities]
    histogram = ranking.empty_histogram()
    for each in bins:
        ranking.move(histogram, None, each)
    ranks = [ranking.rank(histogram, each) for each in bins]
    assert ranks == [1 + sum(other > each for other in bins) for each in bins]
    for each in bins:
        ranking.move(histogram, each, None)
    assert not histogram.any()
