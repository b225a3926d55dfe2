"""Tables become observations as their mapping says, and never otherwise."""

import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy import units as u
from astropy.table import MaskedColumn, Table
from hypothesis import given
from hypothesis import strategies as st

from mmbroker.processors.ingest.designations import position_in
from mmbroker.processors.ingest.mapping import (
    LARGEST_BYTES,
    Mapping,
    MappingError,
    find_mapping,
    included,
    load_mapping,
)
from mmbroker.processors.ingest.tables import Row, read_table
from mmbroker.processors.relations import LINES_HZ, SPEED_OF_LIGHT_KM_S
from mmbroker.processors.validation import problems
from mmbroker.schemas.events import Observation

MAPPING = """
name = "survey"
id = "{field}-{id}"
time = 2020-01-01
bibcode = "{paper}"
missing = [-99, 1e10]

[position]
right_ascension = "ra"
declination = "dec"
error_arcsec = 0.4

[[photometry]]
instrument = "SPIRE"
unit = "mJy"
bands = [{ name = "SPIRE-250", wavelength = "250 um", flux = "f250", error = "e250" }]

[[photometry]]
instrument = "Subaru"
unit = "ABmag"
bands = [{ name = "Subaru-r", wavelength = "0.6232 um", flux = "r", error = "e_r" }]

[published.eazy]
method = "EAZY"
redshift = "zp"
lower = "zl"
upper = "zu"

[truth]
redshift = "zs"
"""
ROW: dict[str, Any] = {
    "field": "A", "id": 1, "paper": "2020ApJ...900....1X", "ra": 150.5, "dec": -2.5,
    "f250": 12.0, "e250": 2.0, "r": 23.9, "e_r": 0.1, "zp": 2.0, "zl": 1.8, "zu": 2.3, "zs": 2.05,
}  # fmt: skip


def mapping(text: str = MAPPING, **changes: Any) -> Mapping:
    return Mapping.model_validate(tomllib.loads(text) | changes)


def rows(folder: Path, *changes: dict[str, Any], using: Mapping | None = None) -> list[Row]:
    path = folder / "survey.ecsv"
    whole = [ROW | change for change in changes]
    Table(rows=whole).write(path, overwrite=True)
    return list(read_table(path, using or mapping()))


def instruments(row: Row) -> list[str]:
    return [observation.instrument for observation in row.observations]


def test_a_row_gives_one_observation_for_each_instrument_and_published_redshift(
    tmp_path: Path,
) -> None:
    (row,) = rows(tmp_path, {})
    assert instruments(row) == ["SPIRE", "Subaru", "EAZY"]
    spire, subaru, eazy = row.observations
    assert spire.observation_id == "survey/A-1/SPIRE"
    assert (spire.right_ascension_deg, spire.declination_deg) == (150.5, -2.5)
    assert spire.position_error_arcsec == 0.4
    assert spire.time_mjd == 58_849.0
    assert spire.acquisition.bibcode == "2020ApJ...900....1X"
    assert not spire.simulated
    assert spire.photometry is not None
    (band,) = spire.photometry.measurements
    assert band.flux_density_jy == pytest.approx(0.012)
    assert band.flux_error_jy == pytest.approx(0.002)
    assert band.frequency_hz == pytest.approx(1.19917e12, rel=1e-5)
    assert subaru.photometry is not None
    assert subaru.photometry.measurements[0].flux_density_jy == pytest.approx(1e-6, rel=1e-3)
    assert subaru.photometry.measurements[0].flux_error_jy == pytest.approx(9.21e-8, rel=1e-2)
    assert eazy.photometric_redshift is row.published["eazy"]
    assert (row.published["eazy"].lower_68, row.published["eazy"].upper_68) == (1.8, 2.3)
    assert row.true_redshift == 2.05
    assert not any(problems(observation) for observation in row.observations)


def test_reading_twice_gives_the_same_ids(tmp_path: Path) -> None:
    def ids() -> list[str]:
        return [o.observation_id for row in rows(tmp_path, {}, {"id": 2}) for o in row.observations]

    assert ids() == ids()
    assert len(set(ids())) == 6


@pytest.mark.parametrize("flux", [-99.0, np.nan])
def test_a_missing_flux_is_not_observed(tmp_path: Path, flux: float) -> None:
    (row,) = rows(tmp_path, {"f250": flux, "e250": 1e10})
    assert instruments(row) == ["Subaru", "EAZY"]


def test_an_error_that_means_missing_hides_the_flux(tmp_path: Path) -> None:
    (row,) = rows(tmp_path, {"f250": 3.0, "e250": 1e10})
    assert "SPIRE" not in instruments(row)


def test_a_negative_flux_is_a_measurement(tmp_path: Path) -> None:
    (row,) = rows(tmp_path, {"f250": -1.5})
    photometry = row.observations[0].photometry
    assert photometry is not None
    assert photometry.measurements[0].flux_density_jy == pytest.approx(-0.0015)


def test_a_masked_cell_is_not_observed(tmp_path: Path) -> None:
    table = Table(rows=[ROW])
    table["f250"] = MaskedColumn(table["f250"], mask=[True])
    table.write(tmp_path / "survey.ecsv")
    (row,) = read_table(tmp_path / "survey.ecsv", mapping())
    assert "SPIRE" not in instruments(row)


def test_a_missing_redshift_is_neither_published_nor_true(tmp_path: Path) -> None:
    (row,) = rows(tmp_path, {"zp": -99.0, "zs": -99.0})
    assert row.published == {}
    assert row.true_redshift is None


def test_an_interval_that_does_not_hold_the_estimate_is_left_out(tmp_path: Path) -> None:
    (row,) = rows(tmp_path, {"zp": 2.5})
    assert row.published["eazy"].redshift == 2.5
    assert row.published["eazy"].lower_68 is None
    assert row.published["eazy"].upper_68 is None


LIMITS = MAPPING.replace('error = "e250"', 'error = "e250", limit = "l250"')


def test_a_flux_of_nan_beside_an_error_is_an_upper_limit_where_the_mapping_says_so(
    tmp_path: Path,
) -> None:
    text = MAPPING.replace('instrument = "SPIRE"', 'instrument = "SPIRE"\nlimit_sigma = 3')
    (row,) = rows(tmp_path, {"f250": np.nan}, using=mapping(text))
    photometry = row.observations[0].photometry
    assert photometry is not None
    (band,) = photometry.measurements
    assert band.flux_density_jy is None
    assert band.flux_error_jy == pytest.approx(0.002)
    assert band.upper_limit_jy == pytest.approx(0.006)
    assert "SPIRE" not in instruments(rows(tmp_path, {"f250": np.nan})[0])


def test_an_upper_limit_may_have_its_own_column(tmp_path: Path) -> None:
    (row,) = rows(tmp_path, {"f250": np.nan, "e250": np.nan, "l250": 9.0}, using=mapping(LIMITS))
    photometry = row.observations[0].photometry
    assert photometry is not None
    (band,) = photometry.measurements
    assert (band.flux_density_jy, band.upper_limit_jy) == (None, pytest.approx(0.009))
    assert band.flux_error_jy == pytest.approx(0.003)


def test_the_unit_may_be_that_of_the_column(tmp_path: Path) -> None:
    table = Table(rows=[ROW])
    table["f250"].unit = table["e250"].unit = u.uJy
    table.write(tmp_path / "survey.ecsv")
    text = MAPPING.replace('unit = "mJy"\n', "")
    (row,) = read_table(tmp_path / "survey.ecsv", mapping(text))
    photometry = row.observations[0].photometry
    assert photometry is not None
    assert photometry.measurements[0].flux_density_jy == pytest.approx(12e-6)


@pytest.mark.parametrize("suffix", ["fits", "csv", "vot", "txt"])
def test_every_kind_of_table_reads_the_same(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"survey.{suffix}"
    form = {"txt": "ascii.commented_header", "vot": "votable"}.get(suffix)
    Table(rows=[ROW, ROW | {"id": 2, "f250": np.nan}]).write(path, format=form)
    options = {"table": {"format": form}} if form else {}
    read = list(read_table(path, mapping(**options)))
    wanted = rows(tmp_path, {}, {"id": 2, "f250": np.nan})
    assert [each.observations[0].observation_id for each in read] == [
        each.observations[0].observation_id for each in wanted
    ]
    assert [each.observations[0].photometry for each in read] == [
        each.observations[0].photometry for each in wanted
    ]


def test_a_cell_that_is_no_number_costs_its_row_a_problem(tmp_path: Path) -> None:
    good, bad = rows(tmp_path, {"f250": "12.0"}, {"id": 2, "f250": "bright"})
    assert (good.problems, bad.problems) == ([], ["f250 = 'bright' is not a number"])
    assert "SPIRE" in instruments(good)
    assert "SPIRE" not in instruments(bad)


def test_a_row_without_a_position_gives_a_problem_and_nothing_else(tmp_path: Path) -> None:
    (row,) = rows(tmp_path, {"ra": -99.0})
    assert row.observations == []
    assert row.problems == [
        "position: ra = nan, dec = -2.5, position error = 0.4 is not a position"
    ]


def test_two_rows_of_one_id_are_told_and_only_the_first_is_published(tmp_path: Path) -> None:
    first, second = rows(tmp_path, {}, {"f250": 1.0})
    assert first.problems == []
    assert second.observations == []
    assert second.problems == ["id = 'A-1' is that of row 1 too"]


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        (("f250", "f_250"), "photometry[0].bands[0].flux = 'f_250'"),
        (('"ra"', '"raj2000"'), "position.right_ascension = 'raj2000'"),
        (("{paper}", "{ref}"), "bibcode = 'ref'"),
        (('"zl"', '"z_low"'), "published.eazy.lower = 'z_low'"),
        (('"zs"', '"z_spec"'), "truth.redshift = 'z_spec'"),
        (("mJy", "K km/s"), "photometry[0].bands[0].unit = K km / s"),
        (("mJy", "florin"), "photometry[0].bands[0].unit = 'florin'"),
        (
            ("mJy", "mJyy"),
            "unit = 'mJyy' is no unit: 'mJyy' did not parse as unit: At col 0, mJyy is",
        ),
        (("2020-01-01", '"epoch"'), "time = 'epoch'"),
    ],
)
def test_a_mapping_that_does_not_fit_names_its_key_and_the_columns(
    tmp_path: Path, changed: tuple[str, str], named: str
) -> None:
    with pytest.raises(MappingError) as error:
        rows(tmp_path, {}, using=mapping(MAPPING.replace(*changed)))
    assert str(error.value).startswith(f"{tmp_path / 'survey.ecsv'}, mapping survey: ")
    assert named in str(error.value)
    assert "def_unit" not in str(error.value)
    if "unit" not in named:
        assert "its columns are field, id, paper, ra, dec, f250" in str(error.value)


def test_sexagesimal_positions_and_every_kind_of_minus_are_read(tmp_path: Path) -> None:
    (row,) = rows(tmp_path, {"ra": "5:51:54.65", "dec": "−48:25:01.8"})
    assert row.observations[0].right_ascension_deg == pytest.approx(87.977708, abs=1e-6)
    assert row.observations[0].declination_deg == pytest.approx(-48.417167, abs=1e-6)


def test_hours_are_not_taken_for_degrees_nor_degrees_for_hours(tmp_path: Path) -> None:
    first, second = rows(
        tmp_path, {"ra": "5:51:54.65", "dec": "-48:25:01"}, {"ra": "11", "dec": "-48"}
    )
    assert first.observations[0].right_ascension_deg == pytest.approx(87.977708, abs=1e-6)
    assert second.observations == []
    assert "ra = '11' is not sexagesimal, as other rows are" in second.problems[0]


def test_positions_in_another_frame_are_converted(tmp_path: Path) -> None:
    text = MAPPING.replace("error_arcsec", 'frame = "galactic"\nerror_arcsec')
    (row,) = rows(tmp_path, {"ra": 0.0, "dec": 90.0}, using=mapping(text))
    assert row.observations[0].right_ascension_deg == pytest.approx(192.85948, abs=1e-3)
    assert row.observations[0].declination_deg == pytest.approx(27.12825, abs=1e-3)


def test_a_joined_table_adds_its_columns_by_key(tmp_path: Path) -> None:
    other = Table({"name": ["B", "A"], "flux": [5.0, 7.0], "error": [1.0, 1.0]})
    other.write(tmp_path / "other.ecsv")
    text = MAPPING.replace('"f250"', '"o.flux"').replace('"e250"', '"o.error"')
    join = [{"name": "o", "file": "other.ecsv", "key": "field", "other_key": "name"}]
    first, second = rows(tmp_path, {}, {"field": "C"}, using=mapping(text, join=join))
    assert first.observations[0].photometry is not None
    assert first.observations[0].photometry.measurements[0].flux_density_jy == 0.007
    assert "SPIRE" not in instruments(second)


LINES = """
name = "lines"
id = "{name}"
time = 2020-01-01
[position]
designation = ["name"]
error_arcsec = 1
[[line_spectrum]]
instrument = "line flux"
redshift = ["z"]
fwhm_km_s = "fwhm"
lines = [
  { name = "CO(3-2)", flux = "co32", error = "e_co32" },
  { name = "CO(4-3)", flux = "co43", error = "e_co43" },
]
"""


def line_observation(folder: Path, **changes: Any) -> Observation:
    row = {
        "name": "H-ATLASJ083051.0+013224", "z": 3.6, "fwhm": 400.0,
        "co32": 8.0, "e_co32": 0.5, "co43": np.nan, "e_co43": np.nan,
    }  # fmt: skip
    Table(rows=[row | changes]).write(folder / "lines.ecsv", overwrite=True)
    (read,) = read_table(folder / "lines.ecsv", mapping(LINES))
    assert read.problems == []
    (observation,) = read.observations
    return observation


@pytest.mark.parametrize(
    "words",
    ["channel_km_s = 1e-4", "window_km_s = 1e12", "noise_mjy = 2\ncoverage_ghz = [1, inf]"],
)
def test_a_spectrum_of_more_channels_than_may_be_published_is_not_made(
    tmp_path: Path, words: str
) -> None:
    line_observation(tmp_path)
    using = mapping(LINES.replace("fwhm_km_s", f"{words}\nfwhm_km_s"))
    (row,) = read_table(tmp_path / "lines.ecsv", using)
    assert row.observations == []
    assert "more than 65,536" in row.problems[0]


def test_ids_are_not_padded_without_end(tmp_path: Path) -> None:
    with pytest.raises(MappingError, match=r"id = .*'>999999999' makes texts of 1,000 and more"):
        rows(tmp_path, {}, using=mapping(id="{id:>999999999}"))


def test_a_mapping_nested_without_end_is_told(tmp_path: Path) -> None:
    (tmp_path / "deep.toml").write_text("name = " + "[" * 5000)
    with pytest.raises(MappingError, match=r"deep\.toml: maximum recursion depth"):
        load_mapping(tmp_path / "deep.toml")


def test_a_spectrum_of_a_line_flux_is_simulated_and_holds_that_flux(tmp_path: Path) -> None:
    errors = []
    for seed in range(20):
        name = f"H-ATLASJ0830{seed:02d}.0+013224"
        observation = line_observation(tmp_path, name=name)
        assert observation.simulated
        assert problems(observation) == []
        spectrum = observation.spectrum
        assert spectrum is not None
        velocity = SPEED_OF_LIGHT_KM_S * np.log(spectrum.frequency_hz / (LINES_HZ["CO(3-2)"] / 4.6))
        assert np.abs(velocity).max() == pytest.approx(1500, abs=50)
        sigma = 400 / 2.3548
        profile = np.exp(-0.5 * (velocity / sigma) ** 2) / (sigma * np.sqrt(2 * np.pi))
        weight = 1 / spectrum.flux_error_jy**2
        fitted = np.sum(weight * profile * spectrum.flux_density_jy) / np.sum(weight * profile**2)
        assert 1 / np.sqrt(np.sum(weight * profile**2)) == pytest.approx(0.5, rel=0.01)
        errors.append((fitted - 8.0) / 0.5)
    assert abs(np.mean(errors)) < 4 / np.sqrt(20)
    assert 0.5 < np.std(errors) < 1.6


def test_neighbouring_lines_share_one_axis(tmp_path: Path) -> None:
    observation = line_observation(tmp_path, co43=9.0, e_co43=1.0)
    assert observation.spectrum is not None
    assert np.all(np.diff(observation.spectrum.frequency_hz) > 0)
    assert len(observation.spectrum.frequency_hz) == 120


def test_a_simulated_spectrum_is_the_same_every_time(tmp_path: Path) -> None:
    first, second = line_observation(tmp_path), line_observation(tmp_path)
    assert first.spectrum is not None
    assert second.spectrum is not None
    assert np.array_equal(first.spectrum.flux_density_jy, second.spectrum.flux_density_jy)


@given(st.floats(0, 24, exclude_max=True), st.floats(-89.9, 89.9))
def test_a_designation_holds_the_position_within_its_error(hours: float, degrees: float) -> None:
    def truncated(value: float, digits: int) -> tuple[int, int, float]:
        units = int(abs(value) * 3600 * 10**digits)
        whole, rest = divmod(units, 3600 * 10**digits)
        minutes, seconds = divmod(rest, 60 * 10**digits)
        return whole, minutes, seconds / 10**digits

    (h, m, s), (d, n, t) = truncated(hours, 1), truncated(degrees, 0)
    sign = "-" if degrees < 0 else "+"
    found = position_in(f"XYZ J{h:02d}{m:02d}{s:04.1f}{sign}{d:02d}{n:02d}{t:02.0f}")
    assert found is not None
    most = found.error_arcsec * np.sqrt(12) / 2 * 1.001 / 3600
    assert abs(found.declination_deg - degrees) <= most
    assert abs(found.right_ascension_deg - 15 * hours) <= 0.751 / 3600


@pytest.mark.parametrize("name", ["GN20", "PJ105353.0", "SPT0311-58", "J256199.9+123456", ""])
def test_a_name_without_full_coordinates_has_no_position(name: str) -> None:
    assert position_in(name) is None


def test_a_mapping_beside_the_table_is_found(tmp_path: Path) -> None:
    (tmp_path / "survey.toml").write_text(MAPPING)
    assert find_mapping(tmp_path / "survey.ecsv").name == "survey"
    assert find_mapping(tmp_path / "goodsn.ecsv").name == "goodsn"


def test_no_mapping_is_an_error_that_lists_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(
        MappingError, match="cosmos_fir, cosmos_superdeblended, digame, goodsn, spt, zcosmos"
    ):
        find_mapping(tmp_path / "unknown.ecsv")
    with pytest.raises(MappingError, match=r"spt_dndz_tab_a1\.txt: give that one"):
        find_mapping(tmp_path / "spt_dndz_tab_d1.txt")
    with pytest.raises(MappingError, match="included are cosmos_fir"):
        load_mapping("unknown")


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        (('"250 um"', '"250"'), "photometry[0].bands[0]"),
        (('"250 um"', '"250 umm"'), "Did you mean"),
        (('flux = "f250", ', ""), "photometry[0].bands[0].flux is missing"),
        (('lower = "zl"', ""), "published.eazy: "),
        (('id = "{field}-{id}"', 'id = "galaxy"'), "id = 'galaxy': names no column"),
        (('"Subaru"', '"SPIRE"'), "'SPIRE' has two sections"),
        (
            ("bibcode", "bibcod"),
            "bibcod: there is no such name (did you mean bib",
        ),
        (("[position]", "[positon]"), "positon: there is no such name (did you mean position"),
        (("error_arcsec = 0.4", ""), "position.error_arcsec is missing"),
        (("[truth]", "[truth"), "mapping"),
    ],
)
def test_a_wrong_mapping_file_names_its_key(
    tmp_path: Path, changed: tuple[str, str], named: str
) -> None:
    file = tmp_path / "wrong.toml"
    file.write_text(MAPPING.replace(*changed))
    with pytest.raises(MappingError) as error:
        load_mapping(file)
    assert named in str(error.value)
    assert "def_unit" not in str(error.value)
    assert str(file) in str(error.value)


@pytest.mark.parametrize("name", included())
def test_included_mappings_load(name: str) -> None:
    assert load_mapping(name).name == name


def test_a_mapping_that_is_too_large_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "large.toml"
    path.write_bytes(b'name = "large"\n# ' + b"x" * LARGEST_BYTES)
    with pytest.raises(MappingError, match=r"large\.toml: it has more than 1,048,576 bytes"):
        load_mapping(path)
