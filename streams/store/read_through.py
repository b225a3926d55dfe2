"""Reads every page of a store that is in use.

``python -m mmbroker.streams.store.read_through DIRECTORY``. Where the file has
been cut short, that kills the process, so it is one of its own.
"""

from __future__ import annotations

import sys
from pathlib import Path

import lmdb

from mmbroker.streams.store.interface import StoreError
from mmbroker.streams.store.lmdb import TABLES, open_environment


def read_through(directory: Path) -> None:
    """Read every page in use.

    Raises:
        lmdb.Error, StoreError: one cannot be read.
    """
    environment = open_environment(directory, readonly=True, create=False)
    with environment.begin() as transaction:
        for name in TABLES:
            try:
                table = environment.open_db(name.encode(), transaction, create=False)
            except lmdb.NotFoundError:
                continue  # nothing was written to it yet
            for _ in transaction.cursor(table):  # copies every value, also long ones
                pass


if __name__ == "__main__":
    try:
        read_through(Path(sys.argv[1]))
    except (lmdb.Error, StoreError) as error:
        sys.exit(str(error))
