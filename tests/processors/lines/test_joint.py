"""Recovered lines: what follows from a joint normal distribution, and from faint fluxes."""

from __future__ import annotations

import numpy as np
import pytest
from astropy import units
from astropy.cosmology import Planck18
from hypothesis import given
from hypothesis import strategies as st

from mmbroker.processors import relations
from mmbroker.processors.lines.joint import (
    INFRARED,
    QUANTITIES,
    LineRecovery,
    flux_update,
    log_luminosity_per_flux,
)
from mmbroker.processors.lines.measure import LINES

COUNT = len(QUANTITIES)


@pytest.fixture(scope="module")
def model() -> LineRecovery:
    """Quantities that have a luminosity in common and scatter by 0.1 dex."""
    ratio = np.append(np.log10([relations.LINE_RATIOS[name] for name in LINES]), 1.7)
    scatter = 0.6**2 * np.ones((COUNT, COUNT)) + 0.1**2 * np.eye(COUNT)
    return LineRecovery(
        {
            "lines": np.array(LINES),
            "mean": 10.5 + ratio,
            "slope": np.zeros(COUNT),
            "covariance": np.stack([scatter, scatter]),
            "mean_covariance": np.zeros((3, COUNT, COUNT)),
            "width_68": np.array(1.0),
            "width_95": np.array(2.0),
        }
    )


def nothing(galaxies: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    shape = galaxies, len(LINES)
    return np.zeros(shape), np.full(shape, np.inf), np.zeros(galaxies), np.full(galaxies, np.inf)


def test_luminosity_of_a_flux_is_that_of_its_definition() -> None:
    redshift = np.array([0.02, 1.0, 2.5, 6.0])
    distance = Planck18.luminosity_distance(redshift).to_value(units.Mpc)
    observed_ghz = relations.LINES_HZ["CO(3-2)"] / 1e9 / (1 + redshift)
    expected = 3.25e7 * distance**2 / observed_ghz**2 / (1 + redshift) ** 3
    found = log_luminosity_per_flux(redshift)[:, LINES.index("CO(3-2)")]
    assert found == pytest.approx(np.log10(expected), abs=0.005)


def test_what_nothing_is_known_of_has_the_prior(model: LineRecovery) -> None:
    found = model.recover(np.array([2.0]), *nothing(1))
    mean, covariance = model.prior(np.array([2.0]))
    assert not found.known[0]
    assert found.log_luminosity[0] == pytest.approx(mean[0, :INFRARED])
    assert found.half_width_68[0] == pytest.approx(np.sqrt(np.diagonal(covariance[0])[:INFRARED]))
    assert found.half_width_95 == pytest.approx(2 * found.half_width_68)


def test_bright_lines_condition_the_others_as_a_normal_distribution_does(
    model: LineRecovery,
) -> None:
    redshift = np.array([2.0])
    flux, error, infrared, infrared_error = nothing(1)
    seen = [LINES.index("CO(3-2)"), LINES.index("CO(7-6)")]
    scale = log_luminosity_per_flux(redshift)[0]
    mean, covariance = (each[0] for each in model.prior(redshift))
    flux[0, seen] = 10 ** (mean[seen] + [0.10, 0.15] - scale[seen])
    error[0, seen] = 1e-6 * flux[0, seen]
    found = model.recover(redshift, flux, error, infrared, infrared_error)
    noise = (0.1 / np.log(10)) ** 2 * np.eye(2)
    gain = covariance[:, seen] @ np.linalg.inv(covariance[np.ix_(seen, seen)] + noise)
    expected = mean + gain @ [0.10, 0.15]
    # A few per cent of measurements may be outliers, which weakens all of them a little.
    assert found.log_luminosity[0] == pytest.approx(expected[:INFRARED], abs=0.01)
    spread = np.sqrt(np.diagonal(covariance - gain @ covariance[seen]))
    others = [place for place in range(INFRARED) if place not in seen]
    assert found.half_width_68[0, others] == pytest.approx(spread[others], rel=0.15)


def test_a_line_far_from_better_measured_others_is_not_followed(model: LineRecovery) -> None:
    redshift = np.full(2, 2.0)
    flux, error, infrared, infrared_error = nothing(2)
    scale = log_luminosity_per_flux(redshift)
    seen = [LINES.index(f"CO({j}-{j - 1})") for j in (1, 2, 3, 4, 5)]
    mean = model.prior(redshift)[0]
    flux[:, seen] = 10 ** (mean - np.pad(scale, ((0, 0), (0, 1))))[:, seen]
    error[:, seen] = 0.01 * flux[:, seen]
    flux[1, seen[-1]] *= 10
    error[1, seen[-1]] = 0.12 * flux[1, seen[-1]]
    target = LINES.index("CO(6-5)")
    found = model.recover(redshift, flux, error, infrared, infrared_error).log_luminosity[:, target]
    # A linear update would follow by a fifth of 1 dex.
    assert abs(found[1] - found[0]) < 0.08


@given(
    st.floats(-4, 5.5),
    st.floats(0.05, 0.8),
    st.floats(-1.0, 1.0),
)
def test_faint_fluxes_update_as_the_exact_posterior(
    significance: float, spread: float, offset: float
) -> None:
    """Mean and variance by a much finer quadrature.

    Where a measurement of some 4 sigma lies far above a broad prior, a thousandth of the posterior
    stays there, beyond the finer nodes, and the deviation comes out up to 15 % too small.
    """
    error, scale, mean = 0.3, 9.0, 9.0 + np.log10(0.3) + offset
    flux = significance * error
    arguments = (np.array([each]) for each in (mean, spread**2, flux, error, scale))
    found_mean, found_variance = flux_update(*arguments)
    grid = np.linspace(mean - 8 * spread, mean + 8 * spread, 20_001)
    log_density = -0.5 * (
        ((grid - mean) / spread) ** 2 + ((flux - 10 ** (grid - scale)) / error) ** 2
    )
    density = np.exp(log_density - log_density.max())
    density /= density.sum()
    expected = (density * grid).sum()
    deviation = np.sqrt((density * (grid - expected) ** 2).sum())
    assert found_mean[0] == pytest.approx(expected, abs=0.03 * spread)
    split = significance > 3 and spread > 0.3 and offset < 0
    assert np.sqrt(found_variance[0]) == pytest.approx(deviation, rel=0.15 if split else 0.06)


def test_a_line_that_is_not_seen_makes_all_lines_fainter(model: LineRecovery) -> None:
    redshift = np.array([2.0])
    flux, error, infrared, infrared_error = nothing(1)
    infrared[:], infrared_error[:] = 12.2, 0.15
    before = model.recover(redshift, flux, error, infrared, infrared_error)
    target = LINES.index("CO(4-3)")
    error[0, target] = 0.3 * before.flux_jy_km_s[0, target]
    after = model.recover(redshift, flux, error, infrared, infrared_error)
    assert (after.log_luminosity < before.log_luminosity).all()
    assert (after.half_width_68 <= before.half_width_68 + 1e-9).all()


@pytest.mark.parametrize("batch", [1, 3])
def test_a_galaxy_does_not_depend_on_its_batch(model: LineRecovery, batch: int) -> None:
    random = np.random.default_rng(1)
    redshift = random.uniform(0.5, 4, 7)
    flux = random.normal(1, 1, (7, len(LINES)))
    error = np.where(random.random(flux.shape) < 0.5, 0.4, np.inf)
    infrared, infrared_error = np.full(7, 12.5), np.where(redshift > 2, 0.1, np.inf)
    whole = model.recover(redshift, flux, error, infrared, infrared_error).log_luminosity
    for start in range(0, 7, batch):
        part = slice(start, start + batch)
        found = model.recover(
            redshift[part], flux[part], error[part], infrared[part], infrared_error[part]
        )
        assert found.log_luminosity == pytest.approx(whole[part], abs=1e-6)


def test_bad_input_is_named(model: LineRecovery) -> None:
    flux, error, infrared, infrared_error = nothing(2)
    with pytest.raises(ValueError, match=r"redshift of row 1 is -0\.5"):
        model.recover(np.array([1.0, -0.5]), flux, error, infrared, infrared_error)
    error[0, 3] = 0.0
    with pytest.raises(ValueError, match=r"error_jy_km_s of row 0 is 0\.0"):
        model.recover(np.ones(2), flux, error, infrared, infrared_error)


def test_weights_of_other_lines_are_refused() -> None:
    with pytest.raises(ValueError, match="not"):
        LineRecovery({"lines": np.array(["CO(1-0)"])})
