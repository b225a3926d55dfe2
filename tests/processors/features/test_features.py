"""Spectra and maps in, feature trees out: layouts, filters, lines, continuum, candidates."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmbroker.processors import relations
from mmbroker.processors.features.identification import Coverage, identified, log_likelihood
from mmbroker.processors.features.lines import (
    COVERED,
    FLUX,
    OFFSET,
    OUTPUTS,
    PRESENCE,
    SHAPE,
    UNIT_KM_S,
    WIDTH,
    continuum_of,
    lines_of,
)
from mmbroker.processors.features.maps import (
    CELL_GRID,
    CELL_OUTPUTS,
    SIDE,
    MapCalibration,
    map_input,
    morphology_of,
)
from mmbroker.processors.features.matched_filter import matched_filter_lines
from mmbroker.processors.features.patches import PATCH, Array32, Patches, batch, patches_of
from mmbroker.processors.redshift.grids import FINE
from mmbroker.schemas.events import Floats, ParsedLine

C = relations.SPEED_OF_LIGHT_KM_S
NOISE_JY = 4e-4
PAIR = {"CO(3-2)": 1.0, "CO(4-3)": 1.4}


def spectrum(
    lines: list[tuple[float, float, float]],
    seed: int | None = 0,
    low_hz: float = 84e9,
    high_hz: float = 115e9,
    channels: int = 1000,
    continuum_jy: float = 0.0,
) -> tuple[Floats, Floats, Floats]:
    """White noise with Gaussian lines of (frequency in Hz, width in km/s, flux in Jy km/s)."""
    frequency = np.linspace(low_hz, high_hz, channels)
    flux = np.full(channels, continuum_jy)
    if seed is not None:
        flux += NOISE_JY * np.random.default_rng(seed).standard_normal(channels)
    for centre, width, integral in lines:
        sigma = width / 2.3548
        velocity = C * (1 - frequency / centre)
        flux += integral / sigma / np.sqrt(2 * np.pi) * np.exp(-0.5 * (velocity / sigma) ** 2)
    return frequency, flux, np.full(channels, NOISE_JY)


@settings(max_examples=25)
@given(st.integers(8, 3000), st.integers(0, 2**31), st.floats(1e6, 1e8))
def test_every_observed_channel_keeps_its_weight_and_flux(
    channels: int, seed: int, width_hz: float
) -> None:
    random = np.random.default_rng(seed)
    frequency = 90e9 + width_hz * np.arange(channels)
    keep = random.random(channels) > 0.2
    keep[:8] = True
    frequency = frequency[keep]
    flux, error = random.standard_normal(keep.sum()), random.uniform(0.5, 2.0, keep.sum())
    patches = patches_of(frequency, flux, error)
    total = patches.weight * (patches.flux_jy + patches.continuum_jy)
    assert patches.weight.sum() == pytest.approx((error**-2).sum())
    assert total.sum() == pytest.approx((flux / error**2).sum(), abs=1e-6 * (error**-2).sum())
    assert len(patches.flux_jy) == len(patches) * PATCH
    assert np.isfinite(patches.channels).all()
    assert np.isfinite(patches.patches).all()
    inside = np.diff(patches.stretch) == 0
    assert (np.diff(patches.frequency_hz)[inside] > 0).all()


def test_the_axis_may_run_either_way_and_flagged_channels_may_be_nan() -> None:
    frequency, flux, error = spectrum([(100e9, 400.0, 1.0)])
    flux[100:110] = np.nan
    error[500] = 0.0
    forward = patches_of(frequency, flux, error)
    backward = patches_of(frequency[::-1], flux[::-1], error[::-1])
    np.testing.assert_array_equal(forward.channels, backward.channels)
    assert (forward.weight > 0).sum() == 1000 - 11


def test_a_wide_gap_begins_a_new_stretch_and_a_small_one_does_not() -> None:
    frequency, flux, error = spectrum([])
    keep = np.ones(1000, bool)
    keep[300:310] = False
    assert patches_of(frequency[keep], flux[keep], error[keep]).stretch.max() == 0
    keep[300:500] = False
    two = patches_of(frequency[keep], flux[keep], error[keep])
    assert two.stretch.max() == 1
    assert (np.flatnonzero(np.diff(two.stretch)) + 1) % PATCH == 0


def test_narrow_channels_are_averaged_and_wide_ones_are_not() -> None:
    narrow = patches_of(*spectrum([], low_hz=99e9, high_hz=101e9, channels=4000))
    wide = patches_of(*spectrum([], channels=500))
    assert 16 <= narrow.width_km_s.min() < 20
    assert (wide.weight > 0).sum() == 500


@pytest.mark.parametrize("channel_km_s", [6.0, 40.0, 100.0])
def test_channels_of_one_width_in_velocity_are_known_by_it_over_the_whole_band(
    channel_km_s: float,
) -> None:
    """In Hz they are a third wider at 115 than at 84 GHz."""
    step = channel_km_s / C
    frequency = np.exp(np.arange(np.log(84.2e9), np.log(114.9e9), step))
    patches = patches_of(frequency, np.zeros(len(frequency)), np.full(len(frequency), 1e-3))
    seen = patches.weight > 0
    group = np.round(len(frequency) / seen.sum())
    assert patches.width_km_s[seen] == pytest.approx(group * channel_km_s, rel=0.02)
    assert len(np.unique(patches.stretch[seen])) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f, s, e: (f[:5], s[:5], e[:5]), "fewer than 8"),
        (lambda f, s, e: (f, s[:-1], e), "not one and the same"),
        (lambda f, s, e: (np.sort(f)[np.r_[1, 0, 2:1000]], s, e), "not strictly monotonic"),
        (lambda f, s, e: (f, s, -e), "0 channels were observed"),
    ],
)
def test_what_is_no_spectrum_is_refused(change, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=message):
        patches_of(*change(*spectrum([])))


def test_the_continuum_is_taken_off_under_a_bright_line() -> None:
    frequency, flux, error = spectrum([(100e9, 500.0, 5.0)], seed=None, continuum_jy=0.02)
    flux += 0.01 * (frequency / 100e9 - 1)
    patches = patches_of(frequency, flux, error)
    seen = patches.weight > 0
    integral = (patches.flux_jy * patches.width_km_s)[seen].sum()
    assert integral == pytest.approx(5.0, rel=0.03)


def test_a_batch_pads_what_is_shorter() -> None:
    spectra = [patches_of(*spectrum([], channels=count)) for count in (200, 500)]
    channels, patches, present = batch(spectra)
    assert channels.shape[1] == patches.shape[1] * PATCH == max(map(len, spectra)) * PATCH
    np.testing.assert_array_equal(present.sum(axis=1), [len(each) for each in spectra])


def test_the_matched_filter_measures_a_bright_line() -> None:
    patches = patches_of(*spectrum([(100.01e9, 400.0, 1.2)]))
    (ratio, line), *_ = matched_filter_lines(patches)
    assert ratio == pytest.approx(1.2 / (NOISE_JY * np.sqrt(93 * 400 * 1.5)), rel=0.3)
    assert abs(line.frequency_hz / 100.01e9 - 1) * C < 40
    assert line.width_km_s == pytest.approx(400, rel=0.2)
    assert line.flux_jy_km_s == pytest.approx(1.2, rel=0.2)


@pytest.mark.parametrize("channel", [0, 500, 999])
@pytest.mark.parametrize("without_bounds", [1e200, 1e-200])
def test_a_channel_whose_error_leaves_it_no_weight_was_not_observed(
    channel: int, without_bounds: float
) -> None:
    frequency, flux, error = spectrum([(100e9, 400.0, 1.0)])
    error[channel] = without_bounds
    odd = patches_of(frequency, flux, error)
    flux[channel] = np.nan
    without = patches_of(frequency, flux, error)
    assert np.array_equal(odd.channels, without.channels)
    assert np.array_equal(odd.patches, without.patches)


def test_the_matched_filter_knows_its_errors_in_white_noise() -> None:
    pulls = []
    for seed in range(60):
        patches = patches_of(*spectrum([(100.01e9, 400.0, 1.0)], seed, channels=700))
        (_, line), *_ = matched_filter_lines(patches)
        pulls.append((line.frequency_hz - 100.01e9) / line.frequency_error_hz)
    assert 0.6 < np.std(pulls) < 1.5


def test_a_bad_channel_is_no_line() -> None:
    frequency, flux, error = spectrum([])
    flux[400] += 15 * NOISE_JY
    assert not matched_filter_lines(patches_of(frequency, flux, error), least=6.0)


def test_noise_that_is_stated_too_low_makes_no_lines_when_it_is_measured() -> None:
    frequency, flux, error = spectrum([])
    patches = patches_of(frequency, flux, error / 3)
    assert matched_filter_lines(patches, least=6.0)
    assert not matched_filter_lines(patches, least=6.0, own_noise=True)


def outputs_with(patches: Patches, *lines: tuple[float, float, float, float]) -> Array32:
    """Network outputs that say lines of (frequency, width, flux, logit)."""
    outputs = np.zeros((len(patches.flux_jy), OUTPUTS), np.float32)
    outputs[:, (PRESENCE, COVERED)] = -8.0
    for frequency, width, flux, logit in lines:
        velocity = C * (1 - frequency / patches.frequency_hz)
        near = np.abs(velocity) < width / 4
        outputs[near, PRESENCE] = logit
        outputs[np.abs(velocity) < width, COVERED] = 8.0
        outputs[near, OFFSET] = velocity[near] / UNIT_KM_S
        outputs[:, WIDTH] = np.log(width / UNIT_KM_S)
        unit = patches.level_jy * np.sqrt(patches.width_km_s * UNIT_KM_S)
        outputs[near, FLUX] = np.log(flux / unit[near])
        outputs[near, SHAPE] = 3.0
    return outputs


def test_a_line_comes_out_as_the_network_says() -> None:
    patches = patches_of(*spectrum([]))
    said = outputs_with(patches, (100.123e9, 450.0, 1.5, 2.0))
    (line,) = lines_of(patches, said)
    assert line.frequency_hz == pytest.approx(100.123e9, rel=1e-6)
    assert line.width_km_s == pytest.approx(450, rel=1e-4)
    assert line.flux_jy_km_s == pytest.approx(1.5, rel=1e-4)
    assert line.probability == pytest.approx(1 / (1 + np.exp(-2)), abs=1e-3)
    assert line.shape == "gaussian"
    assert sum(line.shape_probabilities) == pytest.approx(1)


def test_lines_are_apart_and_ascend() -> None:
    patches = patches_of(*spectrum([]))
    said = outputs_with(
        patches, (110e9, 400.0, 1.0, 3.0), (90e9, 400.0, 1.0, 1.0), (90.03e9, 400.0, 1.0, 2.0)
    )
    found = lines_of(patches, said)
    assert [round(line.frequency_hz / 1e9) for line in found] == [90, 110]
    assert found[0].probability == pytest.approx(1 / (1 + np.exp(-2)), abs=1e-3)


def test_the_continuum_segments_leave_lines_out() -> None:
    frequency, flux, error = spectrum([(100e9, 600.0, 40.0)], continuum_jy=3e-3)
    patches = patches_of(frequency, flux, error)
    (segment,) = continuum_of(patches, outputs_with(patches, (100e9, 1800.0, 40.0, 4.0)))
    assert abs(segment.flux_density_jy - 3e-3) < 4 * segment.flux_error_jy
    assert segment.flux_error_jy == pytest.approx(NOISE_JY / np.sqrt(1000), rel=0.7)
    assert 0.9 < segment.line_free < 1.0
    assert (segment.low_hz, segment.high_hz) == pytest.approx((84e9, 115e9), rel=1e-3)


def line_at(frequency_hz: float, flux: float, probability: float = 0.99) -> ParsedLine:
    error = frequency_hz * 30 / C
    return ParsedLine(
        frequency_hz, error, 400.0, 60.0, flux, flux / 8, probability, "gaussian", np.eye(3)[0], []
    )


def test_two_lines_of_the_ladder_identify_each_other() -> None:
    redshift = 3.2
    rest = relations.LINES_HZ
    low, high = rest["CO(3-2)"] / (1 + redshift), rest["CO(4-3)"] / (1 + redshift)
    patches = patches_of(*spectrum([], low_hz=80e9, high_hz=116e9))
    first, second = identified([line_at(low, 1.0), line_at(high, 1.4)], Coverage.of(patches))
    assert (first.identifications[0].name, second.identifications[0].name) == (
        "CO(3-2)",
        "CO(4-3)",
    )
    assert first.identifications[0].redshift == pytest.approx(redshift, abs=1e-3)
    assert first.identifications[0].probability > 0.8


def test_a_single_line_has_several_candidates_that_add_up_to_at_most_one() -> None:
    patches = patches_of(*spectrum([]))
    (line,) = identified([line_at(100e9, 1.0)], Coverage.of(patches))
    assert len(line.identifications) >= 3
    assert sum(each.probability for each in line.identifications) <= 1 + 1e-9
    assert identified([], Coverage.of(patches)) == []


def test_a_line_that_should_have_been_seen_counts_against_a_redshift() -> None:
    at = relations.LINES_HZ["CO(4-3)"] / 4.2
    narrow = patches_of(*spectrum([], low_hz=at - 3e9, high_hz=at + 3e9))
    wide = patches_of(*spectrum([], low_hz=at - 30e9, high_hz=at + 30e9, channels=2000))
    shares = []
    for patches in (narrow, wide):
        (line,) = identified([line_at(at, 4.0)], Coverage.of(patches))
        shares.append({each.name: each.probability for each in line.identifications})
    # At this redshift CO(3-2) would lie in the wide spectrum, and be bright.
    assert shares[1].get("CO(4-3)", 0.0) < shares[0]["CO(4-3)"]


def test_the_likelihood_of_redshifts_peaks_where_the_lines_say() -> None:
    redshift, rest = 3.2, relations.LINES_HZ
    found = [line_at(rest[name] / (1 + redshift), flux) for name, flux in PAIR.items()]
    coverage = Coverage.of(patches_of(*spectrum([], low_hz=80e9, high_hz=116e9)))
    likelihood = log_likelihood(found, coverage, FINE)
    assert np.expm1(FINE[likelihood.argmax()]) == pytest.approx(redshift, abs=0.005)
    assert (log_likelihood([], coverage, FINE) == 0).all()


def test_improbable_lines_say_little_about_the_redshift() -> None:
    redshift, rest = 3.2, relations.LINES_HZ
    coverage = Coverage.of(patches_of(*spectrum([], low_hz=80e9, high_hz=116e9)))
    contrasts = []
    for probability in (0.01, 0.3, 0.99):
        found = [
            line_at(rest[name] / (1 + redshift), flux, probability) for name, flux in PAIR.items()
        ]
        likelihood = log_likelihood(found, coverage, FINE)
        contrasts.append(likelihood.max() - np.median(likelihood))
    assert contrasts == sorted(contrasts)
    assert contrasts[0] < 5 < contrasts[2]


def test_a_map_is_resampled_to_the_beam_whatever_its_pixels() -> None:
    results = []
    for per_beam, side in ((4.0, 65), (8.0, 129)):
        axis = (np.arange(side) - side // 2) / per_beam
        image = 1e-3 * np.exp(-4 * np.log(2) * (axis[:, None] ** 2 + axis**2))
        results.append(map_input(image, 1 / per_beam, 1.0, 1.0, 0.0, 1e-5))
    assert results[0].pixels.shape == (SIDE, SIDE)
    np.testing.assert_allclose(results[0].pixels, results[1].pixels, atol=0.35)


def test_components_come_out_where_and_as_bright_as_the_network_says() -> None:
    image = np.random.default_rng(0).normal(0, 1e-5, (60, 60))
    source = map_input(image, 0.3, 1.2, 1.2, 0.0)
    cells = np.zeros((CELL_GRID, CELL_GRID, CELL_OUTPUTS), np.float32)
    cells[..., 0] = -6.0
    cells[9, 12] = (4.0, 0.25, -0.5, np.log(30.0), -2.0)
    said = morphology_of(source, np.array([0, 0, 3, 0], np.float32), cells, MapCalibration())
    assert said.name == "double"
    (component,) = said.components
    beam_arcsec, cell = 1.2, 1.2 * 2 / 3
    assert component.x_arcsec == pytest.approx((12 - 8.5 + 0.25) * cell)
    assert component.y_arcsec == pytest.approx((9 - 8.5 - 0.5) * cell)
    assert component.flux_jy == pytest.approx(30 * source.noise_jy, rel=1e-5)
    assert source.beam_arcsec == pytest.approx(beam_arcsec)
    assert source.noise_jy == pytest.approx(1e-5, rel=0.05)


def test_a_map_without_pixels_or_beam_is_refused() -> None:
    with pytest.raises(ValueError, match="no pixel"):
        map_input(np.full((10, 10), np.nan), 0.1, 1.0, 1.0, 0.0)
    with pytest.raises(ValueError, match="must be positive"):
        map_input(np.zeros((10, 10)), 0.1, 0.0, 1.0, 0.0)
