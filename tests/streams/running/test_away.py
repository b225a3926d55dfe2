"""While Kafka, Triton or the store is away the stages say so and wait; then they go on."""

from __future__ import annotations

import time

import pytest

from mmbroker.deploy.local import LocalStack
from mmbroker.streams.names import STAGE_NAMES
from mmbroker.streams.proving.kill import send_again, stage_process
from mmbroker.streams.proving.traffic import EVERYTHING_CONFIG, Traffic, flowing
from mmbroker.streams.proving.truth import Untrue, untrue
from mmbroker.streams.settings import StageSettings
from mmbroker.streams.store import open_store
from tests.conftest import AS_SHIPPED, broker_on
from tests.endpoint import Endpoint

pytestmark = pytest.mark.slow
SEED = 31
OBSERVATIONS = 1000
RATE = 20.0
DELIVERY_TIMEOUT_S = 6.0
AWAY_S = max(DELIVERY_TIMEOUT_S, StageSettings().session_timeout_s) + 5.0
"""Longer than the producers wait for Kafka, and than the members of a group stay members."""


def test_what_is_away_for_longer_than_every_timeout_costs_nothing(
    servers: LocalStack, tmp_path_factory: pytest.TempPathFactory
) -> None:
    traffic = Traffic(OBSERVATIONS, SEED)
    directory = tmp_path_factory.mktemp("away")
    patience = {**AS_SHIPPED, "MMBROKER_KAFKA__DELIVERY_TIMEOUT_S": str(DELIVERY_TIMEOUT_S)}
    with broker_on(servers, directory, "away", EVERYTHING_CONFIG, **patience) as broker:
        settings = broker.settings
        stages = [Endpoint(settings, stage) for stage in STAGE_NAMES]
        with flowing(traffic, settings, RATE):
            for stage in stages:
                stage.wait(200)
            processes = [stage_process(broker.process.pid, stage) for stage in STAGE_NAMES]

            servers.kafka.kill()
            servers.triton.kill()
            back_at = time.monotonic() + AWAY_S
            for stage in stages:
                stage.wait(503)
            time.sleep(max(back_at - time.monotonic(), 0.0))
            assert not any(stage.says("/readyz", 200) for stage in stages)
            servers.kafka.start()
            servers.triton.start()
            for stage in stages:
                stage.wait(200)

            store = open_store(settings)
            with store.writing():  # no other process can write meanwhile
                stages[0].wait(503, "now in: store")
                send_again(settings)
                for stage in stages[1:]:
                    stage.wait(503, "now in: store")
            store.close()
            for stage in stages:
                stage.wait(200)
        assert untrue(settings, traffic) == Untrue()
        assert [stage_process(broker.process.pid, stage) for stage in STAGE_NAMES] == processes
