"""The reproducibility index, and the list of the evaluations."""

from __future__ import annotations

import pytest

from mmbroker.processors.evaluations import EVALUATIONS
from mmbroker.processors.evaluations.reproducibility import observability, repeat_agreement
from mmbroker.processors.fingerprint import merge as fingerprints
from mmbroker.schemas.events import BandMeasurement, Observation, Photometry


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
