"""Counts what became of every event: exactly once, however often the event is delivered.

The store has the offset up to which a stage has counted. An event below this offset was counted
before and is a redelivery. Counts and offsets are stored in one transaction.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping

from mmbroker.streams.stages.messages import Received
from mmbroker.streams.store import Reading, Writing

log = logging.getLogger(__name__)

EXPIRED = "lost: expired unread"
"""Outcome of events that Kafka deleted, by age or size of the topic, before the stage read them:
their offsets are before the beginning of the log."""

GAP = "compacted unread, or no event"
"""Outcome of offsets within the log that have no event: compaction deletes an event when a newer
one of the same galaxy has come, and the transactions of publishers leave markers."""

REBUILT = "before the rebuild"
"""Outcome of events that were acknowledged before the store was lost and rebuilt from Kafka. Kafka
does not know what became of each."""

UNREADABLE = "lost: cannot be unpacked"
"""Outcome of offsets within a batch of Kafka that the client cannot unpack or never delivers, or
whose messages claim other offsets than Kafka gave them."""

SKIPPED = "skipped by an operator"
"""Outcome of offsets that ``mmbroker skip`` had a stage pass over."""

Partition = tuple[str, int]
"""(topic, partition)."""

LogStart = Callable[[str, int], int]
"""Function that tells the first offset of a log by (topic, partition)."""


def unsendable_of(stage: str) -> str:
    """Name under which the store counts what a stage could not publish, by topic."""
    return f"{stage}:unsendable"


def nothing_expires(topic: str, partition: int) -> int:
    """A ``LogStart`` for logs from which nothing is ever deleted."""
    return 0


def with_gaps(stage: str, reading: Reading, batch: Iterable[Received]) -> list[Partition]:
    """The partitions of which offsets are missing before or between the events of a batch.

    This may be asked some time before the batch is counted. Until then the stage can only count
    further, so the result has all partitions that the account will need, and perhaps more.

    Args:
        stage: the stage that will count.
        reading: the store.
        batch: the events; those of one partition in the order of their offsets.
    """
    expected: dict[Partition, int] = {}
    found: dict[Partition, None] = {}
    for event in batch:
        partition = event.topic, event.partition
        if partition not in expected:
            expected[partition] = reading.next_offset(stage, *partition)
        if event.offset > expected[partition]:
            found[partition] = None
        expected[partition] = max(expected[partition], event.offset + 1)
    return list(found)


class Account:
    """The counts of one batch.

    Args:
        stage: the stage that counts.
        reading: the store as it was before the batch.
        log_starts: first offsets of the logs of the partitions ``with_gaps``, asked after the
            events were read and before the store is written. They tell events that expired from
            events that were compacted.
    """

    def __init__(self, stage: str, reading: Reading, log_starts: Mapping[Partition, int]) -> None:
        self._log_starts = log_starts
        self._stage = stage
        self._reading = reading
        self._known: dict[Partition, int] = {}
        self._next: dict[Partition, int] = {}
        self._outcomes: Counter[str] = Counter()

    def add(self, event: Received, outcome: str) -> None:
        """Count an event under its outcome, unless it was counted before.

        Offsets that are missing before it are counted as ``EXPIRED`` or ``GAP``.
        """
        self.add_offsets((event.topic, event.partition), event.offset, event.offset + 1, outcome)

    def add_offsets(self, partition: Partition, start: int, end: int, outcome: str) -> None:
        """Count the offsets from ``start`` to before ``end``, but those counted before."""
        expected = self._next.get(partition, self._read_up_to(partition))
        if start > expected:
            self._add_missing(partition, expected, start)
        if end > expected:
            self._outcomes[outcome] += end - max(start, expected)
            self._next[partition] = end

    def _add_missing(self, partition: Partition, start: int, end: int) -> None:
        expired = max(min(self._log_starts[partition], end) - start, 0)
        if expired:
            self._outcomes[EXPIRED] += expired
            log.error(
                "%s: offsets %d to %d of %s [%d] are lost: Kafka deleted them, by the retention of "
                "the topic, before they were read; what stood there has to be published again",
                self._stage, start, start + expired - 1, *partition,
            )  # fmt: skip
        if end - start > expired:
            self._outcomes[GAP] += end - start - expired

    def is_counted(self, event: Received) -> bool:
        """Whether the event was counted before this batch, so that its results are durable."""
        return event.offset < self._read_up_to((event.topic, event.partition))

    def _read_up_to(self, partition: Partition) -> int:
        if partition not in self._known:
            self._known[partition] = self._reading.next_offset(self._stage, *partition)
        return self._known[partition]

    @property
    def outcomes(self) -> Mapping[str, int]:
        """Number of events by outcome."""
        return self._outcomes

    def store(self, writing: Writing) -> None:
        """Store the counts and the offsets up to which they count."""
        writing.account(self._stage, self._next, self._outcomes)
