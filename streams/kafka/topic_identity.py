"""Asks Kafka which Kafka it is and which topics it has: a topic made anew has another id."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from confluent_kafka import KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient

from mmbroker.streams.kafka.client import METADATA_TIMEOUT_S, KafkaUnavailableError
from mmbroker.streams.kafka.refusal import complaint
from mmbroker.streams.settings import KafkaSettings


@dataclass(frozen=True)
class TopicIdentity:
    """What a topic is in Kafka.

    Attributes:
        cluster_id: id of the Kafka.
        topic_id: id that Kafka gave the topic when it was made.
        partitions: number of partitions.
    """

    cluster_id: str
    topic_id: str
    partitions: int


def topic_identities(
    settings: KafkaSettings, topics: Sequence[str], client: AdminClient
) -> dict[str, TopicIdentity]:
    """What topics are in Kafka; those that are not there, or hidden, are left out.

    Raises:
        KafkaUnavailableError: Kafka does not tell.
    """
    try:
        metadata = client.list_topics(timeout=METADATA_TIMEOUT_S)
    except KafkaException as error:
        reason = complaint(settings, error.args[0], "the list of topics")
        raise KafkaUnavailableError(reason) from error
    there = [topic for topic in topics if topic in metadata.topics]
    if not there:
        return {}
    asked = client.describe_topics(TopicCollection(there), request_timeout=METADATA_TIMEOUT_S)
    found = {}
    for topic, future in asked.items():
        try:
            described = future.result()
        except KafkaException as error:
            reason = complaint(settings, error.args[0], f"topic {topic}")
            raise KafkaUnavailableError(reason) from error
        found[topic] = TopicIdentity(
            str(metadata.cluster_id), str(described.topic_id), len(described.partitions)
        )
    return found
