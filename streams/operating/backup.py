"""Makes a consistent copy of the store while the stages run.

This has to run in another process than a stage: a process may open a store only once.
"""

from __future__ import annotations

import os
import shutil
import threading
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeElapsedColumn

from mmbroker.streams.settings import Settings, SettingsError
from mmbroker.streams.store import (
    Store,
    StoreError,
    damage,
    open_store_in,
    read_store,
    store_exists,
)
from mmbroker.streams.terminal import Terminal

POLL_S = 0.1


@dataclass(frozen=True)
class Backup:
    """A backup that was made.

    Attributes:
        directory: where it is.
        galaxies: how many galaxies are in it.
        observations: how many observations its archive holds.
        size_bytes: its size.
    """

    directory: Path
    galaxies: int
    observations: int
    size_bytes: int

    @property
    def text(self) -> str:
        """What the backup holds, and how to restore it."""
        return (
            f"{self.directory}: {self.galaxies:,} galaxies, {self.observations:,} observations, "
            f"{self.size_bytes / 1e6:,.1f} MB, all of it readable\n"
            "To restore it, stop the stages and run: "
            f"mmbroker rebuild --replace --backup {self.directory}"
        )


def back_up(settings: Settings, target: Path, progress: bool = True) -> Backup:
    """Copy the store as it is now, without unused space, and check that the copy can be read.

    The directory gets its name only when the copy is whole.

    Args:
        settings: name the store.
        target: the directory to make.
        progress: show a progress bar on standard error.

    Raises:
        SettingsError: the target exists, its parent directory does not, or there is no store.
        StoreError: the store cannot be read, or the copy cannot be written.
    """
    if target.exists():
        raise SettingsError(f"{target} exists: a backup overwrites nothing, name a new directory")
    if not target.absolute().parent.is_dir():
        raise SettingsError(f"{target}: there is no directory {target.absolute().parent}")
    if not store_exists(settings):
        raise SettingsError(f"there is no store in {settings.store_directory}")
    store = read_store(settings)
    part = target.with_name(f"{target.name}.part{os.getpid()}")
    try:
        part.mkdir()
        _copy(store, part, progress)
        for path in (*part.iterdir(), part):
            _make_durable(path)
        found = damage(part)
        if found is not None:
            raise StoreError(f"the copy in {part} cannot be read: {found}; is the disk sound?")
        part.rename(target)
        _make_durable(target.parent)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    finally:
        store.close()
    return _described(target)


def _copy(store: Store, target: Path, progress: bool) -> None:
    """Copy the store and show the progress, as a share of the store's size."""
    failures: list[BaseException] = []

    def copy() -> None:
        try:
            store.copy(target)
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=copy, name="copy")
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeElapsedColumn())
    console = Terminal(stderr=True)
    with Progress(*columns, console=console, disable=not progress) as bar:
        task = bar.add_task("backup", total=store.size_bytes())
        thread.start()
        try:
            while thread.is_alive():
                thread.join(POLL_S)
                bar.update(task, completed=_size(target))
        finally:
            thread.join()  # the store must stay open while it is copied
        bar.update(task, total=_size(target), completed=_size(target))
    for failure in failures:
        raise failure


def _described(directory: Path) -> Backup:
    with closing(open_store_in(directory)) as copy, copy.reading() as reading:
        observations = sum(1 for _ in reading.observations())
        return Backup(directory, reading.galaxies(), observations, copy.size_bytes())


def _size(directory: Path) -> int:
    return sum(file.stat().st_size for file in directory.iterdir())


def _make_durable(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
