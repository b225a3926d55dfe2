"""Whatever is killed, at any moment: nothing is lost, nothing is doubled, and it goes on."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from deploy.local import LocalStack
from models.simulator import simulate
from streams.names import BUILD_FINGERPRINTS, SCORE_GALAXIES, STAGE_NAMES
from streams.publish import Publisher
from streams.reliability import (
    EVERYTHING_CONFIG,
    Killer,
    Traffic,
    Untrue,
    asking_triton,
    flowing,
    schedule,
    untrue,
)
from streams.settings import Settings, TritonSettings
from streams.store import LMDBStore

from ..conftest import AS_SHIPPED, Broker, broker_on

pytestmark = pytest.mark.slow
SEED = 23
OBSERVATIONS = 3000
KILLS = 7
RATE = 50.0
BACK_WITHIN_S = {"kafka": 10.0, "triton": 10.0, **dict.fromkeys(STAGE_NAMES, 20.0)}
"""A stage takes 6 s, most of them Python's imports, and longer where tests share the machine; the
benchmark holds all to 10 s."""


@pytest.fixture(scope="module")
def broker(servers: LocalStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    directory = tmp_path_factory.mktemp("killed")
    with broker_on(servers, directory, "killed", EVERYTHING_CONFIG, **AS_SHIPPED) as running:
        yield running


@pytest.fixture(scope="module")
def traffic() -> Traffic:
    return Traffic(OBSERVATIONS, SEED)


def test_the_broker_is_unharmed_by_anything_that_dies(
    broker: Broker, servers: LocalStack, traffic: Traffic
) -> None:
    killer = Killer(broker.settings, servers, broker.process.pid)
    recoveries = []
    with flowing(traffic, broker.settings, RATE):
        for pause_s, component in schedule(KILLS, SEED):
            time.sleep(pause_s)
            recoveries.append(killer.kill(component, away_s=pause_s))
    assert untrue(broker.settings, traffic) == Untrue()
    assert all(entry.closes for entry in broker.ledger())
    assert [each for each in recoveries if each.seconds > BACK_WITHIN_S[each.component]] == []


def test_what_is_untrue_would_be_found(broker: Broker, traffic: Traffic) -> None:
    settings = broker.settings
    unknown, *missing = simulate(4, SEED + 1)
    with Publisher(settings) as publisher:
        publisher.send(unknown)
        publisher.send_encoded(b"nonsense")
    broker.settle(traffic.sent + 2)
    for each in missing:
        traffic.distinct[each.observation_id] = each
    store = LMDBStore(settings.store_directory)
    with store.writing() as writing:
        galaxy_id = next(writing.galaxy_ids())
        writing.put_fingerprint(galaxy_id, 1000, b"other")
    store.close()
    found = untrue(settings, traffic)
    assert found.lost == sorted(each.observation_id for each in missing)
    assert len(found.unwanted) == 1
    assert found.unlike_store == [galaxy_id]
    assert found.not_quarantined == 1
    assert found.outcomes["taken in"] == 1 - len(missing)


@pytest.mark.parametrize(
    ("triton", "stages"),
    [
        (TritonSettings(), [SCORE_GALAXIES]),
        (TritonSettings(map_parser="map_parser"), [BUILD_FINGERPRINTS, SCORE_GALAXIES]),
        (TritonSettings(critic=""), []),
    ],
)
def test_triton_is_needed_by_the_stages_that_ask_a_model(
    triton: TritonSettings, stages: list[str]
) -> None:
    assert asking_triton(Settings(triton=triton)) == stages
