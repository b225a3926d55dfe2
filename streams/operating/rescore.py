"""Has every galaxy scored again, with the model and the calibration in force.

The stage that scores holds no galaxy state: it reads the compacted topic of fingerprints again from
its beginning. What is known of the ledger stays as it is, a fingerprint is counted once.
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
from mmbroker.streams.settings import Settings

STILL_READ = (
    KafkaError.UNKNOWN_MEMBER_ID,
    KafkaError.NON_EMPTY_GROUP,
    KafkaError.ILLEGAL_GENERATION,
)
PAUSE_S = 1.0


def rescore(settings: Settings) -> int:
    """Let score-galaxies begin again at the first fingerprint that Kafka has.

    Returns:
        How many fingerprints it will read.

    Raises:
        KafkaUnavailableError: Kafka cannot be reached, or refuses.
        InfrastructureError: the stage runs.
    """
    topic, kafka = settings.topics.fingerprints, settings.kafka
    group = consumer_group(kafka, SCORE_GALAXIES)
    starts = start_offsets(settings, topic)
    places = [TopicPartition(topic, partition, start) for partition, start in starts.items()]
    client = admin(kafka)  # a client that is collected cancels what it was asked
    # Kafka holds the place of a process that stopped, for it to come back, until its session ends.
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
                f"{SCORE_GALAXIES} runs (consumer group {group} has members): stop it, then "
                "start it again after this command"
            )
        time.sleep(PAUSE_S)


def _refusal(asked: Future[ConsumerGroupTopicPartitions]) -> KafkaError | None:
    """Why Kafka did not do what it was asked: as a whole, or for a partition."""
    try:
        places = asked.result().topic_partitions or []
    except KafkaException as error:
        refused: KafkaError = error.args[0]
        return refused
    return next((place.error for place in places if place.error is not None), None)
