from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from random import Random

import numpy as np
import pytest
from astropy.cosmology import Planck18
from hypothesis import given, settings
from hypothesis import strategies as st

from mmbroker.processors import relations
from mmbroker.processors.fingerprint.merge import empty
from mmbroker.processors.frequency_grid import BINS, CENTRES_HZ, LOG_STEP
from mmbroker.processors.redshift import ConventionalRedshift, dust, luminosity, spectral_lines
from mmbroker.processors.redshift.grids import NODES
from mmbroker.processors.redshift.tuned import Tuned, packaged
from mmbroker.processors.scoring.features import features_of
from mmbroker.schemas.events import (
    CHUNK_BINS,
    BandStatistics,
    Fingerprint,
    MapStatistics,
    PublishedRedshift,
    RedshiftPosterior,
)
from mmbroker.schemas.records import to_record

MICRONS = (100.0, 160.0, 250.0, 350.0, 500.0, 850.0, 1200.0, 3000.0)


def hz(micron: float) -> float:
    return relations.SPEED_OF_LIGHT_KM_S * 1e9 / micron


def band(micron: float, flux_jy: float, error_jy: float) -> BandStatistics:
    weight = error_jy**-2
    return BandStatistics(
        f"{micron:g} um", hz(micron), weight, weight * flux_jy, weight * flux_jy**2, 1
    )


def limit(micron: float, limit_jy: float) -> BandStatistics:
    return BandStatistics(f"{micron:g} um", hz(micron), 0.0, 0.0, 0.0, 1, limit_jy, limit_jy / 3)


def galaxy(
    bands: Sequence[BandStatistics] = (),
    published: Sequence[PublishedRedshift] = (),
    maps: Sequence[MapStatistics] = (),
) -> Fingerprint:
    return replace(
        empty("galaxy"),
        bands=list(bands),
        photometric_redshifts=list(published),
        maps=list(maps),
    )


def published(redshift: float, width: float | None = 0.05, method: str = "A") -> PublishedRedshift:
    ends = (None, None) if width is None else (redshift - width, redshift + width)
    return PublishedRedshift(method, 58000.0, "id", redshift, *ends)


def spectrum(
    redshift: float,
    log_brightness: float,
    windows_ghz: Sequence[tuple[float, float]],
    noise_jy: float = 3e-4,
    seed: int = 0,
) -> Fingerprint:
    """A simulated spectrum: the comb with its mean ratios on a flat continuum, with noise."""
    flux = np.full(BINS, 2e-3)
    distance = Planck18.luminosity_distance(redshift).to_value("Mpc")
    for name, rest_hz in relations.LINES_HZ.items():
        brightness = 10**log_brightness * relations.LINE_RATIOS[name]
        line_flux = brightness * (rest_hz / 1e9) ** 2 * (1 + redshift)
        line_flux /= relations.LINE_LUMINOSITY_FACTOR * distance**2
        velocity = np.log(rest_hz / (1 + redshift) / CENTRES_HZ) * relations.SPEED_OF_LIGHT_KM_S
        sigma = 500 / np.sqrt(8 * np.log(2))
        flux += line_flux / (sigma * np.sqrt(2 * np.pi)) * np.exp(-0.5 * (velocity / sigma) ** 2)
    flux += np.random.default_rng(seed).normal(0, noise_jy, BINS)
    seen = np.zeros(BINS, bool)
    for low, high in windows_ghz:
        seen |= np.abs(CENTRES_HZ / 1e9 - (low + high) / 2) < (high - low) / 2
    weight = np.where(seen, noise_jy**-2, 0.0).reshape(-1, CHUNK_BINS)
    chunks = np.flatnonzero(weight.any(axis=1)).astype(np.int32)
    return replace(
        empty("galaxy"),
        chunk_index=chunks,
        chunk_weight=weight[chunks],
        chunk_weighted_flux=(weight * flux.reshape(-1, CHUNK_BINS))[chunks],
    )


def test_a_spectrum_noisier_than_it_says_is_taken_by_its_own_noise() -> None:
    right = spectrum(2.5, 10.0, [(84, 115)])
    stated = spectral_lines.residual(right).weight.max() / right.chunk_weight.max()
    assert 0.6 < stated <= 1.0
    # The same fluxes, with errors half of what they are.
    wrong = replace(
        right,
        chunk_weight=4 * right.chunk_weight,
        chunk_weighted_flux=4 * right.chunk_weighted_flux,
    )
    assert spectral_lines.residual(wrong).weight.max() == pytest.approx(
        spectral_lines.residual(right).weight.max(), rel=0.3
    )


@pytest.fixture(scope="module")
def estimator() -> ConventionalRedshift:
    return ConventionalRedshift()


def only(estimator: ConventionalRedshift, fingerprint: Fingerprint) -> RedshiftPosterior:
    (posterior,) = estimator.estimate([fingerprint])
    return posterior


def probability_between(posterior: RedshiftPosterior, low: float, high: float) -> float:
    inside = (posterior.grid_redshift >= low) & (posterior.grid_redshift < high)
    return float(posterior.grid_probability[inside].sum())


BANDS = st.lists(
    st.builds(
        band,
        st.sampled_from([*MICRONS, 2e5]),
        st.floats(-0.01, 0.2),
        st.floats(1e-4, 0.01),
    ),
    max_size=7,
    unique_by=lambda one: one.frequency_hz,
)
PUBLISHED = st.lists(
    st.builds(published, st.floats(0.0, 8.0), st.none() | st.floats(0.005, 0.5)), max_size=2
)
GALAXIES = st.builds(galaxy, BANDS, PUBLISHED)


@settings(max_examples=40)
@given(GALAXIES)
def test_a_posterior_is_a_distribution_with_nested_intervals(
    estimator: ConventionalRedshift, fingerprint: Fingerprint
) -> None:
    posterior = only(estimator, fingerprint)
    assert posterior.grid_redshift.shape == posterior.grid_probability.shape == (256,)
    assert posterior.grid_probability.dtype == np.float32
    assert posterior.grid_probability.sum() == pytest.approx(1, abs=1e-5)
    assert (posterior.grid_probability >= 0).all()
    inner, outer = posterior.interval_68, posterior.interval_95
    ordered = [0, outer.lower, inner.lower, posterior.best, inner.upper, outer.upper]
    assert ordered == sorted(ordered)


@settings(max_examples=20)
@given(GALAXIES, st.randoms(use_true_random=False))
def test_the_order_of_bands_and_methods_does_not_matter(
    estimator: ConventionalRedshift, fingerprint: Fingerprint, random: object
) -> None:
    shuffled = replace(
        fingerprint,
        bands=fingerprint.bands[::-1],
        photometric_redshifts=fingerprint.photometric_redshifts[::-1],
    )
    one, other = only(estimator, fingerprint), only(estimator, shuffled)
    assert one.grid_probability == pytest.approx(other.grid_probability, abs=1e-4)


SPECTRA = st.builds(
    lambda of, with_spectrum: replace(
        with_spectrum, bands=of.bands, photometric_redshifts=of.photometric_redshifts
    ),
    GALAXIES,
    st.builds(
        spectrum,
        st.floats(0.5, 6.0),
        st.floats(9.5, 12.0),
        st.sampled_from([[(84, 116)], [(97, 101), (109, 113)]]),
        seed=st.integers(0, 9),
    ),
)


@settings(max_examples=20)
@given(st.lists(GALAXIES | SPECTRA, min_size=2, max_size=5))
def test_a_batch_equals_its_galaxies_one_by_one_to_the_bit(
    estimator: ConventionalRedshift, fingerprints: list[Fingerprint]
) -> None:
    for fingerprint, batched in zip(fingerprints, estimator.estimate(fingerprints), strict=True):
        alone = only(estimator, fingerprint)
        assert to_record(batched) == to_record(alone)


def test_nothing_is_estimated_of_nothing(estimator: ConventionalRedshift) -> None:
    assert estimator.estimate([]) == []


def test_an_empty_fingerprint_gives_the_prior_and_says_so(estimator: ConventionalRedshift) -> None:
    posterior = only(estimator, galaxy())
    assert posterior.inputs == ["prior"]
    assert posterior.identifications == []
    assert posterior.interval_95.lower < 0.5
    assert posterior.interval_95.upper > 3


def test_inputs_name_what_was_used(estimator: ConventionalRedshift) -> None:
    full = galaxy([band(850, 5e-3, 1e-3), band(2e5, 5e-5, 5e-6)], [published(2.0)])
    assert only(estimator, full).inputs == ["photometric-redshift", "dust", "radio"]
    assert only(estimator, spectrum(2.5, 10.8, [(97, 101)])).inputs == ["lines"]


def test_a_far_infrared_estimate_is_not_counted_on_top_of_the_same_photometry(
    estimator: ConventionalRedshift,
) -> None:
    bands = [band(500, 0.05, 0.005), band(850, 0.02, 0.002)]
    infrared = published(1.0, method="far-infrared template fit")
    alone, both = estimator.estimate([galaxy(bands), galaxy(bands, [infrared])])
    assert both.best == alone.best
    assert both.inputs == ["dust"]
    assert only(estimator, galaxy([], [infrared])).best == pytest.approx(1, abs=0.1)


def simulated_bodies(tuned: Tuned, count: int, seed: int) -> tuple[list[Fingerprint], np.ndarray]:
    """Galaxies drawn from the estimator's own prior and templates, bright enough to matter."""
    random = np.random.default_rng(seed)
    model = dust.Dust(tuned)
    prior = luminosity.lensed(luminosity.density()) * luminosity.completeness(
        tuned.luminosity_limit
    )
    log_frequency = np.log([hz(micron) for micron in MICRONS])
    templates = model.flux_per_luminosity(log_frequency)
    error = np.array([1.0, 2.0, 4.0, 5.0, 6.0, 1.2, 0.8, 0.05]) * 1e-3
    prior /= prior.sum()
    drawn = random.choice(prior.size, count, p=prior.ravel())
    node, step = np.unravel_index(drawn, prior.shape)
    log_luminosity = luminosity.LOG_LUMINOSITY[step]
    peak = dust.expected_log_peak(log_luminosity)
    peak = peak + random.normal(0, tuned.dust_peak_scatter, count)
    nearest = np.abs(dust.PEAKS[None, :] - peak[:, None]).argmin(axis=1)
    emissivity = random.choice(3, count, p=[1 / 6, 4 / 6, 1 / 6])
    clean = np.exp(log_luminosity)[:, None] * templates[nearest * 3 + emissivity, :, node]
    flux = clean + random.normal(size=clean.shape) * error
    fingerprints = [
        galaxy([band(*each) for each in zip(MICRONS, row, error, strict=True)]) for row in flux
    ]
    return fingerprints, np.expm1(NODES[node])


def test_intervals_hold_the_stated_share_of_simulated_grey_bodies() -> None:
    exact = replace(
        packaged(), dust_temper=1.0, dust_error=0.01, dust_wien_error=0.01, dust_mismatch=1e-6
    )
    fingerprints, truth = simulated_bodies(exact, 800, seed=5)
    posteriors = ConventionalRedshift(exact).estimate(fingerprints)
    for name, share in (("interval_68", 0.68), ("interval_95", 0.95)):
        intervals = [getattr(one, name) for one in posteriors]
        inside = np.mean(
            [one.lower <= z <= one.upper for one, z in zip(intervals, truth, strict=True)]
        )
        assert inside == pytest.approx(share, abs=4 * np.sqrt(share * (1 - share) / 800))


def test_a_bright_cold_source_is_distant_and_a_warm_one_near(
    estimator: ConventionalRedshift,
) -> None:
    cold = galaxy([band(250, 0.05, 0.006), band(500, 0.12, 0.008), band(850, 0.08, 0.005)])
    warm = galaxy([band(100, 0.5, 0.02), band(250, 0.12, 0.006), band(500, 0.02, 0.008)])
    assert only(estimator, cold).interval_68.lower > 3
    assert only(estimator, warm).interval_68.upper < 1.2


def test_a_non_detection_where_templates_predict_flux_counts_against_a_redshift(
    estimator: ConventionalRedshift,
) -> None:
    detected = [band(500, 0.03, 0.004), band(850, 0.012, 0.001)]
    absent = galaxy([*detected, band(160, 0.0, 0.002), band(250, 0.0, 0.004)])
    limited = galaxy([*detected, limit(160, 0.006), limit(250, 0.012)])
    before, measured, censored = estimator.estimate([galaxy(detected), absent, limited])
    nearby = (0.0, 2.0)
    assert probability_between(measured, *nearby) < 0.3 * probability_between(before, *nearby)
    assert probability_between(censored, *nearby) < 0.5 * probability_between(before, *nearby)


def test_a_generous_limit_says_nothing(estimator: ConventionalRedshift) -> None:
    detected = [band(500, 0.03, 0.004), band(850, 0.012, 0.001)]
    before, after = estimator.estimate([galaxy(detected), galaxy([*detected, limit(160, 100.0)])])
    assert after.best == pytest.approx(before.best, rel=1e-3)


def test_radio_emission_lowers_the_redshift_of_a_submillimetre_source(
    estimator: ConventionalRedshift,
) -> None:
    detected = [band(850, 5e-3, 7e-4)]
    bright, faint = estimator.estimate(
        [
            galaxy([*detected, band(2e5, 2e-4, 1e-5)]),
            galaxy([*detected, band(2e5, 0.0, 3e-6)]),
        ]
    )
    assert bright.best < faint.best - 0.5


def test_a_radio_limit_counts(estimator: ConventionalRedshift) -> None:
    detected = [band(850, 5e-3, 7e-4)]
    before, after = estimator.estimate([galaxy(detected), galaxy([*detected, limit(2e5, 9e-6)])])
    assert after.inputs == ["dust", "radio"]
    assert after.best > before.best


@given(
    micron=st.sampled_from([160.0, 850.0, 3000.0, 2e5]),
    limits_jy=st.lists(st.floats(1e-6, 1e-1), min_size=2, max_size=4),
    random=st.randoms(use_true_random=False),
)
@settings(max_examples=25, deadline=None)
def test_of_limits_at_one_frequency_the_tightest_counts_in_any_order(
    estimator: ConventionalRedshift, micron: float, limits_jy: list[float], random: Random
) -> None:
    detected = [band(500, 0.03, 0.004), band(1200, 0.012, 0.001)]
    # One frequency, computed in ways that round differently.
    limited = [
        replace(limit(micron, one), band=f"{place}", frequency_hz=hz(micron) * (1 + place * 2e-16))
        for place, one in enumerate(limits_jy)
    ]
    tightest = galaxy([*detected, limit(micron, min(limits_jy))])
    mixed = [*detected, *limited]
    random.shuffle(mixed)
    expected, found = estimator.log_continuum([tightest, galaxy(mixed)])
    assert found == pytest.approx(expected, abs=1e-9)
    again = estimator.log_continuum([galaxy([*detected, *limited])])
    assert (again[0] == found).all()


def test_a_limit_does_not_replace_what_was_measured_at_its_frequency(
    estimator: ConventionalRedshift,
) -> None:
    detected = [band(850, 5e-3, 7e-4), band(2e5, 2e-4, 1e-5)]
    generous = replace(limit(2e5, 0.03), band="shallow")
    before, after = estimator.log_continuum([galaxy(detected), galaxy([*detected, generous])])
    assert after == pytest.approx(before, abs=1e-3)


def test_a_map_counts_as_a_band(estimator: ConventionalRedshift) -> None:
    weight = 1e6
    frequency = hz(850)
    image = MapStatistics(
        0, weight, weight * frequency, weight * 0.02, weight * 4e-4, 0.0, 0.0, 1.0, 1
    )
    others = [band(250, 0.03, 0.006), band(500, 0.04, 0.006)]
    as_map = only(estimator, galaxy(others, maps=[image]))
    as_band = only(estimator, galaxy([*others, band(850, 0.02, 1e-3)]))
    assert as_map.best == pytest.approx(as_band.best, rel=1e-6)


def test_a_published_redshift_is_recalibrated_to_be_wider(estimator: ConventionalRedshift) -> None:
    posterior = only(estimator, galaxy([], [published(1.0, 0.01)]))
    assert posterior.best == pytest.approx(1.0, abs=0.05)
    width = posterior.interval_68.upper - posterior.interval_68.lower
    assert width > 2 * 0.01
    # a catastrophic failure stays possible
    assert 0.001 < 1 - probability_between(posterior, 0.7, 1.4) < 0.1


def test_two_methods_on_the_same_photometry_hardly_count_as_two(
    estimator: ConventionalRedshift,
) -> None:
    one, two = estimator.estimate(
        [
            galaxy([], [published(1.0)]),
            galaxy([], [published(1.0), published(1.0, method="B")]),
        ]
    )
    widths = [each.interval_68.upper - each.interval_68.lower for each in (one, two)]
    assert widths[1] > 0.8 * widths[0]


def test_a_published_density_is_used_where_there_is_one(estimator: ConventionalRedshift) -> None:
    grid = np.linspace(0, 6, 601).astype(np.float32)
    density = np.exp(-0.5 * ((grid - 1) / 0.1) ** 2) + np.exp(-0.5 * ((grid - 3) / 0.1) ** 2)
    two_peaks = replace(published(1.0), grid_redshift=grid, grid_density=density)
    posterior = only(estimator, galaxy([], [two_peaks]))
    assert probability_between(posterior, 0.7, 1.4) > 0.2
    assert probability_between(posterior, 2.5, 3.5) > 0.05


def test_far_infrared_evidence_against_a_published_redshift_is_a_mode_beside_it(
    estimator: ConventionalRedshift,
) -> None:
    """Flux densities as of a published z_phot = 0.17 whose spectroscopic redshift is 3.1.

    Of real redshifts that dust and radio put elsewhere hardly one was right there. So the published
    one stays in force, and what contradicts it is told.
    """
    bands = [
        band(100, 1.7e-3, 0.4e-3),
        band(160, 3.9e-3, 1e-3),
        band(250, 11e-3, 1.1e-3),
        band(350, 11e-3, 1.4e-3),
        band(500, 8.7e-3, 2.3e-3),
        band(850, 3.6e-3, 1.4e-3),
        band(2e5, 3e-5, 3.6e-6),
    ]
    posterior = only(estimator, galaxy(bands, [published(0.17, 0.02)]))
    assert posterior.best == pytest.approx(0.17, abs=0.02)
    other = posterior.modes[1]
    assert other.median > 1.5
    assert other.probability > 0.1


def test_the_stated_redshift_lies_in_a_mode_and_never_between_two(
    estimator: ConventionalRedshift,
) -> None:
    apart = galaxy([], [published(0.3, 0.01), replace(published(2.0, 0.01), method="B")])
    posterior = only(estimator, apart)
    assert len(posterior.modes) == 2
    for mode in posterior.modes:
        assert mode.lower < mode.median < mode.upper
        within = probability_between(posterior, mode.lower, mode.upper)
        assert within == pytest.approx(mode.probability, abs=0.02)
    assert posterior.best in [mode.median for mode in posterior.modes]
    assert len(posterior.interval_68_pieces) > 1
    held = sum(
        probability_between(posterior, piece.lower, piece.upper)
        for piece in posterior.interval_68_pieces
    )
    assert held == pytest.approx(0.68, abs=0.05)
    hull = posterior.interval_68
    assert hull.lower == posterior.interval_68_pieces[0].lower
    assert hull.upper == posterior.interval_68_pieces[-1].upper


@given(GALAXIES | SPECTRA)
def test_the_stated_redshift_is_within_its_intervals(
    estimator: ConventionalRedshift, fingerprint: Fingerprint
) -> None:
    posterior = only(estimator, fingerprint)
    assert posterior.interval_68.lower <= posterior.best <= posterior.interval_68.upper
    assert sum(mode.probability for mode in posterior.modes) == pytest.approx(1.0, abs=0.2)
    if len(posterior.modes) == 1 or posterior.modes[1].probability < 0.1:
        assert posterior.interval_68_pieces == [posterior.interval_68]


def test_lines_tell_less_than_they_would_if_their_noise_were_known_exactly(
    estimator: ConventionalRedshift, monkeypatch: pytest.MonkeyPatch
) -> None:
    # By the line alone the comb does not say how probable it is to be one.
    seen = replace(spectrum(2.5, 10.8, [(84, 115)]), bands=[band(850, 1e-3, 0.5e-3)])
    cautious = only(estimator, seen)
    monkeypatch.setattr("mmbroker.processors.redshift.comb.EVIDENCE_WEIGHT", 1.0)
    certain = only(estimator, seen)
    at_the_line = [
        {mode.lines[0]: mode.probability for mode in one.identifications}["CO(3-2)"]
        for one in (cautious, certain)
    ]
    assert at_the_line[0] < 0.95 * at_the_line[1]


def test_one_line_leaves_several_redshifts_two_lines_one(estimator: ConventionalRedshift) -> None:
    one = only(estimator, spectrum(2.5, 10.8, [(84, 115)]))
    assert len(one.identifications) >= 3
    assert {mode.lines[0] for mode in one.identifications} >= {"CO(2-1)", "CO(3-2)"}
    assert any(abs(mode.redshift - 2.5) < 0.005 for mode in one.identifications)
    probabilities = [mode.probability for mode in one.identifications]
    assert probabilities == sorted(probabilities, reverse=True)
    assert sum(probabilities) <= 1 + 1e-6
    two = only(estimator, spectrum(2.5, 10.8, [(84, 120), (129, 138)]))
    assert two.identifications[0].lines == ["CO(3-2)", "CO(4-3)"]
    assert two.best == pytest.approx(2.5, abs=0.005)
    assert two.identifications[0].probability > 0.95
    for name, frequency in zip(
        two.identifications[0].lines,
        two.identifications[0].observed_frequencies_hz,
        strict=True,
    ):
        assert frequency == pytest.approx(relations.LINES_HZ[name] / 3.5, rel=2e-3)


def test_a_missing_line_counts_against_a_redshift(estimator: ConventionalRedshift) -> None:
    """A line at 98.8 GHz is CO(3-2) at z = 2.5 only if CO(4-3) is at 131.7 GHz."""

    def share(posterior: RedshiftPosterior) -> float:
        return sum(
            mode.probability
            for mode in posterior.identifications
            if abs(mode.redshift - 2.5) < 0.01
        )

    line = spectrum(2.5, 10.8, [(97, 101)])
    blank = spectrum(2.5, 6.0, [(129, 135)], seed=1)
    both = replace(
        line,
        chunk_index=np.concatenate([line.chunk_index, blank.chunk_index]),
        chunk_weight=np.concatenate([line.chunk_weight, blank.chunk_weight]),
        chunk_weighted_flux=np.concatenate([line.chunk_weighted_flux, blank.chunk_weighted_flux]),
    )
    before, after = estimator.estimate([line, both])
    assert share(after) < 0.5 * share(before)


def test_a_very_bright_line_is_not_taken_for_a_blend_of_two(
    estimator: ConventionalRedshift,
) -> None:
    """CO(7-6) and [CI](2-1) are 1000 km/s apart: the wings of one line must not count as both."""
    posterior = only(estimator, spectrum(2.5, 11.8, [(97, 101)]))
    blends = [mode for mode in posterior.identifications if "CO(7-6)" in mode.lines]
    assert sum(mode.probability for mode in blends) < 0.2


@pytest.mark.parametrize("log_brightness", [11.3, 11.8, 12.3])
def test_two_lines_place_a_galaxy_however_bright_they_are(
    estimator: ConventionalRedshift, log_brightness: float
) -> None:
    redshifts = np.linspace(2.9, 3.1, 20)
    posteriors = estimator.estimate(
        [
            spectrum(redshift, log_brightness, [(82, 120)], seed=seed)
            for seed, redshift in enumerate(redshifts.tolist())
        ]
    )
    intervals = [each.interval_68 for each in posteriors]
    assert max(each.upper - each.lower for each in intervals) < 0.01
    held = [
        each.lower < redshift < each.upper
        for each, redshift in zip(intervals, redshifts.tolist(), strict=True)
    ]
    assert sum(held) >= 15


@pytest.mark.parametrize("middle", [3.0, 4.2, 5.2])
def test_redshifts_from_lines_are_wrong_by_no_more_one_way_than_the_other(
    estimator: ConventionalRedshift, middle: float
) -> None:
    """Whichever lines tell them, and wherever these are within their bins."""
    redshifts = np.linspace(middle - 0.1, middle + 0.1, 24)
    posteriors = estimator.estimate(
        [
            spectrum(redshift, 11.5, [(82, 120)], seed=seed)
            for seed, redshift in enumerate(redshifts.tolist())
        ]
    )
    wrong = (np.array([each.best for each in posteriors]) - redshifts) / (1 + redshifts)
    assert abs(wrong.mean()) < 0.25 * LOG_STEP
    assert np.abs(wrong).max() < 0.75 * LOG_STEP


def test_a_spectrum_without_lines_identifies_nothing(estimator: ConventionalRedshift) -> None:
    blank = spectrum(2.5, 6.0, [(84, 115)])
    (estimated,) = estimator.estimate_fully([blank])
    posterior, features = estimated.posterior, features_of(blank, estimated)
    assert posterior.identifications == []
    assert not [one for one in features if one.kind == "line"]


def test_features_measure_lines_and_continuum(estimator: ConventionalRedshift) -> None:
    fingerprint = replace(
        spectrum(2.5, 11.0, [(84, 115), (129, 138)]), bands=[band(850, 0.01, 0.001)]
    )
    found = features_of(fingerprint, *estimator.estimate_fully([fingerprint]))
    measured = {one.name: one for one in found if one.kind == "line"}
    assert set(measured) == {"CO(3-2)", "CO(4-3)"}
    distance = Planck18.luminosity_distance(2.5).to_value("Mpc")
    for name, line in measured.items():
        expected = 1e11 * relations.LINE_RATIOS[name] * (relations.LINES_HZ[name] / 1e9) ** 2
        expected *= 3.5 / (relations.LINE_LUMINOSITY_FACTOR * distance**2)
        assert line.line_flux_jy_km_s == pytest.approx(expected, rel=0.25)
        assert line.line_width_km_s == pytest.approx(500, rel=0.5)
        assert line.signal_to_noise is not None
        assert line.signal_to_noise >= spectral_lines.SIGNIFICANT
    (continuum,) = [one for one in found if one.kind == "continuum"]
    assert continuum.flux_density_jy == pytest.approx(0.01)
    assert continuum.signal_to_noise == pytest.approx(10)


def test_a_steep_continuum_is_not_a_line() -> None:
    flux = 0.5 * (CENTRES_HZ / 350e9) ** 3.5
    weight = np.where((CENTRES_HZ > 330e9) & (CENTRES_HZ < 370e9), 1e-3**-2, 0.0)
    residual = spectral_lines.subtract_continuum(flux, weight)
    assert np.abs(residual * np.sqrt(weight)).max() < spectral_lines.SIGNIFICANT


def test_weights_that_are_lost_in_rounding_leave_no_continuum() -> None:
    flux, weight = np.full(600, 1e-3), np.full(600, 1e-77)
    weight[:50] = 1e30
    residual = spectral_lines.subtract_continuum(flux, weight)
    assert np.isfinite(residual).all()
    assert np.abs(residual[:50]).max() < 1e-9


def test_the_identity_follows_the_constants(estimator: ConventionalRedshift) -> None:
    assert ConventionalRedshift().identity == estimator.identity
    other = replace(packaged(), dust_error=packaged().dust_error * 1.1)
    assert ConventionalRedshift(other).identity != estimator.identity
