"""Fluxes, errors and limits arrive in the unit of their own column, or are asked for."""

import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.table import Column, MaskedColumn, Table
from hypothesis import given, settings
from hypothesis import strategies as st

from mmbroker.processors.ingest.mapping import Mapping, MappingError
from mmbroker.processors.ingest.tables import Row, read_table
from mmbroker.processors.validation import problems
from mmbroker.schemas.events import BandMeasurement

MAPPING = """
name = "fluxes"
id = "{id}"
time = 2020-01-01
position = { right_ascension = "ra", declination = "dec", error_arcsec = 0.5 }
[[photometry]]
instrument = "SCUBA-2"
bands = [{ name = "850", wavelength = "850 um", flux = "S", error = "e_S" }]
"""
HZ = (850 * u.um).to(u.Hz, u.spectral())


def mapping(band: dict[str, Any] | None = None, **group: Any) -> Mapping:
    content = tomllib.loads(MAPPING)
    missing = group.pop("anywhere", None)
    content["photometry"][0] |= group
    content["photometry"][0]["bands"][0] |= band or {}
    if missing is not None:
        content["missing"] = missing
    return Mapping.model_validate(content)


def written(folder: Path, columns: dict[str, Any]) -> Path:
    path = folder / "fluxes.ecsv"
    rows = len(next(iter(columns.values())))
    place = {"id": list(range(1, rows + 1)), "ra": [10.0] * rows, "dec": [2.0] * rows}
    Table(place | columns).write(path, overwrite=True)
    return path


def read(folder: Path, columns: dict[str, Any], using: Mapping | None = None) -> list[Row]:
    return list(read_table(written(folder, columns), using or mapping()))


def band_of(row: Row) -> BandMeasurement:
    assert row.problems == []
    photometry = row.observations[0].photometry
    assert photometry is not None
    (found,) = photometry.measurements
    return found


UNITS = ["Jy", "mJy", "uJy", "1e-7 Jy", "W m-2 Hz-1", "erg s-1 cm-2 Hz-1", "mag(AB)", "dex(Jy)"]
LINEAR = [unit for unit in UNITS if "(" not in unit]


@settings(max_examples=60)
@given(
    flux=st.floats(1e-5, 1.0),
    relative=st.floats(0.001, 0.3),
    unit=st.sampled_from(UNITS),
    error_unit=st.sampled_from([*LINEAR, "%"]),
    limit_unit=st.sampled_from(UNITS),
)
def test_each_column_is_read_in_its_own_unit(
    tmp_path_factory: pytest.TempPathFactory,
    flux: float,
    relative: float,
    unit: str,
    error_unit: str,
    limit_unit: str,
) -> None:
    def column(jansky: list[float], unit: str) -> Column:
        return Column((jansky * u.Jy).to_value(u.Unit(unit)), unit=unit)

    error = [relative * flux] * 2
    columns = {
        "S": column([flux, flux], unit),
        "e_S": Column([100.0 * relative] * 2, unit="%")
        if error_unit == "%"
        else column(error, error_unit),
        "u_S": column([flux, 3 * flux], limit_unit),
    }
    columns["S"][1] = np.nan
    rows = read(tmp_path_factory.mktemp("fluxes"), columns, mapping({"limit": "u_S"}))
    measured = band_of(rows[0])
    assert measured.flux_density_jy == pytest.approx(flux, rel=1e-9)
    assert measured.flux_error_jy == pytest.approx(relative * flux, rel=1e-9)
    if error_unit != "%":  # of no flux
        limit = band_of(rows[1])
        assert (limit.flux_density_jy, limit.upper_limit_jy) == (None, pytest.approx(3 * flux))


@pytest.mark.parametrize(
    ("unit", "step"), [("mag(AB)", "mag"), ("mag(AB)", None), ("dex(Jy)", "dex"), ("Jy", "mag")]
)
def test_small_errors_of_logarithms_are_relative(
    tmp_path: Path, unit: str, step: str | None
) -> None:
    flux = (0.01 * u.Jy).to_value(u.Unit(unit))
    columns = {"S": Column([flux], unit=unit), "e_S": Column([0.01], unit=step)}
    measured = band_of(read(tmp_path, columns)[0])
    per_step = np.log(10.0) * (1.0 if step == "dex" else 0.4)
    assert measured.flux_error_jy == pytest.approx(0.01 * 0.01 * per_step)


def test_a_unit_in_the_mapping_is_that_of_all_and_words_say_where_they_differ(
    tmp_path: Path,
) -> None:
    columns = {"S": Column([5.0], unit="Jy"), "e_S": Column([100.0], unit="Jy")}
    measured = band_of(read(tmp_path, columns, mapping(unit="mJy"))[0])
    assert (measured.flux_density_jy, measured.flux_error_jy) == (0.005, 0.1)
    measured = band_of(read(tmp_path, columns, mapping(unit="mJy", error_unit="uJy"))[0])
    assert measured.flux_error_jy == pytest.approx(1e-4)
    measured = band_of(read(tmp_path, columns, mapping(unit="mJy", error_unit="%"))[0])
    assert measured.flux_error_jy == pytest.approx(0.005)


@pytest.mark.parametrize(("unit", "flux_jy"), [("JY", 5.0), ("UJY", 5e-6), ("ujy", 5e-6)])
def test_units_in_capitals_are_what_they_can_only_mean(
    tmp_path: Path, unit: str, flux_jy: float
) -> None:
    columns = {"S": [5.0], "e_S": [1.0]}
    measured = band_of(read(tmp_path, columns, mapping(unit=unit))[0])
    assert measured.flux_density_jy == pytest.approx(flux_jy)


def test_nanomaggies_have_the_zero_point_of_ab(tmp_path: Path) -> None:
    columns = {"S": [10.0], "e_S": [0.5]}
    measured = band_of(read(tmp_path, columns, mapping(unit="nanomaggy"))[0])
    assert measured.flux_density_jy == pytest.approx(36.308e-6, rel=1e-4)
    assert measured.flux_error_jy == pytest.approx(1.815e-6, rel=1e-3)


@pytest.mark.parametrize(
    ("unit", "said"),
    [
        ("AB", "did you mean ABmag?"),
        ("ST", "did you mean STmag?"),
        ("mag", "did you mean ABmag?"),
        ("MJY", "may be milli or mega"),
        ("mJy/beam", "write mJy"),
        ("K", "not convertible"),
        ("Jy2", "not convertible"),
        ("1 / Jy2", "not convertible"),
    ],
)
def test_what_is_no_flux_density_is_refused(tmp_path: Path, unit: str, said: str) -> None:
    columns = {"S": [5.0], "e_S": [1.0]}
    with pytest.raises(MappingError) as error:
        read(tmp_path, columns, mapping(unit=unit))
    assert "photometry[0].bands[0].unit" in str(error.value)
    assert said in str(error.value)
    stated = u.Unit(unit, parse_strict="silent")
    with pytest.raises(MappingError) as error:
        read(tmp_path, columns | {"S": Column([5.0], unit=stated)})
    assert said in str(error.value)
    if unit == "mag":  # an error in magnitudes is one of any system
        return
    with pytest.raises(MappingError) as error:
        read(tmp_path, {"S": Column([5.0], unit="mJy"), "e_S": Column([1.0], unit=stated)})
    assert "photometry[0].bands[0].error_unit" in str(error.value)


@pytest.mark.parametrize("error", [np.nan, np.inf])
def test_a_flux_without_an_error_is_told_and_the_others_are_published(
    tmp_path: Path, error: float
) -> None:
    columns = {"S": Column([5.0, 6.0], unit="mJy"), "e_S": Column([error, 1.5], unit="mJy")}
    bare, whole = read(tmp_path, columns)
    assert bare.observations == []
    assert bare.problems == [
        "S = 5.0 has no error in e_S: set error_where_missing or percent_where_missing"
    ]
    assert band_of(whole).flux_error_jy == pytest.approx(0.0015)


def test_a_masked_error_is_none_either(tmp_path: Path) -> None:
    errors = MaskedColumn([1.0, 1.5], mask=[True, False], unit="mJy")
    bare, _ = read(tmp_path, {"S": Column([5.0, 6.0], unit="mJy"), "e_S": errors})
    assert "S = 5.0 has no error in e_S" in bare.problems[0]


@pytest.mark.parametrize("flux", [np.inf, -np.inf])
def test_an_infinite_flux_is_told(tmp_path: Path, flux: float) -> None:
    (row,) = read(tmp_path, {"S": Column([flux], unit="mJy"), "e_S": [1.0]})
    assert row.observations == []
    assert row.problems == [f"S = {flux} is not a finite number"]


@pytest.mark.parametrize(
    ("words", "errors"),
    [
        ({"error_where_missing": 2.0}, (0.002, 0.0015)),
        ({"percent_where_missing": 10.0}, (0.0005, 0.0015)),
        ({"error": 2.0}, (0.002, 0.002)),
        ({"error": 10.0, "error_unit": "%"}, (0.0005, 0.0006)),
        ({"error": None, "percent_where_missing": 10.0}, (0.0005, 0.0006)),
        ({"error": ["e_S", "E_S"]}, (0.0025, 0.0025)),
    ],
)
def test_the_mapping_may_say_what_the_error_is(
    tmp_path: Path, words: dict[str, Any], errors: tuple[float, float]
) -> None:
    first = 0.5 if isinstance(words.get("error"), list) else np.nan
    columns = {
        "S": Column([5.0, 6.0], unit="mJy"),
        "e_S": Column([first, 1.5], unit="mJy"),
        "E_S": Column([-2.5, 2.5], unit="mJy"),
    }
    rows = read(tmp_path, columns, mapping(words))
    assert tuple(band_of(row).flux_error_jy for row in rows) == pytest.approx(errors)


def test_a_sentinel_in_an_error_up_or_down_is_no_error(tmp_path: Path) -> None:
    columns = {"S": Column([5.0], unit="mJy"), "e_S": [-99.0], "E_S": [1.0]}
    both = {"error": ["e_S", "E_S"]}
    with pytest.raises(MappingError, match=r"missing is not set, and e_S = -99"):
        read(tmp_path, columns, mapping(both))
    (row,) = read(tmp_path, columns, mapping(both, anywhere=[-99]))
    assert (row.observations, row.problems) == ([], [])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"error": None}, "set error, or error_where_missing"),
        ({"error_where_missing": 1.0, "percent_where_missing": 5.0}, "not both"),
    ],
)
def test_a_band_needs_an_error(words: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        mapping(words)


def test_a_flag_makes_a_flux_a_limit_where_the_mapping_names_it(tmp_path: Path) -> None:
    columns = {
        "l_S": ["<", "", ">"],
        "S": Column([9.0, 5.0, 7.0], unit="mJy"),
        "e_S": Column([np.nan, 1.0, 1.0], unit="mJy"),
    }
    limit, measured, other = read(tmp_path, columns, mapping({"limit_flag": "l_S"}))
    assert band_of(limit).flux_density_jy is None
    assert band_of(limit).upper_limit_jy == pytest.approx(0.009)
    assert band_of(limit).flux_error_jy == pytest.approx(0.003)
    assert band_of(measured).flux_density_jy == pytest.approx(0.005)
    assert other.observations == []
    assert "l_S = '>' marks S" in other.problems[0]


def test_a_flag_that_the_mapping_does_not_name_is_asked_for(tmp_path: Path) -> None:
    columns = {"l_S": ["<", ""], "S": Column([9.0, 5.0], unit="mJy"), "e_S": [3.0, 1.0]}
    flagged, measured = read(tmp_path, columns)
    assert flagged.observations == []
    assert "say with limit_flag = 'l_S'" in flagged.problems[0]
    assert band_of(measured).flux_density_jy == pytest.approx(0.005)


@pytest.mark.parametrize(("flag", "is_limit"), [(1, True), (0, False)])
def test_flags_may_be_numbers(tmp_path: Path, flag: int, is_limit: bool) -> None:
    columns = {"upper": [flag], "S": Column([9.0], unit="mJy"), "e_S": [3.0]}
    using = mapping({"limit_flag": "upper"}, limit_values=["1"])
    (row,) = read(tmp_path, columns, using)
    assert (band_of(row).flux_density_jy is None) == is_limit


@pytest.mark.parametrize("value", [-99.0, -99.99, -999.0])
def test_a_usual_sentinel_is_asked_for(tmp_path: Path, value: float) -> None:
    columns = {"S": Column([5.0, value], unit="mJy"), "e_S": Column([1.0, 1.0], unit="mJy")}
    with pytest.raises(MappingError, match=rf"missing is not set.*S = {value:g} in row 2"):
        read(tmp_path, columns)
    assert read(tmp_path, columns, mapping(anywhere=[value]))[1].observations == []
    kept = band_of(read(tmp_path, columns, mapping(anywhere=[]))[1])
    assert kept.flux_density_jy == pytest.approx(value * 1e-3)


@pytest.mark.parametrize(
    ("text", "jansky"), [("1.5D-3", 1.5e-6), ("1.5d+0", 1.5e-3), ("−1.5", -1.5e-3)]
)
def test_numbers_are_read_as_tables_write_them(tmp_path: Path, text: str, jansky: float) -> None:
    columns = {"S": Column([text], unit="mJy"), "e_S": Column([1.0], unit="mJy")}
    assert band_of(read(tmp_path, columns)[0]).flux_density_jy == pytest.approx(jansky)


@pytest.mark.parametrize("text", ["1,234.5", "1_000", "<5.0", "5.0?", "0x10"])
def test_other_texts_are_no_numbers(tmp_path: Path, text: str) -> None:
    columns = {"S": Column([text], unit="mJy"), "e_S": Column([1.0], unit="mJy")}
    (row,) = read(tmp_path, columns)
    assert row.observations == []
    assert row.problems == [f"S = {text!r} is not a number"]


@pytest.mark.parametrize(("zero", "null"), [(0, -99), (32768, -32768), (32768.0, -32768)])
def test_the_null_of_a_scaled_column_is_that_of_its_stored_numbers(
    tmp_path: Path, zero: float, null: int
) -> None:
    path = tmp_path / "fluxes.fits"
    columns = [
        fits.Column("id", "J", array=[1, 2]),
        fits.Column("ra", "D", array=[10.0, 10.0]),
        fits.Column("dec", "D", array=[2.0, 2.0]),
        fits.Column("S", "I", unit="mJy", array=np.array([50, null], dtype="i2"), null=null),
        fits.Column("e_S", "D", unit="mJy", array=[1.0, 1.0]),
    ]
    fits.BinTableHDU.from_columns(columns).writeto(path)
    content = path.read_bytes()
    cards = [f"TZERO4  = {zero:20}".ljust(80)]
    cards += ["TSCAL4  =                  0.1".ljust(80)] if zero == 0 else []
    end = content.index(b"END" + b" " * 77, 2880)
    new = "".join([*cards, "END".ljust(80)]).encode()
    path.write_bytes(content[:end] + new + content[end + len(new) :])
    first, second = read_table(path, mapping())
    wanted = 5.0 if zero == 0 else 50.0 + zero
    assert band_of(first).flux_density_jy == pytest.approx(wanted * 1e-3)
    assert second.observations == []


def test_ids_may_hold_spaces_and_brackets(tmp_path: Path) -> None:
    path = written(tmp_path, {"S": Column([5.0], unit="mJy"), "e_S": [1.0]})
    table = Table.read(path)
    table["id"] = ["[ABC 2009] 7 {x}"]
    table.write(path, overwrite=True)
    (row,) = read_table(path, mapping())
    assert row.observations[0].observation_id == "fluxes/[ABC 2009] 7 {x}/SCUBA-2"
    assert problems(row.observations[0]) == []


LINES = """
name = "lines"
id = "{id}"
time = 2020-01-01
position = { right_ascension = "ra", declination = "dec", error_arcsec = 0.5 }
[[line_spectrum]]
instrument = "line flux"
redshift = ["z"]
fwhm_km_s = "width"
lines = [{ name = "CO(3-2)", flux = "S", error = "e_S" }]
[published.optical]
redshift = "zp"
"""


def test_line_fluxes_and_widths_are_read_in_their_unit(tmp_path: Path) -> None:
    using = Mapping.model_validate(tomllib.loads(LINES))
    plain: dict[str, Any] = {"z": [2.0], "width": [300.0], "S": [5.0], "e_S": [0.5], "zp": [2.0]}
    (wanted,) = read(tmp_path, plain, using)
    stated = plain | {
        "width": Column([300_000.0], unit="m/s"),
        "S": Column([5000.0], unit="mJy km/s"),
        "e_S": Column([500.0], unit="mJy km/s"),
    }
    (found,) = read(tmp_path, stated, using)
    for one, other in zip(found.observations, wanted.observations, strict=True):
        if one.spectrum is not None and other.spectrum is not None:
            assert one.spectrum.flux_density_jy == pytest.approx(other.spectrum.flux_density_jy)
    for name, unit in (("S", "K km/s"), ("zp", "km/s"), ("width", "GHz")):
        with pytest.raises(MappingError, match=f"'{name}' states the unit"):
            read(tmp_path, plain | {name: Column(plain[name], unit=unit)}, using)
