"""Asks Kafka where topics begin and end, and how far a consumer group has read."""

from __future__ import annotations

import time
from concurrent.futures import Future
from contextlib import closing

from confluent_kafka import (
    ConsumerGroupTopicPartitions,
    KafkaError,
    KafkaException,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, ListOffsetsResultInfo, OffsetSpec

from mmbroker.streams.errors import InfrastructureError
from mmbroker.streams.kafka.client import (
    METADATA_TIMEOUT_S,
    RETRY_PAUSE_S,
    KafkaUnavailableError,
    admin,
    consumer,
    consumer_group,
    existing_topics,
    hidden_topics,
    partitions_of,
)
from mmbroker.streams.kafka.refusal import complaint, not_allowed
from mmbroker.streams.settings import KafkaSettings, Settings

WITHOUT_COORDINATOR = (
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.NOT_COORDINATOR,
)
"""Errors of a Kafka that has no coordinator for the group yet; they pass."""

WITHOUT_LEADER = (
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError.UNKNOWN_LEADER_EPOCH,
    KafkaError.FENCED_LEADER_EPOCH,
)
"""Errors of a Kafka that has no leader for a partition yet; they pass."""

LEADER_PAUSE_S = 0.1

STILL_READ = (
    KafkaError.UNKNOWN_MEMBER_ID,
    KafkaError.NON_EMPTY_GROUP,
    KafkaError.ILLEGAL_GENERATION,
)
"""Errors that mean that the consumer group still has members."""

MEMBERS_PAUSE_S = 1.0

UNREADABLE = (KafkaError._BAD_COMPRESSION, KafkaError._BAD_MSG, KafkaError._NOT_IMPLEMENTED)
"""Errors of a client that cannot unpack a batch of messages: it tries again for ever."""


def committed_offsets(settings: KafkaSettings, stage: str, topic: str) -> dict[int, int]:
    """How far a stage has acknowledged a topic.

    Returns:
        The offset after the last acknowledged event, by partition; partitions of which nothing was
        acknowledged are left out.

    Raises:
        KafkaUnavailableError: Kafka does not tell.
    """
    return {each.partition: each.offset for each in committed_places(settings, stage, topic)}


def committed_places(settings: KafkaSettings, stage: str, topic: str) -> list[TopicPartition]:
    """The offsets that a stage has acknowledged, with the text that it left beside each.

    Partitions of which nothing was acknowledged are left out.

    Raises:
        KafkaUnavailableError: Kafka does not tell.
    """
    group = consumer_group(settings, stage)
    wanted = [TopicPartition(topic, number) for number in range(partitions_of(settings, topic))]
    deadline = time.monotonic() + METADATA_TIMEOUT_S
    # A consumer and no administration client: while the group's coordinator moves or does not exist
    # yet, librdkafka's administration client uses a group that it does not have, and the process
    # crashes.
    with closing(consumer(settings, group=group)) as client:
        while True:
            try:
                places = client.committed(wanted, timeout=METADATA_TIMEOUT_S)
                return [each for each in places if each.offset >= 0]
            except KafkaException as error:
                # A new Kafka first has to make the topic in which it keeps the offsets.
                if error.args[0].code() not in WITHOUT_COORDINATOR or time.monotonic() > deadline:
                    reason = complaint(settings, error.args[0], f"consumer group {group}")
                    raise KafkaUnavailableError(reason) from error
            time.sleep(RETRY_PAUSE_S)


def move_committed(settings: Settings, stage: str, places: list[TopicPartition]) -> None:
    """Set the offsets from which a stage goes on when it is started.

    Raises:
        KafkaUnavailableError: Kafka cannot be reached, or refuses.
        InfrastructureError: the stage runs.
    """
    kafka = settings.kafka
    group = consumer_group(kafka, stage)
    client = admin(kafka)  # kept in a variable: a client that is collected cancels its requests
    # After a process has stopped, Kafka keeps it as a member until its session ends.
    deadline = time.monotonic() + settings.stage.session_timeout_s + 5
    while True:
        asked = client.alter_consumer_group_offsets([ConsumerGroupTopicPartitions(group, places)])
        refused = _refusal(asked[group])
        if refused is None:
            return
        passes = refused.code() in WITHOUT_COORDINATOR and time.monotonic() < deadline
        if not passes and refused.code() not in STILL_READ:
            raise KafkaUnavailableError(complaint(kafka, refused, f"consumer group {group}"))
        if time.monotonic() > deadline:
            raise InfrastructureError(
                f"{stage} runs (consumer group {group} has members): stop it, then start it again "
                "after this command"
            )
        time.sleep(MEMBERS_PAUSE_S)


def _refusal(asked: Future[ConsumerGroupTopicPartitions]) -> KafkaError | None:
    """The error with which Kafka refused the request or a partition of it; None if it did not."""
    try:
        places = asked.result().topic_partitions or []
    except KafkaException as error:
        refused: KafkaError = error.args[0]
        return refused
    return next((place.error for place in places if place.error is not None), None)


def first_offset(settings: KafkaSettings, topic: str, partition: int, start: int) -> int | None:
    """The offset of the first message of a partition at or after ``start``; None without one.

    Raises:
        KafkaUnavailableError: Kafka does not tell.
    """
    deadline = time.monotonic() + METADATA_TIMEOUT_S
    with closing(consumer(settings, fetch_wait_max_ms=50)) as reader:
        reader.assign([TopicPartition(topic, partition, start)])
        while time.monotonic() < deadline:
            message = reader.poll(RETRY_PAUSE_S)
            if message is None:
                continue
            error = message.error()
            if error is None or is_unreadable(error):
                return max(message.offset() or 0, start)
            if error.code() == KafkaError._PARTITION_EOF:
                return None
            if not error.retriable():
                raise KafkaUnavailableError(complaint(settings, error, f"topic {topic}"))
    raise KafkaUnavailableError(f"topic {topic}: no answer within {METADATA_TIMEOUT_S:g} s")


def is_unreadable(error: KafkaError | None) -> bool:
    """Whether an error says that a batch of messages cannot be unpacked by the client."""
    return error is not None and error.code() in UNREADABLE


def end_offsets(
    settings: Settings, topic: str, client: AdminClient | None = None
) -> dict[int, int]:
    """The offset after the last message of every partition; empty for a missing topic.

    Args:
        settings: how to reach Kafka.
        topic: name of the topic.
        client: asks Kafka; by default a new client.

    Raises:
        KafkaUnavailableError: Kafka cannot be reached, or hides the topic from the user.
    """
    return _offsets(settings, topic, OffsetSpec.latest(), client)  # type: ignore[no-untyped-call]


def start_offsets(
    settings: Settings, topic: str, client: AdminClient | None = None
) -> dict[int, int]:
    """The offset at which the log of every partition begins; Kafka has deleted what was before.

    Compaction and the markers of transactions also leave gaps, but these are after the beginning.
    Arguments and errors are those of ``end_offsets``.
    """
    return _offsets(settings, topic, OffsetSpec.earliest(), client)  # type: ignore[no-untyped-call]


def newest_timestamp(settings: Settings, topic: str) -> float:
    """Unix time in s of the newest message of a topic; 0 if the topic is empty.

    Raises:
        KafkaUnavailableError: Kafka cannot be reached, or hides the topic from the user.
    """
    which = OffsetSpec.max_timestamp()  # type: ignore[no-untyped-call]
    found = _listed(settings, topic, which, None).values()
    return max((each.timestamp for each in found), default=0) / 1000


def _offsets(
    settings: Settings, topic: str, which: OffsetSpec, client: AdminClient | None
) -> dict[int, int]:
    listed = _listed(settings, topic, which, client)
    return {partition: each.offset for partition, each in listed.items()}


def _listed(
    settings: Settings, topic: str, which: OffsetSpec, client: AdminClient | None
) -> dict[int, ListOffsetsResultInfo]:
    client = admin(settings.kafka) if client is None else client
    partitions = existing_topics(settings.kafka, client).get(topic, 0)
    if not partitions and hidden_topics(settings.kafka, [topic]):
        raise KafkaUnavailableError(not_allowed(settings.kafka, f"topic {topic}"))
    wanted = {TopicPartition(topic, number): which for number in range(partitions)}
    if not wanted:
        return {}
    deadline = time.monotonic() + METADATA_TIMEOUT_S
    while True:
        try:
            futures = client.list_offsets(wanted, request_timeout=METADATA_TIMEOUT_S)
            return {place.partition: future.result() for place, future in futures.items()}
        except KafkaException as error:
            # After a topic is made or Kafka restarts, partitions have no leader for a moment.
            if error.args[0].code() not in WITHOUT_LEADER or time.monotonic() > deadline:
                raise KafkaUnavailableError(f"{topic}: {error.args[0].str()}") from error
        time.sleep(LEADER_PAUSE_S)
