"""Has every galaxy scored again, with the models and the calibrations in force.

The stage score-galaxies needs only fingerprints. So it reads their compacted topic again from the
beginning. The ledger stays as it is, because a fingerprint is counted only once.
"""

from __future__ import annotations

import time
from concurrent.futures import Future

from confluent_kafka import ConsumerGroupTopicPartitions, KafkaError, KafkaException, TopicPartition

from mmbroker.streams.errors import InfrastructureError
from mmbroker.streams.kafka.client import KafkaUnavailableError, admin, consumer_group
from mmbroker.streams.kafka.offsets import end_offsets, start_offsets
from mmbroker.streams.kafka.refusal import complaint
from mmbroker.streams.names import SCORE_GALAXIES
from mmbroker.streams.running.supervise import only_one
from mmbroker.streams.settings import Settings

STILL_READ = (
    KafkaError.UNKNOWN_MEMBER_ID,
    KafkaError.NON_EMPTY_GROUP,
    KafkaError.ILLEGAL_GENERATION,
)
"""Errors that mean that the consumer group still has members."""

PAUSE_S = 1.0
_THEN = "and start again after this command"


def rescore(settings: Settings) -> int:
    """Let score-galaxies begin again at the first fingerprint that Kafka has.

    Returns:
        The number of offsets that it will read; compaction may have left fewer fingerprints.

    Raises:
        KafkaUnavailableError: Kafka cannot be reached, or refuses.
        InfrastructureError: the stage runs.
    """
    with only_one(settings, f"stop them, {_THEN}"):
        return _read_again(settings)


def _read_again(settings: Settings) -> int:
    topic, kafka = settings.topics.fingerprints, settings.kafka
    group = consumer_group(kafka, SCORE_GALAXIES)
    starts = start_offsets(settings, topic)
    places = [TopicPartition(topic, partition, start) for partition, start in starts.items()]
    client = admin(kafka)  # kept in a variable: a client that is collected cancels its requests
    # After a process has stopped, Kafka keeps it as a member until its session ends.
    deadline = time.monotonic() + settings.stage.session_timeout_s + 5
    while True:
        asked = client.alter_consumer_group_offsets([ConsumerGroupTopicPartitions(group, places)])
        refused = _refusal(asked[group])
        if refused is None:
            ends = end_offsets(settings, topic)
            return sum(ends[partition] - start for partition, start in starts.items())
        if refused.code() not in STILL_READ:
            raise KafkaUnavailableError(complaint(kafka, refused, f"consumer group {group}"))
        if time.monotonic() > deadline:
            raise InfrastructureError(
                f"{SCORE_GALAXIES} runs (consumer group {group} has members): stop it, {_THEN}"
            )
        time.sleep(PAUSE_S)


def _refusal(asked: Future[ConsumerGroupTopicPartitions]) -> KafkaError | None:
    """The error with which Kafka refused the request or a partition of it; None if it did not."""
    try:
        places = asked.result().topic_partitions or []
    except KafkaException as error:
        refused: KafkaError = error.args[0]
        return refused
    return next((place.error for place in places if place.error is not None), None)
