"""Names and policies of the topics, and the key of an observation; no other module has them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from mmbroker.processors.alerts.decide import AlertStream
from mmbroker.processors.sky import publishing_cell
from mmbroker.schemas.events import Observation
from mmbroker.streams.names import BUILD_FINGERPRINTS, PUBLISH_ALERTS, SCORE_GALAXIES

DAY_MS = 24 * 3600 * 1000
LARGEST_MESSAGE_BYTES = 16 * 2**20
"""Twice the size of the largest event: a quarantine message holds a whole event."""

NAMED = ("scored", "observations", "fingerprints", "followup", "outcomes", "quarantine")
"""Short names of the topics that are of no alert stream."""


@dataclass(frozen=True)
class Topic:
    """A topic with the policy it is created with.

    Attributes:
        name: the topic's name.
        config: its settings in Kafka, such as ``cleanup.policy``.
        partitions: number of partitions; None for the number in the settings.
    """

    name: str
    config: dict[str, str] = field(default_factory=dict)
    partitions: int | None = None


@dataclass(frozen=True)
class Topics:
    """Every topic of one broker.

    Attributes:
        prefix: start of all names, so that several brokers can share a Kafka.
        alert_streams: the alert streams; each has a topic.
    """

    prefix: str = "mm"
    alert_streams: Sequence[AlertStream] = ()

    @property
    def observations(self) -> str:
        """Observations, keyed by sky cell."""
        return f"{self.prefix}.observations.v1"

    @property
    def fingerprints(self) -> str:
        """The newest fingerprint of every galaxy, keyed by galaxy id."""
        return f"{self.prefix}.fingerprints.v1"

    @property
    def scored(self) -> str:
        """The newest score of every galaxy, keyed by galaxy id."""
        return f"{self.prefix}.scored.v1"

    @property
    def followup(self) -> str:
        """Requests for follow-up."""
        return f"{self.prefix}.followup.v1"

    @property
    def outcomes(self) -> str:
        """What follow-up found."""
        return f"{self.prefix}.outcomes.v1"

    @property
    def quarantine(self) -> str:
        """Events that could not be processed, with the reason."""
        return f"{self.prefix}.quarantine.v1"

    @property
    def every_alert(self) -> str:
        """Start of the names of all topics with alerts."""
        return f"{self.prefix}.alerts."

    def alerts(self, stream: str) -> str:
        """Alerts of one stream, keyed by galaxy id."""
        return f"{self.every_alert}{stream}.v1"

    def by_name(self, short_name: str) -> str | None:
        """The topic for ``scored``, ``fingerprints`` and so on, or for an alert stream."""
        if short_name in NAMED:
            return str(getattr(self, short_name))
        if any(stream.name == short_name for stream in self.alert_streams):
            return self.alerts(short_name)
        return None

    def all(self) -> list[Topic]:
        """Every topic with its policy."""
        size = {"max.message.bytes": str(LARGEST_MESSAGE_BYTES)}
        compacted = {"cleanup.policy": "compact", "min.cleanable.dirty.ratio": "0.2", **size}
        month = {"cleanup.policy": "delete", "retention.ms": str(30 * DAY_MS), **size}
        year = {"cleanup.policy": "delete", "retention.ms": str(365 * DAY_MS), **size}
        return [
            Topic(self.observations, month),
            Topic(self.fingerprints, compacted),
            Topic(self.scored, compacted),
            *(Topic(self.alerts(stream.name), month, 1) for stream in self.alert_streams),
            Topic(self.followup, month, 1),
            Topic(self.outcomes, year, 1),
            Topic(self.quarantine, year, 1),
        ]


def observation_key(observation: Observation) -> bytes:
    """Key of an observation: its sky cell, so that most neighbours share a partition."""
    cell = publishing_cell(observation.right_ascension_deg, observation.declination_deg)
    return str(cell).encode()


def flow(topics: Topics) -> list[tuple[str, str]]:
    """(stage, topic that it reads) of all stages, in the order of the flow."""
    return [
        (BUILD_FINGERPRINTS, topics.observations),
        (SCORE_GALAXIES, topics.fingerprints),
        (PUBLISH_ALERTS, topics.scored),
    ]
