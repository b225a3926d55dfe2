"""Is the child process that reads a partition within bounds of memory; see ``guarded``.

It imports little, so that it starts in a tenth of a second.
"""

from __future__ import annotations

import os
import pickle
import resource
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

POLL_S = 0.5

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
    """The client cannot unpack the batch at an offset."""

    offset: int


@dataclass(frozen=True, slots=True)
class Failed:
    """Kafka refuses; the reason is the client's."""

    reason: str


@dataclass(frozen=True, slots=True)
class End:
    """There are no more messages for now."""


Told = PlainMessage | Unreadable | Failed | End


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
    with closing(Consumer(dict(wanted.config))) as reader:
        reader.assign([TopicPartition(wanted.topic, wanted.partition, wanted.offset)])
        while os.getppid() == wanted.parent:
            message = reader.poll(POLL_S)
            if message is None:
                continue
            error = message.error()
            if error is None:
                yield plain(message)
            elif error.code() == KafkaError._PARTITION_EOF:
                yield End()
                return
            elif error.code() in wanted.unreadable:
                yield Unreadable(message.offset() or 0)
                return
            elif not error.retriable():
                yield Failed(error.str())
                return
