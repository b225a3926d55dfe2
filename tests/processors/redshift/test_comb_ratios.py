"""What a feature of a spectrum says for a line, beside noise and artefacts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmbroker.processors.redshift.comb_ratios import LOG_FLUX, LineRatios
from mmbroker.processors.redshift.spectral_lines import matched_filter

NOISE_JY_KM_S = 0.5
BRIGHTNESSES = st.floats(min_value=5.0, max_value=1_000.0)


@pytest.fixture(scope="module")
def ratios() -> LineRatios:
    return LineRatios()


def at_own_flux(ratios: LineRatios, significance: list[float], place: int) -> float:
    """The ln of the ratio for a line of the flux measured in a bin of a spectrum."""
    flux = NOISE_JY_KM_S * np.array(significance)
    found, row = ratios.of(flux, np.full(len(flux), NOISE_JY_KM_S**-2))
    column = int(np.argmin(np.abs(LOG_FLUX - np.log(flux[place]))))
    return float(found[row[place], column])


@given(BRIGHTNESSES)
def test_a_bright_line_counts_for_as_much_as_one_that_is_just_clear(
    ratios: LineRatios, significance: float
) -> None:
    clear = at_own_flux(ratios, [5.0], 0)
    assert at_own_flux(ratios, [significance], 0) == pytest.approx(clear, abs=0.7)


@given(BRIGHTNESSES)
def test_a_line_counts_most_in_the_middle_of_its_feature(
    ratios: LineRatios, significance: float
) -> None:
    weight = np.ones(41)
    line = np.exp(-0.5 * ((np.arange(41) - 20) / 0.8) ** 2)
    shape = matched_filter(line, weight, 350.0).flux
    seen = (significance * shape / shape.max()).tolist()
    middle = at_own_flux(ratios, seen, 20)
    for beside in (18, 19, 21, 22):
        assert at_own_flux(ratios, seen, beside) < middle - 1.0


def test_an_artefact_is_no_less_probable_than_a_line_whose_flux_does_not_fit(
    ratios: LineRatios,
) -> None:
    """A feature that no line of the galaxy could be, of any brightness, says nothing."""
    found, _ = ratios.of(np.array([50 * NOISE_JY_KM_S]), np.array([NOISE_JY_KM_S**-2]))
    faintest, brightest = found[0, 0], found[0, -1]
    assert faintest == pytest.approx(0.0, abs=0.01)
    assert brightest == pytest.approx(0.0, abs=0.01)


def test_a_line_that_should_be_seen_and_is_not_counts_against_a_redshift(
    ratios: LineRatios,
) -> None:
    found, _ = ratios.of(np.array([0.0]), np.array([NOISE_JY_KM_S**-2]))
    assert found[0, np.argmin(np.abs(LOG_FLUX - np.log(10 * NOISE_JY_KM_S)))] < -2.5
