"""A store and a Kafka that no longer belong together: told, and nothing is passed over."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient, NewPartitions

from mmbroker.deploy.local import LocalStack
from mmbroker.models.simulation.observations import simulate
from mmbroker.streams.errors import InfrastructureError
from mmbroker.streams.kafka.client import admin, consumer, consumer_group, create_topics
from mmbroker.streams.kafka.offsets import committed_places
from mmbroker.streams.kafka.topic_identity import topic_identities
from mmbroker.streams.names import BUILD_FINGERPRINTS
from mmbroker.streams.operating.ledger import ledger
from mmbroker.streams.operating.rebuild import rebuild
from mmbroker.streams.proving.embedded import stage_running
from mmbroker.streams.running.belonging import Comparison, begin, compare, mark
from mmbroker.streams.settings import Settings
from mmbroker.streams.store import LMDBStore, read_store
from mmbroker.streams.topics import flow
from tests.conftest import PREFIXES, Broker, settings_on, wait_until
from tests.endpoint import Endpoint

pytestmark = pytest.mark.slow


def make_anew(settings: Settings, topic: str) -> None:
    """Delete a topic, and make one of the same name."""
    client = admin(settings.kafka)

    def topic_id() -> str | None:
        found = topic_identities(settings.kafka, [topic], client).get(topic)
        return None if found is None else found.topic_id

    before = topic_id()
    client.delete_topics([topic])[topic].result()
    wait_until(lambda: topic_id() is None, f"{topic} is not deleted")
    create_topics(settings.kafka, [each for each in settings.topics.all() if each.name == topic])
    wait_until(lambda: topic_id() not in (None, before), f"{topic} is not made again")


@dataclass
class Pair:
    """A store, and the topics of a Kafka, without stages."""

    settings: Settings
    store: LMDBStore
    client: AdminClient

    @property
    def observations(self) -> str:
        return self.settings.topics.observations

    def begin(self) -> None:
        begin(
            self.settings,
            self.store,
            [topic for _, topic in flow(self.settings.topics)],
            self.client,
        )

    def compare(self) -> Comparison:
        committed = committed_places(self.settings.kafka, BUILD_FINGERPRINTS, self.observations)
        with self.store.reading() as reading:
            return compare(self.settings, reading, {self.observations: committed}, self.client)

    def acknowledge(self, partition: int, offset: int, store_id: str) -> None:
        group = consumer_group(self.settings.kafka, BUILD_FINGERPRINTS)
        with closing(consumer(self.settings.kafka, group=group)) as client:
            place = TopicPartition(self.observations, partition, offset, mark(store_id))
            client.commit(offsets=[place], asynchronous=False)


@pytest.fixture
def pair(stack: LocalStack, tmp_path: Path) -> Iterator[Pair]:
    settings, _ = settings_on(stack, tmp_path, next(PREFIXES))
    create_topics(settings.kafka, settings.topics.all())
    store = LMDBStore(settings.store_directory)
    yield Pair(settings, store, admin(settings.kafka))
    store.close()


def test_a_store_and_its_own_topics_belong_together(pair: Pair) -> None:
    pair.begin()
    with pair.store.reading() as reading:
        own = reading.store_id()
    pair.acknowledge(0, 0, own)
    pair.begin()  # changes nothing
    with pair.store.reading() as reading:
        assert reading.store_id() == own
    found = pair.compare()
    assert not any(found.problems.values())
    assert not any(found.remade.values())
    assert not found.added
    assert not found.foreign
    found.require_well([pair.observations])


def test_partitions_that_were_added_are_told_with_what_they_mean(pair: Pair) -> None:
    pair.begin()
    before = pair.settings.kafka.partitions
    for topic in (pair.observations, pair.settings.topics.scored):
        pair.client.create_partitions([NewPartitions(topic, before + 2)])[topic].result()
    wait_until(
        lambda: pair.compare().partitions[pair.settings.topics.scored] == before + 2,
        "no partition is added",
    )
    for _ in range(2):  # before and after a stage has started on them
        found = pair.compare()
        told = found.added[pair.observations]
        assert f"topic {pair.observations} has {before + 2} partitions ({before} until 20" in told
        assert "changes nothing in the galaxy" in told
        assert "the newest version counts" in found.added[pair.settings.topics.scored]
        assert not any(found.problems.values())
        pair.begin()
    with pair.store.reading() as reading:
        known = reading.known_topic(pair.observations)
        entries = ledger(pair.settings, reading, again=True)
    assert known is not None
    assert [number for _, number in known.partitions] == [before, before + 2]
    assert [len(each.notes) for each in entries] == [1, 0, 1]
    assert all(each.closes for each in entries)


def test_another_store_on_the_same_topics_is_told_until_this_one_replaces_it(pair: Pair) -> None:
    pair.begin()
    pair.acknowledge(1, 0, "other")
    found = pair.compare()
    assert found.foreign == 1
    with pytest.raises(InfrastructureError, match="partitions 1 were acknowledged with other"):
        found.require_well([pair.observations])
    with pair.store.reading() as reading:
        build, *_ = ledger(pair.settings, reading, again=True)
    assert "is read with two stores" in build.problems[0]
    assert not build.closes
    with pair.store.writing() as writing:
        writing.identify(writing.store_id(), {"other"})
    pair.compare().require_well([pair.observations])


def test_a_store_that_has_counted_more_than_a_topic_has_is_told(pair: Pair) -> None:
    with pair.store.writing() as writing:  # of former versions: nothing is known of the topic
        writing.account(BUILD_FINGERPRINTS, {(pair.observations, 2): 7}, {"merged": 7})
    with pytest.raises(InfrastructureError, match=r"\[2\] ends at 0, and .* has counted 7 events"):
        pair.compare().require_well([pair.observations])


def test_another_kafka_is_told_as_such(pair: Pair) -> None:
    pair.begin()
    with pair.store.writing() as writing:
        known = writing.known_topic(pair.observations)
        assert known is not None
        other = type(known)("elsewhere", "another", known.partitions)
        writing.know_topic(pair.observations, other)
    with pytest.raises(InfrastructureError, match=r"this is another Kafka .* it was elsewhere"):
        pair.compare().require_well([pair.observations])


def test_a_topic_made_anew_under_the_stages_loses_nothing(
    make_broker: Callable[..., Broker],
) -> None:
    broker = make_broker()
    settings, topic = broker.settings, broker.settings.topics.observations
    directory = settings.store_directory
    observations = list(simulate(20, seed=71))[:60]
    first, second = observations[:50], observations[50:]
    broker.publish(first)
    make_anew(settings, topic)
    broker.publish(second, settle=False)  # fewer than before: below the counted offsets
    log = settings.data_directory / "stages.log"
    told = f"topic {topic} was made anew after 20"
    wait_until(lambda: told in log.read_text(), "the stage does not tell", 90)
    remedy = f"mv {directory} {directory}.old; mmbroker rebuild --backup {directory}.old"
    with closing(read_store(settings)) as store, store.reading() as reading:
        build, *_ = ledger(settings, reading, again=True)
    assert told in build.problems[0]
    assert remedy in build.problems[0]
    assert not build.closes
    assert build.outcomes == {"merged": len(first)}  # none was taken for a repeat
    metrics = Endpoint(settings, BUILD_FINGERPRINTS).get("/metrics")[1]
    assert f'mmbroker_topic_remade{{stage="build-fingerprints",topic="{topic}"}} 1.0' in metrics
    checked = broker.command("check", check=False)
    assert checked.returncode == 1
    assert remedy in checked.stdout
    broker.process.terminate()
    broker.process.wait(60)

    with stage_running(BUILD_FINGERPRINTS, "alone", log, broker.environment) as refused:
        assert refused.wait(60) == 1
    shutil.move(directory, f"{directory}.old")
    rebuild(settings, backup=Path(f"{directory}.old"), progress=False)
    with stage_running(BUILD_FINGERPRINTS, "alone", log, broker.environment):
        wait_until(lambda: broker.ledger()[0].closes, "the rest is not read")
    with closing(read_store(settings)) as store, store.reading() as reading:
        build, *_ = ledger(settings, reading, again=True)
        merged = [each for _, each in reading.observations() if each.status == "merged"]
    assert build.outcomes == {"merged": len(second)}
    assert not build.problems
    assert len(merged) == len(observations)
