"""A fingerprint is what its observations add up to, whichever way they arrive."""

from __future__ import annotations

import dataclasses
import random

import numpy as np
import pytest
from astropy.wcs import WCS
from hypothesis import given, settings
from hypothesis import strategies as st

from mmbroker.processors.fingerprint import merge as fingerprints
from mmbroker.processors.fingerprint.contribution import contribution, spectrum_on_grid
from mmbroker.processors.fingerprint.errors import UnusableError
from mmbroker.processors.fingerprint.map_photometry import measure
from mmbroker.processors.frequency_grid import BINS, CENTRES_HZ, EDGES_HZ
from mmbroker.schemas.events import (
    BandMeasurement,
    ContinuumMap,
    Fingerprint,
    Observation,
    Photometry,
    Source,
    Spectrum,
)
from mmbroker.schemas.records import to_record, to_rows
from tests.strategies import continuum_map, members, observations

several = st.lists(observations(), min_size=1, max_size=8, unique_by=lambda o: o.observation_id)


def close(one: object, other: object) -> bool:
    """Whether two records agree beyond the rounding of sums."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(close(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(close, one, other))
    if isinstance(one, bytes) and isinstance(other, bytes) and len(one) % 8 == 0:
        left, right = np.frombuffer(one), np.frombuffer(other)
        scale = np.abs(left).max(initial=1e-300)
        return bool(np.allclose(left, right, rtol=1e-9, atol=1e-9 * scale))
    if isinstance(one, float) and isinstance(other, float):
        return one == other or abs(one - other) <= 1e-6 * max(abs(one), abs(other), 1e-6)
    return one == other


def without_history(fingerprint: Fingerprint) -> dict[str, object]:
    """Everything but what records the order of arrival."""
    record = to_rows(fingerprint)
    for name in ("observation_hashes", "recent_sources", "digest", "chunk_index"):
        del record[name]
    return {**record, "chunks": fingerprint.chunk_index.tolist()}


@given(several, st.randoms(use_true_random=False))
@settings(max_examples=60)
def test_order_changes_nothing_beyond_rounding(
    batch: list[Observation], shuffler: random.Random
) -> None:
    other = batch.copy()
    shuffler.shuffle(other)
    one, another = fingerprints.build("g", batch), fingerprints.build("g", other)
    assert one.digest == another.digest
    assert close(without_history(one), without_history(another))


@given(several)
@settings(max_examples=30)
def test_event_by_event_equals_batch_exactly(batch: list[Observation]) -> None:
    grown = fingerprints.empty("g")
    for number, observation in enumerate(batch):
        source = Source(observation.observation_id, "", 0, number)
        grown = fingerprints.merge(grown, contribution(observation), source)
    assert to_record(grown) == to_record(fingerprints.build("g", batch))
    assert grown.version == len(batch)
    assert members(grown) == {contribution(each).observation_hash for each in batch}


@given(st.lists(st.floats(-0.01, 0.1), min_size=1, max_size=20), st.floats(1e-4, 1e-2))
def test_photometry_merges_to_the_inverse_variance_mean(fluxes: list[float], error: float) -> None:
    batch = [
        Observation(
            str(number), "SPIRE", 1.0, 2.0, 1.0, 59000.0,
            photometry=Photometry([BandMeasurement("500", 6e11, flux, error * (1 + number))]),
        )
        for number, flux in enumerate(fluxes)
    ]  # fmt: skip
    (band,) = fingerprints.build("g", batch).bands
    weights = [(error * (1 + number)) ** -2 for number in range(len(fluxes))]
    assert band.weighted_flux / band.weight == pytest.approx(
        np.average(fluxes, weights=weights), abs=1e-12
    )
    assert band.count == len(fluxes)


def test_the_tightest_upper_limit_is_kept() -> None:
    def limit(name: str, value: float) -> Observation:
        measured = BandMeasurement("500", 6e11, None, value / 3, value)
        photometry = Photometry([measured])
        return Observation(name, "SPIRE", 1.0, 2.0, 1.0, 59000.0, photometry=photometry)

    batch = [limit("a", 0.03), limit("b", 0.01), limit("c", 0.02)]
    (band,) = fingerprints.build("g", batch).bands
    assert (band.upper_limit_jy, band.weight, band.count) == (0.01, 0.0, 0)


def test_the_position_is_the_mean_across_0h() -> None:
    batch = [
        Observation(name, "x", right_ascension, 0.0, 1.0, 59000.0)
        for name, right_ascension in (("a", 359.9999), ("b", 0.0001))
    ]
    merged = fingerprints.build("g", batch)
    assert (merged.right_ascension_deg + 180) % 360 == pytest.approx(180.0, abs=1e-9)
    assert merged.position_error_arcsec == pytest.approx(0.5**0.5)


def test_too_many_bands_are_refused_and_nothing_is_lost() -> None:
    full = fingerprints.empty("g")
    for number in range(4):
        bands = [BandMeasurement(f"{number}-{k}", 1e11 + k, 1.0, 1.0) for k in range(64)]
        observation = Observation(
            str(number), "x", 1.0, 2.0, 1.0, 59000.0, photometry=Photometry(bands)
        )
        full = fingerprints.merge(full, contribution(observation), Source("", "", 0, 0))
    one_more = dataclasses.replace(
        observation, photometry=Photometry([BandMeasurement("z", 1e11, 1.0, 1.0)])
    )
    with pytest.raises(fingerprints.FingerprintFullError, match="257 BandStatistics"):
        fingerprints.merge(full, contribution(one_more), Source("", "", 0, 0))


# Spectra ----------------------------------------------------------------------------------------


@given(st.integers(2, 400), st.floats(85e9, 600e9), st.floats(1e6, 2e9), st.booleans())
def test_rebinning_conserves_weight_and_flux(
    channels: int, start: float, step: float, falling: bool
) -> None:
    frequency = start + step * np.arange(channels)
    frequency = frequency[frequency < 990e9]
    if frequency.size < 2:
        return
    flux = np.sin(np.arange(frequency.size)) * 1e-3
    error = np.full(frequency.size, 2e-3)
    turned = slice(None, None, -1 if falling else 1)
    weight, weighted_flux = spectrum_on_grid(frequency[turned], flux[turned], error)
    assert weight.shape == (BINS,)
    assert weight.sum() == pytest.approx((error**-2).sum(), rel=1e-9)
    assert weighted_flux.sum() == pytest.approx((error**-2 * flux).sum(), rel=1e-6, abs=1e-6)


def test_a_gap_between_spectral_windows_stays_empty() -> None:
    frequency = np.concatenate([np.arange(90e9, 92e9, 1e7), np.arange(102e9, 104e9, 1e7)])
    weight, _ = spectrum_on_grid(frequency, np.zeros(frequency.size), np.ones(frequency.size))
    inside = (CENTRES_HZ > 93e9) & (CENTRES_HZ < 101e9)
    assert not weight[inside].any()


def test_flagged_channels_carry_no_weight() -> None:
    frequency = np.arange(90e9, 92e9, 1e7)
    flux = np.where(frequency > 91e9, np.nan, 1.0)
    weight, _ = spectrum_on_grid(frequency, flux, np.ones(frequency.size))
    assert not weight[EDGES_HZ[:-1] > 91.1e9].any()


@pytest.mark.parametrize(
    ("frame", "kilometres_per_second"), [("LSRK", 20.0), ("TOPOCENTRIC", 31.0)]
)
def test_frames_differ_by_no_more_than_the_velocities_of_sun_and_earth(
    frame: str, kilometres_per_second: float
) -> None:
    from mmbroker.processors.fingerprint.contribution import barycentric_frequency_hz

    frequency = np.array([100e9, 101e9])
    ones = np.ones(2)
    spectrum = Spectrum(frequency, frame, ones, ones)  # type: ignore[arg-type]
    shifts = []
    for month in range(12):
        observation = Observation("a", "x", 80.0, -10.0, 1.0, 59000.0 + 30.4 * month)
        ratio = barycentric_frequency_hz(observation, spectrum) / frequency
        shifts.append(float((1 - ratio[0]) * 299792.458))
    assert max(map(abs, shifts)) <= kilometres_per_second
    assert max(map(abs, shifts)) > 0.5 * kilometres_per_second


def test_the_frames_agree_with_astropy() -> None:
    from astropy import units as u
    from astropy.coordinates import LSRK, EarthLocation, SkyCoord
    from astropy.time import Time

    from mmbroker.processors.fingerprint.contribution import barycentric_frequency_hz

    place = SkyCoord(80.0 * u.deg, -10.0 * u.deg)
    site = EarthLocation.from_geodetic(-67.75, -23.02, 5000.0)
    correction = place.radial_velocity_correction(
        "barycentric", obstime=Time(59100.0, format="mjd"), location=site
    ).to_value(u.km / u.s)
    still = SkyCoord(
        80.0 * u.deg, -10.0 * u.deg, 1e6 * u.pc, pm_ra_cosdec=0 * u.mas / u.yr,
        pm_dec=0 * u.mas / u.yr, radial_velocity=0 * u.km / u.s,
    )  # fmt: skip
    in_lsrk = still.transform_to(LSRK()).radial_velocity.to_value(u.km / u.s)
    frequency = np.array([100e9, 101e9])
    for frame, expected in (
        ("TOPOCENTRIC", pytest.approx(-correction, abs=0.5)),
        ("LSRK", pytest.approx(in_lsrk, abs=0.05)),
    ):
        spectrum = Spectrum(frequency, frame, np.ones(2), np.ones(2))  # type: ignore[arg-type]
        observation = Observation("a", "x", 80.0, -10.0, 1.0, 59100.0)
        ratio = barycentric_frequency_hz(observation, spectrum)[0] / frequency[0]
        assert (ratio - 1) * 299792.458 == expected


def test_a_spectrum_outside_of_the_grid_is_unusable() -> None:
    spectrum = Spectrum(np.array([2e9, 3e9]), "LSRK", np.ones(2), np.ones(2))
    with pytest.raises(UnusableError, match="no valid channel"):
        contribution(Observation("a", "x", 1.0, 2.0, 1.0, 59000.0, spectrum=spectrum))


# Maps -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flux", [2e-3, 2e-2])
def test_the_flux_density_of_a_point_source_is_recovered(flux: float) -> None:
    measured = measure(continuum_map(150.0, 2.0, flux), 150.0, 2.0)
    error = measured.weight**-0.5
    assert measured.weighted_flux / measured.weight == pytest.approx(flux, abs=4 * error)
    assert measured.weighted_peak / measured.weight == pytest.approx(flux, rel=0.2)
    assert measured.weighted_extent / measured.weight < 0.3


def elongated_map(
    ratio: float, angle_deg: float, extent_arcsec: float = 0.0, flux_jy: float = 3e-3
) -> ContinuumMap:
    """A source under a beam of 0.6 arcsec in the geometric mean, in pixels of 0.1 arcsec."""
    y, x = np.indices((96, 96)) - 47.5
    angle = np.radians(angle_deg)
    along = y * np.cos(angle) - x * np.sin(angle)  # east is to the left
    across = y * np.sin(angle) + x * np.cos(angle)
    beam = np.array([6.0 * ratio**0.5, 6.0 / ratio**0.5])
    seen = np.hypot(beam, extent_arcsec / 0.1)
    source = np.exp(-4 * np.log(2) * ((along / seen[0]) ** 2 + (across / seen[1]) ** 2))
    noise = np.random.default_rng(0).normal(0, 1e-5, (96, 96))
    step = 0.1 / 3600
    image = flux_jy * beam.prod() / seen.prod() * source + noise
    return dataclasses.replace(
        continuum_map(150.0, 2.0),
        image_jy_per_beam=image.astype(np.float32).ravel(),
        height=96,
        width=96,
        wcs_header=header_of(["RA---SIN", "DEC--SIN"], [150.0, 2.0], [-step, step], 48.5),
        beam_major_arcsec=beam[0] / 10,
        beam_minor_arcsec=beam[1] / 10,
        beam_position_angle_deg=angle_deg,
    )


@pytest.mark.parametrize("angle_deg", [0.0, 30.0, -75.0])
@pytest.mark.parametrize("ratio", [1.0, 2.0, 3.0, 5.0])
def test_elongated_beams_do_not_bias_flux_densities(ratio: float, angle_deg: float) -> None:
    measured = measure(elongated_map(ratio, angle_deg), 150.0, 2.0)
    assert measured.weighted_flux / measured.weight == pytest.approx(3e-3, rel=0.02)
    assert measured.weighted_extent / measured.weight < 0.1


def test_an_extent_is_that_of_the_source_under_an_elongated_beam_too() -> None:
    extents = []
    for ratio in (1.0, 2.5):
        measured = measure(elongated_map(ratio, 30.0, extent_arcsec=0.3), 150.0, 2.0)
        extents.append(measured.weighted_extent / measured.weight)
    assert extents[1] == pytest.approx(extents[0], rel=0.2)


def test_flux_densities_scatter_as_their_errors_say() -> None:
    pulls = []
    for seed in range(200):
        measured = measure(continuum_map(150.0, 2.0, 5e-3, seed), 150.0, 2.0)
        flux, error = measured.weighted_flux / measured.weight, measured.weight**-0.5
        pulls.append((flux - 5e-3) / error)
    assert np.std(pulls) < 1.3


@pytest.mark.parametrize("blank", [slice(0, 22), slice(26, 48)])
def test_blank_pixels_within_the_aperture_do_not_bias_the_flux_density(blank: slice) -> None:
    whole = continuum_map(150.0, 2.0, 1e-2)
    image = whole.image.copy()
    image[blank] = np.nan
    part = dataclasses.replace(whole, image_jy_per_beam=image.ravel())
    measured = measure(part, 150.0, 2.0)
    error = measured.weight**-0.5
    assert measured.weighted_flux / measured.weight == pytest.approx(1e-2, abs=4 * error)
    assert error > measure(whole, 150.0, 2.0).weight ** -0.5


def test_a_map_without_noise_is_unusable() -> None:
    flat = np.full(48 * 48, 1e-30, np.float32)
    flat[::2] = 0.0
    with pytest.raises(UnusableError, match=r"noise of 7.41e-31 Jy/beam, below 1e-15"):
        measure(dataclasses.replace(continuum_map(150.0, 2.0), image_jy_per_beam=flat), 150.0, 2.0)


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_what_arithmetic_raises_on_the_numbers_of_a_stranger_is_unusable() -> None:
    pointed = dataclasses.replace(
        continuum_map(150.0, 2.0),
        wcs_header=header_of(["RA---SIN", "DEC--SIN"], [150.0, 2.0], [-1e-5, 1e-5], 24.0),
        beam_major_arcsec=1e-300,
        beam_minor_arcsec=1e-300,
    )
    observation = Observation("a", "b", 150.0, 2.0, 0.2, 59000.0, continuum_map=pointed)
    with pytest.raises(UnusableError, match=r"continuum_map has numbers .* ZeroDivisionError"):
        contribution(observation)


def test_a_mostly_blank_aperture_is_unusable() -> None:
    whole = continuum_map(150.0, 2.0, 1e-2)
    image = whole.image.copy()
    image[:27] = np.nan
    with pytest.raises(UnusableError, match="of the beam"):
        measure(dataclasses.replace(whole, image_jy_per_beam=image.ravel()), 150.0, 2.0)


def test_a_position_off_the_map_is_unusable() -> None:
    with pytest.raises(UnusableError, match="no observed pixel"):
        measure(continuum_map(150.0, 2.0), 150.1, 2.0)


def header_of(
    ctype: list[str], crval: list[float], cdelt: list[float], middle: float = 24.5
) -> str:
    wcs = WCS(naxis=len(ctype))
    wcs.wcs.ctype = ctype
    wcs.wcs.crval = crval
    wcs.wcs.cdelt = cdelt
    wcs.wcs.crpix = [middle, middle, 1.0, 1.0][: len(ctype)]
    return str(wcs.to_header_string())


def test_further_axes_of_a_header_change_nothing() -> None:
    plain = continuum_map(150.0, 2.0, 1e-2)
    axes = ["RA---SIN", "DEC--SIN", "FREQ", "STOKES"]
    step = 0.1 / 3600
    header = header_of(axes, [150.0, 2.0, 1.4e9, 1.0], [-step, step, 1e6, 1.0])
    assert measure(dataclasses.replace(plain, wcs_header=header), 150.0, 2.0) == measure(
        plain, 150.0, 2.0
    )


def test_axes_are_taken_in_the_order_of_the_header() -> None:
    plain = continuum_map(150.0, 2.0, 1e-2)
    step = 0.1 / 3600
    swapped = dataclasses.replace(
        plain,
        wcs_header=header_of(["DEC--SIN", "RA---SIN"], [2.0, 150.0], [step, -step]),
        image_jy_per_beam=plain.image.T.ravel(),
    )
    away = 150.0 + 1.5 / 3600, 2.0 + 0.5 / 3600
    assert measure(swapped, *away).weighted_flux == pytest.approx(
        measure(plain, *away).weighted_flux
    )


def test_a_header_without_celestial_axes_is_unusable() -> None:
    broken = dataclasses.replace(continuum_map(150.0, 2.0), wcs_header="CTYPE1  = 'FREQ'")
    with pytest.raises(UnusableError, match="wcs_header"):
        measure(broken, 150.0, 2.0)
