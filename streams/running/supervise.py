"""Runs the stages as separate processes, and starts a process again when it ends."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from filelock import FileLock, Timeout

from mmbroker.streams.errors import InfrastructureError
from mmbroker.streams.names import STAGE_NAMES
from mmbroker.streams.settings import Settings

log = logging.getLogger(__name__)

FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 30.0
STABLE_AFTER_S = 60.0
"""After a process has run for this long, its next restart has the first, short pause again."""

STOP_TIMEOUT_S = 40.0
POLL_S = 0.2
RUN_LOCK = "run.lock"
"""File in the data directory that is locked while the stages run."""

SUPERVISOR_VARIABLE = "MMBROKER_SUPERVISOR"
"""Environment variable with the process id of the supervisor; a stage ends when that process is
gone."""

METRICS_PORT_VARIABLE = "MMBROKER_STAGE__METRICS_PORT"


@dataclass
class _Worker:
    """One process of one stage."""

    stage: str
    instance: str
    metrics_port: int
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    start_at: float = 0.0
    pause: float = FIRST_PAUSE_S

    def start(self) -> None:
        command = [sys.executable, "-m", "mmbroker", "stage", self.stage]
        command += ["--instance", self.instance]
        environment = {
            **os.environ,
            SUPERVISOR_VARIABLE: str(os.getpid()),
            METRICS_PORT_VARIABLE: str(self.metrics_port),
        }
        # A session of its own: Ctrl-C in the terminal reaches only the supervisor, which then stops
        # the process in order.
        self.process = subprocess.Popen(command, env=environment, start_new_session=True)
        self.started = time.monotonic()
        log.info("%s started as process %d", self.instance, self.process.pid)

    def watch(self) -> None:
        """Start the process when it is due, and note when it has ended."""
        now = time.monotonic()
        if self.process is None:
            if now >= self.start_at:
                self.start()
            return
        code = self.process.poll()
        if code is None:
            return
        if now - self.started > STABLE_AFTER_S:
            self.pause = FIRST_PAUSE_S
        how = ending(code)
        log.warning("%s ended with %s; starts again in %.3g s", self.instance, how, self.pause)
        self.process = None
        self.start_at = now + self.pause
        self.pause = min(2 * self.pause, LONGEST_PAUSE_S)


@dataclass
class Supervisor:
    """The processes of all stages.

    Attributes:
        settings: the settings; ``stage.workers`` is the number of processes of each stage.
    """

    settings: Settings
    _workers: list[_Worker] = field(default_factory=list)
    _stopping: bool = False

    def __post_init__(self) -> None:
        prefix = self.settings.kafka.topic_prefix
        instances = [
            (stage, f"{prefix}-{stage}-{number}")
            for stage in STAGE_NAMES
            for number in range(self.settings.stage.workers.of(stage))
        ]
        first = self.settings.stage.metrics_port
        self._workers = [
            _Worker(stage, instance, metrics_port=first and first + number)
            for number, (stage, instance) in enumerate(instances)
        ]

    def run(self) -> None:
        """Run until SIGTERM or SIGINT, then stop all processes in order.

        Raises:
            StagesRunError: the stages already run with this data directory.
        """
        with only_one(self.settings, "stop them, or set another data_directory"):
            self._run()

    def _run(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop_soon)
        try:
            while not self._stopping:
                for worker in self._workers:
                    worker.watch()
                time.sleep(POLL_S)
        finally:
            self._stop()

    def _stop_soon(self, *_: object) -> None:
        # Only a flag is set: a threading.Event has a lock, which this thread may hold already when
        # the signal comes.
        self._stopping = True

    def _stop(self) -> None:
        running = [worker.process for worker in self._workers if worker.process is not None]
        for process in running:
            process.terminate()
        deadline = time.monotonic() + STOP_TIMEOUT_S
        for process in running:
            try:
                process.wait(max(deadline - time.monotonic(), 0.0))
            except subprocess.TimeoutExpired:
                log.warning("process %d does not stop: killed", process.pid)
                process.kill()
                process.wait()
        log.info("all stages have stopped")


class StagesRunError(InfrastructureError):
    """``mmbroker run`` runs already with this data directory."""


@contextmanager
def only_one(settings: Settings, remedy: str) -> Iterator[None]:
    """Keep other processes from running the stages in the data directory during the block.

    Args:
        settings: name the data directory.
        remedy: what to do if they run, for the message.

    Raises:
        StagesRunError: they run.
    """
    directory = settings.data_directory
    directory.mkdir(parents=True, exist_ok=True)
    lock = FileLock(directory / RUN_LOCK, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise StagesRunError(f"the stages run in {directory}: {remedy}") from None
    try:
        yield
    finally:
        lock.release()


def stages_run(settings: Settings) -> bool:
    """Whether the stages run in the data directory."""
    try:
        with only_one(settings, ""):
            return False
    except StagesRunError:
        return True


def ending(code: int) -> str:
    """How a process ended, in words, from its return code."""
    if code >= 0:
        return f"status {code}"
    name = signal.Signals(-code).name
    if -code in (signal.SIGBUS, signal.SIGSEGV, signal.SIGABRT):
        damaged = "the store may be damaged, mmbroker check reads it through"
        if -code == signal.SIGABRT:
            return (
                f"{name}: memory beyond stage.memory_headroom_mib was asked for, Kafka's client "
                f"failed at a batch, or {damaged}"
            )
        return f"{name}: {damaged}"
    return name


def end_with_supervisor() -> None:
    """End this process when the supervisor that started it is gone, even if it was killed."""
    supervisor = os.environ.get(SUPERVISOR_VARIABLE)
    if supervisor is None:
        return

    def watch() -> None:
        while os.getppid() == int(supervisor):
            time.sleep(1.0)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="supervisor-watch", daemon=True).start()
