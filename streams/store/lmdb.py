"""Keeps the store in LMDB, a key-value database in a file, with transactions.

Any number of processes may read, and one at a time writes. After a crash, the store is as the last
whole transaction left it.

LMDB maps its file into memory. If the file was cut short, reading the missing part kills the
process. So the size of the file is checked when it is opened, and a file that may be damaged is
read by a process of its own, ``store.read_through``.
"""

from __future__ import annotations

import errno
import fcntl
import heapq
import json
import os
import resource
import shutil
import signal
import struct
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import asdict
from itertools import islice, takewhile
from pathlib import Path
from typing import Any

import lmdb
import numpy as np

from mmbroker.processors.alerts.decide import LastAlert
from mmbroker.processors.scoring import ranking
from mmbroker.processors.sky import (
    MOST_NEIGHBOURS,
    IndexKey,
    Neighbour,
    Position,
    Strip,
    index_key,
    strips_to_search,
)
from mmbroker.schemas.events import Source
from mmbroker.schemas.records import to_record
from mmbroker.streams.store.interface import (
    FIRST_VERSION,
    Archived,
    KnownTopic,
    StoreBrokenError,
    StoreDamagedError,
    StoreError,
    Writing,
)
from mmbroker.streams.store.writer import Writer

MAP_BYTES = 2**40
"""Address space that is reserved; the file is only as large as its content."""

LEAST_MAP_BYTES = 2**28
"""A process that cannot reserve even this much cannot open the store."""

FILE = "data.mdb"
REMEDY = "stop the stages and run: mmbroker rebuild (with --backup DIRECTORY if there is a backup)"

LAYOUT = 3
"""Number of the layout of the tables; it changes when they hold something else. A store of another
layout has to be made again from Kafka, except for the layouts in ``FORMER``."""

FORMER: dict[int, tuple[str, ...]] = {1: ("places", "history"), 2: ()}
"""Former layouts that can be read as this one, each with the tables that only it had. The first
write to such a store deletes these tables and sets the present layout. Before layout 3, a galaxy
that had left a ranking had no entry in ``ranked``."""

TABLES = (
    "layout",  # nothing -> layout
    "fingerprints",  # galaxy id -> version, encoded fingerprint
    "positions",  # level, zone, right ascension, galaxy id -> position with its error
    "observations",  # observation hash -> archived observation
    "offsets",  # stage, topic, partition -> next offset
    "counts",  # stage, outcome -> number
    "alerts",  # stream, galaxy id -> last alert
    "rankings",  # name -> histogram
    "ranked",  # name, galaxy id -> version, bin or _NO_BIN
    "models",  # name -> version in force
    "topics",  # topic -> what it is in Kafka
    "stores",  # store id -> b"own", or b"replaced"
)
LATER = ("topics", "stores")
"""Tables that a store of this layout may lack; whoever opens it to write makes them."""

_NUMBER = struct.Struct(">Q")
_POSITION = struct.Struct(">ddd")
_INDEX_KEY = struct.Struct(">BId")  # sorts like the numbers: no right ascension is negative
_VERSION_AND_BIN = struct.Struct(">QI")
_NO_BIN = 2**32 - 1
_SEPARATOR = b"\x00"
_LAYOUT_KEY = b"layout"
_OWN = b"own"
_REPLACED = b"replaced"

_DAMAGED = (
    lmdb.BadTxnError,
    lmdb.CorruptedError,
    lmdb.InvalidError,
    lmdb.PageNotFoundError,
    lmdb.VersionMismatchError,
)
"""Errors that mean that the content of the file is wrong."""

_UNWRITABLE = tuple(map(os.strerror, (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)))
"""Texts of errors that mean that the disk takes no more. LMDB says EIO also when a full disk took
only a part of what it wrote."""


class LMDBStore:
    """A store in a directory; see ``store.interface.Store``.

    Args:
        directory: the directory; it is made if it is missing.
        readonly: only read a store that exists. Then it is opened even while another process holds
            the lock of writers, which LMDB otherwise needs to open tables.

    Raises:
        StoreDamagedError: the store is not whole, or has another layout.
        StoreError: the directory cannot be used, or the store is being rebuilt.
        lmdb.NotFoundError: a store to be read has not got all its tables yet.
    """

    def __init__(self, directory: Path, readonly: bool = False) -> None:
        self._directory = directory
        try:
            directory.mkdir(parents=True, exist_ok=True)
            self._writer = Writer(directory)
        except OSError as error:
            raise StoreError(f"the store in {directory} cannot be opened: {error}") from error
        self._lock: int | None = None
        try:
            self._lock = _locked(directory, fcntl.LOCK_SH)
            self._environment = open_environment(directory, readonly=readonly)
            _require_whole(self._environment, directory)
            with _explained(directory):
                self._environment.reader_check()  # remove readers that were killed
                self._tables = self._open_tables(readonly)
            self._file = self._identity()
            self._former = self._require_layout()
        except (StoreError, lmdb.NotFoundError):
            self._release()
            raise

    def _open_tables(self, readonly: bool) -> dict[str, Any]:
        if readonly:
            return dict(self._existing_tables())
        with self._writer.waiting():  # open_db alone would stop all threads while it waits
            transaction = self._environment.begin(write=True)
        with transaction:
            return {name: self._environment.open_db(name.encode(), transaction) for name in TABLES}

    def _existing_tables(self) -> Iterator[tuple[str, Any]]:
        for name in TABLES:
            try:
                yield name, self._environment.open_db(name.encode(), create=False)
            except lmdb.NotFoundError:
                if name not in LATER:
                    raise

    def _require_layout(self) -> int | None:
        """Make sure that the layout can be read; set it in a new store.

        Returns:
            The layout if it is a former one, otherwise None.

        Raises:
            StoreDamagedError: the layout cannot be read.
        """
        with self.reading() as reading:
            layout, is_new = reading.layout, not reading.galaxies()
        if layout is None and is_new:
            with self._transaction(write=True) as writing:
                writing.set_layout()
        elif layout in FORMER:
            return layout
        elif layout != LAYOUT:
            self._environment.close()
            raise StoreDamagedError(
                f"the store in {self._directory} has layout {layout or 0}, not {LAYOUT}: another "
                f"version of mmbroker made it; {REMEDY}"
            )
        return None

    @contextmanager
    def reading(self) -> Iterator[LMDBTransaction]:
        """See ``store.interface.Store``."""
        with self._transaction(write=False) as transaction:
            yield transaction

    @contextmanager
    def writing(self) -> Iterator[LMDBTransaction]:
        """See ``store.interface.Store``."""
        with self._transaction(write=True) as transaction:
            if self._former is not None:
                for name in FORMER[self._former]:
                    transaction.drop(self._environment, name)
                transaction.set_layout()
            yield transaction
        self._former = None

    def _identity(self) -> tuple[int, int] | None:
        """(device, inode) of the file that is in the directory now; None if there is none."""
        try:
            found = (self._directory / FILE).stat()
        except FileNotFoundError:
            return None
        return found.st_dev, found.st_ino

    def _require_in_place(self) -> None:
        """Refuse a file that was moved or deleted: what is written to it would be lost.

        Raises:
            StoreBrokenError: the file in the directory is not the one that was opened.
        """
        if self._identity() != self._file:
            raise StoreBrokenError(
                f"the store in {self._directory} was moved, deleted or replaced while in use: put "
                f"it back before anything starts on another one; if it is lost, {REMEDY}"
            )

    @contextmanager
    def _transaction(self, write: bool) -> Iterator[LMDBTransaction]:
        self._require_in_place()
        with ExitStack() as stack:
            map_bytes = int(self._environment.info()["map_size"])
            stack.enter_context(_explained(self._directory, map_bytes=map_bytes))
            with self._writer.waiting() if write else nullcontext():
                transaction = self._environment.begin(write=write)
            stack.enter_context(transaction)
            if write:
                stack.enter_context(self._writer.writing())
            yield LMDBTransaction(transaction, self._tables)

    def size_bytes(self) -> int:
        """See ``store.interface.Store``."""
        return int(self._environment.info()["last_pgno"]) * int(self._environment.stat()["psize"])

    def room_bytes(self) -> int:
        """See ``store.interface.Store``."""
        return int(self._environment.info()["map_size"]) - self.size_bytes()

    def copy(self, target: Path) -> None:
        """Write a compact copy of the store as it is now; the store may be in use.

        Args:
            target: an empty directory.

        Raises:
            StoreDamagedError: the store cannot be read.
            StoreError: the copy cannot be written.
        """
        try:
            self._environment.copy(str(target), compact=True)
        except lmdb.Error as error:
            if isinstance(error, _DAMAGED):
                raise _explanation(error, self._directory) from error
            raise StoreError(_unwritable(f"the copy in {target}", error, target)) from error

    def close(self) -> None:
        """See ``store.interface.Store``."""
        self._environment.close()
        self._release()

    def _release(self) -> None:
        self._writer.close()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


@contextmanager
def exclusive(directory: Path) -> Iterator[None]:
    """Keep all processes from opening the store in a directory during the block.

    Args:
        directory: the directory; it has to exist.

    Raises:
        StoreError: a process has the store open.
    """
    lock = _locked(directory, fcntl.LOCK_EX)
    try:
        yield
    finally:
        os.close(lock)


def damage(directory: Path) -> str | None:
    """Read a whole store, and say what is wrong with it; None if nothing is.

    Other processes may use the store meanwhile.
    """
    result = subprocess.run(
        [sys.executable, "-m", "mmbroker.streams.store.read_through", str(directory)],
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode == 0:
        return None
    if result.returncode < 0:
        return f"reading it through ends with {signal.Signals(-result.returncode).name}"
    return result.stderr.strip().rpartition("\n")[2]


def open_environment(directory: Path, **options: Any) -> Any:
    """Open LMDB's environment, with as much address space as the process may reserve.

    Address space costs nothing, but it may be limited for a process (``ulimit -v``).

    Args:
        directory: the directory of the store.
        options: further arguments of ``lmdb.open``.

    Raises:
        StoreError: it cannot be opened.
    """
    map_bytes = MAP_BYTES
    with _explained(directory, "cannot be opened"):
        while True:
            try:
                return lmdb.open(
                    str(directory),
                    map_size=map_bytes,
                    max_dbs=len(TABLES) + max(map(len, FORMER.values())),
                    max_readers=512,
                    **options,
                )
            except lmdb.MemoryError:
                if map_bytes <= LEAST_MAP_BYTES:
                    raise
                map_bytes //= 2


def _require_whole(environment: Any, directory: Path) -> None:
    """Refuse a file that was cut short.

    A file that is shorter than expected may still be whole: LMDB need not write pages at the end
    that were allocated and freed in one transaction. So a short file is read through.

    Raises:
        StoreDamagedError: the file was cut short.
    """
    page_bytes = int(environment.stat()["psize"])
    expected = (int(environment.info()["last_pgno"]) + 1) * page_bytes
    actual = (directory / FILE).stat().st_size
    if actual >= expected:
        return
    found = "within a page" if actual % page_bytes else damage(directory)
    if found is not None:
        environment.close()
        raise StoreDamagedError(
            f"the store in {directory} cannot be opened: {FILE} was cut short, from "
            f"{expected:,} to {actual:,} bytes ({found}); {REMEDY}"
        )


def _locked(directory: Path, kind: int) -> int:
    """Lock a directory; the lock stays with the directory when it is moved.

    Args:
        directory: the directory of a store.
        kind: ``LOCK_SH``, shared by all who have the store open, or ``LOCK_EX``, to be alone.

    Returns:
        The file descriptor that holds the lock.

    Raises:
        StoreError: another process has a lock that excludes this one.
    """
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        wanted = "is being rebuilt" if kind == fcntl.LOCK_SH else "is in use by another process"
        raise StoreError(f"the store in {directory} {wanted}") from None
    return descriptor


@contextmanager
def _explained(directory: Path, what: str = "failed", map_bytes: int = 0) -> Iterator[None]:
    """Turn an error of LMDB within the block into one that says what to do.

    Args:
        directory: the directory of the store.
        what: what went wrong, as a predicate.
        map_bytes: address space that was reserved for the store; 0 if none could be.

    Raises:
        StoreError: LMDB failed.
    """
    try:
        yield
    except lmdb.NotFoundError:
        raise  # a table is missing, which the caller mends
    except lmdb.BadValsizeError:
        raise  # a key is empty or too long: the event is wrong, not the store
    except lmdb.Error as error:
        raise _explanation(error, directory, what, map_bytes) from error


def _explanation(
    error: lmdb.Error, directory: Path, what: str = "failed", map_bytes: int = 0
) -> StoreError:
    if isinstance(error, _DAMAGED):
        return StoreDamagedError(
            f"the store in {directory} {what}: it is damaged: {error}; {REMEDY}"
        )
    if isinstance(error, lmdb.PanicError):
        return StoreBrokenError(
            f"the store in {directory} {what}: a write before this one failed half-way ({error}); "
            "it is whole again when the process is started again"
        )
    if isinstance(error, lmdb.MapFullError | lmdb.MapResizedError | lmdb.MemoryError):
        return StoreBrokenError(f"the store in {directory} {what}: {_no_room(error, map_bytes)}")
    if isinstance(error, lmdb.DiskError) or any(each in str(error) for each in _UNWRITABLE):
        return StoreError(_unwritable(f"the store in {directory}", error, directory))
    return StoreError(f"the store in {directory} {what}: {error}")


def _no_room(error: lmdb.Error, map_bytes: int) -> str:
    """Says what bounds the store: this program, a limit of the process, or the system."""
    if isinstance(error, lmdb.MapFullError) and map_bytes >= MAP_BYTES:
        return (
            f"it is as large as a store can be, {MAP_BYTES / 2**20:,.0f} MiB ({error}); what is in "
            "it is whole. Have other galaxies in another broker, or MAP_BYTES raised in the code"
        )
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit != resource.RLIM_INFINITY:
        return (
            f"this process may not set aside enough address space for it ({error}): its limit "
            f"(ulimit -v) is {limit // 1024:,} kB; raise it and start it again"
        )
    return (
        f"the system does not give this process enough address space ({error}), and no limit "
        "(ulimit -v) is set: see vm.overcommit_memory and the memory limit of the container"
    )


def _unwritable(subject: str, error: lmdb.Error, directory: Path) -> str:
    free = shutil.disk_usage(directory).free / 1e6
    return (
        f"{subject} cannot be written: {error}; the disk is full, over a quota or failing "
        f"({free:,.0f} MB are free): make room, nothing is lost"
    )


class LMDBTransaction(Writing):
    """One transaction; see ``store.interface`` for ``Reading`` and ``Writing``."""

    def __init__(self, transaction: Any, tables: Mapping[str, Any]) -> None:
        self._transaction = transaction
        self._tables = tables

    @property
    def layout(self) -> int | None:
        """The layout of the tables; None in a new store."""
        value = self._get("layout", _LAYOUT_KEY)
        return None if value is None else _number(value)

    def set_layout(self) -> None:
        """Record that the tables have the present layout."""
        self._put("layout", _LAYOUT_KEY, _NUMBER.pack(LAYOUT))

    def drop(self, environment: Any, table: str) -> None:
        """Delete a table of a former layout, if it exists."""
        with suppress(lmdb.NotFoundError):
            handle = environment.open_db(table.encode(), self._transaction, create=False)
            self._transaction.drop(handle)

    def fingerprint(self, galaxy_id: str) -> bytes | None:
        value = self._get("fingerprints", galaxy_id.encode())
        return None if value is None else value[_NUMBER.size :]

    def version(self, galaxy_id: str) -> int:
        return _number(self._get("fingerprints", galaxy_id.encode()))

    def galaxy_ids(self) -> Iterator[str]:
        with self._transaction.cursor(self._tables["fingerprints"]) as cursor:
            for key in cursor.iternext(values=False):
                yield key.decode()

    def galaxies(self) -> int:
        return int(self._transaction.stat(self._tables["fingerprints"])["entries"])

    def neighbours(self, position: Position) -> list[Neighbour]:
        strips, found = strips_to_search(position), []
        with self._transaction.cursor(self._tables["positions"]) as cursor:
            for strip in strips:
                last = _INDEX_KEY.pack(strip.level, strip.zone, strip.east_deg)
                if not cursor.set_range(_INDEX_KEY.pack(strip.level, strip.zone, strip.west_deg)):
                    continue
                for key, value in cursor:
                    if key[: _INDEX_KEY.size] > last:
                        break
                    found.append(_neighbour(key, value))
                    if len(found) > MOST_NEIGHBOURS:
                        return self._nearest(position, strips)
        return found

    def _nearest(self, position: Position, strips: Sequence[Strip]) -> list[Neighbour]:
        """The galaxies of a crowded field that are nearest in right ascension, as in the table."""
        centre = position.right_ascension_deg

        def distance_deg(entry: tuple[bytes, bytes]) -> float:
            apart = abs(_INDEX_KEY.unpack_from(entry[0])[2] - centre)
            return float(min(apart, 360.0 - apart))

        walks = []
        for strip in strips:
            start = centre
            if not strip.west_deg <= centre <= strip.east_deg:  # beyond 0 or 360 degrees
                start = strip.west_deg if strip.west_deg == 0.0 else strip.east_deg
            walks += [self._eastward(strip, start), self._westward(strip, start)]
        nearest = heapq.merge(*walks, key=distance_deg)
        return [_neighbour(*entry) for entry in sorted(islice(nearest, MOST_NEIGHBOURS))]

    def _eastward(self, strip: Strip, start_deg: float) -> Iterator[tuple[bytes, bytes]]:
        """The entries of a strip from a right ascension on, ascending."""
        last = _INDEX_KEY.pack(strip.level, strip.zone, strip.east_deg)
        with self._transaction.cursor(self._tables["positions"]) as cursor:
            if cursor.set_range(_INDEX_KEY.pack(strip.level, strip.zone, start_deg)):
                yield from takewhile(lambda entry: entry[0][: _INDEX_KEY.size] <= last, cursor)

    def _westward(self, strip: Strip, start_deg: float) -> Iterator[tuple[bytes, bytes]]:
        """The entries of a strip before a right ascension, descending."""
        first = _INDEX_KEY.pack(strip.level, strip.zone, strip.west_deg)
        with self._transaction.cursor(self._tables["positions"]) as cursor:
            start = _INDEX_KEY.pack(strip.level, strip.zone, start_deg)
            if cursor.prev() if cursor.set_range(start) else cursor.last():
                entries = cursor.iterprev()
                yield from takewhile(lambda entry: entry[0] >= first, entries)

    def archived(self, observation_hash: bytes) -> Archived | None:
        value = self._get("observations", observation_hash)
        return None if value is None else _archived(value)

    def observations(self) -> Iterator[tuple[bytes, Archived]]:
        with self._transaction.cursor(self._tables["observations"]) as cursor:
            for key, value in cursor:
                yield key, _archived(value)

    def next_offset(self, stage: str, topic: str, partition: int) -> int:
        return _number(self._get("offsets", _joined(stage, topic, str(partition))))

    def counts(self) -> dict[tuple[str, str], int]:
        found = {}
        with self._transaction.cursor(self._tables["counts"]) as cursor:
            for key, value in cursor:
                stage, outcome = key.decode().split("\x00")
                found[stage, outcome] = _number(value)
        return found

    def last_alert(self, stream: str, galaxy_id: str) -> LastAlert | None:
        value = self._get("alerts", _joined(stream, galaxy_id))
        return None if value is None else LastAlert(**json.loads(value))

    def last_alerts(self, stream: str) -> Iterator[tuple[str, LastAlert]]:
        prefix = _joined(stream, "")
        for key, value in self._with_prefix("alerts", prefix):
            yield key[len(prefix) :].decode(), LastAlert(**json.loads(value))

    def ranking(self, name: str) -> ranking.Histogram:
        value = self._get("rankings", name.encode())
        if value is None:
            return ranking.empty_histogram()
        return np.frombuffer(value, "<i8").astype(np.int64)

    def ranked(self, name: str, galaxy_id: str) -> tuple[int, int | None] | None:
        value = self._get("ranked", _joined(name, galaxy_id))
        if value is None:
            return None
        version, bin_index = _VERSION_AND_BIN.unpack(value)
        return version, None if bin_index == _NO_BIN else bin_index

    def model_version(self, model: str) -> int:
        return _number(self._get("models", model.encode())) or FIRST_VERSION

    def model_versions(self) -> dict[str, int]:
        with self._transaction.cursor(self._tables["models"]) as cursor:
            return {key.decode(): _number(value) for key, value in cursor}

    def known_topic(self, topic: str) -> KnownTopic | None:
        value = self._get("topics", topic.encode()) if "topics" in self._tables else None
        if value is None:
            return None
        record = json.loads(value)
        partitions = tuple((since, number) for since, number in record["partitions"])
        return KnownTopic(record["cluster_id"], record["topic_id"], partitions)

    def store_id(self) -> str:
        return next(iter(self._store_ids(_OWN)), "")

    def replaced_ids(self) -> frozenset[str]:
        return frozenset(self._store_ids(_REPLACED))

    def _store_ids(self, kind: bytes) -> list[str]:
        if "stores" not in self._tables:
            return []
        with self._transaction.cursor(self._tables["stores"]) as cursor:
            return [key.decode() for key, value in cursor if value == kind]

    def put_fingerprint(self, galaxy_id: str, version: int, encoded: bytes) -> None:
        self._put("fingerprints", galaxy_id.encode(), _NUMBER.pack(version) + encoded)

    def put_position(
        self, galaxy_id: str, position: Position | None, before: Position | None = None
    ) -> None:
        if before is not None:
            self._delete("positions", _key(index_key(before), galaxy_id))
        if position is not None:
            value = _POSITION.pack(
                position.right_ascension_deg, position.declination_deg, position.error_arcsec
            )
            self._put("positions", _key(index_key(position), galaxy_id), value)

    def archive(self, observation_hash: bytes, archived: Archived) -> None:
        header = json.dumps(
            {
                "status": archived.status,
                "galaxy_id": archived.galaxy_id,
                "source": to_record(archived.source),
                "candidates": archived.candidates,
            }
        ).encode()
        value = _NUMBER.pack(len(header)) + header + archived.data
        self._put("observations", observation_hash, value)

    def account(
        self,
        stage: str,
        next_offsets: Mapping[tuple[str, int], int],
        outcomes: Mapping[str, int],
    ) -> None:
        for (topic, partition), offset in next_offsets.items():
            key = _joined(stage, topic, str(partition))
            furthest = max(offset, _number(self._get("offsets", key)))
            self._put("offsets", key, _NUMBER.pack(furthest))
        for outcome, count in outcomes.items():
            key = _joined(stage, outcome)
            self._put("counts", key, _NUMBER.pack(count + _number(self._get("counts", key))))

    def put_alert(self, stream: str, galaxy_id: str, alert: LastAlert) -> None:
        before = self.last_alert(stream, galaxy_id)
        if before is not None and before.version > alert.version:
            return
        value = json.dumps(to_record(alert)).encode()
        self._put("alerts", _joined(stream, galaxy_id), value)

    def rank(self, name: str, places: Mapping[str, tuple[int, int | None]]) -> None:
        histogram = self.ranking(name)
        for galaxy_id, (version, bin_index) in places.items():
            before = self.ranked(name, galaxy_id)
            if before is not None and before[0] > version:
                continue
            ranking.move(histogram, None if before is None else before[1], bin_index)
            value = _VERSION_AND_BIN.pack(version, _NO_BIN if bin_index is None else bin_index)
            self._put("ranked", _joined(name, galaxy_id), value)
        self._put("rankings", name.encode(), histogram.astype("<i8").tobytes())

    def use_model(self, model: str, version: int) -> None:
        self._put("models", model.encode(), _NUMBER.pack(version))

    def know_topic(self, topic: str, known: KnownTopic) -> None:
        self._put("topics", topic.encode(), json.dumps(asdict(known)).encode())

    def identify(self, store_id: str, replaced: Iterable[str] = ()) -> None:
        for each in replaced:
            self._put("stores", each.encode(), _REPLACED)
        self._put("stores", store_id.encode(), _OWN)

    def _get(self, table: str, key: bytes) -> bytes | None:
        value: bytes | None = self._transaction.get(key, db=self._tables[table])
        return value

    def _put(self, table: str, key: bytes, value: bytes) -> None:
        self._transaction.put(key, value, db=self._tables[table])

    def _delete(self, table: str, key: bytes) -> None:
        self._transaction.delete(key, db=self._tables[table])

    def _with_prefix(self, table: str, prefix: bytes) -> list[tuple[bytes, bytes]]:
        with self._transaction.cursor(self._tables[table]) as cursor:
            if not cursor.set_range(prefix):
                return []
            return [*takewhile(lambda entry: entry[0].startswith(prefix), cursor)]


def _neighbour(key: bytes, value: bytes) -> Neighbour:
    return Neighbour(key[_INDEX_KEY.size :].decode(), Position(*_POSITION.unpack(value)))


def _archived(value: bytes) -> Archived:
    try:
        length = _NUMBER.unpack_from(value)[0] + _NUMBER.size
        header = json.loads(value[_NUMBER.size : length])
        header["source"] = Source(**header["source"])
        return Archived(**header, data=value[length:])
    except (ValueError, LookupError, TypeError, struct.error) as error:
        raise StoreDamagedError(
            f"the store's archive is damaged: an observation cannot be read ({error}); {REMEDY}"
        ) from error


def _joined(*parts: str) -> bytes:
    return _SEPARATOR.join(part.encode() for part in parts)


def _number(value: bytes | None) -> int:
    return 0 if value is None else int(_NUMBER.unpack_from(value)[0])


def _key(key: IndexKey, galaxy_id: str) -> bytes:
    return _INDEX_KEY.pack(key.level, key.zone, key.right_ascension_deg) + galaxy_id.encode()
