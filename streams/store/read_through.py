"""Reads every page of a store, to find damage.

Run it as ``python -m mmbroker.streams.store.read_through DIRECTORY``. It is a process of its own
because reading a file that was cut short kills the process. The store may be in use.
"""

from __future__ import annotations

import sys
from pathlib import Path

import lmdb

from mmbroker.streams.store.interface import StoreError
from mmbroker.streams.store.lmdb import TABLES, open_environment


def read_through(directory: Path) -> None:
    """Read every page of a store that holds data.

    Raises:
        lmdb.Error, StoreError: a page cannot be read.
    """
    environment = open_environment(directory, readonly=True, create=False)
    with environment.begin() as transaction:
        for name in TABLES:
            try:
                table = environment.open_db(name.encode(), transaction, create=False)
            except lmdb.NotFoundError:
                continue  # the table was never written
            for _ in transaction.cursor(table):  # copies, and so reads, every value
                pass


if __name__ == "__main__":
    try:
        read_through(Path(sys.argv[1]))
    except (lmdb.Error, StoreError) as error:
        sys.exit(str(error))
