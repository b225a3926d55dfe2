"""Sends messages to Kafka and waits until Kafka has acknowledged them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from mmbroker.streams.kafka.client import RECONNECT_MS, KafkaUnavailableError, log
from mmbroker.streams.kafka.refusal import complaint, refusal
from mmbroker.streams.settings import KafkaSettings
from mmbroker.streams.stages.messages import Outgoing
from mmbroker.streams.topics import LARGEST_MESSAGE_BYTES


class DurableProducer:
    """Sends batches of messages; a batch is durable in Kafka when ``send`` returns.

    Args:
        settings: how to reach Kafka.
    """

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._producer: Producer | None = None

    def send(self, messages: Iterable[Outgoing]) -> None:
        """Send messages; all of them are acknowledged by Kafka when this returns.

        Raises:
            KafkaUnavailableError: some were not acknowledged. All may be sent again.
        """
        failures: list[str] = []

        def on_delivery(error: KafkaError | None, message: Message) -> None:
            if error is not None:
                failures.append(complaint(self._settings, error, f"topic {message.topic()}"))

        try:
            producer = self._connected()
            for message in messages:
                _produce(producer, message, on_delivery)
            waiting = producer.flush(self._settings.delivery_timeout_s)
        except KafkaException as error:
            self._producer = None
            raise KafkaUnavailableError(f"Kafka: {error.args[0].str()}") from error
        if failures or waiting:
            # After a failure an idempotent producer may refuse everything: make a new one.
            self._producer = None
            timeout_s = self._settings.delivery_timeout_s
            reason = failures[0] if failures else f"no answer within {timeout_s:g} s"
            reason = refusal(self._settings) or reason
            raise KafkaUnavailableError(
                f"Kafka did not take all messages ({len(failures) + waiting} missing): {reason}"
            )

    def _connected(self) -> Producer:
        if self._producer is None:
            self._producer = Producer(
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
                }
            )
        return self._producer


def _produce(producer: Producer, message: Outgoing, on_delivery: Any) -> None:
    headers: Any = list(message.headers.items())
    while True:
        try:
            producer.produce(
                message.topic, message.value, message.key, headers=headers, on_delivery=on_delivery
            )
        except BufferError:
            producer.poll(0.1)  # the queue is full: let it drain
        else:
            return
