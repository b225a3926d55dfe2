"""Two processes of every stage tell one truth, also while the second comes and goes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from subprocess import Popen

import pytest

from mmbroker.deploy.local import LocalStack
from mmbroker.streams.kafka.offsets import end_offsets
from mmbroker.streams.names import SCORE_GALAXIES, STAGE_NAMES
from mmbroker.streams.proving.embedded import stage_running
from mmbroker.streams.proving.traffic import EVERYTHING_CONFIG, Traffic, flowing
from mmbroker.streams.proving.truth import Untrue, untrue
from tests.conftest import AS_SHIPPED, Broker, broker_on, wait_until
from tests.endpoint import Endpoint, by_label

pytestmark = pytest.mark.slow
SEED = 29
OBSERVATIONS = 3000
RATE = 50.0
TOGETHER_S = 3.0
EVERY_PARTITION = set("0123")


@contextmanager
def second_processes(broker: Broker) -> Iterator[list[Popen[bytes]]]:
    """One more process of every stage, which reads some of the partitions by then."""
    settings = broker.settings
    log = settings.data_directory / "second.log"
    with ExitStack() as running:
        processes = [
            running.enter_context(stage_running(stage, f"second-{stage}", log, broker.environment))
            for stage in STAGE_NAMES
        ]
        for stage in STAGE_NAMES:
            wait_until(lambda stage=stage: share(broker, stage), f"{stage} is not shared")
        for stage in STAGE_NAMES:
            wait_until(
                lambda stage=stage: has_worked(broker, stage), f"the second {stage} does nothing"
            )
        yield processes


def share(broker: Broker, stage: str) -> bool:
    """Whether two processes of a stage read half of the partitions each."""
    instances = ("", f"second-{stage}")
    parts = [Endpoint(broker.settings, stage, each).partitions() for each in instances]
    return list(map(len, parts)) == [2, 2] and set.union(*parts) == EVERY_PARTITION


def has_worked(broker: Broker, stage: str) -> bool:
    """Whether the second process of a stage has accounted for events."""
    scrape = Endpoint(broker.settings, stage, f"second-{stage}").scrape()
    return sum(by_label(scrape, "mmbroker_events_accounted_total", "stage").values()) > 0


def wait_for_one(broker: Broker) -> None:
    """Wait until the first process of every stage reads all partitions."""
    for stage in STAGE_NAMES:
        first = Endpoint(broker.settings, stage)
        wait_until(
            lambda first=first: first.partitions() == EVERY_PARTITION, f"{stage} is not taken over"
        )


def test_a_second_process_of_every_stage_comes_and_goes_while_observations_stream(
    stack: LocalStack, tmp_path_factory: pytest.TempPathFactory
) -> None:
    traffic = Traffic(OBSERVATIONS, SEED)
    directory = tmp_path_factory.mktemp("second")
    with broker_on(stack, directory, "second", EVERYTHING_CONFIG, **AS_SHIPPED) as broker:
        with flowing(traffic, broker.settings, RATE):
            with second_processes(broker):
                time.sleep(TOGETHER_S)
            wait_for_one(broker)
            with second_processes(broker) as processes:
                time.sleep(TOGETHER_S)
                for process in processes:
                    process.kill()
                wait_for_one(broker)
        assert untrue(broker.settings, traffic) == Untrue()
        spread = end_offsets(broker.settings, broker.settings.topics.observations)
        assert min(spread.values()) > OBSERVATIONS / 20
        assert all(entry.closes for entry in broker.ledger())


def test_the_settings_say_how_many_processes_a_stage_has(
    stack: LocalStack, tmp_path_factory: pytest.TempPathFactory
) -> None:
    directory = tmp_path_factory.mktemp("workers")
    workers = {"MMBROKER_STAGE__WORKERS__SCORE_GALAXIES": "2"}
    with broker_on(stack, directory, "workers", **workers) as broker:
        both = [
            Endpoint(broker.settings, SCORE_GALAXIES, f"workers-{SCORE_GALAXIES}-{number}")
            for number in range(2)
        ]
        wait_until(
            lambda: [len(each.partitions()) for each in both] == [2, 2],
            "two processes do not share the fingerprints",
        )
