"""Tables travel column by column, and come back row by row."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmbroker.schemas.records import Table, from_record, to_record, to_rows


@dataclass(slots=True)
class Band:
    name: str
    flux_jy: float
    limit_jy: float | None = None


@dataclass(slots=True)
class Source:
    bands: Annotated[list[Band], Table(Band)]


NUMBERS = st.floats(allow_nan=False)
BANDS = st.lists(st.builds(Band, st.text(), NUMBERS, st.none() | NUMBERS))


@given(BANDS)
def test_a_table_comes_back_row_by_row(bands: list[Band]) -> None:
    assert from_record(Source, to_record(Source(bands))) == Source(bands)


@given(BANDS)
def test_a_list_of_records_as_in_earlier_versions_is_read_too(bands: list[Band]) -> None:
    assert from_record(Source, to_rows(Source(bands))) == Source(bands)


def test_a_table_is_columns_on_the_wire_and_what_is_missing_is_nan() -> None:
    columns = to_record(Source([Band("K", 1.0, 3.0), Band("H", 2.0)]))["bands_table"]
    assert columns["name"] == ["K", "H"]
    assert columns["flux_jy"] == [1.0, 2.0]
    assert columns["limit_jy"][0] == 3.0
    assert math.isnan(columns["limit_jy"][1])


def test_rows_are_for_people() -> None:
    rows = to_rows(Source([Band("K", 1.0)]))["bands"]
    assert rows == [{"name": "K", "flux_jy": 1.0, "limit_jy": None}]


def test_columns_of_different_length_are_refused() -> None:
    columns = {"name": ["K"], "flux_jy": [1.0, 2.0], "limit_jy": [math.nan]}
    with pytest.raises(ValueError, match=r"bands_table: .* longer"):
        from_record(Source, {"bands_table": columns})
