"""Whatever is killed, at any moment: nothing is lost, nothing is doubled, and it goes on."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from mmbroker.deploy.local import LocalStack
from mmbroker.models.simulation.observations import simulate
from mmbroker.processors.fingerprint import merge as fingerprints
from mmbroker.schemas.codec import Codec
from mmbroker.schemas.events import Observation
from mmbroker.streams.kafka.producer import DurableProducer
from mmbroker.streams.names import BUILD_FINGERPRINTS, SCORE_GALAXIES, STAGE_NAMES
from mmbroker.streams.proving.kill import HANG_S, Killer, asking_triton, schedule
from mmbroker.streams.proving.traffic import EVERYTHING_CONFIG, Traffic, flowing
from mmbroker.streams.proving.truth import Untrue, untrue
from mmbroker.streams.publishing.publisher import Publisher
from mmbroker.streams.running.health import SLOW_AFTER_S
from mmbroker.streams.settings import Settings, TritonSettings
from mmbroker.streams.stages.messages import Outgoing
from mmbroker.streams.store import open_store
from tests.conftest import AS_SHIPPED, Broker, broker_on

pytestmark = pytest.mark.slow
SEED = 23
OBSERVATIONS = 2000
KILLS = 5
RATE = 50.0
TOGETHER = (("kafka", BUILD_FINGERPRINTS), ("triton", SCORE_GALAXIES))
"""Dying at one moment: what recovers finds what it needs away."""

LOCKED_S = SLOW_AFTER_S + 5.0
"""The store, so that a stage says it."""

BACK_WITHIN_S = {"kafka": 10.0, "triton": 10.0, "store": 10.0, **dict.fromkeys(STAGE_NAMES, 20.0)}
"""A stage takes 2 to 5 s, most of them Python's imports, and 8 where other tests share the machine;
the benchmark holds all to 10 s."""


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
        for pair in TOGETHER:
            with ThreadPoolExecutor() as pool:
                list(pool.map(killer.kill, pair))
        recoveries += [killer.hang(server, HANG_S) for server in ("kafka", "triton")]
        locked = killer.lock_store(LOCKED_S)
        assert locked.stayed_ready == []
        recoveries.append(locked)
    assert untrue(broker.settings, traffic) == Untrue()
    assert all(entry.closes for entry in broker.ledger())
    assert [each for each in recoveries if each.seconds > BACK_WITHIN_S[each.component]] == []


def two_galaxies(traffic: Traffic) -> tuple[Observation, Observation]:
    """Observations of two galaxies that are far from each other."""
    found = [traffic.distinct[name] for name in sorted(traffic.merged)]
    return found[0], next(
        each
        for each in found
        if traffic.galaxy(each.observation_id) != traffic.galaxy(found[0].observation_id)
    )


def test_what_is_untrue_would_be_found(broker: Broker, traffic: Traffic) -> None:
    settings = broker.settings
    unknown, *missing = simulate(4, SEED + 1)
    with Publisher(settings) as publisher:
        publisher.send(unknown)
        publisher.send_encoded(b"nonsense")
    broker.settle(traffic.sent + 2)
    for each in missing:
        traffic.distinct[each.observation_id] = each
    store = open_store(settings)
    with store.writing() as writing:
        galaxy_id = next(writing.galaxy_ids())
        writing.put_fingerprint(galaxy_id, 1000, b"other")
    store.close()
    one, other = two_galaxies(traffic)
    mixed = fingerprints.build("mm-mixed", [one, other])
    message = Outgoing(settings.topics.fingerprints, b"mm-mixed", Codec().encode(mixed))
    DurableProducer(settings.kafka).send([message])
    found = untrue(settings, traffic)
    assert found.lost == sorted(each.observation_id for each in missing)
    assert len(found.unwanted) == 1
    assert found.mixed == ["mm-mixed"]
    assert found.doubled == sorted(each.observation_id for each in (one, other))
    assert found.unlike_store == sorted([galaxy_id, "mm-mixed"])
    assert found.not_quarantined == 1
    assert found.outcomes["taken in"] == 1 - len(missing)


@pytest.mark.parametrize(
    ("triton", "stages"),
    [
        (TritonSettings(), [BUILD_FINGERPRINTS, SCORE_GALAXIES]),
        (TritonSettings(parser=""), [BUILD_FINGERPRINTS, SCORE_GALAXIES]),
        (TritonSettings(parser="", map_parser=""), [SCORE_GALAXIES]),
        (TritonSettings(parser="", map_parser="", critic=""), [SCORE_GALAXIES]),
        (TritonSettings(parser="", map_parser="", critic="", refined_redshift=False), []),
    ],
)
def test_triton_is_needed_by_the_stages_that_ask_a_model(
    triton: TritonSettings, stages: list[str]
) -> None:
    assert asking_triton(Settings(triton=triton)) == stages
