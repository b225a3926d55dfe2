"""The ledger: for every stage, what came in and what became of it, exactly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from confluent_kafka import KafkaException, TopicPartition
from confluent_kafka.admin import OffsetSpec
from rich.table import Table

from .kafka import METADATA_TIMEOUT_S, KafkaUnavailableError, admin, existing_topics
from .settings import Settings
from .store import Reading
from .topics import Topics


@dataclass(frozen=True)
class Entry:
    """The ledger of one stage.

    Attributes:
        stage: its name.
        received: events that Kafka holds, or held, for it.
        waiting: of these, not yet accounted for.
        outcomes: number of events by what became of them.
        sent: alerts by stream and type, for the last stage.
    """

    stage: str
    received: int
    waiting: int
    outcomes: Mapping[str, int]
    sent: Mapping[str, int]

    @property
    def accounted(self) -> int:
        """Events whose outcome is known."""
        return sum(self.outcomes.values())

    @property
    def closes(self) -> bool:
        """Whether every event is accounted for exactly once."""
        return self.waiting == 0 and self.accounted == self.received


def ledger(settings: Settings, reading: Reading) -> list[Entry]:
    """The ledger of all stages.

    Raises:
        KafkaUnavailableError: Kafka cannot be reached.
    """
    counts = reading.counts()
    entries = []
    for stage, topic in flow(settings.topics):
        ends = end_offsets(settings, topic)
        accounted = {partition: reading.next_offset(stage, topic, partition) for partition in ends}
        outcomes = {name: count for (owner, name), count in counts.items() if owner == stage}
        sent = {
            f"{owner.partition('/')[2]}: {name}": count
            for (owner, name), count in counts.items()
            if owner.startswith(f"{stage}/")
        }
        waiting = sum(max(end - accounted[partition], 0) for partition, end in ends.items())
        entries.append(Entry(stage, sum(ends.values()), waiting, outcomes, sent))
    return entries


def flow(topics: Topics) -> list[tuple[str, str]]:
    """The stages with the topic that each reads, in the order of the flow."""
    return [
        ("build-fingerprints", topics.observations),
        ("score-galaxies", topics.fingerprints),
        ("publish-alerts", topics.scored),
    ]


def end_offsets(settings: Settings, topic: str) -> dict[int, int]:
    """The offset after the last message of every partition; empty for a missing topic.

    Raises:
        KafkaUnavailableError: Kafka cannot be reached.
    """
    partitions = existing_topics(settings.kafka).get(topic, 0)
    wanted = {
        TopicPartition(topic, number): OffsetSpec.latest()  # type: ignore[no-untyped-call]
        for number in range(partitions)
    }
    if not wanted:
        return {}
    client = admin(settings.kafka)
    try:
        futures = client.list_offsets(wanted, request_timeout=METADATA_TIMEOUT_S)
        return {place.partition: future.result().offset for place, future in futures.items()}
    except KafkaException as error:
        raise KafkaUnavailableError(f"{topic}: {error.args[0].str()}") from error


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
            table.add_row("", f"  {name}", f"{count:,}")
        if entry.waiting:
            table.add_row("", "  [yellow]waiting", f"[yellow]{entry.waiting:,}")
        closes = "[green]adds up" if entry.closes else "[red]open"
        table.add_row("", f"  {closes}", f"{entry.accounted:,}")
        for name, count in sorted(entry.sent.items()):
            table.add_row("", f"  [dim]alerts {name}", f"[dim]{count:,}")
        table.add_section()
    return table
