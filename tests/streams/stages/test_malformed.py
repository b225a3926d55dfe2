"""Whatever bytes arrive, the first stage gives an outcome and a reason, in bounded memory."""

from __future__ import annotations

import dataclasses
import struct
import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmbroker.schemas.codec import MAX_EVENT_BYTES, Codec
from mmbroker.schemas.events import (
    BandMeasurement,
    ContinuumMap,
    Document,
    Observation,
    PhotometricRedshift,
    Photometry,
    Spectrum,
)
from mmbroker.streams.stages.base import RefusedError
from mmbroker.streams.stages.build_fingerprints import Prepared, prepare
from tests.strategies import continuum_map, observations

codec = Codec()
anything = st.floats(width=64) | st.sampled_from([0.0, -0.0, 1e300, -1e300, 5e-324])
text = st.text(max_size=20)
singles = st.lists(st.floats(width=32), max_size=12).map(lambda each: np.array(each, np.float32))
doubles = st.lists(anything, max_size=12).map(np.array)

wild_spectra = st.builds(
    Spectrum,
    frequency_hz=doubles | st.just(np.linspace(90e9, 92e9, 12)),
    frame=st.sampled_from(["BARYCENTRIC", "LSRK", "TOPOCENTRIC"]),
    flux_density_jy=singles,
    flux_error_jy=singles,
    beam_major_arcsec=st.none() | anything,
)
wild_measurements = st.builds(
    BandMeasurement,
    band=text,
    frequency_hz=anything,
    flux_density_jy=st.none() | anything,
    flux_error_jy=anything,
    upper_limit_jy=st.none() | anything,
)
wild_maps = st.builds(
    lambda base, **changes: dataclasses.replace(base, **changes),
    st.just(continuum_map(150.0, 2.0)),
    height=st.sampled_from([48, 47, 0, -1, 2**31 - 1]),
    wcs_header=st.just(continuum_map(150.0, 2.0).wcs_header) | text,
    frequency_hz=anything | st.just(343e9),
    beam_major_arcsec=anything | st.just(0.6),
    beam_minor_arcsec=anything | st.just(0.6),
    noise_jy_per_beam=st.none() | anything,
)
wild_photometric_redshifts = st.builds(
    PhotometricRedshift,
    method=text,
    redshift=anything,
    lower_68=st.none() | anything,
    upper_68=st.none() | anything,
    grid_redshift=st.none() | singles,
    grid_density=st.none() | singles,
)
wild = st.builds(
    Observation,
    observation_id=text,
    instrument=text,
    right_ascension_deg=anything | st.just(150.0),
    declination_deg=anything | st.just(2.0),
    position_error_arcsec=anything | st.just(0.3),
    time_mjd=anything | st.just(59000.0),
    time_scale=st.sampled_from(["UTC", "TAI", "TT", "TDB"]),
    replaces=st.none() | text,
    spectrum=st.none() | wild_spectra,
    continuum_map=st.none() | wild_maps,
    photometry=st.none() | st.lists(wild_measurements, max_size=4).map(Photometry),
    photometric_redshift=st.none() | wild_photometric_redshifts,
    document=st.none() | st.builds(Document, url=text, media_type=text),
)
tame = settings(max_examples=400, suppress_health_check=[HealthCheck.too_slow])


def judged(data: bytes) -> Prepared | RefusedError:
    """What the stage makes of some bytes; a refusal has a reason that a person can act on."""
    result = prepare(codec, data)
    if isinstance(result, RefusedError):
        assert result.reason in ("undecodable", "invalid", "unusable")
        assert result.detail.strip()
    elif result.contribution is not None:
        added = result.contribution
        for array in (added.position_sums, added.chunk_weight, added.chunk_weighted_flux):
            assert np.isfinite(array).all()
        for part in (*added.bands, *added.maps):
            assert np.isfinite([part.weight, part.weighted_flux, part.weighted_square]).all()
    return result


@given(wild)
@tame
def test_impossible_values_are_refused_or_harmless(event: Observation) -> None:
    try:
        data = codec.encode(event)
    except ValueError:
        return  # it does not even fit the schema
    judged(data)


@given(observations(), st.data())
@tame
def test_one_impossible_value_is_named(event: Observation, data: st.DataObject) -> None:
    field, value = data.draw(
        st.sampled_from(
            [
                ("right_ascension_deg", 360.0), ("right_ascension_deg", float("nan")),
                ("declination_deg", -90.5), ("position_error_arcsec", 0.0),
                ("position_error_arcsec", 1e-200),
                ("position_error_arcsec", 31.0), ("time_mjd", float("inf")),
                ("observation_id", ""), ("instrument", "x" * 300),
            ]
        )
    )  # fmt: skip
    result = judged(codec.encode(dataclasses.replace(event, **{field: value})))
    assert isinstance(result, RefusedError)
    assert result.reason == "invalid"
    assert field in result.detail


@given(observations(), st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=8))
@tame
def test_damaged_bytes_never_escape(event: Observation, damage: list[tuple[int, int]]) -> None:
    data = bytearray(codec.encode(event))
    for place, value in damage:
        data[place % len(data)] = value
    judged(bytes(data))


def many_measurements() -> bytes:
    measured = [BandMeasurement("b", 1e11 + k, 1.0, 1.0) for k in range(100_000)]
    photometry = Photometry(measured)
    return codec.encode(Observation("a", "x", 1.0, 2.0, 1.0, 59000.0, photometry=photometry))


def a_wide_spectrum() -> bytes:
    channels = 400_000
    axis = np.linspace(84e9, 116e9, channels)
    ones = np.ones(channels, np.float32)
    spectrum = Spectrum(axis, "LSRK", ones, ones)
    return codec.encode(Observation("a", "x", 1.0, 2.0, 1.0, 59000.0, spectrum=spectrum))


def a_map_that_claims_too_much() -> bytes:
    claimed = dataclasses.replace(continuum_map(1.0, 2.0), height=2**31 - 1, width=2**31 - 1)
    assert isinstance(claimed, ContinuumMap)
    return codec.encode(Observation("a", "x", 1.0, 2.0, 1.0, 59000.0, continuum_map=claimed))


@pytest.mark.parametrize(
    "make",
    [
        many_measurements,
        a_wide_spectrum,
        a_map_that_claims_too_much,
        lambda: b"\x00" * (MAX_EVENT_BYTES + 1),
        lambda: struct.pack(">bI", 0, 1) + b"\xfe\xff\xff\xff\xff\xff\xff\xff\x7f",
    ],
)
def test_huge_claims_are_refused_in_bounded_memory(make: Callable[[], bytes]) -> None:
    data = make()
    tracemalloc.start()
    try:
        result = judged(data)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert isinstance(result, RefusedError)
    assert peak < 64 * MAX_EVENT_BYTES
