"""What FITS files say arrives, or is asked for: units, frames, velocities, beams, errors, masks."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.nddata import (
    CCDData,
    InverseVariance,
    NDUncertainty,
    StdDevUncertainty,
    VarianceUncertainty,
)
from astropy.table import Table

from mmbroker.processors.ingest.headers import Given, HeaderError, Origin
from mmbroker.processors.ingest.maps import read_map
from mmbroker.processors.ingest.spectra import read_spectrum
from mmbroker.processors.relations import SPEED_OF_LIGHT_KM_S
from mmbroker.processors.validation import problems
from mmbroker.schemas.events import Observation, Spectrum
from tests.processors.ingest.test_spectra_and_maps import (
    CHANNELS,
    HEADER,
    POSITION,
    flux_mjy,
    map_file,
    spectrum_file,
)

REST_HZ = 115.2712018e9
CHANNEL = np.arange(CHANNELS)


def spectrum_in(observation: Observation) -> Spectrum:
    assert problems(observation) == []
    assert observation.spectrum is not None
    return observation.spectrum


def table_file(folder: Path, columns: dict[str, Any], suffix: str = "fits", **cards: Any) -> Path:
    """A table with a spectrum from 100 GHz in steps of 10 MHz, and with more columns."""
    table = Table({"freq": (100.0 + 0.01 * CHANNEL) * u.GHz, "flux": flux_mjy() * u.mJy} | columns)
    table.meta = HEADER | cards
    path = folder / f"table.{suffix}"
    table.write(path, overwrite=True)
    return path


def rewritten(path: Path, **cards: str) -> Path:
    """Write values of cards as they are, into the bytes of a file."""
    content = path.read_bytes()
    for keyword, value in cards.items():
        at = content.index(f"{keyword:8}=".encode())
        card = f"{keyword:8}= {value:>20}".ljust(80).encode()
        content = content[:at] + card + content[at + 80 :]
    path.write_bytes(content)
    return path


# Numbers, units and dates -------------------------------------------------------------------------


@pytest.mark.parametrize("step", ["2.0D+07", "2.0d7", "20000000", ".2E8"])
def test_numbers_are_read_with_every_exponent_of_the_standard(tmp_path: Path, step: str) -> None:
    spectrum = spectrum_in(read_spectrum(rewritten(spectrum_file(tmp_path), CDELT3=step)))
    assert np.allclose(spectrum.frequency_hz, 90e9 + 20e6 * CHANNEL, rtol=1e-12)


def test_exponents_with_d_on_the_sky_and_in_the_beam(tmp_path: Path) -> None:
    expected = read_map(map_file(tmp_path))
    path = map_file(tmp_path)
    header = fits.getheader(path)
    names = ("CDELT1", "CDELT2", "CRVAL1", "BMAJ", "BMIN")
    text = {name: f"{header[name]:.13E}".replace("E", "D") for name in names}
    found = read_map(rewritten(path, **text))
    assert found.continuum_map is not None
    assert expected.continuum_map is not None
    assert (found.continuum_map.image == expected.continuum_map.image).all()
    assert found.right_ascension_deg == pytest.approx(expected.right_ascension_deg, abs=1e-9)
    assert found.continuum_map.beam_major_arcsec == pytest.approx(1.0, rel=1e-9)


@pytest.mark.parametrize(
    ("keyword", "value"),
    [("CDELT3", "'wide'"), ("CRVAL1", "T"), ("BMAJ", "'abc'"), ("CRPIX2", "'NaN'"), ("BPA", "'E'")],
)
def test_a_keyword_that_is_no_number_is_named(tmp_path: Path, keyword: str, value: str) -> None:
    with pytest.raises(HeaderError, match=f"{keyword} = .* is not a finite number") as error:
        read_spectrum(rewritten(spectrum_file(tmp_path), **{keyword: value}))
    assert str(error.value).startswith(f"{tmp_path / 'spectrum.fits'}: ")


@pytest.mark.parametrize(
    "unit",
    [
        "MJY/BEAM", "MK", "K (Ta*)", "K (TA)", "counts", "ct/s", "mag", "AB", "ABmag", "mag(AB)",
        "[mJy]",
    ],
)  # fmt: skip
def test_units_that_are_no_fluxes_or_could_mean_two_are_refused(tmp_path: Path, unit: str) -> None:
    with pytest.raises(HeaderError, match=f"BUNIT = '?{re.escape(unit[:2])}") as error:
        read_spectrum(spectrum_file(tmp_path, BUNIT=unit))
    assert "--unit" in str(error.value)


@pytest.mark.parametrize(
    ("unit", "same"),
    [
        ("JY/BEAM", "Jy/beam"), ("JY/PIXEL", "Jy/pixel"), ("Jy/bm", "Jy/beam"),
        ("mJy/Beam", "mJy/beam"), ("UJY/BEAM", "uJy/beam"), ("MJy/sr", "MJy/sr"),
    ],
)  # fmt: skip
def test_units_of_maps_in_capitals_are_what_they_mean(tmp_path: Path, unit: str, same: str) -> None:
    expected = read_map(map_file(tmp_path, BUNIT=same)).continuum_map
    found = read_map(map_file(tmp_path, BUNIT=unit)).continuum_map
    assert found is not None
    assert expected is not None
    assert (found.image == expected.image).all()


@pytest.mark.parametrize("unit", ["HZ", "GHZ", "Hz"])
def test_units_of_axes_in_capitals_are_what_they_mean(tmp_path: Path, unit: str) -> None:
    scale = 1e9 if unit == "GHZ" else 1.0
    axis = {"CRVAL3": 90e9 / scale, "CDELT3": 20e6 / scale, "CUNIT3": unit}
    sky = {"CUNIT1": "DEGREES", "CUNIT2": "DEGREE"}
    observation = read_spectrum(spectrum_file(tmp_path, **axis, **sky))
    assert np.allclose(spectrum_in(observation).frequency_hz, 90e9 + 20e6 * CHANNEL, rtol=1e-12)
    assert observation.right_ascension_deg == pytest.approx(150.0)


@pytest.mark.parametrize("unit", ["rad", "arcsec", "RADIANS", "arcmin"])
def test_the_sky_may_be_in_any_unit_of_an_angle(tmp_path: Path, unit: str) -> None:
    per_degree = u.deg.to({"RADIANS": "rad"}.get(unit, unit))
    cards = {"CRVAL1": 150.0, "CRVAL2": 2.0, "CDELT1": -0.2 / 3600, "CDELT2": 0.2 / 3600}
    cards = {name: value * per_degree for name, value in cards.items()}
    expected = read_map(map_file(tmp_path))
    found = read_map(map_file(tmp_path, **cards, CUNIT1=unit, CUNIT2=unit))
    assert found.right_ascension_deg == pytest.approx(expected.right_ascension_deg, abs=1e-9)
    assert found.declination_deg == pytest.approx(expected.declination_deg, abs=1e-9)
    with pytest.raises(HeaderError, match=r"CUNIT1 = 'h' of RA---SIN is no unit of an angle"):
        read_map(map_file(tmp_path, CUNIT1="h"))


def test_a_unit_may_be_given(tmp_path: Path) -> None:
    path = spectrum_file(tmp_path, BUNIT="counts")
    spectrum = spectrum_in(read_spectrum(path, Given(unit="mJy/beam")))
    assert np.allclose(spectrum.flux_density_jy, flux_mjy() * 1e-3, rtol=1e-6)
    with pytest.raises(HeaderError, match=r"--unit = 'bright'"):
        read_spectrum(path, Given(unit="bright"))


@pytest.mark.parametrize(
    ("cards", "mjd"),
    [
        ({"DATE-OBS": "22/07/94"}, 49_555.0),
        ({"DATE-OBS": "1/1/99"}, 51_179.0),
        ({"DATE-OBS": "2020-03-01"}, 58_909.0),
        ({"DATE-OBS": "2020-03-01 12:00:00"}, 58_909.5),
        ({"DATE-OBS": "2020-03-01T12:00:00.000Z"}, 58_909.5),
        ({"DATE-OBS": "2020-03-01", "TIME-OBS": "06:00:00"}, 58_909.25),
        ({"DATE-OBS": "2020-03-01", "MJD-OBS": 58_910.5}, 58_910.5),
        ({"DATE-OBS": "22/07/94", "MJD-AVG": 49_555.75}, 49_555.75),
    ],
)
def test_dates_of_every_form_of_the_standard(
    tmp_path: Path, cards: dict[str, Any], mjd: float
) -> None:
    assert read_spectrum(spectrum_file(tmp_path, **cards)).time_mjd == pytest.approx(mjd, abs=1e-9)


@pytest.mark.parametrize("date", ["31/02/94", "2020-13-01", "1.3.2020", "22/07/1994", "?"])
def test_what_is_no_date_is_told_in_one_line(tmp_path: Path, date: str) -> None:
    with pytest.raises(HeaderError, match=r"DATE-OBS = '.*' is no date .* give --time-mjd$"):
        read_spectrum(spectrum_file(tmp_path, **{"DATE-OBS": date}))


def test_the_time_scale_is_that_of_the_header(tmp_path: Path) -> None:
    assert read_spectrum(spectrum_file(tmp_path, TIMESYS="tai")).time_scale == "TAI"
    assert read_spectrum(spectrum_file(tmp_path)).time_scale == "UTC"
    with pytest.raises(HeaderError, match=r"TIMESYS = 'LST'.*--time-mjd"):
        read_spectrum(spectrum_file(tmp_path, TIMESYS="LST"))


# Frames of the sky --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cards", "frame"),
    [
        ({}, "icrs"),
        ({"EQUINOX": 2000.0}, "fk5"),
        ({"EQUINOX": "J2000"}, "fk5"),
        ({"EPOCH": 1950.0}, "fk4"),
        ({"EQUINOX": "B1950.0"}, "fk4"),
        ({"RADECSYS": "FK4"}, "fk4"),
        ({"RADESYS": "FK4-NO-E", "EQUINOX": 1950.0}, "fk4noeterms"),
    ],
)
def test_frame_and_equinox_hold_for_the_axes_and_for_ra_and_dec(
    tmp_path: Path, cards: dict[str, Any], frame: str
) -> None:
    place = SkyCoord(150.0, 2.0, unit="deg", frame=frame).icrs
    expected = place.ra.deg, place.dec.deg
    observation = read_spectrum(spectrum_file(tmp_path, **cards))
    found = observation.right_ascension_deg, observation.declination_deg
    assert found == pytest.approx(expected, abs=1e-9)
    header = fits.Header(HEADER | cards)
    path = tmp_path / "line.fits"
    axis = {"CTYPE1": "FREQ", "CRVAL1": 90e9, "CDELT1": 20e6, "CRPIX1": 1}
    fits.PrimaryHDU(flux_mjy(), fits.Header(axis | dict(header))).writeto(path, overwrite=True)
    observation = read_spectrum(path)
    found = observation.right_ascension_deg, observation.declination_deg
    assert found == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(
    ("cards", "said"),
    [
        ({"RADESYS": "GAPPT"}, "RADESYS = 'GAPPT'"),
        ({"EQUINOX": "now"}, "EQUINOX = 'now'"),
        ({"EQUINOX": 0.0}, "EQUINOX = 0.0 is no year"),
        ({"CTYPE1": "ELON-SIN", "CTYPE2": "ELAT-SIN"}, "CTYPE1 = ELON-SIN"),
        ({"CTYPE1": "SLON-SIN", "CTYPE2": "SLAT-SIN"}, "CTYPE1 = SLON-SIN"),
        ({"A_ORDER": 3}, "A_ORDER: distorted coordinates"),
    ],
)
def test_frames_that_cannot_be_converted_are_named(
    tmp_path: Path, cards: dict[str, Any], said: str
) -> None:
    with pytest.raises(HeaderError, match=said):
        read_map(map_file(tmp_path, **cards))


@pytest.mark.parametrize(
    ("value", "comment", "degrees"),
    [(10.0, "[h] of the dish", 150.0), ("10:00:00", "", 150.0), (150.0, "[deg] east", 150.0)],
)
def test_right_ascension_may_be_in_hours_if_its_card_says_so(
    tmp_path: Path, value: float | str, comment: str, degrees: float
) -> None:
    path = tmp_path / "line.fits"
    axis = {"CTYPE1": "FREQ", "CRVAL1": 90e9, "CDELT1": 20e6, "CRPIX1": 1}
    header = fits.Header(axis | HEADER)
    header["RA"] = (value, comment)
    fits.PrimaryHDU(flux_mjy(), header).writeto(path)
    assert read_spectrum(path).right_ascension_deg == pytest.approx(degrees)


# Spectral axes ------------------------------------------------------------------------------------

VELOCITY = {"CRVAL3": 9e6, "CDELT3": 2e4, "CUNIT3": "m/s", "RESTFREQ": REST_HZ}
KM_S = 9e3 + 20.0 * CHANNEL
RADIO_HZ = REST_HZ * (1 - KM_S / SPEED_OF_LIGHT_KM_S)
OPTICAL_HZ = REST_HZ / (1 + KM_S / SPEED_OF_LIGHT_KM_S)
BETA = KM_S / SPEED_OF_LIGHT_KM_S
RELATIVISTIC_HZ = REST_HZ * np.sqrt((1 - BETA) / (1 + BETA))


@pytest.mark.parametrize(
    ("cards", "given", "frequency", "frame"),
    [
        ({"CTYPE3": "VRAD"}, {}, RADIO_HZ, "LSRK"),
        ({"CTYPE3": "VOPT"}, {}, OPTICAL_HZ, "LSRK"),
        ({"CTYPE3": "VELO"}, {}, RELATIVISTIC_HZ, "LSRK"),
        ({"CTYPE3": "VELO", "VELREF": 257}, {}, RADIO_HZ, "LSRK"),
        ({"CTYPE3": "VELO-LSR", "VELREF": 257}, {}, RADIO_HZ, "LSRK"),
        ({"CTYPE3": "VELO-LSR", "VELREF": 1}, {}, OPTICAL_HZ, "LSRK"),
        ({"CTYPE3": "VELO-LSR"}, {"velocity_convention": "RADIO"}, RADIO_HZ, "LSRK"),
        ({"CTYPE3": "VELO-HEL", "VELREF": 258, "SPECSYS": ""}, {}, RADIO_HZ, "BARYCENTRIC"),
        ({"CTYPE3": "VELOCITY", "VELREF": 259, "SPECSYS": ""}, {}, RADIO_HZ, "TOPOCENTRIC"),
        ({"CTYPE3": "VELOCITY"}, {"velocity_convention": "OPTICAL"}, OPTICAL_HZ, "LSRK"),
        ({"CTYPE3": "VRAD", "CUNIT3": "KM/S", "CRVAL3": 9e3, "CDELT3": 20.0}, {}, RADIO_HZ, "LSRK"),
        (
            {"CTYPE3": "ZOPT", "CUNIT3": "", "CRVAL3": BETA[0], "CDELT3": BETA[1] - BETA[0]},
            {}, OPTICAL_HZ, "LSRK",
        ),
        (
            {"CTYPE3": "BETA", "CUNIT3": "", "CRVAL3": BETA[0], "CDELT3": BETA[1] - BETA[0]},
            {}, RELATIVISTIC_HZ, "LSRK",
        ),
    ],
)  # fmt: skip
def test_every_kind_of_velocity_is_converted_as_its_convention_says(
    tmp_path: Path, cards: Any, given: Any, frequency: Any, frame: str
) -> None:
    path = spectrum_file(tmp_path, **(VELOCITY | cards))
    spectrum = spectrum_in(read_spectrum(path, Given(**given)))
    assert np.allclose(spectrum.frequency_hz, frequency, rtol=1e-9)
    assert spectrum.frame == frame


def test_optical_velocities_of_channels_of_equal_frequency(tmp_path: Path) -> None:
    """FELO of AIPS: CDELT is the step in velocity at the reference channel."""
    cards = VELOCITY | {"CTYPE3": "FELO-HEL", "SPECSYS": ""}
    spectrum = spectrum_in(read_spectrum(spectrum_file(tmp_path, **cards)))
    step = -(20.0 / SPEED_OF_LIGHT_KM_S) * OPTICAL_HZ[0] ** 2 / REST_HZ
    assert np.allclose(spectrum.frequency_hz, OPTICAL_HZ[0] + step * CHANNEL, rtol=1e-9)
    assert spectrum.frame == "BARYCENTRIC"


@pytest.mark.parametrize(
    ("cards", "said"),
    [
        (
            {"CTYPE3": "VELO-LSR"},
            "CTYPE3 = VELO-LSR: .*VELREF.*VRAD or VOPT.*--velocity-convention",
        ),
        ({"CTYPE3": "VELOCITY"}, "CTYPE3 = VELOCITY: .*--velocity-convention"),
        ({"CTYPE3": "VRAD", "RESTFREQ": 0.0}, "without RESTFRQ.*--rest-frequency-ghz"),
        ({"CTYPE3": "VOPT-F2W", "RESTFREQ": 0.0}, "RESTFRQ.*--rest-frequency-ghz"),
        ({"CTYPE3": "VELO-HEL", "VELREF": 258}, "SPECSYS = 'LSRK', but CTYPE = VELO-HEL"),
        ({"CTYPE3": "FREQ-LSD", "CUNIT3": "Hz", "SPECSYS": ""}, "CTYPE = FREQ-LSD.*--frame"),
        ({"CTYPE3": "AWAV", "CUNIT3": "m"}, "AWAV: give wavelengths in vacuum"),
        ({"CTYPE3": "WAVE-TAB"}, "CTYPE = RA---SIN, DEC--SIN, WAVE-TAB: none is a spectral axis"),
        ({"CTYPE3": "VRAD", "CUNIT3": "Hz"}, "no coordinate system"),
    ],
)
def test_what_a_spectral_axis_does_not_say_is_asked_for(
    tmp_path: Path, cards: dict[str, Any], said: str
) -> None:
    with pytest.raises(HeaderError, match=said):
        read_spectrum(spectrum_file(tmp_path, **(VELOCITY | cards)))


def test_a_rest_frequency_may_be_given(tmp_path: Path) -> None:
    cards = VELOCITY | {"CTYPE3": "VRAD", "RESTFREQ": 0.0}
    path = spectrum_file(tmp_path, **cards)
    spectrum = spectrum_in(read_spectrum(path, Given(rest_frequency_hz=REST_HZ)))
    assert np.allclose(spectrum.frequency_hz, RADIO_HZ, rtol=1e-9)
    metres = SPEED_OF_LIGHT_KM_S * 1e3 / REST_HZ
    spectrum = spectrum_in(read_spectrum(spectrum_file(tmp_path, **cards, RESTWAV=metres)))
    assert np.allclose(spectrum.frequency_hz, RADIO_HZ, rtol=1e-9)


def test_a_map_with_a_velocity_axis_has_the_frequency_of_its_velocity(tmp_path: Path) -> None:
    cards = VELOCITY | {"CTYPE3": "VRAD"}
    found = read_map(map_file(tmp_path, **cards)).continuum_map
    assert found is not None
    assert found.frequency_hz == pytest.approx(RADIO_HZ[0])


def test_a_column_of_velocities_says_its_convention_or_is_asked_for_it(tmp_path: Path) -> None:
    columns = {"velocity": KM_S * u.km / u.s, "flux": flux_mjy() * u.mJy}
    table = Table(columns)
    table.meta = HEADER | {"RESTFRQ": REST_HZ}
    del table.meta["SPECSYS"]
    path = tmp_path / "table.ecsv"
    table.write(path)
    with pytest.raises(HeaderError, match=r"without VELDEF.*--velocity-convention"):
        read_spectrum(path)
    table.meta["VELDEF"] = "OPTI-HEL"
    table.write(path, overwrite=True)
    spectrum = spectrum_in(read_spectrum(path))
    assert np.allclose(spectrum.frequency_hz, OPTICAL_HZ)
    assert spectrum.frame == "BARYCENTRIC"


# Beams --------------------------------------------------------------------------------------------


def beams(major_arcsec: Any, polarisations: int = 1) -> fits.BinTableHDU:
    """CASA's table of beams: for every channel and polarisation one, half as wide as long."""
    major = np.tile(major_arcsec, polarisations)
    channels = len(major_arcsec)
    columns = [
        fits.Column("BMAJ", "E", unit="arcsec", array=major),
        fits.Column("BMIN", "E", unit="arcsec", array=major / 2),
        fits.Column("BPA", "E", unit="deg", array=np.full(len(major), 10.0)),
        fits.Column("CHAN", "J", array=np.tile(np.arange(channels), polarisations)),
        fits.Column("POL", "J", array=np.repeat(np.arange(polarisations), channels)),
    ]
    return fits.BinTableHDU.from_columns(columns, name="BEAMS")


def test_each_channel_has_the_beam_of_casas_table(tmp_path: Path) -> None:
    path = spectrum_file(tmp_path, BUNIT="K", drop="BMAJ", CASAMBM=True)
    major = 1.5 - 0.2 * CHANNEL / CHANNELS
    major[5] = 0.0  # a channel without data
    fits.append(path, beams(major).data, beams(major).header)
    observation = read_spectrum(path)
    spectrum = spectrum_in(observation)
    omega = np.pi / (4 * np.log(2)) * major**2 / 2 * u.arcsec**2
    scale = u.brightness_temperature(spectrum.frequency_hz * u.Hz, omega)
    expected = (flux_mjy() * u.K).to_value(u.Jy, scale)
    assert np.isnan(spectrum.flux_density_jy[5])
    seen = CHANNEL != 5
    assert np.allclose(spectrum.flux_density_jy[seen], expected[seen], rtol=1e-5)
    assert observation.position_error_arcsec == pytest.approx(0.15)
    with fits.open(path, mode="append") as file:
        del file[1]
        file.append(beams(major[:7]))
        file.writeto(path, overwrite=True)
    with pytest.raises(HeaderError, match=r"BEAMS has 7 beams for 200 channels: give --beam"):
        read_spectrum(path)


def test_the_last_beam_in_history_holds(tmp_path: Path) -> None:
    path = map_file(tmp_path, BMAJ=0.0)
    with fits.open(path, mode="update") as file:
        for size in (9.0, 1.5):
            line = f"AIPS   CLEAN BMAJ={size / 3600:12.4E} BMIN={1 / 3600:12.4E} BPA=  20.00"
            file[0].header["HISTORY"] = line
    found = read_map(path).continuum_map
    assert found is not None
    axes = found.beam_major_arcsec, found.beam_minor_arcsec, found.beam_position_angle_deg
    assert axes == pytest.approx((1.5, 1.0, 20.0), rel=1e-3)


def test_a_beam_may_be_in_the_unit_of_its_comment_or_given(tmp_path: Path) -> None:
    path = map_file(tmp_path)
    with fits.open(path, mode="update") as file:
        file[0].header["BMAJ"] = (2.0, "[arcseconds] major axis")
        file[0].header["BMIN"] = (1.0, "[arcsec] minor axis")
    found = read_map(path).continuum_map
    assert found is not None
    assert (found.beam_major_arcsec, found.beam_minor_arcsec) == pytest.approx((2.0, 1.0))
    given = read_map(map_file(tmp_path, BMAJ=0.0), Given(beam=(3.0, 2.0, 45.0))).continuum_map
    assert given is not None
    assert (given.beam_major_arcsec, given.beam_minor_arcsec) == (3.0, 2.0)
    for wrong in ((1.0, 2.0, 0.0), (1.0, 0.0, 0.0), (float("nan"), 1.0, 0.0)):
        with pytest.raises(HeaderError, match=r"--beam"):
            Given(beam=wrong)


# Errors and masks ---------------------------------------------------------------------------------

SIGMA_MJY = 0.1 + 0.001 * CHANNEL


@pytest.mark.parametrize(
    ("name", "values", "unit"),
    [
        ("e_flux", SIGMA_MJY, "mJy"),
        ("FLUXERR", SIGMA_MJY * 1e3, "uJy"),
        ("flux_density_error", SIGMA_MJY, "mJy"),
        ("std", SIGMA_MJY, "mJy"),
        ("variance", SIGMA_MJY**2, "mJy2"),
        ("VAR", SIGMA_MJY**2 * 1e-6, "Jy2"),
        ("IVAR", SIGMA_MJY**-2, "mJy-2"),
        ("STAT", SIGMA_MJY**2, "mJy2"),
        ("STAT", SIGMA_MJY, "mJy"),
        ("weight", SIGMA_MJY**-2, "mJy-2"),
    ],
)
def test_errors_are_what_their_name_and_unit_say(
    tmp_path: Path, name: str, values: Any, unit: str
) -> None:
    column = {name: values * u.Unit(unit)}
    for suffix in ("fits", "ecsv"):
        spectrum = spectrum_in(read_spectrum(table_file(tmp_path, column, suffix)))
        assert np.allclose(spectrum.flux_error_jy, SIGMA_MJY * 1e-3, rtol=1e-6)
    path = spectrum_file(tmp_path)
    extension = fits.ImageHDU(values, name=name)
    extension.header["BUNIT"] = unit
    fits.append(path, extension.data, extension.header)
    spectrum = spectrum_in(read_spectrum(path))
    assert np.allclose(spectrum.flux_error_jy, SIGMA_MJY * 1e-3, rtol=1e-6)


@pytest.mark.parametrize("kind", [StdDevUncertainty, VarianceUncertainty, InverseVariance])
def test_errors_and_masks_as_astropy_writes_them(tmp_path: Path, kind: type[NDUncertainty]) -> None:
    header = fits.getheader(spectrum_file(tmp_path))
    for name in ("CTYPE", "CRVAL", "CDELT", "CRPIX"):
        header[f"{name}1"] = header[f"{name}3"]
    header["RA"], header["DEC"] = 150.0, 2.0
    for name in list(header["*2"]) + list(header["*3"]):
        del header[name]
    uncertainty = StdDevUncertainty(SIGMA_MJY).represent_as(kind)
    mask = (CHANNEL > 50) & (CHANNEL < 55)
    data = CCDData(flux_mjy(), uncertainty=uncertainty, mask=mask, unit="mJy", header=header)
    path = tmp_path / "ccd.fits"
    data.write(path)
    spectrum = spectrum_in(read_spectrum(path))
    assert np.allclose(spectrum.flux_error_jy, SIGMA_MJY * 1e-3, rtol=1e-6)
    assert (np.isnan(spectrum.flux_density_jy) == mask).all()


def test_a_channel_without_inverse_variance_or_with_a_flag_is_not_observed(tmp_path: Path) -> None:
    ivar = np.where(CHANNEL == 7, 0.0, 100.0)
    spectrum = spectrum_in(read_spectrum(table_file(tmp_path, {"ivar": ivar * u.Unit("mJy-2")})))
    assert list(np.flatnonzero(np.isnan(spectrum.flux_error_jy))) == [7]
    for name in ("mask", "DQ", "flags", "QUAL"):
        spectrum = spectrum_in(read_spectrum(table_file(tmp_path, {name: (CHANNEL == 9) * 4})))
        assert list(np.flatnonzero(np.isnan(spectrum.flux_density_jy))) == [9]


@pytest.mark.parametrize(
    ("name", "unit"),
    [
        ("weight", None),
        ("stat", None),
        ("sigma_total", "Jy2 s"),
        ("variance", "mJy"),
        ("err", None),
    ],
)
def test_errors_that_do_not_say_what_they_are_are_named(
    tmp_path: Path, name: str, unit: str | None
) -> None:
    values = SIGMA_MJY if unit is None else SIGMA_MJY * u.Unit(unit)
    path = table_file(tmp_path, {name: values})
    with pytest.raises(HeaderError, match=f"column {name}.*--measure-noise"):
        read_spectrum(path)
    observation = read_spectrum(path, Given(measure_noise=True))
    assert "median absolute deviation" in str(observation.acquisition.calibration)


def test_errors_of_another_shape_are_no_reason_to_measure_others(tmp_path: Path) -> None:
    path = spectrum_file(tmp_path)
    fits.append(path, np.ones(7), fits.Header({"EXTNAME": "ERROR"}))
    with pytest.raises(
        HeaderError, match=r"extension ERROR has shape \(7,\), the data \(200, 1, 1"
    ):
        read_spectrum(path)


def test_an_error_map_gives_the_noise_of_a_map_at_the_position(tmp_path: Path) -> None:
    path = map_file(tmp_path)
    error = np.full((1, 1, 100, 120), 2e-4)
    error[..., 50, 50] = 3e-4
    mask = np.zeros((100, 120), np.uint8)
    mask[40] = 1
    with fits.open(path, mode="append") as file:
        file.append(fits.ImageHDU(error, name="ERROR"))
        file.append(fits.ImageHDU(mask, name="MASK"))
    found = read_map(path).continuum_map
    assert found is not None
    assert found.noise_jy_per_beam == pytest.approx(2e-4)
    assert np.isnan(found.image).all(axis=1).sum() == 1
    at = Given(right_ascension_deg=150.0 + 2 / 3600 / np.cos(np.radians(2.0)), declination_deg=2.0)
    found = read_map(path, at).continuum_map
    assert found is not None
    assert found.noise_jy_per_beam == pytest.approx(3e-4)


# Shapes -------------------------------------------------------------------------------------------


def cube_file(folder: Path, stokes: list[int], **cards: Any) -> Path:
    """A cube of 12 x 16 pixels in two or more polarisations, whose values say where they are."""
    planes, channel, row, column = np.indices((len(stokes), CHANNELS, 12, 16))
    values = np.array(stokes)[planes] * 1000 + channel + row / 100 + column / 10_000
    header = fits.getheader(spectrum_file(folder, **cards))
    header.update({"CTYPE4": "STOKES", "CRVAL4": stokes[0], "CRPIX4": 1.0})
    header["CDELT4"] = stokes[1] - stokes[0] if len(stokes) > 1 else 1.0
    path = folder / "cube.fits"
    fits.PrimaryHDU(values.astype(">f8"), header).writeto(path, overwrite=True)
    return path


def test_the_spectrum_of_a_cube_at_a_position_is_that_of_its_pixel(tmp_path: Path) -> None:
    path = cube_file(tmp_path, [1, 2, 3, 4])
    with pytest.raises(HeaderError, match=r"a cube.*: give --right-ascension and --declination"):
        read_spectrum(path)
    with pytest.raises(HeaderError, match=r"this is no map of the sky"):
        read_map(path)
    at = Given(
        right_ascension_deg=150.0 - 0.6 / 3600 / np.cos(np.radians(2.0)),
        declination_deg=2.0 + 1.0 / 3600,
    )
    observation = read_spectrum(path, at)
    flux = spectrum_in(observation).flux_density_jy
    assert np.allclose(flux, (1000 + CHANNEL + 5 / 100 + 3 / 10_000) * 1e-3, rtol=1e-6)
    assert observation.right_ascension_deg == at.right_ascension_deg
    other = read_spectrum(path, Given(right_ascension_deg=150.0, declination_deg=2.0))
    assert other.observation_id != observation.observation_id
    away = Given(right_ascension_deg=150.1, declination_deg=2.0)
    with pytest.raises(HeaderError, match=r"outside the image"):
        read_spectrum(path, away)


def test_of_polarisations_only_total_intensity_is_read(tmp_path: Path) -> None:
    for axis in ({"CRVAL4": 4.0}, {"CRVAL4": -1.0}, {"CRVAL4": 0.0, "CRPIX4": 1.0, "CDELT4": 0.0}):
        with pytest.raises(
            HeaderError, match=r"CTYPE4 = STOKES has the values .*none is 1, Stokes I"
        ):
            read_map(map_file(tmp_path, **({"CRPIX4": 1.0} | axis)))
    whole = map_file(tmp_path)
    data, header = fits.getdata(whole), fits.getheader(whole)
    expected = read_map(whole).continuum_map
    header.update({"CRVAL4": 2.0, "CRPIX4": 1.0, "CDELT4": -1.0})
    path = tmp_path / "planes.fits"
    fits.PrimaryHDU(np.concatenate([data * 7, data]), header).writeto(path)
    found = read_map(path).continuum_map
    assert found is not None
    assert expected is not None
    assert (found.image == expected.image).all()


def test_an_axis_without_step_has_one_value(tmp_path: Path) -> None:
    """CLASS writes so the axis of polarisation, on which there is one pixel."""
    path = spectrum_file(tmp_path, CTYPE4="STOKES", CRVAL4=1.0, CRPIX4=0.0, CDELT4=0.0)
    assert read_spectrum(path).right_ascension_deg == pytest.approx(150.0)


def test_the_offset_of_a_spectrum_of_class_is_part_of_its_position(tmp_path: Path) -> None:
    cards = {
        "CTYPE1": "RA---GLS", "CRPIX1": 0.0, "CDELT1": 0.005,
        "CTYPE2": "DEC--GLS", "CRPIX2": 0.0, "CDELT2": -0.01, "BUNIT": "K (Tmb)",
    }  # fmt: skip
    observation = read_spectrum(spectrum_file(tmp_path, **cards))
    assert observation.declination_deg == pytest.approx(1.99, abs=1e-6)
    offset = (observation.right_ascension_deg - 150.0) * np.cos(np.radians(1.99))
    assert offset == pytest.approx(0.005, rel=1e-5)
    kelvin = spectrum_in(read_spectrum(spectrum_file(tmp_path, **cards | {"BUNIT": "K"})))
    assert (spectrum_in(observation).flux_density_jy == kelvin.flux_density_jy).all()
    with pytest.raises(HeaderError, match=r"TEMPSCAL = 'TA\*'"):
        read_spectrum(spectrum_file(tmp_path, BUNIT="K", TEMPSCAL="TA*"))


def test_a_spectrum_may_be_in_one_row_of_a_table(tmp_path: Path) -> None:
    columns = {"WAVE": "um", "FLUX": "mJy", "ERR": "mJy"}
    values = (SPEED_OF_LIGHT_KM_S / (100.0 + 0.01 * CHANNEL), flux_mjy(), SIGMA_MJY)
    for form in (f"{CHANNELS}D", f"PD({CHANNELS})"):
        cells = [
            fits.Column(name, form, unit=unit, array=np.array([value, value]))
            for (name, unit), value in zip(columns.items(), values, strict=True)
        ]
        for rows in (1, 2):
            table = fits.BinTableHDU.from_columns(cells, fits.Header(HEADER), nrows=rows)
            path = tmp_path / "row.fits"
            fits.HDUList([fits.PrimaryHDU(), table]).writeto(path, overwrite=True)
            if rows == 2:
                with pytest.raises(HeaderError, match=r"more than one spectrum"):
                    read_spectrum(path)
            else:
                spectrum = spectrum_in(read_spectrum(path))
                assert np.allclose(spectrum.frequency_hz, 1e9 * (100 + 0.01 * CHANNEL))
                assert np.allclose(spectrum.flux_error_jy, SIGMA_MJY * 1e-3)


def test_of_several_images_one_has_to_be_named(tmp_path: Path) -> None:
    path = map_file(tmp_path)
    data, header = fits.getdata(path), fits.getheader(path)
    header["EXTNAME"] = "MODEL"
    fits.append(path, 2 * data, header)
    with pytest.raises(HeaderError, match=r"more than one: 0 \(PRIMARY\), 1 \(MODEL\): give --hdu"):
        read_map(path)
    first, model = (read_map(path, Given(hdu=name)).continuum_map for name in ("0", "MODEL"))
    assert first is not None
    assert model is not None
    assert np.allclose(model.image, 2 * first.image)
    with pytest.raises(HeaderError, match=r"--hdu 7: there is none"):
        read_map(path, Given(hdu="7"))


def test_numbers_of_integers_are_scaled_and_blanks_are_not_observed(tmp_path: Path) -> None:
    path = map_file(tmp_path)
    data, header = fits.getdata(path), fits.getheader(path)
    stored = np.round(data / 1e-6).astype(">i2")
    stored[..., 50, 70] = -32768
    hdu = fits.PrimaryHDU(stored)
    hdu.header.update(header)
    hdu.header.update({"BITPIX": 16, "BSCALE": 1e-6, "BLANK": -32768})
    scaled = tmp_path / "scaled.fits"
    hdu.writeto(scaled)
    found, expected = read_map(scaled).continuum_map, read_map(path).continuum_map
    assert found is not None
    assert expected is not None
    assert np.isnan(found.image).sum() == 1
    assert np.nanmax(np.abs(found.image - expected.image)) < 1e-6


def test_only_the_cut_out_of_a_large_image_is_read(tmp_path: Path) -> None:
    path = map_file(tmp_path)
    header = fits.getheader(path)
    side = 200_000
    header.update({"NAXIS1": side, "NAXIS2": side, "CRPIX1": 33.0, "CRPIX2": 33.0})
    with path.open("wb") as file:
        file.write(header.tostring().encode())
        file.truncate(file.tell() + side * side * 4)  # 160 GB that take no place
    at = Given(right_ascension_deg=150.0, declination_deg=2.0)
    with pytest.MonkeyPatch.context() as patch:
        # The id is that of the whole content, which is read in pieces, but takes minutes here.
        patch.setattr("hashlib.file_digest", lambda _, digest: digest())
        found = read_map(path, at).continuum_map
    assert found is not None
    assert found.image.shape == (64, 64)


def test_odd_characters_in_comments_are_no_reason_to_refuse(tmp_path: Path) -> None:
    path = map_file(tmp_path, OBSERVER="somebody")
    content = path.read_bytes()
    path.write_bytes(content.replace(b"somebody", b"some\tody"))
    assert read_map(path).continuum_map is not None


@pytest.mark.parametrize(("ra", "dec"), [(0.0, 2.0), (359.9999, -2.0), (10.0, 89.999)])
def test_maps_at_the_edges_of_the_sky(tmp_path: Path, ra: float, dec: float) -> None:
    path = map_file(tmp_path, CRVAL1=ra, CRVAL2=dec)
    place = SkyCoord(ra, dec, unit="deg").directional_offset_by(90 * u.deg, 2 * u.arcsec)
    at = Given(right_ascension_deg=float(place.ra.deg), declination_deg=float(place.dec.deg))
    observation = read_map(path, at)
    assert observation.continuum_map is not None
    image = observation.continuum_map.image
    assert image.argmax() in (31 * 64 + 31, 31 * 64 + 32, 32 * 64 + 31, 32 * 64 + 32)
    assert 0.0 <= observation.right_ascension_deg < 360.0


def test_what_was_read_is_told_with_where_it_stood(tmp_path: Path) -> None:
    origins: list[Origin] = []
    read_spectrum(spectrum_file(tmp_path, error=True), Given(instrument="NOEMA"), origins)
    told = {origin.what: (origin.value, origin.source) for origin in origins}
    assert told["unit"] == ("mJy", "BUNIT = mJy")
    assert told["frame"] == ("LSRK", "SPECSYS")
    assert told["beam"] == ("1 x 0.5 arcsec, 30 deg", "BMAJ, BMIN, BPA")
    assert told["position"] == ("150.000000, 2.000000 deg ICRS", "coordinates of the data")
    assert told["error"] == ("standard deviation in the unit of the data", "extension ERROR")
    assert told["instrument"] == ("NOEMA", "--instrument")
    assert told["time"] == ("MJD 58909.500000 UTC", "DATE-OBS")
    assert told["frequency"] == ("90 ... 93.98 GHz", "CTYPE3 = FREQ in Hz")
    assert POSITION["RA"] == 150.0


def test_parameters_of_a_projection_keep_their_order(tmp_path: Path) -> None:
    """The event is the same in every process, whatever the order of its sets."""
    parameters = {f"PV2_{number}": 0.0 for number in range(1, 3)}
    found = read_map(map_file(tmp_path, **parameters)).continuum_map
    assert found is not None
    written = [found.wcs_header.index(name) for name in parameters]
    assert written == sorted(written)
