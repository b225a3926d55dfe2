"""What ``check`` says of this machine: its disk, the room for the store, its clock."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from confluent_kafka import Producer

from mmbroker.deploy.local import LocalStack
from mmbroker.streams.kafka.client import create_topics
from mmbroker.streams.operating import check as checks
from mmbroker.streams.operating.check import Finding, check
from mmbroker.streams.settings import Settings
from mmbroker.streams.store import LMDBStore
from tests.conftest import PREFIXES, settings_on

pytestmark = pytest.mark.slow


class Usage(NamedTuple):
    """What ``shutil.disk_usage`` says, in bytes."""

    total: int
    used: int
    free: int


@pytest.fixture
def settings(stack: LocalStack, tmp_path: Path) -> Iterator[Settings]:
    settings, _ = settings_on(stack, tmp_path, next(PREFIXES))
    create_topics(settings.kafka, settings.topics.all())
    return settings


def found(settings: Settings, subject: str) -> Finding:
    return next(each for each in check(settings) if each.subject == subject)


def test_a_disk_that_is_nearly_full_is_told(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert found(settings, "disk").good == (
        shutil.disk_usage(settings.data_directory).free >= checks.LEAST_ROOM_BYTES
    )
    for free, good in ((1_999_000_000, False), (2_000_000_000, True)):
        monkeypatch.setattr(shutil, "disk_usage", lambda _, free=free: Usage(10**12, 0, free))
        finding = found(settings, "disk")
        assert finding.good == good
        assert str(settings.data_directory) in finding.detail
        assert ("1,999 MB left" in finding.detail) != good


def test_a_store_with_little_room_to_grow_is_told(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert found(settings, "store").good
    monkeypatch.setattr(LMDBStore, "room_bytes", lambda _: 1_500_000_000)
    finding = found(settings, "store")
    assert not finding.good
    assert "can grow by 1,500 MB only" in finding.detail
    assert "ulimit -v" in finding.detail


def test_events_from_the_future_of_this_machine_are_told(settings: Settings) -> None:
    topic = settings.topics.observations
    producer = Producer(settings.kafka.client())
    for lead_s, good in ((30, True), (600, False)):
        producer.produce(topic, b"x", timestamp=int(1000 * (time.time() + lead_s)))
        assert producer.flush(30) == 0
        finding = found(settings, "clock")
        assert finding.good == good
        assert (f"{topic} by " in finding.detail) != good
