"""Counting what became of every event, exactly, however often it is delivered.

Offsets tell the events apart: an event below the offset up to which a stage has accounted is a
redelivery and was counted before. Counts and offsets are stored together.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from .messages import Received
from .store import Reading, Writing

GONE = "compacted or expired unread"
"""Outcome of events that Kafka had dropped, by the topic's own policy, before the stage came to
them; also of the markers that transactions of a publisher leave."""

REBUILT = "before the rebuild"
"""Outcome of events that were acknowledged before the store was lost and made again from Kafka,
which does not tell what became of each."""


class Account:
    """The counts of one batch.

    Args:
        stage: the stage that counts.
        reading: the store as it was before the batch.
    """

    def __init__(self, stage: str, reading: Reading) -> None:
        self._stage = stage
        self._reading = reading
        self._known: dict[tuple[str, int], int] = {}
        self._next: dict[tuple[str, int], int] = {}
        self._outcomes: Counter[str] = Counter()

    def add(self, event: Received, outcome: str) -> None:
        """Count an event under what became of it, unless it was counted before.

        Offsets before it at which Kafka holds nothing any more are counted as ``GONE``.
        """
        place = (event.topic, event.partition)
        expected = self._next.get(place, self._read_up_to(place))
        if event.offset >= expected:
            if event.offset > expected:
                self._outcomes[GONE] += event.offset - expected
            self._outcomes[outcome] += 1
            self._next[place] = event.offset + 1

    def is_counted(self, event: Received) -> bool:
        """Whether the event was counted before this batch: what came of it is durable."""
        return event.offset < self._read_up_to((event.topic, event.partition))

    def _read_up_to(self, place: tuple[str, int]) -> int:
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
