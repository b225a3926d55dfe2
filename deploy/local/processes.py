"""Starts server processes, finds them again and ends them, and finds free ports for them."""

import contextlib
import os
import random
import signal
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from mmbroker.deploy.local.errors import StackError

MARKER = "MMBROKER_STACK_DIRECTORY"
"""Environment variable with the stack's directory, in all processes of a stack and their children.

Through it, processes that a crash left behind are found even if nobody noted their pids.
"""

_HOST = "127.0.0.1"
_START_TOLERANCE = 2.0  # s; psutil derives start times from the boot time, which clock steps move


@dataclass(frozen=True)
class ProcessRecord:
    """A process, known by its pid and its start time.

    The start time tells the process from a later one with the same pid.

    Attributes:
        pid: the process id.
        started: the start time in seconds since the epoch.
    """

    pid: int
    started: float

    @classmethod
    def of(cls, pid: int) -> "ProcessRecord":
        """Record a process that is running now.

        Raises:
            psutil.NoSuchProcess: there is no such process.
        """
        return cls(pid, psutil.Process(pid).create_time())

    def process(self) -> psutil.Process | None:
        """Return the process if it still runs; None if it has ended or its pid is in use again."""
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.started) < _START_TOLERANCE
            # A zombie has ended, except while some of its threads still run: they hold its ports.
            ended = process.status() == psutil.STATUS_ZOMBIE and process.num_threads() <= 1
            return process if same and not ended else None
        except psutil.NoSuchProcess:
            return None

    @property
    def alive(self) -> bool:
        """Whether the process still runs."""
        return self.process() is not None


def spawn(
    command: Sequence[str | Path], directory: Path, log: Path, environment: Mapping[str, str]
) -> ProcessRecord:
    """Start a process in a session of its own, marked as one of a stack.

    It is started with posix_spawn, not with subprocess, because it is meant to outlive the object
    that subprocess would make for it.

    Args:
        command: the program's path and its arguments.
        directory: the stack's directory.
        log: the file that its output is appended to.
        environment: all of its environment variables but the mark.

    Raises:
        StackError: the program cannot be started.
    """
    arguments = [str(part) for part in command]
    try:
        pid = os.posix_spawn(
            arguments[0],
            arguments,
            {**environment, MARKER: str(directory)},
            setsid=True,
            # A supervisor may have blocked or ignored signals that a server needs to end.
            setsigmask=[],
            setsigdef=[signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE],
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644),
                (os.POSIX_SPAWN_DUP2, 1, 2),
            ],
        )
        return ProcessRecord.of(pid)
    except (OSError, psutil.NoSuchProcess) as error:
        raise StackError(f"cannot start {arguments[0]}: {error}") from error


def terminate(record: ProcessRecord, grace: float) -> None:
    """Ask a process to end; after ``grace`` seconds kill it. Nothing of its session is left."""
    if process := record.process():
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate()
        _has_ended(record, grace)
        _kill_session(record)


def kill(record: ProcessRecord) -> None:
    """Kill a process of ``spawn`` and everything in its session with SIGKILL, and wait."""
    if record.alive:
        _kill_session(record)


def _kill_session(record: ProcessRecord) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(record.pid, signal.SIGKILL)
    _has_ended(record, 10)


def kill_marked(directory: Path) -> int:
    """Kill all processes that a stack in ``directory`` left running, and return their number."""
    marked = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.pid != os.getpid() and process.environ().get(MARKER) == str(directory):
                marked.append(ProcessRecord.of(process.pid))
                process.kill()
    for record in marked:
        _has_ended(record, 10)
    return len(marked)


def _has_ended(record: ProcessRecord, timeout: float) -> bool:
    """Wait for a process to end, reap it if it is a child, and return whether it has ended."""
    deadline = time.monotonic() + timeout
    while record.alive:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    with contextlib.suppress(ChildProcessError):
        os.waitpid(record.pid, os.WNOHANG)
    return True


def free_ports(number: int) -> list[int]:
    """Find ports on the loopback interface that nobody uses.

    They are below the range from which the system takes the ports of outgoing connections.
    Otherwise the system could give a server's port to a client that reconnects while the server
    restarts.

    Raises:
        StackError: too few free ports were found.
    """
    ports: set[int] = set()
    for _ in range(1000):
        if len(ports) == number:
            return list(ports)
        port = random.randrange(15000, max(_first_ephemeral_port(), 16000))
        if is_free(port):
            ports.add(port)
    raise StackError("no free port was found on 127.0.0.1; end some of what listens there")


def _first_ephemeral_port() -> int:
    try:
        return int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return 32768


def is_free(port: int) -> bool:
    """Say whether a server could listen on a port of the loopback interface."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_HOST, port))
        except OSError:
            return False
        return True


def accepts(port: int) -> bool:
    """Say whether something listens on a port of the loopback interface."""
    try:
        with socket.create_connection((_HOST, port), timeout=1):
            return True
    except OSError:
        return False
