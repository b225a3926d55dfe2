"""HyperScore, V, ranks, the reproducibility index and what alert streams say."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmbroker.processors.alerts.decide import AlertStream, LastAlert, Region, alert_id, decide
from mmbroker.processors.evaluations import EVALUATIONS
from mmbroker.processors.evaluations.reproducibility import observability, repeat_agreement
from mmbroker.processors.fingerprint import merge as fingerprints
from mmbroker.processors.scoring import ranking
from mmbroker.processors.scoring.hyperscore import RISES, hyperscore, renormalised, value
from mmbroker.schemas.events import BandMeasurement, Observation, Photometry, ScoredGalaxy

unit = st.floats(0, 1)


# HyperScore -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("form", "v", "expected"),
    [
        ("plus-gamma", 0.5, 100.2), ("plus-gamma", 0.8, 105.3), ("plus-gamma", 0.95, 114.7),
        ("plus-gamma", 1.0, 119.2), ("printed", 0.5, 187.8), ("printed", 1.0, 135.4),
        ("centred", 0.5, 135.4), ("centred", 0.95, 194.2),
    ],
)  # fmt: skip
def test_published_values(form: str, v: float, expected: float) -> None:
    assert float(hyperscore(v, form)) == pytest.approx(expected, abs=0.05)  # type: ignore[arg-type]


@given(unit, unit)
@pytest.mark.parametrize("form", list(RISES))
def test_each_form_is_monotonic_as_it_says(form: str, one: float, other: float) -> None:
    low, high = hyperscore(np.array(sorted((one, other))), form)  # type: ignore[arg-type]
    assert low <= high if RISES[form] else low >= high  # type: ignore[index]


@given(unit)
@pytest.mark.parametrize("form", list(RISES))
def test_the_score_lies_between_100_and_200(form: str, v: float) -> None:
    assert 100 <= float(hyperscore(v, form)) <= 200  # type: ignore[arg-type]


def test_the_centred_form_has_its_midpoint_at_one_half() -> None:
    assert float(hyperscore(0.5, "centred")) == pytest.approx(100 * (1 + 0.5**1.5))


@pytest.mark.parametrize("v", [-0.1, 1.1, math.nan])
def test_a_value_out_of_range_is_an_error(v: float) -> None:
    with pytest.raises(ValueError, match="not in"):
        hyperscore(v)


scores = st.dictionaries(st.sampled_from("abcde"), st.none() | unit, min_size=1)


@given(scores, st.none() | unit)
def test_v_is_a_mean_of_what_is_present(
    given_scores: dict[str, float | None], p: float | None
) -> None:
    weights = renormalised(dict.fromkeys("abcde", 0.2), given_scores)
    present = [each for each in given_scores.values() if each is not None]
    assert sum(weights.values()) == pytest.approx(1.0 if present else 0.0)
    v = value(weights, given_scores, p)
    expected = (sum(present) / len(present) if present else 0.0) * (1.0 if p is None else p)
    assert v == pytest.approx(expected)


@given(unit, unit, unit)
def test_v_rises_with_every_score(other: float, one: float, another: float) -> None:
    low, high = sorted((one, another))
    values = []
    for score in (low, high):
        present = {"a": score, "b": other, "c": None}
        values.append(value(renormalised(dict.fromkeys("abc", 1.0), present), present, 0.7))
    assert values[0] <= values[1]


# Ranks ------------------------------------------------------------------------------------------


@given(st.lists(unit, min_size=1, max_size=50))
def test_ranks_are_those_of_a_competition(probabilities: list[float]) -> None:
    bins = [ranking.bin_of(each) for each in probabilities]
    histogram = ranking.empty_histogram()
    for each in bins:
        ranking.move(histogram, None, each)
    ranks = [ranking.rank(histogram, each) for each in bins]
    assert ranks == [1 + sum(other > each for other in bins) for each in bins]
    for each in bins:
        ranking.move(histogram, each, None)
    assert not histogram.any()


# Reproducibility --------------------------------------------------------------------------------


def repeated(*fluxes: float) -> float | None:
    batch = [
        Observation(
            str(number), "x", 1.0, 2.0, 1.0, 59000.0,
            photometry=Photometry([BandMeasurement("500", 6e11, flux, 1e-3)]),
        )
        for number, flux in enumerate(fluxes)
    ]  # fmt: skip
    return repeat_agreement(fingerprints.build("g", batch))


def test_repeats_that_agree_count_fully_and_those_that_do_not_count_little() -> None:
    assert repeated(0.010) is None
    assert repeated(0.010, 0.0105, 0.0095) == 1.0
    disagreeing = repeated(0.010, 0.020)
    assert disagreeing is not None
    assert disagreeing < 1e-6


@pytest.mark.parametrize(("declination", "expected"), [(2.0, 1.0), (-90.0, 0.15), (90.0, 1.0)])
def test_observability_follows_the_culmination(declination: float, expected: float) -> None:
    assert observability(declination) == pytest.approx(expected, abs=0.01)


def test_all_five_evaluations_are_listed_and_the_missing_ones_absent() -> None:
    names = [evaluation.name for evaluation in EVALUATIONS]
    assert names == ["logic", "simulation", "novelty", "impact", "reproducibility"]


# Alerts -----------------------------------------------------------------------------------------


def said(galaxy: ScoredGalaxy, stream: AlertStream) -> LastAlert:
    return LastAlert(
        alert_id(galaxy, stream, "INITIAL"),
        galaxy.version,
        True,
        galaxy.redshift.best,
        galaxy.probability,
        galaxy.hyperscore,
    )


def test_a_galaxy_that_passes_makes_an_initial_alert_that_says_why(scored: ScoredGalaxy) -> None:
    stream = AlertStream("s", minimum_probability=scored.probability - 0.01)
    decision = decide(scored, stream, None)
    assert decision is not None
    assert decision.alert_type == "INITIAL"
    assert decision.reasons[0].startswith(f"probability {scored.probability:.4g} is at least")


def test_an_insignificant_change_makes_no_alert(scored: ScoredGalaxy) -> None:
    stream = AlertStream("s")
    nearly = dataclasses.replace(scored, version=9, probability=scored.probability + 0.01)
    assert decide(nearly, stream, said(scored, stream)) is None


def test_a_significant_change_makes_an_update(scored: ScoredGalaxy) -> None:
    stream = AlertStream("s")
    changed = dataclasses.replace(scored, version=9, hyperscore=scored.hyperscore + 6)
    decision = decide(changed, stream, said(scored, stream))
    assert decision is not None
    assert (decision.alert_type, len(decision.reasons)) == ("UPDATE", 1)


def test_a_galaxy_that_ceases_to_pass_is_retracted_once(scored: ScoredGalaxy) -> None:
    stream = AlertStream("s", minimum_probability=0.0)
    gone = dataclasses.replace(scored, version=9, probability=-1.0)
    last = said(scored, stream)
    decision = decide(gone, stream, last)
    assert decision is not None
    assert decision.alert_type == "RETRACTION"
    assert "is below" in decision.reasons[0]
    assert decide(gone, stream, dataclasses.replace(last, active=False)) is None


def test_a_galaxy_without_observations_passes_nothing(scored: ScoredGalaxy) -> None:
    nothing = dataclasses.replace(scored.provenance, observation_count=0)
    emptied = dataclasses.replace(scored, version=9, provenance=nothing)
    stream = AlertStream("s")
    assert decide(emptied, stream, None) is None
    decision = decide(emptied, stream, said(scored, stream))
    assert decision is not None
    assert (decision.alert_type, decision.reasons) == ("RETRACTION", ["no observation remains"])


def test_limits_on_redshift_flux_and_region(scored: ScoredGalaxy) -> None:
    z = scored.redshift.best
    ra, dec = scored.right_ascension_deg, scored.declination_deg
    passing = [
        AlertStream("s", minimum_redshift=z - 0.1, maximum_redshift=z + 0.1),
        AlertStream("s", region=Region(ra, dec + 0.5, 0.6)),
        AlertStream("s", minimum_hyperscore=scored.hyperscore),
    ]
    failing = [
        AlertStream("s", maximum_redshift=z - 0.1),
        AlertStream("s", region=Region(ra, dec + 0.5, 0.4)),
        AlertStream("s", minimum_flux_density_jy=1e9),
        AlertStream("s", include_simulated=False),
    ]
    simulated = dataclasses.replace(scored, simulated=True)
    assert all(decide(simulated, stream, None) for stream in passing)
    assert not any(decide(simulated, stream, None) for stream in failing)


def test_an_alert_id_is_the_same_for_a_repeat_and_differs_for_all_else(
    scored: ScoredGalaxy,
) -> None:
    stream = AlertStream("s")
    again = dataclasses.replace(scored, rank=scored.rank + 1)
    assert alert_id(scored, stream, "INITIAL") == alert_id(again, stream, "INITIAL")
    others = {
        alert_id(scored, stream, "UPDATE"),
        alert_id(scored, AlertStream("t"), "INITIAL"),
        alert_id(dataclasses.replace(scored, version=99), stream, "INITIAL"),
    }
    assert len(others | {alert_id(scored, stream, "INITIAL")}) == 4
