"""Odd messages are shown as what they are, and the next ones follow."""

from __future__ import annotations

import json

import hypothesis
import pytest
from confluent_kafka import Producer
from hypothesis import given
from hypothesis import strategies as st

from mmbroker.schemas.codec import readable
from mmbroker.schemas.events import ScoredGalaxy
from mmbroker.streams.kafka.client import create_topics
from mmbroker.streams.settings import Settings, SettingsError
from mmbroker.streams.subscribing.read import (
    Read,
    heading,
    read,
    row,
    rows,
    topic_of,
)
from tests.conftest import Broker

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)
WORDS = st.sampled_from(["galaxy", "hyperscore", "redshift", "interval_68", "alert_type", "rank"])


def message(value: bytes, timestamp_ms: int = 0) -> Read:
    return Read("t", 0, 0, timestamp_ms, b"", value, None)


@hypothesis.settings(max_examples=40)
@given(st.dictionaries(WORDS | st.text(), JSON | st.dictionaries(WORDS, JSON)), st.integers())
def test_any_json_has_a_row(content: dict[str, object], time_ms: int) -> None:
    assert row(message(json.dumps(content).encode(), time_ms))


@hypothesis.settings(max_examples=40)
@given(
    st.dictionaries(WORDS | st.text(), JSON | st.dictionaries(WORDS, JSON)),
    st.integers(40, 200),
)
def test_any_json_has_lines_on_a_terminal(content: dict[str, object], columns: int) -> None:
    odd = message(json.dumps(content).encode())
    assert heading(odd)
    assert rows(odd, columns)


def alert(scored: ScoredGalaxy) -> Read:
    galaxy = {**readable(scored), "galaxy_id": "mm-zoawdvovajnzyeym"}
    content = {
        "alert_type": "RETRACTION", "galaxy": galaxy, "stream_rank": 17, "stream_galaxies": 43,
        "reasons": ["probability 0.6988 is below 0.8", "and more than is of use to anybody " * 3],
    }  # fmt: skip
    return message(json.dumps(content).encode())


def test_an_alert_shows_its_reason_on_a_terminal_of_80_columns(scored: ScoredGalaxy) -> None:
    first, second = rows(alert(scored), 80)
    assert first.endswith(f"P={scored.probability:.3f}")
    assert second.startswith("    probability 0.6988 is below 0.8; and more")
    assert second.endswith("…")
    assert max(map(len, [first, second, heading(alert(scored))])) <= 80
    assert heading(alert(scored)).index("redshift") == first.index("z=")


def test_a_wide_terminal_has_an_alert_on_one_line(scored: ScoredGalaxy) -> None:
    (line,) = rows(alert(scored), 200)
    assert "probability 0.6988 is below 0.8; and" in line
    assert len(line) == 200


def test_fields_that_are_cut_end_in_an_ellipsis() -> None:
    (line,) = rows(message(json.dumps({"reason": "word " * 100}).encode()), 80)
    assert line.endswith("…")


@pytest.mark.parametrize(
    ("stream", "hint"),
    [
        ("confidant", "did you mean confident?"),
        ("mm.alerts.confident.v1", "the stream of this topic is confident"),
        ("mm.scored.v1", "the stream of this topic is scored"),
    ],
)
def test_a_stream_that_is_not_there_is_asked_for_by_its_name(stream: str, hint: str) -> None:
    with pytest.raises(SettingsError) as refused:
        topic_of(Settings(), stream)
    assert hint in str(refused.value)


@pytest.mark.slow
def test_odd_messages_do_not_end_a_subscription(broker: Broker) -> None:
    settings = broker.settings
    create_topics(settings.kafka, settings.topics.all())
    topic = settings.topics.outcomes
    producer = Producer({"bootstrap.servers": settings.kafka.bootstrap_servers})
    deep = b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    odd: list[bytes | None] = [
        b'{"galaxy": {"hyperscore": 1}}',
        deep,
        None,
        b"",
        b"{\xff",
        b'{"a": 1' + b"0" * 5000 + b"}",
        b"\x00\x00\x00\x27\x0f",
    ]
    for value in odd:
        producer.produce(topic, value, b"key")
    producer.produce(topic, b'{"good": 1}', timestamp=-(10**15))
    producer.flush()
    found = [each for each in read(settings, "outcomes", until_end=True) if each.topic == topic]
    rows = [row(each) for each in found]
    assert len(rows) == len(odd) + 1
    assert "good=1" in rows[-1]
    assert "deleted=b'key'" in rows[2]
    assert sum("undecodable" in each for each in rows) == 5
    for each in found:
        json.dumps(each.plain)
