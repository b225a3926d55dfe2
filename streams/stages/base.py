"""What a stage is: a plain function from a batch of messages to messages."""

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
    """One event cannot be processed.

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
        """Name under which it is counted."""
        return f"quarantined: {self.reason}"


class Stage(ABC):
    """One step of the flow.

    Args:
        store: galaxy state and counts.
        topics: names of the topics.
        codec: events to bytes and back.
    """

    name: str
    """Name of the stage, of its consumer group and in the ledger."""

    def __init__(self, store: Store, topics: Topics, codec: Codec) -> None:
        self.store = store
        self.topics = topics
        self.codec = codec
        self.metrics = StageMetrics(self.name)
        self.log_start: LogStart = nothing_expires

    @property
    @abstractmethod
    def sources(self) -> Sequence[str]:
        """Topics that it reads."""

    @abstractmethod
    def process(self, batch: Sequence[Received]) -> Processed:
        """Process a batch.

        Raises:
            InfrastructureError: the infrastructure failed; the same batch can be tried again.
        """

    def probe(self) -> None:  # noqa: B027 - most stages need nothing more
        """Look whether what the stage needs besides Kafka and the store is there.

        May be called from another thread than ``process``.

        Raises:
            InfrastructureError: it is away.
        """

    def process_safely(self, batch: Sequence[Received]) -> Iterator[Processed]:
        """Process a batch; an event that makes ``process`` fail costs that event alone.

        Each part has to be sent and finished before the next is asked for: offsets are accounted
        in their order.

        Raises:
            InfrastructureError: the infrastructure failed; the same batch can be tried again.
        """
        try:
            processed = self.process(batch)
        except InfrastructureError:
            raise
        except Exception as error:
            log.exception("%s failed on a batch of %d", self.name, len(batch))
            if len(batch) > 1:
                for event in batch:
                    yield from self.process_safely([event])
                return
            processed = self._set_aside(batch[0], error)
        yield processed

    def log_starts(self, batch: Sequence[Received]) -> dict[Place, int]:
        """Where the logs begin in which offsets are missing before events of a batch.

        Kafka is asked, once for each, and not while the store is written: its other writers would
        wait for the answer.

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
        """What ``decode`` finds in a message.

        Raises:
            RefusedError: it finds nothing, or ``problems`` finds some with it.
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
        """The message that keeps a refused event with the reason.

        An event larger than any event may be is kept up to that size: it can be read whole where
        it came from.
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
        """Quarantine an event that met a fault of this program."""
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
