"""Simulated radio maps: flux conserved, sizes and noise as stated."""

from __future__ import annotations

import numpy as np
import pytest

from mmbroker.models.simulation.radio_maps import (
    COMPACT,
    DOUBLE,
    EXTENDED,
    JET,
    Beam,
    add_sidelobes,
    correlated_noise,
    draw_beam,
    draw_components,
    draw_morphology,
    images,
    resized,
)
from mmbroker.processors.features.maps import MORPHOLOGIES
from mmbroker.schemas.events import Floats

SIDE = 65


def beam_area_pixels(beam: Beam) -> Floats:
    area: Floats = 2 * np.pi * np.sqrt(np.linalg.det(beam.covariance()))
    return area


@pytest.mark.parametrize("morphology", range(len(MORPHOLOGIES)))
def test_a_map_holds_the_flux_of_its_components(morphology: int) -> None:
    random = np.random.default_rng(morphology)
    components = draw_components(np.full(50, morphology), np.full(50, 2e-3), random)
    assert components.flux_jy.sum(axis=1) == pytest.approx(2e-3)
    beam = Beam(np.full(50, 4.0), random.uniform(0.6, 1, 50), random.uniform(0, np.pi, 50))
    total = images(components, beam, 128).sum(axis=(1, 2)) / beam_area_pixels(beam)
    assert total == pytest.approx(2e-3, rel=1e-3)


def test_a_compact_source_peaks_at_nearly_its_flux_and_an_extended_one_does_not() -> None:
    random = np.random.default_rng(5)
    beam = draw_beam(100, random)
    compact = images(draw_components(np.full(100, COMPACT), np.ones(100), random), beam, SIDE)
    extended = images(draw_components(np.full(100, EXTENDED), np.ones(100), random), beam, SIDE)
    assert compact.max(axis=(1, 2)).min() > 0.85
    assert extended.max(axis=(1, 2)).max() < 0.85


def test_components_are_as_many_as_the_morphology_says() -> None:
    random = np.random.default_rng(6)
    counts = {
        kind: (draw_components(np.full(300, kind), np.ones(300), random).flux_jy > 0).sum(axis=1)
        for kind in (COMPACT, EXTENDED, DOUBLE, JET)
    }
    assert set(counts[COMPACT]) == set(counts[EXTENDED]) == {1}
    assert set(counts[DOUBLE]) == {2, 3}
    assert set(counts[JET]) == {3, 4, 5, 6}


def test_the_noise_is_as_deep_as_stated_and_correlated_over_the_beam() -> None:
    random = np.random.default_rng(7)
    beam = Beam(np.full(40, 5.0), np.ones(40), np.zeros(40))
    noise = correlated_noise(np.full(40, 3e-6), beam, SIDE, random)
    assert noise.std(axis=(1, 2)) == pytest.approx(3e-6, rel=1e-3)
    # White noise smoothed by a Gaussian is correlated by one wider by the root of two.
    lag = (noise[:, :, 5:] * noise[:, :, :-5]).mean() / 9e-12
    assert lag == pytest.approx(np.exp(-2 * np.log(2)), abs=0.05)


def test_sidelobes_leave_the_peak_and_add_what_is_stated() -> None:
    random = np.random.default_rng(8)
    beam = Beam(np.full(30, 4.0), np.ones(30), np.zeros(30))
    clean = images(draw_components(np.full(30, COMPACT), np.ones(30), random), beam, SIDE)
    dirty = add_sidelobes(clean, np.full(30, 0.03), random)
    assert np.abs(dirty - clean).max() == pytest.approx(0.03, abs=0.065)
    assert np.abs(dirty - clean).max() > 0.02


def test_doubles_and_jets_are_where_active_nuclei_are_and_starbursts_are_compact() -> None:
    random = np.random.default_rng(9)
    starburst = np.arange(500) < 250
    quiet = draw_morphology(np.zeros(500), starburst, random)
    assert (quiet == np.where(starburst, COMPACT, EXTENDED)).all()
    assert set(draw_morphology(np.ones(500), starburst, random)) == {COMPACT, DOUBLE, JET}


def test_a_resized_source_has_the_extent_asked_for_and_its_shape() -> None:
    random = np.random.default_rng(10)
    morphology = random.integers(0, len(MORPHOLOGIES), 200)
    extent = random.uniform(0.2, 8.0, 200)
    drawn = draw_components(morphology, np.ones(200), random)
    sized = resized(drawn, extent)
    single = (morphology == COMPACT) | (morphology == EXTENDED)
    assert sized.major_beams[single, 0] == pytest.approx(extent[single])
    double = morphology == DOUBLE
    lobes = np.hypot(
        sized.x_beams[double, 0] - sized.x_beams[double, 1],
        sized.y_beams[double, 0] - sized.y_beams[double, 1],
    )
    assert lobes == pytest.approx(extent[double])
    assert (sized.flux_jy == drawn.flux_jy).all()
    assert sized.minor_beams * drawn.major_beams == pytest.approx(
        sized.major_beams * drawn.minor_beams
    )
