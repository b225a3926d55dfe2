"""Starts, watches and stops one server of a stack: the base class of the servers."""

import os
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import ClassVar

from mmbroker.deploy.local import processes
from mmbroker.deploy.local.errors import StackError
from mmbroker.deploy.local.processes import ProcessRecord

Changing = Callable[[], AbstractContextManager[None]]

_INHERITED = ("HOME", "LANG", "TMPDIR", "TZ", "USER")
_POLL = 0.05  # s
_RELEASED_WITHIN = 3.0  # s
_LINE_BYTES = 500  # more than most lines have


class Component(ABC):
    """One server of a stack, which can be stopped or killed, and started again on the same ports.

    Args:
        stack_directory: the stack's directory; the server has a directory of its own in it.
        changing: makes a context that is entered while the server's process changes, so that the
            stack can record the change.
    """

    name: ClassVar[str]
    start_timeout: ClassVar[float] = 90.0
    stop_timeout: ClassVar[float] = 10.0

    def __init__(self, stack_directory: Path, changing: Changing = nullcontext) -> None:
        self.stack_directory = stack_directory
        self.directory = stack_directory / self.name
        self.log = self.directory / "server.log"
        self.record: ProcessRecord | None = None
        self._changing = changing

    @property
    @abstractmethod
    def address(self) -> str:
        """The address at which clients reach the server, host:port."""

    @property
    @abstractmethod
    def ports(self) -> tuple[int, ...]:
        """Every port that the server listens on."""

    @abstractmethod
    def command(self) -> tuple[list[str | Path], dict[str, str]]:
        """Prepare the files that the server needs, and return its command line and variables.

        Raises:
            StackError: what the server runs from cannot be installed or prepared.
        """

    @abstractmethod
    def is_ready(self) -> bool:
        """Ask the server itself whether it can serve."""

    def clean(self) -> None:  # noqa: B027 - most leave nothing
        """Remove what a killed server leaves outside its directory; most servers leave nothing."""

    @property
    def pid(self) -> int | None:
        """The process id, if the server runs."""
        return self.record.pid if self.record and self.record.alive else None

    @property
    def running(self) -> bool:
        """Whether the server's process runs, ready or not."""
        return self.pid is not None

    def start(self) -> None:
        """Start the server and wait until it is ready; do nothing if it runs.

        Raises:
            StackError: the server cannot be started or does not become ready. If it was started,
                the message ends with the end of its log.
        """
        if self.running:
            return
        # A process that was killed can hold its ports for a moment after it counts as ended.
        deadline = time.monotonic() + (_RELEASED_WITHIN if self.record else 0.0)
        while taken := [port for port in self.ports if not processes.is_free(port)]:
            if time.monotonic() > deadline:
                raise StackError(
                    f"{self.name} cannot listen on port {taken[0]}: something else does;"
                    " end it or choose another port"
                )
            time.sleep(_POLL)
        self.clean()
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            command, variables = self.command()
        except OSError as error:
            raise StackError(f"{self.name} cannot use {self.directory}: {error}") from error
        inherited = {name: os.environ[name] for name in _INHERITED if name in os.environ}
        environment = {"PATH": os.defpath, **inherited, **variables}
        with self._changing():
            self.record = processes.spawn(command, self.stack_directory, self.log, environment)
        self._wait()

    def _wait(self) -> None:
        deadline = time.monotonic() + self.start_timeout
        while self.running:
            # Clients print errors about a port on which nothing listens yet.
            if all(map(processes.accepts, self.ports)) and self.is_ready():
                return
            if time.monotonic() > deadline:
                self.kill()
                raise StackError(
                    f"{self.name} was not ready after {self.start_timeout:.0f} s:\n"
                    + self.diagnosis()
                )
            time.sleep(_POLL)
        raise StackError(f"{self.name} ended while starting:\n{self.diagnosis()}")

    def answers(self, within: float) -> bool:
        """Whether the server is ready within ``within`` seconds; a busy one may need some."""
        deadline = time.monotonic() + within
        while not self.is_ready():
            if time.monotonic() > deadline:
                return False
            time.sleep(_POLL)
        return True

    def stop(self) -> None:
        """Ask the server to end, and kill it if it takes too long."""
        if self.record:
            processes.terminate(self.record, self.stop_timeout)
        self.clean()

    def kill(self) -> None:
        """Kill the server with SIGKILL, as a crash would."""
        if self.record:
            processes.kill(self.record)

    def tail(self, lines: int) -> str:
        """Return the last lines of the server's log."""
        if not self.log.exists():
            return ""
        with self.log.open("rb") as log:
            log.seek(max(0, self.log.stat().st_size - _LINE_BYTES * lines))
            text = log.read().decode(errors="replace")
        return "\n".join(text.splitlines()[-lines:])

    def diagnosis(self) -> str:
        """Return the part of the log's end that explains a failure."""
        return self.tail(20)
