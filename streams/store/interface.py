"""What a store can do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
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
"""``merged``: in its galaxy's fingerprint. ``replaced``: was, until it was corrected or withdrawn.
``awaited``: replaced before it arrived; it will not be merged when it does."""

FIRST_VERSION = 1
"""Of a model: in force until another is chosen."""


class StoreError(InfrastructureError):
    """The store cannot be used; the message says why and what to do."""


class StoreBrokenError(StoreError):
    """Nor will it be usable again in this process: trying again does not help."""


class StoreDamagedError(StoreBrokenError):
    """What the store holds cannot be read any more."""


@dataclass(frozen=True)
class Archived:
    """An observation in the archive.

    Attributes:
        status: what became of it.
        galaxy_id: the galaxy it was merged into; empty when it never was.
        source: where it was read.
        candidates: the other galaxies it could have belonged to.
        data: the event's bytes as they were read; empty while it is awaited, and after the store
            was rebuilt from a Kafka that no longer had them.
    """

    status: Status
    galaxy_id: str = ""
    source: Source = field(default_factory=lambda: Source("", "", 0, 0))
    candidates: list[str] = field(default_factory=list)
    data: bytes = b""


class Reading(Protocol):
    """Reads the store as it is at one moment."""

    def fingerprint(self, galaxy_id: str) -> bytes | None:
        """The newest encoded fingerprint of a galaxy."""
        ...

    def version(self, galaxy_id: str) -> int:
        """The version of a galaxy's newest fingerprint; 0 when it is unknown."""
        ...

    def galaxy_ids(self) -> Iterator[str]:
        """All galaxies, ascending."""
        ...

    def galaxies(self) -> int:
        """How many galaxies there are."""
        ...

    def neighbours(self, position: Position) -> list[Neighbour]:
        """The galaxies that an observation at a position might belong to, and some more."""
        ...

    def archived(self, observation_hash: bytes) -> Archived | None:
        """An observation by the hash of its id."""
        ...

    def observations(self) -> Iterator[tuple[bytes, Archived]]:
        """The archive: every observation with the hash of its id, ascending by hash."""
        ...

    def next_offset(self, stage: str, topic: str, partition: int) -> int:
        """The offset after the last event that a stage has accounted for; 0 for none."""
        ...

    def counts(self) -> dict[tuple[str, str], int]:
        """How many events of each stage came to which outcome."""
        ...

    def last_alert(self, stream: str, galaxy_id: str) -> LastAlert | None:
        """What an alert stream last said of a galaxy."""
        ...

    def last_alerts(self, stream: str) -> Iterator[tuple[str, LastAlert]]:
        """What an alert stream last said of every galaxy of which it said anything."""
        ...

    def ranking(self, name: str) -> Histogram:
        """How the members of a ranking are distributed over its bins."""
        ...

    def ranked(self, name: str, galaxy_id: str) -> tuple[int, int | None] | None:
        """The newest version of a galaxy that a ranking was told of, and its bin.

        The bin is None for a galaxy that was taken out; all is None for one never told of.
        """
        ...

    def model_version(self, model: str) -> int:
        """The version of a model that is in force; FIRST_VERSION until one was chosen."""
        ...

    def model_versions(self) -> dict[str, int]:
        """The versions in force of the models of which one was chosen."""
        ...


class Writing(Reading, Protocol):
    """Reads and changes the store."""

    def put_fingerprint(self, galaxy_id: str, version: int, encoded: bytes) -> None:
        """Keep a galaxy's newest fingerprint."""
        ...

    def put_position(
        self, galaxy_id: str, position: Position | None, before: Position | None = None
    ) -> None:
        """Keep where a galaxy is; without a position no observation is associated with it.

        Args:
            galaxy_id: the galaxy.
            position: where it is.
            before: the position that was last kept of it, which is forgotten.
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
        """Remember what an alert stream said of a galaxy.

        A version older than the one that stands there changes nothing.
        """
        ...

    def rank(self, name: str, places: Mapping[str, tuple[int, int | None]]) -> None:
        """Enter galaxies in a ranking, move them, or with None for the bin take them out.

        A version older than the one that stands there changes nothing, also when it stands there
        without a bin.

        Args:
            name: the ranking.
            places: (version, bin) by galaxy id.
        """
        ...

    def use_model(self, model: str, version: int) -> None:
        """Put a version of a model in force."""
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
        """A transaction that writes: durable at its end, or without any effect if it raises.

        Raises:
            StoreError: the store cannot be written, for instance because the disk is full.
        """
        ...

    def size_bytes(self) -> int:
        """Space in use."""
        ...

    def copy(self, target: Path) -> None:
        """Copy the store as it is at this moment into an empty directory, while it is in use.

        Raises:
            StoreError: it cannot be read, or the copy not written.
        """
        ...

    def close(self) -> None:
        """Release the store."""
        ...
