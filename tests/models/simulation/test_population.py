"""Simulated galaxies: light, dust, radio and lines are what their formulae say."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.cosmology import Planck18
from hypothesis import given
from hypothesis import strategies as st

from mmbroker.models.simulation import dust_emission, radio_emission
from mmbroker.models.simulation.line_emission import LINE_NAMES, line_luminosities
from mmbroker.models.simulation.population import (
    FIELD,
    KINDS,
    LENSED,
    SUBMILLIMETRE,
    WAVELENGTH_UM,
    luminosity_distance_mpc,
    simulate_population,
)
from mmbroker.models.simulation.radio_maps import DOUBLE
from mmbroker.models.simulation.starlight import (
    TEMPLATES,
    attenuation_curve,
    intergalactic_transmission,
    starlight,
)
from mmbroker.processors import relations

FREQUENCY_HZ = relations.SPEED_OF_LIGHT_KM_S * 1e9 / WAVELENGTH_UM


def test_kinds_are_told_by_magnification() -> None:
    population = simulate_population(2_000, 4)
    assert set(population.kind.tolist()) == set(range(len(KINDS)))
    assert (population.magnification[population.kind != LENSED] == 1).all()
    assert np.median(population.magnification[population.kind == LENSED]) > 3


def test_galaxies_have_the_sizes_that_were_measured() -> None:
    population = simulate_population(2_000, 4)
    radius = population.dust_radius_kpc
    field = (population.kind == FIELD) & (np.abs(population.redshift - 1.0) < 0.3)
    assert np.median(radius[field]) == pytest.approx(1.5, rel=0.1)
    assert np.median(radius[population.kind == SUBMILLIMETRE]) == pytest.approx(1.2, rel=0.1)
    doubles = population.morphology == DOUBLE
    assert 30 < np.median(population.radio_extent_kpc[doubles]) < 300
    # A kpc at redshift 1 is an eighth of an arcsecond, and more behind a lens.
    plain = (population.magnification == 1) & (np.abs(population.redshift - 1.0) < 0.05)
    assert population.arcsec_per_kpc(np.flatnonzero(plain)) == pytest.approx(1 / 8.2, rel=0.05)
    lensed = np.flatnonzero(population.kind == LENSED)
    unlensed = Planck18.arcsec_per_kpc_proper(population.redshift[lensed]).value
    assert population.arcsec_per_kpc(lensed) == pytest.approx(
        unlensed * np.sqrt(population.magnification[lensed]), rel=1e-3
    )


def test_starlight_scales_with_mass_and_is_dimmed_most_in_the_blue() -> None:
    shares = np.eye(len(TEMPLATES))
    mass, clear = np.full(len(TEMPLATES), 10.0), np.zeros(len(TEMPLATES))
    light = starlight(WAVELENGTH_UM, mass, shares, clear)
    assert starlight(WAVELENGTH_UM, mass + 1, shares, clear) == pytest.approx(10 * light)
    # A sun's mass of stars makes about a sun's luminosity at 1.6 µm.
    at = np.abs(WAVELENGTH_UM - 1.6).argmin()
    assert (np.abs(np.log10(light[:, at] * FREQUENCY_HZ[at]) - 10.0) < 1.0).all()
    dimmed = starlight(WAVELENGTH_UM, mass, shares, clear + 1) / light
    visible = np.abs(WAVELENGTH_UM - 0.55).argmin()
    assert dimmed[:, visible] == pytest.approx(10**-0.4, rel=0.02)
    optical = (WAVELENGTH_UM > 0.12) & (WAVELENGTH_UM < 2)
    assert (np.diff(attenuation_curve(WAVELENGTH_UM)[optical]) < 0).all()


@given(st.floats(0.1, 8.0))
def test_nothing_passes_the_lyman_limit_and_everything_the_red_side(redshift: float) -> None:
    passed = intergalactic_transmission(WAVELENGTH_UM, np.array([redshift]))[0]
    assert (passed[WAVELENGTH_UM < relations.LYMAN_LIMIT_MICRON] < 1e-3).all()
    assert (passed[WAVELENGTH_UM > 0.122] == 1).all()
    earlier = intergalactic_transmission(WAVELENGTH_UM, np.array([redshift + 0.5]))[0]
    assert (earlier <= passed).all()


def test_dust_peaks_where_asked_and_radiates_its_luminosity() -> None:
    peak = np.array([80.0, 100.0, 130.0])
    one = np.ones(3)
    emission = dust_emission.dust(WAVELENGTH_UM, 12 * one, peak, 1.9 * one, 2 * one, 0.1 * one)
    assert WAVELENGTH_UM[emission.argmax(axis=1)] == pytest.approx(peak, rel=0.05)
    low, high = relations.INFRARED_LUMINOSITY_MICRON
    inside = (low < WAVELENGTH_UM) & (high > WAVELENGTH_UM)
    total = np.trapezoid(emission[:, inside], -FREQUENCY_HZ[inside], axis=1)
    assert np.log10(total) == pytest.approx(12 * one, abs=0.03)


def test_the_background_hides_cold_dust_at_high_redshift_most_at_long_wavelengths() -> None:
    parts = [np.array([12.0]), np.array([120.0]), np.array([1.9]), np.array([2.0])]
    near, far = (
        dust_emission.dust(WAVELENGTH_UM, *parts, np.array([redshift]))[0]
        for redshift in (0.1, 6.0)
    )
    long, short = (np.abs(WAVELENGTH_UM - um).argmin() for um in (1000.0, 100.0))
    assert far[long] / near[long] < far[short] / near[short] < 1


def test_the_torus_radiates_its_luminosity_mostly_below_40_um() -> None:
    emission = dust_emission.torus(WAVELENGTH_UM, np.array([1e11]))[0]
    energy = emission * FREQUENCY_HZ
    step = np.log(WAVELENGTH_UM[1] / WAVELENGTH_UM[0])
    assert energy.sum() * step == pytest.approx(1e11)
    assert energy[WAVELENGTH_UM < 40].sum() > 0.7 * energy.sum()


def test_radio_is_steep_where_synchrotron_and_flat_where_thermal() -> None:
    emission = radio_emission.star_formation_radio(WAVELENGTH_UM, np.array([1.0]), np.array([0.8]))
    slope = -np.gradient(np.log(emission[0]), np.log(FREQUENCY_HZ))
    metre, millimetre = (np.abs(WAVELENGTH_UM - um).argmin() for um in (9e5, 1e3))
    assert slope[metre] == pytest.approx(0.78, abs=0.03)
    assert slope[millimetre] < 0.4


def test_co_follows_luminosity_and_excitation_tilts_the_ladder() -> None:
    random = np.random.default_rng(2)
    log_luminosity = random.uniform(10.5, 13.5, 4_000)
    active = (random.random(4_000) < 0.3) * 1.0
    lines, excitation = line_luminosities(log_luminosity, active, random)
    ground, high = (LINE_NAMES.index(name) for name in ("CO(1-0)", "CO(7-6)"))
    slope, intercept = np.polyfit(np.log10(lines[:, ground]), log_luminosity, 1)
    inverse = np.polyfit(log_luminosity, np.log10(lines[:, ground]), 1)[0]
    assert slope < relations.CO_LUMINOSITY_SLOPE
    assert 1 / inverse == pytest.approx(relations.CO_LUMINOSITY_SLOPE, rel=0.03)
    assert np.isfinite(intercept)
    ratio = np.log10(lines[:, high] / lines[:, ground])
    assert np.corrcoef(ratio, excitation)[0, 1] > 0.9
    assert excitation[active > 0].mean() > excitation[active == 0].mean() + 0.2
    typical = np.log10(relations.LINE_RATIOS["CO(7-6)"])
    assert ratio[np.abs(excitation) < 0.03].mean() == pytest.approx(typical, abs=0.03)


@pytest.mark.parametrize(
    ("log_luminosity", "active", "expected"),
    [(11.5, 0.0, relations.DISC_CO_RATIO), (13.3, 1.0, relations.QUASAR_CO_RATIO)],
    ids=["discs", "quasars"],
)
def test_ladders_of_discs_and_quasars_are_about_the_published(
    log_luminosity: float, active: float, expected: float
) -> None:
    random = np.random.default_rng(3)
    lines, _ = line_luminosities(np.full(4_000, log_luminosity), np.full(4_000, active), random)
    ground, middle = (LINE_NAMES.index(name) for name in ("CO(1-0)", "CO(5-4)"))
    ratio = np.median(lines[:, middle] / lines[:, ground])
    assert np.log10(ratio / expected) == pytest.approx(0.0, abs=0.1)


def test_the_mass_of_the_gas_is_that_of_the_co_that_is_observed() -> None:
    population = simulate_population(500, 6)
    flux = population.line_flux_jy_km_s[:, LINE_NAMES.index("CO(1-0)")]
    observed_ghz = relations.LINES_HZ["CO(1-0)"] / 1e9 / (1 + population.redshift)
    luminosity = (
        relations.LINE_LUMINOSITY_FACTOR
        * (flux / population.magnification)
        * luminosity_distance_mpc(population.redshift) ** 2
        / (observed_ghz**2 * (1 + population.redshift) ** 3)
    )
    mass = relations.GAS_MASS_PER_CO_LUMINOSITY * luminosity
    assert population.log_gas_mass == pytest.approx(np.log10(mass))
