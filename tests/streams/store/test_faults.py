"""A full disk, a damaged file, a limited address space: said clearly, and nothing is lost."""

from __future__ import annotations

import os
import random
import re
import resource
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import lmdb
import psutil
import pytest

from mmbroker.models.simulation.observations import simulate
from mmbroker.schemas.codec import Codec
from mmbroker.schemas.events import Observation
from mmbroker.streams.stages.build_fingerprints import BuildFingerprints
from mmbroker.streams.stages.messages import Received
from mmbroker.streams.store import (
    Archived,
    KnownTopic,
    LMDBStore,
    StoreBrokenError,
    StoreDamagedError,
    StoreError,
    damage,
    exclusive,
)
from mmbroker.streams.store.lmdb import LATER, LAYOUT
from mmbroker.streams.topics import Topics
from tests.conftest import Broker, wait_until

PAGE = 4096
DATA = "data.mdb"
OBSERVATIONS = 400


def fill(store: LMDBStore, count: int = OBSERVATIONS, start: int = 0) -> None:
    """Put observations in, a transaction each."""
    for number in range(start, start + count):
        content = random.Random(number).randbytes(3000 + number)
        with store.writing() as writing:
            writing.archive(number.to_bytes(16), Archived("merged", "g", data=content))
            writing.account("s", {("t", 0): number + 1}, {"merged": 1})


def read(store: LMDBStore) -> int:
    """The number of observations, all of which are read."""
    with store.reading() as reading:
        return sum(1 for _ in reading.observations())


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A store with something in it, which nobody has open."""
    store = LMDBStore(tmp_path / "store")
    fill(store)
    store.close()
    return tmp_path / "store"


# A store that is not where it was ----------------------------------------------------------------


def renamed(directory: Path) -> None:
    directory.rename(directory.with_name("elsewhere"))


def deleted(directory: Path) -> None:
    shutil.rmtree(directory)


def replaced(directory: Path) -> None:
    """Another store in its place, as when a backup is copied there."""
    shutil.copytree(directory, directory.with_name("copy"))
    renamed(directory)
    directory.with_name("copy").rename(directory)


@pytest.mark.parametrize("away", [renamed, deleted, replaced])
def test_nothing_is_written_to_a_store_that_others_do_not_find(
    directory: Path, away: Callable[[Path], None]
) -> None:
    store = LMDBStore(directory)
    away(directory)
    for use in (fill, read):
        with pytest.raises(StoreBrokenError, match="was moved, deleted or replaced while"):
            use(store)
    store.close()


def test_a_store_that_is_back_in_its_place_is_used_again(directory: Path) -> None:
    store = LMDBStore(directory)
    renamed(directory)
    directory.with_name("elsewhere").rename(directory)
    assert read(store) == OBSERVATIONS
    store.close()


# A full disk --------------------------------------------------------------------------------------


@pytest.fixture
def file_limit(directory: Path) -> Iterator[int]:
    """No file may grow beyond what the store has now: as a full disk, for an ordinary user."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    size = (directory / DATA).stat().st_size
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + PAGE // 2, hard))
    yield size
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_what_a_full_disk_does_not_take_leaves_no_trace(directory: Path, file_limit: int) -> None:
    store = LMDBStore(directory)
    with pytest.raises(StoreError, match="cannot be written") as told:
        fill(store, start=OBSERVATIONS)
    assert not isinstance(told.value, StoreBrokenError)
    assert str(directory) in str(told.value)
    assert "make room, nothing is lost" in str(told.value)
    assert re.search(r"[\d,]+ MB are free", str(told.value))
    with store.reading() as reading:
        counted = reading.next_offset("s", "t", 0)
        assert reading.counts() == {("s", "merged"): counted}
    assert read(store) == counted
    resource.setrlimit(resource.RLIMIT_FSIZE, resource.getrlimit(resource.RLIMIT_FSIZE)[1:] * 2)
    fill(store, 50, start=counted)  # the same store goes on as soon as there is room
    assert read(store) == counted + 50
    store.close()


def test_a_disk_that_is_really_full(tmp_path: Path) -> None:
    mounted = ["mount", "-t", "tmpfs", "-o", "size=2m", "mmbroker", str(tmp_path)]
    if os.geteuid() or subprocess.run(mounted, capture_output=True, check=False).returncode:
        pytest.skip("a small file system can be mounted by root only")
    try:
        store = LMDBStore(tmp_path / "store")
        with pytest.raises(StoreError, match=r"cannot be written: .*\(0 MB are free\): make room"):
            fill(store, 10_000)
        before = read(store)
        store.close()
        store = LMDBStore(tmp_path / "store")  # also a new process can read it
        assert read(store) == before > 0
        store.close()
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def build_process(broker: Broker) -> psutil.Process | None:
    """The process of the first stage."""
    children = psutil.Process(broker.process.pid).children(recursive=True)
    return next((each for each in children if "build-fingerprints" in each.cmdline()), None)


def log_of(broker: Broker) -> str:
    return (broker.settings.data_directory / "stages.log").read_text()


@pytest.mark.slow
def test_a_stage_on_a_full_disk_acknowledges_nothing_and_goes_on_when_there_is_room(
    make_broker: Callable[..., Broker],
) -> None:
    broker = make_broker(MMBROKER_STAGE__GIVE_UP_AFTER_S="3")
    observations = list(simulate(120, seed=71))
    broker.publish(observations[:50])
    process = build_process(broker)
    assert process is not None
    size = (broker.settings.store_directory / DATA).stat().st_size
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
    broker.publish(observations[50:], settle=False)
    wait_until(lambda: "waits 0.5 s: the store in" in log_of(broker), "it does not wait")
    process.wait(60)  # the supervisor starts it again, without the limit
    wait_until(lambda: "ended with status 1" in log_of(broker), "it does not stop with status 1")
    (line,) = [each for each in log_of(broker).splitlines() if "CRITICAL" in each]
    assert "build-fingerprints stops; nothing of its batch is acknowledged: the store in" in line
    assert "make room" in line
    assert "Traceback" not in log_of(broker)
    broker.settle(len(observations))
    assert broker.ledger()[0].outcomes == {"merged": len(observations)}


# A damaged file -----------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, PAGE, PAGE + 100, 2 * PAGE, 0.5, 0.999])
def test_a_file_that_was_cut_short_is_an_error_that_says_what_to_do(
    directory: Path, size: float
) -> None:
    file = directory / DATA
    os.truncate(file, int(size * file.stat().st_size) if size < 1 else int(size))
    with pytest.raises(StoreDamagedError, match="mmbroker rebuild") as told:
        LMDBStore(directory)
    assert str(directory) in str(told.value)
    with exclusive(directory):
        pass  # nothing keeps it locked


@pytest.mark.parametrize("pages", [(0,), (1,), (0, 1)])
def test_a_file_with_an_overwritten_beginning_is_an_error(
    directory: Path, pages: tuple[int, ...]
) -> None:
    with (directory / DATA).open("r+b") as file:
        for page in pages:
            file.seek(page * PAGE)
            file.write(random.Random(page).randbytes(PAGE))
    with pytest.raises(StoreDamagedError, match="cannot be opened: it is damaged"):
        LMDBStore(directory)


def test_overwritten_pages_are_found_by_reading_it_through(directory: Path) -> None:
    assert damage(directory) is None
    chance = random.Random(5)
    with (directory / DATA).open("r+b") as file:
        pages = file.seek(0, os.SEEK_END) // PAGE
        for page in range(2, pages):
            file.seek(page * PAGE)
            file.write(chance.randbytes(PAGE))
    found = damage(directory)
    assert found is not None
    assert "MDB_" in found or "SIG" in found


def test_a_whole_file_that_is_shorter_than_it_says_is_opened(directory: Path) -> None:
    """LMDB need not write a page that one transaction allocated and freed again."""
    file = directory / DATA
    content = bytearray(file.read_bytes())
    last = len(content) // PAGE - 1
    for page in (0, 1):  # as if one page more had been allocated: mm_last_pg of both metas
        place = page * PAGE + 16 + 24 + 2 * 48
        assert last - 9 < int.from_bytes(content[place : place + 8], "little") <= last
        content[place : place + 8] = (last + 1).to_bytes(8, "little")
    file.write_bytes(content)
    store = LMDBStore(directory)
    assert read(store) == OBSERVATIONS
    store.close()


def test_a_damaged_fingerprint_stops_the_stage_and_costs_no_observation(tmp_path: Path) -> None:
    codec = Codec()
    stage = BuildFingerprints(LMDBStore(tmp_path), Topics(), codec)
    observation: Observation = next(iter(simulate(1, seed=3)))
    event = Received(stage.topics.observations, 0, 0, 0, codec.encode(observation))
    (done,) = stage.process_safely([event])
    assert done.finish() == []
    with stage.store.writing() as writing:
        (galaxy,) = writing.galaxy_ids()
        encoded = writing.fingerprint(galaxy) or b""
        writing.put_fingerprint(galaxy, 1, encoded[:40] + bytes(len(encoded) - 40))
    with pytest.raises(StoreDamagedError, match=f"the fingerprint of {galaxy}"):
        list(stage.process_safely([event]))
    stage.store.close()


@pytest.mark.slow
def test_a_stage_on_a_damaged_store_stops_with_one_line(
    make_broker: Callable[..., Broker],
) -> None:
    broker = make_broker()
    broker.publish(simulate(5, seed=72))
    broker.process.terminate()
    broker.process.wait(60)
    file = broker.settings.store_directory / DATA
    os.truncate(file, file.stat().st_size // 2)
    stopped = broker.command("stage", "build-fingerprints", check=False)
    assert stopped.returncode == 1
    (line,) = stopped.stderr.splitlines()
    assert f"the store in {broker.settings.store_directory} cannot be opened" in line
    assert "was cut short" in line
    assert "mmbroker rebuild" in line
    assert "bad  store" in broker.command("check", check=False).stdout


# Address space ------------------------------------------------------------------------------------

LIMITED = """
    import resource
    import sys
    from pathlib import Path
    from mmbroker.streams.store import Archived, LMDBStore, StoreError

    store = LMDBStore(Path(sys.argv[1]))
    store.close()
    used = int(next(l for l in open("/proc/self/status") if l.startswith("VmSize")).split()[1])
    limit = used * 1024 + int(sys.argv[2])
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    store = LMDBStore(Path(sys.argv[1]))
    print("opened", flush=True)
    for number in range(int(sys.argv[3])):
        with store.writing() as writing:
            writing.archive(number.to_bytes(16), Archived("merged", "g", data=bytes(2**20)))
    print("written", flush=True)
    store.close()
"""


def limited(
    directory: Path, address_bytes: int, megabytes: int
) -> subprocess.CompletedProcess[str]:
    """Open a store and write, in a process that may use so much more address space."""
    command = [sys.executable, "-c", textwrap.dedent(LIMITED), str(directory)]
    return subprocess.run(
        [*command, str(address_bytes), str(megabytes)], capture_output=True, text=True, check=False
    )


def test_a_limited_address_space_holds_a_store_all_the_same(tmp_path: Path) -> None:
    result = limited(tmp_path / "store", 600 * 2**20, 50)
    assert result.stdout.split() == ["opened", "written"], result.stderr


def test_a_store_that_outgrows_the_address_space_says_so(tmp_path: Path) -> None:
    result = limited(tmp_path / "store", 400 * 2**20, 400)
    assert result.stdout.split() == ["opened"]
    assert "StoreBrokenError" in result.stderr
    assert re.search(r"its limit \(ulimit -v\) is [\d,]+ kB; raise it", result.stderr)
    store = LMDBStore(tmp_path / "store")  # without the limit it goes on
    assert 100 < read(store) < 400
    fill(store, 10, start=1000)
    store.close()


def test_a_store_that_is_as_large_as_this_program_allows_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mmbroker.streams.store.lmdb.MAP_BYTES", 2**20)
    store = LMDBStore(tmp_path / "store")
    with pytest.raises(StoreBrokenError, match=r"as large as a store can be, 1 MiB .*MDB_MAP_FULL"):
        fill(store)
    kept = read(store)
    store.close()
    assert 0 < kept < OBSERVATIONS
    monkeypatch.undo()
    store = LMDBStore(tmp_path / "store")  # where it may grow, it goes on
    assert read(store) == kept
    fill(store, 1, start=OBSERVATIONS)
    store.close()


def test_a_store_that_the_system_gives_no_room_blames_no_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mmbroker.streams.store.lmdb.MAP_BYTES", 2**20)
    store = LMDBStore(tmp_path / "store")
    monkeypatch.undo()  # as if more had been wanted than the system gave
    with pytest.raises(StoreBrokenError, match=r"the system does not give .* no limit .* is set"):
        fill(store)
    store.close()


def test_too_little_address_space_to_open_it_says_so(tmp_path: Path) -> None:
    result = limited(tmp_path / "store", 50 * 2**20, 1)
    assert result.stdout == ""
    assert "cannot be opened: this process may not set aside enough address space" in result.stderr


def test_a_store_of_another_layout_is_not_read(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mmbroker.streams.store.lmdb.LAYOUT", 4)
    with pytest.raises(StoreDamagedError, match=r"layout 3, not 4: .* mmbroker rebuild"):
        LMDBStore(directory)


def tables_of(directory: Path) -> set[bytes]:
    environment = lmdb.open(str(directory), max_dbs=20, readonly=True)
    with environment.begin() as transaction, transaction.cursor() as cursor:
        names = set(cursor.iternext(values=False))
    environment.close()
    return names


def test_a_store_of_the_first_layout_goes_on(directory: Path) -> None:
    environment = lmdb.open(str(directory), max_dbs=20)
    gone = {b"places", b"history"}
    for table, key in {b"layout": b"layout", **dict.fromkeys(gone, b"mm-0")}.items():
        with environment.begin(write=True) as transaction:
            transaction.put(key, (1).to_bytes(8, "big"), db=environment.open_db(table, transaction))
    environment.close()
    for _ in range(2):  # who only reads leaves it to the former version
        store = LMDBStore(directory)
        observations = read(store)
        store.close()
        assert tables_of(directory) >= gone
    store = LMDBStore(directory)
    fill(store, 10, start=1000)
    store.close()
    assert tables_of(directory).isdisjoint(gone)
    again = LMDBStore(directory)
    with again.reading() as reading:
        assert reading.layout == LAYOUT
    assert read(again) == observations + 10
    again.close()


def test_a_store_without_the_later_tables_is_read_and_gets_them_from_who_writes(
    directory: Path,
) -> None:
    environment = lmdb.open(str(directory), max_dbs=20)
    with environment.begin(write=True) as transaction:
        for name in LATER:
            transaction.drop(environment.open_db(name.encode(), transaction))
    environment.close()
    assert tables_of(directory).isdisjoint(name.encode() for name in LATER)
    store = LMDBStore(directory, readonly=True)
    assert read(store) == OBSERVATIONS
    with store.reading() as reading:
        assert reading.known_topic("t") is None
        assert reading.store_id() == ""
        assert not reading.replaced_ids()
    store.close()
    store = LMDBStore(directory)
    known = KnownTopic("k", "t", ((1, 4), (2, 6)))
    with store.writing() as writing:
        writing.know_topic("t", known)
        writing.identify("mine", {"former"})
    with store.reading() as reading:
        assert reading.known_topic("t") == known
        assert reading.store_id() == "mine"
        assert reading.replaced_ids() == {"former"}
    store.close()


def test_the_file_is_only_as_large_as_what_is_in_it(directory: Path) -> None:
    assert (directory / DATA).stat().st_size < 20 * 2**20


# Who may open it ----------------------------------------------------------------------------------


def test_a_store_in_use_is_not_exclusive_and_one_being_rebuilt_is_not_opened(
    directory: Path,
) -> None:
    store = LMDBStore(directory)
    with pytest.raises(StoreError, match="in use by another process"), exclusive(directory):
        pass
    store.close()
    store.close()
    with exclusive(directory), pytest.raises(StoreError, match="is being rebuilt"):
        LMDBStore(directory)
    LMDBStore(directory).close()
