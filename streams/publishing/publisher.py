"""Publishes observations from a program, for example from a survey's pipeline.

from mmbroker import Publisher

with Publisher() as publisher:
    publisher.send(observation)
"""

from __future__ import annotations

import logging
from types import TracebackType
from typing import Any, Self

from confluent_kafka import KafkaError, Message, Producer

from mmbroker.processors.validation import InvalidObservation, problems
from mmbroker.schemas.codec import Framing
from mmbroker.schemas.events import Observation
from mmbroker.streams.errors import InfrastructureError
from mmbroker.streams.kafka.client import RECONNECT_MS, KafkaUnavailableError, partitions_of
from mmbroker.streams.kafka.refusal import complaint
from mmbroker.streams.kafka.registry import make_codec
from mmbroker.streams.local_stack import load_settings
from mmbroker.streams.settings import Settings
from mmbroker.streams.topics import LARGEST_MESSAGE_BYTES, observation_key

log = logging.getLogger(__name__)

_PRODUCER_CONFIG: dict[str, Any] = {
    "enable.idempotence": True,
    "compression.type": "lz4",
    "linger.ms": 10,
    "message.max.bytes": LARGEST_MESSAGE_BYTES,
    "delivery.timeout.ms": 120_000,
    "reconnect.backoff.max.ms": RECONNECT_MS,
}
_ERRORS_SHOWN = 5


class PublishingError(InfrastructureError):
    """Kafka cannot be reached, or did not take some of the observations."""


class Publisher:
    """Validates observations and sends them to the broker.

    ``flush`` waits until everything is delivered; the end of a ``with`` block calls it. Until then
    an observation may still be on its way. If something failed, simply send it again: an
    observation that arrives twice changes nothing.

    Args:
        settings: the settings; by default those of ``load_settings``.
        framing: framing of the messages.

    Raises:
        PublishingError: Kafka cannot be reached, or has no topic for observations.
        InfrastructureError: a schema registry is configured and cannot be reached.
    """

    def __init__(self, settings: Settings | None = None, framing: Framing = "confluent") -> None:
        settings = settings or load_settings()
        self._topic = settings.topics.observations
        self._codec = make_codec(settings)
        self._framing = framing
        self._undelivered: list[str] = []
        self._undelivered_count = 0
        self._kafka = settings.kafka
        try:
            partitions_of(settings.kafka, self._topic)
        except KafkaUnavailableError as error:
            raise PublishingError(str(error)) from None  # which says all of it
        self._producer = Producer(settings.kafka.client() | _PRODUCER_CONFIG | {"logger": log})

    def send(self, observation: Observation) -> None:
        """Validate an observation and queue it for delivery; wait only while the queue is full.

        Raises:
            InvalidObservation: it breaks a rule; the message names each field and value.
        """
        if broken := problems(observation):
            raise InvalidObservation(observation.observation_id, broken)
        self.send_unchecked(observation, observation_key(observation))

    def send_unchecked(self, observation: Observation, key: bytes | None = None) -> None:
        """Queue an observation without validating it.

        Use this if it was validated before, or if the broker is meant to refuse it.
        """
        self.send_encoded(self._codec.encode(observation, self._framing), key)

    def send_encoded(self, message: bytes, key: bytes | None = None) -> None:
        """Queue a message of any bytes."""
        while True:
            try:
                self._producer.produce(self._topic, message, key, on_delivery=self._delivered)
                break
            except BufferError:
                self._producer.poll(0.1)
        self._producer.poll(0)

    def flush(self) -> None:
        """Wait until everything is delivered.

        Raises:
            PublishingError: some observations were not delivered; the message says why.
        """
        self._producer.flush()
        if self._undelivered_count:
            count, reasons = self._undelivered_count, "; ".join(self._undelivered)
            self._undelivered, self._undelivered_count = [], 0
            raise PublishingError(f"{count} observations were not delivered: {reasons}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self.flush()
        except PublishingError as undelivered:
            if error is None:
                raise
            error.add_note(str(undelivered))

    def _delivered(self, error: KafkaError | None, message: Message) -> None:
        if error is None:
            return
        self._undelivered_count += 1
        if len(self._undelivered) < _ERRORS_SHOWN:
            self._undelivered.append(complaint(self._kafka, error, f"key {message.key()!r}"))
