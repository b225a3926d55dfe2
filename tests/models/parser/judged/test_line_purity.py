"""Purity of a list of lines by the signal-to-noise ratio that its method measured."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("onnxruntime")

from mmbroker.models.parser.judged.line_detections import Detections, Judged, Truth
from mmbroker.models.parser.judged.line_purity import measured_ratio, purity_by_ratio

SPECTRA = 40
BINS = ((0.0, 4.0), (4.0, 8.0), (8.0, np.inf))


def detections() -> Detections:
    """In each spectrum one of score 3, true in every other one, and one of score 6, true in all."""
    spectrum = np.repeat(np.arange(SPECTRA), 2)
    faint = np.where(np.arange(SPECTRA) % 2, np.arange(SPECTRA), -1)
    values = np.ones(2 * SPECTRA)
    return Detections(
        spectrum=spectrum,
        score=np.tile([3.0, 6.0], SPECTRA),
        frequency_hz=values,
        frequency_error_hz=values,
        width_km_s=values,
        width_error_km_s=values,
        flux_jy_km_s=10.0 * values,
        flux_error_jy_km_s=np.tile([2.0, 1.0], SPECTRA),
        shape=np.zeros(2 * SPECTRA, int),
        matched=np.column_stack([faint, SPECTRA + np.arange(SPECTRA)]).ravel(),
    )


@pytest.fixture
def judged() -> Judged:
    values = np.ones(2 * SPECTRA)
    truth = Truth(
        np.tile(np.arange(SPECTRA), 2), values, values, values, values,
        np.zeros(2 * SPECTRA, int), np.ones(2 * SPECTRA, bool),
    )  # fmt: skip
    return Judged(np.zeros(SPECTRA, int), truth, {"one": detections()})


def test_the_ratio_is_the_score_or_the_flux_over_its_error() -> None:
    found = detections()
    assert measured_ratio(found, by_score=True)[:2].tolist() == [3.0, 6.0]
    assert measured_ratio(found, by_score=False)[:2].tolist() == [5.0, 10.0]


def test_each_bin_has_the_share_of_its_true_ones_within_its_interval(judged: Judged) -> None:
    ratio = measured_ratio(judged.found["one"], by_score=True)
    faint, bright, none = purity_by_ratio(judged, "one", 0.0, ratio, BINS)
    assert faint["detections"] == bright["detections"] == SPECTRA
    share, low, high = faint["purity"]
    assert low < share == 0.5 < high
    assert bright["purity"] == [1.0, 1.0, 1.0]
    assert (faint["ratio"], bright["ratio"]) == (3.0, 6.0)
    assert none == {"detections": 0}


def test_what_is_below_the_threshold_does_not_count(judged: Judged) -> None:
    ratio = measured_ratio(judged.found["one"], by_score=False)
    faint, middle, bright = purity_by_ratio(judged, "one", 5.0, ratio, BINS)
    assert faint["detections"] == middle["detections"] == 0
    assert bright["detections"] == SPECTRA
