"""A lost store is made again from Kafka, a backup supplies what Kafka no longer holds."""

from __future__ import annotations

import dataclasses
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

from mmbroker.models.simulation.observations import simulate
from mmbroker.processors.fingerprint.contribution import observation_hash
from mmbroker.processors.fingerprint.merge import observation_hashes
from mmbroker.schemas.codec import Codec, readable
from mmbroker.schemas.events import (
    Alert,
    BandMeasurement,
    Fingerprint,
    Observation,
    Photometry,
    Quarantine,
)
from mmbroker.streams.kafka.client import admin
from mmbroker.streams.kafka.offsets import end_offsets
from mmbroker.streams.kafka.producer import DurableProducer
from mmbroker.streams.operating.rebuild import _last_alert
from mmbroker.streams.operating.verify import verify
from mmbroker.streams.proving.embedded import stages_running
from mmbroker.streams.stages.messages import Outgoing
from mmbroker.streams.store import LMDBStore, Reading, StoreError, exclusive, open_store
from tests.conftest import Broker, wait_until

pytestmark = pytest.mark.slow

STREAMS = """
[[alert_streams]]
name = "anything"

[[alert_streams]]
name = "bright"
format = "json"
minimum_flux_density_jy = 0.010
"""
REBUILT = "before the rebuild"


def at(
    name: str,
    right_ascension: float = 34.0,
    flux: float = 0.02,
    error: float = 0.3,
    replaces: str | None = None,
) -> Observation:
    measured = BandMeasurement("SCUBA2-850", 352.7e9, flux, 1e-3)
    return Observation(
        name, "SCUBA-2", right_ascension, -5.0, error, 59000.0,
        replaces=replaces, photometry=Photometry([measured]),
    )  # fmt: skip


def withdrawal(name: str, replaces: str, right_ascension: float) -> Observation:
    return dataclasses.replace(at(name, right_ascension, replaces=replaces), photometry=None)


def close_pair(right_ascension: float) -> list[Observation]:
    """Two galaxies close together, and an observation that might be of either."""
    arcsec = 1 / 3600
    return [
        at(f"one-{right_ascension}", right_ascension, error=0.2),
        dataclasses.replace(
            at(f"two-{right_ascension}", right_ascension, error=0.2),
            declination_deg=-5.0 + 2.5 * arcsec,
        ),
        dataclasses.replace(
            at(f"either-{right_ascension}", right_ascension, error=2.0),
            declination_deg=-5.0 + 1.25 * arcsec,
        ),
    ]


EVENTFUL: list[Observation | bytes] = [
    *simulate(25, seed=81),
    at("a", 34.0), at("b", 34.0, flux=0.03), at("c", 34.0, flux=0.025, replaces="a"),
    at("d", 50.0), withdrawal("w", "d", 50.0),
    at("e", 60.0), at("e", 60.0), at("e", 60.0, flux=0.5),  # a repeat, and a conflict
    at("early", 70.0, replaces="late"),
    *close_pair(80.0),
    b"nonsense",
]  # fmt: skip


def stop(broker: Broker) -> None:
    broker.process.terminate()
    broker.process.wait(60)


@contextmanager
def running(broker: Broker) -> Iterator[Broker]:
    """The stages again, after they were stopped."""
    log = broker.settings.data_directory / "stages.log"
    with stages_running(broker.settings, log, broker.environment) as process:
        yield dataclasses.replace(broker, process=process)


@contextmanager
def reading(directory: Path) -> Iterator[Reading]:
    store = LMDBStore(directory)
    try:
        with store.reading() as transaction:
            yield transaction
    finally:
        store.close()


def fingerprints_of(directory: Path) -> dict[str, bytes | None]:
    with reading(directory) as transaction:
        return {galaxy: transaction.fingerprint(galaxy) for galaxy in transaction.galaxy_ids()}


def members_of(reading: Reading, galaxy_id: str) -> list[bytes]:
    """Hashes of the observations in a galaxy."""
    return observation_hashes(Codec().decode_as(Fingerprint, reading.fingerprint(galaxy_id)))


def newest(broker: Broker) -> dict[str, bytes | None]:
    """What the compacted topic keeps."""
    return {message.key.decode(): message.value for message in broker.read("fingerprints")}


def verifies(broker: Broker, galaxy: str) -> bool:
    """Whether fingerprint and score are made again bit for bit."""
    return [each.same for each in verify(broker.settings, galaxy)] == [True, True]


def set_policy(broker: Broker, topic: str, policy: str) -> None:
    """Set the cleanup policy of a topic."""
    entry = ConfigEntry(  # type: ignore[no-untyped-call]
        "cleanup.policy", policy, incremental_operation=AlterConfigOpType.SET
    )
    resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])
    client = admin(broker.settings.kafka)
    for future in client.incremental_alter_configs([resource]).values():
        future.result()


def forget(broker: Broker, topic: str) -> None:
    """What retention does in the end: delete all that stands in a topic."""
    ends = end_offsets(broker.settings, topic)
    client = admin(broker.settings.kafka)
    places = [TopicPartition(topic, partition, end) for partition, end in ends.items()]
    for future in client.delete_records(places).values():
        future.result()


@pytest.fixture(scope="module")
def eventful(make_broker: Callable[..., Broker]) -> Broker:
    """A broker that has seen everything, and is stopped."""
    broker = make_broker(STREAMS)
    broker.publish(EVENTFUL)
    stop(broker)
    return broker


@pytest.fixture(scope="module")
def rebuilt(eventful: Broker) -> tuple[Broker, Path, str]:
    """The same with its store lost and made again; the former store; what the command said."""
    directory = eventful.settings.store_directory
    former = directory.with_name("lost")
    directory.rename(former)
    said = eventful.command("rebuild").stdout
    return eventful, former, said


Case = tuple[Broker, Path, str]


def test_the_rebuilt_store_is_the_compacted_topic_and_the_former_store(rebuilt: Case) -> None:
    broker, former, _ = rebuilt
    again = fingerprints_of(broker.settings.store_directory)
    assert again == newest(broker)
    assert again == fingerprints_of(former)


def test_the_archive_is_the_former_one(rebuilt: Case) -> None:
    broker, former, said = rebuilt
    with reading(former) as one, reading(broker.settings.store_directory) as other:
        before, after = dict(one.observations()), dict(other.observations())
        assert before.keys() == after.keys()
        for hashed, archived in before.items():
            again = after[hashed]
            assert (again.status, again.source, again.data) == (
                archived.status, archived.source, archived.data,
            )  # fmt: skip
            if archived.status == "merged":
                assert (again.galaxy_id, again.candidates) == (
                    archived.galaxy_id, archived.candidates,
                )  # fmt: skip
        for galaxy in one.galaxy_ids():
            assert one.ranked("scored", galaxy) == other.ranked("scored", galaxy)
            for stream in ("anything", "bright"):
                assert one.last_alert(stream, galaxy) == other.last_alert(stream, galaxy)
                name = f"alerts/{stream}"
                assert one.ranked(name, galaxy) == other.ranked(name, galaxy)
        for name in ("scored", "alerts/anything", "alerts/bright"):
            assert one.ranking(name).tolist() == other.ranking(name).tolist()
    merged = sum(each.status == "merged" for each in before.values())
    assert f"archive: {merged} of {merged} observations" in said
    assert "are not in Kafka any more" not in said
    assert "publish them again" not in said
    assert "observations of 1 galaxies had an ambiguous position" in said


def test_the_ledger_closes_and_says_that_outcomes_are_lost(rebuilt: Case) -> None:
    broker, _, _ = rebuilt
    for entry in broker.ledger():
        assert entry.closes
        assert entry.outcomes == {REBUILT: entry.received}
    publish = broker.ledger()[-1]
    assert publish.sent.keys() == {"anything: before the rebuild", "bright: before the rebuild"}
    assert "before the rebuild" in broker.command("ledger").stdout


def test_a_rebuilt_galaxy_verifies(rebuilt: Case) -> None:
    broker, _, _ = rebuilt
    for galaxy in list(fingerprints_of(broker.settings.store_directory))[::5]:
        assert verifies(broker, galaxy)


def test_there_is_no_rebuilding_over_a_whole_store(rebuilt: Case) -> None:
    broker, _, _ = rebuilt
    before = fingerprints_of(broker.settings.store_directory)
    refused = broker.command("rebuild", check=False)
    assert refused.returncode == 1
    assert "is whole, with" in refused.stderr
    assert "--replace" in refused.stderr
    assert fingerprints_of(broker.settings.store_directory) == before


def test_life_goes_on_after_a_rebuild(rebuilt: Case) -> None:
    broker, _, _ = rebuilt
    directory = broker.settings.store_directory
    before = fingerprints_of(directory)
    alerts = len(broker.read("anything"))
    with running(broker) as again:
        again.publish([*EVENTFUL, at("late", 70.0)])  # everything once more, and what was awaited
        assert again.read("anything")[alerts:] == []
    repeated = fingerprints_of(directory)
    assert repeated == before
    with reading(directory) as transaction:
        late = transaction.archived(observation_hash("late"))
        assert late is not None
        assert late.status == "replaced"
        e = transaction.archived(observation_hash("e"))
        assert e is not None
        version = transaction.version(e.galaxy_id)
    with running(broker) as again:
        again.publish([at("new", 60.0), at("another", 60.0, replaces="e")])
        build, *_ = again.ledger()
        assert build.closes
        counts = dict(build.outcomes)
        assert counts.pop(REBUILT) == len(EVENTFUL)
        assert counts == {
            "repeated": len(EVENTFUL) - 2,
            "quarantined: conflicting": 1,
            "quarantined: undecodable": 1,
            "superseded": 1,
            "merged": 1,
            "corrected": 1,
        }
        with reading(directory) as transaction:
            assert transaction.version(e.galaxy_id) == version + 3  # merged, merged, one taken out
            members = members_of(transaction, e.galaxy_id)
        assert set(members) == {observation_hash("new"), observation_hash("another")}
        assert verifies(again, e.galaxy_id)
        updates = [each.plain["alert_type"] for each in again.read("anything")[alerts:]]
        assert set(updates) <= {"UPDATE"}  # what is said once is not said anew


def is_free(directory: Path) -> bool:
    """Whether no process has a store open."""
    try:
        with exclusive(directory):
            return True
    except StoreError:
        return False


# Retention, backups -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def expired(make_broker: Callable[..., Broker]) -> tuple[Broker, Path]:
    """A broker whose first observations Kafka has forgotten, with a backup from before; stopped."""
    broker = make_broker(STREAMS)
    first: list[Observation | bytes] = [
        *simulate(12, seed=82), at("a", 34.0), at("b", 34.0), *close_pair(80.0),
    ]  # fmt: skip
    broker.publish(first)
    use_model(broker, "elsewhere", 7)
    target = broker.settings.data_directory / "backups" / "first"
    target.parent.mkdir()
    said = broker.command("backup", str(target)).stdout
    assert f"mmbroker rebuild --replace --backup {target}" in said
    forget(broker, broker.settings.topics.observations)
    broker.publish([at("later", 34.0), at("c", 50.0)])
    stop(broker)
    return broker, target


def use_model(broker: Broker, model: str, version: int) -> None:
    store = open_store(broker.settings)
    try:
        with store.writing() as writing:
            writing.use_model(model, version)
    finally:
        store.close()


def models_of(broker: Broker) -> dict[str, int]:
    with reading(broker.settings.store_directory) as transaction:
        return transaction.model_versions()


def lose(broker: Broker) -> None:
    shutil.rmtree(broker.settings.store_directory)


def test_what_kafka_has_forgotten_is_told_and_its_repeats_are_known(
    expired: tuple[Broker, Path],
) -> None:
    broker, _ = expired
    before = fingerprints_of(broker.settings.store_directory)
    lose(broker)
    said = broker.command("rebuild").stdout
    count = len(list(simulate(12, seed=82))) + 5
    assert f"archive: 2 of {count + 2} observations" in said
    assert "models in force: version 1 of each, since there was no backup" in said
    assert models_of(broker) == {}
    assert f"not restored: {count} observations of" in said
    assert "are not in Kafka any more" in said
    assert fingerprints_of(broker.settings.store_directory) == before == newest(broker)
    with reading(broker.settings.store_directory) as transaction:
        a = transaction.archived(observation_hash("a"))
        assert a is not None
        assert (a.status, a.data) == ("merged", b"")
    verified = broker.command("verify", a.galaxy_id, check=False)
    assert verified.returncode == 1
    assert "2 of 3 observations" in verified.stdout
    assert "identical score" in verified.stdout
    with running(broker) as again:
        again.publish([at("z", 34.0, replaces="a")])
        told = again.read("quarantine")[-1].event
        assert isinstance(told, Quarantine)
        assert told.reason == "not-archived"
        assert "publish them again" in told.detail
        assert fingerprints_of(broker.settings.store_directory) == before
        again.publish([at("a", 34.0), at("b", 34.0)])  # fills the archive, and changes nothing
        assert fingerprints_of(broker.settings.store_directory) == before
        assert verifies(again, a.galaxy_id)
        again.publish([at("z", 34.0, replaces="a")])
        assert verifies(again, a.galaxy_id)
        assert again.ledger()[0].closes


def test_a_backup_has_what_kafka_has_forgotten(expired: tuple[Broker, Path]) -> None:
    broker, backup = expired
    before = fingerprints_of(broker.settings.store_directory)
    said = broker.command("rebuild", "--replace", "--backup", str(backup)).stdout
    assert "not restored" not in said.replace("not restored: which observations", "")
    assert "had an ambiguous" not in said
    assert "models in force: elsewhere version 7, the others version 1" in said
    assert models_of(broker) == {"elsewhere": 7}
    found = re.search(r"the former store is in (.+)", said)
    assert found is not None
    assert fingerprints_of(Path(found[1])) == before
    assert fingerprints_of(broker.settings.store_directory) == before
    for galaxy in list(before)[::4]:
        assert verifies(broker, galaxy)
    build, *_ = entries = broker.ledger()
    assert all(entry.closes for entry in entries)
    assert build.outcomes["merged"] > 0  # as the backup has counted
    assert build.outcomes[REBUILT] > 0  # since then


def test_an_old_backup_in_the_place_of_the_store_is_noticed(expired: tuple[Broker, Path]) -> None:
    broker, backup = expired
    directory = broker.settings.store_directory
    current = directory.with_name("current")
    directory.rename(current)
    try:
        shutil.copytree(backup, directory)
        stopped = broker.command("stage", "build-fingerprints", check=False)
        assert stopped.returncode == 1
        assert "is older than what build-fingerprints has acknowledged" in stopped.stderr
        assert "mmbroker rebuild --backup" in stopped.stderr
        shutil.rmtree(directory)
        stopped = broker.command("stage", "build-fingerprints", check=False)
        assert stopped.returncode == 1
        assert "is empty, and" in stopped.stderr
    finally:
        shutil.rmtree(directory)
        current.rename(directory)


def test_a_damaged_store_is_moved_aside_and_made_again(expired: tuple[Broker, Path]) -> None:
    broker, backup = expired
    directory = broker.settings.store_directory
    before = fingerprints_of(directory)
    file = directory / "data.mdb"
    os.truncate(file, file.stat().st_size // 2)
    said = broker.command("rebuild", "--backup", str(backup)).stdout
    found = re.search(r"the former store is in (.+)", said)
    assert found is not None
    assert (Path(found[1]) / "data.mdb").stat().st_size > 0
    assert fingerprints_of(directory) == before


# Beside running stages ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def busy(make_broker: Callable[..., Broker]) -> Broker:
    return make_broker(STREAMS)


def test_a_backup_is_consistent_while_the_stages_write(busy: Broker, tmp_path: Path) -> None:
    observations = list(simulate(300, seed=83))
    busy.publish(observations[:200])
    busy.publish(observations[200:], settle=False)
    busy.command("backup", str(tmp_path / "backup"))
    busy.settle(len(observations))
    with reading(tmp_path / "backup") as transaction:
        counted = transaction.counts()["build-fingerprints", "merged"]
        archived = [each for _, each in transaction.observations()]
        assert 200 <= counted == len(archived) <= len(observations)
        members = [len(members_of(transaction, each)) for each in transaction.galaxy_ids()]
        assert sum(members) == counted
        topic = busy.settings.topics.observations
        offsets = [transaction.next_offset("build-fingerprints", topic, n) for n in range(4)]
        assert sum(offsets) == counted
    assert sorted(each.name for each in tmp_path.iterdir()) == ["backup"]


def test_a_backup_overwrites_nothing(busy: Broker, tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("keep me")
    for target in (tmp_path, tmp_path / "precious"):
        refused = busy.command("backup", str(target), check=False)
        assert refused.returncode == 1
        assert "a backup overwrites nothing" in refused.stderr
    assert [each.name for each in tmp_path.iterdir()] == ["precious"]
    assert (tmp_path / "precious").read_text() == "keep me"


def test_a_backup_that_does_not_fit_leaves_nothing_behind(busy: Broker, tmp_path: Path) -> None:
    busy.publish(simulate(10, seed=84))
    command = f"ulimit -f 40; exec {sys.executable} -m mmbroker backup {tmp_path / 'backup'}"
    refused = subprocess.run(
        ["bash", "-c", command],
        env=busy.environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert refused.returncode == 1
    assert "cannot be written" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_backup_that_is_none_is_not_taken_for_one(rebuilt: Case, tmp_path: Path) -> None:
    broker, _, _ = rebuilt
    store = broker.settings.store_directory
    for backup, reason in ((tmp_path, "no file data.mdb"), (store, "is the store itself")):
        refused = broker.command("rebuild", "--replace", "--backup", str(backup), check=False)
        assert refused.returncode == 1
        assert reason in refused.stderr
    assert list(tmp_path.iterdir()) == []
    assert fingerprints_of(store)


def test_there_is_no_rebuilding_while_the_stages_run(busy: Broker) -> None:
    refused = busy.command("rebuild", "--replace", check=False)
    assert refused.returncode == 1
    assert "the stages run in" in refused.stderr


def test_there_is_no_rebuilding_while_a_stage_runs_by_itself(
    eventful: Broker, rebuilt: Case
) -> None:
    store = open_store(eventful.settings)
    try:
        refused = eventful.command("rebuild", "--replace", check=False)
        assert refused.returncode == 1
        assert "is in use by another process" in refused.stderr
    finally:
        store.close()


def test_what_kafka_itself_has_lost_is_told(make_broker: Callable[..., Broker]) -> None:
    broker = make_broker()
    lost = at("lost")
    broker.publish([lost])
    wait_until(lambda: broker.read("scored") != [], "it is not scored")
    broker.settle(1)
    stop(broker)
    set_policy(broker, broker.settings.topics.fingerprints, "delete")  # Kafka keeps it otherwise
    forget(broker, broker.settings.topics.fingerprints)
    set_policy(broker, broker.settings.topics.fingerprints, "compact")
    with running(broker) as again:
        again.publish([at("kept", 60.0)])
    lose(broker)
    said = broker.command("rebuild").stdout
    assert (
        "1 observations were acknowledged and are in no fingerprint; publish them again: lost"
        in said
    )
    with running(broker) as again:
        again.publish([lost])
        build, *_ = again.ledger()
        assert build.outcomes == {REBUILT: 2, "merged": 1}
        assert len(fingerprints_of(broker.settings.store_directory)) == 2


def test_what_cannot_be_read_is_told_and_costs_nothing_else(
    make_broker: Callable[..., Broker],
) -> None:
    broker = make_broker(STREAMS)
    broker.publish([at("a"), at("b", 60.0)])
    stop(broker)
    topics = broker.settings.topics
    later = b"\0" + (999).to_bytes(4, "big") + b"of a schema that is yet to come"
    strangers = {
        topics.fingerprints: later,
        topics.scored: Codec().encode(at("elsewhere")),
        topics.alerts("anything"): b"nonsense",
        topics.alerts("bright"): b'{"galaxy": "a name"}',
    }
    messages = [Outgoing(topic, b"stranger", value) for topic, value in strangers.items()]
    DurableProducer(broker.settings.kafka).send(messages)
    lose(broker)
    said = " ".join(broker.command("rebuild").stdout.split())
    assert "2 galaxies, 2 observations, 2 ranked scores" in said
    assert "the last alert is known: anything 2, bright 2" in said
    assert "4 messages cannot be read" in said
    assert all(re.search(rf"{re.escape(topic)} \[\d\] offset \d", said) for topic in strangers)


def test_without_fingerprints_there_is_nothing_to_rebuild_from(
    make_broker: Callable[..., Broker],
) -> None:
    broker = make_broker()
    stop(broker)
    refused = broker.command("rebuild", check=False)
    assert refused.returncode == 1
    assert "there is nothing to rebuild" in refused.stderr
    names = {each.name for each in broker.settings.data_directory.iterdir()}
    assert not any(name.startswith("store.") for name in names)


def test_a_killed_worker_is_caught_up_with_after_a_rebuild(
    make_broker: Callable[..., Broker],
) -> None:
    """What was in the store and not acknowledged is given to the stage again."""
    broker = make_broker()
    observations = list(simulate(60, seed=85))
    broker.publish(observations[:30])
    broker.publish(observations[30:], settle=False)
    broker.process.kill()  # the stages notice that their supervisor is gone
    broker.process.wait(60)
    wait_until(lambda: is_free(broker.settings.store_directory), "the stages do not end")
    lose(broker)
    broker.command("rebuild")
    with running(broker) as again:
        again.settle(len(observations))
        assert again.ledger()[0].closes
    members = [
        message.event.observation_hashes
        for message in {each.key: each for each in broker.read("fingerprints")}.values()
        if isinstance(message.event, Fingerprint)
    ]
    joined = b"".join(members)
    hashes = [joined[start : start + 16] for start in range(0, len(joined), 16)]
    assert sorted(hashes) == sorted(observation_hash(each.observation_id) for each in observations)


def test_the_retraction_of_a_galaxy_without_a_redshift_is_taken_over() -> None:
    samples = Path(__file__).parents[2] / "schemas" / "samples"
    alert = Codec().decode_as(Alert, (samples / "Alert.v4.confluent").read_bytes())
    galaxy = dataclasses.replace(alert.galaxy, redshift=None, probability=None)
    gone = dataclasses.replace(alert, alert_type="RETRACTION", galaxy=galaxy)
    message = SimpleNamespace(plain=readable(gone))
    galaxy_id, last = _last_alert(message)  # type: ignore[arg-type]
    assert galaxy_id == galaxy.galaxy_id
    assert (last.active, last.redshift, last.probability) == (False, 0.0, 0.0)
