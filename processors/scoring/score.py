"""Makes scored galaxies of fingerprints: features, evaluations, HyperScore and probability.

Redshifts, what makes them reliable, and the critic's outputs are given to it. Ranks are left at 0,
because they depend on the other galaxies; the caller fills them in.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mmbroker.processors.evaluations import EVALUATIONS, Answer, Evaluation, Subject
from mmbroker.processors.lines.joint import LineRecovery
from mmbroker.processors.lines.recover import recovered_lines
from mmbroker.processors.redshift import ConventionalRedshift, Estimated
from mmbroker.processors.redshift.evidence import Evidence
from mmbroker.processors.redshift.evidence_kind import why_no_redshift
from mmbroker.processors.scoring.calibration import Calibration
from mmbroker.processors.scoring.features import features_of
from mmbroker.processors.scoring.hyperscore import Form, hyperscore, renormalised, value
from mmbroker.processors.scoring.reliability import ReliabilityModel, probability_of
from mmbroker.schemas.events import (
    CriticOutput,
    EvaluationScore,
    Fingerprint,
    Floats,
    ModelUsed,
    Provenance,
    RecoveredLines,
    RedshiftPosterior,
    RedshiftReliability,
    ScoredGalaxy,
)

SUBMILLIMETRE_HZ = (80e9, 1e12)
SIGNIFICANT_SIGMAS = 3.0


@dataclass(frozen=True)
class Judged:
    """The verdict of a critic on a batch.

    Attributes:
        outputs: raw outputs, float32, shape (N,); NaN where nothing was observed that could be
            judged; None without a critic.
        model_hash: SHA-256 of the network; empty without a critic.
        reason: why there are no outputs; empty if there are.
        model_version: version of the network on the server.
    """

    outputs: Floats | None
    model_hash: str = ""
    reason: str = ""
    model_version: str = ""


@dataclass(frozen=True)
class RefinedRedshifts:
    """The learned redshifts of a batch. No score depends on them.

    Attributes:
        posteriors: one for each of N galaxies; an entry is None where it would be the conventional
            posterior. None for all if the learned redshift was not asked.
        models: the models that were asked.
        reasons: for each galaxy why its posterior would be the conventional one; else empty.
    """

    posteriors: Sequence[RedshiftPosterior | None] | None
    models: Sequence[ModelUsed] = ()
    reasons: Sequence[str] = ()


NOT_REFINED = RefinedRedshifts(None)

NOTHING_TO_JUDGE = "absent: no flux density, spectrum or map was observed"
NO_CRITIC = Judged(None, reason="absent: no critic is configured")


class Scorer:
    """Scores galaxies; ``identity`` is a hash over all that its scores depend on.

    Args:
        redshift: the estimator of the redshifts in force.
        critic_calibration: turns the critic's output into the probability of being genuine.
        reliability: turns what was observed into the probability that a redshift is right.
        templates: identity of the templates that redshifts are compared with.
        code: name of the scoring code and its version; other code has another name.
        form: form of the HyperScore.
        evaluations: the evaluations.
        weights: Shapley weights of the evaluations by name; None for equal ones.
        line_recovery: the recovery of lines that are not measured, and its model; None to recover
            no lines.
    """

    def __init__(
        self,
        redshift: ConventionalRedshift,
        critic_calibration: Calibration,
        reliability: ReliabilityModel,
        templates: str,
        code: str,
        form: Form = "plus-gamma",
        evaluations: Sequence[Evaluation] = EVALUATIONS,
        weights: Mapping[str, float] | None = None,
        line_recovery: tuple[LineRecovery, ModelUsed] | None = None,
    ) -> None:
        self.redshift = redshift
        self._critic_calibration = critic_calibration
        self._reliability = reliability
        self._templates = templates
        self._code = code
        self._form = form
        self.evaluations = evaluations
        self._weights = weights or {each.name: 1.0 / len(evaluations) for each in evaluations}
        self._line_recovery = line_recovery

    @property
    def calibration_id(self) -> str:
        """The ids of the model of reliability and of the critic's calibration, with a plus."""
        return f"{self._reliability.identity}+{self._critic_calibration.calibration_id}"

    def identity(self, model_hash: str, asked: Sequence[ModelUsed] = ()) -> str:
        """Hash over what a scored galaxy depends on besides the fingerprint.

        That is the critic, the calibrations, the redshift's constants, the form, the evaluations
        and their weights, the code, and the other models that were asked.

        Args:
            model_hash: SHA-256 of the critic; empty without one.
            asked: the models that refine the redshift and that answer the evaluations, whether
                they were asked for these galaxies or not.
        """
        parts = [
            model_hash,
            self.redshift.identity,
            self.redshift.transitions.identity,
            self._templates,
            self.calibration_id,
            self._form,
            self._code,
            "" if self._line_recovery is None else self._line_recovery[1].sha256,
            *(f"{name}={weight!r}" for name, weight in sorted(self._weights.items())),
            *(f"{each.name}: {each.identity}" for each in self.evaluations),
            *(f"{each.role}: {each.sha256}" for each in asked),
        ]
        return hashlib.blake2b("\n".join(parts).encode(), digest_size=16).hexdigest()

    def score(
        self,
        fingerprints: Sequence[Fingerprint],
        encoded: Sequence[bytes],
        estimated: Sequence[Estimated],
        rated: Sequence[RedshiftReliability | None],
        judged: Judged,
        schema_id: int,
        refinement: RefinedRedshifts = NOT_REFINED,
        recovered: Sequence[RecoveredLines | None] | None = None,
        answers: Mapping[str, Answer] | None = None,
    ) -> list[ScoredGalaxy]:
        """Score a batch of galaxies.

        Args:
            fingerprints: fingerprints of the galaxies.
            encoded: the bytes of the fingerprints as they were read, for their hashes.
            estimated: what ``redshift`` found out about the galaxies.
            rated: the result of ``rate``.
            judged: the verdict of the critic.
            schema_id: id of the fingerprints' schema.
            refinement: the learned redshifts.
            recovered: the result of ``recover``; None to compute it here.
            answers: answers to the questions of the evaluations, by name of the evaluation, also of
                those that had nothing to ask: the identity of a score does not depend on what else
                is in its batch.

        Returns:
            The scored galaxies in order, with rank 0.
        """
        answers = answers or {}
        posteriors = [each.posterior for each in estimated]
        recovered = self.recover(estimated) if recovered is None else recovered
        refined = refinement.posteriors or [None] * len(posteriors)
        reasons = refinement.reasons or [""] * len(posteriors)
        asked = [*refinement.models, *(each.used for each in answers.values())]
        models = [*self._models(judged), *asked]
        subjects = subjects_of(fingerprints, estimated)
        evaluations = self._evaluate(subjects, answers)
        critics = self._critics(len(subjects), judged)
        values = [
            value(
                {each.name: each.weight for each in scores},
                {each.name: each.score for each in scores},
                critic.genuine_probability,
            )
            for scores, critic in zip(evaluations, critics, strict=True)
        ]
        hyperscores = hyperscore(np.array(values), self._form)
        identity = self.identity(judged.model_hash, asked)
        return [
            ScoredGalaxy(
                galaxy_id=fingerprint.galaxy_id,
                version=fingerprint.version,
                right_ascension_deg=fingerprint.right_ascension_deg,
                declination_deg=fingerprint.declination_deg,
                position_error_arcsec=fingerprint.position_error_arcsec,
                redshift=posterior if reliability else None,
                features=features_of(fingerprint, estimated[index]),
                evaluations=evaluations[index],
                critic=critics[index],
                value=values[index],
                hyperscore=float(hyperscores[index]),
                hyperscore_form=self._form,
                probability=probability_of(reliability) if reliability else None,
                rank=0,
                ranked_galaxies=0,
                simulated=fingerprint.acquisition.simulated > 0,
                ambiguous=fingerprint.acquisition.ambiguous > 0,
                candidates=fingerprint.candidates,
                peak_flux_density_jy=peak_flux_density_jy(fingerprint),
                provenance=Provenance(
                    fingerprint_hash=fingerprint_hash(encoded[index]),
                    observation_count=fingerprint.acquisition.observations,
                    observation_digest=fingerprint.digest.hex(),
                    recent_sources=fingerprint.recent_sources,
                    model_hash=judged.model_hash,
                    calibration_id=self.calibration_id,
                    schema_id=schema_id,
                    code_version=self._code,
                    scorer_hash=identity,
                ),
                parsed=fingerprint.parsed,
                recovered_lines=recovered[index],
                refined_redshift=refined[index],
                refined_redshift_reason=reasons[index],
                models=models + _parsers(fingerprint),
                redshift_reason="" if reliability else why_no_redshift(fingerprint),
                reliability=reliability,
            )
            for index, (fingerprint, posterior, reliability) in enumerate(
                zip(fingerprints, posteriors, rated, strict=True)
            )
        ]

    def rate(
        self,
        fingerprints: Sequence[Fingerprint],
        estimated: Sequence[Estimated],
        evidence: Evidence,
    ) -> list[RedshiftReliability | None]:
        """What makes the redshift of each galaxy reliable; None where it is not in force.

        Args:
            fingerprints: fingerprints of the galaxies.
            estimated: what ``redshift`` found out about them.
            evidence: the evidence that it used, with fitted templates.
        """
        return self._reliability.rate(fingerprints, estimated, evidence)

    def recover(self, estimated: Sequence[Estimated]) -> list[RecoveredLines | None]:
        """The recovered lines of each galaxy; None where nothing observed constrains them."""
        if self._line_recovery is None:
            return [None] * len(estimated)
        recovery, model = self._line_recovery
        return recovered_lines(recovery, f"{model.name} {model.version} {model.sha256}", estimated)

    def _models(self, judged: Judged) -> list[ModelUsed]:
        """Which models make the scores of a batch."""
        used = [
            ModelUsed("redshift", "conventional", self._code, self.redshift.identity),
            ModelUsed("reliability", "additive", self._code, self._reliability.identity),
        ]
        if judged.model_hash:
            used.append(ModelUsed("critic", "critic", judged.model_version, judged.model_hash))
        if self._line_recovery is not None:
            used.append(self._line_recovery[1])
        return used

    def _evaluate(
        self, subjects: Sequence[Subject], answers: Mapping[str, Answer]
    ) -> list[list[EvaluationScore]]:
        outputs = {name: answer.outputs for name, answer in answers.items()}
        columns = [each.evaluate(subjects, outputs.get(each.name)) for each in self.evaluations]
        names = [each.name for each in self.evaluations]
        rows = []
        for row in zip(*columns, strict=True):
            scores = dict(zip(names, (each.score for each in row), strict=True))
            weights = renormalised(self._weights, scores)
            rows.append(
                [
                    EvaluationScore(name, each.score, weights[name], each.evidence, each.reason)
                    for name, each in zip(names, row, strict=True)
                ]
            )
        return rows

    def _critics(self, count: int, judged: Judged) -> list[CriticOutput]:
        if judged.outputs is None:
            return [CriticOutput(None, None, judged.reason)] * count
        genuine = self._critic_calibration.apply(np.asarray(judged.outputs, dtype=float))
        return [
            CriticOutput(float(output), float(probability), "")
            if np.isfinite(output)
            else CriticOutput(None, None, NOTHING_TO_JUDGE)
            for output, probability in zip(judged.outputs, genuine, strict=True)
        ]


def subjects_of(
    fingerprints: Sequence[Fingerprint], estimated: Sequence[Estimated]
) -> list[Subject]:
    """The subjects that evaluations judge: fingerprints with their redshifts, in order."""
    return [
        Subject(fingerprint, each.posterior)
        for fingerprint, each in zip(fingerprints, estimated, strict=True)
    ]


def _parsers(fingerprint: Fingerprint) -> list[ModelUsed]:
    """The models that made the feature trees; a tree's label is name, version and hash."""
    labels = sorted({tree.model for tree in fingerprint.parsed})
    return [ModelUsed("parsed", *label.split(" ", 2)) for label in labels]


def fingerprint_hash(encoded: bytes) -> str:
    """Hexadecimal BLAKE2b-128 of an encoded fingerprint."""
    return hashlib.blake2b(encoded, digest_size=16).hexdigest()


def peak_flux_density_jy(fingerprint: Fingerprint) -> float | None:
    """Largest flux density of at least 3 sigma between 80 GHz and 1 THz in Jy; None without one."""
    measured = [
        (each.weighted_flux, each.weight)
        for each in fingerprint.bands
        if SUBMILLIMETRE_HZ[0] <= each.frequency_hz <= SUBMILLIMETRE_HZ[1] and each.weight > 0
    ] + [
        (each.weighted_flux, each.weight)
        for each in fingerprint.maps
        if SUBMILLIMETRE_HZ[0] <= each.weighted_frequency / each.weight <= SUBMILLIMETRE_HZ[1]
    ]
    significant = [
        flux / weight for flux, weight in measured if flux >= SIGNIFICANT_SIGMAS * weight**0.5
    ]
    return max(significant, default=None)
