"""The confluent-kafka client: producing durably, topics, one-off consumers."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, ResourceType

from .errors import InfrastructureError
from .messages import Outgoing
from .settings import KafkaSettings
from .topics import Topic

log = logging.getLogger(__name__)

FLUSH_TIMEOUT_S = 30.0
METADATA_TIMEOUT_S = 10.0


class KafkaUnavailableError(InfrastructureError):
    """Kafka did not take or answer what it was sent; the message says why."""


class DurableProducer:
    """Sends batches and returns when they are durable.

    Args:
        settings: how to reach Kafka.
    """

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._producer: Producer | None = None

    def send(self, messages: Iterable[Outgoing]) -> None:
        """Send messages; all of them are acknowledged by Kafka when this returns.

        Raises:
            KafkaUnavailableError: some were not. All may be sent again.
        """
        failures: list[str] = []

        def on_delivery(error: KafkaError | None, message: Message) -> None:
            if error is not None:
                failures.append(f"{message.topic()}: {error.str()}")

        try:
            producer = self._connected()
            for message in messages:
                _produce(producer, message, on_delivery)
            waiting = producer.flush(FLUSH_TIMEOUT_S)
        except KafkaException as error:
            self._producer = None
            raise KafkaUnavailableError(f"Kafka: {error.args[0].str()}") from error
        if failures or waiting:
            # An idempotent producer that failed once may refuse everything after: start afresh.
            self._producer = None
            reason = failures[0] if failures else f"no answer within {FLUSH_TIMEOUT_S:g} s"
            raise KafkaUnavailableError(
                f"Kafka took not all messages ({len(failures) + waiting} missing): {reason}"
            )

    def _connected(self) -> Producer:
        if self._producer is None:
            self._producer = Producer(
                {
                    **self._settings.client(),
                    "enable.idempotence": True,
                    "compression.type": "lz4",
                    "linger.ms": 5,
                    "message.max.bytes": 16 * 2**20,
                    "message.timeout.ms": int(FLUSH_TIMEOUT_S * 1000),
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
            producer.poll(0)
            return


def consumer(settings: KafkaSettings, group: str | None = None, **options: Any) -> Consumer:
    """A consumer for reading along: it commits nothing.

    Args:
        settings: how to reach Kafka.
        group: consumer group; a name of its own by default.
        options: further librdkafka options, with ``_`` for ``.``.
    """
    return Consumer(
        {
            **settings.client(),
            "group.id": group or "mmbroker-reader",
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "fetch.queue.backoff.ms": 10,
            "enable.partition.eof": True,
            "logger": log,
            **{name.replace("_", "."): value for name, value in options.items()},
        }
    )


def admin(settings: KafkaSettings) -> AdminClient:
    """An administration client."""
    return AdminClient(settings.client())


def existing_topics(settings: KafkaSettings) -> dict[str, int]:
    """Number of partitions of every topic.

    Raises:
        KafkaUnavailableError: Kafka cannot be reached.
    """
    try:
        metadata = admin(settings).list_topics(timeout=METADATA_TIMEOUT_S)
    except KafkaException as error:
        raise KafkaUnavailableError(
            f"Kafka at {settings.bootstrap_servers} cannot be reached: {error.args[0].str()}"
        ) from error
    return {name: len(topic.partitions) for name, topic in metadata.topics.items()}


def create_topics(settings: KafkaSettings, topics: Iterable[Topic]) -> list[str]:
    """Create the topics that are missing; their names.

    Raises:
        KafkaUnavailableError: Kafka cannot be reached or refuses.
    """
    existing = existing_topics(settings)
    missing = [
        NewTopic(
            topic.name,
            num_partitions=topic.partitions or settings.partitions,
            replication_factor=settings.replication_factor,
            config={**topic.config, "max.message.bytes": str(16 * 2**20)},
        )
        for topic in topics
        if topic.name not in existing
    ]
    if not missing:
        return []
    client = admin(settings)  # a client that is collected cancels what it was asked
    for name, future in client.create_topics(missing).items():
        try:
            future.result()
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise KafkaUnavailableError(
                    f"topic {name} cannot be created: {error.args[0].str()}"
                ) from error
    return [topic.topic for topic in missing]


def topic_config(settings: KafkaSettings, name: str) -> dict[str, str]:
    """The configuration that Kafka has in force for a topic."""
    resource = ConfigResource(ResourceType.TOPIC, name)
    client = admin(settings)  # a client that is collected cancels what it was asked
    future = client.describe_configs([resource])[resource]
    return {key: entry.value for key, entry in future.result().items()}
