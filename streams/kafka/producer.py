"""Sends messages to Kafka and waits until Kafka has acknowledged them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from mmbroker.streams.kafka.client import RECONNECT_MS, KafkaUnavailableError, log
from mmbroker.streams.kafka.refusal import complaint, refusal
from mmbroker.streams.settings import KafkaSettings
from mmbroker.streams.stages.messages import Outgoing
from mmbroker.streams.topics import LARGEST_MESSAGE_BYTES

OF_THE_MESSAGE = (
    KafkaError.MSG_SIZE_TOO_LARGE,
    KafkaError.INVALID_MSG_SIZE,
    KafkaError.RECORD_LIST_TOO_LARGE,
    KafkaError.INVALID_RECORD,
    KafkaError.INVALID_TIMESTAMP,
)
"""Errors with which Kafka, or its client, refuses what was sent, and will refuse it again."""

Failures = list[tuple[Outgoing, KafkaError]]
"""Messages that were not delivered, each with the reason."""


@dataclass(frozen=True)
class Unsendable:
    """A message that Kafka refuses for what it is, however often it is sent.

    Attributes:
        message: the message.
        reason: why it is refused.
    """

    message: Outgoing
    reason: str


class DurableProducer:
    """Sends batches of messages; a batch is durable in Kafka when ``send`` returns.

    Args:
        settings: how to reach Kafka.
    """

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._producer: Producer | None = None

    def send(self, messages: Sequence[Outgoing]) -> list[Unsendable]:
        """Send messages; Kafka has acknowledged all but the unsendable ones when this returns.

        Returns:
            The messages that Kafka refuses for what they are, for instance for their size.

        Raises:
            KafkaUnavailableError: some were not acknowledged. All may be sent again.
        """
        failures = self._attempt(messages)
        # Kafka refuses a batch of messages as a whole: each has to be tried for itself.
        if failures:
            failures = self._attempt([message for message, _ in failures], alone=True)
        return [Unsendable(message, error.str()) for message, error in failures]

    def _attempt(self, messages: Sequence[Outgoing], alone: bool = False) -> Failures:
        """Send messages once.

        Args:
            messages: the messages.
            alone: send each in a batch of its own.

        Returns:
            Those that were refused for what they, or others of their batches, are.

        Raises:
            KafkaUnavailableError: some were not acknowledged for another reason.
        """
        failures: Failures = []
        producer = self._connected(alone)
        try:
            for message in messages:
                _produce(producer, message, failures)
            waiting = producer.flush(self._settings.delivery_timeout_s)
        except KafkaException as error:
            self._producer = None
            raise KafkaUnavailableError(f"Kafka: {error.args[0].str()}") from error
        if not failures and not waiting:
            return []
        # After a failure an idempotent producer may refuse everything: make a new one.
        self._producer = None
        passing = [each for each in failures if each[1].code() not in OF_THE_MESSAGE]
        if passing or waiting:
            raise self._unavailable(passing, waiting)
        reasons = {id(message): error for message, error in failures}
        return [(each, reasons[id(each)]) for each in messages if id(each) in reasons]

    def _unavailable(self, failures: Failures, waiting: int) -> KafkaUnavailableError:
        reason = f"no answer within {self._settings.delivery_timeout_s:g} s"
        if failures:
            message, error = failures[0]
            reason = complaint(self._settings, error, f"topic {message.topic}")
        return KafkaUnavailableError(
            f"Kafka did not take all messages ({len(failures) + waiting} missing): "
            f"{refusal(self._settings) or reason}"
        )

    def _connected(self, alone: bool) -> Producer:
        if alone:
            # Not idempotent: then a refusal holds up no other message.
            return self._made(**{"batch.num.messages": 1, "enable.idempotence": False})
        if self._producer is None:
            self._producer = self._made()
        return self._producer

    def _made(self, **options: Any) -> Producer:
        return Producer(
            {
                **self._settings.client(),
                "enable.idempotence": True,
                "compression.type": "lz4",
                "linger.ms": 5,
                "delivery.report.only.error": True,
                "message.max.bytes": LARGEST_MESSAGE_BYTES,
                "message.timeout.ms": int(self._settings.delivery_timeout_s * 1000),
                "reconnect.backoff.max.ms": RECONNECT_MS,
                "logger": log,
                **options,
            }
        )


def _produce(producer: Producer, message: Outgoing, failures: Failures) -> None:
    """Queue a message; if it is not delivered, it is added to the failures later, or at once."""
    headers: Any = list(message.headers.items())
    on_delivery = partial(_on_delivery, failures, message)
    while True:
        try:
            producer.produce(
                message.topic, message.value, message.key, headers=headers, on_delivery=on_delivery
            )
        except BufferError:
            producer.poll(0.1)  # the queue is full: let it drain
        except KafkaException as error:
            if error.args[0].code() not in OF_THE_MESSAGE:
                raise
            failures.append((message, error.args[0]))
            return
        else:
            return


def _on_delivery(
    failures: Failures, message: Outgoing, error: KafkaError | None, _: Message
) -> None:
    if error is not None:
        failures.append((message, error))
