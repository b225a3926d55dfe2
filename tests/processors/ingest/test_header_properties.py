"""For generated headers what arrives equals what astropy says of the same header, or is refused.

astropy is asked in its own way, of a header in standard form; what is read is written in the many
forms that observatories have: axes in any order and direction, units, exponents, compression.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.utils.exceptions import AstropyWarning
from astropy.wcs import WCS
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmbroker.processors.ingest.headers import Given, HeaderError
from mmbroker.processors.ingest.maps import read_map
from mmbroker.processors.ingest.spectra import read_spectrum
from mmbroker.schemas.events import Observation

CARDS: dict[str, Any] = {
    "TELESCOP": "ALMA", "SPECSYS": "LSRK", "DATE-OBS": "2020-03-01", "BUNIT": "Jy/beam",
    "BMAJ": 1 / 3600, "BMIN": 0.5 / 3600, "BPA": 30.0, "RESTFRQ": 100e9,
}  # fmt: skip
LENGTHS = {"lon": 9, "lat": 11, "spectrum": 7, "stokes": 2}
UNITS = {
    "lon": {"deg": "deg", "DEGREES": "deg", "arcsec": "arcsec", "rad": "rad", "": "deg"},
    "FREQ": {"Hz": "Hz", "HZ": "Hz", "GHz": "GHz", "MHZ": "MHz", "": "Hz"},
    "VRAD": {"m/s": "m/s", "KM/S": "km/s", "km/s": "km/s", "": "m/s"},
    "VOPT": {"m/s": "m/s", "KM/S": "km/s", "": "m/s"},
    "WAVE": {"m": "m", "MM": "mm", "um": "um", "MICRONS": "um", "": "m"},
}
SPECTRAL = {"FREQ": (90e9, 1e7), "VRAD": (9e6, 2e4), "VOPT": (9e6, -2e4), "WAVE": (3e-3, 1e-6)}
FRAMES: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("equatorial", {}, {}),
    ("equatorial", {"RADESYS": "ICRS"}, {"RADESYS": "ICRS"}),
    ("equatorial", {"EQUINOX": 2000.0}, {"EQUINOX": 2000.0}),
    ("equatorial", {"EPOCH": 1950.0}, {"RADESYS": "FK4", "EQUINOX": 1950.0}),
    ("equatorial", {"EQUINOX": "B1950"}, {"RADESYS": "FK4", "EQUINOX": 1950.0}),
    ("equatorial", {"RADECSYS": "FK5", "EQUINOX": 1975.0}, {"RADESYS": "FK5", "EQUINOX": 1975.0}),
    ("galactic", {}, {}),
    ("galactic", {"RADESYS": "FK5", "EQUINOX": 2000.0}, {}),
]
"""What the axes are, how the file says it, and how astropy is told."""
EXPONENTS = ("{:.15E}", "{:.15E} with D", "{!r}")


@dataclass(frozen=True)
class Case:
    """A cube: header of the file and of the standard, order of its axes, whether it is rotated."""

    written: dict[str, Any]
    standard: fits.Header
    order: list[str]
    values: Any


@st.composite
def cubes(draw: st.DrawFn) -> Case:
    order = draw(st.permutations(list(LENGTHS)))
    place, written_frame, standard_frame = draw(st.sampled_from(FRAMES))
    kind = draw(st.sampled_from(sorted(SPECTRAL)))
    projection = draw(st.sampled_from(["SIN", "TAN", "CAR"]))
    signs = st.sampled_from([-1.0, 1.0])
    names = {"equatorial": ("RA--", "DEC-"), "galactic": ("GLON", "GLAT")}[place]
    start, step = SPECTRAL[kind]
    latitude = draw(st.floats(-80.0, 80.0))
    axes = {
        "lon": (f"{names[0]}-{projection}", draw(st.floats(0.0, 359.0)), draw(signs) * 1e-4),
        "lat": (f"{names[1]}-{projection}", latitude, draw(signs) * 1e-4),
        "spectrum": (kind, start, draw(signs) * step),
        "stokes": ("STOKES", *draw(st.sampled_from([(1.0, 1.0), (2.0, -1.0), (1.0, 3.0)]))),
    }
    units = {
        "lon": draw(st.sampled_from(sorted(UNITS["lon"]))),
        "spectrum": draw(st.sampled_from(sorted(UNITS[kind]))),
        "stokes": "",
    }
    units["lat"] = units["lon"]
    written: dict[str, Any] = dict(CARDS) | written_frame
    standard = fits.Header({"RESTFRQ": 100e9} | standard_frame)
    for axis, name in enumerate(order, 1):
        ctype, value, increment = axes[name]
        pixel = draw(st.floats(-3.0, 12.0)) if name != "stokes" else 1.0
        meant = UNITS["lon" if name in ("lon", "lat") else kind].get(units[name], "")
        base = {"lon": "deg", "lat": "deg", "FREQ": "Hz", "WAVE": "m"}.get(
            kind if name == "spectrum" else name, "m/s"
        )
        scale = 1.0 if name == "stokes" else u.Unit(base).to(meant)
        for header, factor, unit in ((written, scale, units[name]), (standard, 1.0, None)):
            header[f"CTYPE{axis}"], header[f"CRPIX{axis}"] = ctype, pixel
            header[f"CRVAL{axis}"], header[f"CDELT{axis}"] = value * factor, increment * factor
            if unit:
                header[f"CUNIT{axis}"] = unit
    angle = np.radians(draw(st.sampled_from([0.0, 20.0, 200.0])))
    lon, lat = order.index("lon") + 1, order.index("lat") + 1
    matrix = {
        f"PC{lon}_{lon}": np.cos(angle), f"PC{lat}_{lat}": np.cos(angle),
        f"PC{lon}_{lat}": -np.sin(angle), f"PC{lat}_{lon}": np.sin(angle),
    }  # fmt: skip
    written |= {key: float(value) for key, value in matrix.items()}
    standard.update(matrix)
    shape = [LENGTHS[name] for name in reversed(order)]
    return Case(written, standard, order, 1.0 + np.arange(np.prod(shape)).reshape(shape))


def write(path: Path, case: Case, values: Any, form: str, exponent: str) -> Path:
    """Write a cube, or a part of it; numbers of its header with some exponent."""
    header = fits.Header()
    header.update(case.written)
    image: Any = fits.CompImageHDU if form == "rice" else fits.PrimaryHDU
    options = {"compression_type": "GZIP_2"} if form == "rice" else {}
    hdu = image(values, header, **options)
    hdus = [fits.PrimaryHDU(), hdu] if form == "rice" else [hdu]
    path = path.with_name(f"{path.name}.fits{'.gz' if form == 'gz' else ''}")
    fits.HDUList(hdus).writeto(path, overwrite=True)
    if form == "plain":
        content = path.read_bytes()
        for key, value in case.written.items():
            if isinstance(value, float) and key[:5] in ("CRVAL", "CDELT", "CRPIX"):
                text = exponent.format(value)
                if text.endswith(" with D"):
                    text = text.removesuffix(" with D").replace("E", "D")
                card = f"{key:8}= {text:>20}".ljust(80)
                at = content.index(f"{key:8}=".encode())
                content = content[:at] + card.encode() + content[at + 80 :]
        path.write_bytes(content)
    return path


def astropy_says(case: Case) -> WCS:
    with warnings.catch_warnings(action="ignore", category=AstropyWarning):
        return WCS(case.standard)


def axis_hz(case: Case) -> Any:
    """The spectral axis as astropy converts it."""
    spectral = astropy_says(case).spectral
    values = u.Quantity(
        spectral.pixel_to_world_values(np.arange(LENGTHS["spectrum"])),
        spectral.world_axis_units[0],
    )
    convention = {"VRAD": u.doppler_radio, "VOPT": u.doppler_optical}.get(spectral.wcs.ctype[0])
    return values.to_value(u.Hz, convention(100 * u.GHz) if convention else u.spectral())


forms = st.sampled_from(["plain", "gz", "rice"])
exponents = st.sampled_from(EXPONENTS)
bounded = settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])


@given(case=cubes(), column=st.integers(0, 8), row=st.integers(0, 10), form=forms, e=exponents)
@bounded
def test_the_spectrum_at_a_pixel_of_a_cube_is_where_and_what_astropy_says(
    tmp_path: Path, case: Case, column: int, row: int, form: str, e: str
) -> None:
    first_is_lon = case.order.index("lon") < case.order.index("lat")
    pixel = (column, row) if first_is_lon else (row, column)
    place = astropy_says(case).celestial.pixel_to_world(*pixel).icrs
    at = Given(right_ascension_deg=float(place.ra.deg) % 360, declination_deg=float(place.dec.deg))
    observation = read_spectrum(write(tmp_path / "cube", case, case.values, form, e), at)
    spectrum = observation.spectrum
    assert spectrum is not None
    assert np.allclose(spectrum.frequency_hz, axis_hz(case), rtol=1e-10)
    index: dict[str, Any] = {"lon": column, "lat": row, "spectrum": slice(None)}
    stokes = case.order.index("stokes") + 1
    index["stokes"] = 0 if case.written[f"CRVAL{stokes}"] == 1.0 else 1
    expected = case.values[tuple(index[name] for name in reversed(case.order))]
    assert (spectrum.flux_density_jy == expected.astype(np.float32)).all()


@given(case=cubes(), form=forms, e=exponents)
@bounded
def test_a_plane_of_a_cube_as_a_map_is_where_and_what_astropy_says(
    tmp_path: Path, case: Case, form: str, e: str
) -> None:
    spectrum, stokes = (len(case.order) - 1 - case.order.index(n) for n in ("spectrum", "stokes"))
    plane = np.take(case.values, [0], axis=spectrum)
    observation = read_map(write(tmp_path / "plane", case, plane, form, e))
    found = observation.continuum_map
    assert found is not None
    assert found.frequency_hz == pytest.approx(axis_hz(case)[0], rel=1e-10)
    first_is_lon = case.order.index("lon") < case.order.index("lat")
    middle = (4.0, 5.0) if first_is_lon else (5.0, 4.0)
    celestial = astropy_says(case).celestial
    assert_at(observation, celestial.pixel_to_world(*middle).icrs)
    number = case.order.index("stokes") + 1
    at = 0 if case.written[f"CRVAL{number}"] == 1.0 else 1
    expected = np.take(plane, at, axis=stokes).squeeze().astype(np.float32)
    assert (found.image == expected).all()
    cut = WCS(fits.Header.fromstring(found.wcs_header))
    for pixel in ((0.0, 0.0), (3.0, 7.0)):
        there, here = celestial.pixel_to_world(*pixel), cut.pixel_to_world(*pixel)
        assert there.icrs.separation(here.icrs).arcsec < 1e-5


def assert_at(observation: Observation, place: Any) -> None:
    found = observation.right_ascension_deg, observation.declination_deg
    assert found[0] == pytest.approx(float(place.ra.deg) % 360, abs=1e-8)
    assert found[1] == pytest.approx(float(place.dec.deg), abs=1e-8)


WORDS = ["VELO-LSR", "RA---TAN", "GLON-CAR", "FREQ", "STOKES", "J2000", "Jy/beam", "KM/S", "T", ""]
KEYWORDS = [
    "CTYPE1", "CTYPE3", "CUNIT1", "CUNIT3", "CRVAL1", "CRVAL3", "CDELT1", "CDELT2", "CDELT3",
    "CRPIX2", "PC1_2", "PC3_1", "CD1_1", "CROTA2", "PV1_1", "PV2_1", "PV2_3", "LONPOLE", "LATPOLE",
    "EQUINOX", "RADESYS", "SPECSYS", "VELREF", "RESTFRQ", "BMAJ", "BMIN", "BUNIT", "BPA",
    "MJD-OBS", "DATE-OBS", "TIMESYS", "WCSAXES", "CASAMBM", "OBSGEO-X", "AP_ORDER", "CTYPE9",
]  # fmt: skip
odd = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([0.0, 1e-300, 1e300, -1.0, 90.0, 360.0, 1e9]),
    st.integers(-(10**6), 10**6),
    st.booleans(),
    st.sampled_from(WORDS),
    st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=20),
)


@given(case=cubes(), changed=st.dictionaries(st.sampled_from(KEYWORDS), odd, max_size=4))
@settings(
    max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True
)
def test_odd_headers_are_read_or_refused_in_one_line(
    tmp_path: Path, case: Case, changed: dict[str, Any]
) -> None:
    header = fits.Header()
    header.update(case.written)
    with warnings.catch_warnings(action="ignore", category=AstropyWarning):
        header.update(changed)
        path = tmp_path / "odd.fits"
        fits.PrimaryHDU(case.values, header).writeto(path, overwrite=True)
    at = Given(right_ascension_deg=10.0, declination_deg=20.0, position_error_arcsec=1.0)
    for read in (read_map, read_spectrum):
        said = refusal(read, path, at)
        assert said is None or said.startswith(f"{path}: ")
        assert said is None or "\n" not in said


def refusal(read: Callable[[Path, Given], Observation], path: Path, given: Given) -> str | None:
    try:
        read(path, given)
    except HeaderError as error:
        return str(error)
    return None
