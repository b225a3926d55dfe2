"""Third stage: takes scored galaxies and publishes alerts.

The store keeps what each alert stream last said about a galaxy. This is written after the alert is
durable in Kafka. After a crash in between, the same alert is made again, with the same id.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import get_args

from mmbroker.processors.alerts.decide import (
    AlertStream,
    Decision,
    LastAlert,
    alert_id,
    decide,
    last_alert,
)
from mmbroker.processors.scoring import ranking
from mmbroker.processors.validation import score_problems
from mmbroker.schemas.events import AlertHead, AlertType, Score
from mmbroker.streams.names import PUBLISH_ALERTS
from mmbroker.streams.stages.accounting import Account
from mmbroker.streams.stages.base import RefusedError, Stage
from mmbroker.streams.stages.messages import OBSERVED_AT, Headers, Outgoing, Processed, Received
from mmbroker.streams.store import Reading

FORMAT_HEADERS: dict[str, Headers] = {
    "container": {"_format": b"avro"},
    "json": {"_format": b"json"},
}
"""The header that tells hop clients how to decode a message, by format of the stream."""


class PublishAlerts(Stage):
    """The stage; its alert streams are those of ``topics``."""

    name = PUBLISH_ALERTS

    @property
    def sources(self) -> Sequence[str]:
        """The scored galaxies."""
        return [self.topics.scored]

    def process(self, batch: Sequence[Received]) -> Iterator[Processed]:
        """Make the alerts of a batch of scored galaxies; see ``stages.base.Stage``."""
        messages: list[Outgoing] = []
        outcomes: list[str] = []
        with self.metrics.part("decide"), self.store.reading() as reading:
            said = {stream.name: _Said(stream, reading) for stream in self.topics.alert_streams}
            account = Account(PUBLISH_ALERTS, reading, {})
            for event in batch:
                try:
                    score = self.decoded(event, self.codec.decode_score, score_problems)
                except RefusedError as refused:
                    outcomes.append(refused.outcome)
                    messages.append(self.quarantined(event, refused))
                    continue
                repeated = account.is_counted(event)
                made = [stream.decide(score, event, repeated) for stream in said.values()]
                outcomes.append("alerted" if any(made) else "unchanged")
        with self.metrics.part("encode"):
            messages += [self._message(*alert) for each in said.values() for alert in each.alerts()]
        yield Processed(messages, lambda: self._finish(batch, outcomes, list(said.values())))

    def _message(self, stream: AlertStream, head: AlertHead, made: _Made) -> Outgoing:
        return Outgoing(
            self.topics.alerts(stream.name),
            made.score.galaxy_id.encode(),
            self.codec.encode_alert(head, made.event.value or b"", stream.format),
            {**FORMAT_HEADERS[stream.format], OBSERVED_AT: made.event.observed_at},
        )

    def _finish(
        self, batch: Sequence[Received], outcomes: Sequence[str], said: Sequence[_Said]
    ) -> list[Outgoing]:
        log_starts = self.log_starts(batch)
        with self.metrics.part("store"), self.store.writing() as writing:
            account = Account(PUBLISH_ALERTS, writing, log_starts)
            for event, outcome in zip(batch, outcomes, strict=True):
                account.add(event, outcome)
            for stream in said:
                for galaxy_id, last in stream.new.items():
                    writing.put_alert(stream.name, galaxy_id, last)
                if stream.places:
                    writing.rank(ranking_name(stream.name), stream.places)
                writing.account(f"{PUBLISH_ALERTS}/{stream.name}", {}, stream.counts)
            account.store(writing)
        self.metrics.accounted(account.outcomes)
        for stream in said:
            self.metrics.alerted(stream.name, stream.counts)
        return []


def ranking_name(stream: str) -> str:
    """Name of the ranking within an alert stream."""
    return f"alerts/{stream}"


@dataclass(frozen=True)
class _Made:
    """A decision for an alert, with what is needed to make its message."""

    score: Score
    event: Received
    decision: Decision
    before: LastAlert | None
    now: LastAlert


class _Said:
    """What one alert stream says in a batch, together with what it said before."""

    def __init__(self, stream: AlertStream, reading: Reading) -> None:
        self.name = stream.name
        self.new: dict[str, LastAlert] = {}
        self.places: dict[str, tuple[int, int | None]] = {}
        self.counts: Counter[str] = Counter()
        self._stream = stream
        self._reading = reading
        self._histogram = reading.ranking(ranking_name(stream.name))
        self._made: list[_Made] = []

    def decide(self, galaxy: Score, event: Received, repeated: bool) -> bool:
        """Decide about one galaxy.

        Args:
            galaxy: its score.
            event: the message with the score.
            repeated: whether the message was counted before. Its alert is durable then, and is not
                made again: the stream may have gone on to another score of the same version.

        Returns:
            Whether there is an alert.
        """
        last = self.new.get(galaxy.galaxy_id)
        if last is None:
            last = self._reading.last_alert(self.name, galaxy.galaxy_id)
        # The version of a score of which nothing was said is not kept, which would take a write for
        # each score. Then an older one that comes late may have an alert; but whoever scored it
        # late publishes the newest score again behind it, which has the last word.
        if last is not None and galaxy.version < last.version + repeated:
            return False
        if last is not None and self._has_spoken_of(galaxy, last):
            return False
        decision = decide(galaxy, self._stream, last)
        if decision is None:
            return False
        now = last_alert(galaxy, self._stream, decision)
        self.new[galaxy.galaxy_id] = now
        self._place(galaxy, now)
        self.counts[decision.alert_type.lower()] += 1
        self._made.append(_Made(galaxy, event, decision, last, now))
        return True

    def _has_spoken_of(self, galaxy: Score, last: LastAlert) -> bool:
        """Whether the last alert was about this very score, which has been published again."""
        return galaxy.version == last.version and last.alert_id in {
            alert_id(galaxy, self._stream, kind) for kind in get_args(AlertType)
        }

    def alerts(self) -> list[tuple[AlertStream, AlertHead, _Made]]:
        """The alerts of the batch, with their ranks at the end of the batch."""
        count = int(self._histogram.sum())
        return [
            (
                self._stream,
                AlertHead(
                    alert_id=made.now.alert_id,
                    stream=self.name,
                    alert_type=made.decision.alert_type,
                    supersedes=None if made.before is None else made.before.alert_id,
                    reasons=made.decision.reasons,
                    stream_rank=self._rank(made.now),
                    stream_galaxies=count,
                ),
                made,
            )
            for made in self._made
        ]

    def _rank(self, alert: LastAlert) -> int:
        if not alert.active:
            return 0
        return ranking.rank(self._histogram, ranking.bin_of(alert.probability))

    def _place(self, galaxy: Score, now: LastAlert) -> None:
        name = galaxy.galaxy_id
        before = self.places.get(name) or self._reading.ranked(ranking_name(self.name), name)
        after = ranking.bin_of(now.probability) if now.active else None
        ranking.move(self._histogram, None if before is None else before[1], after)
        self.places[name] = galaxy.version, after
