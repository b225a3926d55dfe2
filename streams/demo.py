"""The demo: a local stack, the stages, the demo sample, and the live table."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path

from rich.console import Console

from deploy.local import LocalStack
from models.repository import write_repository

from . import ledger, settings, top
from .errors import InfrastructureError
from .kafka import existing_topics
from .publish import publish_files, publish_unchecked
from .settings import Settings
from .store import LMDBStore
from .supervise import SUPERVISOR_VARIABLE

ROWS = 20
SETTLE_TIMEOUT_S = 240.0
STOP_TIMEOUT_S = 45.0
POLL_S = 1.0


def run_demo(console: Console, once: bool) -> bool:
    """Run the demo until Ctrl-C, or with ``once`` until everything is accounted for.

    Args:
        console: where to show it.
        once: end by itself.

    Returns:
        Whether every observation was accounted for in every stage.

    Raises:
        StackError: the servers cannot run on this machine.
        InfrastructureError: they did not answer in time.
    """
    with _stack(console), _stages(console) as log:
        now = settings.load()
        _wait_for_topics(now, log)
        console.print(f"published {_publish(now)} observations of the demo sample")
        closed = _Closed(now)
        top.watch(now, console, ROWS, stop=closed if once else lambda: False)
        entries = closed.entries()
        console.print(ledger.render(entries))
        return all(entry.closes for entry in entries)


def _publish(now: Settings) -> int:
    """Publish the demo sample, and a few malformed events that belong in quarantine."""
    sample = Path(str(resources.files("deploy") / "demo"))
    tables = sorted(sample.glob("*.ecsv"))
    malformed = [table for table in tables if table.stem == "malformed"]
    good = [table for table in tables if table not in malformed]
    sent = publish_files(good, settings=now).sent
    return sent + sum(publish_unchecked(table, settings=now) for table in malformed)


class _Closed:
    """Whether the ledger has closed and stays so, or it is time to give up waiting."""

    def __init__(self, now: Settings) -> None:
        self._settings = now
        self._deadline = time.monotonic() + SETTLE_TIMEOUT_S
        self._next = 0.0
        self._before: list[ledger.Entry] | None = None

    def __call__(self) -> bool:
        if time.monotonic() < self._next:
            return False
        self._next = time.monotonic() + POLL_S
        entries = self.entries()
        settled = all(entry.closes for entry in entries) and entries == self._before
        self._before = entries
        return settled or time.monotonic() > self._deadline

    def entries(self) -> list[ledger.Entry]:
        store = LMDBStore(self._settings.store_directory)
        try:
            with store.reading() as reading:
                return ledger.ledger(self._settings, reading)
        finally:
            store.close()


@contextmanager
def _stack(console: Console) -> Iterator[None]:
    """The local stack that runs already, or one for the demo."""
    now = settings.load()
    running = LocalStack(now.stack_directory, quiet=True).status().ready
    if running:
        console.print(f"using the stack that runs in {now.stack_directory}")
        yield
        return
    repository = now.data_directory / "models"
    write_repository(repository, "embedded")
    with LocalStack(now.stack_directory, model_repository=repository):
        yield


@contextmanager
def _stages(console: Console) -> Iterator[Path]:
    """The stages as a process of their own, with a log file."""
    log = settings.load().data_directory / "stages.log"
    environment = {**os.environ, SUPERVISOR_VARIABLE: str(os.getpid())}
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "streams.cli", "run"],
            stdout=file,
            stderr=file,
            env=environment,
            start_new_session=True,
        )
    console.print(f"the stages run; their log is {log}")
    try:
        yield log
    finally:
        process.terminate()
        process.wait(STOP_TIMEOUT_S)


def _wait_for_topics(now: Settings, log: Path) -> None:
    """Wait until the stages' process has made the topics.

    Raises:
        InfrastructureError: it has not, within the time that starting takes at most.
    """
    wanted = {topic.name for topic in now.topics.all()}
    deadline = time.monotonic() + STOP_TIMEOUT_S
    while not wanted <= existing_topics(now.kafka).keys():
        if time.monotonic() > deadline:
            raise InfrastructureError(f"the stages do not start; see {log}")
        time.sleep(POLL_S / 4)
