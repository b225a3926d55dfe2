"""The store: the state of the broker that is kept on disk.

It has the fingerprints and positions of galaxies, the archive of observations, rankings, last
alerts, the versions of models in force, what the stages have counted, and of which topics. It is
used only in transactions. A ``Reading`` sees the store as it is at one moment. A ``Writing``
happens wholly or not at all, and is durable when it ends. Several processes may have the same store
open.
"""

from contextlib import suppress
from pathlib import Path

from lmdb import NotFoundError

from mmbroker.streams.settings import Settings
from mmbroker.streams.store.interface import (
    FIRST_VERSION,
    Archived,
    KnownTopic,
    Reading,
    Status,
    Store,
    StoreBrokenError,
    StoreDamagedError,
    StoreError,
    Writing,
)
from mmbroker.streams.store.lmdb import FILE, REMEDY, LMDBStore, damage, exclusive

__all__ = [
    "FILE",
    "FIRST_VERSION",
    "REMEDY",
    "Archived",
    "KnownTopic",
    "LMDBStore",
    "Reading",
    "Status",
    "Store",
    "StoreBrokenError",
    "StoreDamagedError",
    "StoreError",
    "Writing",
    "damage",
    "exclusive",
    "open_store",
    "open_store_in",
    "read_store",
    "store_exists",
]


def open_store(settings: Settings) -> Store:
    """Open the store that the settings name; make it if it is missing.

    Raises:
        StoreDamagedError: the store is not whole, or has another layout.
        StoreError: the store cannot be used.
    """
    return open_store_in(settings.store_directory)


def open_store_in(directory: Path) -> Store:
    """Open the store in a directory; make it if it is missing.

    Raises:
        StoreDamagedError: the store is not whole, or has another layout.
        StoreError: the store cannot be used.
    """
    return LMDBStore(directory)


def store_exists(settings: Settings) -> bool:
    """Whether there is a store where the settings say; ``open_store`` would make it."""
    return (settings.store_directory / FILE).is_file()


def read_store(settings: Settings) -> Store:
    """Open the store that the settings name to read it, also while others write.

    If there is none yet, it is made.

    Raises:
        StoreDamagedError: the store is not whole, or has another layout.
        StoreError: the store cannot be used.
    """
    if store_exists(settings):
        with suppress(NotFoundError):  # it is only being made, or another version made it
            return LMDBStore(settings.store_directory, readonly=True)
    return open_store(settings)
