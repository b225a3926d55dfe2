"""Stated probabilities are measured against what came true, and kinds of evidence are named."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmbroker.models.redshift.probability_measures import area_under_curve, reliability
from mmbroker.processors.fingerprint import merge
from mmbroker.processors.redshift import ConventionalRedshift
from mmbroker.processors.redshift.evidence_kind import EvidenceKind, evidence_kind
from mmbroker.schemas.events import LineIdentification, RedshiftPosterior

cases = st.lists(st.tuples(st.sampled_from([0.1, 0.2, 0.5, 0.9]), st.booleans()), min_size=1)


@given(cases)
def test_the_area_is_the_share_of_pairs_in_the_right_order(many: list[tuple[float, bool]]) -> None:
    stated, right = np.array([one for one, _ in many]), np.array([one for _, one in many])
    pairs = list(itertools.product(stated[right], stated[~right]))
    area = float(area_under_curve(stated, right))
    if not pairs:
        assert np.isnan(area)
    else:
        share = np.mean([1.0 if high > low else 0.5 if high == low else 0.0 for high, low in pairs])
        assert area == pytest.approx(share)


@given(cases)
def test_every_case_is_in_one_bin_and_intervals_hold_their_shares(
    many: list[tuple[float, bool]],
) -> None:
    right = np.array([one for _, one in many])
    found = reliability(np.array([one for one, _ in many]), right)
    assert found.count == len(many) == sum(each.count for each in found.bins)
    for each in found.bins:
        share, lower, upper = each.right
        assert 0 <= lower <= share + 1e-9
        assert share - 1e-9 <= upper <= 1
    assert found.figures["right"] is not None
    assert found.figures["right"][0] == pytest.approx(right.mean())


def test_calibrated_probabilities_are_found_calibrated_and_others_not() -> None:
    drawn = np.random.default_rng(1)
    stated = drawn.uniform(size=4_000)
    right = drawn.uniform(size=4_000) < stated
    good, high = reliability(stated, right), reliability(np.sqrt(stated), right)
    for found, holds in ((good, True), (high, False)):
        difference = found.figures["stated_minus_right"]
        assert difference is not None
        assert (difference[1] <= 0 <= difference[2]) is holds
    assert good.figures["area_under_curve"] == high.figures["area_under_curve"]  # one order
    brier = [each.figures["brier"] for each in (good, high)]
    assert brier[0] is not None
    assert brier[1] is not None
    assert brier[0][0] < brier[1][0]


@pytest.fixture(scope="module")
def posterior() -> RedshiftPosterior:
    """Of a galaxy of which nothing was observed."""
    return ConventionalRedshift().estimate([merge.build("g", [])])[0]


@pytest.mark.parametrize(
    ("inputs", "kind"),
    [
        (["prior"], EvidenceKind.PRIOR),
        (["templates"], EvidenceKind.OPTICAL),
        (["radio"], EvidenceKind.FAR),
        (["photometric-redshift"], EvidenceKind.PUBLISHED),
        (["photometric-redshift", "templates", "dust"], EvidenceKind.PUBLISHED_AND_FAR),
        (["dust", "lines"], EvidenceKind.FAR),  # a spectrum in which no line is identified
    ],
)
def test_a_redshift_is_of_the_kind_that_its_evidence_says(
    posterior: RedshiftPosterior, inputs: list[str], kind: EvidenceKind
) -> None:
    assert evidence_kind(changed(posterior, inputs)) is kind


def test_lines_count_where_they_are_at_the_best_redshift(posterior: RedshiftPosterior) -> None:
    best = posterior.best
    one = LineIdentification(best, 0.9, ["CO(3-2)"], [1e11])
    two = LineIdentification(best * 1.0001, 0.9, ["CO(3-2)", "CO(4-3)"], [1e11, 1.3e11])
    blend = LineIdentification(best, 0.9, ["CO(7-6)", "[CI](2-1)"], [1e11, 1e11])
    elsewhere = LineIdentification(best + 1, 0.1, ["CO(4-3)", "CO(5-4)"], [1e11, 1.3e11])
    for modes, kind in (
        ([one], EvidenceKind.ONE_LINE),
        ([two, elsewhere], EvidenceKind.LINES),
        ([blend], EvidenceKind.ONE_LINE),
        ([elsewhere], EvidenceKind.FAR),
    ):
        assert evidence_kind(changed(posterior, ["dust", "lines"], modes)) is kind


def changed(
    posterior: RedshiftPosterior, inputs: list[str], modes: list[LineIdentification] | None = None
) -> RedshiftPosterior:
    return dataclasses.replace(posterior, inputs=inputs, identifications=modes or [])
