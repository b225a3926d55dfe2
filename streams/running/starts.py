"""Counts the starts of a process that got no further than the one before it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from mmbroker.streams.stages.accounting import Partition

DIRECTORY = "starts"


class Starts:
    """Remembers in a file where a process began to read, until it ends in order.

    If the file is still there at the next start, the process was killed, or it crashed. If nothing
    was acknowledged since, it may be what it reads that ends it.

    Args:
        data_directory: directory of the broker.
        instance: name of the process.

    Attributes:
        count: how many times in a row it has started at the same place.
    """

    def __init__(self, data_directory: Path, instance: str) -> None:
        self._file = data_directory / DIRECTORY / f"{instance}.json"
        self._committed: dict[str, int] = {}
        self.count = 0

    def begun(self, committed: Mapping[Partition, int]) -> None:
        """Count a start.

        Args:
            committed: the offset after the last acknowledged event, by partition of any process of
                the stage.
        """
        self._committed = {_name(each): offset for each, offset in committed.items()}
        before, own = {}, []
        with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
            found = json.loads(self._file.read_text())
            before, own, self.count = dict(found["committed"]), found["own"], int(found["count"])
        if any(self._committed.get(each) != before.get(each) for each in own):
            self.count = 0
        self.count += 1
        self._write(own)

    def assigned(self, partitions: Iterable[Partition]) -> None:
        """Remember which partitions the process got; others' progress does not count as its own."""
        self._write([_name(each) for each in partitions])

    def ended(self) -> None:
        """Forget all: the process ends in order."""
        self._file.unlink(missing_ok=True)

    def _write(self, own: list[str]) -> None:
        content = {"committed": self._committed, "own": own, "count": self.count}
        self._file.parent.mkdir(parents=True, exist_ok=True)
        self._file.write_text(json.dumps(content))


def _name(partition: Partition) -> str:
    topic, number = partition
    return f"{topic} [{number}]"
