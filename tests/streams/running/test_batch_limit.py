"""A batch is bounded by messages and bytes, and has more messages where many are refused."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mmbroker.streams.running.reader import MOST_REFUSED, BatchLimit
from mmbroker.streams.settings import StageSettings

NOW = StageSettings(batch_events=10, fetch_bytes=2**16)
counts = st.integers(0, 1_000)


def test_a_batch_is_full_by_its_messages_or_by_its_bytes() -> None:
    limit = BatchLimit(NOW)
    assert not limit.is_full(9, 2**16 - 1)
    assert limit.is_full(10, 0)
    assert limit.is_full(1, 2**16)


@given(counts)
def test_what_was_refused_is_added_within_bounds(refused: int) -> None:
    limit = BatchLimit(NOW)
    limit.refused(refused)
    most = 10 + min(refused, 10 * MOST_REFUSED)
    assert limit.is_full(most, 0)
    assert not limit.is_full(most - 1, 0)
    assert limit.is_full(1, 2**16)  # the bytes have no such allowance
    limit.refused(0)
    assert limit.is_full(10, 0)
