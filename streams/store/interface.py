"""Defines what a store can do; ``store.lmdb`` does it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from mmbroker.processors.alerts.decide import LastAlert
from mmbroker.processors.scoring.ranking import Histogram
from mmbroker.processors.sky import Neighbour, Position
from mmbroker.schemas.events import Source
from mmbroker.streams.errors import InfrastructureError

Status = Literal["merged", "replaced", "awaited"]
"""What became of an observation.

- ``merged``: it is in the fingerprint of its galaxy.
- ``replaced``: it is in no fingerprint, because it was corrected or withdrawn, or is itself a
  withdrawal.
- ``awaited``: it was replaced before it arrived. It will not be merged when it arrives.
"""

FIRST_VERSION = 1
"""The version of a model that is in force until another is chosen."""


class StoreError(InfrastructureError):
    """The store cannot be used; the message says why and what to do."""


class StoreBrokenError(StoreError):
    """The store cannot be used again by this process: trying again does not help."""


class StoreDamagedError(StoreBrokenError):
    """What the store holds cannot be read any more."""


@dataclass(frozen=True)
class Archived:
    """An observation in the archive.

    Attributes:
        status: what became of it.
        galaxy_id: the galaxy into which it was merged; empty if it never was.
        source: the place in Kafka where it was read.
        candidates: the other galaxies to which it could have belonged.
        data: the event's bytes as they were read. Empty while the observation is awaited, and after
            the store was rebuilt from a Kafka that no longer had it.
    """

    status: Status
    galaxy_id: str = ""
    source: Source = field(default_factory=lambda: Source("", "", 0, 0))
    candidates: list[str] = field(default_factory=list)
    data: bytes = b""


@dataclass(frozen=True)
class KnownTopic:
    """A topic as it was in Kafka when the stages of this store began to read it.

    Attributes:
        cluster_id: id of the Kafka.
        topic_id: id that Kafka gave the topic when it was made.
        partitions: number of partitions, each with the Unix time in ms since which it is known;
            the present one is last.
    """

    cluster_id: str
    topic_id: str
    partitions: tuple[tuple[int, int], ...]


class Reading(Protocol):
    """Reads the store as it is at one moment."""

    def fingerprint(self, galaxy_id: str) -> bytes | None:
        """The newest encoded fingerprint of a galaxy; None if the galaxy is unknown."""
        ...

    def version(self, galaxy_id: str) -> int:
        """The version of a galaxy's newest fingerprint; 0 if the galaxy is unknown."""
        ...

    def galaxy_ids(self) -> Iterator[str]:
        """The ids of all galaxies, ascending."""
        ...

    def galaxies(self) -> int:
        """How many galaxies there are."""
        ...

    def neighbours(self, position: Position) -> list[Neighbour]:
        """The galaxies to which an observation at a position might belong, and some more."""
        ...

    def archived(self, observation_hash: bytes) -> Archived | None:
        """An observation by the hash of its id; None if it is not in the archive."""
        ...

    def observations(self) -> Iterator[tuple[bytes, Archived]]:
        """The archive: every observation with the hash of its id, ascending by hash."""
        ...

    def next_offset(self, stage: str, topic: str, partition: int) -> int:
        """The offset after the last event that a stage has accounted for; 0 if there is none."""
        ...

    def counts(self) -> dict[tuple[str, str], int]:
        """Number of events by (stage, outcome)."""
        ...

    def last_alert(self, stream: str, galaxy_id: str) -> LastAlert | None:
        """What an alert stream last said about a galaxy; None if it said nothing."""
        ...

    def last_alerts(self, stream: str) -> Iterator[tuple[str, LastAlert]]:
        """(galaxy id, last alert) of every galaxy about which an alert stream said anything."""
        ...

    def ranking(self, name: str) -> Histogram:
        """The number of galaxies of a ranking in each of its bins."""
        ...

    def ranked(self, name: str, galaxy_id: str) -> tuple[int, int | None] | None:
        """The newest (version, bin) of a galaxy that a ranking was given.

        The bin is None if the galaxy was taken out of the ranking. The result is None if the
        ranking was never given the galaxy.
        """
        ...

    def model_version(self, model: str) -> int:
        """The version of a model that is in force; FIRST_VERSION until one is chosen."""
        ...

    def model_versions(self) -> dict[str, int]:
        """The versions that were put in force, by model; others have ``FIRST_VERSION``."""
        ...

    def known_topic(self, topic: str) -> KnownTopic | None:
        """A topic as the stages found it; None before a stage has."""
        ...

    def store_id(self) -> str:
        """The id of this store; empty until a stage has started with it."""
        ...

    def replaced_ids(self) -> frozenset[str]:
        """The ids of the stores in whose place this one was made again."""
        ...


class Writing(Reading, Protocol):
    """Reads and changes the store."""

    def put_fingerprint(self, galaxy_id: str, version: int, encoded: bytes) -> None:
        """Keep a galaxy's newest fingerprint."""
        ...

    def put_position(
        self, galaxy_id: str, position: Position | None, before: Position | None = None
    ) -> None:
        """Keep the position of a galaxy.

        Args:
            galaxy_id: the galaxy.
            position: where it is; with None, no observation is associated with it any more.
            before: the position that was kept so far; it is deleted.
        """
        ...

    def archive(self, observation_hash: bytes, archived: Archived) -> None:
        """Keep an observation."""
        ...

    def account(
        self,
        stage: str,
        next_offsets: Mapping[tuple[str, int], int],
        outcomes: Mapping[str, int],
    ) -> None:
        """Add to the counts of a stage and remember how far it has read.

        Args:
            stage: the stage.
            next_offsets: the offset after the last event, by (topic, partition).
            outcomes: number of events by outcome.
        """
        ...

    def put_alert(self, stream: str, galaxy_id: str, alert: LastAlert) -> None:
        """Keep what an alert stream said about a galaxy.

        An alert of an older version than the one that is kept changes nothing.
        """
        ...

    def rank(self, name: str, places: Mapping[str, tuple[int, int | None]]) -> None:
        """Put galaxies into a ranking, move them, or take them out if the bin is None.

        A version older than the one that is kept changes nothing, also if the galaxy was taken out.

        Args:
            name: the ranking.
            places: (version, bin) by galaxy id.
        """
        ...

    def use_model(self, model: str, version: int) -> None:
        """Put a version of a model in force."""
        ...

    def know_topic(self, topic: str, known: KnownTopic) -> None:
        """Keep what a topic is in Kafka."""
        ...

    def identify(self, store_id: str, replaced: Iterable[str] = ()) -> None:
        """Give this store an id, and say in whose place it was made.

        Args:
            store_id: the id.
            replaced: ids of the stores that were there before.
        """
        ...


class Store(Protocol):
    """A store of one broker."""

    def reading(self) -> AbstractContextManager[Reading]:
        """A transaction that reads.

        Raises:
            StoreError: the store cannot be read.
        """
        ...

    def writing(self) -> AbstractContextManager[Writing]:
        """A transaction that writes: it is durable at its end, or has no effect if it raises.

        Raises:
            StoreError: the store cannot be written, for instance because the disk is full.
        """
        ...

    def size_bytes(self) -> int:
        """Space in use, in bytes."""
        ...

    def room_bytes(self) -> int:
        """By how much it can grow in the address space that this process has for it."""
        ...

    def copy(self, target: Path) -> None:
        """Copy the store as it is now into an empty directory; it may be in use.

        Raises:
            StoreError: the store cannot be read, or the copy cannot be written.
        """
        ...

    def close(self) -> None:
        """Release the store."""
        ...
