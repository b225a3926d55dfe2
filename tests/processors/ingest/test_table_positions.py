"""Positions and times arrive as the table states them, or are asked for."""

import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import FK4, FK5, Angle, SkyCoord
from astropy.io import fits
from astropy.table import Column, QTable
from astropy.time import Time, TimeDelta
from hypothesis import given, settings
from hypothesis import strategies as st

from mmbroker.processors.ingest.mapping import Mapping, MappingError
from mmbroker.processors.ingest.tables import Row, read_table
from mmbroker.processors.validation import problems

MAPPING = """
name = "places"
id = "{id}"
time = 2020-01-01
[position]
right_ascension = "ra"
declination = "dec"
error_arcsec = 0.5
[[photometry]]
instrument = "SCUBA-2"
unit = "mJy"
bands = [{ name = "850", wavelength = "850 um", flux = "S", error = "e_S" }]
"""


def mapping(time: Any = None, words: dict[str, Any] | None = None, **position: Any) -> Mapping:
    content = tomllib.loads(MAPPING) | (words or {})
    content["position"] |= position
    return Mapping.model_validate(content if time is None else content | {"time": time})


def written(folder: Path, columns: dict[str, Any], suffix: str = "ecsv") -> Path:
    path = folder / f"places.{suffix}"
    rows = len(next(iter(columns.values())))
    whole = columns | {"S": np.full(rows, 5.0), "e_S": np.full(rows, 1.0)}
    table = QTable({"id": list(range(rows))} | whole)
    table.write(path, overwrite=True, **({"format": "votable"} if suffix == "vot" else {}))
    return path


def places(rows: list[Row]) -> list[tuple[float, float]]:
    firsts = [row.observations[0] for row in rows if row.observations]
    return [(each.right_ascension_deg, each.declination_deg) for each in firsts]


def read(path: Path, using: Mapping) -> list[tuple[float, float]]:
    rows = list(read_table(path, using))
    assert not [problem for row in rows for problem in row.problems]
    return places(rows)


FRAMES: dict[str, tuple[Any, dict[str, str]]] = {
    "icrs": ("icrs", {"frame": "icrs"}),
    "J2000": ("icrs", {}),
    "galactic": ("galactic", {"frame": "galactic"}),
    "B1950": (FK4(equinox="B1950"), {"frame": "fk4"}),
    "B1950 in 1983": (FK4(obstime="J1983.5"), {"frame": "fk4", "epoch": "J1983.5"}),
    "J1975": (FK5(equinox="J1975"), {"frame": "fk5", "equinox": "J1975"}),
    "ecliptic": ("barycentrictrueecliptic", {"frame": "barycentrictrueecliptic"}),
}  # fmt: skip


@settings(max_examples=60)
@given(
    frame=st.sampled_from(sorted(FRAMES)),
    longitude=st.floats(0, 359.999),
    latitude=st.floats(-89.9, 89.9),
    units=st.sampled_from([("deg", "deg"), ("h", "deg"), ("rad", "rad"), ("arcmin", "arcsec")]),
    suffix=st.sampled_from(["ecsv", "fits", "vot", "csv"]),
    turned=st.booleans(),
)
def test_a_place_in_any_frame_unit_and_format_is_what_astropy_says_it_is(
    tmp_path_factory: pytest.TempPathFactory,
    frame: str,
    longitude: float,
    latitude: float,
    units: tuple[str, str],
    suffix: str,
    turned: bool,
) -> None:
    known, words = FRAMES[frame]
    wanted = SkyCoord(longitude, latitude, unit="deg", frame=known).icrs
    degrees = {"h": 15.0} | {unit: u.Unit(unit).to(u.deg) for unit in units if unit != "h"}
    if suffix == "csv":  # a format that has no place for units
        words = words | dict(zip(("right_ascension_unit", "declination_unit"), units, strict=True))
    columns = {
        "ra": Column([longitude / degrees[units[0]]], unit=units[0]),
        "dec": Column([latitude / degrees[units[1]]], unit=units[1]),
    }
    path = written(
        tmp_path_factory.mktemp("places"),
        dict(reversed(columns.items())) if turned else columns,
        suffix,
    )
    ((right_ascension, declination),) = read(path, mapping(**words))
    found = SkyCoord(right_ascension, declination, unit="deg")
    assert found.separation(wanted).arcsec < 1e-5


MACHINE_READABLE = """Title: Places
Authors: Nobody N.
Table: Places
================================================================================
Byte-by-byte Description of file: places.mrt
--------------------------------------------------------------------------------
   Bytes Format Units   Label   Explanations
--------------------------------------------------------------------------------
   1-  1 I1     ---     id      Number
   3-  4 I2     h       RAh     Hour of right ascension
   6-  7 I2     min     RAm     Minute of right ascension
   9- 15 F7.4   s       RAs     Second of right ascension
      17 A1     ---     DE-     Sign of declination
  18- 19 I2     deg     DEd     Degree of declination
  21- 22 I2     arcmin  DEm     Arcminute of declination
  24- 29 F6.3   arcsec  DEs     Arcsecond of declination
  31- 33 F3.1   mJy     S       Flux density
  35- 37 F3.1   mJy     e_S     Error of S
--------------------------------------------------------------------------------
"""


@settings(max_examples=30)
@given(st.floats(0, 359.99), st.one_of(st.floats(-89.99, 89.99), st.floats(-1.0, 1.0)))
def test_a_machine_readable_table_has_its_positions_in_seven_columns(
    tmp_path_factory: pytest.TempPathFactory, longitude: float, latitude: float
) -> None:
    hours, parts = Angle(longitude, "deg").hms, Angle(latitude, "deg").signed_dms
    path = tmp_path_factory.mktemp("mrt") / "places.mrt"
    path.write_text(
        f"{MACHINE_READABLE}1 {hours.h:02.0f} {hours.m:02.0f} {hours.s:07.4f} "
        f"{'-' if parts.sign < 0 else '+'}{parts.d:02.0f} {parts.m:02.0f} {parts.s:06.3f} 5.0 1.0\n"
    )
    using = mapping(right_ascension=["RAh", "RAm", "RAs"], declination=["DE-", "DEd", "DEm", "DEs"])
    ((right_ascension, declination),) = read(path, using)
    found = SkyCoord(right_ascension % 360.0, declination, unit="deg")
    assert found.separation(SkyCoord(longitude, latitude, unit="deg")).arcsec < 2e-3


PARTS = {"right_ascension": ["h", "m", "s"], "declination": ["d", "am", "as"]}


@pytest.mark.parametrize(("degrees", "wanted"), [("-00", -0.5), ("+00", 0.5), ("00", 0.5)])
def test_text_keeps_the_sign_of_zero_degrees(tmp_path: Path, degrees: str, wanted: float) -> None:
    path = tmp_path / "places.csv"
    path.write_text(f"id,h,m,s,d,am,as,S,e_S\n1,10,12,0,{degrees},30,0,5,1\n")
    assert read(path, mapping(**PARTS)) == [(pytest.approx(153.0), pytest.approx(wanted))]


def test_a_whole_number_of_zero_degrees_has_no_sign_and_is_told(tmp_path: Path) -> None:
    columns = {name: [value] for name, value in zip("hms", (10, 12, 0), strict=True)}
    path = written(tmp_path, columns | {"d": [0], "am": [30], "as": [0]}, "fits")
    (row,) = read_table(path, mapping(**PARTS))
    assert row.observations == []
    assert row.problems[0] == (
        "d = 0 has no sign: name the column of the sign first in position.declination"
    )


@pytest.mark.parametrize(("minutes", "said"), [(61, "m = 61 is not between"), (-1, "m = -1 is")])
def test_minutes_that_are_none_are_told(tmp_path: Path, minutes: int, said: str) -> None:
    path = tmp_path / "places.csv"
    path.write_text(f"id,h,m,s,d,am,as,S,e_S\n1,10,{minutes},0,2,30,0,5,1\n")
    (row,) = read_table(path, mapping(**PARTS))
    assert row.observations == []
    assert said in row.problems[0]


def test_the_first_part_of_a_position_is_not_the_position(tmp_path: Path) -> None:
    columns = {"RAh": [10], "RAm": [12], "DEd": [2], "DEm": [30]}
    path = written(tmp_path, columns)
    with pytest.raises(MappingError, match=r"'RAh' is a part.*\['RAh', 'RAm'\]"):
        list(read_table(path, mapping(right_ascension="RAh", declination="DEd")))


@pytest.mark.parametrize("unit", ['"h:m:s"', "hh:mm:ss.ss", "h", "hourangle", None])
def test_sexagesimal_text_is_in_hours_where_it_says_so_or_nothing(
    tmp_path: Path, unit: str | None
) -> None:
    right_ascension = Column(["10:12:00"], unit=unit and u.Unit(unit, parse_strict="silent"))
    path = written(tmp_path, {"ra": right_ascension, "dec": ["-00:30:00"]}, "vot")
    assert read(path, mapping()) == [(pytest.approx(153.0), -0.5)]


def test_sexagesimal_text_in_degrees_is_asked_for(tmp_path: Path) -> None:
    path = written(tmp_path, {"ra": Column(["153:30:00"], unit="deg"), "dec": ["-00:30:00"]})
    with pytest.raises(MappingError, match=r"right_ascension_unit.*say h or deg"):
        read(path, mapping())
    assert read(path, mapping(right_ascension_unit="deg")) == [(153.5, -0.5)]


@pytest.mark.parametrize(
    ("axis", "unit", "said"),
    [
        ("ra", "km", "position.right_ascension_unit : column 'ra' is in km"),
        ("dec", "h", "position.declination_unit : column 'dec' is in h"),
        ("ra", "dgree", "column 'ra' states 'dgree', which is no unit"),
        ("ra", '"h:m:s"', "is the unit of sexagesimal text"),
    ],
)
def test_a_unit_that_positions_cannot_have_is_refused(
    tmp_path: Path, axis: str, unit: str, said: str
) -> None:
    columns = {"ra": Column([10.2]), "dec": Column([2.0])}
    columns[axis].unit = u.Unit(unit, parse_strict="silent")
    with pytest.raises(MappingError) as error:
        read(written(tmp_path, columns), mapping())
    assert said.replace(" :", ":") in str(error.value).replace(" :", ":")


@pytest.mark.parametrize(
    ("stated", "said"),
    [
        ({"name": "RA_1950"}, "1950"),
        ({"name": "RAB1950"}, "B1950"),
        ({"name": "GLON"}, "GLON"),
        ({"description": "Right ascension (B1950)"}, "B1950"),
        ({"description": "Right ascension, equinox 1975"}, "equinox 1975"),
        ({"description": "Galactic longitude"}, "Galactic"),
    ],
)
def test_a_column_in_another_frame_is_asked_for(
    tmp_path: Path, stated: dict[str, str], said: str
) -> None:
    right_ascension = Column([10.2], unit="deg", description=stated.get("description"))
    name = stated.get("name", "ra")
    path = written(tmp_path, {name: right_ascension, "dec": [2.0]})
    with pytest.raises(MappingError) as error:
        read(path, mapping(right_ascension=name))
    assert f"position.frame is not set, and column {name!r} says {said!r}" in str(error.value)
    ((found, _),) = read(path, mapping(right_ascension=name, frame="icrs"))
    assert found == 10.2


@pytest.mark.parametrize("about", ["(J2000)", "(ICRS) at Ep=2016.0", "of the extragalactic source"])
def test_what_speaks_of_no_other_frame_is_read(tmp_path: Path, about: str) -> None:
    right_ascension = Column([10.2], unit="deg", description=f"Right ascension {about}")
    assert read(written(tmp_path, {"ra": right_ascension, "dec": [2.0]}), mapping()) == [(10.2, 2)]


@pytest.mark.parametrize("card", [("EQUINOX", 1950.0), ("RADESYS", "FK4"), ("EPOCH", 1950.0)])
def test_a_header_in_another_frame_is_asked_for(tmp_path: Path, card: tuple[str, Any]) -> None:
    path = written(tmp_path, {"ra": [10.2], "dec": [2.0]}, "fits")
    with fits.open(path, mode="update") as file:
        file[1].header[card[0]] = card[1]
    with pytest.raises(MappingError, match=rf"frame is not set.*says {card[0]} = {card[1]}"):
        read(path, mapping())
    wanted = SkyCoord(10.2, 2.0, unit="deg", frame="fk4").icrs
    assert read(path, mapping(frame="fk4")) == [(wanted.ra.deg, wanted.dec.deg)]


def test_the_coordinate_system_of_a_votable_is_looked_at(tmp_path: Path) -> None:
    path = written(tmp_path, {"ra": [10.2], "dec": [2.0]}, "vot")
    system = '<COOSYS ID="old" system="eq_FK4" equinox="B1950"/><TABLE'
    text = path.read_text().replace("<TABLE", system, 1).replace('ID="ra"', 'ID="ra" ref="old"')
    path.write_text(text)
    with pytest.raises(MappingError, match="column 'ra' says 'eq_FK4 B1950'"):
        read(path, mapping())
    path.write_text(text.replace("FK4", "FK5").replace("B1950", "J2000"))
    assert read(path, mapping()) == [(10.2, 2.0)]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"frame": "galactik"}, "did you mean galactic"),
        ({"frame": "altaz"}, "depends on when, or from where"),
        ({"frame": "galactic", "equinox": "B1950"}, "it has no equinox"),
        ({"frame": "fk5", "epoch": "J1990"}, "it has no epoch"),
        ({"frame": "fk5", "equinox": "yesterday"}, "yesterday"),
    ],
)
def test_a_frame_that_does_not_suffice_is_refused(
    tmp_path: Path, words: dict[str, str], said: str
) -> None:
    path = written(tmp_path, {"ra": [10.2], "dec": [2.0]})
    with pytest.raises(MappingError) as error:
        read(path, mapping(**words))
    assert "position.frame" in str(error.value)
    assert said in str(error.value)


def test_a_sentinel_in_another_frame_is_no_place(tmp_path: Path) -> None:
    path = written(tmp_path, {"ra": [-999.0], "dec": [2.0]})
    (row,) = read_table(path, mapping(frame="galactic"))
    assert row.observations == []
    assert "position: -999, 2 is no place in galactic" in row.problems


def test_a_column_of_sky_coordinates_is_read_in_icrs(tmp_path: Path) -> None:
    place = SkyCoord([120.0], [45.0], unit="deg", frame="galactic")
    path = written(tmp_path, {"place": place})
    using = mapping(right_ascension="place.ra", declination="place.dec")
    ((right_ascension, declination),) = read(path, using)
    assert right_ascension == pytest.approx(place.icrs.ra.deg[0])
    assert declination == pytest.approx(place.icrs.dec.deg[0])
    with pytest.raises(MappingError, match=r"column of SkyCoord.*place\.ra or place\.dec"):
        read(path, mapping(right_ascension="place", declination="place"))
    with pytest.raises(MappingError, match=r"place\.ra is in ICRS already"):
        read(path, mapping(right_ascension="place.ra", declination="place.dec", frame="galactic"))


@pytest.mark.parametrize(
    ("value", "unit", "arcsec"),
    [(1e-4, "deg", 0.36), (20.0, "mas", 0.02), (0.3, None, 0.3), (0.1, "s", 0.75)],
)
def test_position_errors_are_read_in_their_unit(
    tmp_path: Path, value: float, unit: str | None, arcsec: float
) -> None:
    columns = {"ra": [10.2], "dec": [60.0], "e_ra": Column([value], unit=unit)}
    (row,) = read_table(written(tmp_path, columns), mapping(error_arcsec="e_ra"))
    assert row.observations[0].position_error_arcsec == pytest.approx(arcsec)
    (row,) = read_table(
        written(tmp_path, columns), mapping(error_arcsec="e_ra", error_unit="arcmin")
    )
    assert row.observations[0].position_error_arcsec == pytest.approx(60.0 * value)


def test_a_position_error_that_is_no_angle_is_refused(tmp_path: Path) -> None:
    columns = {"ra": [10.2], "dec": [60.0], "e_ra": Column([1.0], unit="Jy")}
    with pytest.raises(MappingError, match=r"position\.error_unit.*'e_ra' is in Jy"):
        read(written(tmp_path, columns), mapping(error_arcsec="e_ra"))


@pytest.mark.parametrize(
    ("when", "words"),
    [
        (Time([57_023.25], format="mjd"), {}),
        (Time([57_023.25], format="mjd", scale="utc").tai, {}),
        ([57_023.25], {}),
        (["57023.25"], {}),
        (["2015-01-01T06:00:00"], {}),
        (["2015-01-01 06:00:00.0Z"], {}),
        ([2_457_023.75], {"time_format": "jd"}),
        ([2015.0 + 0.25 / 365.0], {"time_format": "decimalyear"}),
        (Column([57_023.25], unit="d"), {}),
    ],
)
def test_times_are_read_as_what_they_are(tmp_path: Path, when: Any, words: dict[str, str]) -> None:
    path = written(tmp_path, {"ra": [10.2], "dec": [2.0], "when": when})
    (row,) = read_table(path, mapping("when", words))
    assert row.observations[0].time_mjd == pytest.approx(57_023.25, abs=1e-6)


@pytest.mark.parametrize(
    ("when", "said"),
    [
        ([2_457_023.75], 'when = 2457023.75 in row 1 is no MJD: set time_format = "jd"'),
        ([2015.04], 'set time_format = "decimalyear"'),
        (Column([15.0], unit="yr"), "column 'when' is in yr"),
        (TimeDelta([3.0], format="jd"), "time_mjd = 3.0"),
        (["01/02/15"], "when = '01/02/15' is no ISO date"),
        (["2015-01-01T00:00:00+02:00"], "is no ISO date"),
        (["2015-13-01"], "is no ISO date"),
        (["last night"], "when = 'last night' is not a number"),
    ],
)
def test_other_times_are_asked_for_or_told(tmp_path: Path, when: Any, said: str) -> None:
    path = written(tmp_path, {"ra": [10.2], "dec": [2.0], "when": when})
    try:
        (row,) = read_table(path, mapping("when"))
        told = [*row.problems, *(each for o in row.observations for each in problems(o))]
    except MappingError as error:
        told = [str(error)]
    assert said in " ".join(told)
