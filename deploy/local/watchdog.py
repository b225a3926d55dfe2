"""Ends a stack when the process that it belongs to has ended, for whatever reason.

``python -m mmbroker.deploy.local.watchdog PID DIRECTORY`` waits for the process and then kills
every process of the stack in the directory. It would not be enough that servers ask the kernel to
end them with their parent: the kernel then ends them with the thread that started them, not with
the process.
"""

import contextlib
import os
import select
import sys
from pathlib import Path

import psutil

from mmbroker.deploy.local.processes import kill_marked


def watch(pid: int, directory: Path) -> None:
    """Wait until process ``pid`` is gone, then kill what is left of the stack in ``directory``."""
    with contextlib.suppress(ProcessLookupError, psutil.NoSuchProcess):
        if hasattr(os, "pidfd_open"):
            descriptor = os.pidfd_open(pid)
            select.select([descriptor], [], [])
        else:
            psutil.Process(pid).wait()
    kill_marked(directory)


if __name__ == "__main__":
    watch(int(sys.argv[1]), Path(sys.argv[2]))
