"""Makes clients of Kafka, creates topics, and says what exists and what is allowed."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from contextlib import closing
from typing import Any, TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException
from confluent_kafka.admin import AclOperation, AdminClient, ConfigResource, NewTopic, ResourceType

from mmbroker.streams.errors import InfrastructureError
from mmbroker.streams.kafka.refusal import (
    complaint,
    nobody_listens,
    not_allowed,
    refusal,
    tls_context,
)
from mmbroker.streams.settings import KafkaSettings, SettingsError
from mmbroker.streams.topics import LARGEST_MESSAGE_BYTES, Topic

log = logging.getLogger(__name__)

Client = TypeVar("Client", Consumer, AdminClient)

UNPACKED_BYTES = 4 * LARGEST_MESSAGE_BYTES
"""How large a batch of messages that is compressed with zstd may become. What becomes larger cannot
be unpacked. librdkafka tries three times as much each time, so the largest message needs this. All
consumers have the same bound: they have to agree on what cannot be unpacked."""

METADATA_TIMEOUT_S = 10.0
RETRY_PAUSE_S = 0.2
RECONNECT_MS = 1000
"""Longest pause before a client connects again. With librdkafka's default of 10 s, a client could
wait that long although Kafka is back."""
PROMPT_S = 1.0
"""After this time without an answer, we look for the reason and log what we wait for."""


class KafkaUnavailableError(InfrastructureError):
    """Kafka did not take a message or did not answer a request; the text says why."""


def consumer(settings: KafkaSettings, group: str | None = None, **options: Any) -> Consumer:
    """A consumer that commits offsets only when it is told to.

    Args:
        settings: how to reach Kafka.
        group: consumer group; by default the name of the user, or ``mmbroker-reader``.
        options: further librdkafka options, with ``_`` for ``.``.

    Raises:
        SettingsError: a setting is wrong.
    """
    config = {**consumer_config(settings, group, **options), "logger": log}
    return _configured(Consumer, settings, config)


def consumer_config(
    settings: KafkaSettings, group: str | None = None, **options: Any
) -> dict[str, Any]:
    """The configuration of a consumer; arguments and errors are those of ``consumer``."""
    return {
        **settings.client(),
        # Readers commit nothing, but Kafka still checks whether the user may use the group. Users
        # are commonly allowed groups that begin with their own name.
        "group.id": group or settings.sasl_username or "mmbroker-reader",
        "enable.auto.commit": False,
        "auto.offset.reset": "earliest",
        "fetch.queue.backoff.ms": 10,
        "fetch.max.bytes": LARGEST_MESSAGE_BYTES,
        "receive.message.max.bytes": UNPACKED_BYTES,
        "enable.partition.eof": True,
        "reconnect.backoff.max.ms": RECONNECT_MS,
        **{name.replace("_", "."): value for name, value in options.items()},
    }


def admin(settings: KafkaSettings) -> AdminClient:
    """An administration client.

    Raises:
        SettingsError: a setting is wrong.
    """
    return _configured(AdminClient, settings, {**settings.client(), "logger": log})


def _configured(client: type[Client], settings: KafkaSettings, config: dict[str, Any]) -> Client:
    try:
        return client(config)
    except KafkaException as error:
        if settings.security_protocol.endswith("SSL"):
            tls_context(settings)  # its error says which file is wrong
        raise SettingsError(f"kafka: {error.args[0].str()}") from error


def existing_topics(
    settings: KafkaSettings, client: Consumer | AdminClient | None = None
) -> dict[str, int]:
    """Number of partitions of every topic.

    Args:
        settings: how to reach Kafka.
        client: asks Kafka; by default a new client. A consumer that has asked is connected, so that
            its first messages come sooner.

    Raises:
        KafkaUnavailableError: Kafka cannot be reached. For a local stack that does not run this is
            raised after about a second, for another Kafka after ``METADATA_TIMEOUT_S``.
    """
    asked = admin(settings) if client is None else client
    try:
        metadata = asked.list_topics(timeout=PROMPT_S)
    except KafkaException:
        if reason := refusal(settings):
            raise KafkaUnavailableError(reason) from None
        place = f"kafka.bootstrap_servers = {settings.bootstrap_servers}"
        if nobody_listens(settings) and (reason := settings.absent_stack):
            raise KafkaUnavailableError(f"{place}: Kafka cannot be reached: {reason}") from None
        log.info("%s: waiting for an answer", place)
        try:
            metadata = asked.list_topics(timeout=METADATA_TIMEOUT_S - PROMPT_S)
        except KafkaException as error:
            raise KafkaUnavailableError(
                f"{place}: Kafka cannot be reached: {error.args[0].str()}"
            ) from error
    return {name: len(topic.partitions) for name, topic in metadata.topics.items()}


def partitions_of(
    settings: KafkaSettings, topic: str, client: Consumer | AdminClient | None = None
) -> int:
    """Number of partitions of a topic.

    Args:
        settings: how to reach Kafka.
        topic: name of the topic.
        client: as for ``existing_topics``.

    Raises:
        KafkaUnavailableError: Kafka cannot be reached, there is no such topic, or the user has no
            permission to see it.
    """
    count = existing_topics(settings, client).get(topic)
    if count is None:
        raise KafkaUnavailableError(why_missing(settings, [topic])[topic])
    return count


def why_missing(settings: KafkaSettings, topics: Iterable[str]) -> dict[str, str]:
    """Why topics are not among the existing ones, and what to do; by topic.

    Raises:
        KafkaUnavailableError: Kafka cannot be reached.
    """
    topics = list(topics)
    hidden = hidden_topics(settings, topics)
    return {
        name: not_allowed(settings, f"topic {name}")
        if name in hidden
        else f"there is no topic {name} on {settings.bootstrap_servers}; "
        "create it with: mmbroker check --create-topics"
        for name in topics
    }


def hidden_topics(settings: KafkaSettings, topics: Iterable[str]) -> set[str]:
    """Those of the given topics that the user has no permission to see.

    Raises:
        KafkaUnavailableError: Kafka cannot be reached.
    """
    # Unlike other clients, a consumer does not create a topic by asking for it.
    with closing(consumer(settings)) as reader:
        try:
            errors = {
                name: reader.list_topics(name, timeout=METADATA_TIMEOUT_S).topics[name].error
                for name in topics
            }
        except KafkaException as error:
            raise KafkaUnavailableError(f"Kafka: {error.args[0].str()}") from error
    return {
        name
        for name, error in errors.items()
        if error is not None and error.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED
    }


def require_group(settings: KafkaSettings, group: str) -> None:
    """Make sure that the user may be a member of a consumer group.

    Raises:
        KafkaUnavailableError: the user may not.
    """
    client = admin(settings)  # kept in a variable: a client that is collected cancels its requests
    asked = client.describe_consumer_groups(
        [group], include_authorized_operations=True, request_timeout=METADATA_TIMEOUT_S
    )
    try:
        allowed = asked[group].result().authorized_operations
    except KafkaException as error:
        if error.args[0].code() == KafkaError.GROUP_AUTHORIZATION_FAILED:
            allowed = []
        else:
            return  # Kafka is not ready for groups yet, or there is no such group
    if allowed is not None and AclOperation.READ not in allowed:
        raise KafkaUnavailableError(not_allowed(settings, f"consumer group {group}"))


def consumer_group(settings: KafkaSettings, stage: str) -> str:
    """Name of the consumer group of a stage."""
    return f"{settings.topic_prefix}.{stage}"


def create_topics(settings: KafkaSettings, topics: Iterable[Topic]) -> list[str]:
    """Create the topics that are missing.

    Returns:
        The names of the topics that were missing.

    Raises:
        KafkaUnavailableError: Kafka cannot be reached or refuses.
    """
    existing = existing_topics(settings)
    missing = [
        NewTopic(
            topic.name,
            num_partitions=topic.partitions or settings.partitions,
            replication_factor=settings.replication_factor,
            config=topic.config,
        )
        for topic in topics
        if topic.name not in existing
    ]
    if not missing:
        return []
    client = admin(settings)  # kept in a variable: a client that is collected cancels its requests
    for name, future in client.create_topics(missing).items():
        try:
            future.result()
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                reason = complaint(settings, error.args[0], f"creating topic {name}")
                raise KafkaUnavailableError(reason) from error
    return [topic.topic for topic in missing]


def topic_config(settings: KafkaSettings, name: str) -> dict[str, str]:
    """The configuration of a topic that is in force in Kafka.

    Raises:
        KafkaUnavailableError: Kafka does not tell.
    """
    resource = ConfigResource(ResourceType.TOPIC, name)
    client = admin(settings)  # kept in a variable: a client that is collected cancels its requests
    future = client.describe_configs([resource])[resource]
    try:
        return {key: entry.value for key, entry in future.result().items()}
    except KafkaException as error:
        reason = complaint(settings, error.args[0], f"the configuration of topic {name}")
        raise KafkaUnavailableError(reason) from error
