"""What stands in a scored galaxy, and what of it depends on what."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from mmbroker.processors.fingerprint.merge import empty
from mmbroker.processors.redshift import ConventionalRedshift
from mmbroker.processors.scoring.calibration import Calibration
from mmbroker.processors.scoring.score import NO_CRITIC, NOT_REFINED, RefinedRedshifts, Scorer
from mmbroker.schemas.events import BandStatistics, ModelUsed, RedshiftPosterior, ScoredGalaxy
from mmbroker.schemas.records import to_record

MODELS = [ModelUsed("refined-redshift", "refined", "1", "abc")]
GALAXIES = [
    replace(empty(name), bands=[BandStatistics("500", 6e11, 1e6, 1e6 * flux, count=1)])
    for name, flux in (("a", 0.02), ("b", 0.05))
]


@pytest.fixture(scope="module")
def scorer() -> Scorer:
    calibration = Calibration(np.array([0.0, 1.0]), np.array([0.1, 0.9]))
    return Scorer(ConventionalRedshift(), calibration, calibration, code="0.1.0+test")


def scores(scorer: Scorer, refinement: RefinedRedshifts) -> list[ScoredGalaxy]:
    estimated = scorer.redshift.estimate_fully(GALAXIES)
    encoded = [b"a", b"b"]
    return scorer.score(GALAXIES, encoded, estimated, NO_CRITIC, 1, refinement)


def posteriors(scorer: Scorer) -> Sequence[RedshiftPosterior]:
    return [replace(each, best=9.0) for each in scorer.redshift.estimate(GALAXIES)]


def test_a_refined_redshift_stands_beside_the_one_in_force(scorer: Scorer) -> None:
    one, _ = posteriors(scorer)
    first, second = scores(scorer, RefinedRedshifts([one, None], MODELS, ["", "conventional: why"]))
    assert first.refined_redshift is one
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
