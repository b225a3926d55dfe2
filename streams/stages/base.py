"""The base class of the stages, with what all of them do about events that cannot be processed."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from mmbroker.schemas.codec import MAX_EVENT_BYTES, Codec, MalformedEventError
from mmbroker.schemas.events import Quarantine
from mmbroker.streams.errors import InfrastructureError
from mmbroker.streams.stages.accounting import (
    Account,
    LogStart,
    Place,
    nothing_expires,
    with_gaps,
)
from mmbroker.streams.stages.messages import Outgoing, Processed, Received
from mmbroker.streams.stages.metrics import StageMetrics
from mmbroker.streams.store import Store
from mmbroker.streams.topics import Topics

log = logging.getLogger(__name__)

E = TypeVar("E")


class RefusedError(ValueError):
    """An event cannot be processed, and goes to quarantine.

    Args:
        reason: short and machine-readable, e.g. ``undecodable``.
        detail: what is wrong, naming the field and the value.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail

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

        If a batch fails, its events are processed one by one, and each is a part of the result.

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
            log.exception("%s failed on a batch of %d", self.name, len(batch))
            if len(batch) > 1:
                for event in batch:
                    yield from self.process_safely([event])
                return
            yield self._set_aside(batch[0], error)

    def log_starts(self, batch: Sequence[Received]) -> dict[Place, int]:
        """Where the logs begin from which offsets are missing, before or within a batch.

        Kafka is asked once for each log. This must not be done while the store is written, because
        other writers would wait for the answer.

        Returns:
            The first offset of the log, by (topic, partition); only where offsets are missing.

        Raises:
            InfrastructureError: Kafka does not tell.
        """
        with self.store.reading() as reading:
            places = with_gaps(self.name, reading, batch)
        if not places:
            return {}
        with self.metrics.part("log-starts"):
            return {place: self.log_start(*place) for place in places}

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
        """The message for quarantine, with a refused event and the reason.

        An event that is larger than allowed is cut to the largest allowed size. The whole event can
        be read in its own topic.
        """
        record = Quarantine(
            stage=self.name,
            reason=refused.reason,
            detail=refused.detail,
            topic=event.topic,
            partition=event.partition,
            offset=event.offset,
            original=(event.value or b"")[:MAX_EVENT_BYTES],
        )
        key = f"{event.topic}/{event.partition}/{event.offset}".encode()
        return Outgoing(self.topics.quarantine, key, self.codec.encode(record))

    def _set_aside(self, event: Received, error: Exception) -> Processed:
        """Quarantine an event with which this program failed."""
        refused = RefusedError("internal-error", f"{type(error).__name__}: {error}")

        def finish() -> list[Outgoing]:
            log_starts = self.log_starts([event])
            with self.store.writing() as writing:
                account = Account(self.name, writing, log_starts)
                account.add(event, refused.outcome)
                account.store(writing)
            self.metrics.accounted(account.outcomes)
            return []

        return Processed([self.quarantined(event, refused)], finish)
