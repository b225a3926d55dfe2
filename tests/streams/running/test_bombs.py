"""Batches that become gigabytes end no stage for good: it comes past them by itself."""

from __future__ import annotations

from pathlib import Path

import pytest
from confluent_kafka import Producer

from mmbroker.deploy.local import LocalStack
from mmbroker.models.simulation.observations import simulate
from mmbroker.streams.names import BUILD_FINGERPRINTS
from mmbroker.streams.running.starts import DIRECTORY
from mmbroker.streams.stages.accounting import UNREADABLE
from tests.conftest import Broker, broker_on
from tests.record_batches import ENDS_THE_CLIENT, send

pytestmark = pytest.mark.slow  # stages of its own

BOMBS = {"lz4": (40, 15 * 2**20), "zstd": (1, 100 * 2**20)}
"""Number and bytes of the messages of a batch, by how it is packed."""


def bomb(broker: Broker, partition: int, codec: str) -> int:
    count, size = BOMBS[codec]
    producer = Producer(
        {
            **broker.settings.kafka.client(),
            "compression.type": codec,
            "linger.ms": 30_000,  # all in one batch, however busy the machine is
            "batch.size": 2**31 - 1,
            "message.max.bytes": 10**9,
        }
    )
    for _ in range(count):
        producer.produce(broker.settings.topics.observations, bytes(size), partition=partition)
    assert not producer.flush(60)
    return count


def test_a_stage_comes_past_batches_that_become_too_large_in_memory(
    stack: LocalStack, tmp_path: Path
) -> None:
    observations = list(simulate(40, seed=11))
    headroom = {"MMBROKER_STAGE__MEMORY_HEADROOM_MIB": "512"}
    with broker_on(stack, tmp_path, "bombs", **headroom) as broker:
        broker.publish(observations[:20])
        lost = 0
        for codec in BOMBS:
            lost += bomb(broker, 0, codec)
            broker.publish(observations[:20], settle=False)  # repeats, which come between
        send(broker.settings.kafka, broker.settings.topics.observations, ENDS_THE_CLIENT)
        lost += 1
        broker.publish(observations[20:], settle=False)
        broker.settle(20 + 2 * 20 + 20 + lost)
        entry = next(each for each in broker.ledger() if each.stage == BUILD_FINGERPRINTS)
        assert entry.closes
        assert entry.outcomes[UNREADABLE] == lost
        assert entry.outcomes["merged"] == len(observations)
        assert entry.outcomes["repeated"] == 2 * 20
        log = (tmp_path / "stages.log").read_text()
        assert "ended with SIGABRT: memory beyond stage.memory_headroom_mib" in log
        assert "a child process with bounded memory reads ahead of it" in log
        assert "are lost: their batch cannot be unpacked" in log
        told = broker.command("check", check=False).stdout
        assert f"of batches that cannot be unpacked so far: {lost}" in " ".join(told.split())
        assert list((tmp_path / DIRECTORY).iterdir())
    assert not list((tmp_path / DIRECTORY).iterdir()), "an orderly end forgets the starts"
