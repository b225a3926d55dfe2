from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmbroker.models.packaged.templates import load_templates
from mmbroker.models.redshift.templates.library import load_library
from mmbroker.models.redshift.templates.train import candidates
from mmbroker.processors.fingerprint.merge import empty
from mmbroker.processors.redshift import ConventionalRedshift
from mmbroker.processors.redshift.grids import COARSE
from mmbroker.processors.redshift.templates import GRID, TemplateFit, log_prior, photometry
from mmbroker.schemas.events import BandStatistics, Fingerprint, PublishedRedshift

MICRON_HZ = 299_792.458e9
BANDS_UM = (0.3828, 0.4448, 0.547, 0.6275, 0.7671, 0.9028, 1.25, 2.157, 3.55, 4.5, 5.72, 7.88)


@pytest.fixture(scope="module")
def fit() -> TemplateFit:
    return load_templates()


def galaxy(*measured: tuple[float, float, float]) -> Fingerprint:
    """A galaxy with (wavelength in um, flux in Jy, error in Jy)."""
    bands = [
        BandStatistics(f"{um} um", MICRON_HZ / um, error**-2, flux * error**-2, count=1)
        for um, flux, error in measured
    ]
    return replace(empty("g"), bands=bands)


def like_template(
    fit: TemplateFit, template: int, point: int, brightness: float = 1e-5, error: float = 0.02
) -> Fingerprint:
    """What a template at a redshift of the grid looks like."""
    wavelengths = fit.templates.wavelength_um
    chosen = [int(np.argmin(np.abs(wavelengths - um))) for um in BANDS_UM]
    flux = fit.templates.flux[chosen, point, template].astype(float)
    flux *= brightness / flux.max()
    return galaxy(
        *(
            (wavelengths[k], one, error * max(one, 1e-3 * brightness))
            for k, one in zip(chosen, flux, strict=True)
        )
    )


def probability(fit: TemplateFit, *galaxies: Fingerprint) -> np.ndarray:
    measured = photometry(galaxies, fit.templates.wavelength_um)
    found = fit.log_likelihood(measured)
    return np.asarray(np.exp(found - np.logaddexp.reduce(found, axis=1)[:, None]))


def test_of_two_measurements_in_one_band_the_more_precise_is_the_magnitude(
    fit: TemplateFit,
) -> None:
    rough, precise = (2.157, 4e-6, 2e-6), (2.15, 1e-6, 1e-8)
    many = [galaxy(precise), galaxy(rough, precise), galaxy(precise, rough)]
    found = fit.magnitude(photometry(many, fit.templates.wavelength_um))
    assert (found == found[0]).all()


@pytest.mark.parametrize("redshift", [0.3, 0.8, 1.5, 3.0])
def test_a_galaxy_like_a_common_template_gets_its_redshift(
    fit: TemplateFit, redshift: float
) -> None:
    common = int(np.argmax(fit.templates.share))
    point = int(np.argmin(np.abs(np.expm1(GRID) - redshift)))
    (found,) = probability(fit, like_template(fit, common, point))
    near = np.abs(COARSE - GRID[point]) < 0.1
    assert found[near].sum() > 0.6


@settings(max_examples=10)
@given(factor=st.floats(1e-3, 1e3), template=st.integers(0, 9), point=st.integers(20, 130))
def test_the_likelihood_does_not_depend_on_brightness(
    factor: float, template: int, point: int
) -> None:
    fit = load_templates()
    faint, bright = (
        probability(fit, like_template(fit, template, point, one)) for one in (1e-5, 1e-5 * factor)
    )
    assert bright == pytest.approx(faint, abs=1e-3)


def test_the_likelihood_is_the_same_to_the_bit_in_whichever_batch(fit: TemplateFit) -> None:
    many = [
        like_template(fit, 0, 60),
        galaxy((2.157, 1e-5, 1e-6), (24.0, 1e-4, 1e-5)),
        galaxy(),
        like_template(fit, 3, 100),
    ]
    together = probability(fit, *many)
    for one, row in zip(many, together, strict=True):
        assert (probability(fit, one)[0] == row).all()


def test_without_bands_to_fit_nothing_is_said(fit: TemplateFit) -> None:
    measured = photometry([galaxy((250.0, 1e-2, 1e-3)), galaxy()], fit.templates.wavelength_um)
    assert (measured.count == 0).all()
    assert fit.log_likelihood(measured) == pytest.approx(0.0)
    assert np.isnan(fit.magnitude(measured)).all()


def test_a_band_of_no_known_filter_is_left_out(fit: TemplateFit) -> None:
    measured = photometry(
        [galaxy((3.05, 1e-5, 1e-6), (3.6, 2e-5, 1e-6))], fit.templates.wavelength_um
    )
    assert measured.flux == pytest.approx([2e-5])
    assert fit.templates.wavelength_um[measured.band] == pytest.approx([3.56], abs=0.02)


def test_a_limit_counts_as_zero_with_its_noise(fit: TemplateFit) -> None:
    limit = BandStatistics("K", MICRON_HZ / 2.15, 0.0, 0.0, count=1)
    limit = replace(limit, upper_limit_jy=3e-6, upper_limit_error_jy=1e-6)
    measured = photometry([replace(empty("g"), bands=[limit])], fit.templates.wavelength_um)
    assert (measured.flux[0], measured.error[0]) == (0.0, 1e-6)


def test_faint_galaxies_are_expected_farther_away(fit: TemplateFit) -> None:
    bright, faint = np.exp(log_prior(fit.templates.prior, np.array([18.0, 23.0])))
    assert bright.sum() == pytest.approx(1.0)
    assert (bright * COARSE).sum() < (faint * COARSE).sum()


def test_the_conventional_redshift_uses_templates_and_says_so(fit: TemplateFit) -> None:
    plain = ConventionalRedshift()
    with_templates = plain.with_templates(fit)
    assert with_templates.identity != plain.identity
    assert plain.identity == ConventionalRedshift().identity
    common = int(np.argmax(fit.templates.share))
    point = int(np.argmin(np.abs(np.expm1(GRID) - 0.9)))
    one = like_template(fit, common, point)
    (before,), (after,) = plain.estimate([one]), with_templates.estimate([one])
    assert before.inputs == ["prior"]
    assert after.inputs == ["templates"]
    assert abs(after.best - 0.9) < 0.15
    width = [each.interval_68.upper - each.interval_68.lower for each in (before, after)]
    assert width[1] < width[0]


def test_templates_count_for_less_beside_a_published_redshift(fit: TemplateFit) -> None:
    assert 0 < fit.templates.beside_published < fit.templates.alone
    one = like_template(fit, 0, 90)
    published = PublishedRedshift("method", 0.0, "1", 0.3, 0.28, 0.32)
    found = ConventionalRedshift(template_fit=fit).estimate(
        [replace(one, photometric_redshifts=[published])]
    )[0]
    assert found.inputs == ["photometric-redshift", "templates"]


def test_galaxies_without_such_bands_stay_as_they_were(fit: TemplateFit) -> None:
    one = galaxy((250.0, 2e-2, 2e-3), (350.0, 2e-2, 2e-3), (500.0, 1.5e-2, 2e-3))
    plain = ConventionalRedshift()
    assert plain.with_templates(fit).estimate([one])[0].best == pytest.approx(
        plain.estimate([one])[0].best
    )


def test_mixtures_are_between_what_they_mix() -> None:
    library = candidates(load_library())
    first, second = (library.names.index(f"EAZY {number:02d}") for number in (1, 9))
    mixed = library.names.index("EAZY 01 + 0.3 EAZY 09")
    expected = 0.7 * library.flux[..., first] + 0.3 * library.flux[..., second]
    assert np.allclose(library.flux[..., mixed], expected)
