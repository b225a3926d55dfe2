"""Cases of real galaxies."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mmbroker.models.packaged.templates import load_templates
from mmbroker.models.redshift.reliability.cases import Cases, cases_of, read_samples
from mmbroker.processors.redshift import ConventionalRedshift
from mmbroker.processors.redshift.evidence_kind import NO_REDSHIFT, EvidenceKind


@pytest.fixture(scope="module")
def cases(shared_data: Path) -> Cases:
    samples = [one.select(np.arange(len(one.names)) < 12) for one in read_samples(shared_data)]
    estimator = ConventionalRedshift()
    return cases_of(samples, load_templates(), lambda _: estimator)


def test_a_galaxy_is_a_case_for_each_kind_of_evidence_it_has(cases: Cases) -> None:
    goods = cases.select(cases.field == "GOODS-N")
    kinds = {name: sorted(goods.kind[goods.name == name].tolist()) for name in set(goods.name)}
    everything = [
        EvidenceKind.FAR.value, EvidenceKind.PUBLISHED.value, EvidenceKind.PUBLISHED_AND_FAR.value
    ]  # fmt: skip
    assert all(one == sorted(everything) for one in kinds.values())
    elsewhere = cases.select(cases.field != "GOODS-N")
    assert set(elsewhere.kind.tolist()) == {EvidenceKind.FAR.value}
    assert not set(cases.kind.tolist()) & {kind.value for kind in NO_REDSHIFT}


def test_a_galaxy_of_two_tables_of_one_field_counts_once(shared_data: Path) -> None:
    cosmos = [one for one in read_samples(shared_data) if one.field == "COSMOS"]
    assert len(cosmos) == 2
    places = [
        {(round(each.right_ascension_deg, 3), round(each.declination_deg, 3)) for each in many}
        for many in (one.fingerprints for one in cosmos)
    ]
    assert not places[0] & places[1]


def test_published_redshifts_are_compared_only_where_they_count(cases: Cases) -> None:
    without = cases.kind == EvidenceKind.FAR.value
    for name in ("published disagreement", "published width"):
        assert np.isnan(cases.checks[name][without]).all()
        assert np.isfinite(cases.checks[name][~without]).any()
    alone = cases.kind == EvidenceKind.PUBLISHED.value
    assert np.isnan(cases.checks["mass by continuum"][alone]).all()
