"""Tells what a rebuild of the store could restore and what it could not."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Rebuilt:
    """The result of a rebuild.

    Attributes:
        directory: directory of the store.
        aside: where the former store is now; None if there was none.
        galaxies: number of galaxies in the store.
        merged: number of observations in their fingerprints.
        replaced: number of observations in the archive that were corrected or withdrawn.
        missing: number of the merged observations that are not in the archive.
        incomplete: number of galaxies with such missing observations.
        unexplained: ids of observations that were acknowledged but are in no fingerprint, although
            nothing refused or replaced them.
        ambiguous: number of galaxies with ambiguous observations of which it is not known which
            these are.
        unreadable: topic, partition and offset of messages in the topics of fingerprints, scored
            galaxies and alerts that this version cannot read, or that hold something else.
        scores: number of scored galaxies in the ranking.
        alerts: number of galaxies whose last alert is known, by stream.
        waiting: number of events that the stages will still get, by stage.
        models: versions of models in force that the backup had, by name.
        backup: the backup that was used; None without one.
    """

    directory: Path
    aside: Path | None = None
    galaxies: int = 0
    merged: int = 0
    replaced: int = 0
    missing: int = 0
    incomplete: int = 0
    unexplained: list[str] = field(default_factory=list)
    ambiguous: int = 0
    unreadable: list[str] = field(default_factory=list)
    scores: int = 0
    alerts: dict[str, int] = field(default_factory=dict)
    waiting: dict[str, int] = field(default_factory=dict)
    models: dict[str, int] = field(default_factory=dict)
    backup: Path | None = None

    @property
    def text(self) -> str:
        """What could be restored and what could not, in lines of text."""
        alerts = ", ".join(f"{name} {count:,}" for name, count in self.alerts.items())
        waiting = ", ".join(f"{name} {count:,}" for name, count in self.waiting.items())
        lines = [
            f"{self.directory} is rebuilt: {self.galaxies:,} galaxies, {self.merged:,} "
            f"observations, {self.scores:,} ranked scores",
            f"archive: {self.merged - self.missing:,} of {self.merged:,} observations, and "
            f"{self.replaced:,} that were corrected or withdrawn",
            f"galaxies of which the last alert is known: {alerts or 'there are no streams'}; "
            "others that pass a stream are announced there as new when they are next scored",
            f"still to be read by the stages: {waiting}",
            self._models,
        ]
        elsewhere = "" if self.backup is None else f" nor in {self.backup}"
        if self.missing:
            lines.append(
                f"not restored: {self.missing:,} observations of {self.incomplete:,} galaxies are "
                f"not in Kafka any more{elsewhere}. They stay in their fingerprints and their "
                "repeats are known, but these galaxies cannot be verified or corrected until the "
                "observations are published again (repeats fill the archive); and what they had "
                "corrected or withdrawn themselves would be taken in again"
            )
        if self.unexplained:
            lines.append(
                f"not restored: {len(self.unexplained):,} observations were acknowledged and are "
                f"in no fingerprint; publish them again: {_some(self.unexplained)}"
            )
        if self.unreadable:
            lines.append(
                f"not restored: {len(self.unreadable):,} messages cannot be read by this version, "
                "or hold something else than belongs there; what only they say is missing: "
                f"{_some(self.unreadable)}"
            )
        if self.ambiguous:
            lines.append(
                f"not restored: which observations of {self.ambiguous:,} galaxies had an ambiguous "
                "position; the galaxies themselves say that some had"
            )
        if self.aside is not None:
            lines.append(f"the former store is in {self.aside}")
        return "\n".join(lines)

    @property
    def _models(self) -> str:
        if self.backup is None:
            return (
                "models in force: version 1 of each, since there was no backup to tell; if it was "
                "another: mmbroker models use NAME VERSION"
            )
        if not self.models:
            return "models in force: version 1 of each"
        chosen = [f"{name} version {version}" for name, version in sorted(self.models.items())]
        return f"models in force: {', '.join(chosen)}, the others version 1"


def _some(named: list[str]) -> str:
    return ", ".join(named[:5]) + (", ..." if named[5:] else "")
