"""The whole broker on a real Kafka and a real Triton."""

from __future__ import annotations

import dataclasses
import json
import math
from collections import Counter
from collections.abc import Callable

import pytest

from mmbroker.models.simulation.observations import simulate
from mmbroker.processors.fingerprint import merge as fingerprints
from mmbroker.processors.fingerprint.contribution import observation_hash
from mmbroker.schemas.codec import Codec
from mmbroker.schemas.events import (
    Alert,
    BandMeasurement,
    Fingerprint,
    Observation,
    ParsedObservation,
    Photometry,
    Quarantine,
    ScoredGalaxy,
)
from mmbroker.schemas.records import to_record, to_rows
from mmbroker.streams.proving.truth import parse_at_once
from mmbroker.streams.subscribing.read import Read
from tests.conftest import Broker

pytestmark = pytest.mark.slow
GALAXIES = 60


@pytest.fixture(scope="module")
def observations() -> list[Observation]:
    return list(simulate(GALAXIES, seed=11))


@pytest.fixture(scope="module")
def broker(make_broker: Callable[..., Broker]) -> Broker:
    """A broker that only these tests fill."""
    return make_broker()


@pytest.fixture(scope="module")
def filled(broker: Broker, observations: list[Observation]) -> Broker:
    """The broker after the observations, some of them twice, and three malformed messages."""
    malformed = [b"nonsense", b"\x00\x00\x00\x00\x01", Codec().encode(observations[0])[:-1]]
    broker.publish([*observations, *observations[:20], *malformed])
    return broker


def newest(messages: list[Read]) -> dict[str, Read]:
    """The last message of every galaxy, as a compacted topic keeps it."""
    return {message.key.decode(): message for message in messages}


def test_every_event_is_accounted_for_exactly(
    filled: Broker, observations: list[Observation]
) -> None:
    build, score, publish = filled.ledger()
    assert build.received == len(observations) + 23
    assert build.outcomes == {
        "merged": len(observations),
        "repeated": 20,
        "quarantined: undecodable": 3,
    }
    assert score.closes
    assert publish.closes


def test_what_is_malformed_is_quarantined_with_its_bytes_and_a_reason(filled: Broker) -> None:
    events = [message.event for message in filled.read("quarantine")]
    assert all(isinstance(event, Quarantine) for event in events)
    originals = {event.original: event for event in events if isinstance(event, Quarantine)}
    assert b"nonsense" in originals
    assert "neither Confluent framing nor an Avro container" in originals[b"nonsense"].detail
    assert originals[b"nonsense"].topic == filled.settings.topics.observations


def test_the_compacted_topic_is_the_store(filled: Broker) -> None:
    from mmbroker.streams.store import open_store

    published = newest(filled.read("fingerprints"))
    store = open_store(filled.settings)
    with store.reading() as reading:
        stored = {galaxy: reading.fingerprint(galaxy) for galaxy in reading.galaxy_ids()}
    store.close()
    assert {galaxy: message.value for galaxy, message in published.items()} == stored


@pytest.fixture(scope="module")
def trees(broker: Broker, observations: list[Observation]) -> dict[str, ParsedObservation]:
    """The feature trees of all observations, by the observations' ids."""
    return parse_at_once(broker.settings, observations)


def test_every_fingerprint_equals_a_batch_rebuild(
    filled: Broker, observations: list[Observation], trees: dict[str, ParsedObservation]
) -> None:
    by_hash = {observation_hash(o.observation_id): o for o in observations}
    members = Counter[str]()
    for message in newest(filled.read("fingerprints")).values():
        fingerprint = message.event
        assert isinstance(fingerprint, Fingerprint)
        hashes = fingerprint.observation_hashes
        merged = [by_hash[hashes[start : start + 16]] for start in range(0, len(hashes), 16)]
        members.update(each.observation_id for each in merged)
        again = fingerprints.build(fingerprint.galaxy_id, merged, trees)
        ignored = {"recent_sources", "candidates", "acquisition"}
        one, other = to_rows(fingerprint), to_rows(again)
        assert {k: v for k, v in one.items() if k not in ignored} == {
            k: v for k, v in other.items() if k not in ignored
        }
    assert members == Counter(each.observation_id for each in observations)


@pytest.mark.slow
def test_with_all_models_switched_off_no_triton_is_needed(
    make_broker: Callable[..., Broker],
) -> None:
    names = ("CRITIC", "PARSER", "MAP_PARSER")
    broker = make_broker(
        MMBROKER_TRITON__URL="127.0.0.1:9",
        MMBROKER_TRITON__REFINED_REDSHIFT="false",
        **{f"MMBROKER_TRITON__{name}": "" for name in names},
    )
    assert "no model is configured" in broker.command("check").stdout
    broker.publish(simulate(30, seed=6))
    galaxies = [each.galaxy for each in newest(broker.read("scored")).values() if each.galaxy]
    assert galaxies
    for galaxy in galaxies:
        assert galaxy.critic.output is None
        assert galaxy.parsed == []
        assert (galaxy.refined_redshift, galaxy.refined_redshift_reason) == (None, "")
        assert {each.role for each in galaxy.models} == {
            "redshift", "reliability", "recovered-lines",
        }  # fmt: skip


def test_feature_trees_stand_in_scores_alerts_and_explanations(
    filled: Broker, trees: dict[str, ParsedObservation]
) -> None:
    assert trees
    scores = [each.galaxy for each in newest(filled.read("scored")).values() if each.galaxy]
    told = {tree.observation_id: to_record(tree) for each in scores for tree in each.parsed}
    assert told == {name: to_record(tree) for name, tree in trees.items()}
    by_name = {each.model.split()[0]: each for score in scores for each in score.parsed}
    assert by_name.keys() == {"parser", "map_parser"}
    for score in scores:
        labels = {tree.model for tree in score.parsed}
        used = [each for each in score.models if each.role == "parsed"]
        assert {f"{each.name} {each.version} {each.sha256}" for each in used} == labels
    with_line = next(score for score in scores for tree in score.parsed if tree.lines)
    said = " ".join(filled.command("explain", with_line.galaxy_id).stdout.split())
    assert "read by parser 1" in said
    assert by_name["parser"].model.split()[2][:16] in said.replace(" ", "")
    assert filled.command("verify", with_line.galaxy_id).stdout.count("identical") == 2


def test_every_galaxy_is_scored_at_its_newest_version(filled: Broker) -> None:
    versions = {
        galaxy: message.event.version
        for galaxy, message in newest(filled.read("fingerprints")).items()
        if isinstance(message.event, Fingerprint)
    }
    scores = newest(filled.read("scored"))
    assert {
        galaxy: each.galaxy.version for galaxy, each in scores.items() if each.galaxy
    } == versions
    for message in scores.values():
        galaxy = message.galaxy
        assert galaxy is not None
        inputs = galaxy.redshift.inputs if galaxy.redshift else []
        nothing_seen = inputs == ["photometric-redshift"]
        assert nothing_seen or galaxy.critic.genuine_probability is not None
        assert galaxy.provenance.model_hash
        assert galaxy.provenance.model_hash in {model.sha256 for model in galaxy.models}
        assert galaxy.simulated
        assert [each.name for each in galaxy.evaluations if each.score is None] == [
            "logic", "simulation", "novelty", "impact",
        ]  # fmt: skip
        assert sum(each.weight for each in galaxy.evaluations) == pytest.approx(1.0)
        if galaxy.redshift is None:
            assert galaxy.redshift_reason.startswith("no redshift yet: ")
            assert (galaxy.rank, galaxy.probability, galaxy.reliability) == (0, None, None)
            continue
        assert galaxy.redshift.grid_probability.sum() == pytest.approx(1.0, abs=1e-3)
        assert galaxy.reliability is not None
        odds = math.exp(sum(term.log_odds for term in galaxy.reliability.terms))
        assert galaxy.probability == pytest.approx(odds / (1 + odds))
        assert 1 <= galaxy.rank <= galaxy.ranked_galaxies


def test_no_alert_is_about_a_galaxy_without_a_redshift(filled: Broker) -> None:
    scores = newest(filled.read("scored")).values()
    without = {
        each.galaxy.galaxy_id for each in scores if each.galaxy and each.galaxy.redshift is None
    }
    assert without
    alerts = [each.galaxy for each in newest(filled.read("confident")).values()]
    assert not without & {galaxy.galaxy_id for galaxy in alerts if galaxy is not None}
    explained = filled.command("explain", sorted(without)[0]).stdout
    assert "no redshift yet" in explained
    assert "not ranked" in explained


def test_a_galaxy_can_be_explained_and_verified_bit_for_bit(filled: Broker) -> None:
    galaxies = [each.galaxy for each in newest(filled.read("scored")).values()]
    richest = max(
        (each for each in galaxies if each is not None),
        key=lambda each: (len(each.features), each.provenance.observation_count),
    )
    explained = filled.command("explain", richest.galaxy_id).stdout
    assert richest.galaxy_id in explained
    assert "HyperScore" in explained
    verified = filled.command("verify", richest.galaxy_id).stdout
    assert verified.count("identical") == 2, verified


def test_a_tampered_archive_does_not_verify(
    filled: Broker, observations: list[Observation]
) -> None:
    from mmbroker.streams.store import open_store

    chosen = next(each for each in observations if each.photometry is not None)
    hashed = observation_hash(chosen.observation_id)
    store = open_store(filled.settings)
    with store.writing() as writing:
        archived = writing.archived(hashed)
        assert archived is not None
        assert chosen.photometry is not None
        first, *rest = chosen.photometry.measurements
        brighter = dataclasses.replace(first, flux_density_jy=1.0, upper_limit_jy=None)
        forged = dataclasses.replace(chosen, photometry=Photometry([brighter, *rest]))
        writing.archive(hashed, dataclasses.replace(archived, data=Codec().encode(forged)))
    try:
        result = filled.command("verify", archived.galaxy_id, check=False)
        assert result.returncode == 1
        assert "different fingerprint" in result.stdout
    finally:
        with store.writing() as writing:
            writing.archive(hashed, archived)
        store.close()


def test_the_ranks_are_those_of_the_probabilities(filled: Broker) -> None:
    top = filled.command("top", "--rows", "5").stdout
    scores = [each.galaxy for each in newest(filled.read("scored")).values()]
    ranked = [each for each in scores if each is not None and each.probability is not None]
    best = max(ranked, key=lambda each: each.probability or 0.0)
    assert best.galaxy_id in top or best.galaxy_id[:8] in top
    assert f"{len(ranked):,} galaxies" in top
    assert f"{len(scores) - len(ranked):,} without a redshift yet" in " ".join(top.split())


def test_subscribing_prints_json_lines_until_the_end(filled: Broker) -> None:
    output = filled.command(
        "subscribe", "confident", "--from", "earliest", "--json", "--until-end"
    ).stdout
    alerts = [json.loads(line) for line in output.splitlines()]
    assert alerts
    assert {each["stream"] for each in alerts} == {"confident"}
    passing = [each for each in alerts if each["alert_type"] != "RETRACTION"]
    assert all(each["galaxy"]["probability"] >= 0.8 for each in passing)


def test_everything_is_found_reachable_and_right(filled: Broker) -> None:
    output = filled.command("check").stdout
    assert "bad" not in output
    assert f"topic {filled.settings.topics.fingerprints}" in output
    assert "SHA-256" in output


def test_ledger_as_json(filled: Broker) -> None:
    entries = json.loads(filled.command("ledger", "--json").stdout)
    assert [entry["stage"] for entry in entries] == [
        "build-fingerprints", "score-galaxies", "publish-alerts",
    ]  # fmt: skip
    assert all(entry["closes"] for entry in entries)


# Alerts ---------------------------------------------------------------------------------------

STREAMS = """
[[alert_streams]]
name = "bright"
minimum_flux_density_jy = 0.010

[[alert_streams]]
name = "anything"
format = "json"
"""


def flux(name: str, flux_jy: float, replaces: str | None = None) -> Observation:
    measured = BandMeasurement("SCUBA2-850", 352.7e9, flux_jy, 1e-4)
    return Observation(
        name, "SCUBA-2", 34.0, -5.0, 0.5, 59000.0,
        replaces=replaces, photometry=Photometry([measured]),
    )  # fmt: skip


def test_alerts_begin_change_and_end(make_broker: Callable[..., Broker]) -> None:
    broker = make_broker(STREAMS)
    broker.publish([flux("first", 0.020)])
    broker.publish([flux("first", 0.020)])  # a repeat says nothing new
    broker.publish([flux("second", 0.001, replaces="first")])  # a correction: too faint now
    broker.publish([flux("third", 0.030, replaces="second")])  # and bright after all
    alerts = [message.event for message in broker.read("bright")]
    assert [each.alert_type for each in alerts if isinstance(each, Alert)] == [
        "INITIAL", "RETRACTION", "INITIAL",
    ]  # fmt: skip
    initial, retraction, again = (each for each in alerts if isinstance(each, Alert))
    galaxy_id = initial.galaxy.galaxy_id
    assert initial.supersedes is None
    assert retraction.supersedes == initial.alert_id
    assert again.supersedes == retraction.alert_id
    assert retraction.reasons == ["flux density in Jy 0.001 is below 0.01"]
    assert (initial.stream_rank, retraction.stream_rank) == (1, 0)
    outcomes = broker.ledger()[0].outcomes
    assert outcomes == {"merged": 1, "repeated": 1, "corrected": 2}
    readable = [message.plain for message in broker.read("anything")]
    assert readable[0]["galaxy"]["galaxy_id"] == initial.galaxy.galaxy_id
    galaxies = newest(broker.read("scored"))
    assert len(galaxies) == 1
    (galaxy,) = (each.galaxy for each in galaxies.values())
    assert isinstance(galaxy, ScoredGalaxy)
    assert galaxy.provenance.observation_count == 1

    withdrawal = dataclasses.replace(flux("fourth", 1.0, replaces="third"), photometry=None)
    broker.publish([withdrawal])
    (emptied,) = (each.galaxy for each in newest(broker.read("scored")).values())
    assert isinstance(emptied, ScoredGalaxy)
    assert (emptied.provenance.observation_count, emptied.rank) == (0, 0)
    last = broker.read("bright")[-1].event
    assert isinstance(last, Alert)
    assert last.reasons[-1] == "no observation remains"
    assert broker.command("verify", galaxy_id).stdout.count("identical") == 2
