"""A stage that is killed at any moment loses nothing and doubles nothing."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable

import psutil
import pytest

from models.simulator import simulate
from processors.contribution import observation_hash
from schemas.events import Fingerprint
from streams.stages import STAGES
from streams.store import LMDBStore

from ..conftest import Broker

pytestmark = pytest.mark.slow
SEED = 23
KILLS = 6


def stage_processes(broker: Broker) -> list[psutil.Process]:
    """The running stage processes of a broker."""
    children = psutil.Process(broker.process.pid).children(recursive=True)
    return [each for each in children if set(STAGES) & set(each.cmdline())]


def kill_now_and_then(broker: Broker, stop: threading.Event) -> None:
    chance = random.Random(SEED)
    for _ in range(KILLS):
        if stop.wait(chance.uniform(0.5, 2.0)):
            return
        processes = stage_processes(broker)
        if processes:
            chance.choice(processes).kill()


def test_killed_stages_lose_and_double_nothing(make_broker: Callable[..., Broker]) -> None:
    broker = make_broker()
    observations = list(simulate(150, seed=SEED))
    repeated = observations[::7]
    stop = threading.Event()
    killer = threading.Thread(target=kill_now_and_then, args=(broker, stop))
    killer.start()
    for start in range(0, len(observations), 100):
        broker.publish(observations[start : start + 100], settle=False)
        time.sleep(0.5)
    broker.publish(repeated, settle=False)
    killer.join()
    stop.set()
    broker.settle(len(observations) + len(repeated), timeout_s=150)

    build, score, publish = broker.ledger()
    assert build.outcomes == {"merged": len(observations), "repeated": len(repeated)}
    assert score.closes
    assert publish.closes

    newest = {each.key.decode(): each for each in broker.read("fingerprints")}
    store = LMDBStore(broker.settings.store_directory)
    with store.reading() as reading:
        assert {galaxy: each.value for galaxy, each in newest.items()} == {
            galaxy: reading.fingerprint(galaxy) for galaxy in reading.galaxy_ids()
        }
    store.close()
    hashes = []
    for message in newest.values():
        assert isinstance(message.event, Fingerprint)
        merged = message.event.observation_hashes
        hashes += [merged[start : start + 16] for start in range(0, len(merged), 16)]
    assert sorted(hashes) == sorted(observation_hash(each.observation_id) for each in observations)
    scored = {each.key.decode(): each.galaxy for each in broker.read("scored")}
    versions = {galaxy: each.event.version for galaxy, each in newest.items()}  # type: ignore[union-attr]
    assert {galaxy: each.version for galaxy, each in scored.items() if each} == versions
