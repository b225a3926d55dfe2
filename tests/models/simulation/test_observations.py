"""The simulated stream: valid, labelled, repeatable, and like the tables it imitates."""

from __future__ import annotations

from collections import Counter
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from astropy import units
from astropy.cosmology import Planck18
from scipy.ndimage import median_filter

from mmbroker.models.real_data.catalogues import goods_north
from mmbroker.models.simulation.line_emission import LINE_NAMES
from mmbroker.models.simulation.observations import Mix, galaxy_number, simulate, true_redshifts
from mmbroker.models.simulation.population import (
    WAVELENGTH_UM,
    age_gyr,
    luminosity_distance_mpc,
    simulate_population,
)
from mmbroker.models.simulation.radio_maps import DOUBLE, JET
from mmbroker.processors import relations
from mmbroker.processors.fingerprint.contribution import contribution
from mmbroker.processors.validation import problems
from mmbroker.schemas import events
from mmbroker.schemas.events import Observation
from mmbroker.schemas.records import to_record

GALAXIES = 600
SEED = 11


@pytest.fixture(scope="module")
def observations() -> list[Observation]:
    return list(simulate(GALAXIES, SEED))


def test_every_observation_is_valid_and_usable(observations: list[Observation]) -> None:
    assert [problem for each in observations for problem in problems(each)] == []
    for each in observations[:300]:
        assert contribution(each).observation_hash


def test_every_observation_says_that_it_is_simulated(observations: list[Observation]) -> None:
    assert all(each.simulated for each in observations)
    assert {each.acquisition.project for each in observations} == {f"simulation {SEED}"}


def test_the_same_seed_gives_the_same_observations(observations: list[Observation]) -> None:
    again = list(simulate(GALAXIES, SEED))
    assert [to_bytes(each) for each in islice(observations, 50)] == [
        to_bytes(each) for each in islice(again, 50)
    ]
    assert [each.observation_id for each in again] == [each.observation_id for each in observations]


def test_another_seed_gives_others() -> None:
    positions = [
        {each.right_ascension_deg for each in simulate(20, seed)} for seed in (SEED, SEED + 1)
    ]
    assert not positions[0] & positions[1]


def test_ids_are_unique_and_name_the_galaxy(observations: list[Observation]) -> None:
    assert len({each.observation_id for each in observations}) == len(observations)
    numbers = Counter(galaxy_number(each.observation_id) for each in observations)
    assert sorted(numbers) == list(range(GALAXIES))
    assert np.mean(list(numbers.values())) == pytest.approx(4.0, abs=0.3)


def test_other_ids_name_no_simulated_galaxy() -> None:
    with pytest.raises(ValueError, match="GOODS-N 6"):
        galaxy_number("GOODS-N 6 photometry")


def test_observations_of_a_galaxy_are_at_its_place(observations: list[Observation]) -> None:
    places: dict[int, list[Observation]] = {}
    for each in observations:
        places.setdefault(galaxy_number(each.observation_id), []).append(each)
    offsets = []
    for group in places.values():
        cosine = np.cos(np.radians(group[0].declination_deg))
        for each in group[1:]:
            north = each.declination_deg - group[0].declination_deg
            east = (each.right_ascension_deg - group[0].right_ascension_deg) * cosine
            error = np.hypot(each.position_error_arcsec, group[0].position_error_arcsec)
            offsets.append(np.hypot(north, east) * 3600 / error)
    # Of a Rayleigh distribution 68 % are within 1.51.
    assert np.mean(np.array(offsets) < 1.51) == pytest.approx(0.68, abs=0.05)


def test_the_field_has_the_surface_density_asked_for() -> None:
    density = 5.0
    found = list(simulate(1_000, SEED, galaxies_per_square_arcmin=density))
    height = np.ptp([each.declination_deg for each in found]) * 60
    assert 1_000 / height**2 == pytest.approx(density, rel=0.05)


def test_the_mix_is_that_asked_for() -> None:
    mix = Mix(photometry=0.2, photometric_redshift=0.1, continuum=0.1, spectra=0.5, maps=0.1)
    kinds = Counter(each.payloads[0] for each in simulate(500, SEED, mix))
    total = sum(kinds.values())
    assert kinds["spectrum"] / total == pytest.approx(0.5, abs=0.04)
    assert kinds["continuum_map"] / total == pytest.approx(0.1, abs=0.03)
    assert kinds["photometric_redshift"] / total == pytest.approx(0.1, abs=0.03)


def test_an_impossible_mix_or_number_is_refused() -> None:
    with pytest.raises(ValueError, match="add up to 1"):
        next(simulate(1, 1, Mix(photometry=0.9)))
    with pytest.raises(ValueError, match="cannot simulate 0 galaxies"):
        next(simulate(0, 1))


def test_the_truth_is_apart_from_the_observations(observations: list[Observation]) -> None:
    truth = true_redshifts(GALAXIES, SEED)
    assert np.array_equal(truth[:100], true_redshifts(100, SEED))
    deviations = [
        (each.photometric_redshift.redshift - truth[galaxy_number(each.observation_id)])
        / (1 + truth[galaxy_number(each.observation_id)])
        for each in observations
        if each.photometric_redshift and each.photometric_redshift.method == "simulated EAZY"
    ]
    assert 0 < np.mean(np.abs(deviations) > 0.15) < 0.15
    assert 1.48 * np.median(np.abs(deviations)) == pytest.approx(0.028, rel=0.3)


def test_lines_are_where_the_redshift_puts_them() -> None:
    spectra_alone = Mix(0.0, 0.0, 0.0, 1.0, 0.0)
    truth = true_redshifts(400, SEED)
    population = simulate_population(2_000, SEED)
    brightest = []
    for each in simulate(400, SEED, spectra_alone, observations_per_galaxy=1.0):
        galaxy = galaxy_number(each.observation_id)
        spectrum = each.spectrum
        assert spectrum is not None
        rest = np.array([relations.LINES_HZ[name] for name in LINE_NAMES])
        observed = rest / (1 + truth[galaxy])
        near = np.abs(spectrum.frequency_hz[:, None] / observed - 1).min(axis=0) < 1e-4
        width = population.line_width_km_s[galaxy]
        noise = np.median(spectrum.flux_error_jy)
        peaks = np.where(near, population.line_flux_jy_km_s[galaxy] / width, 0) / noise
        if peaks.max() > 8:
            centre = observed[peaks.argmax()]
            excess = spectrum.flux_density_jy - np.nanmedian(spectrum.flux_density_jy)
            # A single bad channel is no line.
            smooth = median_filter(np.nan_to_num(excess / spectrum.flux_error_jy), size=3)
            at_peak = spectrum.frequency_hz[smooth.argmax()]
            velocity = abs(at_peak / centre - 1) * relations.SPEED_OF_LIGHT_KM_S
            brightest.append(velocity < width)
    assert len(brightest) >= 5
    assert np.mean(brightest) > 0.9


def test_spectra_have_flagged_and_bad_channels_and_noise_that_neighbours_share() -> None:
    spectra = [
        each.spectrum
        for each in simulate(300, SEED, Mix(0.0, 0.0, 0.0, 1.0, 0.0), observations_per_galaxy=1.0)
        if each.spectrum is not None
    ]
    flux = [np.asarray(each.flux_density_jy) for each in spectra]
    assert 0.01 < np.mean([np.isnan(one).mean() for one in flux]) < 0.06
    noise = [
        (one[1:] - one[:-1])[np.isfinite(one[1:] - one[:-1])] / np.median(each.flux_error_jy)
        for one, each in zip(flux, spectra, strict=True)
    ]
    # White noise differs by the root of two from channel to channel, correlated noise by less.
    steps = np.array([1.4826 * np.median(np.abs(one)) for one in noise])
    assert (steps < 1.1).mean() == pytest.approx(0.45, abs=0.12)
    assert (np.abs(np.concatenate(noise)) > 8).mean() == pytest.approx(4e-4, abs=3e-4)


@pytest.fixture(scope="module")
def bright_maps() -> list[tuple[Observation, float, float]]:
    """Maps of bright star-forming galaxies, their true flux in Jy and their extent in beams."""
    population = simulate_population(2_000, SEED)
    found = []
    for each in simulate(600, SEED, Mix(0.0, 0.0, 0.0, 0.0, 1.0), observations_per_galaxy=1.0):
        sky = each.continuum_map
        assert sky is not None
        galaxy = np.array([galaxy_number(each.observation_id)])
        dust = relations.FWHM_PER_RADIUS * population.dust_radius_kpc[galaxy]
        extent = dust if sky.frequency_hz > 50e9 else population.radio_extent_kpc[galaxy]
        beams = (extent * population.arcsec_per_kpc(galaxy))[0] / sky.beam_major_arcsec
        flux = population.flux_density_jy(np.array([sky.frequency_hz]), galaxy)[0, 0]
        if population.radio_excess_dex[galaxy] == 0 and flux > 20 * (sky.noise_jy_per_beam or 1):
            found.append((each, float(flux), float(beams)))
    assert len(found) > 20
    return found


def test_sources_in_maps_are_as_large_as_their_galaxies_appear(
    bright_maps: list[tuple[Observation, float, float]],
) -> None:
    for each, flux, beams in bright_maps:
        assert each.continuum_map is not None
        peak = np.nanmax(each.continuum_map.image_jy_per_beam) / flux
        # An ellipse in a round beam: between a line and a disc.
        assert 1 / (1 + beams**2) - 0.15 < peak < 1 / np.sqrt(1 + beams**2) + 0.15


def test_map_sources_have_the_flux_that_the_band_has(
    bright_maps: list[tuple[Observation, float, float]],
) -> None:
    ratios = []
    for each, flux, beams in bright_maps:
        (found,) = contribution(each).maps
        # What a round source of that extent has within an aperture of the beam's width.
        within = (1 - 2 ** (-4 / (1 + beams**2))) / (1 - 2**-4)
        ratios.append(found.weighted_flux / found.weight / flux / within)
    assert np.median(ratios) == pytest.approx(1.0, abs=0.1)


def test_field_galaxies_are_as_bright_as_those_of_goods_north(shared_data: Path) -> None:
    """Medians within a factor of two: near-infrared, mid-infrared, far-infrared and radio."""
    wanted = ("IRAC1", "IRS-16", "PACS-100", "PACS-160", "VLA-1.4GHz")
    real: dict[str, list[float]] = {name: [] for name in wanted}
    for galaxy in goods_north(shared_data):
        photometry = galaxy.observations[0].photometry
        assert photometry is not None
        for band in photometry.measurements:
            if band.band in real and band.flux_density_jy is not None:
                real[band.band].append(band.flux_density_jy)
    simulated: dict[str, list[float]] = {name: [] for name in wanted}
    for each in simulate(1_000, SEED, Mix(1.0, 0.0, 0.0, 0.0, 0.0)):
        if each.instrument == "simulated super-deblended":
            assert each.photometry is not None
            for band in each.photometry.measurements:
                if band.band in simulated and band.flux_density_jy is not None:
                    simulated[band.band].append(band.flux_density_jy)
    for name in wanted:
        ratio = np.median(simulated[name]) / np.median(real[name])
        assert 0.5 < ratio < 2.0, name


def test_distances_and_ages_are_those_of_planck() -> None:
    redshift = np.array([0.1, 1.0, 2.345, 6.9])
    distance = Planck18.luminosity_distance(redshift).to_value(units.Mpc)
    assert luminosity_distance_mpc(redshift) == pytest.approx(distance, rel=1e-4)
    assert age_gyr(redshift) == pytest.approx(Planck18.age(redshift).to_value(units.Gyr), rel=1e-4)


def test_a_galaxy_radiates_its_infrared_luminosity() -> None:
    population = simulate_population(200, SEED)
    low, high = relations.INFRARED_LUMINOSITY_MICRON
    inside = (low < WAVELENGTH_UM) & (high > WAVELENGTH_UM)
    frequency = relations.SPEED_OF_LIGHT_KM_S * 1e9 / WAVELENGTH_UM[inside]
    flux = np.exp(population.log_flux_density[:, inside])
    observed = np.trapezoid(flux, -frequency, axis=1) / (1 + population.redshift) * 1e-26
    distance = luminosity_distance_mpc(population.redshift) * units.Mpc.to(units.m)
    luminosity = 4 * np.pi * distance**2 * observed / population.magnification
    ratio = luminosity / relations.SOLAR_LUMINOSITY_W / 10**population.log_luminosity
    # Aromatic bands come on top of the dust's continuum.
    assert (ratio > 0.9).all()
    assert np.median(ratio) == pytest.approx(1.1, abs=0.1)


def to_bytes(observation: Observation) -> str:
    assert isinstance(observation, events.Observation)
    return repr(to_record(observation))


def test_doubles_and_jets_fit_into_their_maps() -> None:
    population = simulate_population(2_000, SEED)
    seen = 0
    for each in simulate(2_000, SEED, Mix(0.0, 0.0, 0.0, 0.0, 1.0), observations_per_galaxy=1.0):
        sky = each.continuum_map
        assert sky is not None
        galaxy = np.array([galaxy_number(each.observation_id)])
        if sky.frequency_hz > 50e9 or population.morphology[galaxy] not in (DOUBLE, JET):
            continue
        pixels_per_beam = 2 * np.pi * (5.0 / np.sqrt(8 * np.log(2))) ** 2
        flux = population.flux_density_jy(np.array([sky.frequency_hz]), galaxy)[0, 0]
        noise = (sky.noise_jy_per_beam or 0) * np.sqrt(48 * 48 / pixels_per_beam)
        total = float(np.sum(sky.image_jy_per_beam)) / pixels_per_beam
        assert abs(total - flux) < 5 * noise + 0.05 * flux
        seen += 1
    assert seen > 10
