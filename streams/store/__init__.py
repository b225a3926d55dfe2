"""Galaxy state, the archive of observations, and what the stages have counted.

Everything is reached through transactions: a ``Reading`` sees one moment, a ``Writing`` happens
wholly or not at all and is durable when it is done. Several processes may hold the same store.
"""

from mmbroker.streams.settings import Settings
from mmbroker.streams.store.interface import (
    FIRST_VERSION,
    Archived,
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
]


def open_store(settings: Settings) -> Store:
    """The store that the settings name; made when it is missing.

    Raises:
        StoreDamagedError: what is there is not a whole store, or one of another layout.
        StoreError: it cannot be used.
    """
    return LMDBStore(settings.store_directory)
