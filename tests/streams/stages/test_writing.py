"""While a stage writes the store, which all others wait for, it asks no server anything."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest

from mmbroker.models.serving.parsers import Asking, SpectrumParserClient
from mmbroker.processors.fingerprint.merge import MAX_PARSED
from mmbroker.schemas.codec import Codec
from mmbroker.schemas.events import Fingerprint, Observation, ParsedObservation
from mmbroker.streams.settings import Settings
from mmbroker.streams.stages.accounting import EXPIRED, GAP
from mmbroker.streams.stages.base import Stage
from mmbroker.streams.stages.build_fingerprints import BuildFingerprints
from mmbroker.streams.stages.messages import Outgoing, Received
from mmbroker.streams.stages.publish_alerts import PublishAlerts
from mmbroker.streams.stages.score_galaxies import ScoreGalaxies
from mmbroker.streams.stages.scorers import Scorers
from mmbroker.streams.store import LMDBStore
from mmbroker.streams.store.lmdb import LMDBTransaction
from mmbroker.streams.topics import Topics
from tests.streams.stages.test_build_fingerprints import at, spectrum_at

codec = Codec()
topics = Topics()


class WatchedStore(LMDBStore):
    """A store that knows whether it is being written."""

    written = False

    @contextmanager
    def writing(self) -> Iterator[LMDBTransaction]:
        with super().writing() as transaction:
            self.written = True
            try:
                yield transaction
            finally:
                self.written = False


@pytest.fixture
def store(tmp_path: Path) -> Iterator[WatchedStore]:
    made = WatchedStore(tmp_path / "store")
    yield made
    made.close()


def deliver(stage: Stage, batch: Sequence[Received]) -> list[Outgoing]:
    messages = []
    for processed in stage.process_safely(batch):
        messages += processed.messages
        while more := processed.finish():
            messages += more
    return messages


def outcomes(stage: Stage) -> dict[str, int]:
    with stage.store.reading() as reading:
        return {name: count for (owner, name), count in reading.counts().items()
                if owner == stage.name}  # fmt: skip


def build(store: WatchedStore) -> tuple[Stage, bytes]:
    return BuildFingerprints(store, topics, codec), codec.encode(at("a"))


def score(store: WatchedStore) -> tuple[Stage, bytes]:
    stage, observation = build(store)
    (fingerprint,) = deliver(stage, [Received(topics.observations, 0, 0, 1000, observation)])
    return ScoreGalaxies(store, topics, codec, Scorers(Settings()), None), fingerprint.value


def publish(store: WatchedStore) -> tuple[Stage, bytes]:
    stage, fingerprint = score(store)
    (scored,) = deliver(stage, [Received(topics.fingerprints, 0, 0, 1000, fingerprint)])
    return PublishAlerts(store, topics, codec), scored.value


@pytest.mark.parametrize("prepare", [build, score, publish])
def test_kafka_is_asked_once_a_partition_about_thousands_of_gaps_and_not_while_writing(
    store: WatchedStore, prepare: Callable[[WatchedStore], tuple[Stage, bytes]]
) -> None:
    stage, event = prepare(store)
    (topic,) = stage.sources
    asked: list[tuple[str, int]] = []

    def log_start(topic: str, partition: int) -> int:
        assert not store.written
        asked.append((topic, partition))
        return 7 * partition

    stage.log_start = log_start
    gaps = 2000
    batch = [
        Received(topic, partition, 2 * number + 10, 1000, event)
        for number in range(gaps)
        for partition in (0, 1)
    ]
    batch += [Received(topic, 2, offset, 1000, event) for offset in range(5)]  # without a gap
    deliver(stage, batch)
    assert sorted(asked) == [(topic, 0), (topic, 1)]
    found = outcomes(stage)
    assert found.pop(EXPIRED) == 7
    assert found.pop(GAP) == 10 + 3 + 2 * (gaps - 1)
    assert sum(found.values()) == len(batch)
    with store.reading() as reading:
        assert reading.next_offset(stage.name, topic, 1) == 2 * gaps + 9
    asked.clear()
    deliver(stage, batch)  # all of it again, which is known by now
    assert asked == []
    assert outcomes(stage) == {**found, EXPIRED: 7, GAP: 10 + 3 + 2 * (gaps - 1)}


def test_an_event_that_is_set_aside_has_its_gap_looked_up_before_the_store_is_written(
    store: WatchedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage, event = build(store)

    def fail(batch: Sequence[Received]) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(stage, "process", fail)

    def log_start(topic: str, partition: int) -> int:
        assert not store.written
        return 2

    stage.log_start = log_start
    deliver(stage, [Received(topics.observations, 0, 5, 1000, event)])
    assert outcomes(stage) == {"quarantined: internal-error": 1, EXPIRED: 2, GAP: 3}


class WatchingParser(SpectrumParserClient):
    """A parser that is not asked while a store is written."""

    store: WatchedStore

    def parse(
        self, observations: Sequence[Observation], version: int, asking: Asking = nullcontext
    ) -> list[ParsedObservation | None]:
        assert not self.store.written
        return super().parse(observations, version, asking)


def test_trees_that_come_back_are_asked_for_while_the_store_is_not_written(
    store: WatchedStore, triton_url: str
) -> None:
    count = MAX_PARSED + 4
    events = [spectrum_at(f"s{number}", 59000.0 + number) for number in range(count)]
    withdrawals = [
        dataclasses.replace(spectrum_at(f"w{number}", replaces=f"s{number}"), spectrum=None)
        for number in (count - 1, 6, 7)
    ]
    with WatchingParser(triton_url, "parser", deadline_s=20.0) as parser:
        parser.store = store
        stage = BuildFingerprints(store, topics, codec, [parser])
        batch = [
            Received(topics.observations, 0, offset, 1000, codec.encode(each))
            for offset, each in enumerate([*events, *withdrawals])
        ]
        deliver(stage, batch[:count])
        (message,) = deliver(stage, batch[count:])
    fingerprint = codec.decode_as(Fingerprint, message.value)
    left = [number for number in range(count) if number not in (count - 1, 6, 7)]
    assert [each.observation_id for each in fingerprint.parsed] == [
        f"s{number}" for number in left[-MAX_PARSED:]
    ]
    assert outcomes(stage) == {"merged": count, "withdrawn": 3}
