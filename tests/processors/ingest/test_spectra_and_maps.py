"""Spectra and maps from FITS and ECSV."""

import dataclasses
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS, FITSFixedWarning
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmbroker.processors.fingerprint.map_photometry import measure
from mmbroker.processors.ingest.headers import Given, HeaderError
from mmbroker.processors.ingest.maps import read_map
from mmbroker.processors.ingest.spectra import read_spectrum
from mmbroker.processors.relations import SPEED_OF_LIGHT_KM_S
from mmbroker.processors.validation import problems

POSITION = {"RA": 150.0, "DEC": 2.0}
HEADER: dict[str, Any] = POSITION | {
    "TELESCOP": "ALMA", "SPECSYS": "LSRK", "DATE-OBS": "2020-03-01T12:00:00", "BUNIT": "mJy",
    "BMAJ": 1 / 3600, "BMIN": 0.5 / 3600, "BPA": 30.0,
}  # fmt: skip
CHANNELS = 200


def flux_mjy(seed: int = 1) -> Any:
    return np.random.default_rng(seed).normal(1.0, 0.2, CHANNELS)


def spectrum_file(folder: Path, error: bool = False, drop: str = "", **cards: Any) -> Path:
    """An image of shape (channels, 1, 1) with a frequency axis from 90 GHz in steps of 20 MHz."""
    axis = {"CTYPE3": "FREQ", "CRVAL3": 90e9, "CDELT3": 20e6, "CRPIX3": 1, "CUNIT3": "Hz"}
    sky = {
        "CTYPE1": "RA---SIN", "CRVAL1": 150.0, "CDELT1": -0.2 / 3600, "CRPIX1": 1,
        "CTYPE2": "DEC--SIN", "CRVAL2": 2.0, "CDELT2": 0.2 / 3600, "CRPIX2": 1,
    }  # fmt: skip
    image = fits.PrimaryHDU(flux_mjy()[:, None, None].astype(">f4"))
    image.header.update(sky | axis | HEADER | cards)
    image.header.remove(drop, ignore_missing=True)
    errors = [fits.ImageHDU(np.full((CHANNELS, 1, 1), 0.3), name="ERROR")] if error else []
    path = folder / "spectrum.fits"
    fits.HDUList([image, *errors]).writeto(path, overwrite=True)
    return path


def test_a_fits_spectrum_comes_with_frame_beam_position_and_time(tmp_path: Path) -> None:
    observation = read_spectrum(spectrum_file(tmp_path, error=True))
    assert problems(observation) == []
    assert observation.instrument == "ALMA"
    assert observation.right_ascension_deg == pytest.approx(150.0)
    assert observation.declination_deg == pytest.approx(2.0)
    assert observation.position_error_arcsec == pytest.approx(0.1)
    assert observation.time_mjd == 58_909.5
    spectrum = observation.spectrum
    assert spectrum is not None
    assert spectrum.frame == "LSRK"
    assert np.allclose(spectrum.frequency_hz, 90e9 + 20e6 * np.arange(CHANNELS), rtol=1e-12)
    assert np.allclose(spectrum.flux_density_jy, flux_mjy() * 1e-3, rtol=1e-6)
    assert np.allclose(spectrum.flux_error_jy, 0.3e-3)
    assert spectrum.beam_major_arcsec == pytest.approx(1.0)
    assert spectrum.beam_position_angle_deg == 30.0
    assert observation.acquisition.calibration is None


def test_a_spectrum_lies_at_its_pixel_and_not_at_the_reference_pixel(tmp_path: Path) -> None:
    cards = {"CRPIX1": 21.0, "CDELT1": -1e-3, "CRPIX2": -19.0, "CDELT2": 1e-3}
    observation = read_spectrum(spectrum_file(tmp_path, **cards, CRVAL1=150.1, CRVAL2=2.2))
    assert observation.right_ascension_deg == pytest.approx(150.120015, abs=1e-6)
    assert observation.declination_deg == pytest.approx(2.22, abs=1e-6)


def cube_axes(
    order: list[str], projection: str, reference: list[float], step: list[float], angle_deg: float
) -> dict[str, Any]:
    """Header of a cube with its axes in an order; PC turns the sky by an angle."""
    kinds = {
        "lon": (f"RA---{projection}", 150.0, reference[0], step[0], "deg"),
        "lat": (f"DEC--{projection}", -20.0, reference[1], step[1], "deg"),
        "spectrum": ("FREQ", 90e9, reference[2], 20e6, "Hz"),
        "stokes": ("STOKES", 1.0, 1.0, 1.0, ""),
    }
    cards: dict[str, Any] = {}
    for axis, name in enumerate(order, 1):
        values = zip(("CTYPE", "CRVAL", "CRPIX", "CDELT", "CUNIT"), kinds[name], strict=True)
        cards |= {f"{keyword}{axis}": value for keyword, value in values}
    lon, lat = order.index("lon") + 1, order.index("lat") + 1
    cosine, sine = np.cos(np.radians(angle_deg)), np.sin(np.radians(angle_deg))
    turned = {(lon, lon): cosine, (lat, lat): cosine, (lon, lat): -sine, (lat, lon): sine}
    return cards | {f"PC{row}_{column}": value for (row, column), value in turned.items()}


@given(
    order=st.permutations(["lon", "lat", "spectrum", "stokes"]),
    projection=st.sampled_from(["SIN", "TAN"]),
    pixel=st.tuples(st.integers(0, 999), st.integers(0, 999)),
    reference=st.lists(st.floats(-500.0, 1500.0), min_size=3, max_size=3),
    step=st.lists(
        st.floats(-5e-3, 5e-3).filter(lambda one: abs(one) > 1e-6), min_size=2, max_size=2
    ),
    angle_deg=st.floats(0.0, 360.0),
    absent=st.booleans(),
)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_spectrum_cut_out_of_a_cube_lies_where_its_pixel_lay(
    tmp_path: Path,
    order: list[str],
    projection: str,
    pixel: tuple[int, int],
    reference: list[float],
    step: list[float],
    angle_deg: float,
    absent: bool,
) -> None:
    cube = fits.Header(cube_axes(order, projection, reference, step, angle_deg))
    at = [0.0] * 4
    at[order.index("lon")], at[order.index("lat")] = pixel
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FITSFixedWarning)
        world = WCS(cube).wcs_pix2world([at], 0)[0]
    cut = cube.copy()
    for name, offset in zip(("lon", "lat"), pixel, strict=True):
        cut[f"CRPIX{order.index(name) + 1}"] -= offset
    # Axes of length one may be left out of the array, as np.squeeze does.
    shape = (
        (CHANNELS,)
        if absent and order[0] == "spectrum"
        else tuple(CHANNELS if name == "spectrum" else 1 for name in reversed(order))
    )
    image = fits.PrimaryHDU(flux_mjy().reshape(shape))
    image.header.update(cut)
    image.header.update({key: card for key, card in HEADER.items() if key not in POSITION})
    path = tmp_path / "cut.fits"
    image.writeto(path, overwrite=True)
    observation = read_spectrum(path)
    found = observation.right_ascension_deg, observation.declination_deg
    expected = world[order.index("lon")], world[order.index("lat")]
    assert found == pytest.approx(expected, abs=1e-9)
    assert observation.spectrum is not None
    channel = np.arange(1, CHANNELS + 1) - reference[2]
    assert np.allclose(observation.spectrum.frequency_hz, 90e9 + 20e6 * channel, rtol=1e-12)


def test_a_reference_pixel_and_a_step_that_are_not_stated_are_those_of_the_standard(
    tmp_path: Path,
) -> None:
    """FITS standard 4.0, section 8.2: CRPIX is 0 and CDELT 1 by default."""
    stated = {"CRPIX1": 0.0, "CDELT1": 1.0, "CRPIX2": 0.0, "CDELT2": 1.0}
    expected = read_spectrum(spectrum_file(tmp_path, **stated))
    path = spectrum_file(tmp_path)
    with fits.open(path, mode="update") as file:
        for keyword in stated:
            del file[0].header[keyword]
    found = read_spectrum(path)
    assert found.right_ascension_deg == expected.right_ascension_deg
    assert found.declination_deg == expected.declination_deg
    assert found.declination_deg == pytest.approx(3.0, abs=0.02)


@pytest.mark.parametrize(
    ("shape", "named"),
    [
        ((CHANNELS // 4, 2, 2), "NAXIS1 = 2, CTYPE2 = DEC--SIN, NAXIS2 = 2"),
        ((1, 1, CHANNELS), f"CTYPE1 = RA---SIN, NAXIS1 = {CHANNELS}"),
        ((1, CHANNELS, 1), f"CTYPE2 = DEC--SIN, NAXIS2 = {CHANNELS}"),
        ((1, 1, 1), "not one spectrum"),
    ],
)
def test_an_image_that_runs_along_the_sky_is_no_spectrum(
    tmp_path: Path, shape: tuple[int, ...], named: str
) -> None:
    path = spectrum_file(tmp_path)
    header = fits.getheader(path)
    data = np.resize(flux_mjy(), shape)
    fits.PrimaryHDU(data, header).writeto(path, overwrite=True)
    with pytest.raises(HeaderError) as error:
        read_spectrum(path)
    assert named in str(error.value)


def test_a_pixel_off_the_sky_needs_a_position(tmp_path: Path) -> None:
    path = spectrum_file(tmp_path, CRPIX1=1e7)
    with pytest.raises(HeaderError, match=r"CRPIX1 = 1e\+07.*give --right-ascension"):
        read_spectrum(path)
    observation = read_spectrum(path, Given(right_ascension_deg=10.0, declination_deg=-5.0))
    assert (observation.right_ascension_deg, observation.declination_deg) == (10.0, -5.0)


@pytest.mark.parametrize(
    ("cards", "named"),
    [
        ({"CDELT1": 0.0}, "CDELT are no coordinate system"),
        ({"PC1_3": 1e-9}, "PC or CD mixes the spectral axis"),
    ],
)
def test_a_coordinate_system_that_makes_no_sense_is_told(
    tmp_path: Path, cards: dict[str, float], named: str
) -> None:
    with pytest.raises(HeaderError, match=named):
        read_spectrum(spectrum_file(tmp_path, **cards))


def test_without_errors_the_noise_is_measured_and_told(tmp_path: Path) -> None:
    observation = read_spectrum(spectrum_file(tmp_path))
    assert observation.spectrum is not None
    assert observation.spectrum.flux_error_jy[0] == pytest.approx(0.2e-3, rel=0.2)
    assert "median absolute deviation" in str(observation.acquisition.calibration)


@given(
    kind=st.sampled_from(["FREQ", "WAVE", "VRAD", "VOPT"]),
    start_ghz=st.floats(80, 400),
    step_mhz=st.floats(1, 50),
)
@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_kind_of_spectral_axis_gives_the_same_frequencies(
    tmp_path: Path, kind: str, start_ghz: float, step_mhz: float
) -> None:
    frequency = start_ghz * 1e9 + step_mhz * 1e6 * np.arange(CHANNELS)
    rest = frequency[0]
    column = {
        "FREQ": ("frequency", frequency / 1e9, "GHz"),
        "WAVE": ("wavelength", SPEED_OF_LIGHT_KM_S * 1e6 / frequency, "mm"),
        "VRAD": ("velocity", SPEED_OF_LIGHT_KM_S * (1 - frequency / rest), "km/s"),
        "VOPT": ("velocity", SPEED_OF_LIGHT_KM_S * (rest / frequency - 1), "km/s"),
    }[kind]
    table = Table({column[0]: column[1] * u.Unit(column[2]), "flux": flux_mjy() * u.mJy})
    table["error"] = 0.1 * u.mJy
    table.meta = HEADER | {"RESTFRQ": rest, "VELDEF": "OPTI-LSR" if kind == "VOPT" else "RADI-LSR"}
    for suffix in ("fits", "ecsv"):
        path = tmp_path / f"table.{suffix}"
        table.write(path, overwrite=True)
        spectrum = read_spectrum(path).spectrum
        assert spectrum is not None
        assert np.allclose(spectrum.frequency_hz, frequency, rtol=1e-9)
        assert np.allclose(spectrum.flux_error_jy, 1e-4)


def test_a_velocity_axis_of_an_image_uses_the_rest_frequency(tmp_path: Path) -> None:
    cards = {"CTYPE3": "VRAD", "CRVAL3": 0.0, "CDELT3": 1e5, "CUNIT3": "m/s"}
    path = spectrum_file(tmp_path, **cards, RESTFRQ=100e9)
    spectrum = read_spectrum(path).spectrum
    assert spectrum is not None
    step = 100e9 * 100 / SPEED_OF_LIGHT_KM_S
    assert np.allclose(spectrum.frequency_hz, 100e9 - step * np.arange(CHANNELS))
    with pytest.raises(HeaderError, match="without RESTFRQ: set it"):
        read_spectrum(spectrum_file(tmp_path, **cards))


def test_brightness_temperature_becomes_flux_density_through_the_beam(tmp_path: Path) -> None:
    spectrum = read_spectrum(spectrum_file(tmp_path, BUNIT="K")).spectrum
    assert spectrum is not None
    # S = 2 k T / wavelength**2 * solid angle, at 90 GHz in a beam of 1.0 x 0.5 arcsec
    expected = 2 * 1.380649e-23 / (299_792_458 / 90e9) ** 2 * 1.1331 * 0.5 / 206_265**2 * 1e26
    assert spectrum.flux_density_jy[0] == pytest.approx(flux_mjy()[0] * expected, rel=1e-3)


@pytest.mark.parametrize(
    ("cards", "named"),
    [
        ({"drop": "SPECSYS"}, "SPECSYS"),
        ({"SPECSYS": "GALACTOC"}, "SPECSYS = 'GALACTOC'"),
        ({"drop": "BUNIT"}, "BUNIT is not set: use Jy, "),
        ({"BUNIT": "kg"}, "BUNIT = kg"),
        ({"BUNIT": "bright"}, "BUNIT = 'bright'"),
        ({"drop": "TELESCOP"}, "give --instrument"),
        ({"drop": "DATE-OBS"}, "give --time-mjd"),
        ({"DATE-OBS": "yesterday"}, "DATE-OBS = 'yesterday'"),
        ({"drop": "BMAJ"}, "give --position-error"),
        ({"CTYPE3": "STOKES"}, "none is a spectral axis"),
    ],
)
def test_what_a_spectrum_lacks_is_named(tmp_path: Path, cards: Any, named: str) -> None:
    path = spectrum_file(tmp_path, **cards)
    with pytest.raises(HeaderError) as error:
        read_spectrum(path)
    assert named in str(error.value)
    assert str(path) in str(error.value)


def test_what_is_given_takes_precedence_over_the_header(tmp_path: Path) -> None:
    told = Given("NOEMA", 10.0, -5.0, 0.7, 60_000.0, project="W20BC", quality="PASS")
    told = dataclasses.replace(told, frame="TOPOCENTRIC")
    observation = read_spectrum(spectrum_file(tmp_path), told)
    assert (observation.right_ascension_deg, observation.declination_deg) == (10.0, -5.0)
    assert (observation.instrument, observation.time_mjd) == ("NOEMA", 60_000.0)
    assert observation.position_error_arcsec == 0.7
    assert observation.acquisition.project == "W20BC"
    assert observation.spectrum is not None
    assert observation.spectrum.frame == "TOPOCENTRIC"


@pytest.mark.parametrize(
    ("position", "said"),
    [
        ((500.0, 62.0), r"--right-ascension 500: must be in \[0, 360\)"),
        ((360.0, 62.0), "--right-ascension 360"),
        ((float("nan"), 62.0), "--right-ascension nan"),
        ((10.0, -90.5), r"--declination -90\.5: must be in \[-90, 90\]"),
        ((10.0, None), "--right-ascension and --declination need each other"),
        ((None, 62.0), "--right-ascension and --declination need each other"),
    ],
)
def test_a_given_position_must_be_whole_and_on_the_sky(
    position: tuple[float | None, float | None], said: str
) -> None:
    with pytest.raises(HeaderError, match=said):
        Given(right_ascension_deg=position[0], declination_deg=position[1])


def test_the_id_follows_from_the_content(tmp_path: Path) -> None:
    first = read_spectrum(spectrum_file(tmp_path)).observation_id
    assert read_spectrum(spectrum_file(tmp_path)).observation_id == first
    assert read_spectrum(spectrum_file(tmp_path, BUNIT="Jy")).observation_id != first


def map_file(folder: Path, shape: tuple[int, ...] = (1, 1, 100, 120), **cards: Any) -> Path:
    """A map with 0.2 arcsec pixels and a point source of 5 mJy/beam 2 arcsec east."""
    image = np.random.default_rng(2).normal(0, 1e-4, shape)
    if len(shape) > 1:
        image[..., min(50, shape[-2] - 1), 50] += 5e-3
    hdu = fits.PrimaryHDU(image.astype(">f4"))
    sky = {
        "CTYPE1": "RA---SIN", "CRVAL1": 150.0, "CDELT1": -0.2 / 3600, "CRPIX1": 61,
        "CTYPE2": "DEC--SIN", "CRVAL2": 2.0, "CDELT2": 0.2 / 3600, "CRPIX2": 51,
    }  # fmt: skip
    hdu.header.update(sky)
    if len(shape) == 4:
        axes = {
            "CTYPE3": "FREQ",
            "CRVAL3": 230e9,
            "CDELT3": 2e9,
            "CRPIX3": 1,
            "CTYPE4": "STOKES",
        }
        hdu.header.update(axes)
    hdu.header.update(HEADER | {"BUNIT": "Jy/beam"} | cards)
    path = folder / "map.fits"
    hdu.writeto(path, overwrite=True)
    return path


def test_a_map_is_cut_out_around_its_middle(tmp_path: Path) -> None:
    observation = read_map(map_file(tmp_path))
    assert problems(observation) == []
    cutout = observation.continuum_map
    assert cutout is not None
    assert (cutout.height, cutout.width) == (64, 64)
    assert cutout.frequency_hz == 230e9
    assert (cutout.beam_major_arcsec, cutout.beam_minor_arcsec) == pytest.approx((1.0, 0.5))
    row, column = np.unravel_index(cutout.image.argmax(), cutout.image.shape)
    place = WCS(fits.Header.fromstring(cutout.wcs_header)).pixel_to_world(column, row)
    east = (place.ra.deg - 150.0) * 3600 * np.cos(np.radians(2.0))
    assert (east, place.dec.deg - 2.0) == pytest.approx((2.0, 0.0), abs=1e-3)


def test_a_map_is_cut_out_around_a_position(tmp_path: Path) -> None:
    at = Given(right_ascension_deg=150.0 + 2 / 3600, declination_deg=2.0, side_arcsec=4.0)
    cutout = read_map(map_file(tmp_path), at).continuum_map
    assert cutout is not None
    assert (cutout.height, cutout.width) == (20, 20)
    row, column = np.unravel_index(cutout.image.argmax(), cutout.image.shape)
    assert (abs(row - 9.5), abs(column - 9.5)) == (0.5, 0.5)


def test_a_map_may_have_its_axes_in_any_order(tmp_path: Path) -> None:
    expected = read_map(map_file(tmp_path, (100, 120), RESTFRQ=230e9))
    path = tmp_path / "map.fits"
    data, header = fits.getdata(path), fits.getheader(path)
    swapped = header.copy()
    for keyword in ("CTYPE", "CRVAL", "CRPIX", "CDELT"):
        swapped[f"{keyword}1"], swapped[f"{keyword}2"] = (
            header[f"{keyword}2"],
            header[f"{keyword}1"],
        )
    fits.PrimaryHDU(data.T, swapped).writeto(path, overwrite=True)
    found = read_map(path)
    assert found.continuum_map is not None
    assert expected.continuum_map is not None
    assert (found.continuum_map.image == expected.continuum_map.image.T).all()
    assert found.right_ascension_deg == pytest.approx(expected.right_ascension_deg, abs=1e-12)
    assert found.declination_deg == pytest.approx(expected.declination_deg, abs=1e-12)
    source = measure(found.continuum_map, 150.0 + 2 / 3600 / np.cos(np.radians(2.0)), 2.0)
    assert source.weighted_peak / source.weight == found.continuum_map.image.max()


def test_a_slice_along_position_and_frequency_is_no_map(tmp_path: Path) -> None:
    path = map_file(tmp_path, (60, 1, 60), CTYPE3="FREQ", CRVAL3=230e9, CDELT3=2e7, CRPIX3=1)
    with pytest.raises(HeaderError, match=r"CTYPE3 = FREQ, NAXIS3 = 60: this is no map of the sky"):
        read_map(path)


def test_a_map_may_lack_the_axes_of_length_one_that_its_header_has(tmp_path: Path) -> None:
    whole = read_map(map_file(tmp_path)).continuum_map
    header = fits.getheader(tmp_path / "map.fits")
    path = tmp_path / "squeezed.fits"
    fits.PrimaryHDU(fits.getdata(tmp_path / "map.fits").squeeze(), header).writeto(path)
    squeezed = read_map(path).continuum_map
    assert whole is not None
    assert squeezed is not None
    assert squeezed.frequency_hz == whole.frequency_hz
    assert squeezed.wcs_header == whole.wcs_header


def test_jansky_per_pixel_becomes_jansky_per_beam(tmp_path: Path) -> None:
    per_beam = read_map(map_file(tmp_path)).continuum_map
    per_pixel = read_map(map_file(tmp_path, BUNIT="Jy/pixel")).continuum_map
    assert per_beam is not None
    assert per_pixel is not None
    pixels_per_beam = 1.1331 * 1.0 * 0.5 / 0.2**2
    assert per_pixel.image.max() / per_beam.image.max() == pytest.approx(pixels_per_beam, rel=1e-3)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"shape": (100,)}, "this is no map of the sky"),
        ({"shape": (100, 120)}, "give --frequency-ghz"),
        ({"CTYPE1": "X", "CTYPE2": "Y"}, "no celestial axes"),
        ({"BUNIT": "K"}, "BUNIT = 'K'"),
        ({"BUNIT": ""}, "BUNIT is not set: use Jy/beam"),
        ({"BMAJ": 0.0}, "no beam"),
    ],
)
def test_what_a_map_lacks_is_named(tmp_path: Path, options: Any, named: str) -> None:
    with pytest.raises(HeaderError) as error:
        read_map(map_file(tmp_path, **options))
    assert named in str(error.value)


def test_a_position_outside_the_map_is_an_error(tmp_path: Path) -> None:
    away = Given(right_ascension_deg=10.0, declination_deg=2.0)
    with pytest.raises(HeaderError, match=r"--right-ascension 10\.0"):
        read_map(map_file(tmp_path), away)


def test_what_is_no_fits_file_is_told(tmp_path: Path) -> None:
    path = tmp_path / "broken.fits"
    path.write_bytes(b"not FITS")
    with pytest.raises(HeaderError, match="cannot be read"):
        read_spectrum(path)
    with pytest.raises(HeaderError, match="cannot be read"):
        read_map(path)
