"""What stands in a scored galaxy, and what of it depends on what."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from mmbroker.models.packaged.reliability import load_reliability
from mmbroker.models.packaged.templates import load_templates
from mmbroker.processors.fingerprint.merge import empty
from mmbroker.processors.redshift import ConventionalRedshift
from mmbroker.processors.redshift.evidence_kind import EvidenceKind
from mmbroker.processors.scoring.calibration import Calibration
from mmbroker.processors.scoring.score import NO_CRITIC, NOT_REFINED, RefinedRedshifts, Scorer
from mmbroker.schemas.events import (
    BandStatistics,
    Fingerprint,
    ModelUsed,
    RedshiftPosterior,
    ScoredGalaxy,
)
from mmbroker.schemas.records import to_record

MODELS = [ModelUsed("refined-redshift", "refined", "1", "abc")]
GALAXIES = [
    replace(empty(name), bands=[BandStatistics("500", 6e11, 1e6, 1e6 * flux, count=1)])
    for name, flux in (("a", 0.02), ("b", 0.05))
]


@pytest.fixture(scope="module")
def scorer() -> Scorer:
    calibration = Calibration(np.array([0.0, 1.0]), np.array([0.1, 0.9]))
    reliability = load_reliability()
    return Scorer(ConventionalRedshift(), calibration, reliability, "templates", "0.1.0+test")


def scores(
    scorer: Scorer, refinement: RefinedRedshifts, galaxies: Sequence[Fingerprint] = GALAXIES
) -> list[ScoredGalaxy]:
    evidence = scorer.redshift.evidence(galaxies)
    evidence = replace(evidence, templates=load_templates().fitted(galaxies))
    estimated = scorer.redshift.estimate_fully(galaxies, evidence)
    rated = scorer.rate(galaxies, estimated, evidence)
    encoded = [each.galaxy_id.encode() for each in galaxies]
    return scorer.score(galaxies, encoded, estimated, rated, NO_CRITIC, 1, refinement)


def posteriors(scorer: Scorer) -> Sequence[RedshiftPosterior]:
    return [replace(each, best=9.0) for each in scorer.redshift.estimate(GALAXIES)]


def test_a_refined_redshift_stands_beside_the_one_in_force(scorer: Scorer) -> None:
    one, _ = posteriors(scorer)
    first, second = scores(scorer, RefinedRedshifts([one, None], MODELS, ["", "conventional: why"]))
    assert first.refined_redshift is one
    assert first.redshift is not None
    assert first.redshift.best != one.best
    assert second.refined_redshift is None
    assert second.refined_redshift_reason == "conventional: why"
    for galaxy in (first, second):
        assert [each for each in galaxy.models if each.role == "refined-redshift"] == MODELS


def test_no_score_depends_on_the_refined_redshift(scorer: Scorer) -> None:
    ignored = {"refined_redshift", "models", "provenance"}
    pairs = zip(
        scores(scorer, RefinedRedshifts(posteriors(scorer), MODELS)),
        scores(scorer, NOT_REFINED),
        strict=True,
    )
    for with_it, without in pairs:
        one, other = to_record(with_it), to_record(without)
        assert {key for key in one if one[key] != other[key]} == ignored
        changed = {"scorer_hash"}
        made, made_without = one["provenance"], other["provenance"]
        assert {key for key in made if made[key] != made_without[key]} == changed


def test_a_galaxy_of_which_nothing_tells_a_redshift_has_none(scorer: Scorer) -> None:
    optical = [BandStatistics(f"{um} um", 3e14 / um, 1e12, 1e12 * 1e-5, count=1) for um in (0.5, 1)]
    known = GALAXIES[0]
    unknown = [empty("nothing"), replace(empty("optical"), bands=optical)]
    of_nothing, of_optical, of_dust = scores(scorer, NOT_REFINED, [*unknown, known])
    for galaxy in (of_nothing, of_optical):
        assert galaxy.redshift is None
        assert galaxy.probability is None
        assert galaxy.reliability is None
        assert galaxy.redshift_reason.startswith("no redshift yet: ")
        assert galaxy.recovered_lines is None
    assert "optical" in of_optical.redshift_reason
    assert of_dust.redshift is not None
    assert of_dust.redshift_reason == ""


def test_a_probability_is_the_sum_of_what_was_looked_at(scorer: Scorer) -> None:
    for galaxy in scores(scorer, NOT_REFINED):
        assert galaxy.reliability is not None
        assert galaxy.reliability.kind == EvidenceKind.FAR.value
        odds = math.exp(sum(term.log_odds for term in galaxy.reliability.terms))
        assert galaxy.probability == pytest.approx(odds / (1 + odds))
