"""Odd files of tables are told, by name, column and row; what they hold is never guessed."""

import contextlib
import gzip
import os
import random
import tomllib
from pathlib import Path
from typing import Any

import pytest
from astropy.coordinates import EarthLocation
from astropy.io import fits
from astropy.table import QTable, Table

from mmbroker.processors.ingest.mapping import Mapping, MappingError, find_mapping
from mmbroker.processors.ingest.tables import read_table

MAPPING = """
name = "odd"
id = "{id}"
time = 2020-01-01
position = { right_ascension = "ra", declination = "dec", error_arcsec = 0.5 }
[[photometry]]
instrument = "SCUBA-2"
unit = "mJy"
bands = [{ name = "850", wavelength = "850 um", flux = "S", error = "e_S" }]
"""
CSV = "id,ra,dec,S,e_S\n1,10.0,2.0,5.0,1.0\n"


def mapping(**words: Any) -> Mapping:
    return Mapping.model_validate(tomllib.loads(MAPPING) | words)


def ids(path: Path, using: Mapping | None = None) -> list[str]:
    rows = list(read_table(path, using or mapping()))
    assert not [problem for row in rows for problem in row.problems]
    return [each.observation_id for row in rows for each in row.observations]


def written(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def table(**more: Any) -> QTable:
    return QTable({"id": [1], "ra": [10.0], "dec": [2.0], "S": [5.0], "e_S": [1.0]} | more)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.csv", "", "No header line"),
        ("a.csv", "id,ra\n1,2,3,4\n", "inconsistent"),
        ("a.csv", CSV.encode() + b"2,10,2,\xb5,1\n", "can't decode byte 0xb5"),
        ("a.csv", CSV.replace("e_S", "S"), "'e_S': "),
        ("a.fits", b"SIMPLE", "cannot be read"),
        ("a.fits", bytes(5760), "cannot be read"),
        ("a.vot", "<VOTABLE version='1.3'></VOTABLE>", "No table found"),
        ("a.ecsv", "# %ECSV 1.0\n# ---\n# datatype: {{\nid\n1\n", "unable to parse yaml"),
        ("a.csv.gz", gzip.compress(CSV.encode(), mtime=0)[:-9], "ended before"),
    ],
)
def test_a_file_that_is_no_table_is_told_by_name_in_one_line(
    tmp_path: Path, name: str, content: str | bytes, said: str
) -> None:
    path = written(tmp_path / name, content)
    with pytest.raises(MappingError) as error:
        ids(path)
    assert str(error.value).startswith(f"{path}, mapping odd: ")
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_a_directory_a_pipe_and_nothing_are_told(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.csv")
    for name, said in (
        (".", "is a directory"),
        ("pipe.csv", "is no regular file"),
        ("x", "no such"),
    ):
        with pytest.raises(MappingError, match=said):
            ids(tmp_path / name)


@pytest.mark.parametrize("suffix", ["ecsv", "mrt"])
def test_a_cell_that_its_header_calls_a_number_is_told_by_column_and_row(
    tmp_path: Path, suffix: str
) -> None:
    path = tmp_path / f"bad.{suffix}"
    whole = table(id=[1])
    for number in (2, 3):
        whole.add_row([number, 10.0, 2.0, 5.0, 1.0])
    whole["S"][1] = 7.25
    whole.write(path, format=f"ascii.{suffix}")
    path.write_text("7.2a".join(path.read_text().rsplit("7.25", 1)))
    with pytest.raises(MappingError, match=r"row 2: S = '7.2a' is not a number"):
        ids(path)


def test_a_cell_of_a_votable_that_is_no_number_is_not_taken_for_an_empty_one(
    tmp_path: Path,
) -> None:
    path = tmp_path / "bad.vot"
    table().write(path, format="votable")
    text = path.read_text()
    path.write_text(text.replace("<TD>5</TD>", "<TD>five</TD>").replace("5.0", "five"))
    with pytest.raises(MappingError, match=r"line \d+:\d+: W30: Invalid literal for float 'five'"):
        ids(path)
    path.write_text(text.replace("<TD>5</TD>", "<TD>--</TD>").replace("5.0", "--"))
    assert ids(path) == []


@pytest.mark.parametrize("suffix", ["csv", "ecsv", "fits", "vot"])
def test_a_table_without_rows_holds_nothing(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"none.{suffix}"
    table()[:0].write(path, **({"format": "votable"} if suffix == "vot" else {}))
    assert ids(path) == []
    join = [{"name": "other", "file": path.name, "key": "id"}]
    if suffix != "csv":
        assert ids(path, mapping(join=join)) == []


@pytest.mark.parametrize("name", ["t.CSV", "t.csv.gz"])
def test_suffixes_in_capitals_and_compressed_files_are_read(tmp_path: Path, name: str) -> None:
    path = written(tmp_path / name, gzip.compress(CSV.encode(), mtime=0) if "gz" in name else CSV)
    (tmp_path / "t.toml").write_text(MAPPING)
    assert ids(path, find_mapping(path)) == ["odd/1/SCUBA-2"]


def test_of_several_tables_in_a_file_the_mapping_says_which(tmp_path: Path) -> None:
    path = tmp_path / "two.fits"
    hdus = [fits.BinTableHDU(Table(table(id=[n])), name=name) for n, name in ((1, "A"), (2, "B"))]
    fits.HDUList([fits.PrimaryHDU(), *hdus]).writeto(path)
    with pytest.raises(
        MappingError, match=r"several tables, 1 \(A\), 2 \(B\): say .* hdu in \[tab"
    ):
        ids(path)
    assert ids(path, mapping(table={"hdu": "B"})) == ["odd/2/SCUBA-2"]
    with pytest.raises(MappingError, match="hdu = 0 is no table"):
        ids(path, mapping(table={"hdu": 0}))


def test_columns_that_are_no_numbers_are_refused_only_where_they_are_named(
    tmp_path: Path,
) -> None:
    path = tmp_path / "mixed.ecsv"
    table(site=EarthLocation.from_geodetic([0], [0]), S3=[[1.0, 2.0]]).write(path)
    assert ids(path) == ["odd/1/SCUBA-2"]
    for name, said in (("site", "column of EarthLocation"), ("S3", r"shape \(1, 2\)")):
        text = MAPPING.replace('"S"', f'"{name}"')
        with pytest.raises(MappingError, match=said):
            ids(path, Mapping.model_validate(tomllib.loads(text)))


JOINED = MAPPING.replace('"S"', '"o.S2"') + '[[join]]\nname = "o"\nkey = "id"\nfile = "FILE"\n'


@pytest.mark.parametrize(
    "file", ["{}/other.csv", "../other.csv", "link.csv", "sub/../../other.csv"]
)
def test_a_mapping_that_was_found_reads_no_other_folder(tmp_path: Path, file: str) -> None:
    folder = tmp_path / "archive"
    folder.mkdir()
    other = written(tmp_path / "other.csv", "id,S2\n1,7\n")
    (folder / "link.csv").symlink_to(other)
    path = written(folder / "t.csv", CSV)
    named = file.format(tmp_path)
    (folder / "t.toml").write_text(JOINED.replace("FILE", named))
    with pytest.raises(MappingError) as error:
        find_mapping(path)
    assert f"join[0].file = {named!r} is not in the folder" in str(error.value)
    assert "--mapping" in str(error.value)


def test_a_mapping_that_was_found_joins_tables_of_its_folder(tmp_path: Path) -> None:
    written(tmp_path / "other.csv", "id,S2\n1,7\n")
    path = written(tmp_path / "t.csv", CSV)
    (tmp_path / "t.toml").write_text(JOINED.replace("FILE", "other.csv"))
    assert ids(path, find_mapping(path)) == ["odd/1/SCUBA-2"]


@pytest.mark.parametrize("suffix", ["csv", "ecsv", "fits", "vot"])
def test_mutated_tables_are_read_or_told(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"mutated.{suffix}"
    whole = table()
    whole.add_row([2, 10.0, 2.0, 5.0, 1.0])
    whole.write(path, **({"format": "votable"} if suffix == "vot" else {}))
    content, draw = path.read_bytes(), random.Random(20_260)
    for _ in range(40):
        mutated = bytearray(content)
        for _ in range(draw.randrange(1, 6)):
            mutated[draw.randrange(len(mutated))] = draw.randrange(256)
        path.write_bytes(
            mutated[: draw.randrange(len(mutated))] if draw.random() < 0.2 else mutated
        )
        with contextlib.suppress(MappingError):
            list(read_table(path, mapping()))
