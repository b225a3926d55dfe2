"""Simulated spectra: repeatable, with the noise and the lines that they claim."""

from __future__ import annotations

import numpy as np
import pytest

from mmbroker.models.simulation.spectra import FAINTEST_TRUTH, SimulatedSpectra, simulate_spectra
from mmbroker.models.simulation.spectral_axes import Axis, draw_axis
from mmbroker.models.simulation.spectral_noise import CORRELATED, IDEAL, RECEIVER
from mmbroker.processors import relations
from mmbroker.schemas.events import Floats

C = relations.SPEED_OF_LIGHT_KM_S
AXIS = Axis(np.arange(90e9, 106e9, 20e6), 20e6, np.zeros(800, int))


def scaled_noise(spectra: SimulatedSpectra) -> Floats:
    quiet = np.isnan(spectra.lines.frequency_hz).all(axis=1)
    flux = spectra.flux_density_jy - spectra.continuum_jy
    scaled: Floats = (flux / spectra.flux_error_jy)[quiet]
    return scaled


def test_the_same_seed_gives_the_same_spectra() -> None:
    one, other = (simulate_spectra(5, np.random.default_rng(3)) for _ in range(2))
    np.testing.assert_array_equal(one.flux_density_jy, other.flux_density_jy)
    np.testing.assert_array_equal(one.lines.frequency_hz, other.lines.frequency_hz)


@pytest.mark.parametrize("seed", range(8))
def test_an_axis_ascends_and_has_channels_of_one_width(seed: int) -> None:
    axis = draw_axis(np.random.default_rng(seed))
    steps = np.diff(axis.frequency_hz)
    assert steps.min() > 0.98 * axis.width_hz
    assert np.median(steps) == pytest.approx(axis.width_hz)
    assert len(axis.window) == len(axis.frequency_hz)


def test_ideal_noise_is_white_and_as_stated_and_correlated_noise_is_not_white() -> None:
    for regime, least, most in ((IDEAL, -0.02, 0.02), (CORRELATED, 0.3, 0.75)):
        noise = scaled_noise(simulate_spectra(150, np.random.default_rng(4), AXIS, regime))
        assert noise.std() == pytest.approx(1.0, abs=0.02)
        assert least < (noise[:, 1:] * noise[:, :-1]).mean() < most


def test_receivers_misjudge_noise_and_have_bad_channels() -> None:
    noise = scaled_noise(simulate_spectra(150, np.random.default_rng(5), AXIS, RECEIVER))
    assert noise.std(axis=1).std() > 0.05
    assert (np.abs(noise) > 6).mean() > 2e-4


def test_a_line_has_the_flux_that_it_states() -> None:
    spectra = simulate_spectra(600, np.random.default_rng(6), AXIS, IDEAL)
    lines = spectra.lines
    alone = np.isfinite(lines.frequency_hz).sum(axis=1) == 1
    pulls = []
    for row in np.flatnonzero(alone):
        seen = spectra.observed[row]
        flux = spectra.flux_density_jy[row] - spectra.continuum_jy[row]
        velocity = C * (1 - AXIS.frequency_hz / lines.frequency_hz[row, 0])
        near = np.abs(velocity) < 1.2 * lines.width_km_s[row, 0]
        if near.sum() > 5 and seen[near].all() and not near[[0, -1]].any():
            # The flux is what the channels within the line add up to.
            width = C * AXIS.width_hz / AXIS.frequency_hz[near]
            error = np.sqrt(((spectra.flux_error_jy[row, near] * width) ** 2).sum())
            measured = (flux[near] * width).sum()
            pulls.append((measured - lines.flux_jy_km_s[row, 0]) / error)
    assert len(pulls) > 50
    assert abs(np.median(pulls)) < 0.3
    assert np.std(pulls) < 1.3
    assert np.nanmin(lines.signal_to_noise) >= FAINTEST_TRUTH


def test_lines_of_a_galaxy_lie_at_its_redshift() -> None:
    spectra = simulate_spectra(200, np.random.default_rng(7))
    rest = np.array(list(relations.LINES_HZ.values()))
    row, place = np.nonzero(spectra.lines.name >= 0)
    at = rest[spectra.lines.name[row, place]] / (1 + spectra.redshift[row])
    # A blend of two lines lies between them.
    assert np.median(np.abs(spectra.lines.frequency_hz[row, place] / at - 1)) < 1e-9
