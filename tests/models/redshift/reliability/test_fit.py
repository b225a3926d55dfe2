"""Fitting the probability that a redshift is right."""

from __future__ import annotations

import numpy as np
import pytest

from mmbroker.models.redshift.reliability.cases import Cases
from mmbroker.models.redshift.reliability.fit import fit, probabilities
from mmbroker.processors.redshift.evidence_kind import NO_REDSHIFT, EvidenceKind
from mmbroker.processors.scoring.reliability import CHECKS, ReliabilityModel

COUNT = 400
FAR = EvidenceKind.FAR.value


def simulated(kind: str = FAR, seed: int = 0, unknown: float = 0.2) -> Cases:
    """Cases that are the more often right, the more the templates agree; some have no templates."""
    random = np.random.default_rng(seed)
    agreement = random.uniform(0.01, 0.99, COUNT)
    right = random.uniform(size=COUNT) < agreement
    checks = {name: random.uniform(0.1, 0.9, COUNT) for name in CHECKS}
    missing = random.uniform(size=COUNT) < unknown
    checks["mass by templates"] = np.where(missing, np.nan, agreement)
    truth = np.full(COUNT, 1.0)
    return Cases(
        field=np.full(COUNT, "field"),
        name=np.array([str(each) for each in range(COUNT)]),
        kind=np.full(COUNT, kind),
        checks=checks,
        best=np.where(right, truth, 3.0),
        truth=truth,
        s500_jy=np.full(COUNT, np.nan),
        unseen=np.ones(COUNT, bool),
    )


def test_what_tells_right_from_wrong_is_found_in_galaxies_that_were_left_out() -> None:
    model = fit(simulated())
    others = simulated(seed=1, unknown=0.0)
    stated = probabilities(model, others)
    assert np.mean((stated - others.right) ** 2) < 0.19  # 0.25 without knowing anything
    assert stated.mean() == pytest.approx(others.right.mean(), abs=0.05)
    agreeing = others.checks["mass by templates"] > 0.9
    assert (
        stated[agreeing].mean()
        > 0.8
        > 0.2
        > stated[others.checks["mass by templates"] < 0.1].mean()
    )


def test_more_agreement_never_makes_a_redshift_less_reliable() -> None:
    cases = simulated()
    cases.best[:] = np.where(cases.right, 3.0, 1.0)  # the opposite of what physics says
    (term,) = (one for one in fit(cases).terms[FAR] if one.name == "mass by templates")
    assert (np.diff(term.log_odds) >= -1e-9).all()


def test_what_is_not_known_counts_what_it_did_where_it_was_not_known() -> None:
    cases = simulated(unknown=0.5)
    missing = np.isnan(cases.checks["mass by templates"])
    cases.best[missing] = 3.0
    stated = probabilities(fit(cases), cases)
    assert stated[missing].mean() < 0.2


def test_kinds_with_few_galaxies_take_what_holds_for_the_mass_of_all() -> None:
    model = fit(simulated())
    for kind in set(EvidenceKind) - NO_REDSHIFT - {EvidenceKind.FAR}:
        (term,) = model.terms[kind]
        assert term.name == "posterior mass"
        assert len(term.values) == 2


def test_a_model_is_the_same_after_it_was_written_and_read() -> None:
    model = fit(simulated())
    again = ReliabilityModel.from_json(model.as_json())
    assert again.identity == model.identity
    changed = model.as_json()
    changed[FAR]["constant"] += 1e-9
    assert ReliabilityModel.from_json(changed).identity != model.identity


@pytest.mark.parametrize("best", [1.0, 3.0])
def test_cases_of_one_kind_of_outcome_cannot_be_fitted(best: float) -> None:
    cases = simulated()
    cases.best[:] = best
    with pytest.raises(ValueError, match="right and wrong"):
        fit(cases)
