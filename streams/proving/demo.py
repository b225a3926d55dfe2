"""Runs the demo: a local stack, the stages, the demo sample, and the live table."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from importlib import resources
from pathlib import Path

from rich.console import Console

from mmbroker.deploy.local import LocalStack
from mmbroker.models.serving.repository import provide
from mmbroker.streams.local_stack import load_settings
from mmbroker.streams.operating import ledger
from mmbroker.streams.proving.embedded import Settled, ledger_now, stages_running
from mmbroker.streams.publishing.files import publish_files, publish_unchecked
from mmbroker.streams.running.supervise import stages_run
from mmbroker.streams.settings import Settings
from mmbroker.streams.store import open_store
from mmbroker.streams.subscribing import top

ROWS = 20
SETTLE_TIMEOUT_S = 240.0
POLL_S = 1.0


def run_demo(console: Console, once: bool) -> bool:
    """Run the demo until Ctrl-C, or with ``once`` until everything is accounted for.

    Args:
        console: where to show it.
        once: end when everything is accounted for, or after ``SETTLE_TIMEOUT_S``.

    Returns:
        Whether every observation was accounted for in every stage.

    Raises:
        StackError: the servers cannot run on this machine.
        InfrastructureError: the servers or the stages did not answer in time.
    """
    with _stack(console):
        now = load_settings()
        with _stages(console, now):
            if there := _galaxies(now):
                console.print(f"{there:,} galaxies are there already and count below")
            console.print(f"published {_publish(now)} observations of the demo sample")
            settled = _Patiently(Settled(now))
            top.watch(now, console, ROWS, stop=settled if once else lambda: False)
            entries = ledger_now(now)
        console.print(ledger.render(entries))
        return all(entry.closes for entry in entries)


def _galaxies(now: Settings) -> int:
    with closing(open_store(now)) as store, store.reading() as reading:
        return reading.galaxies()


def _publish(now: Settings) -> int:
    """Publish the demo sample, with a few wrong observations that belong in quarantine."""
    sample = Path(str(resources.files("mmbroker.deploy") / "demo"))
    tables = sorted(sample.glob("*.ecsv"))
    malformed = [table for table in tables if table.stem == "malformed"]
    good = [table for table in tables if table not in malformed]
    sent = publish_files(good, settings=now).sent
    return sent + sum(publish_unchecked(table, settings=now) for table in malformed)


class _Patiently:
    """Checks a condition once per ``POLL_S``; says true in any case after ``SETTLE_TIMEOUT_S``."""

    def __init__(self, condition: Callable[[], bool]) -> None:
        self._condition = condition
        self._deadline = time.monotonic() + SETTLE_TIMEOUT_S
        self._next = 0.0

    def __call__(self) -> bool:
        now = time.monotonic()
        if now < self._next:
            return False
        self._next = now + POLL_S
        return self._condition() or now > self._deadline


@contextmanager
def _stages(console: Console, now: Settings) -> Iterator[None]:
    """Use the stages that already run, or run them during the block."""
    if stages_run(now):
        console.print(f"using the stages that run in {now.data_directory}")
        yield
        return
    log = now.data_directory / "stages.log"
    console.print(f"the stages start; their log is {log}")
    with stages_running(now, log):
        yield


@contextmanager
def _stack(console: Console) -> Iterator[None]:
    """Use the local stack that already runs, or run one during the block."""
    now = load_settings()
    running = LocalStack(now.stack_directory, quiet=True).status().ready
    if running:
        console.print(f"using the stack that runs in {now.stack_directory}")
        yield
        return
    repository = now.data_directory / "models"
    provide(repository, "embedded")
    with LocalStack(now.stack_directory, model_repository=repository):
        yield
