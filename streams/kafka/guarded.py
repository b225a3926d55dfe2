"""Reads a partition in a child process of bounded memory.

Kafka's client unpacks batches of gzip, lz4 and snappy whole: 16 MiB can become gigabytes. A child
that is ended by such a batch takes nothing else with it, and the offset at which it ended is known.
What the child has to read comes pickled on its standard input, so that no password stands on a
command line.
"""

from __future__ import annotations

import os
import pickle
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from confluent_kafka import KafkaError, TopicPartition

from mmbroker.streams.kafka.client import KafkaUnavailableError, consumer
from mmbroker.streams.kafka.offsets import is_unreadable
from mmbroker.streams.kafka.refusal import complaint
from mmbroker.streams.settings import KafkaSettings

HEADROOM_BYTES = 512 * 2**20
"""What the child may take beyond what it has at its start: every message that Kafka takes unpacked
fits, several times over."""

LONGEST_S = 100.0
"""A batch that is unpacked for longer counts as one that ends the child."""

POLL_S = 0.5


class BatchEndsReaderError(Exception):
    """A batch of messages cannot be unpacked, or not within the bounds of memory and time.

    Attributes:
        offset: the first offset of the partition that could not be read.
    """

    def __init__(self, offset: int) -> None:
        super().__init__(f"the batch at offset {offset} cannot be unpacked")
        self.offset = offset


@dataclass(frozen=True, slots=True)
class GuardedMessage:
    """A message that a child has read.

    Attributes:
        offset: its offset.
        timestamp_ms: Kafka's timestamp.
        value: its bytes; None for a tombstone.
        headers: names and values.
    """

    offset: int
    timestamp_ms: int
    value: bytes | None
    headers: Sequence[tuple[str, object]] = ()


@dataclass(frozen=True, slots=True)
class _Unreadable:
    offset: int


@dataclass(frozen=True, slots=True)
class _Failed:
    reason: str


_TOO_LARGE = 75
"""Status of a child for which Python had not enough memory."""

_TOO_LONG = signal.SIGALRM
"""Ends a child that unpacks for longer than ``LONGEST_S``."""

_CRASHES = (signal.SIGABRT, signal.SIGSEGV, signal.SIGBUS, signal.SIGILL)
_ENDED_BY_BATCH = (_TOO_LARGE, *(-each for each in (*_CRASHES, _TOO_LONG)))
"""How a child ends by what it reads. Other ends, as by an operator, say nothing of a batch."""

_END = None
"""Told after the last message before the end of the partition."""


@dataclass(frozen=True, slots=True)
class _Wanted:
    settings: KafkaSettings
    topic: str
    partition: int
    offset: int
    parent: int


def guarded(
    settings: KafkaSettings, topic: str, partition: int, offset: int
) -> Generator[GuardedMessage]:
    """Read a partition in child processes, up to its present end.

    The child ends with the iterator: exhaust or close it.

    Args:
        settings: how to reach Kafka.
        topic: name of the topic.
        partition: number of the partition.
        offset: where to begin.

    Raises:
        BatchEndsReaderError: a batch cannot be unpacked.
        KafkaUnavailableError: Kafka does not answer.
    """
    following = offset
    while True:
        begun = following
        with closing(_told(settings, topic, partition, begun)) as told:
            for one in told:
                if one is _END:
                    return
                if isinstance(one, _Failed):
                    raise KafkaUnavailableError(one.reason)
                if isinstance(one, _Unreadable):
                    raise BatchEndsReaderError(max(one.offset, following))
                yield one
                following = one.offset + 1
        # It ended by what it read. While this process was busy, the child may have fetched on before it could tell all of a
        # batch. So another one begins where it ended. If it tells nothing, it is the next batch.
        if following == begun:
            raise BatchEndsReaderError(following)


def _told(
    settings: KafkaSettings, topic: str, partition: int, offset: int
) -> Generator[GuardedMessage | _Unreadable | _Failed | None]:
    """What one child tells until it ends."""
    wanted = _Wanted(settings, topic, partition, offset, os.getpid())
    with subprocess.Popen(
        [sys.executable, "-c", f"import {__name__} as guarded; guarded.main()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        try:
            with suppress(BrokenPipeError):  # its end is seen below
                pickle.dump(wanted, child.stdin)
                child.stdin.close()
            while True:
                patience = threading.Timer(LONGEST_S, child.send_signal, [_TOO_LONG])
                patience.start()
                try:
                    told = pickle.load(child.stdout)
                except (EOFError, pickle.UnpicklingError):
                    break
                finally:
                    patience.cancel()
                yield told
            if child.wait() not in _ENDED_BY_BATCH:
                raise KafkaUnavailableError(
                    f"the process that reads topic {topic} [{partition}] from offset {offset} "
                    f"ended with {child.returncode}"
                )
        finally:
            child.kill()


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


def _read(wanted: _Wanted) -> Iterator[GuardedMessage | _Unreadable | _Failed | None]:
    # One batch after the other: Kafka gives at least one, whatever the size that is asked for.
    with closing(
        consumer(
            wanted.settings,
            auto_offset_reset="error",
            fetch_wait_max_ms=50,
            fetch_message_max_bytes=1,
            queued_min_messages=1,
            queued_max_messages_kbytes=1,
        )
    ) as reader:
        reader.assign([TopicPartition(wanted.topic, wanted.partition, wanted.offset)])
        while os.getppid() == wanted.parent:
            message = reader.poll(POLL_S)
            if message is None:
                continue
            error = message.error()
            offset = message.offset() or 0
            if error is None:
                headers: Any = message.headers() or ()
                yield GuardedMessage(offset, message.timestamp()[1], message.value(), headers)
            elif error.code() == KafkaError._PARTITION_EOF:
                yield _END
                return
            elif is_unreadable(error):
                yield _Unreadable(offset)
                return
            elif not error.retriable():
                yield _Failed(complaint(wanted.settings, error, f"topic {wanted.topic}"))
                return


def main() -> None:
    """Be the child: read what is wanted, and write what is found."""
    wanted: _Wanted = pickle.load(sys.stdin.buffer)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    bound_memory(HEADROOM_BYTES)
    status = 0
    try:
        for told in _read(wanted):
            pickle.dump(told, sys.stdout.buffer)
            sys.stdout.buffer.flush()
    except BrokenPipeError:  # the parent has enough
        pass
    except MemoryError:
        status = _TOO_LARGE
    os._exit(status)  # so that the rest of a pickle is not written
