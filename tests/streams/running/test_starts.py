"""Starts of a process are counted while it gets no further, and forgotten when it ends in order."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmbroker.streams.running.starts import DIRECTORY, Starts

ONE, OTHER = ("observations", 0), ("observations", 1)


def begun(directory: Path, one: int, other: int = 0) -> Starts:
    starts = Starts(directory, "stage-0")
    starts.begun({ONE: one, OTHER: other})
    return starts


def test_starts_at_one_place_are_counted(tmp_path: Path) -> None:
    begun(tmp_path, 5).assigned([ONE])
    begun(tmp_path, 5).assigned([ONE])
    assert begun(tmp_path, 5).count == 3


def test_progress_of_its_own_partitions_begins_the_count_anew(tmp_path: Path) -> None:
    begun(tmp_path, 5).assigned([ONE])
    assert begun(tmp_path, 6).count == 1


def test_progress_of_others_is_no_progress(tmp_path: Path) -> None:
    begun(tmp_path, 5, 7).assigned([ONE])
    assert begun(tmp_path, 5, 9).count == 2


def test_an_orderly_end_is_forgotten(tmp_path: Path) -> None:
    begun(tmp_path, 5).ended()
    assert begun(tmp_path, 5).count == 1


@pytest.mark.parametrize("content", ["", "{", "[]", '{"committed": 3}', '{"own": null}'])
def test_a_file_that_is_damaged_is_a_first_start(tmp_path: Path, content: str) -> None:
    (tmp_path / DIRECTORY).mkdir()
    (tmp_path / DIRECTORY / "stage-0.json").write_text(content)
    assert begun(tmp_path, 5).count == 1
