"""Kills or stops servers and stages while observations flow, and measures how the broker recovers.

It is used by the tests and, for a longer time, by the benchmark.
"""

from __future__ import annotations

import contextlib
import itertools
import random
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from urllib.request import urlopen

import psutil
from confluent_kafka.admin import AdminClient

from mmbroker.deploy.local import LocalStack
from mmbroker.deploy.local.component import Component
from mmbroker.streams.errors import InfrastructureError
from mmbroker.streams.kafka.client import admin
from mmbroker.streams.kafka.producer import DurableProducer
from mmbroker.streams.names import BUILD_FINGERPRINTS, SCORE_GALAXIES, STAGE_NAMES
from mmbroker.streams.proving.embedded import ledger_now
from mmbroker.streams.proving.traffic import POLL_S, RECOVERY_TIMEOUT_S, until
from mmbroker.streams.running.health import targets
from mmbroker.streams.settings import Settings
from mmbroker.streams.stages.messages import Outgoing
from mmbroker.streams.store import open_store
from mmbroker.streams.subscribing.read import read

COMPONENTS = (*STAGE_NAMES, "kafka", "triton")

HANG_S = 12.0
"""How long a server hangs: longer than a consumer group waits for a silent member."""


@dataclass(frozen=True)
class Recovery:
    """How the broker recovered after a component was killed or stopped.

    Attributes:
        component: the component.
        away_s: time in s from the kill until the component was back: until the server answered, or
            the process was started.
        seconds: time in s from then until the stages that need it had gone on.
        stayed_ready: stages that need the component, but still said that they are ready just before
            it came back; known only if it was kept away.
    """

    component: str
    away_s: float
    seconds: float
    stayed_ready: list[str] = field(default_factory=list)


@dataclass
class Killer:
    """Kills servers and stages with SIGKILL while observations flow.

    Attributes:
        settings: settings of the stages.
        stack: the servers; the killer starts them again.
        supervisor: process id of the supervisor, which starts the stages again.
    """

    settings: Settings
    stack: LocalStack
    supervisor: int

    def kill(self, component: str, away_s: float = 0.0) -> Recovery:
        """Kill one component and wait until the broker has recovered from it.

        Args:
            component: one of ``COMPONENTS``.
            away_s: how long a server stays away before it is started again.

        Raises:
            TimeoutError: it does not recover.
        """
        killed = time.monotonic()
        if component in STAGE_NAMES:
            before = stage_process(self.supervisor, component)
            before.kill()
            until(lambda: stage_process(self.supervisor, component) != before, RECOVERY_TIMEOUT_S)
            return self._recovered(component, killed, [component])
        server, needed_by = self._server(component)
        server.kill()
        time.sleep(away_s)
        stayed_ready = ready(self.settings, needed_by) if away_s else []
        server.start()
        return self._recovered(component, killed, needed_by, stayed_ready)

    def hang(self, component: str, away_s: float) -> Recovery:
        """Suspend a server: it does not answer, and its connections stay open.

        If the server does not survive this, it is started again, as an operator would do. Triton
        may end itself. It may also end the process of a model that answers late, and it does not
        start that process again.

        Args:
            component: ``kafka`` or ``triton``.
            away_s: how long the server is suspended.

        Raises:
            TimeoutError: the broker does not recover.
        """
        stopped = time.monotonic()
        server, needed_by = self._server(component)
        process = psutil.Process(server.pid)
        processes = [process, *process.children(recursive=True)]
        for each in processes:
            each.suspend()
        try:
            time.sleep(away_s)
        finally:
            for each in reversed(processes):  # children first: the server checks their health
                each.resume()
        recovery = self._recovered(
            component, stopped, needed_by, in_vain=lambda: not _alive(processes)
        )
        if _alive(processes):
            return recovery
        server.kill()
        server.start()
        return self._recovered(component, stopped, needed_by)

    def lock_store(self, away_s: float) -> Recovery:
        """Keep the stages from writing to the store, as a process would that hangs while it writes.

        Args:
            away_s: how long the store is locked.

        Raises:
            TimeoutError: the stages do not recover.
        """
        locked = time.monotonic()
        with closing(open_store(self.settings)) as store, store.writing():
            send_again(self.settings)  # a stage without work would rightly say that it is ready
            time.sleep(away_s)
            stayed_ready = ready(self.settings, STAGE_NAMES)
        return self._recovered("store", locked, STAGE_NAMES, stayed_ready)

    def _server(self, component: str) -> tuple[Component, Sequence[str]]:
        """A server, and the stages that need it."""
        if component == "kafka":
            return self.stack.kafka, STAGE_NAMES
        return self.stack.triton, asking_triton(self.settings)

    def _recovered(
        self,
        component: str,
        since: float,
        needed_by: Iterable[str],
        stayed_ready: Sequence[str] = (),
        in_vain: Callable[[], bool] = lambda: False,
    ) -> Recovery:
        """Wait until the stages that need a component go on, now that it is back.

        Args:
            component: the component.
            since: when it was killed, in s of ``time.monotonic``.
            needed_by: the stages that need it.
            stayed_ready: goes into the result.
            in_vain: is true when waiting is useless; then the waiting ends too.
        """
        back = time.monotonic()
        # A new client, as an old one may wait for answers of a server that has died.
        client = admin(self.settings.kafka)
        before = self._progress(client)
        until(
            lambda: in_vain() or self._gone_on(before, needed_by, client),
            RECOVERY_TIMEOUT_S,
            lambda: f"nothing goes on after {component}; is all traffic through?",
        )
        return Recovery(component, back - since, time.monotonic() - back, list(stayed_ready))

    def _gone_on(
        self, before: Mapping[str, int], stages: Iterable[str], client: AdminClient
    ) -> bool:
        progress = self._progress(client)
        return all(progress[stage] > before[stage] for stage in stages)

    def _progress(self, client: AdminClient) -> dict[str, int]:
        """How far each stage is, by its name: a number of messages that only grows.

        For the first two stages it is the number of messages that the next stage has received; for
        the last, the number of events that it has accounted for.
        """
        deadline = time.monotonic() + RECOVERY_TIMEOUT_S
        while True:
            try:
                build, score, publish = ledger_now(self.settings, client)
            except InfrastructureError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(POLL_S)  # partitions may not have a leader yet
                continue
            names = (build.stage, score.stage, publish.stage)
            counts = (score.received, publish.received, publish.accounted)
            return dict(zip(names, counts, strict=True))


def send_again(settings: Settings) -> None:
    """Send the newest fingerprint of a galaxy once more; it changes nothing.

    It gives work to score-galaxies and publish-alerts. Without work they would not notice that they
    cannot write.
    """
    (newest,) = deque(read(settings, "fingerprints", until_end=True), maxlen=1)
    message = Outgoing(settings.topics.fingerprints, newest.key, newest.value)
    DurableProducer(settings.kafka).send([message])


def asking_triton(settings: Settings) -> list[str]:
    """The stages that need Triton, because they ask a model there."""
    triton = settings.triton
    asks = {
        BUILD_FINGERPRINTS: triton.parser or triton.map_parser,
        SCORE_GALAXIES: triton.critic or triton.refined_redshift,
    }
    return [stage for stage, model in asks.items() if model]


def _alive(processes: Iterable[psutil.Process]) -> bool:
    """Whether all processes still run."""
    try:
        return all(each.status() != psutil.STATUS_ZOMBIE for each in processes)
    except psutil.NoSuchProcess:
        return False


def ready(settings: Settings, stages: Iterable[str]) -> list[str]:
    """Those of the given stages of which a process says that it is ready."""
    found = []
    for stage in stages:
        for target in targets(settings, stage):
            # urllib raises an OSError both for the status 503 and for a process that has ended.
            with contextlib.suppress(OSError), urlopen(f"http://{target}/readyz", timeout=10):
                found.append(stage)
    return found


def stage_process(supervisor: int, stage: str) -> psutil.Process:
    """Wait for a process of a stage to run.

    Args:
        supervisor: process id of the supervisor.
        stage: name of the stage.

    Raises:
        TimeoutError: no process of the stage runs.
    """
    found: list[psutil.Process] = []

    def there() -> bool:
        for each in psutil.Process(supervisor).children():
            with contextlib.suppress(psutil.Error):  # it has just ended
                if each.status() != psutil.STATUS_ZOMBIE and stage in each.cmdline():
                    found.append(each)
        return bool(found)

    until(there, RECOVERY_TIMEOUT_S, lambda: f"there is no process of {stage}")
    return found[0]


def memory_mb(process: psutil.Process) -> float:
    """Memory of a process in MB, without the store's pages, which are shared and can be freed."""
    memory = process.memory_info()
    return float(memory.rss - memory.shared) / 1e6


def peak_memory_mb(supervisor: int, done: Callable[[], bool], timeout_s: float) -> dict[str, float]:
    """The largest memory that a process of each stage takes until something is done.

    Args:
        supervisor: process id of the supervisor.
        done: says whether it is done.
        timeout_s: longest time to wait.

    Returns:
        Memory in MB, by stage.

    Raises:
        TimeoutError: it is not done in time.
    """
    peak = dict.fromkeys(STAGE_NAMES, 0.0)

    def measured() -> bool:
        for stage in peak:
            peak[stage] = max(peak[stage], memory_mb(stage_process(supervisor, stage)))
        return next(checks)

    # ``done`` takes longer than measuring the memory, so it is called only every tenth time.
    checks = (number % 10 == 9 and done() for number in itertools.count())
    until(measured, timeout_s, lambda: "the stages do not catch up")
    return peak


def schedule(kills: int, seed: int) -> Iterator[tuple[float, str]]:
    """(pause in s, component to kill after it), at random, with each component at least once."""
    chance = random.Random(seed)
    components = [*COMPONENTS, *chance.choices(COMPONENTS, k=kills - len(COMPONENTS))]
    chance.shuffle(components)
    for component in components:
        yield chance.uniform(0.0, 2.0), component
