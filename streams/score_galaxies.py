"""Second stage: fingerprints in, scored and ranked galaxies out. Holds no galaxy state.

Of several fingerprints of one galaxy in a batch only the newest is scored. The store serves for
ranks and counts alone, so a new model is rolled out by reading the fingerprints again.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from models.critic import Critic, CriticUnavailable
from processors import ranking
from processors.scoring import NO_CRITIC, Judged, Scorer, with_rank
from processors.vector import FingerprintVectors, condition, vectors
from schemas.codec import Codec, MalformedEventError
from schemas.events import Fingerprint, RedshiftPosterior, ScoredGalaxy

from .accounting import Account
from .errors import InfrastructureError
from .messages import OBSERVED_AT, Outgoing, Processed, Received
from .stage import RefusedError, Stage
from .store import Store
from .topics import Topics

NAME = "score-galaxies"
RANKING = "scored"


class ScoreGalaxies(Stage):
    """The stage.

    Args:
        store: for ranks and counts.
        topics: names of the topics.
        codec: events to bytes and back.
        scorer: scores galaxies.
        critic: judges fingerprints; None leaves its output absent.
    """

    name = NAME

    def __init__(
        self, store: Store, topics: Topics, codec: Codec, scorer: Scorer, critic: Critic | None
    ) -> None:
        super().__init__(store, topics, codec)
        self._scorer = scorer
        self._critic = critic

    @property
    def sources(self) -> Sequence[str]:
        """The fingerprints."""
        return [self.topics.fingerprints]

    def process(self, batch: Sequence[Received]) -> Processed:
        """Score a batch of fingerprints; see ``stage.Stage``."""
        messages: list[Outgoing] = []
        outcomes: list[str] = []
        newest: dict[str, tuple[Fingerprint, Received]] = {}
        with self.metrics.part("decode"):
            for event in batch:
                try:
                    fingerprint = self.codec.decode_as(Fingerprint, event.value)
                except MalformedEventError as error:
                    refused = RefusedError("undecodable", str(error))
                    outcomes.append(refused.outcome)
                    messages.append(self.quarantined(event, refused))
                    continue
                known = newest.get(fingerprint.galaxy_id)
                if known is None or fingerprint.version >= known[0].version:
                    newest[fingerprint.galaxy_id] = fingerprint, event
                outcomes.append(fingerprint.galaxy_id)
        chosen = {id(event) for _, event in newest.values()}
        outcomes = [
            outcome if outcome.startswith("quarantined") else _outcome(id(event) in chosen)
            for outcome, event in zip(outcomes, batch, strict=True)
        ]
        galaxies = self.score(list(newest.values())) if newest else []
        places = {
            galaxy.galaxy_id: (galaxy.version, ranking.bin_of(galaxy.probability))
            for galaxy in galaxies
        }
        with self.metrics.part("rank"):
            messages += self._ranked(galaxies, places, {k: e for k, (_, e) in newest.items()})
        return Processed(messages, lambda: self._finish(batch, outcomes, galaxies, places))

    def score(self, fingerprints: Sequence[tuple[Fingerprint, Received]]) -> list[ScoredGalaxy]:
        """Score fingerprints with the messages they came in; ranks are not yet known."""
        decoded = [fingerprint for fingerprint, _ in fingerprints]
        with self.metrics.part("redshift"):
            estimated = self._scorer.redshift.estimate_with_features(decoded)
        posteriors = [posterior for posterior, _ in estimated]
        judged = NO_CRITIC
        if self._critic is not None:
            judged = self._judge(self._critic, decoded, posteriors)
        with self.metrics.part("score"):
            return self._scorer.score(
                decoded,
                [event.value or b"" for _, event in fingerprints],
                posteriors,
                [features for _, features in estimated],
                judged,
                self.codec.schema_id(Fingerprint),
            )

    def probe(self) -> None:
        """See ``stage.Stage``: the critic."""
        if self._critic is not None and not self._critic.ready():
            raise InfrastructureError(
                f"Triton at {self._critic.url} does not serve model {self._critic.model!r}"
            )

    def _judge(
        self,
        critic: Critic,
        fingerprints: Sequence[Fingerprint],
        posteriors: Sequence[RedshiftPosterior],
    ) -> Judged:
        """What the critic says of the fingerprints in which something was observed."""
        seen = vectors(fingerprints)
        outputs = np.full(len(fingerprints), np.nan, np.float32)
        chosen = np.flatnonzero(seen.observed)
        try:
            if chosen.size:
                part = FingerprintVectors(seen.values[chosen], seen.mask[chosen])
                given = condition([posteriors[row] for row in chosen.tolist()])
                with self.metrics.triton():
                    outputs[chosen] = critic.score(part, given)
            return Judged(outputs, critic.model_hash)
        except CriticUnavailable as error:
            self.metrics.triton_errors.inc()
            raise InfrastructureError(str(error)) from error

    def _ranked(
        self,
        galaxies: Sequence[ScoredGalaxy],
        places: dict[str, tuple[int, int]],
        events: dict[str, Received],
    ) -> list[Outgoing]:
        with self.store.reading() as reading:
            histogram = reading.ranking(RANKING)
            for galaxy_id, (version, bin_index) in places.items():
                before = reading.ranked(RANKING, galaxy_id)
                if before is None or before[0] <= version:
                    ranking.move(histogram, None if before is None else before[1], bin_index)
        count = int(histogram.sum())
        return [
            Outgoing(
                self.topics.scored,
                galaxy.galaxy_id.encode(),
                self.codec.encode(
                    with_rank(galaxy, ranking.rank(histogram, places[galaxy.galaxy_id][1]), count)
                ),
                {OBSERVED_AT: events[galaxy.galaxy_id].observed_at},
            )
            for galaxy in galaxies
        ]

    def _finish(
        self,
        batch: Sequence[Received],
        outcomes: Sequence[str],
        galaxies: Sequence[ScoredGalaxy],
        places: dict[str, tuple[int, int]],
    ) -> list[Outgoing]:
        with self.metrics.part("store"), self.store.writing() as writing:
            account = Account(NAME, writing)
            for event, outcome in zip(batch, outcomes, strict=True):
                account.add(event, outcome)
            writing.rank(RANKING, places)
            account.store(writing)
        self.metrics.accounted(account.outcomes)
        self.metrics.scored(galaxies)
        return []


def _outcome(scored: bool) -> str:
    return "scored" if scored else "superseded"
