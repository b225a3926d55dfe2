"""An event with which a stage fails costs this event; whatever is refused can be quarantined."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from mmbroker.schemas.codec import MAX_EVENT_BYTES, Codec
from mmbroker.schemas.events import Quarantine
from mmbroker.streams.stages.accounting import Account
from mmbroker.streams.stages.base import LONGEST_DETAIL, RefusedError, Stage
from mmbroker.streams.stages.messages import (
    LONGEST_TIME,
    OBSERVED_AT,
    Outgoing,
    Processed,
    Received,
    known_headers,
    note_observed,
)
from mmbroker.streams.store import LMDBStore
from mmbroker.streams.topics import Topics

BATCH = 500


class Failing(Stage):
    """Counts events, and fails with those that say ``poison``."""

    name = "failing"
    attempts = 0

    @property
    def sources(self) -> Sequence[str]:
        return [self.topics.observations]

    def process(self, batch: Sequence[Received]) -> Iterator[Processed]:
        self.attempts += 1
        if any(event.value == b"poison" for event in batch):
            raise KeyError("\udcff" * 10**6)
        places = [str(event.offset).encode() for event in batch]

        def finish() -> list[Outgoing]:
            with self.store.writing() as writing:
                account = Account(self.name, writing, {})
                for event in batch:
                    account.add(event, "done")
                account.store(writing)
            return []

        yield Processed([Outgoing("out", place, b"") for place in places], finish)


def processed(tmp_path: Path, poison: set[int]) -> tuple[Failing, list[Outgoing]]:
    stage = Failing(LMDBStore(tmp_path), Topics(), Codec())
    batch = [
        Received("in", 0, offset, 0, b"poison" if offset in poison else b"good")
        for offset in range(BATCH)
    ]
    sent = []
    for part in stage.process_safely(batch):
        sent += part.messages
        assert not part.finish()
    return stage, sent


@pytest.mark.parametrize("poison", [{0}, {BATCH // 2}, {BATCH - 1}, {7, 8, 300}])
def test_a_batch_is_halved_until_the_poison_is_found(tmp_path: Path, poison: set[int]) -> None:
    stage, sent = processed(tmp_path, poison)
    offsets = [int(message.key.rpartition(b"/")[2]) for message in sent]
    assert offsets == list(range(BATCH))
    quarantined = {int(each.key.rpartition(b"/")[2]) for each in sent if each.topic != "out"}
    assert quarantined == poison
    assert stage.attempts <= len(poison) * (2 * math.ceil(math.log2(BATCH)) + 1)
    with stage.store.reading() as reading:
        assert reading.counts() == {
            ("failing", "done"): BATCH - len(poison),
            ("failing", "quarantined: internal-error"): len(poison),
        }


def test_a_message_of_an_error_is_kept_short_and_encodable(tmp_path: Path) -> None:
    _, sent = processed(tmp_path, {3})
    record = Codec().decode_as(Quarantine, sent[3].value)
    assert record.detail.startswith("KeyError")
    assert len(sent[3].value) < 10_000


@pytest.mark.parametrize("detail", ["x" * 2**24, "\ud800" * 2**20, "é" * 2**20])
def test_the_largest_event_with_the_longest_detail_is_readable_in_quarantine(
    tmp_path: Path, detail: str
) -> None:
    stage = Failing(LMDBStore(tmp_path), Topics(), Codec())
    event = Received("t" * 249, 2**31 - 1, 2**63 - 1, 0, bytes(2 * MAX_EVENT_BYTES))
    message = stage.quarantined(event, RefusedError("undecodable", detail))
    record = Codec().decode_as(Quarantine, message.value)
    assert len(record.detail) <= 6 * LONGEST_DETAIL  # an escape takes six characters
    assert event.value is not None
    assert event.value.startswith(record.original)
    assert len(record.original) > 0.99 * MAX_EVENT_BYTES


@pytest.mark.parametrize(
    "given", [b"", b"-1", b"1e9", b"9" * LONGEST_TIME, b"1" * 2**20, b"\xff", "٣".encode(), None]
)
@pytest.mark.parametrize("timestamp_ms", [-1, 0, 1_700_000_000_000, 2**63 - 1])
def test_the_time_of_a_stranger_is_a_short_number(given: bytes | None, timestamp_ms: int) -> None:
    headers = known_headers([(OBSERVED_AT, given), ("other", b"x" * 2**20), ("none", None)])
    event = Received("in", 0, 0, timestamp_ms, b"", headers)
    assert not event.headers
    times: dict[str, bytes] = {}
    note_observed(times, "mm-a", event)
    assert times["mm-a"].isdigit()
    assert len(times["mm-a"]) < LONGEST_TIME


def test_a_time_that_is_one_is_kept() -> None:
    assert known_headers([(OBSERVED_AT, b"1700000000000")]) == {OBSERVED_AT: b"1700000000000"}
