"""What is known of a newer version of a galaxy is never taken back by an older one."""

from __future__ import annotations

import dataclasses
import itertools
import tempfile
from collections.abc import Iterator
from pathlib import Path

import lmdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmbroker.processors.alerts.decide import AlertStream, LastAlert
from mmbroker.processors.scoring import ranking
from mmbroker.schemas.codec import Codec
from mmbroker.schemas.events import Alert, ScoredGalaxy
from mmbroker.streams.settings import Settings
from mmbroker.streams.stages.base import Stage
from mmbroker.streams.stages.build_fingerprints import BuildFingerprints
from mmbroker.streams.stages.messages import Received
from mmbroker.streams.stages.publish_alerts import PublishAlerts, ranking_name
from mmbroker.streams.stages.score_galaxies import RANKING, ScoreGalaxies
from mmbroker.streams.stages.scorers import Scorers
from mmbroker.streams.store import LMDBStore, Store
from mmbroker.streams.store.lmdb import LAYOUT
from mmbroker.streams.subscribing.read import Read
from mmbroker.streams.subscribing.top import Standings
from mmbroker.streams.topics import Topics
from tests.run_page import REPOSITORY, tracked
from tests.streams.stages.test_build_fingerprints import at

NAME = "ranks"
Ranked = tuple[int, int | None]

codec = Codec()
topics = Topics(alert_streams=(AlertStream("anything"),))
bins = st.none() | st.sampled_from([0, 7, ranking.BINS - 1])


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LMDBStore]:
    made = LMDBStore(tmp_path / "store")
    yield made
    made.close()


def deliver(stage: Stage, *events: bytes) -> list[bytes]:
    """Process events, a batch each; the values of what is sent."""
    messages = []
    for event in events:
        (processed,) = stage.process([Received(stage.sources[0], 0, 0, 1000, event)])
        messages += processed.messages
        while more := processed.finish():
            messages += more
    return [each.value for each in messages]


def members(store: Store, name: str) -> int:
    with store.reading() as reading:
        return int(reading.ranking(name).sum())


def placed(store: Store, name: str, galaxy_id: str) -> tuple[int, int | None] | None:
    with store.reading() as reading:
        return reading.ranked(name, galaxy_id)


@given(
    st.dictionaries(
        st.sampled_from(["a", "b", "c"]),
        st.dictionaries(st.integers(1, 2**40), bins, min_size=1, max_size=5),
        min_size=1,
    ),
    st.data(),
)
def test_places_told_in_any_order_end_in_those_of_the_newest_versions(
    galaxies: dict[str, dict[int, int | None]], data: st.DataObject
) -> None:
    told: list[tuple[str, Ranked]] = [
        (name, place) for name, versions in galaxies.items() for place in versions.items()
    ]
    with tempfile.TemporaryDirectory() as directory:
        store = LMDBStore(Path(directory))
        for name, place in data.draw(st.permutations(told)):
            with store.writing() as writing:
                writing.rank(NAME, {name: place})
        with store.reading() as reading:
            expected = ranking.empty_histogram()
            for name, versions in galaxies.items():
                newest = max(versions)
                assert reading.ranked(NAME, name) == (newest, versions[newest])
                ranking.move(expected, None, versions[newest])
            assert reading.ranking(NAME).tolist() == expected.tolist()
            assert reading.ranked(NAME, "another") is None
        store.close()


def test_a_store_of_before_goes_on_with_its_rankings(tmp_path: Path) -> None:
    """In layout 2 a galaxy that left a ranking had no entry there."""
    before = LMDBStore(tmp_path)
    with before.writing() as writing:
        writing.rank(NAME, {"stays": (4, 7), "leaves": (3, 9)})
    before.close()
    environment = lmdb.open(str(tmp_path), max_dbs=20)
    with environment.begin(write=True) as transaction:
        ranked, layout = (environment.open_db(each, transaction) for each in (b"ranked", b"layout"))
        stands = transaction.get(b"ranks\x00stays", db=ranked)
        assert stands == (4).to_bytes(8, "big") + (7).to_bytes(4, "big")  # as layout 2 had it
        assert transaction.delete(b"ranks\x00leaves", db=ranked)
        counts = ranking.empty_histogram()
        counts[7] = 1
        rankings = environment.open_db(b"rankings", transaction)
        transaction.put(b"ranks", counts.astype("<i8").tobytes(), db=rankings)
        transaction.put(b"layout", (2).to_bytes(8, "big"), db=layout)
    environment.close()

    store = LMDBStore(tmp_path)
    assert placed(store, NAME, "stays") == (4, 7)
    assert placed(store, NAME, "leaves") is None
    with store.reading() as reading:
        assert reading.layout == 2  # who only reads leaves it to the former version
    with store.writing() as writing:
        writing.rank(NAME, {"stays": (5, None), "leaves": (4, 1)})
        writing.rank(NAME, {"stays": (4, 7)})
    store.close()
    again = LMDBStore(tmp_path)
    with again.reading() as reading:
        assert reading.layout == LAYOUT
    assert placed(again, NAME, "stays") == (5, None)
    assert placed(again, NAME, "leaves") == (4, 1)
    assert members(again, NAME) == 1
    again.close()


def fingerprints(store: Store) -> tuple[bytes, bytes]:
    """Those of a galaxy and of what is left of it when its one observation is withdrawn."""
    build = BuildFingerprints(store, topics, codec)
    withdrawal = dataclasses.replace(at("w", replaces="a"), photometry=None)
    there, empty = deliver(build, codec.encode(at("a")), codec.encode(withdrawal))
    return there, empty


def test_a_score_of_before_does_not_put_a_galaxy_back_that_has_left(store: LMDBStore) -> None:
    there, empty = fingerprints(store)
    late, other = (ScoreGalaxies(store, topics, codec, Scorers(Settings()), None) for _ in range(2))
    (processed,) = late.process([Received(topics.fingerprints, 0, 0, 1000, there)])
    deliver(other, empty)
    assert members(store, RANKING) == 0
    (again,) = processed.finish()  # what it sent is followed by the newest state
    galaxy = codec.decode_as(ScoredGalaxy, again.value)
    assert (galaxy.version, galaxy.rank, galaxy.ranked_galaxies) == (2, 0, 0)
    assert processed.finish() == []
    assert members(store, RANKING) == 0
    assert placed(store, RANKING, galaxy.galaxy_id) == (2, None)
    assert deliver(other, there) == []  # nor a message that is delivered again


def test_a_score_of_before_whose_process_ended_is_followed_by_the_newest(store: LMDBStore) -> None:
    there, empty = fingerprints(store)
    late, other = (ScoreGalaxies(store, topics, codec, Scorers(Settings()), None) for _ in range(2))
    event = Received(topics.fingerprints, 1, 0, 1000, there)
    (processed,) = late.process([event])
    assert processed.messages  # published, and then it is killed
    deliver(other, empty)
    (processed,) = other.process([event])
    assert processed.messages == []
    (again,) = processed.finish()
    assert codec.decode_as(ScoredGalaxy, again.value).version == 2
    assert processed.finish() == []


def test_an_alert_of_before_is_not_what_was_said_last(store: LMDBStore) -> None:
    there, empty = fingerprints(store)
    score = ScoreGalaxies(store, topics, codec, Scorers(Settings()), None)
    scored, emptied = deliver(score, there, empty)
    late, other = (PublishAlerts(store, topics, codec) for _ in range(2))
    (processed,) = late.process([Received(topics.scored, 0, 0, 1000, scored)])
    assert len(deliver(other, scored, emptied)) == 2
    galaxy_id = codec.decode_as(ScoredGalaxy, scored).galaxy_id
    with store.reading() as reading:
        said = reading.last_alert("anything", galaxy_id)
    assert said is not None
    assert (said.version, said.active) == (2, False)
    assert processed.finish() == []
    with store.reading() as reading:
        assert reading.last_alert("anything", galaxy_id) == said
    assert placed(store, ranking_name("anything"), galaxy_id) == (2, None)
    assert members(store, ranking_name("anything")) == 0


def test_a_late_score_that_is_spoken_of_is_followed_by_the_newest(
    store: LMDBStore, scored: ScoredGalaxy
) -> None:
    """A newer score of which nothing was to be said is no bar to one that comes late.

    It is published again behind the late one by the process that scored late.
    """
    stage, offsets = PublishAlerts(store, topics, codec), itertools.count()

    def said(version: int, probability: float) -> list[tuple[str, int, float]]:
        galaxy = dataclasses.replace(scored, version=version, probability=probability)
        event = Received(topics.scored, 0, next(offsets), 1000, codec.encode(galaxy))
        (processed,) = stage.process([event])
        processed.finish()
        alerts = [codec.decode_as(Alert, each.value) for each in processed.messages]
        return [(each.alert_type, each.galaxy.version, each.galaxy.probability) for each in alerts]

    assert said(1, 0.2) == [("INITIAL", 1, 0.2)]
    assert said(3, 0.2) == []
    assert said(2, 0.9) == [("UPDATE", 2, 0.9)]  # late
    assert said(3, 0.2) == [("UPDATE", 3, 0.2)]  # published again
    assert said(2, 0.9) == []


@given(st.permutations(range(1, 5)))
def test_alerts_told_in_any_order_end_in_the_newest_version(versions: list[int]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        store = LMDBStore(Path(directory))
        for version in versions:
            alert = LastAlert(f"alert {version}", version, version % 2 == 0, 1.0, 0.5, 1.0)
            with store.writing() as writing:
                writing.put_alert("s", "g", alert)
        republished = LastAlert("again", 4, True, 1.0, 0.6, 1.0)
        with store.reading() as reading:
            last = reading.last_alert("s", "g")
            assert last is not None
            assert last.version == 4
        with store.writing() as writing:
            writing.put_alert("s", "g", republished)  # the same version, scored again
        with store.reading() as reading:
            assert reading.last_alert("s", "g") == republished
        store.close()


def test_a_galaxy_without_observations_has_no_place_in_the_table_of_the_best(
    store: LMDBStore,
) -> None:
    there, empty = fingerprints(store)
    score = ScoreGalaxies(store, topics, codec, Scorers(Settings()), None)
    scored, emptied = (
        Read(topics.scored, 0, 0, 0, b"", value, codec.decode_as(ScoredGalaxy, value))
        for value in deliver(score, there, empty)
    )
    standings = Standings()
    standings.take(scored)
    assert len(standings) == len(standings.best(10)) == 1
    for message in (emptied, scored):
        standings.take(message)
        assert len(standings) == len(standings.best(10)) == 0


# One constructor ----------------------------------------------------------------------------------


def test_the_kind_of_store_is_named_in_its_folder_alone() -> None:
    named = [each for each in tracked("streams/**.py") if "LMDBStore" in each.read_text()]
    assert {each.parent for each in named} == {REPOSITORY / "streams" / "store"}
