"""A model is upgraded beside the one in force and switched to, while galaxies are being scored."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lmdb
import numpy as np
import pytest
import typer

from mmbroker.deploy.local import LocalStack
from mmbroker.models.packaged.networks import PACKAGED, WEIGHTS
from mmbroker.models.serving import triton
from mmbroker.models.serving.critic import CriticClient
from mmbroker.models.serving.repository import add_version
from mmbroker.models.simulation.observations import simulate
from mmbroker.schemas.events import ScoredGalaxy
from mmbroker.streams.cli.models import models_app
from mmbroker.streams.operating.verify import verify, version_that_scored
from mmbroker.streams.stages.clients import (
    make_critic,
)
from mmbroker.streams.stages.messages import now_ms
from mmbroker.streams.store import FIRST_VERSION, LMDBStore, open_store
from tests.conftest import Broker
from tests.endpoint import Endpoint, by_label
from tests.networks import SHIFT, documented, shifted_critic, withdrawn

JUDGE = "judge"
"""A critic of its own: the other tests go on with theirs."""

READER, CHARTER = "reader", "charter"
"""Parsers of spectra and of maps of its own, likewise."""


# The version in force ---------------------------------------------------------------------------


def test_the_first_version_is_in_force_until_another_is_chosen(tmp_path: Path) -> None:
    store = LMDBStore(tmp_path)
    with store.reading() as reading:
        assert reading.model_version("critic") == FIRST_VERSION
        assert reading.model_versions() == {}
    with store.writing() as writing:
        writing.use_model("critic", 3)
    store.close()
    again = LMDBStore(tmp_path)
    with again.reading() as reading:
        assert reading.model_version("critic") == 3
        assert reading.model_version("generator") == FIRST_VERSION
        assert reading.model_versions() == {"critic": 3}
    again.close()


def test_a_store_from_before_there_were_versions_is_opened(tmp_path: Path) -> None:
    LMDBStore(tmp_path).close()
    environment = lmdb.open(str(tmp_path), max_dbs=20)
    table = environment.open_db(b"models")
    with environment.begin(write=True) as transaction:
        transaction.drop(table)
    environment.close()
    store = LMDBStore(tmp_path)
    with store.reading() as reading:
        assert reading.model_version("critic") == FIRST_VERSION
    store.close()


# A whole broker ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def judged(
    stack: LocalStack,
    make_broker: Callable[..., Broker],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Broker]:
    """A broker whose critic has one version so far."""
    folder = tmp_path_factory.mktemp("first")
    add_version(stack.triton.model_repository, JUDGE, shifted_critic(folder, 0.0, JUDGE))
    triton.load(stack.triton_url, JUDGE)
    yield make_broker(MMBROKER_TRITON__CRITIC=JUDGE)
    withdrawn(stack, JUDGE)


@pytest.fixture(scope="module")
def second(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another version of the critic."""
    return shifted_critic(tmp_path_factory.mktemp("second"), SHIFT, JUDGE)


def critic_of(broker: Broker) -> CriticClient:
    critic = make_critic(broker.settings)
    assert critic is not None
    return critic


def scored(broker: Broker, since_ms: int = 0) -> list[ScoredGalaxy]:
    found = [each for each in broker.read("scored") if each.timestamp_ms >= since_ms]
    return [each.galaxy for each in found if each.galaxy is not None]


def newest(broker: Broker) -> dict[str, ScoredGalaxy]:
    return {galaxy.galaxy_id: galaxy for galaxy in scored(broker)}


def listed(broker: Broker, check: bool = True) -> list[dict[str, Any]]:
    said = broker.command("models", "list", "--json", check=check).stdout
    found: list[dict[str, Any]] = json.loads(said)
    return [each for each in found if each["model"] == JUDGE]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(each): each.read_bytes() for each in folder.rglob("*") if each.is_file()}


def test_every_packaged_model_can_be_added_to() -> None:
    adding = typer.main.get_command(models_app).commands["add"]  # type: ignore[attr-defined]
    assert all(name in adding.params[0].help for name in PACKAGED)


@pytest.mark.slow
def test_what_cannot_be_served_is_refused_and_changes_nothing(
    judged: Broker, stack: LocalStack, second: Path, tmp_path: Path
) -> None:
    repository = stack.triton.model_repository
    before = contents(repository / JUDGE), listed(judged)

    def refused(*arguments: str) -> str:
        result = judged.command("models", *arguments, check=False)
        assert result.returncode == 1
        assert (contents(repository / JUDGE), listed(judged)) == before
        return " ".join(result.stderr.split())

    assert "judge.onnx is missing" in refused("add", JUDGE, str(tmp_path))
    corrupt = tmp_path / "corrupt"
    shutil.copytree(second, corrupt)
    with (corrupt / "judge.onnx").open("ab") as file:
        file.write(b"\0")
    assert "its card says" in refused("add", JUDGE, str(corrupt))
    card = json.loads((second / "judge.json").read_text())
    network = (WEIGHTS / "generator.onnx").read_bytes()
    card["sha256"] = hashlib.sha256(network).hexdigest()
    (corrupt / "judge.onnx").write_bytes(network)
    (corrupt / "judge.json").write_text(json.dumps(card))
    assert "noise" in refused("add", JUDGE, str(corrupt))  # found by Triton alone
    uncalibrated = shifted_critic(tmp_path / "uncalibrated", SHIFT, JUDGE)
    (uncalibrated / "judge_calibration.json").unlink()
    other = json.loads((uncalibrated / "judge.json").read_text())
    del other["calibration_id"]
    (uncalibrated / "judge.json").write_text(json.dumps(other))
    assert "has no calibration" in refused("add", JUDGE, str(uncalibrated))  # by who asks it
    (corrupt / "judge.json").write_text(json.dumps({**card, "inputs": {"values": [3]}}))
    assert "are not those of version 1" in refused("add", JUDGE, str(corrupt))
    assert "does not serve version 7 of model 'judge', but 1" in refused("use", JUDGE, "7")
    assert re.search(r"serve a model 'nobody', but .*\bjudge\b", refused("use", "nobody", "1"))
    judged.publish(simulate(3, seed=70))
    assert all(galaxy.critic.reason == "" for galaxy in scored(judged) if galaxy.critic.output)


@pytest.mark.slow
def test_a_model_is_upgraded_while_galaxies_are_scored(judged: Broker, second: Path) -> None:
    broker, critic = judged, critic_of(judged)
    endpoint = Endpoint(broker.settings, "score-galaxies")
    started = endpoint.scrape()["process_start_time_seconds", frozenset()]
    errors = "mmbroker_triton_errors_total"
    failed = by_label(endpoint.scrape(), errors, "model")
    observations = list(simulate(400, seed=71))
    received = broker.ledger()[0].received
    quarter = len(observations) // 4
    parts = [observations[start : start + quarter] for start in range(0, 4 * quarter, quarter)]

    broker.publish(parts[0])
    former = newest(broker)
    broker.publish(parts[1], settle=False)
    said = broker.command("models", "add", JUDGE, str(second)).stdout
    assert f"{JUDGE} version 2 is served" in said
    assert [(each["version"], each["in_force"]) for each in listed(broker)] == [
        (1, True),
        (2, False),
    ]
    assert f"It is not in force until: mmbroker models use {JUDGE} 2" in said
    again = broker.command("models", "add", JUDGE, str(second)).stdout  # once is enough
    assert f"this content is there already as {JUDGE} version 2" in again
    assert f"It is not in force until: mmbroker models use {JUDGE} 2" in again
    broker.publish(parts[2], settle=False)
    said = broker.command("models", "use", JUDGE, "2").stdout
    assert "version 2 is in force, it was 1" in said
    assert "mmbroker rescore" in said
    again = broker.command("models", "add", JUDGE, str(second)).stdout
    assert "is there already" in again
    assert again.endswith("It is in force\n")
    broker.settle(received + 3 * quarter)
    switched = now_ms()
    broker.publish(parts[3])

    belonging = {
        critic.version(number).sha256: (number, critic.calibration(number)) for number in (1, 2)
    }
    assert len(belonging) == 2
    hashes: dict[int, set[str]] = {1: set(), 2: set()}
    for galaxy in scored(broker):
        if galaxy.critic.output is None:
            continue
        provenance = galaxy.provenance
        number, calibration = belonging[provenance.model_hash]
        assert provenance.calibration_id.endswith(f"+{calibration.calibration_id}")
        probability = calibration.apply(np.array([galaxy.critic.output]))
        assert galaxy.critic.genuine_probability == probability[0]
        hashes[number].add(provenance.scorer_hash)
    assert [len(each) for each in hashes.values()] == [1, 1]
    assert hashes[1] != hashes[2]
    after = scored(broker, switched)
    assert {belonging[galaxy.provenance.model_hash][0] for galaxy in after} == {2}

    scrape = endpoint.scrape()
    assert scrape["process_start_time_seconds", frozenset()] == started
    assert by_label(scrape, errors, "model") == failed
    assert by_label(scrape, "mmbroker_model_version", "model")[JUDGE] == 2
    assert by_label(scrape, "mmbroker_triton_request_seconds_count", "model")[JUDGE] > 0

    # Either version verifies, as long as it is served.
    now = newest(broker)
    for number in (1, 2):
        galaxies = [
            each for each in now.values() if belonging[each.provenance.model_hash][0] == number
        ]
        assert galaxies
        provenance = galaxies[0].provenance
        found = version_that_scored(critic, provenance.model_hash, provenance.calibration_id)
        assert found == number
        said = broker.command("verify", galaxies[0].galaxy_id).stdout
        assert said.count("identical") == 2
    assert former.keys() <= now.keys()
    critic.close()


@pytest.mark.slow
def test_a_version_in_force_that_is_not_served_is_waited_for(judged: Broker) -> None:
    broker = judged
    served = max(each["version"] for each in listed(broker))
    endpoint = Endpoint(broker.settings, "score-galaxies")
    store = open_store(broker.settings)
    try:
        with store.writing() as writing:
            writing.use_model(JUDGE, 9)
    finally:
        store.close()
    endpoint.wait(503, "does not serve version 9")
    assert [each for each in listed(broker, check=False) if not each["served"]] == [
        {**listed(broker, check=False)[0], "version": 9, "in_force": True, "served": False}
    ]
    refused = broker.command("models", "list", check=False)
    assert refused.returncode == 1
    assert "not served" in refused.stdout
    checked = broker.command("check", check=False)
    assert checked.returncode == 1
    assert "does not serve version 9" in checked.stdout
    received = broker.ledger()[0].received
    observations = list(simulate(5, seed=72))
    broker.publish(observations, settle=False)
    broker.command("models", "use", JUDGE, str(served))
    endpoint.wait(200)
    broker.settle(received + len(observations))
    assert f"version {served} in force" in broker.command("check").stdout


@pytest.mark.slow
def test_a_score_of_a_version_that_is_gone_does_not_verify(judged: Broker, tmp_path: Path) -> None:
    broker = judged
    before = next(each["version"] for each in listed(broker) if each["in_force"])
    broker.command("models", "add", JUDGE, str(shifted_critic(tmp_path, 2 * SHIFT, JUDGE)))
    last = max(each["version"] for each in listed(broker))
    broker.command("models", "use", JUDGE, str(last))
    refused = broker.command("models", "remove", JUDGE, str(last), check=False)
    assert refused.returncode == 1
    assert "is in force" in refused.stderr
    since = now_ms()
    broker.publish(simulate(3, seed=73))
    galaxy = scored(broker, since)[-1]
    broker.command("models", "use", JUDGE, str(before))
    broker.command("models", "remove", JUDGE, str(last))
    assert last not in [each["version"] for each in listed(broker)]
    fingerprint, score = verify(broker.settings, galaxy.galaxy_id)
    assert fingerprint.same
    assert not score.same
    assert f"model {galaxy.provenance.model_hash} is not" in score.detail


# Parsers ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def reading(
    stack: LocalStack,
    make_broker: Callable[..., Broker],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Broker]:
    """A broker whose parser of spectra has one version so far; maps are not parsed."""
    folder = tmp_path_factory.mktemp("reader")
    add_version(stack.triton.model_repository, READER, documented(folder, READER))
    triton.load(stack.triton_url, READER)
    yield make_broker(MMBROKER_TRITON__PARSER=READER, MMBROKER_TRITON__MAP_PARSER="")
    withdrawn(stack, READER)


def labels(broker: Broker) -> dict[str, set[str]]:
    """The versions that made trees, by galaxy."""
    return {
        galaxy.galaxy_id: {tree.model.split()[1] for tree in galaxy.parsed}
        for galaxy in newest(broker).values()
    }


@pytest.mark.slow
def test_a_parser_is_upgraded_and_what_was_read_before_verifies(
    reading: Broker, tmp_path: Path
) -> None:
    broker = reading
    endpoint = Endpoint(broker.settings, "build-fingerprints")
    endpoint.wait(200)
    started = endpoint.scrape()["process_start_time_seconds", frozenset()]
    broker.publish(simulate(20, seed=81))
    former = labels(broker)
    assert set.union(*former.values()) == {"1"}
    trees = [tree for galaxy in newest(broker).values() for tree in galaxy.parsed]
    assert all(tree.morphology is None for tree in trees)  # the other parser is switched off
    assert by_label(endpoint.scrape(), "mmbroker_triton_errors_total", "model") == {READER: 0}

    # The network is the same: the calibration alone makes another version.
    source = documented(tmp_path, READER, detection_logit=1000.0)
    said = broker.command("models", "add", READER, str(source)).stdout
    assert f"{READER} version 2 is served" in said
    broker.command("models", "use", READER, "2")
    broker.publish(simulate(20, seed=82))
    after = labels(broker)
    assert {galaxy: after[galaxy] for galaxy in former} == former
    new = [galaxy for galaxy in after if galaxy not in former]
    assert set.union(*(after[galaxy] for galaxy in new)) == {"2"}
    assert not any(
        tree.lines
        for galaxy in newest(broker).values()
        for tree in galaxy.parsed
        if galaxy.galaxy_id in new
    )
    scrape = endpoint.scrape()
    assert scrape["process_start_time_seconds", frozenset()] == started
    assert by_label(scrape, "mmbroker_model_version", "model") == {READER: 2}

    first = next(galaxy for galaxy, versions in former.items() if versions)
    second = next(galaxy for galaxy in new if after[galaxy])
    for galaxy in (first, second):
        assert broker.command("verify", galaxy).stdout.count("identical") == 2

    broker.command("models", "remove", READER, "1")
    fingerprint, trees_again, score = verify(broker.settings, first)
    assert (fingerprint.same, trees_again.same, score.same) == (True, False, True)
    assert f"{READER} 1 " in trees_again.detail
    assert "does not serve it any more" in trees_again.detail
    refused = broker.command("verify", first, check=False)
    assert refused.returncode == 1
    assert "feature trees" in refused.stdout
    assert broker.command("verify", second).stdout.count("identical") == 2


@pytest.mark.slow
def test_a_parser_of_maps_is_upgraded_without_a_restart(
    stack: LocalStack, make_broker: Callable[..., Broker], tmp_path: Path
) -> None:
    first, second = (tmp_path / name for name in ("first", "second"))
    shutil.copytree(documented(first, CHARTER, "map_parser"), second)
    card = json.loads((second / f"{CHARTER}.json").read_text())
    card["calibration"]["note"] = "the same, but for this"
    (second / f"{CHARTER}.json").write_text(json.dumps(card))
    add_version(stack.triton.model_repository, CHARTER, first)
    triton.load(stack.triton_url, CHARTER)
    try:
        broker = make_broker(MMBROKER_TRITON__PARSER="", MMBROKER_TRITON__MAP_PARSER=CHARTER)
        endpoint = Endpoint(broker.settings, "build-fingerprints")
        endpoint.wait(200)
        started = endpoint.scrape()["process_start_time_seconds", frozenset()]
        maps = [each for each in simulate(400, seed=83) if each.continuum_map is not None]
        broker.publish(maps[: len(maps) // 2])
        former = labels(broker)
        assert set.union(*former.values()) == {"1"}
        assert f"{CHARTER} version 2 is served" in (
            broker.command("models", "add", CHARTER, str(second)).stdout
        )
        broker.command("models", "use", CHARTER, "2")
        broker.publish(maps[len(maps) // 2 :])
        after = labels(broker)
        assert set.union(*(after[name] for name in after if name not in former)) == {"2"}
        scrape = endpoint.scrape()
        assert scrape["process_start_time_seconds", frozenset()] == started
        assert by_label(scrape, "mmbroker_model_version", "model") == {CHARTER: 2}
        for galaxy in (next(filter(former.get, former)), next(filter(after.get, [*after][::-1]))):
            assert broker.command("verify", galaxy).stdout.count("identical") == 2
    finally:
        withdrawn(stack, CHARTER)


@pytest.mark.slow
def test_what_is_no_parser_is_not_put_in_force(reading: Broker, tmp_path: Path) -> None:
    source = documented(tmp_path, READER)
    card = json.loads((source / f"{READER}.json").read_text())
    del card["calibration"]["logit"]
    (source / f"{READER}.json").write_text(json.dumps(card))
    refused = reading.command("models", "add", READER, str(source), check=False)
    assert refused.returncode == 1
    assert "calibration" in refused.stderr
    assert "none of a SpectrumParser" in " ".join(refused.stderr.split())
