"""Runs the stages as child processes, for the demo, the benchmark and the tests."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

from confluent_kafka.admin import AdminClient

from mmbroker.streams import topics
from mmbroker.streams.errors import InfrastructureError
from mmbroker.streams.kafka.client import existing_topics
from mmbroker.streams.kafka.offsets import committed_offsets, end_offsets
from mmbroker.streams.names import BUILD_FINGERPRINTS
from mmbroker.streams.operating import ledger
from mmbroker.streams.operating.ledger import Entry
from mmbroker.streams.running.supervise import SUPERVISOR_VARIABLE
from mmbroker.streams.settings import Settings
from mmbroker.streams.store import read_store

START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 45.0
POLL_S = 0.3
FIRST = BUILD_FINGERPRINTS

Counts = dict[tuple[str, str], int]
"""Number of events by (stage, outcome)."""


@contextmanager
def stages_running(
    settings: Settings, log: Path, environment: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run the stages until the end of the block, or until this process ends.

    Args:
        settings: the settings that the environment gives.
        log: file to which the log of the stages is appended.
        environment: environment of the stages; by default that of this process.

    Yields:
        The process of the supervisor; all topics exist.

    Raises:
        InfrastructureError: the stages did not start.
    """
    variables = {**(environment or os.environ), SUPERVISOR_VARIABLE: str(os.getpid())}
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "mmbroker", "run"],
            stdout=file,
            stderr=file,
            env=variables,
            start_new_session=True,
        )
    try:
        _wait_for_topics(settings, process, log)
        yield process
    finally:
        process.terminate()
        process.wait(STOP_TIMEOUT_S)


@contextmanager
def stage_running(
    stage: str, instance: str, log: Path, environment: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a process of a stage until the end of the block, or until this process ends.

    Args:
        stage: name of the stage.
        instance: name of the process among those of the stage.
        log: file to which its log is appended.
        environment: its environment; by default that of this process.

    Yields:
        The process, which may still be starting.
    """
    variables = {**(environment or os.environ), SUPERVISOR_VARIABLE: str(os.getpid())}
    command = [sys.executable, "-m", "mmbroker", "stage", stage, "--instance", instance]
    with log.open("ab") as file:
        process = subprocess.Popen(
            command, stdout=file, stderr=file, env=variables, start_new_session=True
        )
    try:
        yield process
    finally:
        process.terminate()
        process.wait(STOP_TIMEOUT_S)


def ledger_now(settings: Settings, client: AdminClient | None = None) -> list[Entry]:
    """The ledger as it is now.

    Args:
        settings: how to reach Kafka and the store.
        client: asks Kafka; by default a new client.

    Raises:
        InfrastructureError: Kafka or the store cannot be reached.
    """
    with closing(read_store(settings)) as store, store.reading() as reading:
        return ledger.ledger(settings, reading, client=client)


class Settled:
    """Tells whether a number of observations, and all that came of them, are accounted for.

    Kafka is asked only when the store has stopped changing, so that a benchmark does not measure
    the asking.

    Args:
        settings: the settings.
        received: number of observations; None for all that there are.
    """

    def __init__(self, settings: Settings, received: int | None = None) -> None:
        self._settings = settings
        self._received = received
        self._before: Counts = {}

    def __call__(self) -> bool:
        """Whether nothing has changed since the last call, and no event is still on its way."""
        counts = counts_now(self._settings)
        same, self._before = counts == self._before, counts
        first = sum(count for (stage, _), count in counts.items() if stage == FIRST)
        if not same or first < (self._received or 0):
            return False
        # A stage counts before it sends, and acknowledges after.
        return self._all_acknowledged() and all(
            entry.closes for entry in ledger_now(self._settings)
        )

    def _all_acknowledged(self) -> bool:
        # In parallel: each request needs a new connection, which takes longer than the answer.
        with ThreadPoolExecutor() as pool:
            return all(pool.map(self._acknowledged, topics.flow(self._settings.topics)))

    def _acknowledged(self, flow: tuple[str, str]) -> bool:
        stage, topic = flow
        ends = end_offsets(self._settings, topic)
        return committed_offsets(self._settings.kafka, stage, topic) == {
            place: end for place, end in ends.items() if end
        }


def counts_now(settings: Settings) -> Counts:
    """Number of events by (stage, outcome) in the store; Kafka is not asked."""
    with closing(read_store(settings)) as store, store.reading() as reading:
        return reading.counts()


def _wait_for_topics(settings: Settings, process: subprocess.Popen[bytes], log: Path) -> None:
    wanted = {topic.name for topic in settings.topics.all()}
    deadline = time.monotonic() + START_TIMEOUT_S
    while not wanted <= existing_topics(settings.kafka).keys():
        if process.poll() is not None or time.monotonic() > deadline:
            raise InfrastructureError(f"the stages do not start; see {log}")
        time.sleep(POLL_S)
