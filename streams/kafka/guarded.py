"""Reads a partition in child processes of bounded memory.

Kafka's client unpacks batches of gzip, lz4 and snappy whole: 16 MiB can become gigabytes. A child
that is ended by such a batch takes nothing else with it, and the offset at which it ended is known.
What the child has to read comes pickled on its standard input, so that no password stands on a
command line.
"""

from __future__ import annotations

import math
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Generator
from contextlib import closing, suppress
from typing import Any, Self

from mmbroker.streams.kafka.batches import Layout, batch_at
from mmbroker.streams.kafka.client import KafkaUnavailableError, consumer_config
from mmbroker.streams.kafka.guarded_child import (
    TOO_LARGE,
    Begun,
    End,
    Failed,
    PlainMessage,
    Told,
    Unreadable,
    Wanted,
)
from mmbroker.streams.kafka.offsets import UNREADABLE
from mmbroker.streams.settings import KafkaSettings

HEADROOM_BYTES = 512 * 2**20
"""What a child may take beyond what it has at its start: every message that Kafka takes unpacked
fits, several times over."""

AHEAD_KIB = 16 * 1024
"""How much a child reads ahead, unless it reads one batch at a time."""

SLOWLY = 50
"""Messages that are read one batch at a time after a child that read ahead has ended for the first
time. Each time it is twice as many."""

LONGEST_S = 100.0
"""A batch that is unpacked for longer counts as one that ends the child."""

LOOK_S = 0.5
"""Pause between looks whether a child takes too long."""

LONGEST_START_S = 15.0
"""A child that has not begun after so long is given up, and says nothing of a batch."""

_TOO_LONG = signal.SIGALRM
_CRASHES = (signal.SIGABRT, signal.SIGSEGV, signal.SIGBUS, signal.SIGILL)
_ENDED_BY_BATCH = (TOO_LARGE, *(-each for each in (*_CRASHES, _TOO_LONG)))
"""How a child ends by what it reads. Other ends, as by an operator, say nothing of a batch."""


class BatchEndsReaderError(Exception):
    """A batch of messages cannot be read, or not within the bounds of memory and time.

    Attributes:
        offset: the first offset of the partition that could not be read.
        why: what is wrong with the batch, as the end of a sentence about it.
    """

    def __init__(self, offset: int, why: str = "cannot be unpacked") -> None:
        super().__init__(f"the batch at offset {offset} {why}")
        self.offset = offset
        self.why = why


class _Patience:
    """Ends a child that tells nothing for too long; waiting for its parent does not count."""

    def __init__(self, child: subprocess.Popen[bytes]) -> None:
        self._child = child
        self._until = math.inf
        self._done = threading.Event()

    def __enter__(self) -> Self:
        threading.Thread(target=self._watch, name="child-watch", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()

    def begin(self, seconds: float) -> None:
        """Wait for so long at most from now on."""
        self._until = time.monotonic() + seconds

    def end(self) -> None:
        """Something was told."""
        self._until = math.inf

    def _watch(self) -> None:
        while not self._done.wait(LOOK_S):
            if time.monotonic() > self._until:
                self._child.send_signal(_TOO_LONG)
                return


def guarded(
    settings: KafkaSettings,
    topic: str,
    partition: int,
    offset: int,
    calm_bytes: float = math.inf,
) -> Generator[PlainMessage]:
    """Read a partition in child processes, up to its present end.

    The child ends with the iterator: exhaust or close it.

    Args:
        settings: how to reach Kafka.
        topic: name of the topic.
        partition: number of the partition.
        offset: where to begin.
        calm_bytes: stop before the end if one child that reads ahead has read so much.

    Raises:
        BatchEndsReaderError: a batch cannot be read.
        KafkaUnavailableError: Kafka does not answer.
    """
    following, singly, slowly = offset, False, SLOWLY
    layout = Layout(settings, topic, partition)
    while True:
        begun, count, size_bytes = following, 0, 0
        wanted = _wanted(settings, topic, partition, begun, singly)
        with closing(_told(wanted)) as told:
            for one in told:
                match one:
                    case PlainMessage():
                        if not layout.allows(following, one.offset):
                            raise BatchEndsReaderError(following, "does not say its own offsets")
                        yield one
                        following, count = one.offset + 1, count + 1
                        size_bytes += len(one.value or b"")
                    case Unreadable(delivered=False):
                        raise BatchEndsReaderError(
                            max(one.offset, following), "is not delivered by Kafka's client"
                        )
                    case Unreadable():
                        raise BatchEndsReaderError(max(one.offset, following))
                    case Failed():
                        raise KafkaUnavailableError(f"topic {topic}: {one.reason}")
                    case End():
                        return
                    case Begun():
                        pass
                if singly and count >= slowly:
                    singly = False
                    break
                if not singly and size_bytes > calm_bytes:
                    return
            else:
                # It ended by what it read, perhaps far ahead of what it told. So another one begins
                # where it ended, and fetches one batch at a time: many may be too large together.
                # If that tells nothing, it is the next batch.
                if singly and following == begun:
                    raise BatchEndsReaderError(following)
                slowly, singly = slowly if singly else 2 * slowly, True


def end_of_unreadable(settings: KafkaSettings, topic: str, partition: int, offset: int) -> int:
    """Where to read on after a batch of messages that the client cannot unpack.

    Args:
        settings: how to reach Kafka.
        topic: name of the topic.
        partition: number of the partition.
        offset: the offset of the error, where such a batch begins.

    Returns:
        The offset after the batch; ``offset`` if it can be read after all.

    Raises:
        KafkaUnavailableError: Kafka does not tell.
    """
    try:
        with closing(guarded(settings, topic, partition, offset)) as messages:
            next(messages, None)
    except BatchEndsReaderError as error:
        return max(batch_at(settings, topic, partition, error.offset).stop, offset)
    return offset


def _wanted(
    settings: KafkaSettings, topic: str, partition: int, offset: int, singly: bool
) -> Wanted:
    options: dict[str, Any] = {"queued_max_messages_kbytes": AHEAD_KIB}
    if singly:  # Kafka gives at least one batch, whatever the size that is asked for
        options = {
            "fetch_message_max_bytes": 1,
            "queued_min_messages": 1,
            "queued_max_messages_kbytes": 1,
        }
    config = consumer_config(settings, auto_offset_reset="error", fetch_wait_max_ms=50, **options)
    return Wanted(config, topic, partition, offset, HEADROOM_BYTES, UNREADABLE, os.getpid())


def _told(wanted: Wanted) -> Generator[Told]:
    """What one child tells until it ends."""
    with subprocess.Popen(
        [sys.executable, "-c", f"from {Wanted.__module__} import main; main()"],
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
            begun = False
            with _Patience(child) as patience:
                while True:
                    patience.begin(LONGEST_S if begun else LONGEST_START_S)
                    try:
                        told: Told = pickle.load(child.stdout)
                    except (EOFError, pickle.UnpicklingError):
                        break
                    patience.end()
                    begun = True
                    yield told
            if child.wait() not in _ENDED_BY_BATCH or not begun:
                raise KafkaUnavailableError(
                    f"the process that reads topic {wanted.topic} [{wanted.partition}] from offset "
                    f"{wanted.offset} ended with {child.returncode}"
                )
        finally:
            child.kill()
