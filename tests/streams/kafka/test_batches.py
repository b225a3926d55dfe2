"""Kafka says which offsets a batch has, whatever it is packed with; open and secured."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import pytest
from confluent_kafka import Producer

from mmbroker.deploy.local import LocalStack
from mmbroker.streams.kafka.batches import batch_at
from mmbroker.streams.kafka.client import create_topics
from mmbroker.streams.kafka.guarded import BatchEndsReaderError, guarded
from mmbroker.streams.settings import KafkaSettings
from tests.conftest import settings_on

pytestmark = pytest.mark.slow  # servers of its own

CODECS = ("none", "gzip", "snappy", "lz4", "zstd")


def send(
    kafka: KafkaSettings, topic: str, codec: str, values: Sequence[bytes], linger_ms: int = 30_000
) -> None:
    """Send messages as one batch."""
    producer = Producer(
        {
            **kafka.client(),
            "compression.type": codec,
            "linger.ms": linger_ms,
            "batch.size": 2**31 - 1,
            "message.max.bytes": 10**9,
        }
    )
    for value in values:
        producer.produce(topic, value, partition=0, headers={"observed-at": b"12"})
    assert not producer.flush(60)


@pytest.mark.parametrize("which", ["stack", "secured_stack"])
def test_a_batch_has_its_offsets_however_it_is_packed(
    which: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    servers: LocalStack = request.getfixturevalue(which)
    settings, _ = settings_on(servers, tmp_path, "batches")
    create_topics(settings.kafka, settings.topics.all())
    topic = settings.topics.observations
    for codec in CODECS:
        send(settings.kafka, topic, codec, [b"anything"] * 3)
    ends = [3 * number for number in range(len(CODECS) + 1)]
    for first, end in itertools.pairwise(ends):
        for offset in range(first, end):
            assert batch_at(settings.kafka, topic, 0, offset) == range(first, end)
    for offset in (ends[-1], ends[-1] + 1):
        assert len(batch_at(settings.kafka, topic, 0, offset)) == 0
    read = list(guarded(settings.kafka, topic, 0, 1))
    assert [each.offset for each in read] == list(range(1, ends[-1]))
    assert {each.value for each in read} == {b"anything"}
    assert {name for each in read for name, _ in each.headers} == {"observed-at"}


def test_a_child_ends_at_a_batch_that_wants_too_much_memory_and_tells_where(
    stack: LocalStack, tmp_path: Path
) -> None:
    settings, _ = settings_on(stack, tmp_path, "childs")
    create_topics(settings.kafka, settings.topics.all())
    topic = settings.topics.observations
    send(settings.kafka, topic, "none", [b"first"])
    send(settings.kafka, topic, "gzip", [bytes(2**21)] * 300)
    send(settings.kafka, topic, "none", [b"last"])
    found = []
    with pytest.raises(BatchEndsReaderError) as ended:
        found += [each.value for each in guarded(settings.kafka, topic, 0, 0)]
    assert ended.value.offset == 1
    assert batch_at(settings.kafka, topic, 0, 1) == range(1, 301)
    assert [each.value for each in guarded(settings.kafka, topic, 0, 301)] == [b"last"]


def test_batches_that_are_too_large_only_together_are_all_read(
    stack: LocalStack, tmp_path: Path
) -> None:
    settings, _ = settings_on(stack, tmp_path, "together")
    create_topics(settings.kafka, settings.topics.all())
    topic, count = settings.topics.observations, 60
    for _ in range(count):  # each of 1 kB in Kafka, which gives many at once
        send(settings.kafka, topic, "zstd", [bytes(10 * 2**20)], linger_ms=0)
    offsets = [each.offset for each in guarded(settings.kafka, topic, 0, 0)]
    assert offsets == list(range(count))
