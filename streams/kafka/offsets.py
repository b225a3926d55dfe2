"""Where topics begin and end, and how far a consumer group has read."""

from __future__ import annotations

import time
from contextlib import closing

from confluent_kafka import KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, ListOffsetsResultInfo, OffsetSpec

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


def committed_offsets(settings: KafkaSettings, stage: str, topic: str) -> dict[int, int]:
    """Up to where a stage has acknowledged a topic, by partition; without those it never read.

    Raises:
        KafkaUnavailableError: Kafka does not tell.
    """
    group = consumer_group(settings, stage)
    wanted = [TopicPartition(topic, number) for number in range(partitions_of(settings, topic))]
    deadline = time.monotonic() + METADATA_TIMEOUT_S
    # Not an administration client: where the group's coordinator has just moved, or is not there
    # yet, librdkafka's asks for it by way of a group that it is not in, and ends the process.
    with closing(consumer(settings, group=group)) as client:
        while True:
            try:
                places = client.committed(wanted, timeout=METADATA_TIMEOUT_S)
                return {each.partition: each.offset for each in places if each.offset >= 0}
            except KafkaException as error:
                # A new Kafka first makes the topic in which it keeps the offsets.
                if error.args[0].code() not in WITHOUT_COORDINATOR or time.monotonic() > deadline:
                    reason = complaint(settings, error.args[0], f"consumer group {group}")
                    raise KafkaUnavailableError(reason) from error
            time.sleep(RETRY_PAUSE_S)


def first_offset(settings: KafkaSettings, topic: str, partition: int, start: int) -> int | None:
    """The offset of the first message at or after one; None when there is none yet.

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
            if error is None:
                return message.offset()
            if error.code() == KafkaError._PARTITION_EOF:
                return None
            if not error.retriable():
                raise KafkaUnavailableError(complaint(settings, error, f"topic {topic}"))
    raise KafkaUnavailableError(f"topic {topic}: no answer within {METADATA_TIMEOUT_S:g} s")


WITHOUT_LEADER = (
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.UNKNOWN_TOPIC_OR_PART,
)
LEADER_PAUSE_S = 0.1


def end_offsets(
    settings: Settings, topic: str, client: AdminClient | None = None
) -> dict[int, int]:
    """The offset after the last message of every partition; empty for a missing topic.

    Args:
        settings: how to reach Kafka.
        topic: name of the topic.
        client: asks; by default a client of its own.

    Raises:
        KafkaUnavailableError: Kafka cannot be reached, or hides the topic from the user.
    """
    return _offsets(settings, topic, OffsetSpec.latest(), client)  # type: ignore[no-untyped-call]


def start_offsets(
    settings: Settings, topic: str, client: AdminClient | None = None
) -> dict[int, int]:
    """Where the log of every partition begins: what was before, Kafka has deleted.

    Compaction and the markers of transactions leave gaps in the log, but not before its beginning.
    Arguments and errors as of ``end_offsets``.
    """
    return _offsets(settings, topic, OffsetSpec.earliest(), client)  # type: ignore[no-untyped-call]


def newest_timestamp(settings: Settings, topic: str) -> float:
    """Unix time in s of the newest message of a topic; 0 of an empty one.

    Arguments and errors as of ``end_offsets``.
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
            # The partitions of a new topic, or after a broker's restart, have no leader at first.
            if error.args[0].code() not in WITHOUT_LEADER or time.monotonic() > deadline:
                raise KafkaUnavailableError(f"{topic}: {error.args[0].str()}") from error
        time.sleep(LEADER_PAUSE_S)
