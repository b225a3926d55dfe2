"""Makes the ledger: how many events came in to every stage, and what became of them, exactly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient
from rich.table import Table
from rich.text import Text

from mmbroker.streams.kafka.client import admin
from mmbroker.streams.kafka.offsets import committed_places, end_offsets, start_offsets
from mmbroker.streams.running.belonging import compare
from mmbroker.streams.settings import Settings
from mmbroker.streams.stages.accounting import EXPIRED, SKIPPED, UNREADABLE, unsendable_of
from mmbroker.streams.store import Reading
from mmbroker.streams.topics import flow

LOST = (EXPIRED, UNREADABLE, SKIPPED)
"""Outcomes of events that the stage never saw."""


@dataclass(frozen=True)
class Entry:
    """The ledger of one stage.

    Attributes:
        stage: name of the stage.
        received: number of events that Kafka has, or had, for the stage.
        waiting: number of these that are not yet accounted for.
        expired: number of the waiting ones that Kafka has deleted already; they are lost.
        outcomes: number of events by outcome.
        sent: number of alerts by stream and type; only for the last stage.
        unsendable: number of messages that Kafka refused for what they are, by topic; what is
            counted under an outcome was not published in full.
        again: number of events that are accounted for and will be read again: what they caused is
            not published yet, or ``rescore`` asked for it; 0 if this was not asked.
        problems: why the counts are not those of the topic that Kafka has now, and what to do.
        notes: what to know about the topic that needs no action.
    """

    stage: str
    received: int
    waiting: int
    expired: int
    outcomes: Mapping[str, int]
    sent: Mapping[str, int]
    again: int = 0
    unsendable: Mapping[str, int] = field(default_factory=dict)
    problems: Sequence[str] = ()
    notes: Sequence[str] = ()

    @property
    def accounted(self) -> int:
        """Number of events whose outcome is known."""
        return sum(self.outcomes.values())

    @property
    def closes(self) -> bool:
        """Whether every event is accounted for exactly once."""
        return self.waiting == 0 and self.accounted == self.received and not self.problems


def ledger(
    settings: Settings, reading: Reading, again: bool = False, client: AdminClient | None = None
) -> list[Entry]:
    """The ledger of all stages.

    Args:
        settings: how to reach Kafka.
        reading: the store.
        again: also find out what will be read again, and whether store and topics belong together;
            this takes more requests.
        client: asks Kafka; by default a new client.

    Raises:
        KafkaUnavailableError: Kafka cannot be reached.
    """
    counts = reading.counts()
    client = admin(settings.kafka) if client is None else client
    entries = []
    committed: dict[str, list[TopicPartition]] = {}
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
        refused = unsendable_of(stage)
        unsendable = {name: count for (owner, name), count in counts.items() if owner == refused}
        received = sum(ends.values())
        entry = Entry(stage, received, waiting, expired, outcomes, sent, unsendable=unsendable)
        if again and ends:
            committed[topic] = committed_places(settings.kafka, stage, topic)
            told = {place.partition: place.offset for place in committed[topic]}
            from_here = {number: max(told.get(number, 0), starts[number]) for number in ends}
            behind = (max(accounted[number] - from_here[number], 0) for number in ends)
            entry = replace(entry, again=sum(behind))
        entries.append(entry)
    return _compared(settings, reading, entries, committed, client) if again else entries


def _compared(
    settings: Settings,
    reading: Reading,
    entries: Sequence[Entry],
    committed: Mapping[str, Sequence[TopicPartition]],
    client: AdminClient,
) -> list[Entry]:
    """The entries, each with what is to be said of its topic."""
    found = compare(settings, reading, committed, client)
    topics = dict(flow(settings.topics))
    return [
        replace(
            entry,
            problems=found.problems.get(topics[entry.stage], []),
            notes=[found.added[topic] for topic in [topics[entry.stage]] if topic in found.added],
        )
        for entry in entries
    ]


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
        table.add_row(Text(entry.stage, "bold"), "in", Text(f"{entry.received:,}", "bold"))
        for name, count in sorted(entry.outcomes.items()):
            table.add_row("", *_line(name, count, "red" if name in LOST else ""))
        if entry.waiting:
            table.add_row("", *_line("waiting", entry.waiting, "yellow"))
        if entry.expired:
            table.add_row("", *_line(f"  of these, {EXPIRED}", entry.expired, "red"))
        table.add_row("", *_line(*_sum(entry)))
        if entry.again:
            table.add_row("", *_line("of these, to be read again", entry.again, "yellow"))
        for text, style in (
            *((each, "red") for each in entry.problems),
            *((each, "dim") for each in entry.notes),
        ):
            table.add_row("", Text(f"  {text}", style), "")
        for name, count in sorted(entry.unsendable.items()):
            table.add_row("", *_line(f"not published, refused by Kafka: {name}", count, "red"))
        for name, count in sorted(entry.sent.items()):
            table.add_row("", *_line(f"alerts {name}", count, "dim"))
        table.add_section()
    return table


def _line(what: str, count: int, style: str) -> tuple[Text, Text]:
    return Text(f"  {what}", style), Text(f"{count:,}", style)


def _sum(entry: Entry) -> tuple[str, int, str]:
    """Says whether the sum over the outcomes of a stage is right: words, the sum, and a style."""
    if entry.closes:
        return "adds up", entry.accounted, "green"
    if entry.accounted + entry.waiting == entry.received:
        return "so far", entry.accounted, "yellow"
    return "does not add up", entry.accounted, "red"
