"""Is the child process that reads a partition within bounds of memory; see ``guarded``.

It imports little, so that it starts in a tenth of a second.
"""

from __future__ import annotations

import json
import os
import pickle
import resource
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

POLL_S = 0.5

STATISTICS_MS = 100
"""How often the client tells what it has fetched."""

LEFT_OVER = 12
"""So many fetches without a message are no delay: what Kafka gave is at hand, and the client does
not understand it. It takes it for the beginning of a batch, asks for twice as much each time up to
1 GiB, and goes on asking without a word."""

PATIENCE_S = 20.0
"""Longest wait for a message while Kafka answers."""

TOO_LARGE = 75
"""Exit status where Python has not enough memory for a message."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a child has to read.

    Attributes:
        config: configuration of librdkafka.
        topic: name of the topic.
        partition: number of the partition.
        offset: where to begin.
        headroom_bytes: what the child may take beyond its memory at its start.
        unreadable: codes of the errors of a client that cannot unpack a batch.
        parent: process id of the parent; the child ends when it is gone.
    """

    config: Mapping[str, Any]
    topic: str
    partition: int
    offset: int
    headroom_bytes: int
    unreadable: Sequence[int]
    parent: int


@dataclass(frozen=True, slots=True)
class PlainMessage:
    """A message of Kafka.

    Attributes:
        offset: its offset.
        timestamp_ms: Kafka's timestamp.
        key: its key.
        value: its bytes; None for a tombstone.
        headers: names and values.
    """

    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, object]] = ()


@dataclass(frozen=True, slots=True)
class Unreadable:
    """The client cannot unpack the batch at an offset, or does not deliver it.

    Attributes:
        offset: an offset of the batch.
        delivered: whether the client at least tells an error of it.
    """

    offset: int
    delivered: bool = True


@dataclass(frozen=True, slots=True)
class Failed:
    """Kafka refuses; the reason is the client's."""

    reason: str


@dataclass(frozen=True, slots=True)
class End:
    """There are no more messages for now."""


@dataclass(frozen=True, slots=True)
class Begun:
    """The client is there; how the child ends from now on depends on what it reads."""


Told = Begun | PlainMessage | Unreadable | Failed | End


def plain(message: Message) -> PlainMessage:
    """A message of Kafka's client, as far as it means something here."""
    headers: Any = message.headers() or ()
    return PlainMessage(
        message.offset() or 0, message.timestamp()[1], message.key(), message.value(), headers
    )


def bound_memory(headroom_bytes: int) -> None:
    """Let this process take at most so much memory beyond what it has, on Linux; else do nothing.

    Memory that is asked for beyond it is not given: Python raises MemoryError, Kafka's client ends
    the process. That is better than taking the machine's memory from everybody.

    Args:
        headroom_bytes: the bound.
    """
    status = Path("/proc/self/status")
    if not status.exists():
        return
    (line,) = (one for one in status.read_text().splitlines() if one.startswith("VmData:"))
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (int(line.split()[1]) * 1024 + headroom_bytes, hard))


def main() -> None:
    """Read what is wanted, and write what is found."""
    wanted: Wanted = pickle.load(sys.stdin.buffer)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    bound_memory(wanted.headroom_bytes)
    status = 0
    try:
        for told in _read(wanted):
            _tell(told)
    except KafkaException as error:
        _tell(Failed(error.args[0].str()))
    except BrokenPipeError:  # the parent has enough
        pass
    except MemoryError:
        status = TOO_LARGE
    os._exit(status)  # so that the rest of a message is not written


def _tell(told: Told) -> None:
    pickle.dump(told, sys.stdout.buffer)
    sys.stdout.buffer.flush()


def _read(wanted: Wanted) -> Iterator[Told]:
    fetches = _Fetches()
    config = {**wanted.config, "statistics.interval.ms": STATISTICS_MS, "stats_cb": fetches.told}
    place = TopicPartition(wanted.topic, wanted.partition, wanted.offset)
    following = wanted.offset
    with closing(Consumer(config)) as reader:
        reader.assign([place])
        yield Begun()
        while os.getppid() == wanted.parent:
            message = reader.poll(STATISTICS_MS / 1000)
            if message is None:
                if fetches.in_vain or (fetches.silent and _answers(reader, place)):
                    yield Unreadable(following, delivered=False)
                    return
                continue
            fetches.delivered()
            error = message.error()
            if error is None:
                yield plain(message)
                following = (message.offset() or 0) + 1
            elif error.code() == KafkaError._PARTITION_EOF:
                yield End()
                return
            elif error.code() in wanted.unreadable:
                yield Unreadable(message.offset() or 0)
                return
            elif not error.retriable():
                yield Failed(error.str())
                return


class _Fetches:
    """Counts the fetches since the last message of which the client made nothing."""

    def __init__(self) -> None:
        self._left_over = self._before = 0
        self._since = time.monotonic()

    def told(self, statistics: str) -> None:
        """Take the statistics of the client."""
        brokers = json.loads(statistics)["brokers"].values()
        self._left_over = sum(broker["rxpartial"] for broker in brokers)

    def delivered(self) -> None:
        """A message has come."""
        self._before = self._left_over
        self._since = time.monotonic()

    @property
    def in_vain(self) -> bool:
        """Whether the client fetches again and again, and delivers nothing."""
        return self._left_over - self._before >= LEFT_OVER

    @property
    def silent(self) -> bool:
        """Whether nothing has come for very long."""
        return time.monotonic() - self._since > PATIENCE_S


def _answers(reader: Consumer, place: TopicPartition) -> bool:
    """Whether Kafka answers."""
    with suppress(KafkaException):
        return reader.get_watermark_offsets(place, timeout=POLL_S) is not None
    return False
