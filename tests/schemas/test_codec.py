"""What goes on the wire comes back; what does not belong there is refused with a reason."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import gc
import io
import json
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import fastavro
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmbroker.schemas.codec import (
    MAX_EVENT_BYTES,
    Codec,
    Framing,
    MalformedEventError,
    manifest,
    readable,
)
from mmbroker.schemas.events import (
    Alert,
    AlertHead,
    Event,
    Fingerprint,
    Observation,
    Quarantine,
    Score,
    ScoredGalaxy,
)
from mmbroker.schemas.records import from_record, to_record
from tests.strategies import observations

SAMPLES = Path(__file__).parent / "samples"
codec = Codec()


@given(event=observations(), framing=st.sampled_from(["confluent", "container"]))
def test_an_event_comes_back_as_it_was(event: Observation, framing: str) -> None:
    again = codec.decode(codec.encode(event, framing))  # type: ignore[arg-type]
    assert isinstance(again, Observation)
    assert to_record(again) == to_record(event)


@given(event=observations())
def test_json_holds_everything_but_the_arrays(event: Observation) -> None:
    plain = json.loads(codec.encode(event, "json"))
    assert plain["observation_id"] == event.observation_id
    assert "frequency_hz" not in (plain["spectrum"] or {})


def test_json_has_null_for_what_is_not_finite(empty_fingerprint: Fingerprint) -> None:
    assert readable(empty_fingerprint)["acquisition"]["first_mjd"] is None


def test_json_keeps_the_bytes_of_what_was_refused() -> None:
    event = Quarantine("stage", "undecodable", "why", "topic", 0, 1, b"\xffno event")
    assert base64.b64decode(readable(event)["original_base64"]) == event.original


@pytest.mark.parametrize("version", manifest(), ids=lambda each: f"{each.name}-v{each.version}")
@pytest.mark.parametrize("framing", ["confluent", "container"])
def test_the_current_reader_reads_every_version_ever_written(version: object, framing: str) -> None:
    name = f"{version.name}.v{version.version}"  # type: ignore[attr-defined]
    event = codec.decode((SAMPLES / f"{name}.{framing}").read_bytes())
    expected = json.loads((SAMPLES / f"{name}.json").read_text())
    assert without_newer_fields(readable(event), expected) == expected


def without_newer_fields(found: object, written: object) -> object:
    """What was found, as far as the version that it was written in knew of it."""
    if isinstance(found, dict) and isinstance(written, dict):
        return {key: without_newer_fields(found[key], written[key]) for key in written}
    return found


def test_every_field_says_its_meaning() -> None:
    def undocumented(schema: object, path: str) -> list[str]:
        if isinstance(schema, list):
            return [found for each in schema for found in undocumented(each, path)]
        if not isinstance(schema, dict):
            return []
        found = [] if schema["type"] != "record" or schema.get("doc") else [path]
        for field in schema.get("fields", []):
            where = f"{path}.{field['name']}"
            found += [] if field.get("doc") else [where]
            found += undocumented(field["type"], where)
        return found + undocumented(schema.get("items"), path)

    for version in manifest():
        assert undocumented(json.loads(version.text), version.name) == []


def head_of(alert: Alert) -> AlertHead:
    return AlertHead(
        **{field.name: getattr(alert, field.name) for field in dataclasses.fields(AlertHead)}
    )


@pytest.mark.parametrize("framing", ["confluent", "container", "json"])
def test_an_alert_is_also_made_of_a_galaxy_in_an_earlier_version(framing: Framing) -> None:
    alert = codec.decode_as(Alert, (SAMPLES / "Alert.v1.confluent").read_bytes())
    earlier = (SAMPLES / "ScoredGalaxy.v1.confluent").read_bytes()
    galaxy = codec.decode_as(ScoredGalaxy, earlier)
    encoded = codec.encode_alert(head_of(alert), earlier, framing)
    assert encoded == codec.encode(dataclasses.replace(alert, galaxy=galaxy), framing)


@pytest.mark.parametrize("read_in", ["confluent", "container"])
@pytest.mark.parametrize("framing", ["confluent", "container", "json"])
def test_an_alert_takes_its_galaxy_over_as_it_was_read(framing: Framing, read_in: Framing) -> None:
    alert = codec.decode_as(Alert, (SAMPLES / "Alert.v4.confluent").read_bytes())
    galaxy = codec.encode(alert.galaxy, read_in)
    assert codec.encode_alert(head_of(alert), galaxy, framing) == codec.encode(alert, framing)


def test_an_alert_is_about_a_scored_galaxy(empty_fingerprint: Fingerprint) -> None:
    alert = codec.decode_as(Alert, (SAMPLES / "Alert.v4.confluent").read_bytes())
    with pytest.raises(MalformedEventError, match="Fingerprint where ScoredGalaxy belongs"):
        codec.encode_alert(head_of(alert), codec.encode(empty_fingerprint), "container")


@pytest.mark.parametrize("framing", ["confluent", "container"])
def test_a_score_is_what_the_whole_galaxy_says(framing: Framing, scored: ScoredGalaxy) -> None:
    score = codec.decode_score(codec.encode(scored, framing))
    assert to_record(score) == to_record(from_record(Score, to_record(scored)))
    assert score.redshift.best == scored.redshift.best


# Malformed bytes --------------------------------------------------------------------------------


def refused(data: bytes) -> str:
    with pytest.raises(MalformedEventError) as error:
        codec.decode(data)
    return str(error.value)


@given(st.binary(max_size=2000))
def test_random_bytes_are_refused(data: bytes) -> None:
    assert refused(data)


@given(
    st.integers(0, len(manifest()) - 1).map(lambda id_: struct.pack(">bI", 0, id_ + 1)),
    st.binary(max_size=3000),
)
@settings(max_examples=300)
def test_random_bytes_behind_a_known_schema_id_never_escape(header: bytes, data: bytes) -> None:
    with contextlib.suppress(MalformedEventError):
        codec.decode(header + data)


@given(event=observations(), data=st.data())
def test_a_truncated_event_is_refused(event: Observation, data: st.DataObject) -> None:
    whole = codec.encode(event)
    assert refused(whole[: data.draw(st.integers(0, len(whole) - 1))])


@given(event=observations(), data=st.data())
def test_a_flipped_byte_never_escapes(event: Observation, data: st.DataObject) -> None:
    framing = data.draw(st.sampled_from(["confluent", "container"]))
    whole = bytearray(codec.encode(event, framing))
    whole[data.draw(st.integers(0, len(whole) - 1))] ^= data.draw(st.integers(1, 255))
    with contextlib.suppress(MalformedEventError):
        codec.decode(bytes(whole))


@given(version=st.sampled_from([1, 2, 3, 4]), data=st.data())
def test_a_flipped_byte_of_a_score_never_escapes(version: int, data: st.DataObject) -> None:
    encoded = bytearray((SAMPLES / f"ScoredGalaxy.v{version}.confluent").read_bytes())
    place = data.draw(st.integers(0, len(encoded) - 1))
    encoded[place] ^= data.draw(st.integers(1, 255))
    with contextlib.suppress(MalformedEventError):
        codec.decode_score(bytes(encoded))


@given(event=observations(), extra=st.binary(min_size=1, max_size=20))
def test_trailing_bytes_are_refused(event: Observation, extra: bytes) -> None:
    assert "follow the Observation record" in refused(codec.encode(event) + extra)


def test_an_unknown_schema_id_is_named() -> None:
    assert refused(struct.pack(">bI", 0, 4711) + b"x") == "schema id 4711 is unknown"


def test_a_huge_message_is_refused_unread() -> None:
    assert "more than" in refused(b"\x00" * (MAX_EVENT_BYTES + 1))


def test_an_array_that_claims_to_be_huge_costs_nothing() -> None:
    event = codec.encode(
        Observation("a", "b", 1.0, 2.0, 0.5, 59000.0)
    )  # ends in five null payloads
    lengths = b"\xfe\xff\xff\xff\xff\xff\xff\xff\x7f"  # a count of 2**62
    for payload in range(5):
        claimed = event[: -5 + payload] + b"\x02" + lengths
        assert refused(claimed)


def test_a_container_with_a_foreign_schema_is_refused() -> None:
    buffer = io.BytesIO()
    schema = {"type": "record", "name": "Observation", "fields": [{"name": "x", "type": "null"}]}
    fastavro.writer(buffer, schema, [{"x": None}])
    assert refused(buffer.getvalue()) == "the container's schema is unknown"


def test_a_container_with_a_deeply_nested_schema_is_refused() -> None:
    deep: object = "null"
    for _ in range(2000):
        deep = f'{{"type":"array","items":{deep}}}' if deep != "null" else '{"type":"null"}'
    header = {"avro.schema": str(deep).encode(), "avro.codec": b"null"}
    buffer = io.BytesIO(b"Obj\x01")
    buffer.seek(4)
    fastavro.schemaless_writer(buffer, {"type": "map", "values": "bytes"}, header)
    buffer.write(b"s" * 16)
    assert "cannot be read" in refused(buffer.getvalue())


def test_a_compressed_container_is_refused() -> None:
    observation = Observation("a", "b", 1.0, 2.0, 0.5, 59000.0)
    buffer = io.BytesIO()
    schema = json.loads(manifest()[0].text)
    fastavro.writer(buffer, schema, [to_record(observation)], codec="deflate")
    assert "compressed with deflate" in refused(buffer.getvalue())


def test_arrays_that_are_not_whole_numbers_of_elements_are_refused() -> None:
    schema = json.loads(manifest()[0].text)
    record = to_record(Observation("a", "b", 1.0, 2.0, 0.5, 59000.0))
    record["spectrum"] = {
        "frequency_hz": b"\0" * 15,
        "frame": "LSRK",
        "flux_density_jy": b"\0" * 8,
        "flux_error_jy": b"\0" * 8,
    }
    buffer = io.BytesIO()
    buffer.write(struct.pack(">bI", 0, 1))
    fastavro.schemaless_writer(buffer, schema, record)
    assert "frequency_hz" in refused(buffer.getvalue())


def test_an_event_that_does_not_fit_its_schema_cannot_be_encoded() -> None:
    wrong: Event = Observation("a", "b", None, 2.0, 0.5, 59000.0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="Observation does not fit its schema"):
        codec.encode(wrong)


def test_arrays_are_little_endian_on_the_wire() -> None:
    from mmbroker.schemas.events import Spectrum

    spectrum = Spectrum(np.array([1.0, 2.0], ">f8"), "LSRK", np.zeros(2, ">f4"), np.ones(2, ">f4"))
    assert to_record(spectrum)["frequency_hz"] == np.array([1.0, 2.0], "<f8").tobytes()


# What strangers may make the reader do ------------------------------------------------------------


def number(value: int) -> bytes:
    buffer = io.BytesIO()
    fastavro.schemaless_writer(buffer, "long", value)
    return buffer.getvalue()


def container(metadata: dict[str, bytes], record: bytes, events: int = 1) -> bytes:
    buffer = io.BytesIO()
    buffer.write(b"Obj\x01")
    fastavro.schemaless_writer(buffer, {"type": "map", "values": "bytes"}, metadata)
    sync = b"S" * 16
    return buffer.getvalue() + sync + number(events) + number(len(record)) + record + sync


def an_observation() -> bytes:
    return codec.encode(Observation("a", "b", 1.0, 2.0, 0.5, 59000.0, replaces="c"))


def with_documentation(text: str) -> bytes:
    schema = json.loads(manifest()[0].text)
    schema["doc"] = text
    return json.dumps(schema, ensure_ascii=False).encode()


def peak_of(decode: Callable[[], object]) -> int:
    tracemalloc.start()
    try:
        with contextlib.suppress(MalformedEventError):
            decode()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def floods() -> dict[str, bytes]:
    """An event of each type in which the last empty list has as many items as a message holds."""
    found = {}
    for version in manifest():
        data = (SAMPLES / f"{version.name}.v{version.version}.confluent").read_bytes()
        count = MAX_EVENT_BYTES - len(data) - 10
        for place in [at for at in range(5, len(data)) if data[at] == 0][-5:]:
            flood = data[:place] + number(count) + bytes(count) + data[place:]
            found[f"{version.name}-v{version.version}-{place}"] = flood
    return found


def test_an_event_of_another_type_is_refused_unread() -> None:
    schema = next(each for each in manifest() if each.name == "Fingerprint")
    data = struct.pack(">bI", 0, schema.id) + b"\x00" * (MAX_EVENT_BYTES - 5)
    assert peak_of(lambda: codec.decode_as(Observation, data)) < 100_000
    in_container = container({"avro.schema": schema.text.encode()}, data[5:-100_000])
    for each in (data, in_container):
        with pytest.raises(MalformedEventError, match="holds Fingerprint where Observation"):
            codec.decode_as(Observation, each)
        with pytest.raises(MalformedEventError, match="holds Fingerprint where ScoredGalaxy"):
            codec.decode_score(each)


def test_no_list_costs_more_than_a_small_multiple_of_the_bytes() -> None:
    for name, data in floods().items():
        assert peak_of(lambda data=data: codec.decode(data)) < 2 * MAX_EVENT_BYTES, name  # type: ignore[misc]


@pytest.mark.parametrize("characters", [10_000, 300_000])
def test_headers_with_much_documentation_are_read_and_not_kept(characters: int) -> None:
    mine = Codec()
    record = an_observation()[5:]
    mine.decode(container({"avro.schema": with_documentation("x")}, record))
    tracemalloc.start()
    try:
        for each in range(30):
            text = f"\U0001f30c{each}" + "x" * characters
            mine.decode(container({"avro.schema": with_documentation(text)}, record))
        gc.collect()
        kept = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert kept < 2_000_000


@pytest.mark.parametrize(
    ("metadata", "said"),
    [
        ({}, "schema cannot be read"),
        ({f"{each}": b"" for each in range(1000)}, "more items than may be"),
        ({"avro.schema": b"[" * 100_000}, "100000 bytes, more than 65536"),
        ({"avro.schema": b"[" * 60_000}, "recursion"),
        ({"avro.schema": b"1" * 60_000}, "cannot be read"),
        ({"avro.schema": b'{"type": "array", "items": "null"}'}, "schema is unknown"),
        (
            {"avro.schema": manifest()[0].text.encode(), "avro.codec": b"\xff\x00"},
            "compressed with",
        ),
    ],
)
def test_headers_of_containers_are_bounded(metadata: dict[str, bytes], said: str) -> None:
    assert said in refused(container(metadata, an_observation()[5:]))


@pytest.mark.parametrize("events", [0, 2, -1, 2**40])
def test_a_container_holds_one_event(events: int) -> None:
    data = container({"avro.schema": manifest()[0].text.encode()}, an_observation()[5:], events)
    assert f"holds {events} events" in refused(data)


def test_a_container_ends_after_its_block() -> None:
    data = container({"avro.schema": manifest()[0].text.encode()}, an_observation()[5:])
    assert isinstance(codec.decode(data), Observation)
    for wrong in (data + b"x", data[:-1], data[:-16] + b"T" * 16):
        assert "does not end" in refused(wrong)
