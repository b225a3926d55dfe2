"""Watches whether the partitions deliver what stands in them, in the order of its offsets.

Kafka's client stands still without an error at some records of strangers, and tells the offsets
that messages claim for themselves. Both are only suspected here, which costs nothing while all is
well. A child process then reads the partition on and finds out; see ``kafka/guarded.py``.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, MutableMapping, Sequence

from confluent_kafka import Consumer, KafkaException, TopicPartition

from mmbroker.streams.kafka.batches import Layout
from mmbroker.streams.kafka.client import KafkaUnavailableError
from mmbroker.streams.settings import KafkaSettings
from mmbroker.streams.stages.accounting import Partition
from mmbroker.streams.stages.messages import Received, now_ms

STANDS_STILL_S = 4.0
"""A partition that has more messages and delivers none for so long is looked at."""


ANSWER_S = 1.0
"""Longest wait for an answer of Kafka before a partition is looked at."""


class Arrival:
    """What is known of the partitions that a process reads.

    Args:
        kafka: how to reach Kafka.
    """

    def __init__(self, kafka: KafkaSettings) -> None:
        self._kafka = kafka
        self._layouts: dict[Partition, Layout] = {}
        self._stood: dict[Partition, int] = {}
        self._suspected: dict[Partition, tuple[int, int]] = {}
        self._look_at = 0.0
        self._looked_ms = 0

    def in_order(
        self,
        batch: Sequence[Received],
        following: Mapping[Partition, int],
        doubtful: MutableMapping[Partition, int],
    ) -> list[Received]:
        """The messages of a batch that stand where they say.

        Args:
            batch: the messages.
            following: the offset that is read next, by partition.
            doubtful: from which offset on a partition has to be looked at; gets those in which a
                message has another offset than the next one in Kafka. From there on messages are
                left out.
        """
        expected = dict(following)
        kept = []
        for each in batch:
            partition = each.topic, each.partition
            wanted = expected.get(partition, 0)
            if not (
                each.offset == wanted
                or partition in doubtful
                or self._follows(partition, wanted, each.offset)
            ):
                doubtful[partition] = wanted
            if each.offset < doubtful.get(partition, each.offset + 1):
                kept.append(each)
                expected[partition] = each.offset + 1
        return kept

    def _follows(self, partition: Partition, wanted: int, offset: int) -> bool:
        layout = self._layouts.setdefault(partition, Layout(self._kafka, *partition))
        try:
            return layout.allows(wanted, offset)
        except KafkaUnavailableError:
            return False  # it will be found out

    def standing_still(
        self, reading: Consumer, following: Mapping[Partition, int], batch: Sequence[Received]
    ) -> dict[Partition, int]:
        """The partitions that have more messages and have delivered none for long.

        The client delivers in the order in which it fetched. So a partition is late only if other
        messages are newer than the last look, or if there are none at all.

        Args:
            reading: the client; it knows where the partitions end.
            following: the offset that is read next, by partition.
            batch: the last messages that the client delivered.
        """
        now = time.monotonic()
        if now < self._look_at:
            return {}
        if batch and max(each.timestamp_ms for each in batch) <= self._looked_ms:
            return {}  # it still delivers what was there before
        self._look_at, self._looked_ms = now + STANDS_STILL_S, now_ms()
        stood, self._stood = self._stood, {}
        found = {}
        for partition, offset in following.items():
            _, end = reading.get_watermark_offsets(TopicPartition(*partition), cached=True)
            if end <= offset or self._suspected.get(partition) == (offset, end):
                continue
            self._stood[partition] = offset
            if stood.get(partition) == offset and self._answers(reading, partition):
                found[partition] = offset
                self._suspected[partition] = offset, end  # once: it may have good reason to wait
        return found

    def _answers(self, reading: Consumer, partition: Partition) -> bool:
        """Whether Kafka answers: while it is away, nothing is late."""
        try:
            reading.get_watermark_offsets(TopicPartition(*partition), timeout=ANSWER_S)
        except KafkaException:
            return False
        return True
