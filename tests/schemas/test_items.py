"""Items of a record are counted before they are made."""

from __future__ import annotations

import io
import json
from typing import Any

import fastavro
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmbroker.schemas.codec import Codec, manifest
from mmbroker.schemas.items import TooManyItemsError, require_few_items
from mmbroker.schemas.records import to_record
from tests.strategies import observations

OBSERVATION = next(each.text for each in manifest() if each.name == "Observation")
SCHEMA = """{"type": "record", "name": "R", "fields": [
    {"name": "empty", "type": {"type": "array", "items": "null"}},
    {"name": "numbers", "type": {"type": "array", "items": "double"}},
    {"name": "map", "type": {"type": "map", "values": ["null", "string", {
        "type": "record", "name": "S", "fields": [
            {"name": "kind", "type": {"type": "enum", "name": "E", "symbols": ["a", "b"]}},
            {"name": "fixed", "type": {"type": "fixed", "name": "F", "size": 3}},
            {"name": "flag", "type": "boolean"}]}]}},
    {"name": "again", "type": ["null", "S"]}]}"""


def encoded(record: Any) -> bytes:
    buffer = io.BytesIO()
    fastavro.schemaless_writer(buffer, fastavro.parse_schema(json.loads(SCHEMA)), record)
    return buffer.getvalue()


inner = st.builds(
    lambda kind, flag: {"kind": kind, "fixed": b"xyz", "flag": flag},
    st.sampled_from("ab"),
    st.booleans(),
)


@given(
    empty=st.lists(st.none(), max_size=20),
    numbers=st.lists(st.floats(), max_size=20),
    values=st.dictionaries(st.text(), st.none() | st.text() | inner, max_size=20),
    again=st.none() | inner,
)
def test_items_of_arrays_and_maps_count(
    empty: list[None], numbers: list[float], values: dict[str, Any], again: Any
) -> None:
    data = encoded({"empty": empty, "numbers": numbers, "map": values, "again": again})
    count = len(empty) + len(numbers) + len(values)
    require_few_items(SCHEMA, data, 0, count)
    if count:
        with pytest.raises(TooManyItemsError):
            require_few_items(SCHEMA, data, 0, count - 1)


@given(event=observations())
def test_an_observation_has_as_many_items_as_measurements(event: Any) -> None:
    data = Codec().encode(event)
    count = 0 if event.photometry is None else len(event.photometry.measurements)
    require_few_items(OBSERVATION, data, 5, count)
    assert count in (0, len((to_record(event)["photometry"] or {}).get("measurements", [])))


@given(data=st.binary(max_size=200))
def test_bytes_that_are_no_record_are_refused_in_time(data: bytes) -> None:
    try:
        require_few_items(SCHEMA, data, 0, 1000)
    except (ValueError, IndexError):
        return


@pytest.mark.parametrize("count", [10**6, -(10**6), 2**62, -(2**63)])
def test_items_without_bytes_are_counted_before_they_are_made(count: int) -> None:
    claimed = io.BytesIO()
    fastavro.schemaless_writer(claimed, "long", count)
    with pytest.raises(TooManyItemsError):
        require_few_items(SCHEMA, claimed.getvalue() + b"\x00" * 20, 0, 1000)
