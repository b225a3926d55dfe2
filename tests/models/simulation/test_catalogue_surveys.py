"""Simulated catalogues: whole, labelled with errors, and with the gaps of the real ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mmbroker.models.simulation import catalogue_surveys
from mmbroker.models.simulation.catalogue_surveys import Catalogue, ImagingSurvey, Survey
from mmbroker.models.simulation.population import FIELD, LENSED, Population, simulate_population

EVERY_SURVEY = (
    catalogue_surveys.SUPER_DEBLENDED,
    catalogue_surveys.FAR_INFRARED_AND_OPTICAL,
    catalogue_surveys.LENSED_SAMPLE,
    *catalogue_surveys.IMAGING,
)


@pytest.fixture(scope="module")
def population() -> Population:
    return simulate_population(2_000, 8)


def observed(survey: Survey | ImagingSurvey, population: Population, seed: int = 1) -> Catalogue:
    galaxies = np.arange(len(population))
    return catalogue_surveys.observe(survey, population, galaxies, np.random.default_rng(seed))


@pytest.mark.parametrize("survey", EVERY_SURVEY, ids=lambda survey: survey.name)
def test_every_galaxy_has_a_band_and_every_band_an_error(
    survey: Survey | ImagingSurvey, population: Population
) -> None:
    catalogue = observed(survey, population)
    assert catalogue.flux_jy.shape == (len(population), len(survey.bands))
    assert catalogue.seen.any(axis=1).all()
    assert np.isfinite(catalogue.flux_jy).all()
    assert (catalogue.error_jy > 0).all()


@pytest.mark.parametrize("survey", catalogue_surveys.IMAGING, ids=lambda survey: survey.name)
def test_noise_of_imaging_is_what_the_errors_say(
    survey: ImagingSurvey, population: Population
) -> None:
    catalogue = observed(survey, population)
    true = population.flux_density_jy(survey.frequency_hz)
    pull = (catalogue.flux_jy - true) / catalogue.error_jy
    assert pull.std() == pytest.approx(1.0, abs=0.03)
    assert abs(pull.mean()) < 0.05


def test_confused_bands_are_wrong_together(population: Population) -> None:
    survey = catalogue_surveys.FAR_INFRARED_AND_OPTICAL
    catalogue = observed(survey, population)
    pull = (catalogue.flux_jy - population.flux_density_jy(survey.frequency_hz)) / (
        catalogue.error_jy
    )
    columns = [survey.bands.index(band) for band in ("SPIRE-250", "SPIRE-350", "PACS-100")]
    correlation = np.corrcoef(pull[:, columns].T)
    assert correlation[0, 1] == pytest.approx(0.8, abs=0.05)
    assert abs(correlation[0, 2]) < 0.1


def test_fits_of_the_deblended_catalogue_are_not_negative(population: Population) -> None:
    survey = catalogue_surveys.SUPER_DEBLENDED
    flux = observed(survey, population).flux_jy
    fitted = (survey.wavelength_um > 10) & (survey.wavelength_um < 2000)
    assert (flux[:, fitted] > 0).all()
    assert (flux[:, ~fitted] < 0).any()


def test_bright_galaxies_have_more_far_infrared_bands(population: Population) -> None:
    survey = catalogue_surveys.SUPER_DEBLENDED
    column = survey.bands.index("SPIRE-350")
    field = np.flatnonzero(population.kind == FIELD)
    true = population.flux_density_jy(survey.frequency_hz, field)[:, column]
    seen = observed(survey, population).seen[field, column]
    order = np.argsort(true)
    assert seen[order[-200:]].mean() > 0.5 > 0.2 > seen[order[:800]].mean()


def test_samples_hold_the_bright(population: Population) -> None:
    lensed = np.flatnonzero(population.kind == LENSED)
    chosen = catalogue_surveys.in_lensed_sample(population, lensed)
    brightness = population.flux_density_jy(np.array([220e9]), lensed)[:, 0]
    assert brightness[chosen].min() > brightness[~chosen].max()
    field = np.flatnonzero(population.kind == FIELD)
    wide = catalogue_surveys.in_far_infrared_sample(population, field)
    assert (catalogue_surveys.in_prior_list(population, field) >= wide).all()
    assert 0 < wide.mean() < 0.1


def test_measured_statistics_are_those_of_the_table(shared_data: Path) -> None:
    """The committed statistics are what the training part of the tables gives."""
    pytest.importorskip("sklearn")
    import json

    from mmbroker.models.real_data.catalogues import spt
    from mmbroker.models.real_data.split import TRAIN, split_of
    from mmbroker.models.realism.survey_statistics import measure, real_table

    galaxies = [each for each in spt(shared_data) if split_of(each.name) == TRAIN]
    again = measure(real_table(catalogue_surveys.LENSED_SAMPLE, galaxies))
    committed = json.loads(catalogue_surveys.STATISTICS.read_text(encoding="utf-8"))["tables"][
        "SPT"
    ]
    assert again["sources"] == committed["sources"]
    for name in ("depth_jy", "order", "correlation"):
        assert np.asarray(again[name]) == pytest.approx(np.asarray(committed[name]), abs=2e-4)
