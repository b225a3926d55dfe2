"""Counting what became of every event, exactly, however often it is delivered.

Offsets tell the events apart: an event below the offset up to which a stage has accounted is a
redelivery and was counted before. Counts and offsets are stored together.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping

from mmbroker.streams.stages.messages import Received
from mmbroker.streams.store import Reading, Writing

log = logging.getLogger(__name__)

EXPIRED = "lost: expired unread"
"""Outcome of events that Kafka had deleted, by age or size of the topic, before the stage came to
them: they stood before the beginning of the log."""

GAP = "compacted unread, or no event"
"""Outcome of offsets within the log at which nothing stands: a newer event of the same galaxy has
taken the place of a compacted one, and the transactions of publishers leave markers."""

REBUILT = "before the rebuild"
"""Outcome of events that were acknowledged before the store was lost and made again from Kafka,
which does not tell what became of each."""


Place = tuple[str, int]
"""A topic and a number of one of its partitions."""

LogStart = Callable[[str, int], int]
"""Where the log of a (topic, partition) begins now; asked only where offsets are missing."""


def nothing_expires(topic: str, partition: int) -> int:
    """The beginning of a log of which nothing was ever deleted."""
    return 0


def with_gaps(stage: str, reading: Reading, batch: Iterable[Received]) -> list[Place]:
    """Where offsets are missing before or between the events of a batch.

    A stage accounts for more and more, so what is read of the store before it is written names
    every place that an account of the same batch will want to know of, and perhaps some more.

    Args:
        stage: the stage that will count.
        reading: the store.
        batch: the events, those of a partition in their order.
    """
    expected: dict[Place, int] = {}
    found: dict[Place, None] = {}
    for event in batch:
        place = event.topic, event.partition
        if place not in expected:
            expected[place] = reading.next_offset(stage, *place)
        if event.offset > expected[place]:
            found[place] = None
        expected[place] = max(expected[place], event.offset + 1)
    return list(found)


class Account:
    """The counts of one batch.

    Args:
        stage: the stage that counts.
        reading: the store as it was before the batch.
        log_starts: where the logs of the places ``with_gaps`` begin, found out after their events
            were read and before the store is written: it tells what expired from what was
            compacted.
    """

    def __init__(self, stage: str, reading: Reading, log_starts: Mapping[Place, int]) -> None:
        self._log_starts = log_starts
        self._stage = stage
        self._reading = reading
        self._known: dict[Place, int] = {}
        self._next: dict[Place, int] = {}
        self._outcomes: Counter[str] = Counter()

    def add(self, event: Received, outcome: str) -> None:
        """Count an event under what became of it, unless it was counted before.

        Offsets before it at which Kafka holds nothing are counted as ``EXPIRED`` or ``GAP``.
        """
        place = (event.topic, event.partition)
        expected = self._next.get(place, self._read_up_to(place))
        if event.offset >= expected:
            if event.offset > expected:
                self._add_missing(place, expected, event.offset)
            self._outcomes[outcome] += 1
            self._next[place] = event.offset + 1

    def _add_missing(self, place: Place, start: int, end: int) -> None:
        expired = max(min(self._log_starts[place], end) - start, 0)
        if expired:
            self._outcomes[EXPIRED] += expired
            log.error(
                "%s: offsets %d to %d of %s [%d] are lost: Kafka deleted them, by the retention of "
                "the topic, before they were read; what stood there has to be published again",
                self._stage, start, start + expired - 1, *place,
            )  # fmt: skip
        if end - start > expired:
            self._outcomes[GAP] += end - start - expired

    def is_counted(self, event: Received) -> bool:
        """Whether the event was counted before this batch: what came of it is durable."""
        return event.offset < self._read_up_to((event.topic, event.partition))

    def _read_up_to(self, place: Place) -> int:
        if place not in self._known:
            self._known[place] = self._reading.next_offset(self._stage, *place)
        return self._known[place]

    @property
    def outcomes(self) -> Mapping[str, int]:
        """How many events were counted under which outcome."""
        return self._outcomes

    def store(self, writing: Writing) -> None:
        """Make the counts durable, with the offsets that they go with."""
        writing.account(self._stage, self._next, self._outcomes)
