"""Continuum segments against the continuum that was put in."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("onnxruntime")

from mmbroker.models.parser.exported import ExportedSpectrumParser
from mmbroker.models.parser.judged.continuum_segments import (
    MEDIAN,
    SEGMENTS,
    JudgedSegments,
    continuum_figures,
    judge_continuum,
)
from mmbroker.models.simulation.spectral_noise import IDEAL, REGIMES

# Not the seed of the test part.
SEED = 904


@pytest.fixture(scope="module")
def judged() -> JudgedSegments:
    return judge_continuum(ExportedSpectrumParser(), 120, SEED)


def test_in_white_noise_errors_of_the_continuum_are_as_stated(judged: JudgedSegments) -> None:
    ideal = judged.regime == IDEAL
    pull = (judged.difference_jy[SEGMENTS] / judged.stated_error_jy)[ideal]
    assert len(pull) > 30
    assert 0.7 < np.std(pull) < 1.4
    assert abs(np.median(pull)) < 0.6


def test_a_segment_is_known_better_than_a_channel(judged: JudgedSegments) -> None:
    assert (judged.stated_error_jy < judged.channel_error_jy).all()
    for difference in judged.difference_jy.values():
        assert np.median(np.abs(difference / judged.channel_error_jy)) < 0.3


def test_the_figures_are_in_errors_of_a_channel_and_the_pull_in_those_stated() -> None:
    spread = np.tile([-1.0, 0.0, 1.0], 100)
    judged = JudgedSegments(
        regime=np.repeat([0, 3], 150),
        channel_error_jy=np.full(300, 2.0),
        stated_error_jy=np.full(300, 0.5),
        difference_jy={SEGMENTS: spread, MEDIAN: spread + 1.0},
    )
    figures = continuum_figures(judged)
    assert figures["all"]["segments"] == 300
    assert figures["all"][SEGMENTS] == {
        "bias": 0.0, "scatter": 0.5, "pull_bias": 0.0, "pull": 2.0
    }  # fmt: skip
    assert figures["all"][MEDIAN] == {"bias": 0.5, "scatter": 0.5}
    assert figures[REGIMES[0]]["segments"] == figures[REGIMES[3]]["segments"] == 150
    assert figures[REGIMES[1]] == {"segments": 0}
