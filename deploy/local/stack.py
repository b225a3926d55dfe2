"""Starts and stops the local stack: a real Kafka and a real Triton that belong together."""

import os
import sys
import threading
import time
from collections.abc import Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

import filelock
import psutil
from rich.console import Console

from mmbroker.deploy.local import processes
from mmbroker.deploy.local.access import BROKER, READER, Access
from mmbroker.deploy.local.component import Component
from mmbroker.deploy.local.errors import StackError
from mmbroker.deploy.local.install import install_kafka, install_triton
from mmbroker.deploy.local.kafka import Kafka
from mmbroker.deploy.local.processes import ProcessRecord
from mmbroker.deploy.local.state import Ports, State
from mmbroker.deploy.local.triton import Triton

DEFAULT_DIRECTORY = Path(".mmbroker/stack")

_NEEDED_BYTES = 500_000_000
_PATIENCE = 10.0  # s, for a server that runs and does not answer


@dataclass(frozen=True)
class ComponentStatus:
    """The state of one server.

    Attributes:
        name: ``kafka`` or ``triton``.
        running: whether its process runs.
        ready: whether it answers.
        address: the address for clients, host:port.
        pid: the process id; None if it does not run.
        memory_bytes: the resident memory; 0 if it does not run.
        uptime_seconds: the time since its start; 0 if it does not run.
        log: the file of its log.
    """

    name: str
    running: bool
    ready: bool
    address: str
    pid: int | None
    memory_bytes: int
    uptime_seconds: float
    log: Path


@dataclass(frozen=True)
class StackStatus:
    """The state of the stack in a directory.

    Attributes:
        directory: the directory.
        detached: whether it belongs to no process, so that it runs until ``down``.
        secured: whether Kafka asks its clients who they are.
        components: the state of each server; empty if none was ever started.
    """

    directory: Path
    detached: bool
    secured: bool
    components: tuple[ComponentStatus, ...]

    @property
    def running(self) -> bool:
        """Whether any server runs."""
        return any(component.running for component in self.components)

    @property
    def ready(self) -> bool:
        """Whether there are servers and all of them answer."""
        return bool(self.components) and all(component.ready for component in self.components)


class LocalStack:
    """One Kafka node and one Triton server that keep their data and logs in a directory.

    As a context manager the stack belongs to this process: it ends with the block, and also if the
    process is killed. With ``up`` it is detached and runs until ``down``, which any process can
    call. Data survive ``down``. The next start uses the same ports again if they are free.

    Args:
        directory: the directory in which everything is kept, .mmbroker/stack by default; it has one
            stack.
        triton: whether to run Triton beside Kafka.
        model_repository: Triton's models; by default an empty directory in the stack's own.
        ports: the ports to use; 0 leaves the choice to the stack.
        quiet: whether to print nothing about progress on standard error.
        secured: whether Kafka encrypts, asks clients who they are, and allows each user only what
            its rights say. Missing certificates and passwords are made and kept in the directory.
            None keeps what the directory had before; a new stack is open.
        alert_topics: the beginning of the names of the topics that the user ``reader`` of a secured
            stack may read.
    """

    def __init__(
        self,
        directory: Path | None = None,
        triton: bool = True,
        model_repository: Path | None = None,
        ports: Ports = Ports(),  # noqa: B008 - immutable
        quiet: bool = False,
        secured: bool | None = None,
        alert_topics: str = "mm.alerts.",
    ) -> None:
        self.directory = (directory or DEFAULT_DIRECTORY).resolve()
        self._with_triton = triton
        self._model_repository = model_repository.resolve() if model_repository else None
        self._wanted_ports = ports
        self._secured = secured
        self._access = Access(self.directory / "access", alert_topics)
        console = Console(stderr=True, highlight=False, markup=False, quiet=quiet)
        self._say = partial(console.print, soft_wrap=True)
        self._state_file = self.directory / "stack.json"
        self._state = State()
        self._accounting = threading.Lock()
        self._components: dict[str, Component] = {}

    @classmethod
    def attach(cls, directory: Path | None = None, quiet: bool = False) -> Self:
        """Find the stack that runs in a directory.

        Args:
            directory: as for the class.
            quiet: as for the class.

        Raises:
            StackError: no stack runs there.
        """
        stack = cls(directory, quiet=quiet)
        if not stack._load():
            raise StackError(
                f"no stack runs in {stack.directory}; start one with: mmbroker stack up"
            )
        return stack

    @property
    def kafka(self) -> Kafka:
        """The Kafka server.

        Raises:
            StackError: the stack has not been started.
        """
        component = self._component("kafka")
        assert isinstance(component, Kafka)
        return component

    @property
    def triton(self) -> Triton:
        """The Triton server.

        Raises:
            StackError: the stack has not been started, or it has no Triton.
        """
        component = self._component("triton")
        assert isinstance(component, Triton)
        return component

    @property
    def bootstrap_servers(self) -> str:
        """Kafka's address, host:port."""
        return self.kafka.address

    @property
    def triton_url(self) -> str:
        """Triton's address for gRPC, ``unix:PATH``."""
        return self.triton.address

    @property
    def triton_metrics_url(self) -> str:
        """The URL of Triton's metrics."""
        return self.triton.metrics_url

    @property
    def access(self) -> Access | None:
        """The certificates and passwords of a secured stack; None for an open one."""
        return self.kafka.access

    def environment(self, user: str | None = None) -> dict[str, str]:
        """Return the variables that point the broker's processes to this stack.

        Args:
            user: the user of Kafka that the processes log in as, if the stack is secured;
                ``mmbroker`` by default.

        Raises:
            StackError: the stack has not been started, or there is no such user; an open stack has
                no users.
        """
        variables = {"MMBROKER_KAFKA__BOOTSTRAP_SERVERS": self.bootstrap_servers}
        if self.access:
            variables |= self.access.environment(user or BROKER)
        elif user is not None:
            raise StackError(
                f"this stack is open, it has no users such as {user!r}: mmbroker stack up --secured"
            )
        if "triton" in self._components and user != READER:  # who reads alerts asks no model
            variables["MMBROKER_TRITON__URL"] = self.triton_url
            repository = str(self.triton.model_repository)
            variables["MMBROKER_TRITON__MODEL_REPOSITORY"] = repository
        return variables

    def up(self, broken: Collection[str] = ()) -> Self:
        """Start the servers, detached from this process, and wait until they are ready.

        Kafka and Triton are installed first if they are not yet. If a detached stack runs in the
        directory already, its servers that have ended, or do not answer within 10 s, are started
        again; the others are left alone.

        Args:
            broken: names of servers that run and are to be started again although they answer.

        Raises:
            StackError: all servers of a stack work in the directory already; the stack that runs
                there belongs to another process or is not secured as asked; something is missing
                on this machine; or a server does not become ready.
        """
        return self._up(None, broken)

    def __enter__(self) -> Self:
        return self._up(ProcessRecord.of(os.getpid()))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.down()

    def down(self) -> bool:
        """Stop the servers, and return whether any ran; their data stay.

        Raises:
            StackError: the directory cannot be written to.
        """
        if not self.directory.exists():
            return False
        with self._locked():
            ran = self._load()
            self._end()
        return ran

    def status(self) -> StackStatus:
        """Look at every server, and ask those that run whether they are ready."""
        self._load()
        components = tuple(map(_status, self._components.values()))
        detached = self._state.owner is None
        return StackStatus(self.directory, detached, self._state.secured, components)

    def logs(self, component: str, lines: int = 100) -> str:
        """Return the last lines of a server's log, ``kafka`` or ``triton``.

        Raises:
            StackError: the stack has no such server.
        """
        self._load()
        return self._component(component).tail(lines)

    def _up(self, owner: ProcessRecord | None, broken: Collection[str] = ()) -> Self:
        install_kafka(self._say)
        if self._with_triton:
            install_triton(self._say)
        with self._locked():
            before = State.read(self._state_file)
            if owner is None and self._completed(before, broken):
                return self
            self._make_way(before)
            self._state = State(
                owner=owner,
                ports=_choose_ports(self._wanted_ports, before.ports),
                model_repository=self._model_repository,
                secured=before.secured if self._secured is None else self._secured,
            )
            self._components = self._make_components(self._with_triton)
            self._say_what_moved(before.ports)
            began = time.monotonic()
            try:
                if owner:
                    self._state.watchdog = self._start_watchdog(owner)
                self._write()
                self._start(self._components.values())
                if self._state.watchdog and not self._state.watchdog.alive:
                    raise StackError(f"the watchdog ended; see {self.directory}/watchdog.log")
            except BaseException:
                self._end()
                raise
        self._say(f"{self.directory} is up after {time.monotonic() - began:.1f} s")
        return self

    def _start(self, components: Iterable[Component]) -> None:
        # All at the same time: most of it is waiting for separate programs.
        with ThreadPoolExecutor() as pool:
            starts = [pool.submit(one.start) for one in components]
        for start in starts:
            start.result()
        self.kafka.grant()

    def _completed(self, before: State, broken: Collection[str]) -> bool:
        """Start what does not work of a detached stack again, and return whether that was anything.

        Raises:
            StackError: a server does not become ready; the others keep running.
        """
        as_asked = self._secured in (None, before.secured)
        if before.owner is not None or not as_asked or not self._load():
            return False
        ended = [one for one in self._components.values() if not one.running]
        stuck = [
            one
            for one in self._components.values()
            if one.running and (one.name in broken or not one.answers(_PATIENCE))
        ]
        for said, which in (("has ended", ended), ("does not work", stuck)):
            if which:
                names = ", ".join(one.name for one in which)
                self._say(f"starting again what {said}: {names}")
        for one in stuck:
            one.stop()
        if ended or stuck:
            self._start([*ended, *stuck])
        return bool(ended or stuck)

    def _say_what_moved(self, before: Ports) -> None:
        """Tell the user which servers have another address than before in the directory."""
        for name, component in self._components.items():
            had, has = getattr(before, name, 0), getattr(self._state.ports, name, 0)
            if had not in (0, has) and not getattr(self._wanted_ports, name):
                self._say(
                    f"something else uses port {had}, where {name} was: {name} is at "
                    f"{component.address} from now on"
                )

    def _make_way(self, before: State) -> None:
        """End the processes that an earlier stack in the directory left behind.

        Raises:
            StackError: that stack is in use, or the disk has too little room for another.
        """
        orphaned = before.owner is not None and not before.owner.alive
        running = [name for name, record in before.servers.items() if record and record.alive]
        if running and not orphaned:
            raise StackError(
                f"a stack runs in {self.directory} already ({', '.join(running)});"
                " stop it with: mmbroker stack down"
            )
        # This also finds processes that were started and never noted.
        if ended := processes.kill_marked(self.directory):
            self._say(f"ended {ended} processes that an earlier stack had left behind")
        free = psutil.disk_usage(str(self.directory)).free
        if free < _NEEDED_BYTES:
            raise StackError(
                f"{self.directory} has {free / 1e6:.0f} MB free and the stack needs"
                f" {_NEEDED_BYTES / 1e6:.0f} MB; make room or choose another directory"
            )

    def _end(self) -> None:
        if self._state.watchdog:
            processes.kill(self._state.watchdog)
            self._state.watchdog = None
        with ThreadPoolExecutor() as pool:
            list(pool.map(Component.stop, self._components.values()))
        processes.kill_marked(self.directory)
        self._write()

    def _load(self) -> bool:
        """Read the state in the directory, and return whether any of its servers runs."""
        with self._accounting:
            self._read()
        return any(component.running for component in self._components.values())

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """Record a server in the state while it is being started."""
        with self._accounting:
            self._read()  # another process may have restarted another server
            yield
            self._write()

    def _read(self) -> None:
        state = State.read(self._state_file)
        if not state.servers:
            return
        known = (self._state.ports, self._state.secured, set(self._components)) == (
            state.ports,
            state.secured,
            set(state.servers),
        )
        self._state = state
        if not known:
            self._model_repository = state.model_repository
            self._components = self._make_components("triton" in state.servers)
        for name, component in self._components.items():
            component.record = state.servers[name]

    def _write(self) -> None:
        self._state.servers = {name: one.record for name, one in self._components.items()}
        try:
            self._state.write(self._state_file)
        except OSError as error:
            raise StackError(f"cannot write {self._state_file}: {error}") from error

    def _component(self, name: str) -> Component:
        if name not in self._components:
            known = " and ".join(self._components) or "nothing, it has not been started"
            raise StackError(f"the stack in {self.directory} has no {name}; it has {known}")
        return self._components[name]

    def _make_components(self, with_triton: bool) -> dict[str, Component]:
        ports = self._state.ports
        components: list[Component] = [
            Kafka(
                self.directory,
                ports.kafka,
                ports.kafka_controller,
                self._changing,
                self._access if self._state.secured else None,
                ports.kafka_certificates,
            )
        ]
        if with_triton:
            components.append(
                Triton(
                    self.directory,
                    ports.triton_metrics,
                    self._model_repository,
                    self._changing,
                )
            )
        return {component.name: component for component in components}

    def _start_watchdog(self, owner: ProcessRecord) -> ProcessRecord:
        source = Path(__file__).parents[3]  # so that it can be imported where it is not installed
        return processes.spawn(
            [
                sys.executable,
                "-m",
                "mmbroker.deploy.local.watchdog",
                str(owner.pid),
                self.directory,
            ],
            self.directory,
            self.directory / "watchdog.log",
            {**os.environ, "PYTHONPATH": str(source)},
        )

    def _locked(self) -> filelock.BaseFileLock:
        """A lock that keeps other processes from starting or ending the stack in this directory."""
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StackError(f"cannot keep a stack in {self.directory}: {error}") from error
        return filelock.FileLock(self.directory / "lock")


def _choose_ports(wanted: Ports, before: Ports) -> Ports:
    """Choose each port: the one asked for, else the one used before if it is free, else any."""
    asked, had = asdict(wanted), asdict(before)
    spare = processes.free_ports(len(asked))
    return Ports(
        **{
            name: asked[name] or (port if port and processes.is_free(port) else free)
            for (name, port), free in zip(had.items(), spare, strict=True)
        }
    )


def _status(component: Component) -> ComponentStatus:
    process = component.record.process() if component.record else None
    memory, uptime = 0, 0.0
    if process and component.record:
        memory = process.memory_info().rss
        uptime = time.time() - component.record.started
    return ComponentStatus(
        name=component.name,
        running=process is not None,
        ready=process is not None and component.is_ready(),
        address=component.address,
        pid=process.pid if process else None,
        memory_bytes=memory,
        uptime_seconds=uptime,
        log=component.log,
    )
