"""The first stage on a real store, without Kafka: batches in, messages out."""

from __future__ import annotations

import dataclasses
import itertools
import random
import tempfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmbroker.models.serving.parsers import MapParserClient, ParserClient, SpectrumParserClient
from mmbroker.processors.fingerprint import merge as fingerprints
from mmbroker.processors.fingerprint.contribution import observation_hash
from mmbroker.schemas.codec import Codec
from mmbroker.schemas.events import (
    BandMeasurement,
    Fingerprint,
    Observation,
    Photometry,
    Quarantine,
    Spectrum,
)
from mmbroker.schemas.records import to_record
from mmbroker.streams.errors import InfrastructureError
from mmbroker.streams.stages.archive import rebuild
from mmbroker.streams.stages.build_fingerprints import BuildFingerprints
from mmbroker.streams.stages.messages import OBSERVED_AT, Outgoing, Received, note_observed
from mmbroker.streams.store import LMDBStore, StoreError
from mmbroker.streams.topics import Topics
from tests.strategies import continuum_map, members, observations

codec = Codec()
topics = Topics()
near = st.lists(observations(), min_size=1, max_size=8, unique_by=lambda o: o.observation_id)


class Feed:
    """A stage with the topic that it reads."""

    def __init__(self, store: Path | LMDBStore, parsers: Sequence[ParserClient] = ()) -> None:
        self.store = LMDBStore(store) if isinstance(store, Path) else store
        self.stage = BuildFingerprints(self.store, topics, codec, parsers)
        self.topic: list[bytes] = []

    def send(self, *events: Observation | bytes) -> list[Outgoing]:
        """Append events to the topic and process them as one batch."""
        data = [each if isinstance(each, bytes) else codec.encode(each) for each in events]
        self.topic += data
        return self.deliver(range(len(self.topic) - len(data), len(self.topic)))

    def deliver(self, offsets: Sequence[int]) -> list[Outgoing]:
        """Process what stands at some offsets, perhaps again."""
        batch = [
            Received(topics.observations, 0, offset, 1000 + offset, self.topic[offset])
            for offset in offsets
        ]
        messages = []
        for processed in self.stage.process_safely(batch):
            messages += processed.messages
            while more := processed.finish():
                messages += more
        return messages

    def outcomes(self) -> dict[str, int]:
        with self.store.reading() as reading:
            return {name: count for (_, name), count in reading.counts().items()}

    def galaxies(self) -> list[Fingerprint]:
        with self.store.reading() as reading:
            encoded = [reading.fingerprint(each) for each in reading.galaxy_ids()]
        return [codec.decode_as(Fingerprint, each) for each in encoded]

    def members(self) -> set[frozenset[bytes]]:
        """The galaxies as sets of their observations."""
        return {
            frozenset(each.observation_hashes[start : start + 16]
                      for start in range(0, len(each.observation_hashes), 16))
            for each in self.galaxies()
            if each.acquisition.observations
        }  # fmt: skip


@pytest.fixture
def feed(tmp_path: Path) -> Iterator[Feed]:
    made = Feed(tmp_path / "store")
    yield made
    made.store.close()


def at(
    name: str,
    right_ascension: float = 150.0,
    declination: float = 2.0,
    error: float = 0.3,
    flux: float = 0.01,
    replaces: str | None = None,
) -> Observation:
    measured = BandMeasurement("SCUBA2-850", 352.7e9, flux, 1e-3)
    return Observation(
        name, "SCUBA-2", right_ascension % 360, declination, error, 59000.0,
        replaces=replaces, photometry=Photometry([measured]),
    )  # fmt: skip


def published(messages: Iterable[Outgoing]) -> list[Fingerprint]:
    return [
        codec.decode_as(Fingerprint, each.value)
        for each in messages
        if each.topic == topics.fingerprints
    ]


def quarantined(messages: Iterable[Outgoing]) -> list[Quarantine]:
    return [
        codec.decode_as(Quarantine, each.value)
        for each in messages
        if each.topic == topics.quarantine
    ]


# Repeats, redeliveries, order -------------------------------------------------------------------


@given(near, st.randoms(use_true_random=False))
@settings(max_examples=25)
def test_batches_repeats_and_redeliveries_change_nothing(
    events: list[Observation], chance: random.Random
) -> None:
    with tempfile.TemporaryDirectory() as directory:
        whole, parts = Feed(Path(directory, "whole")), Feed(Path(directory, "parts"))
        whole.send(*events)
        for event in events:
            parts.send(event)
            parts.deliver([chance.randrange(len(parts.topic))])  # redelivered after a crash
            parts.send(chance.choice(events[: events.index(event) + 1]))  # published again
        assert whole.members() == parts.members()
        one, other = whole.galaxies()[0], parts.galaxies()[0]
        assert one.digest == other.digest
        assert parts.outcomes() == {"merged": len(events), "repeated": len(events)}
        whole.store.close()
        parts.store.close()


def test_a_repeat_publishes_its_galaxy_again(feed: Feed) -> None:
    (first,) = published(feed.send(at("a")))
    (again,) = published(feed.deliver([0]))
    assert to_record(first) == to_record(again)
    assert feed.outcomes() == {"merged": 1}


def test_a_galaxy_is_published_once_a_batch_with_the_version_of_its_last_change(feed: Feed) -> None:
    (fingerprint,) = published(feed.send(at("a"), at("b"), at("c")))
    assert (fingerprint.version, fingerprint.acquisition.observations) == (3, 3)
    assert fingerprint.galaxy_id == fingerprints.galaxy_id("a")


def test_a_fingerprint_is_as_late_as_the_earliest_observation_that_came_into_it(
    feed: Feed,
) -> None:
    (message,) = feed.send(at("a"), at("b"), at("c"))
    assert message.headers == {OBSERVED_AT: b"1000"}  # the offset of each is added to its time
    assert [each.headers for each in feed.send(at("d"))] == [{OBSERVED_AT: b"1003"}]


@given(st.permutations([9, 10, 99, 1764170000000, 1764170000001]))
def test_of_several_times_the_earliest_is_kept(times: list[int]) -> None:
    observed_at: dict[str, bytes] = {}
    for time_ms in times:
        note_observed(observed_at, "galaxy", Received("t", 0, 0, time_ms, b""))
    assert observed_at == {"galaxy": b"9"}


# Association ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("right_ascension", "declination"),
    [(0.0, 0.0), (359.99999, 30.0), (0.0, 90.0), (77.0, -90.0), (45.0, 41.8103148957786)],
)
def test_observations_of_one_galaxy_meet_wherever_it_is(
    feed: Feed, right_ascension: float, declination: float
) -> None:
    step = 0.2 / 3600
    inward = -1 if declination > 0 else 1
    feed.send(
        at("a", right_ascension, declination),
        at("b", right_ascension + step, declination),
        at("c", right_ascension - step, declination),
        at("d", right_ascension, declination + inward * step),
    )
    assert len(feed.members()) == 1


def test_around_the_pole_right_ascension_means_nothing(feed: Feed) -> None:
    feed.send(*(at(str(angle), angle, 90.0 - 0.1 / 3600) for angle in range(0, 360, 60)))
    assert len(feed.members()) == 1


def test_two_galaxies_closer_than_the_errors_are_flagged(feed: Feed) -> None:
    feed.send(at("a", error=0.2), at("b", declination=2.0 + 2.5 / 3600, error=0.2))
    assert len(feed.members()) == 2
    (fingerprint,) = published(feed.send(at("c", declination=2.0 + 1.25 / 3600, error=2.0)))
    assert fingerprint.acquisition.ambiguous == 1
    others = {fingerprints.galaxy_id("a"), fingerprints.galaxy_id("b")} - {fingerprint.galaxy_id}
    assert set(fingerprint.candidates) == others


def test_a_wide_beam_finds_a_precise_galaxy_and_the_other_way_round(feed: Feed) -> None:
    feed.send(at("alma", error=0.1), at("spire", declination=2.0 + 2.0 / 3600, error=3.0))
    assert len(feed.members()) == 1
    feed.send(at("wide", 10.0, error=4.0), at("narrow", 10.0 + 2.0 / 3600, error=0.1))
    assert len(feed.members()) == 2


def test_two_workers_on_neighbouring_cells_make_one_galaxy(tmp_path: Path) -> None:
    one = Feed(tmp_path)
    other = Feed(one.store)
    edge = 45.0  # an edge between base cells of the sphere
    for number in range(10):
        one.send(at(f"a{number}", edge - 0.01 / 3600, 0.0))
        other.send(at(f"b{number}", edge + 0.01 / 3600, 0.0))
    (members,) = one.members()
    assert len(members) == 20
    one.store.close()


def test_a_worker_publishes_what_another_changed_meanwhile(tmp_path: Path) -> None:
    one = Feed(tmp_path)
    other = Feed(one.store)
    data = codec.encode(at("a"))
    batch = [Received(topics.observations, 0, 0, 0, data)]
    (first,) = one.stage.process(batch)
    elsewhere = [Received(topics.observations, 1, 0, 0, codec.encode(at("b")))]
    (second,) = other.stage.process(elsewhere)
    assert second.finish() == []  # it published the newest state
    (late,) = published(first.finish())  # this one did not: it publishes that state after its own
    assert late.version == 2
    assert first.finish() == []
    one.store.close()


# Corrections and withdrawals ----------------------------------------------------------------------


def test_a_correction_rebuilds_the_galaxy_without_what_it_replaces(feed: Feed) -> None:
    feed.send(at("a", flux=0.01), at("b", flux=0.02))
    (fingerprint,) = published(feed.send(at("c", flux=0.03, replaces="a")))
    assert (fingerprint.version, fingerprint.acquisition.observations) == (4, 2)
    (band,) = fingerprint.bands
    assert band.weighted_flux / band.weight == pytest.approx(0.025)
    assert feed.outcomes() == {"merged": 2, "corrected": 1}


def test_a_withdrawal_leaves_what_remains(feed: Feed) -> None:
    feed.send(at("a"), at("b"))
    withdrawal = dataclasses.replace(at("w", replaces="a"), photometry=None)
    (fingerprint,) = published(feed.send(withdrawal))
    assert observation_hash("b") in members(fingerprint)
    assert observation_hash("a") not in members(fingerprint)
    assert feed.outcomes() == {"merged": 2, "withdrawn": 1}


def test_a_galaxy_whose_last_observation_is_withdrawn_is_empty_and_no_longer_found(
    feed: Feed,
) -> None:
    feed.send(at("a"))
    withdrawal = dataclasses.replace(at("w", replaces="a"), photometry=None)
    (fingerprint,) = published(feed.send(withdrawal))
    assert fingerprint.acquisition.observations == 0
    assert fingerprint.right_ascension_deg == pytest.approx(150.0)
    (new,) = published(feed.send(at("b")))
    assert new.galaxy_id != fingerprint.galaxy_id


def test_a_correction_that_arrives_before_what_it_corrects_wins_all_the_same(feed: Feed) -> None:
    feed.send(at("c", flux=0.03, replaces="a"))
    assert published(feed.send(at("a", flux=0.01))) == []
    (fingerprint,) = feed.galaxies()
    assert fingerprint.bands[0].weighted_flux / fingerprint.bands[0].weight == pytest.approx(0.03)
    assert feed.outcomes() == {"corrected": 1, "superseded": 1}


def test_what_was_corrected_does_not_come_back_by_a_repeat(feed: Feed) -> None:
    feed.send(at("a"), at("c", replaces="a"))
    feed.send(at("a"))
    assert feed.members() == {frozenset([observation_hash("c")])}


def test_what_a_crash_kept_from_being_published_is_published_by_the_redelivery(feed: Feed) -> None:
    far = at("far", right_ascension=20.0)
    withdrawal = dataclasses.replace(at("w", replaces="a"), photometry=None)
    elsewhere = at("c", right_ascension=20.0, replaces="b")
    for event in (at("a"), at("b"), far, withdrawal, elsewhere):
        before = published(feed.send(event))  # what a crash would keep from Kafka
        again = published(feed.deliver([len(feed.topic) - 1]))
        assert sorted(map(codec.encode, again)) == sorted(map(codec.encode, before))


@pytest.mark.parametrize("order", list(itertools.permutations(["x", "c", "d"])))
def test_a_chain_of_corrections_leaves_the_last_in_any_order(
    feed: Feed, order: tuple[str, ...]
) -> None:
    chain = {"x": at("x"), "c": at("c", replaces="x"), "d": at("d", replaces="c")}
    for name in order:
        feed.send(chain[name])
    assert feed.members() == {frozenset([observation_hash("d")])}


def test_the_same_id_with_other_content_is_told_and_changes_nothing(feed: Feed) -> None:
    feed.send(at("a", flux=0.01))
    (told,) = quarantined(feed.send(at("a", flux=0.02)))
    assert told.reason == "conflicting"
    assert "names this one in replaces" in told.detail
    assert quarantined(feed.send(codec.encode(at("a", flux=0.01), "container"))) == []
    assert feed.outcomes() == {"merged": 1, "repeated": 1, "quarantined: conflicting": 1}


def test_what_expired_unread_is_told_from_gaps_in_the_log(
    feed: Feed, caplog: pytest.LogCaptureFixture
) -> None:
    feed.topic = [b""] * 10
    feed.stage.log_start = lambda topic, partition: 7
    feed.send(at("a"))
    assert "offsets 0 to 6 of mm.observations.v1 [0] are lost" in caplog.text
    caplog.clear()
    feed.topic += [b""] * 4
    feed.send(at("b"))
    assert "lost" not in caplog.text
    feed.stage.log_start = lambda topic, partition: 1000  # it has moved past what was just read
    feed.topic += [b""] * 2
    feed.send(at("c"))
    assert feed.outcomes() == {
        "lost: expired unread": 7 + 2,
        "compacted unread, or no event": 3 + 4,
        "merged": 3,
    }


@given(near, st.data())
@settings(max_examples=25)
def test_corrections_equal_never_having_seen_what_they_replace(
    events: list[Observation], data: st.DataObject
) -> None:
    replaced = data.draw(st.sampled_from(events))
    correction = at("the correction", replaces=replaced.observation_id)
    with tempfile.TemporaryDirectory() as directory:
        feed = Feed(Path(directory))
        order = data.draw(st.permutations([*events, correction]))
        for event in order:
            feed.send(event)
        remaining = {observation_hash(o.observation_id) for o in order if o is not replaced}
        assert frozenset.union(*feed.members()) == remaining
        with feed.store.reading() as reading:
            for fingerprint in feed.galaxies():
                if fingerprint.acquisition.observations:
                    again = rebuild(reading, codec, fingerprint)
                    again = dataclasses.replace(again, version=fingerprint.version)
                    assert codec.encode(again) == codec.encode(fingerprint)
        feed.store.close()


# Feature trees -----------------------------------------------------------------------------------


@pytest.fixture
def parsers(triton_url: str) -> Iterator[list[ParserClient]]:
    with (
        SpectrumParserClient(triton_url, "parser", deadline_s=20.0) as spectra,
        MapParserClient(triton_url, "map_parser", deadline_s=20.0) as maps,
    ):
        yield [spectra, maps]


@pytest.fixture
def parsing(tmp_path: Path, parsers: list[ParserClient]) -> Iterator[Feed]:
    made = Feed(tmp_path / "store", parsers)
    yield made
    made.store.close()


def spectrum_at(
    name: str, time_mjd: float = 59000.0, channels: int = 400, replaces: str | None = None
) -> Observation:
    """A spectrum with a bright line, at one place whatever its name."""
    random = np.random.default_rng(zlib.crc32(name.encode()))
    frequency = np.linspace(96e9, 104e9, channels)
    line = 5e-3 * np.exp(-0.5 * ((frequency - 100e9) / 40e6) ** 2)
    flux = line + 3e-4 * random.standard_normal(channels)
    measured = Spectrum(frequency, "BARYCENTRIC", flux, np.full(channels, 3e-4))
    return Observation(
        name, "ALMA", 150.0, 2.0, 0.3, time_mjd, replaces=replaces, spectrum=measured
    )


def map_at(name: str) -> Observation:
    measured = continuum_map(150.0, 2.0)
    return Observation(name, "ALMA", 150.0, 2.0, 0.3, 59000.0, continuum_map=measured)


def parsed_ids(fingerprint: Fingerprint) -> list[str]:
    return [tree.observation_id for tree in fingerprint.parsed]


def trees(fingerprint: Fingerprint) -> list[object]:
    return [to_record(tree) for tree in fingerprint.parsed]


def test_spectra_and_maps_are_parsed_and_nothing_else(
    parsing: Feed, parsers: list[ParserClient]
) -> None:
    (fingerprint,) = published(parsing.send(at("a"), spectrum_at("s"), map_at("m")))
    by_id = {tree.observation_id: tree for tree in fingerprint.parsed}
    assert by_id.keys() == {"s", "m"}
    line = max(by_id["s"].lines, key=lambda each: each.flux_jy_km_s)
    assert line.frequency_hz == pytest.approx(100e9, rel=1e-4)
    morphology = by_id["m"].morphology
    assert morphology is not None
    assert morphology.name == "compact"
    spectra, maps = parsers
    assert (by_id["s"].model, by_id["m"].model) == (spectra.label(1), maps.label(1))
    assert parsing.outcomes() == {"merged": 3}


def test_trees_depend_on_neither_batches_nor_redeliveries(
    tmp_path: Path, parsing: Feed, parsers: list[ParserClient]
) -> None:
    events = [spectrum_at(f"s{number}", 59000.0 + number, 300 + 40 * number) for number in range(5)]
    events.append(map_at("m"))
    parsing.send(*events)
    parts = Feed(tmp_path / "parts", parsers)
    for event in events[::-1]:
        parts.send(event)
        parts.deliver([0])
        parts.send(event)
    (one,), (other,) = parsing.galaxies(), parts.galaxies()
    assert len(one.parsed) == 6
    assert trees(one) == trees(other)
    parts.store.close()


def test_what_no_parser_can_read_is_merged_without_a_tree(parsing: Feed) -> None:
    short = spectrum_at("short", channels=6)
    assert short.spectrum is not None
    blank = np.full(400, np.nan, np.float32)
    blank[200] = 1e-3
    measured = dataclasses.replace(spectrum_at("b").spectrum, flux_density_jy=blank)  # type: ignore[type-var]
    almost_blank = dataclasses.replace(spectrum_at("blank"), spectrum=measured)
    infrared = dataclasses.replace(short.spectrum, frequency_hz=short.spectrum.frequency_hz * 6)
    far = dataclasses.replace(spectrum_at("far"), spectrum=infrared)
    (fingerprint,) = published(parsing.send(short, almost_blank, far, spectrum_at("good")))
    assert parsed_ids(fingerprint) == ["good"]
    assert parsing.outcomes() == {"merged": 4}


def test_a_galaxy_made_again_has_the_trees_that_it_had(parsing: Feed) -> None:
    (before,) = published(parsing.send(spectrum_at("s"), spectrum_at("t"), map_at("m"), at("a")))
    (after,) = published(parsing.send(spectrum_at("c", replaces="t")))
    assert parsed_ids(before) == ["m", "s", "t"]
    assert parsed_ids(after) == ["c", "m", "s"]
    kept = {tree.observation_id: to_record(tree) for tree in after.parsed}
    for tree in before.parsed:
        assert kept.get(tree.observation_id, to_record(tree)) == to_record(tree)
    with parsing.store.reading() as reading:
        again = rebuild(reading, codec, after)
    assert codec.encode(dataclasses.replace(again, version=after.version)) == codec.encode(after)


def test_trees_of_older_observations_come_back_when_newer_ones_are_withdrawn(
    tmp_path: Path, parsing: Feed, parsers: list[ParserClient]
) -> None:
    count = fingerprints.MAX_PARSED + 3
    events = [spectrum_at(f"s{number}", 59000.0 + number) for number in range(count)]
    (before,) = published(parsing.send(*events))
    assert parsed_ids(before) == [each.observation_id for each in events[3:]]
    withdrawals = [
        dataclasses.replace(spectrum_at(f"w{number}", replaces=f"s{number}"), spectrum=None)
        for number in (count - 1, 5)
    ]
    (after,) = published(parsing.send(*withdrawals))
    without = Feed(tmp_path / "without", parsers)
    left = [each for number, each in enumerate(events) if number not in (count - 1, 5)]
    (expected,) = published(without.send(*left))
    assert len(after.parsed) == fingerprints.MAX_PARSED
    assert trees(after) == trees(expected)
    without.store.close()


def test_without_a_parser_nothing_is_taken_in_until_it_is_back(
    tmp_path: Path, parsers: list[ParserClient]
) -> None:
    store = LMDBStore(tmp_path / "store")
    with SpectrumParserClient("127.0.0.1:9", "parser", deadline_s=1.0, retries=0) as away:
        waiting = Feed(store, [away])
        with pytest.raises(InfrastructureError, match=r"127\.0\.0\.1:9"):
            waiting.send(at("a"), spectrum_at("s"))
        with pytest.raises(InfrastructureError, match="does not serve version 1"):
            waiting.stage.probe()
        assert waiting.outcomes() == {}
        assert waiting.galaxies() == []
        with pytest.raises(InfrastructureError):  # also one alone: it is not the observation
            waiting.deliver([1])
        waiting.deliver([0])  # in which no parser has a part
        assert waiting.outcomes() == {"merged": 1}
    back = Feed(store, parsers)
    back.topic = waiting.topic
    back.stage.probe()
    (fingerprint,) = published(back.deliver([0, 1]))
    assert parsed_ids(fingerprint) == ["s"]
    store.close()


def test_a_version_that_is_in_force_and_not_served_is_waited_for(
    parsing: Feed, parsers: list[ParserClient]
) -> None:
    with parsing.store.writing() as writing:
        writing.use_model("parser", 9)
    with pytest.raises(InfrastructureError, match="version 9"):
        parsing.send(spectrum_at("s"))
    with pytest.raises(InfrastructureError, match="does not serve version 9"):
        parsing.stage.probe()
    with parsing.store.writing() as writing:
        writing.use_model("parser", 1)
    (fingerprint,) = published(parsing.deliver([0]))
    assert parsed_ids(fingerprint) == ["s"]


# Bad events ---------------------------------------------------------------------------------------


def test_a_bad_event_costs_one_quarantine_message_and_nothing_else(feed: Feed) -> None:
    impossible = dataclasses.replace(at("x"), declination_deg=123.4)
    spectrum = Spectrum([1e9, 2e9], "LSRK", [1.0, 1.0], [1.0, 1.0])  # type: ignore[arg-type]
    unusable = dataclasses.replace(at("y"), photometry=None, spectrum=spectrum)
    messages = feed.send(at("a"), b"rubbish", impossible, b"", unusable, at("b"))
    reasons = [each.reason for each in quarantined(messages)]
    assert reasons == ["undecodable", "invalid", "undecodable", "unusable"]
    details = [each.detail for each in quarantined(messages)]
    assert "declination_deg = 123.4" in details[1]
    assert quarantined(messages)[0].original == b"rubbish"
    assert len(feed.members()) == 1
    assert sum(feed.outcomes().values()) == 6


def test_an_event_that_meets_a_fault_of_the_program_costs_that_event_alone(
    feed: Feed, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mmbroker.streams.stages import build_fingerprints

    real = build_fingerprints.contribution

    def faulty(observation: Observation) -> object:
        if observation.observation_id == "poison":
            raise ZeroDivisionError("a fault")
        return real(observation)

    monkeypatch.setattr(build_fingerprints, "contribution", faulty)
    messages = feed.send(at("a"), at("poison"), at("b"))
    (kept,) = quarantined(messages)
    assert (kept.reason, kept.detail) == ("internal-error", "ZeroDivisionError: a fault")
    assert feed.outcomes() == {"merged": 2, "quarantined: internal-error": 1}


# The store ----------------------------------------------------------------------------------------


def test_a_transaction_that_fails_leaves_no_trace(feed: Feed) -> None:
    def fail() -> None:
        with feed.store.writing() as writing:
            writing.put_fingerprint("g", 1, b"x")
            writing.account("s", {("t", 0): 5}, {"merged": 5})
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    with feed.store.reading() as reading:
        assert reading.fingerprint("g") is None
        assert reading.counts() == {}


def test_a_store_that_is_not_one_is_said_clearly(tmp_path: Path) -> None:
    (tmp_path / "data.mdb").write_bytes(b"not a store" * 1000)
    with pytest.raises(StoreError, match="cannot be opened"):
        LMDBStore(tmp_path)


def test_a_store_outlives_its_process(tmp_path: Path) -> None:
    first = Feed(tmp_path)
    first.send(at("a"))
    first.store.close()
    second = Feed(tmp_path)
    second.topic = first.topic
    second.send(at("b"))
    (members,) = second.members()
    assert len(members) == 2
    second.store.close()
