"""The base class of the stages, with what all of them do about events that cannot be processed."""

from __future__ import annotations

import logging
import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TypeVar

from mmbroker.schemas.codec import MAX_EVENT_BYTES, Codec, MalformedEventError
from mmbroker.schemas.events import Quarantine
from mmbroker.streams.errors import InfrastructureError
from mmbroker.streams.stages.accounting import (
    Account,
    LogStart,
    Partition,
    nothing_expires,
    unsendable_of,
    with_gaps,
)
from mmbroker.streams.stages.messages import (
    UNKNOWN_PLACE,
    Outgoing,
    Processed,
    Received,
    now_ms,
)
from mmbroker.streams.stages.metrics import StageMetrics
from mmbroker.streams.store import Store
from mmbroker.streams.topics import Topics

log = logging.getLogger(__name__)

E = TypeVar("E")

LONGEST_DETAIL = 1000
"""Longest text, in characters, that says in quarantine what is wrong."""

LONGEST_TRACEBACK = 8000

UNSENDABLE = "unsendable"
"""Reason in quarantine for what Kafka does not take, e.g. because it is larger than the topic's
``max.message.bytes``."""

KEPT_BYTES = (MAX_EVENT_BYTES - 2**16, 2**18, 2**10, 0)
"""How much is kept of an event in quarantine: at first as much as a message may have that can be
read; less, step by step, where Kafka does not take that."""


class RefusedError(ValueError):
    """An event cannot be processed, and goes to quarantine.

    Args:
        reason: short and machine-readable, e.g. ``undecodable``.
        detail: what is wrong, naming the field and the value. It may repeat what a stranger wrote:
            it is cut to ``LONGEST_DETAIL``, and what cannot be encoded in it is escaped.
    """

    def __init__(self, reason: str, detail: str) -> None:
        self.reason = reason
        self.detail = _shortened(detail, LONGEST_DETAIL)
        super().__init__(self.detail)

    @property
    def outcome(self) -> str:
        """The outcome under which the event is counted."""
        return f"quarantined: {self.reason}"


class Stage(ABC):
    """One step of the flow: a batch of messages comes in, messages to send come out.

    Args:
        store: galaxy state and counts.
        topics: names of the topics.
        codec: events to bytes and back.
    """

    name: str
    """Name of the stage in its consumer group, its metrics and the ledger."""

    def __init__(self, store: Store, topics: Topics, codec: Codec) -> None:
        self.store = store
        self.topics = topics
        self.codec = codec
        self.metrics = StageMetrics(self.name)
        self.log_start: LogStart = nothing_expires
        self.progressed: Callable[[], None] = lambda: None
        """Is called now and then during a batch that takes long."""

    @property
    @abstractmethod
    def sources(self) -> Sequence[str]:
        """The topics that the stage reads."""

    @abstractmethod
    def process(self, batch: Sequence[Received]) -> Iterator[Processed]:
        """Process a batch.

        Yields:
            The results of its parts, from its first event on. Each part is short in time and
            memory, so most batches have one.

        Raises:
            InfrastructureError: the infrastructure failed; the same batch can be tried again.
        """

    def probe(self) -> None:  # noqa: B027 - most stages need nothing more
        """Check that what the stage needs, besides Kafka and the store, is there.

        It may be called from another thread than ``process``.

        Raises:
            InfrastructureError: something is missing.
        """

    def process_safely(self, batch: Sequence[Received]) -> Iterator[Processed]:
        """Process a batch; if an event makes ``process`` fail, only this event is put aside.

        If a batch fails, it is halved until the event is found, and each half is a part of the
        result: one such event among 500 costs some 20 attempts.

        Yields:
            The parts. Send and finish each part before you ask for the next, because offsets have
            to be accounted for in order.

        Raises:
            InfrastructureError: the infrastructure failed; the same batch can be tried again.
        """
        try:
            yield from self.process(batch)
        except InfrastructureError:
            raise
        except Exception as error:
            if len(batch) > 1:
                log.warning("%s halves a batch of %d: %s", self.name, len(batch), type(error))
                half = len(batch) // 2
                yield from self.process_safely(batch[:half])
                yield from self.process_safely(batch[half:])
                return
            yield self._set_aside(batch[0], error)

    def log_starts(self, batch: Sequence[Received]) -> dict[Partition, int]:
        """Where the logs begin from which offsets are missing, before or within a batch.

        Kafka is asked once for each log. This must not be done while the store is written, because
        other writers would wait for the answer.

        Returns:
            The first offset of the log, by (topic, partition); only where offsets are missing.

        Raises:
            InfrastructureError: Kafka does not tell.
        """
        with self.store.reading() as reading:
            partitions = with_gaps(self.name, reading, batch)
        if not partitions:
            return {}
        with self.metrics.part("log-starts"):
            return {partition: self.log_start(*partition) for partition in partitions}

    def pass_over(self, partition: Partition, start: int, end: int, outcome: str) -> None:
        """Account for offsets that are not processed, from ``start`` to before ``end``.

        Raises:
            InfrastructureError: Kafka or the store is away.
        """
        log_starts = self.log_starts([Received(*partition, start, 0, None)])
        with self.store.writing() as writing:
            account = Account(self.name, writing, log_starts)
            account.add_offsets(partition, start, end, outcome)
            account.store(writing)
        self.metrics.accounted(account.outcomes)

    def decoded(
        self,
        event: Received,
        decode: Callable[[bytes | None], E],
        problems: Callable[[E], list[str]],
    ) -> E:
        """Decode and check a message.

        Args:
            event: the message.
            decode: bytes to what the message holds.
            problems: what is wrong with it; empty if nothing is.

        Raises:
            RefusedError: the message cannot be decoded, or has problems.
        """
        try:
            found = decode(event.value)
        except MalformedEventError as error:
            raise RefusedError("undecodable", str(error)) from error
        wrong = problems(found)
        if wrong:
            raise RefusedError("invalid", "; ".join(wrong))
        return found

    def quarantined(self, event: Received, refused: RefusedError) -> Outgoing:
        """The message for quarantine, with a refused event and the reason."""
        return quarantine_message(self.codec, self.topics, self.name, event, refused)

    def instead_of(self, message: Outgoing, reason: str) -> Outgoing:
        """What to send in place of a message that Kafka refuses for what it is.

        A message for quarantine keeps less of its event. Any other message goes to quarantine
        itself, and the ledger tells that it was not published.

        Args:
            message: the message.
            reason: why Kafka refuses it.

        Raises:
            InfrastructureError: Kafka refuses a message for quarantine that keeps nothing.
        """
        if message.topic != self.topics.quarantine:
            return self._unsendable(message, reason)
        record = self.codec.decode_as(Quarantine, message.value)
        smaller = [size for size in KEPT_BYTES if size < len(record.original)]
        if not smaller:
            raise InfrastructureError(
                f"Kafka takes no message for topic {message.topic}: {reason}; raise its "
                "max.message.bytes"
            )
        cut = replace(record, original=record.original[: smaller[0]])
        return replace(message, value=self.codec.encode(cut))

    def _unsendable(self, message: Outgoing, reason: str) -> Outgoing:
        key = _shortened(message.key.decode(errors="backslashreplace"), LONGEST_DETAIL // 4)
        refused = RefusedError(
            UNSENDABLE,
            f"Kafka takes no message of {len(message.value):,} bytes for {key} in topic "
            f"{message.topic}: {reason}; compare max.message.bytes of the topic in mmbroker check",
        )
        log.error("%s could not publish: %s", self.name, refused.detail)
        with self.store.writing() as writing:
            writing.account(unsendable_of(self.name), {}, {message.topic: 1})
        self.metrics.unsendable(message.topic)
        return self.quarantined(
            Received(message.topic, UNKNOWN_PLACE, UNKNOWN_PLACE, now_ms(), message.value), refused
        )

    def _set_aside(self, event: Received, error: Exception) -> Processed:
        """Quarantine an event with which this program failed."""
        log.error(
            "%s failed on %s [%d] offset %d, which goes to quarantine: %s",
            self.name,
            event.topic,
            event.partition,
            event.offset,
            _shortened("".join(traceback.format_exception(error)), LONGEST_TRACEBACK),
        )
        refused = RefusedError("internal-error", f"{type(error).__name__}: {error}")

        def finish() -> list[Outgoing]:
            partition = event.topic, event.partition
            self.pass_over(partition, event.offset, event.offset + 1, refused.outcome)
            return []

        return Processed([self.quarantined(event, refused)], finish)


def quarantine_message(
    codec: Codec, topics: Topics, stage: str, event: Received, refused: RefusedError
) -> Outgoing:
    """The message for quarantine, with an event that a stage refused.

    A long event is cut to what fits. The whole event can be read in its own topic.

    Args:
        codec: events to bytes.
        topics: names of the topics.
        stage: name of the stage.
        event: the event.
        refused: why it was refused.
    """
    record = Quarantine(
        stage=stage,
        reason=refused.reason,
        detail=refused.detail,
        topic=event.topic,
        partition=event.partition,
        offset=event.offset,
        original=(event.value or b"")[: KEPT_BYTES[0]],
    )
    key = f"{event.topic}/{event.partition}/{event.offset}".encode()
    return Outgoing(topics.quarantine, key, codec.encode(record))


def _shortened(text: str, longest: int) -> str:
    """A text with at most so many characters, all of which can be encoded."""
    cut = text if len(text) <= longest else f"{text[: longest - 1]}…"
    return cut.encode(errors="backslashreplace").decode()
