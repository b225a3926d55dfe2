"""What is refused, and that every refusal names the field and the value."""

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
from astropy.wcs import WCS
from hypothesis import given
from hypothesis import strategies as st

from mmbroker.processors.validation import InvalidObservation, problems
from mmbroker.schemas.events import (
    Acquisition,
    BandMeasurement,
    ContinuumMap,
    Document,
    Observation,
    PhotometricRedshift,
    Photometry,
    Spectrum,
)


def wcs_header() -> str:
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---SIN", "DEC--SIN"]
    wcs.wcs.crval = [150.0, 2.0]
    wcs.wcs.cdelt = [-1e-4, 1e-4]
    return str(wcs.to_header_string())


SPECTRUM = Spectrum(
    frequency_hz=np.linspace(90e9, 94e9, 100),
    frame="BARYCENTRIC",
    flux_density_jy=np.full(100, 1e-3, np.float32),
    flux_error_jy=np.full(100, 2e-4, np.float32),
)
MAP = ContinuumMap(
    image_jy_per_beam=np.zeros(16 * 12, np.float32),
    height=16,
    width=12,
    wcs_header=wcs_header(),
    frequency_hz=230e9,
    beam_major_arcsec=1.2,
    beam_minor_arcsec=0.9,
)
MEASUREMENT = BandMeasurement("SPIRE-500", 6e11, 0.012, 0.003)
PHOTOMETRY = Photometry([MEASUREMENT, BandMeasurement("IRAC1", 8.4e13, None, 1e-6, 3e-6)])
REDSHIFT = PhotometricRedshift(
    "EAZY",
    2.1,
    1.9,
    2.4,
    np.array([1.5, 2.0, 2.5], np.float32),
    np.array([0.0, 1.0, 0.0], np.float32),
)
DOCUMENT = Document("https://doi.org/10.3847/1538-4357/abb599", "application/pdf", "a" * 64)
PAYLOADS: dict[str, Any] = {
    "spectrum": SPECTRUM,
    "continuum_map": MAP,
    "photometry": PHOTOMETRY,
    "photometric_redshift": REDSHIFT,
    "document": DOCUMENT,
}


def observation(**changes: Any) -> Observation:
    fields: dict[str, Any] = {
        "observation_id": "survey/1",
        "instrument": "ALMA",
        "right_ascension_deg": 150.0,
        "declination_deg": 2.0,
        "position_error_arcsec": 0.3,
        "time_mjd": 59_000.0,
        "acquisition": Acquisition(project="2019.1.00337.S", quality="PASS"),
    }
    return Observation(**(fields | changes))


def with_payload(payload: str, **changes: Any) -> Observation:
    return observation(**{payload: dataclasses.replace(PAYLOADS[payload], **changes)})


@pytest.mark.parametrize("payload", PAYLOADS)
def test_every_kind_of_observation_can_be_valid(payload: str) -> None:
    assert problems(observation(**{payload: PAYLOADS[payload]})) == []


def test_a_withdrawal_needs_no_payload() -> None:
    assert problems(observation(replaces="survey/0")) == []


@given(
    right_ascension=st.floats(0, 360, exclude_max=True),
    declination=st.floats(-90, 90),
    error=st.floats(1e-3, 30),
    time=st.floats(33_282, 106_331),
)
def test_every_place_on_the_sky_and_every_time_since_1950_is_valid(
    right_ascension: float, declination: float, error: float, time: float
) -> None:
    valid = observation(
        right_ascension_deg=right_ascension,
        declination_deg=declination,
        position_error_arcsec=error,
        time_mjd=time,
        photometry=PHOTOMETRY,
    )
    assert problems(valid) == []


BAD_NUMBERS = st.sampled_from([math.nan, math.inf, -math.inf, None, "1.5"])


@given(
    field=st.sampled_from(
        ["right_ascension_deg", "declination_deg", "position_error_arcsec", "time_mjd"]
    ),
    value=BAD_NUMBERS | st.floats(max_value=-91) | st.floats(min_value=106_332),
)
def test_an_impossible_number_is_named_with_its_value(field: str, value: Any) -> None:
    (message,) = problems(observation(photometry=PHOTOMETRY, **{field: value}))
    assert message.startswith(f"{field} = {value!r} is not ")


JUNK = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=300)


@given(payload=st.sampled_from(sorted(PAYLOADS)), data=st.data())
def test_whatever_stands_in_a_field_is_judged_and_never_raises(
    payload: str, data: st.DataObject
) -> None:
    plain = [
        field.name
        for field in dataclasses.fields(PAYLOADS[payload])
        if isinstance(getattr(PAYLOADS[payload], field.name), float | int | str | None)
    ]
    if plain:
        field = data.draw(st.sampled_from(plain))
        messages = problems(with_payload(payload, **{field: data.draw(JUNK)}))
        assert all(f"{payload}." in message for message in messages)


def test_messages_say_what_would_be_possible() -> None:
    assert problems(observation(declination_deg=123.4, document=DOCUMENT)) == [
        "declination_deg = 123.4 is not between −90 and 90"
    ]


ones = np.ones(100, np.float32)
swapped = SPECTRUM.frequency_hz.copy()
swapped[[40, 41]] = swapped[[41, 40]]


@pytest.mark.parametrize(
    ("payload", "changes", "named"),
    [
        ("spectrum", {"frequency_hz": SPECTRUM.frequency_hz[:99]}, "frequency_hz"),
        ("spectrum", {"frequency_hz": SPECTRUM.frequency_hz * math.nan}, "frequency_hz[0] = nan"),
        ("spectrum", {"frequency_hz": SPECTRUM.frequency_hz / 1e9}, "frequency_hz[0] = 90.0"),
        ("spectrum", {"frequency_hz": swapped}, "frequency_hz[41]"),
        ("spectrum", {"frequency_hz": np.full(100, 9e10)}, "frequency_hz[1]"),
        ("spectrum", {"flux_density_jy": ones * np.nan}, "finite together in no channel"),
        ("spectrum", {"flux_density_jy": ones * 2e6}, "flux_density_jy[0] = 2000000.0"),
        ("spectrum", {"flux_error_jy": ones * 0}, "flux_error_jy[0] = 0.0"),
        ("spectrum", {"flux_error_jy": -ones}, "flux_error_jy[0] = -1.0"),
        ("spectrum", {"frame": "GALACTOCENTRIC"}, "frame = 'GALACTOCENTRIC'"),
        ("spectrum", {"beam_major_arcsec": -1.0}, "beam_major_arcsec = -1.0"),
        ("spectrum", {"beam_minor_arcsec": 1e-300}, "beam_minor_arcsec = 1e-300"),
        ("continuum_map", {"height": 15}, "192 pixels, not height × width = 15 × 12"),
        ("continuum_map", {"height": 3, "width": 64}, "height = 3"),
        ("continuum_map", {"height": 2048}, "height = 2048"),
        ("continuum_map", {"image_jy_per_beam": np.full(192, np.nan)}, "no finite pixel"),
        ("continuum_map", {"wcs_header": "x" * 20_000}, "wcs_header"),
        ("continuum_map", {"wcs_header": ""}, "CTYPE1"),
        ("continuum_map", {"beam_major_arcsec": 0.0}, "beam_major_arcsec = 0.0"),
        ("continuum_map", {"beam_minor_arcsec": 1e-162}, "beam_minor_arcsec = 1e-162"),
        ("continuum_map", {"frequency_hz": 230.0}, "frequency_hz = 230.0"),
        ("continuum_map", {"noise_jy_per_beam": 0.0}, "noise_jy_per_beam = 0.0"),
        ("photometry", {"measurements": []}, "0 entries"),
        ("photometry", {"measurements": [MEASUREMENT] * 2}, "'SPIRE-500' at 600000000000.0 Hz"),
        ("photometric_redshift", {"redshift": -99.0}, "redshift = -99.0"),
        ("photometric_redshift", {"redshift": 2.5}, "outside lower_68 = 1.9"),
        ("photometric_redshift", {"lower_68": None}, "set both or none"),
        ("photometric_redshift", {"grid_density": None}, "grid_density = None"),
        ("photometric_redshift", {"grid_density": np.array([0.0, -1, 0])}, "grid_density[1] = -1"),
        ("photometric_redshift", {"grid_density": np.zeros(3)}, "0 everywhere"),
        ("photometric_redshift", {"grid_redshift": np.array([1.0, 1, 2])}, "grid_redshift[1]"),
        ("photometric_redshift", {"method": ""}, "method = ''"),
        ("document", {"url": "javascript:alert(1)"}, "url = 'javascript:alert(1)'"),
        ("document", {"url": "https://x/" + "y" * 3000}, "3010 characters"),
        ("document", {"url": "http://[broken"}, "url = 'http://[broken'"),
        ("document", {"sha256": "abc"}, "sha256 = 'abc'"),
    ],
)
def test_an_impossible_payload_is_refused(
    payload: str, changes: dict[str, Any], named: str
) -> None:
    messages = problems(with_payload(payload, **changes))
    assert any(f"{payload}." in message and named in message for message in messages), messages


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"band": " "}, "band = ' '"),
        ({"frequency_hz": 1e3}, "frequency_hz = 1000.0"),
        ({"flux_error_jy": 0.0}, "flux_error_jy = 0.0"),
        ({"flux_error_jy": 1e10}, "flux_error_jy = 10000000000.0"),
        ({"flux_density_jy": math.nan}, "flux_density_jy = nan"),
        ({"flux_density_jy": None}, "flux_density_jy = None"),
        ({"upper_limit_jy": 1.0}, "upper_limit_jy = 1.0"),
        ({"flux_density_jy": None, "upper_limit_jy": -1.0}, "upper_limit_jy = -1.0"),
    ],
)
def test_an_impossible_measurement_is_refused(changes: dict[str, Any], named: str) -> None:
    measurements = [PHOTOMETRY.measurements[1], dataclasses.replace(MEASUREMENT, **changes)]
    messages = problems(with_payload("photometry", measurements=measurements))
    assert any(m.startswith(f"photometry.measurements[1].{named}") for m in messages), messages


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"observation_id": ""}, "observation_id = ''"),
        ({"observation_id": "x" * 257}, "257 characters"),
        ({"observation_id": "a\x00b"}, "observation_id = 'a\\x00b'"),
        ({"instrument": 7}, "instrument = 7"),
        ({"time_scale": "GPS"}, "time_scale = 'GPS'"),
        ({"replaces": "survey/1"}, "replaces = 'survey/1'"),
        ({"acquisition": Acquisition(project="")}, "acquisition.project = ''"),
        ({"acquisition": Acquisition(integration_time_s=0.0)}, "integration_time_s = 0.0"),
        ({"acquisition": Acquisition(integration_time_s=1e308)}, "integration_time_s = 1e+308"),
        ({"document": None}, "payloads = none"),
        ({"photometry": PHOTOMETRY}, "payloads = photometry, document"),
    ],
)
def test_an_impossible_frame_of_an_observation_is_refused(
    changes: dict[str, Any], named: str
) -> None:
    (message,) = problems(observation(**({"document": DOCUMENT} | changes)))
    assert named in message


def test_flagged_channels_and_pixels_are_no_problem() -> None:
    flagged = ones.copy()
    flagged[::2] = np.nan
    assert problems(with_payload("spectrum", flux_density_jy=flagged, flux_error_jy=flagged)) == []
    image = np.zeros(192, np.float32)
    image[5:] = np.nan
    assert problems(with_payload("continuum_map", image_jy_per_beam=image)) == []


def test_a_falling_frequency_axis_is_as_good_as_a_rising_one() -> None:
    assert problems(with_payload("spectrum", frequency_hz=SPECTRUM.frequency_hz[::-1])) == []


def test_every_broken_rule_is_told_at_once() -> None:
    broken = observation(declination_deg=91.0, time_mjd=math.nan, document=DOCUMENT)
    messages = problems(broken)
    assert [message.split()[0] for message in messages] == ["declination_deg", "time_mjd"]
    error = InvalidObservation(broken.observation_id, messages)
    assert "survey/1" in str(error)
    assert all(message in str(error) for message in messages)
