"""Corrections and withdrawals, however many come at once, however large their galaxies are."""

from __future__ import annotations

import dataclasses
import random
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmbroker.processors.fingerprint import merge as fingerprints
from mmbroker.processors.fingerprint.contribution import contribution, observation_hash
from mmbroker.processors.fingerprint.merge import Addition, Merging, Tally, outline
from mmbroker.schemas.events import BandMeasurement, Observation, Photometry, Source
from mmbroker.streams.stages import build_fingerprints, galaxies
from mmbroker.streams.stages.archive import Rebuilding
from mmbroker.streams.stages.archive import rebuild as archived_again
from tests.strategies import observations
from tests.streams.stages.test_build_fingerprints import Feed, at, codec, published

NEAR_ARCSEC = 4.0


def some(chance: random.Random, count: int) -> list[Observation]:
    """Observations of a few close galaxies, of which many replace others, known or to come."""
    made = []
    for number in range(count):
        replaced = f"o{chance.randrange(count)}" if chance.random() < 0.5 else None
        made.append(
            Observation(
                f"o{number}",
                f"instrument {chance.randrange(3)}",
                150.0 + chance.choice([0.0, 0.0, 1.5, NEAR_ARCSEC]) / 3600,
                2.0 + chance.gauss(0.0, 0.2) / 3600,
                chance.uniform(0.1, 1.0),
                59_000.0 + chance.random(),
                replaces=None if replaced == f"o{number}" else replaced,
                photometry=Photometry(
                    [
                        BandMeasurement(f"band {band}", 1e11 * (band + 1), chance.random(), 0.1)
                        for band in chance.sample(range(9), 2)
                    ]
                ),
            )
        )
    return made


def state(feed: Feed) -> tuple[object, ...]:
    """All that a store has of its galaxies, and what was counted."""
    with feed.store.reading() as reading:
        galaxy_ids = [*reading.galaxy_ids()]
        stored = [reading.fingerprint(galaxy_id) for galaxy_id in galaxy_ids]
        return galaxy_ids, stored, [*reading.observations()], reading.counts()


@given(st.randoms(use_true_random=False), st.sampled_from([0.0, 60.0]))
@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_batches_of_corrections_give_to_the_bit_what_the_events_give_one_by_one(
    monkeypatch: pytest.MonkeyPatch, chance: random.Random, seconds: float
) -> None:
    monkeypatch.setattr(fingerprints, "MAX_BANDS", 6)  # so that galaxies are full now and then
    events = some(chance, 40)
    with tempfile.TemporaryDirectory() as directory:
        single, batches = Feed(Path(directory, "single")), Feed(Path(directory, "batches"))
        for event in events:
            single.send(event)
        monkeypatch.setattr(build_fingerprints, "PART_S", seconds)  # 0: all is read outside
        left = [*events]
        while left:
            size = chance.randrange(1, 20)
            batches.send(*left[:size])
            left = left[size:]
        assert state(single) == state(batches)
        with batches.store.reading() as reading:
            for fingerprint in batches.galaxies():
                again = archived_again(reading, codec, fingerprint)
                again = dataclasses.replace(again, version=fingerprint.version)
                assert codec.encode(again) == codec.encode(fingerprint)
        single.store.close()
        batches.store.close()


@given(st.lists(observations(), min_size=1, max_size=6, unique_by=lambda each: each.observation_id))
@settings(max_examples=25)
def test_a_tally_says_of_any_observations_what_their_fingerprint_says(
    events: list[Observation],
) -> None:
    tally = Tally({observation_hash(each.observation_id): outline(each) for each in events[:3]})
    for each in events[3:]:
        tally.add(observation_hash(each.observation_id), outline(each))
    for first in range(len(events)):
        merging = Merging(fingerprints.empty("g"))
        for each in events[first:]:
            merging.add(Addition(contribution(each), Source("", "", 0, 0)))
        assert tally.observations == merging.observations
        assert tally.position == merging.position
        if first + 1 < len(events):
            tally.take_out(observation_hash(events[first].observation_id))


class Counting(Rebuilding):
    """Counts how many observations are merged again."""

    merged = 0

    def extend(self, reading, codec, hashes, go_on=lambda: True):  # type: ignore[no-untyped-def]
        Counting.merged += len(hashes) - len(self._hashes)
        return super().extend(reading, codec, hashes, go_on)


def test_a_galaxy_is_made_again_once_for_all_corrections_of_a_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    feed, count = Feed(tmp_path), 300
    feed.send(*(at(f"o{number}") for number in range(count)))
    monkeypatch.setattr(galaxies, "Rebuilding", Counting)
    Counting.merged = 0
    corrections = [at(f"c{number}", replaces=f"o{number}") for number in range(count // 2)]
    (fingerprint,) = published(feed.send(*corrections))
    assert Counting.merged == count - len(corrections)
    assert fingerprint.version == count + 2 * len(corrections)
    feed.store.close()


def test_a_batch_that_takes_long_is_counted_in_parts_and_its_progress_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    feed = Feed(tmp_path)
    told: list[int] = []
    feed.stage.progressed = lambda: told.append(1)
    feed.send(*(at(f"o{number}") for number in range(20)))
    monkeypatch.setattr(build_fingerprints, "PART_S", 0.0)
    corrections = [codec.encode(at(f"c{number}", replaces=f"o{number}")) for number in range(5)]
    counted = []
    batch = [dataclasses.replace(each) for each in received(feed, corrections)]
    for processed in feed.stage.process_safely(batch):
        counted.append(feed.outcomes().get("corrected", 0))
        assert processed.messages
    assert counted == [1, 2, 3, 4, 5]
    assert told
    feed.store.close()


def test_a_batch_is_cut_where_it_has_read_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    feed = Feed(tmp_path)
    places = [at(f"o{number}", declination=number / 10) for number in range(30)]
    feed.send(*places)
    monkeypatch.setattr(build_fingerprints, "PART_BYTES", 2000)
    more = [
        dataclasses.replace(each, observation_id=f"more {each.observation_id}") for each in places
    ]
    parts = [*feed.stage.process_safely(received(feed, [*map(codec.encode, more)]))]
    assert len(parts) > 3
    assert sum(len(part.messages) for part in parts) == len(places)
    assert feed.outcomes() == {"merged": 60}
    feed.store.close()


def received(feed: Feed, data: Sequence[bytes]) -> list[build_fingerprints.Received]:
    start = len(feed.topic)
    feed.topic += data
    return [
        build_fingerprints.Received("mm.observations.v1", 0, start + number, 1000, each)
        for number, each in enumerate(data)
    ]
