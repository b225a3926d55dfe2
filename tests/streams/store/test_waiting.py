"""Who reads the store waits for nobody; who waits for another writer says for whom."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from mmbroker.streams.settings import Settings
from mmbroker.streams.store import LMDBStore, read_store, store_exists
from tests.conftest import wait_until

HOLD = """
import sys
from pathlib import Path
from mmbroker.streams.store import LMDBStore
with LMDBStore(Path(sys.argv[1])).writing():
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_directory=tmp_path)


@pytest.fixture
def holder(settings: Settings) -> Iterator[subprocess.Popen[bytes]]:
    """Another process within a transaction that writes, and stopped."""
    with closing(LMDBStore(settings.store_directory)) as store, store.writing() as writing:
        writing.account("s", {("t", 0): 7}, {"merged": 7})
    command = [sys.executable, "-c", HOLD, str(settings.store_directory)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"held\n"
    process.send_signal(signal.SIGSTOP)
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_a_store_is_read_and_copied_while_its_writer_is_stopped(
    settings: Settings, holder: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    (tmp_path / "copy").mkdir()
    with closing(read_store(settings)) as store:
        with store.reading() as reading:
            assert reading.counts() == {("s", "merged"): 7}
        store.copy(tmp_path / "copy")
    with closing(LMDBStore(tmp_path / "copy")) as copy, copy.reading() as reading:
        assert reading.next_offset("s", "t", 0) == 7


def test_who_waits_for_a_writer_names_it_and_goes_on_when_it_is_done(
    settings: Settings, holder: subprocess.Popen[bytes], caplog: pytest.LogCaptureFixture
) -> None:
    def write() -> None:
        with closing(LMDBStore(settings.store_directory)) as store, store.writing() as writing:
            writing.account("s", {("t", 0): 8}, {"merged": 1})

    thread = threading.Thread(target=write)
    thread.start()
    wait_until(lambda: "is being written by" in caplog.text, "it does not say for whom it waits")
    assert f"by process {holder.pid} (" in caplog.text
    assert "which is stopped: waiting until it is done" in caplog.text
    holder.send_signal(signal.SIGCONT)
    assert holder.stdin is not None
    holder.stdin.close()
    thread.join(30)
    with closing(read_store(settings)) as store, store.reading() as reading:
        assert reading.counts() == {("s", "merged"): 8}


def test_a_store_that_is_missing_is_made_when_it_is_to_be_read(settings: Settings) -> None:
    assert not store_exists(settings)
    with closing(read_store(settings)) as store, store.reading() as reading:
        assert reading.galaxies() == 0
    assert store_exists(settings)
