"""Galaxy state, the archive of observations, and what the stages have counted.

Everything is reached through transactions: a ``Reading`` sees one moment, a ``Writing`` happens
wholly or not at all and is durable when it is done. Several processes may hold the same store.
"""

from .interface import (
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
from .lmdb import FILE, REMEDY, LMDBStore, damage, exclusive

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
]
