"""Second stage: takes fingerprints and publishes scored and ranked galaxies.

It keeps no state of galaxies except their ranks. If a batch has several fingerprints of one galaxy,
only the newest is scored. For every batch, the store says which version of each model is in force.
So a version can be switched without a restart. Galaxies that were scored before get a score by the
new version when their fingerprints are read again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from mmbroker.models.serving.critic import CriticClient
from mmbroker.models.serving.errors import ModelUnavailable
from mmbroker.models.serving.refined import RefinedRedshiftClient
from mmbroker.models.serving.triton import Model
from mmbroker.processors.fingerprint.vector import FingerprintVectors, condition, vectors
from mmbroker.processors.redshift.refined import Known
from mmbroker.processors.scoring import ranking
from mmbroker.processors.scoring.calibration import Calibration
from mmbroker.processors.scoring.score import NO_CRITIC, NOT_REFINED, Judged, subjects_of
from mmbroker.processors.validation import fingerprint_problems
from mmbroker.schemas.codec import Codec
from mmbroker.schemas.events import Fingerprint, RedshiftPosterior, ScoredGalaxy
from mmbroker.streams.errors import InfrastructureError
from mmbroker.streams.names import SCORE_GALAXIES
from mmbroker.streams.stages.accounting import Account
from mmbroker.streams.stages.base import RefusedError, Stage
from mmbroker.streams.stages.evaluating import Evaluating
from mmbroker.streams.stages.in_force import require_served, version_in_force
from mmbroker.streams.stages.messages import (
    OBSERVED_AT,
    Outgoing,
    Processed,
    Received,
    note_observed,
)
from mmbroker.streams.stages.refining import Refining
from mmbroker.streams.stages.scorers import Scorers
from mmbroker.streams.store import Store
from mmbroker.streams.topics import Topics

Places = dict[str, tuple[int, int | None]]
"""(version, bin in the ranking) by galaxy id; the bin is None for a galaxy without a redshift."""

RANKING = "scored"
"""Name of the ranking of all galaxies."""


class ScoreGalaxies(Stage):
    """The stage.

    Args:
        store: keeps ranks and counts.
        topics: names of the topics.
        codec: events to bytes and back.
        scorers: score galaxies.
        critic: judges fingerprints; with None, scores have no output of a critic.
        refined: makes refined redshifts; with None, scores have none.
        models: the models on Triton that the evaluations ask, by name.
    """

    name = SCORE_GALAXIES

    def __init__(
        self,
        store: Store,
        topics: Topics,
        codec: Codec,
        scorers: Scorers,
        critic: CriticClient | None,
        refined: RefinedRedshiftClient | None = None,
        models: Mapping[str, Model] | None = None,
    ) -> None:
        super().__init__(store, topics, codec)
        self._scorers = scorers
        self._critic = critic
        if critic is not None:
            self.metrics.uses(critic.model)
        self._refining = None if refined is None else Refining(refined, store, self.metrics)
        self._evaluating = Evaluating(models or {}, store, self.metrics)

    @property
    def sources(self) -> Sequence[str]:
        """The fingerprints."""
        return [self.topics.fingerprints]

    def process(self, batch: Sequence[Received]) -> Iterator[Processed]:
        """Score a batch of fingerprints; see ``stages.base.Stage``."""
        messages: list[Outgoing] = []
        refused: dict[int, RefusedError] = {}
        newest: dict[str, tuple[Fingerprint, Received]] = {}
        observed_at: dict[str, bytes] = {}
        decode = partial(self.codec.decode_as, Fingerprint)
        with self.metrics.part("decode"):
            for number, event in enumerate(batch):
                try:
                    fingerprint = self.decoded(event, decode, fingerprint_problems)
                except RefusedError as error:
                    refused[number] = error
                    messages.append(self.quarantined(event, error))
                    continue
                note_observed(observed_at, fingerprint.galaxy_id, event)
                known = newest.get(fingerprint.galaxy_id)
                if known is None or fingerprint.version >= known[0].version:
                    newest[fingerprint.galaxy_id] = fingerprint, event
            newest, late = self._without_older(newest)
        scored = {id(event) for _, event in newest.values()}
        outcomes = [
            refused[number].outcome
            if number in refused
            else ("scored" if id(event) in scored else "superseded")
            for number, event in enumerate(batch)
        ]
        taken = [(fingerprint, event.value or b"") for fingerprint, event in newest.values()]
        galaxies = self.score(taken) if taken else []
        places = places_of(galaxies)
        messages += self._ranked(galaxies, places, observed_at)
        watched = {**late, **places}
        counted = False

        def finish() -> list[Outgoing]:
            nonlocal counted
            if not counted:
                self._finish(batch, outcomes, galaxies, places)
                counted = True
            return self._moved_on(watched, observed_at)

        yield Processed(messages, finish)

    def _without_older(
        self, newest: dict[str, tuple[Fingerprint, Received]]
    ) -> tuple[dict[str, tuple[Fingerprint, Received]], Places]:
        """Take out the fingerprints of which a newer version has been scored.

        Returns:
            The others; and the places of those taken out that were never counted. A process may
            have published their scores behind the newer ones, and then ended.
        """
        late: Places = {}
        left = {}
        with self.store.reading() as reading:
            for galaxy_id, (fingerprint, event) in newest.items():
                ranked = reading.ranked(RANKING, galaxy_id)
                if ranked is None or ranked[0] <= fingerprint.version:
                    left[galaxy_id] = fingerprint, event
                elif event.offset >= reading.next_offset(self.name, event.topic, event.partition):
                    late[galaxy_id] = fingerprint.version, None
        return left, late

    def _moved_on(self, places: Places, observed_at: dict[str, bytes]) -> list[Outgoing]:
        """Scores of galaxies of which another process scored a newer version meanwhile.

        The other's message may come before this process's older one, and compaction would keep the
        older one. So the newest version is published again. ``places`` is updated.
        """
        newer: list[tuple[Fingerprint, bytes]] = []
        with self.store.reading() as reading:
            for galaxy_id, (version, _) in places.items():
                ranked = reading.ranked(RANKING, galaxy_id)
                if ranked is None or ranked[0] <= version:
                    continue
                encoded = reading.fingerprint(galaxy_id)
                if encoded is not None:
                    newer.append((self.codec.decode_as(Fingerprint, encoded), encoded))
        if not newer:
            return []
        galaxies = self.score(newer)
        moved = places_of(galaxies)
        places.update(moved)
        return self._ranked(galaxies, moved, observed_at)

    def score(
        self,
        fingerprints: Sequence[tuple[Fingerprint, bytes]],
        version: int | None = None,
        refined_versions: Sequence[int] | None = None,
        evaluation_versions: Mapping[str, int] | None = None,
    ) -> list[ScoredGalaxy]:
        """Score fingerprints; the scores have no ranks yet.

        Args:
            fingerprints: fingerprints, each with the bytes from which it was decoded.
            version: version of the critic; None for the one in force.
            refined_versions: versions of the networks of the refined redshift; None for those in
                force.
            evaluation_versions: versions of the models that evaluations ask, by name; None for
                those in force.

        Raises:
            InfrastructureError: Triton does not answer, or does not serve a version.
        """
        decoded = [fingerprint for fingerprint, _ in fingerprints]
        redshift, seen = self._scorers.redshift, vectors(decoded)
        with self.metrics.part("redshift"):
            evidence = redshift.evidence(decoded)
            estimated = redshift.estimate_fully(decoded, evidence)
        with self.metrics.part("templates"):
            rows = self._scorers.reliability.compared(decoded, estimated)
            fitted = self._scorers.templates.fitted_to(decoded, rows)
            compared = replace(evidence, templates=fitted)
        refinement = NOT_REFINED
        if self._refining is not None:
            with self.metrics.part("refined-redshift"):
                known = Known(seen, compared)
                refinement = self._refining.refine(decoded, known, refined_versions)
        judged, calibration = NO_CRITIC, None
        if self._critic is not None:
            posteriors = [each.posterior for each in estimated]
            version = version or version_in_force(self._critic, self.store)
            judged, calibration = self._judge(self._critic, version, seen, posteriors)
        scorer = self._scorers.calibrated(calibration)
        with self.metrics.part("recovered-lines"):
            recovered = scorer.recover(estimated)
        subjects = subjects_of(decoded, estimated)
        answers = self._evaluating.answers(scorer.evaluations, subjects, evaluation_versions)
        with self.metrics.part("reliability"):
            rated = scorer.rate(decoded, estimated, compared)
        with self.metrics.part("score"):
            return scorer.score(
                decoded,
                [encoded for _, encoded in fingerprints],
                estimated,
                rated,
                judged,
                self.codec.schema_id(Fingerprint),
                refinement,
                recovered,
                answers,
            )

    def probe(self) -> None:
        """Check the models in force; see ``stages.base.Stage``."""
        if self._critic is not None:
            require_served(self._critic, self.store, self.metrics)
        if self._refining is not None:
            self._refining.probe()
        self._evaluating.probe()

    def _judge(
        self,
        critic: CriticClient,
        version: int,
        seen: FingerprintVectors,
        posteriors: Sequence[RedshiftPosterior],
    ) -> tuple[Judged, Calibration]:
        """Ask a version of the critic about the galaxies that have observed values.

        Returns:
            Its outputs, NaN for the other galaxies, and the calibration of this version.

        Raises:
            InfrastructureError: Triton does not answer, or does not serve this version.
        """
        outputs = np.full(len(seen), np.nan, np.float32)
        chosen = np.flatnonzero(seen.observed)
        try:
            if chosen.size:
                part = FingerprintVectors(seen.values[chosen], seen.mask[chosen])
                given = condition([posteriors[row] for row in chosen.tolist()])
                with self.metrics.triton(critic.model):
                    outputs[chosen] = critic.score(part, given, version)
            model_hash = critic.version(version).sha256
            judged = Judged(outputs, model_hash, model_version=str(version))
            calibration = critic.calibration(version)
        except ModelUnavailable as error:
            self.metrics.triton_failed(critic.model)
            raise InfrastructureError(str(error)) from error
        self.metrics.model_in_force(critic.model, version)
        return judged, calibration

    def _ranked(
        self,
        galaxies: Sequence[ScoredGalaxy],
        places: Places,
        observed_at: dict[str, bytes],
    ) -> list[Outgoing]:
        with self.metrics.part("rank"), self.store.reading() as reading:
            histogram = reading.ranking(RANKING)
            for galaxy_id, (version, bin_index) in places.items():
                before = reading.ranked(RANKING, galaxy_id)
                if before is None or before[0] <= version:
                    ranking.move(histogram, None if before is None else before[1], bin_index)
            count = int(histogram.sum())
            for galaxy in galaxies:
                galaxy.rank = _rank(histogram, places[galaxy.galaxy_id][1])
                galaxy.ranked_galaxies = count
        with self.metrics.part("encode"):
            return [
                Outgoing(
                    self.topics.scored,
                    galaxy.galaxy_id.encode(),
                    self.codec.encode(galaxy),
                    {OBSERVED_AT: observed_at[galaxy.galaxy_id]},
                )
                for galaxy in galaxies
            ]

    def _finish(
        self,
        batch: Sequence[Received],
        outcomes: Sequence[str],
        galaxies: Sequence[ScoredGalaxy],
        places: Places,
    ) -> None:
        log_starts = self.log_starts(batch)
        with self.metrics.part("store"), self.store.writing() as writing:
            account = Account(SCORE_GALAXIES, writing, log_starts)
            for event, outcome in zip(batch, outcomes, strict=True):
                account.add(event, outcome)
            writing.rank(RANKING, places)
            account.store(writing)
        self.metrics.accounted(account.outcomes)
        self.metrics.scored(galaxies)


def places_of(galaxies: Sequence[ScoredGalaxy]) -> Places:
    """Version and bin by galaxy id; a galaxy without a redshift in force has no bin."""
    return {
        galaxy.galaxy_id: (
            galaxy.version,
            None if galaxy.probability is None else ranking.bin_of(galaxy.probability),
        )
        for galaxy in galaxies
    }


def _rank(histogram: ranking.Histogram, bin_index: int | None) -> int:
    return 0 if bin_index is None else ranking.rank(histogram, bin_index)
