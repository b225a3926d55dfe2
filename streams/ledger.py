"""The ledger: for every stage, what came in and what became of it, exactly."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from confluent_kafka import KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, ListOffsetsResultInfo, OffsetSpec
from rich.table import Table

from .accounting import EXPIRED
from .kafka import (
    METADATA_TIMEOUT_S,
    KafkaUnavailableError,
    admin,
    committed_offsets,
    existing_topics,
    first_offset,
    hidden_topics,
)
from .names import BUILD_FINGERPRINTS, PUBLISH_ALERTS, SCORE_GALAXIES
from .refusal import not_allowed
from .settings import Settings
from .store import Reading, Store, StoreBrokenError
from .topics import Topics

WITHOUT_LEADER = (
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.UNKNOWN_TOPIC_OR_PART,
)
LEADER_PAUSE_S = 0.1


@dataclass(frozen=True)
class Entry:
    """The ledger of one stage.

    Attributes:
        stage: its name.
        received: events that Kafka holds, or held, for it.
        waiting: of these, not yet accounted for.
        expired: of those that wait, Kafka has deleted already: they are lost.
        outcomes: number of events by what became of them.
        sent: alerts by stream and type, for the last stage.
        again: events that are accounted for and will be read again, as after ``rescore``.
    """

    stage: str
    received: int
    waiting: int
    expired: int
    outcomes: Mapping[str, int]
    sent: Mapping[str, int]
    again: int = 0

    @property
    def accounted(self) -> int:
        """Events whose outcome is known."""
        return sum(self.outcomes.values())

    @property
    def closes(self) -> bool:
        """Whether every event is accounted for exactly once."""
        return self.waiting == 0 and self.accounted == self.received


def ledger(
    settings: Settings, reading: Reading, again: bool = False, client: AdminClient | None = None
) -> list[Entry]:
    """The ledger of all stages.

    Args:
        settings: how to reach Kafka.
        reading: the store.
        again: find out what will be read again, too, for which Kafka is asked once more a stage.
        client: asks; by default a client of its own.

    Raises:
        KafkaUnavailableError: Kafka cannot be reached.
    """
    counts = reading.counts()
    client = admin(settings.kafka) if client is None else client
    entries = []
    for stage, topic in flow(settings.topics):
        ends = end_offsets(settings, topic, client)
        starts = start_offsets(settings, topic, client)
        accounted = {partition: reading.next_offset(stage, topic, partition) for partition in ends}
        outcomes = {name: count for (owner, name), count in counts.items() if owner == stage}
        sent = {
            f"{owner.partition('/')[2]}: {name}": count
            for (owner, name), count in counts.items()
            if owner.startswith(f"{stage}/")
        }
        waiting = sum(max(end - accounted[partition], 0) for partition, end in ends.items())
        expired = sum(max(start - accounted[partition], 0) for partition, start in starts.items())
        entry = Entry(stage, sum(ends.values()), waiting, expired, outcomes, sent)
        if again and ends:
            committed = committed_offsets(settings.kafka, stage, topic)
            from_here = {number: max(committed.get(number, 0), starts[number]) for number in ends}
            behind = (max(accounted[number] - from_here[number], 0) for number in ends)
            entry = replace(entry, again=sum(behind))
        entries.append(entry)
    return entries


def flow(topics: Topics) -> list[tuple[str, str]]:
    """The stages with the topic that each reads, in the order of the flow."""
    return [
        (BUILD_FINGERPRINTS, topics.observations),
        (SCORE_GALAXIES, topics.fingerprints),
        (PUBLISH_ALERTS, topics.scored),
    ]


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


def as_json(entry: Entry) -> dict[str, Any]:
    """An entry as plain JSON values."""
    return {**asdict(entry), "accounted": entry.accounted, "closes": entry.closes}


def render(entries: list[Entry]) -> Table:
    """The ledger as a table."""
    table = Table(title="ledger", show_lines=False)
    table.add_column("stage")
    table.add_column("what became of it")
    table.add_column("events", justify="right")
    for entry in entries:
        table.add_row(f"[bold]{entry.stage}", "in", f"[bold]{entry.received:,}")
        for name, count in sorted(entry.outcomes.items()):
            colour = "[red]" if name == EXPIRED else ""
            table.add_row("", f"  {colour}{name}", f"{colour}{count:,}")
        if entry.waiting:
            table.add_row("", "  [yellow]waiting", f"[yellow]{entry.waiting:,}")
        if entry.expired:
            table.add_row("", f"    [red]of these, {EXPIRED}", f"[red]{entry.expired:,}")
        table.add_row("", f"  {_sum(entry)}", f"{entry.accounted:,}")
        if entry.again:
            table.add_row("", "  [yellow]of these, to be read again", f"[yellow]{entry.again:,}")
        for name, count in sorted(entry.sent.items()):
            table.add_row("", f"  [dim]alerts {name}", f"[dim]{count:,}")
        table.add_section()
    return table


def _sum(entry: Entry) -> str:
    """What the sum over the outcomes of a stage says."""
    if entry.closes:
        return "[green]adds up"
    if entry.accounted + entry.waiting == entry.received:
        return "[yellow]so far"
    return "[red]does not add up"
