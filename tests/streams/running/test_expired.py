"""What Kafka deleted before it was read is told as lost, and nothing else is."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from confluent_kafka import Producer, TopicPartition

from mmbroker.models.simulation.observations import simulate
from mmbroker.schemas.codec import Codec
from mmbroker.streams.kafka.client import admin
from mmbroker.streams.kafka.offsets import end_offsets
from mmbroker.streams.proving.embedded import stages_running
from mmbroker.streams.stages.accounting import EXPIRED, GAP
from tests.conftest import Broker, wait_until

pytestmark = pytest.mark.slow


def delete(broker: Broker, up_to: dict[int, int]) -> None:
    """What retention does: delete what stands before some offsets, by partition."""
    topic = broker.settings.topics.observations
    client = admin(broker.settings.kafka)
    places = [TopicPartition(topic, partition, offset) for partition, offset in up_to.items()]
    for future in client.delete_records(places).values():
        future.result()


def test_what_expired_while_the_stages_were_away_is_told_as_lost(
    make_broker: Callable[..., Broker],
) -> None:
    broker = make_broker()
    observations = list(simulate(30, seed=91))
    topic = broker.settings.topics.observations
    broker.publish(observations[:20])
    before = end_offsets(broker.settings, topic)
    assert "expired unread so far: 0" in broker.command("check").stdout
    broker.process.terminate()
    broker.process.wait(60)

    broker.publish(observations[20:60], settle=False)
    ends = end_offsets(broker.settings, topic)
    delete(broker, ends)
    lost = sum(ends.values()) - sum(before.values())
    assert lost == len(observations[20:60])
    told = broker.command("ledger", "--json", check=False)
    assert json.loads(told.stdout)[0]["expired"] == lost
    assert EXPIRED in broker.command("ledger", check=False).stdout
    checked = broker.command("check", check=False)
    assert checked.returncode == 1
    assert "Kafka has deleted events before they were read" in checked.stdout
    assert f"{lost} of build-fingerprints" in checked.stdout

    log = broker.settings.data_directory / "stages.log"
    with stages_running(broker.settings, log, broker.environment):
        everywhere = list(simulate(60, seed=92))  # something new in every partition
        broker.publish(everywhere)
        build, *_ = broker.ledger()
        assert build.outcomes == {"merged": 20 + len(everywhere), EXPIRED: lost}
        assert build.closes
        assert build.expired == 0
        for partition, end in ends.items():
            if end > before[partition]:
                gone = f"offsets {before[partition]} to {end - 1} of {topic} [{partition}] are lost"
                assert (
                    f"ERROR mmbroker.streams.stages.accounting: build-fingerprints: {gone}"
                    in log.read_text()
                )
        assert f"expired unread so far: {lost}" in broker.command("check").stdout


def test_the_markers_of_a_transaction_are_not_told_as_lost(
    make_broker: Callable[..., Broker],
) -> None:
    broker = make_broker()
    topic = broker.settings.topics.observations
    producer = Producer({**broker.settings.kafka.client(), "transactional.id": topic})
    producer.init_transactions()
    observations = list(simulate(3, seed=93))
    for observation in observations:
        producer.begin_transaction()
        producer.produce(topic, Codec().encode(observation), partition=0)
        producer.commit_transaction()
    producer.flush()
    count = len(observations)

    def merged() -> bool:
        return broker.ledger()[0].outcomes.get("merged") == count

    wait_until(merged, f"not all is merged: {broker.ledger()}")
    outcomes = broker.ledger()[0].outcomes
    assert outcomes == {"merged": count, GAP: count - 1}  # the last marker has nothing after it
    assert broker.ledger()[0].expired == 0
