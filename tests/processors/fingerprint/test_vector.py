"""The vector view: what is where in it, and that its scaling can be undone."""

from __future__ import annotations

import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmbroker.processors.fingerprint import vector
from mmbroker.processors.fingerprint.merge import build
from mmbroker.processors.relations import SPEED_OF_LIGHT_KM_S
from mmbroker.schemas.events import (
    BandMeasurement,
    Fingerprint,
    Floats,
    Interval,
    Observation,
    PhotometricRedshift,
    Photometry,
    RedshiftPosterior,
    Spectrum,
)

INTERVALS = len(vector.BROADBAND_CENTRES_HZ)
ELEMENTS = len(vector.ELEMENT_CENTRES_HZ)

# float32 keeps seven digits of asinh(flux / depth), so fluxes up to these come back within a part
# in 10,000 of the largest of their window.
FLUXES = st.one_of(st.just(np.nan), st.floats(-1.0, 1e3))


def observation(**payload: object) -> Observation:
    return Observation("one", "ALMA", 10.0, -20.0, 0.3, 59_000.0, **payload)  # type: ignore[arg-type]


def photometry(*bands: tuple[float, float | None, float]) -> Fingerprint:
    """A fingerprint of (wavelength in µm, flux density or None for a limit, error) in Jy."""
    measurements = [
        BandMeasurement(
            f"band {number}",
            SPEED_OF_LIGHT_KM_S * 1e9 / wavelength,
            flux,
            error,
            3 * error if flux is None else None,
        )
        for number, (wavelength, flux, error) in enumerate(bands)
    ]
    return build("galaxy", [observation(photometry=Photometry(measurements))])


def posterior(grid: Floats, probability: Floats) -> RedshiftPosterior:
    whole = Interval(0.0, 10.0)
    return RedshiftPosterior(
        1.0, whole, whole, grid.astype(np.float32), probability.astype(np.float32), [], []
    )


@given(
    broadband=arrays.arrays(np.float64, (2, INTERVALS), elements=FLUXES),
    spectrum=arrays.arrays(np.float64, (2, ELEMENTS), elements=FLUXES),
)
def test_the_scaling_is_invertible(broadband: Floats, spectrum: Floats) -> None:
    scaled = vector.scale(vector.FluxDensities(broadband, spectrum))
    back = vector.unscale(scaled)
    within = 1e-4 * np.abs(broadband) + 1e-6 * vector.BROADBAND_DEPTH_JY
    assert np.array_equal(np.isnan(back.broadband), np.isnan(broadband))
    assert np.nanmax(np.abs(back.broadband - broadband) - within, initial=-1) <= 0
    assert np.array_equal(np.isnan(back.spectrum), np.isnan(spectrum))
    for window in range(vector.WINDOWS):
        inside = window == vector.WINDOW_OF_ELEMENT
        largest = np.nanmax(np.abs(spectrum[:, inside]), axis=1, initial=0.0, keepdims=True)
        error = np.abs(back.spectrum - spectrum)[:, inside]
        assert np.nanmax(error - 1e-4 * largest - 1e-9, initial=-1) <= 0


@given(spectrum=arrays.arrays(np.float64, (1, ELEMENTS), elements=FLUXES))
def test_a_spectrum_is_between_0_and_1_within_each_window(spectrum: Floats) -> None:
    nothing = np.full((1, INTERVALS), np.nan)
    scaled = vector.scale(vector.FluxDensities(nothing, spectrum))
    values = scaled.values[:, vector.SPECTRUM]
    assert values.min() >= 0
    assert values.max() <= 1
    assert np.array_equal(scaled.mask[:, vector.SPECTRUM] > 0, np.isfinite(spectrum))
    assert np.isfinite(scaled.values).all()


def test_bands_of_one_interval_are_averaged_by_inverse_variance() -> None:
    one, other = (850.0, 8e-3, 1e-3), (870.0, 4e-3, 2e-3)
    fluxes = vector.unscale(vector.vectors([photometry(one, other)])).broadband[0]
    assert np.isfinite(fluxes).sum() == 1
    assert np.nanmax(fluxes) == pytest.approx((8e-3 * 4 + 4e-3) / 5, rel=1e-4)


def test_neighbouring_bands_of_deep_surveys_stay_apart() -> None:
    wavelengths = [2.15, 3.6, 4.5, 5.8, 8, 16, 24, 70, 100, 160, 250, 350, 500, 850, 1160, 2.1e5]
    bands = [(wavelength, 1e-3, 1e-4) for wavelength in wavelengths]
    mask = vector.vectors([photometry(*bands)]).mask[0, vector.BROADBAND]
    assert mask.sum() == len(wavelengths)


def test_an_upper_limit_is_no_flux_but_not_nothing() -> None:
    vectors = vector.vectors([photometry((1160.0, None, 1e-3))])
    assert vectors.mask.sum() == 1
    assert not vectors.values.any()


def test_what_was_not_observed_is_masked() -> None:
    vectors = vector.vectors([photometry((24.0, 1e-3, 1e-4)), photometry((850.0, 1e-3, 1e-4))])
    assert vectors.mask.sum(axis=1).tolist() == [1, 1]
    assert not (vectors.values * (1 - vectors.mask)).any()
    assert vectors.values.dtype == vectors.mask.dtype == np.float32
    assert not np.array_equal(vectors.mask[0], vectors.mask[1])


def test_a_line_stands_out_where_it_is() -> None:
    frequency = np.linspace(85e9, 114e9, 900)
    flux = np.full(900, 1e-3, np.float32)
    flux[np.abs(frequency - 100e9) < 0.15e9] = 6e-3
    spectrum = Spectrum(frequency, "BARYCENTRIC", flux, np.full(900, 1e-4, np.float32))
    vectors = vector.vectors([build("galaxy", [observation(spectrum=spectrum)])])
    values = vectors.values[0, vector.SPECTRUM]
    brightest = vector.ELEMENT_CENTRES_HZ[values.argmax()]
    assert values.max() == 1
    assert brightest == pytest.approx(100e9, rel=0.008)
    seen = vectors.mask[0, vector.SPECTRUM] > 0
    inside = (vector.ELEMENT_CENTRES_HZ > 86e9) & (vector.ELEMENT_CENTRES_HZ < 113e9)
    assert seen[inside].all()
    assert not seen[vector.ELEMENT_CENTRES_HZ > 116e9].any()


def test_vectors_do_not_depend_on_the_company() -> None:
    fingerprints = [photometry((24.0, k * 1e-4, 1e-4), (850.0, 1e-3, 1e-4)) for k in range(5)]
    together = vector.vectors(fingerprints)
    for row, fingerprint in enumerate(fingerprints):
        alone = vector.vectors([fingerprint])
        assert np.array_equal(together.values[row], alone.values[0])


def test_no_galaxies_make_no_vectors() -> None:
    assert vector.vectors([]).values.shape == (0, vector.LENGTH)
    assert vector.condition([]).shape == (0, vector.REDSHIFT_CELLS)


@given(
    probability=arrays.arrays(np.float64, 300, elements=st.floats(0.0, 1.0)),
    highest=st.floats(1.0, 15.0),
)
def test_a_condition_keeps_all_probability(probability: Floats, highest: float) -> None:
    probability[0] += 0.1
    grid = np.linspace(0.0, highest, 300)
    condition = vector.condition([posterior(grid, probability / probability.sum())])
    assert condition.shape == (1, vector.REDSHIFT_CELLS)
    assert (condition**2).sum() == pytest.approx(1.0, rel=1e-5)


def test_a_certain_redshift_is_in_its_cell() -> None:
    grid = np.linspace(0.0, 10.0, 1001)
    certain = [posterior(grid, (np.arange(1001) == place).astype(float)) for place in (100, 250)]
    condition = vector.condition(certain)
    for row, redshift in zip(condition, (1.0, 2.5), strict=True):
        cell = row.argmax()
        assert row[cell] == 1
        assert vector.REDSHIFT_EDGES[cell] <= redshift <= vector.REDSHIFT_EDGES[cell + 1]


def test_posteriors_on_different_grids_are_comparable() -> None:
    grids = [np.linspace(0, 10, 2001), np.expm1(np.linspace(0, np.log(11), 1500))]
    conditions = []
    for grid in grids:
        density = np.exp(-0.5 * ((grid - 2) / 0.3) ** 2) * np.gradient(grid)
        conditions.append(vector.condition([posterior(grid, density / density.sum())]))
    assert conditions[0] == pytest.approx(conditions[1], abs=0.03)


def test_a_galaxy_without_flux_says_so() -> None:
    nothing = build("galaxy", [observation(photometric_redshift=PhotometricRedshift("EAZY", 2.0))])
    vectors = vector.vectors([photometry((24.0, 1e-3, 1e-4)), nothing])
    assert vectors.observed.tolist() == [True, False]
