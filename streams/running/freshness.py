"""Refuses a store that is older than what Kafka knows of it."""

from __future__ import annotations

from mmbroker.streams.kafka.offsets import committed_offsets, end_offsets, first_offset
from mmbroker.streams.settings import Settings
from mmbroker.streams.store import Store, StoreBrokenError


def require_newest(settings: Settings, stage: str, topic: str, store: Store) -> None:
    """Make sure that the store knows of all that a stage has acknowledged.

    An empty store would found every galaxy anew, an old one would go back behind what was said.

    Raises:
        StoreBrokenError: it does not.
        KafkaUnavailableError: Kafka cannot be reached.
    """
    # Kafka first: the store is always ahead of it.
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
        # Acknowledged offsets at which nothing stands need no account.
        first = first_offset(settings.kafka, topic, partition, accounted[partition])
        if first is not None and first < offset:
            raise StoreBrokenError(
                f"the store in {directory} is older than what {stage} has acknowledged: of {topic} "
                f"[{partition}] it knows {accounted[partition]:,} events, and {offset:,} are "
                f"acknowledged. Stop the stages and run: mv {directory} {directory}.old; "
                f"mmbroker rebuild --backup {directory}.old"
            )
