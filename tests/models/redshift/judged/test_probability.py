"""The report on the redshift in force and its probability."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="judging needs scikit-learn: pip install -e '.[train]'")

from mmbroker.models.packaged.cards import about
from mmbroker.models.packaged.reliability import NAME as RELIABILITY
from mmbroker.models.packaged.reliability import PATH, load_reliability
from mmbroker.models.pages.render import REPORTS
from mmbroker.models.redshift.conventional.tune_held_out import FOLDS, load_held_out
from mmbroker.models.redshift.judged import no_harm
from mmbroker.models.redshift.judged.probability import (
    MASS,
    MODEL,
    NAME,
    calibration_error,
    conditions,
    figures,
    report,
)
from mmbroker.models.redshift.real_galaxies import Galaxies, read_galaxies
from mmbroker.models.redshift.reliability.cases import Cases
from mmbroker.processors.redshift import ConventionalRedshift
from mmbroker.processors.redshift.evidence_kind import EvidenceKind
from mmbroker.processors.scoring.reliability import CHECKS

NUMBERS: dict[str, Any] = json.loads((REPORTS / f"{NAME}.json").read_text())


def cases(right: list[bool]) -> Cases:
    count = len(right)
    truth = np.ones(count)
    return Cases(
        field=np.full(count, "field"),
        name=np.array([str(each) for each in range(count)]),
        kind=np.full(count, EvidenceKind.FAR.value),
        checks={name: np.full(count, np.nan) for name in CHECKS},
        best=np.where(right, 1.0, 2.0),
        truth=truth,
        s500_jy=np.full(count, np.nan),
        unseen=np.ones(count, bool),
    )


def test_without_the_tables_the_page_says_so(tmp_path: Path) -> None:
    report(None, tmp_path)
    assert "published tables are missing" in (tmp_path / f"{NAME}.md").read_text()


def test_the_page_is_of_the_model_in_force() -> None:
    assert NUMBERS["identity"] == load_reliability().identity
    card = json.loads(PATH.read_text())
    assert card["conventional"] == ConventionalRedshift().identity
    assert (PATH.parents[2] / about(RELIABILITY)["report"]).is_file()
    assert card["caveats"] == about(RELIABILITY)["caveats"]


def test_the_conditions_on_the_page_are_those_of_its_numbers() -> None:
    assert NUMBERS["conditions"] == conditions(
        NUMBERS["in_force"], NUMBERS["probability"], NUMBERS["one_line"]
    )
    text = " ".join((REPORTS / f"{NAME}.md").read_text().split())
    for one in NUMBERS["conditions"]:
        assert f"| {one['asked']} | {one['found']} |" in text


def test_a_condition_that_fails_is_said_to_fail() -> None:
    name = "GOODS-N: far infrared or radio alone"
    numbers = json.loads(json.dumps(NUMBERS))
    one = numbers["probability"]["out of fold"][name]
    one["ways"][MODEL]["area"] = [0.6, 0.5, 0.7]
    one["calibration_error"] = 0.2
    one["ways"][MASS]["brier_difference"] = [-0.01, -0.03, 0.01]
    failed = [
        each["asked"]
        for each in conditions(numbers["in_force"], numbers["probability"], numbers["one_line"])
        if each["asked"].startswith(f"{name}, out of fold") and not each["met"]
    ]
    assert len(failed) == 3


def test_figures_are_those_of_the_chosen_cases() -> None:
    some = cases([True, True, False, False, True, False])
    stated = np.array([0.9, 0.8, 0.2, 0.1, 0.4, 0.6])
    chosen = np.array([True] * 5 + [False])
    found = figures(some, {MODEL: stated, MASS: np.full(6, 0.5)}, chosen)
    assert found["n"] == 5
    assert found["right"][0] == pytest.approx(0.6)
    assert found["ways"][MODEL]["area"][0] == 1.0
    assert "area" not in found["ways"][MASS]
    expected = np.mean([0.1**2, 0.2**2, 0.2**2, 0.1**2, 0.6**2])
    assert found["ways"][MODEL]["brier"][0] == pytest.approx(expected)
    assert found["ways"][MASS]["brier_difference"][0] == pytest.approx(expected - 0.25)


def test_the_calibration_error_is_that_of_bins_of_equal_count() -> None:
    stated = np.repeat([0.1, 0.3, 0.5, 0.7, 0.9], 20)
    right = np.tile(np.arange(20) < 10, 5)
    assert calibration_error(stated, right) == pytest.approx(np.mean([0.4, 0.2, 0.0, 0.2, 0.4]))


# No harm ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def goods(shared_data: Path) -> Galaxies:
    return read_galaxies(shared_data / "goodsn.ecsv")


@pytest.mark.slow
def test_a_galaxy_is_judged_by_constants_that_have_not_seen_it(goods: Galaxies) -> None:
    held_out = load_held_out()
    estimators = {id(held_out.without(name)) for name in goods.identifiers}
    assert len(estimators) == FOLDS
    assert len({one.identity for one in held_out.folds}) == FOLDS
    assert ConventionalRedshift().identity not in {one.identity for one in held_out.folds}


def test_redshifts_that_are_worse_than_the_published_do_harm(goods: Galaxies) -> None:
    first = np.arange(len(goods.truth)) < 150
    few = replace(
        goods,
        identifiers=goods.identifiers[:150],
        fingerprints=goods.fingerprints[:150],
        truth=goods.truth[first],
        s500_jy=goods.s500_jy[first],
        published={name: one.select(first) for name, one in goods.published.items()},
    )
    estimator = ConventionalRedshift()
    found = no_harm.estimates_with(few, lambda _: estimator)
    every = np.all([np.isfinite(one.redshift) for one in few.published.values()], axis=0)
    fine = no_harm._compared(few, found, every, few.truth)
    assert fine["measures"]["crps"]["holds"]
    worse = [replace(one, best=1.3 * one.best + 0.3) for one in found]
    harmful = no_harm._compared(few, worse, every, few.truth)
    assert not harmful["measures"]["mae"]["holds"]
    assert not harmful["measures"]["outliers"]["holds"]
