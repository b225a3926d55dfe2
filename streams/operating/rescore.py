"""Has every galaxy scored again, with the models and the calibrations in force.

The stage score-galaxies needs only fingerprints. So it reads their compacted topic again from the
beginning. The ledger stays as it is, because a fingerprint is counted only once.
"""

from __future__ import annotations

from confluent_kafka import TopicPartition

from mmbroker.streams.kafka.offsets import end_offsets, move_committed, start_offsets
from mmbroker.streams.names import SCORE_GALAXIES
from mmbroker.streams.running.supervise import only_one
from mmbroker.streams.settings import Settings

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
        topic = settings.topics.fingerprints
        starts = start_offsets(settings, topic)
        places = [TopicPartition(topic, partition, start) for partition, start in starts.items()]
        move_committed(settings, SCORE_GALAXIES, places)
        ends = end_offsets(settings, topic)
        return sum(ends[partition] - start for partition, start in starts.items())
