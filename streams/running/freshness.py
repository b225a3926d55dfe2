"""Refuses a store that is older than what Kafka knows of it."""

from __future__ import annotations

from mmbroker.streams.kafka.offsets import committed_offsets, end_offsets, first_offset
from mmbroker.streams.settings import Settings
from mmbroker.streams.store import Store, StoreBrokenError


def require_newest(settings: Settings, stage: str, topic: str, store: Store) -> None:
    """Make sure that the store has all that a stage has acknowledged in Kafka.

    With an empty store, the stages would begin every galaxy anew. With an old one, they would
    publish older states of galaxies than before.

    Args:
        settings: the settings.
        stage: name of the stage.
        topic: the topic that the stage reads.
        store: the store.

    Raises:
        StoreBrokenError: the store is empty or older than what was acknowledged.
        KafkaUnavailableError: Kafka cannot be reached.
    """
    # Kafka is asked first: a stage writes the store before it acknowledges, so at any moment the
    # store is ahead of what Kafka knew before.
    known = sum(end_offsets(settings, settings.topics.fingerprints).values())
    committed = committed_offsets(settings.kafka, stage, topic)
    with store.reading() as reading:
        galaxies = reading.galaxies()
        accounted = {number: reading.next_offset(stage, topic, number) for number in committed}
    directory = settings.store_directory
    if known and not galaxies:
        raise StoreBrokenError(
            f"the store in {directory} is empty, and {settings.topics.fingerprints} holds galaxies "
            "already: stop the stages and run: mmbroker rebuild (with --backup DIRECTORY if there "
            "is a backup)"
        )
    for partition, offset in committed.items():
        if offset <= accounted[partition]:
            continue
        # The store may lack acknowledged offsets at which there is no event.
        first = first_offset(settings.kafka, topic, partition, accounted[partition])
        if first is not None and first < offset:
            raise StoreBrokenError(
                f"the store in {directory} is older than what {stage} has acknowledged: of {topic} "
                f"[{partition}] it knows {accounted[partition]:,} events, and {offset:,} are "
                f"acknowledged. Stop the stages and run: mv {directory} {directory}.old; "
                f"mmbroker rebuild --backup {directory}.old. If the offset of the group was moved "
                "by hand to pass a message, move it back and use: mmbroker skip. If another broker "
                "reads the topic with a store of its own, give one another kafka.topic_prefix"
            )
