"""The judge of simulated catalogues: it finds what is there, and nothing where nothing is."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("sklearn")

from mmbroker.models.pages.render import REPORTS
from mmbroker.models.realism import comparison
from mmbroker.models.realism import judge as simulator
from mmbroker.models.realism.former import former_table
from mmbroker.models.realism.survey_statistics import READERS
from mmbroker.models.realism.two_sample import (
    VIEWS,
    Sample,
    classify,
    colour,
    correlations,
    sample,
)
from mmbroker.models.realism.verdict import with_verdict, word
from mmbroker.models.simulation.catalogue_surveys import (
    FAR_INFRARED_AND_OPTICAL,
    SUPER_DEBLENDED,
    Catalogue,
    Survey,
)

BANDS = 5


def drawn(count: int, seed: int, shift: float = 0.0, gap: float = 0.2) -> Sample:
    random = np.random.default_rng(seed)
    scaled = random.normal(shift, 1.0, (count, BANDS)) + random.normal(0, 1.0, (count, 1))
    missing = random.random(scaled.shape) < gap
    log_error = random.normal(0, 0.2, scaled.shape)
    return Sample(
        np.where(missing, np.nan, scaled),
        np.where(missing, np.nan, log_error),
        random.uniform(0, 1, count),
    )


@pytest.mark.parametrize("view", VIEWS)
def test_samples_of_one_distribution_are_not_told_apart(view: str) -> None:
    area, _ = classify(view, (drawn(200, 1), drawn(200, 2)), (drawn(300, 3), drawn(300, 4)))
    assert area.low < 0.5 < area.high or abs(area.value - 0.5) < 0.06


def test_a_shift_is_found_in_the_fluxes_and_not_in_the_mask() -> None:
    training = drawn(200, 1), drawn(200, 2, shift=2.0)
    judged = drawn(300, 3), drawn(300, 4, shift=2.0)
    assert classify("flux densities", training, judged)[0].low > 0.8
    assert classify("mask", training, judged)[0].low < 0.55


def test_a_gap_in_one_band_is_what_the_classifier_goes_by() -> None:
    training, judged = (drawn(200, 1), drawn(200, 2)), (drawn(300, 3), drawn(300, 4))
    for each in (training[1], judged[1]):
        each.scaled[: len(each) // 2, 3] = np.nan
    area, order = classify("mask", training, judged)
    assert area.low > 0.55
    assert order[0] == 3


def test_correlations_are_those_of_the_ranks() -> None:
    values = np.exp(np.random.default_rng(5).normal(size=(500, 2)))
    both = np.column_stack([values, values[:, 0] ** 3, np.full(500, np.nan)])
    matrix = correlations(both)
    assert matrix[0, 2] == pytest.approx(1.0)
    assert abs(matrix[0, 1]) < 0.15
    assert np.isnan(matrix[3]).all()


def test_colours_are_of_detections_alone() -> None:
    flux = np.array([[1.0, 10.0], [1.0, -3.0], [0.1, 10.0]])
    catalogue = Catalogue(flux, np.full((3, 2), 0.2), np.ones((3, 2), bool))
    ratios = colour(sample(catalogue, np.ones(3), np.full(2, 0.2)), 0, 1)
    assert ratios[0] == pytest.approx(1.0, abs=0.01)
    assert np.isnan(ratios[1:]).all()


def test_a_simulated_table_holds_what_the_survey_lists() -> None:
    catalogue, redshift = simulator.simulated_table(SUPER_DEBLENDED, seed=3)
    assert len(redshift) == len(catalogue.flux_jy) > 1_000
    assert catalogue.seen.any(axis=1).all()


@pytest.mark.parametrize("survey", [survey for survey, _ in READERS], ids=lambda one: one.table)
def test_of_the_former_simulator_as_many_sources_are_kept(survey: Survey) -> None:
    catalogue, redshift = former_table(survey)
    assert catalogue.flux_jy.shape == (len(redshift), len(survey.bands))
    assert len(redshift) == len(simulator.simulated_table(survey)[1])
    assert (catalogue.seen == np.isfinite(catalogue.error_jy)).all()
    assert catalogue.seen.any(axis=1).all()


def test_the_former_simulator_is_judged_in_the_bands_that_it_had() -> None:
    survey = FAR_INFRARED_AND_OPTICAL
    catalogue, redshift = former_table(survey)
    former = sample(catalogue, redshift, np.ones(len(survey.bands)))
    optical = ~former.seen.any(axis=0)
    assert optical.sum() == 9
    # Its own sources with optical bands: they would be told by these alone.
    real = Sample(np.where(optical, 1.0, former.scaled), former.log_error, former.log_stretch)
    training, judged = real.halves()
    compared = comparison.Comparison(survey, judged, training, former, former, "none")
    assert simulator.judged_former("mask", compared).value == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize(("area", "said"), [(0.6, "close"), (0.7, "usable"), (0.9, "off")])
def test_words_are_those_of_the_protocol(area: float, said: str) -> None:
    assert word(area) == said


def test_the_report_says_what_follows_from_its_figures() -> None:
    numbers = json.loads((REPORTS / "simulator.json").read_text(encoding="utf-8"))
    stated = json.dumps(numbers)
    assert json.dumps(with_verdict(numbers)) == stated
    assert numbers["assumed"] == simulator.assumed()
    table = numbers["tables"]["GOODS-N"]
    assert "K" not in table["apart"]
    table["distance"]["flux density"]["K"]["low"] = 0.2
    assert "K" in with_verdict(numbers)["tables"]["GOODS-N"]["apart"]


def test_without_tables_the_report_says_so(tmp_path: Path) -> None:
    simulator.report(None, tmp_path)
    page = (tmp_path / "simulator.md").read_text(encoding="utf-8")
    assert "nothing is compared" in page
    assert "(simulated)" in page
    assert (tmp_path / "simulator_population.png").stat().st_size < 150_000
    assert sorted(each.name for each in tmp_path.iterdir()) == [
        "simulator.json", "simulator.md", "simulator_population.png",
    ]  # fmt: skip
