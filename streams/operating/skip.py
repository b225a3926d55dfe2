"""Has a stage pass over messages on which it ends again and again.

The stage accounts for them under an outcome of its own, and their bytes go to quarantine. Nothing
is deleted: the topic keeps them.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass

from confluent_kafka import TopicPartition

from mmbroker.streams.kafka.batches import batch_at
from mmbroker.streams.kafka.client import KafkaUnavailableError
from mmbroker.streams.kafka.guarded import BatchEndsReaderError, guarded
from mmbroker.streams.kafka.offsets import (
    end_offsets,
    first_offset,
    move_committed,
    start_offsets,
)
from mmbroker.streams.kafka.producer import DurableProducer
from mmbroker.streams.kafka.registry import make_codec
from mmbroker.streams.running.supervise import only_one
from mmbroker.streams.settings import Settings, SettingsError
from mmbroker.streams.stages.accounting import SKIPPED, Account
from mmbroker.streams.stages.base import RefusedError, quarantine_message
from mmbroker.streams.stages.messages import Received, now_ms
from mmbroker.streams.store import open_store
from mmbroker.streams.topics import flow

log = logging.getLogger(__name__)

MOST = 1000
"""Most offsets that are skipped at once."""

CHUNK_BYTES = 8 * 2**20
"""Messages are taken to quarantine in parts of this size."""

REASON = "skipped"
"""Reason in quarantine."""


@dataclass(frozen=True)
class Offsets:
    """A range of offsets, both ends included."""

    first: int
    last: int

    @classmethod
    def of(cls, text: str) -> Offsets:
        """Read ``17`` or ``17-20``.

        Raises:
            SettingsError: the text is neither.
        """
        found = re.fullmatch(r"(\d{1,18})(?:-(\d{1,18}))?", text, re.ASCII)
        if found is None:
            raise SettingsError(f"offsets {text!r}: give one, as 17, or a range, as 17-20")
        first = int(found[1])
        return cls(first, int(found[2] or first))

    def __len__(self) -> int:
        return self.last - self.first + 1

    def __str__(self) -> str:
        return f"{self.first}-{self.last}" if len(self) > 1 else f"{self.first}"


@dataclass(frozen=True)
class Skipped:
    """What was skipped.

    Attributes:
        stage: name of the stage.
        topic: the topic that it reads.
        partition: the partition.
        offsets: the offsets.
        kept: number of messages whose bytes are in quarantine.
    """

    stage: str
    topic: str
    partition: int
    offsets: Offsets
    kept: int

    @property
    def text(self) -> str:
        """What was skipped, in a sentence."""
        return (
            f"{self.stage} passes over {len(self.offsets):,} offsets of {self.topic} "
            f"[{self.partition}]: {self.offsets}. The bytes of {self.kept:,} messages are in "
            "quarantine. Start the stages again: mmbroker run"
        )


def skip(
    settings: Settings,
    stage: str,
    partition: int,
    offsets: Offsets,
    reason: str,
    with_bytes: bool = True,
) -> Skipped:
    """Have a stage pass over the messages that it would read next.

    If this is interrupted, it can be done again: quarantine may then have a message twice.

    Args:
        settings: the settings.
        stage: name of the stage.
        partition: partition of the topic that the stage reads.
        offsets: what to pass over; it begins with the message that the stage would read next.
        reason: why, for quarantine and for whoever looks there.
        with_bytes: read the messages, to keep their bytes.

    Raises:
        SettingsError: the stage has passed the offsets, would pass over others as well, or Kafka
            does not have them.
        InfrastructureError: the stages run, or Kafka or the store fails.
    """
    topic = dict(flow(settings.topics))[stage]
    stopped = only_one(settings, "stop them first (end mmbroker run)")
    with stopped, closing(open_store(settings)) as store:
        with store.reading() as reading:
            following = reading.next_offset(stage, topic, partition)
        _require_next(settings, stage, topic, partition, offsets, following)
        starts = start_offsets(settings, topic)
        # Before anything is changed, Kafka tells whether a process of the stage still runs.
        move_committed(settings, stage, [TopicPartition(topic, partition, following)])
        kept = _keep(settings, stage, topic, partition, offsets, reason, with_bytes)
        with store.writing() as writing:
            account = Account(stage, writing, {(topic, partition): starts[partition]})
            account.add_offsets((topic, partition), offsets.first, offsets.last + 1, SKIPPED)
            account.store(writing)
        move_committed(settings, stage, [TopicPartition(topic, partition, offsets.last + 1)])
    skipped = Skipped(stage, topic, partition, offsets, kept)
    log.warning("%s skips %s [%d] %s: %s", stage, topic, partition, offsets, reason)
    return skipped


def _require_next(
    settings: Settings, stage: str, topic: str, partition: int, offsets: Offsets, following: int
) -> None:
    """Make sure that the stage would read these offsets next.

    Raises:
        SettingsError: it would not.
    """
    place = f"{topic} [{partition}]"
    ends = end_offsets(settings, topic)
    if partition not in ends:
        raise SettingsError(f"{topic} has no partition {partition}; it has {len(ends)}, from 0")
    if not offsets:
        raise SettingsError(f"offsets {offsets}: the last one is before the first")
    if len(offsets) > MOST:
        raise SettingsError(f"offsets {offsets}: {len(offsets):,}; at most {MOST:,} at once")
    if offsets.last >= ends[partition]:
        raise SettingsError(
            f"offsets {offsets}: {place} ends before {ends[partition]}; what is not yet there is "
            "not skipped"
        )
    if offsets.first < following:
        raise SettingsError(
            f"offsets {offsets}: {stage} has accounted for {place} before {following}; it reads "
            f"{following} next"
        )
    if offsets.first == following:
        return  # without reading it, which may be what kills
    found = first_offset(settings.kafka, topic, partition, following)
    if found is None or offsets.first > found:
        raise SettingsError(
            f"offsets {offsets}: {stage} reads offset {found} of {place} next, and what is between "
            f"would be lost as well. Skip from {found}; or, to come closer, run it with "
            "MMBROKER_STAGE__BATCH_EVENTS=1 until it ends: then it reads next what it ends on"
        )


def _keep(
    settings: Settings,
    stage: str,
    topic: str,
    partition: int,
    offsets: Offsets,
    reason: str,
    with_bytes: bool,
) -> int:
    """Put the messages into quarantine; those without bytes too, because a rebuild looks there.

    Returns:
        Number of messages whose bytes were read.
    """
    codec, producer = make_codec(settings), DurableProducer(settings.kafka)
    refused = RefusedError(REASON, reason)
    kept = 0
    for event in _events(settings, topic, partition, offsets, with_bytes):
        message = quarantine_message(codec, settings.topics, stage, event, refused)
        unsendable = producer.send([message])
        if unsendable:
            raise KafkaUnavailableError(
                f"topic {message.topic} does not take the bytes of offset {event.offset}: "
                f"{unsendable[0].reason}; raise its max.message.bytes, or skip --without-bytes"
            )
        kept += event.value is not None
    return kept


def _events(
    settings: Settings, topic: str, partition: int, offsets: Offsets, with_bytes: bool
) -> Iterator[Received]:
    """Every offset as an event; one that cannot be read has no bytes."""
    following = offsets.first
    found = _readable(settings, topic, partition, offsets) if with_bytes else iter(())
    for event in found:
        for offset in range(following, event.offset):
            yield Received(topic, partition, offset, now_ms(), None)
        yield event
        following = event.offset + 1
    for offset in range(following, offsets.last + 1):
        yield Received(topic, partition, offset, now_ms(), None)


def _readable(
    settings: Settings, topic: str, partition: int, offsets: Offsets
) -> Iterator[Received]:
    kafka, following = settings.kafka, offsets.first
    while following <= offsets.last:
        try:
            with closing(guarded(kafka, topic, partition, following)) as messages:
                for each in messages:
                    if each.offset > offsets.last:
                        return
                    yield Received(topic, partition, each.offset, each.timestamp_ms, each.value)
                    if each.offset == offsets.last:
                        return
            return
        except BatchEndsReaderError as error:
            following = batch_at(kafka, topic, partition, error.offset).stop
