"""Observations as the parser's networks read them, and trees as fingerprints hold them."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.wcs import WCS
from hypothesis import given, settings

from mmbroker.processors.features.inputs import (
    MOST_PATCHES,
    source_in_map,
    spectrum_input,
)
from mmbroker.processors.features.lines import UNCALIBRATED
from mmbroker.processors.features.maps import CELL_GRID, CELL_OUTPUTS, MapCalibration
from mmbroker.processors.features.outputs import (
    MOST_CANDIDATES,
    MOST_COMPONENTS,
    MOST_LINES,
    MOST_SEGMENTS,
    map_tree,
    spectrum_tree,
)
from mmbroker.processors.features.patches import Patches
from mmbroker.schemas.codec import Codec
from mmbroker.schemas.events import Fingerprint, Observation, Spectrum
from mmbroker.schemas.records import to_record
from tests.strategies import continuum_map, observations

LABEL = "parser 1 0123"
RIGHT_ASCENSION, DECLINATION = 150.0, 2.0


def observed(**payload: Any) -> Observation:
    return Observation("o", "ALMA", RIGHT_ASCENSION, DECLINATION, 0.2, 59000.0, **payload)


def spectrum(
    frequency: np.ndarray[Any, Any], flux: float = 1e-3, error: float = 3e-4
) -> Observation:
    noise = error * np.random.default_rng(0).standard_normal(len(frequency))
    return observed(
        spectrum=Spectrum(frequency, "BARYCENTRIC", flux + noise, np.full(len(frequency), error))
    )


def axis(low_ghz: float = 92.0, high_ghz: float = 108.0, channels: int = 1000) -> Any:
    return np.linspace(low_ghz * 1e9, high_ghz * 1e9, channels)


def with_map(**changes: Any) -> Observation:
    made = continuum_map(RIGHT_ASCENSION, DECLINATION)
    return observed(continuum_map=dataclasses.replace(made, **changes))


# Which are read -----------------------------------------------------------------------------------


@given(observations())
@settings(max_examples=60)
def test_whatever_is_valid_is_read_or_is_not(observation: Observation) -> None:
    patches, source = spectrum_input(observation), source_in_map(observation)
    assert patches is None or source is None
    if patches is not None:
        assert np.isfinite(patches.channels).all()
        assert np.isfinite(patches.patches).all()
        assert len(patches) <= MOST_PATCHES
    if source is not None:
        assert np.isfinite(source.input.pixels).all()
        assert np.isfinite(source.input.beam).all()


def test_a_spectrum_is_read() -> None:
    patches = spectrum_input(spectrum(axis()))
    assert patches is not None
    assert (patches.weight > 0).sum() == 1000


@pytest.mark.parametrize(
    "frequency",
    [
        pytest.param(axis(channels=7), id="too short"),
        pytest.param(84e9 + np.cumsum(np.tile([1e6, 40e6], 6_000)), id="in too many pieces"),
        pytest.param(axis(92, 108, 20), id="channels wider than lines"),
        pytest.param(axis(1400, 1500), id="far infrared"),
        pytest.param(axis(1.2, 1.6), id="radio"),
        pytest.param(axis(360, 380), id="partly off the range"),
    ],
)
def test_a_spectrum_off_the_range_is_not_read(frequency: Any) -> None:
    assert spectrum_input(spectrum(frequency)) is None


def test_a_blank_spectrum_is_not_read() -> None:
    full = spectrum(axis())
    assert full.spectrum is not None
    blank = np.full(1000, np.nan, np.float32)
    blank[:5] = 1e-3
    for name in ("flux_density_jy", "flux_error_jy"):
        payload = dataclasses.replace(full.spectrum, **{name: blank})
        assert spectrum_input(observed(spectrum=payload)) is None


def test_extreme_numbers_are_read_or_are_not() -> None:
    for flux, error in ((1e6, 1e-15), (1e-15, 1e6), (0.0, 1e-15), (1e6, 1e6)):
        patches = spectrum_input(spectrum(axis(), flux, error))
        assert patches is None or np.isfinite(patches.channels).all()


def test_a_map_is_read_around_its_source() -> None:
    source = source_in_map(with_map())
    assert source is not None
    assert source.x_arcsec == pytest.approx(0.0, abs=1e-6)
    assert source.y_arcsec == pytest.approx(0.0, abs=1e-6)
    assert np.unravel_index(source.input.pixels.argmax(), (36, 36)) in [
        (row, column) for row in (17, 18) for column in (17, 18)
    ]


BEAM = "beam_major_arcsec"


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({BEAM: 1.2, "beam_minor_arcsec": 1.2}, id="too small"),
        pytest.param({BEAM: 0.15, "beam_minor_arcsec": 0.15}, id="too coarse"),
        pytest.param({"noise_jy_per_beam": 2e-3}, id="too faint"),
        pytest.param({"image_jy_per_beam": np.zeros(48 * 48, np.float32)}, id="empty"),
        pytest.param({"image_jy_per_beam": np.full(48 * 48, np.nan, np.float32)}, id="blank"),
        pytest.param({"image_jy_per_beam": np.eye(48, dtype=np.float32).ravel()}, id="no noise"),
        pytest.param({"wcs_header": "nonsense"}, id="no coordinates"),
    ],
)
def test_a_map_off_the_range_is_not_read(changes: dict[str, Any]) -> None:
    assert source_in_map(with_map(**changes)) is None


# Where things are in a map ------------------------------------------------------------------------


@pytest.mark.parametrize("rotation_deg", [0.0, 30.0, 200.0])
@pytest.mark.parametrize("mirrored", [False, True])
def test_the_beam_lies_on_the_pixels_as_it_lies_on_the_sky(
    rotation_deg: float, mirrored: bool
) -> None:
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---SIN", "DEC--SIN"]
    wcs.wcs.crval = [RIGHT_ASCENSION, DECLINATION]
    wcs.wcs.crpix = [24.5, 24.5]
    wcs.wcs.cdelt = [(0.1 if mirrored else -0.1) / 3600, 0.1 / 3600]
    angle = np.radians(rotation_deg)
    wcs.wcs.pc = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    position_angle = 25.0
    source = source_in_map(
        with_map(
            wcs_header=wcs.to_header_string(),
            beam_major_arcsec=0.7,
            beam_minor_arcsec=0.5,
            beam_position_angle_deg=position_angle,
        )
    )
    assert source is not None
    here = SkyCoord(RIGHT_ASCENSION, DECLINATION, unit="deg")
    there = here.directional_offset_by(position_angle * u.deg, 0.3 * u.arcsec)
    (x, x_there), (y, y_there) = wcs.world_to_pixel(SkyCoord([here, there]))
    expected = np.arctan2(y_there - y, x_there - x)
    assert source.input.beam[1] == pytest.approx(np.cos(2 * expected), abs=1e-4)
    assert source.input.beam[2] == pytest.approx(np.sin(2 * expected), abs=1e-4)


def test_components_are_told_from_the_middle_of_the_map_wherever_its_source_is() -> None:
    centred = with_map(noise_jy_per_beam=1e-4)
    made = centred.continuum_map
    assert made is not None
    # The same sky in a larger map, of which it is the corner.
    image = np.zeros((80, 80), np.float32)
    image[:48, :48] = made.image
    large = dataclasses.replace(made, image_jy_per_beam=image.ravel(), height=80, width=80)
    one, other = source_in_map(centred), source_in_map(observed(continuum_map=large))
    assert one is not None
    assert other is not None
    np.testing.assert_allclose(one.input.pixels, other.input.pixels, atol=0.3)
    assert (other.x_arcsec, other.y_arcsec) == pytest.approx((-1.6, -1.6), abs=1e-3)
    cells = np.full((CELL_GRID, CELL_GRID, CELL_OUTPUTS), -6.0, np.float32)
    cells[9, 9] = (4.0, 0.0, 0.0, 3.0, -2.0)
    places = []
    for observation, source in ((centred, one), (observed(continuum_map=large), other)):
        logits = np.zeros(4, np.float32)
        tree = map_tree(observation, source, logits, cells, MapCalibration(), LABEL)
        assert tree.morphology is not None
        (component,) = tree.morphology.components
        places.append((component.x_arcsec, component.y_arcsec))
    assert places[1] == pytest.approx((places[0][0] - 1.6, places[0][1] - 1.6), abs=1e-3)


# What stands in a fingerprint ---------------------------------------------------------------------


def tree_of(observation: Observation, patches: Patches, presence: np.ndarray[Any, Any]) -> Any:
    outputs = np.zeros((len(patches.flux_jy), 11), np.float32)
    outputs[:, 0] = presence
    outputs[:, 1] = -1.0
    return spectrum_tree(observation, patches, outputs, UNCALIBRATED, LABEL)


def test_a_tree_is_of_bounded_size_whatever_the_network_says() -> None:
    observation = spectrum(axis(channels=1600))
    patches = spectrum_input(observation)
    assert patches is not None
    presence = np.random.default_rng(1).normal(5, 1, len(patches.flux_jy))
    tree = tree_of(observation, patches, presence)
    assert len(tree.lines) == MOST_LINES
    assert all(len(line.identifications) <= MOST_CANDIDATES for line in tree.lines)
    frequencies = [line.frequency_hz for line in tree.lines]
    assert frequencies == sorted(frequencies)


def test_a_spectrum_in_many_pieces_keeps_the_longest_of_its_continuum() -> None:
    starts = np.arange(84e9, 110e9, 0.9e9)
    pieces = [start + 8e6 * np.arange(16 + number) for number, start in enumerate(starts)]
    observation = spectrum(np.concatenate(pieces))
    patches = spectrum_input(observation)
    assert patches is not None
    tree = tree_of(observation, patches, np.full(len(patches.flux_jy), -9.0))
    assert len(starts) > MOST_SEGMENTS
    assert len(tree.continuum) == MOST_SEGMENTS
    lows = [segment.low_hz for segment in tree.continuum]
    assert lows == sorted(lows)
    assert lows[-1] == pytest.approx(starts[-1], rel=1e-3)


def test_many_components_are_cut_to_the_brightest() -> None:
    source = source_in_map(with_map())
    assert source is not None
    cells = np.full((CELL_GRID, CELL_GRID, CELL_OUTPUTS), -6.0, np.float32)
    cells[::2, ::2, 0] = 5.0
    cells[..., 3] = np.random.default_rng(0).normal(3, 1, (CELL_GRID, CELL_GRID))
    logits = np.zeros(4, np.float32)
    tree = map_tree(with_map(), source, logits, cells, MapCalibration(), LABEL)
    assert tree.morphology is not None
    fluxes = [each.flux_jy for each in tree.morphology.components]
    assert len(fluxes) == MOST_COMPONENTS
    assert fluxes == sorted(fluxes, reverse=True)


def test_a_tree_survives_the_wire(empty_fingerprint: Fingerprint) -> None:
    observation = spectrum(axis())
    patches = spectrum_input(observation)
    assert patches is not None
    presence = np.full(len(patches.flux_jy), -9.0)
    presence[500] = 9.0
    tree = tree_of(observation, patches, presence)
    assert len(tree.lines) == 1
    kept = dataclasses.replace(empty_fingerprint, position_error_arcsec=0.2, parsed=[tree])
    again = Codec().decode_as(Fingerprint, Codec().encode(kept))
    assert to_record(again.parsed[0]) == to_record(tree)
