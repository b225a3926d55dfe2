"""Says who writes a store, because LMDB's lock does not."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

log = logging.getLogger(__name__)

FILE = "writer.pid"
TOLD_AFTER_S = 1.0
"""Who waits for another writer longer says so."""

_NOBODY = 0
_SHOWN = 80
"""Characters of a command that are shown."""


class Writer:
    """The process that writes a store: its id stands in a file of the store's directory.

    Args:
        directory: the directory.

    Raises:
        OSError: the file cannot be opened.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        descriptor = os.open(directory / FILE, os.O_RDWR | os.O_CREAT, 0o644)
        self._file = os.fdopen(descriptor, "r+b", buffering=0)

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Name this process as the one that writes, during the block."""
        self._name(os.getpid())
        try:
            yield
        finally:
            self._name(_NOBODY)

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Say who writes if the block, which waits for the lock, takes long."""
        timer = threading.Timer(TOLD_AFTER_S, self._tell)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def holder(self) -> str:
        """The process that writes, in words; a process that was killed is not named."""
        with suppress(ValueError, psutil.Error):
            number = int(os.pread(self._file.fileno(), 32, 0))
            process = psutil.Process(number) if number != _NOBODY else None
            if process is not None:
                command = " ".join(" ".join(process.cmdline()[-4:]).split())[:_SHOWN]
                state = ", which is stopped" if process.status() == psutil.STATUS_STOPPED else ""
                return f"process {number} ({command}){state}"
        return "a process that does not give its name"

    def close(self) -> None:
        """Release the file."""
        self._file.close()

    def _tell(self) -> None:
        log.warning(
            "the store in %s is being written by %s: waiting until it is done",
            self._directory,
            self.holder(),
        )

    def _name(self, number: int) -> None:
        with suppress(OSError):  # a full disk: then nobody is named
            os.pwrite(self._file.fileno(), f"{number:<31}\n".encode(), 0)
