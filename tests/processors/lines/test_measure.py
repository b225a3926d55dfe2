"""Fluxes of lines in merged spectra at a known redshift."""

from __future__ import annotations

import numpy as np
import pytest

from mmbroker.processors import relations
from mmbroker.processors.frequency_grid import BIN_WIDTH_KM_S, BINS, LOG_EDGES, LOG_STEP
from mmbroker.processors.lines.measure import LINES, measure
from mmbroker.processors.redshift.spectral_lines import Residual

NOISE_JY = 1e-4


def spectrum(fluxes: dict[str, float], redshift: float, width: float, seed: int = 0) -> Residual:
    """All of the grid, with Gaussian lines and noise."""
    offset = np.log(np.array([relations.LINES_HZ[name] for name in fluxes]) / (1 + redshift))
    velocity = (
        np.arange(BINS) + 0.5 - (offset[:, None] - LOG_EDGES[0]) / LOG_STEP
    ) * BIN_WIDTH_KM_S
    sigma = np.hypot(width / np.sqrt(8 * np.log(2)), BIN_WIDTH_KM_S / np.sqrt(12))
    shape = np.exp(-0.5 * (velocity / sigma) ** 2) / (np.sqrt(2 * np.pi) * sigma)
    noise = NOISE_JY * np.random.default_rng(seed).standard_normal(BINS)
    return Residual(0, np.array(list(fluxes.values())) @ shape + noise, np.full(BINS, NOISE_JY**-2))


@pytest.mark.parametrize("width", [250.0, 400.0, 800.0])
@pytest.mark.parametrize("redshift", [1.9, 2.3071])
def test_fluxes_are_those_that_were_put_in(width: float, redshift: float) -> None:
    fluxes = {"CO(3-2)": 1.0, "CO(4-3)": 1.4, "CO(7-6)": 1.0, "[CI](2-1)": 0.7}
    found = measure([spectrum(fluxes, redshift, width)], np.array([redshift]))
    assert found.width_km_s[0] == pytest.approx(width, rel=0.15)
    for name, flux in fluxes.items():
        place = LINES.index(name)
        error = found.error_jy_km_s[0, place]
        assert found.flux_jy_km_s[0, place] == pytest.approx(flux, abs=4 * error, rel=0.03)


def test_lines_outside_of_the_spectrum_are_not_observed() -> None:
    whole = spectrum({"CO(4-3)": 1.0}, 2.0, 400.0)
    centre = int((np.log(relations.LINES_HZ["CO(4-3)"] / 3.0) - LOG_EDGES[0]) / LOG_STEP)
    near = slice(centre - 20, centre + 20)
    part = Residual(centre - 20, whole.flux[near], whole.weight[near])
    found = measure([part, None], np.array([2.0, 2.0]))
    assert np.isfinite(found.error_jy_km_s[0]).sum() == 1
    assert found.flux_jy_km_s[0, LINES.index("CO(4-3)")] == pytest.approx(1.0, rel=0.1)
    assert np.isinf(found.error_jy_km_s[1]).all()


def test_errors_are_those_of_repeated_spectra() -> None:
    fluxes = {"CO(3-2)": 0.4, "CO(5-4)": 0.0}
    many = [spectrum(fluxes, 2.0, 400.0, seed) for seed in range(200)]
    found = measure(many, np.full(200, 2.0))
    for name, flux in fluxes.items():
        place = LINES.index(name)
        pulls = (found.flux_jy_km_s[:, place] - flux) / found.error_jy_km_s[:, place]
        assert abs(pulls.mean()) < 0.4
        assert 0.7 < pulls.std() < 1.3
