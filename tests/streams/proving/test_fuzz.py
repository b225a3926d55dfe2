"""Strange input is refused without crash, hang or growth; a fuzz that fails says so."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from mmbroker.streams.proving import fuzz as fuzzing
from mmbroker.streams.proving.fuzz import ENTRIES, Fuzzed, fuzz

INPUTS = 300


@pytest.mark.parametrize("name", ENTRIES)
def test_strange_input_is_refused(name: str) -> None:
    result = fuzz(name, seed=1, seconds=60.0, inputs=INPUTS)
    assert result.wrong == ""
    assert result.inputs == INPUTS
    assert 0 < result.accepted < INPUTS / 2


@pytest.mark.parametrize(
    ("program", "said"),
    [("kill -SEGV $$", "exit status -11"), ("exec sleep 60", "hangs"), ("exit 1", "status 1")],
)
def test_an_input_that_ends_or_hangs_the_process_is_named(
    program: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    executable = tmp_path / "python"
    # The last argument is where the number of the input is written.
    executable.write_text(
        f'#!/bin/sh\nfor each; do last=$each; done\necho 17 > "$last"\n{program}\n'
    )
    executable.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(executable))
    monkeypatch.setattr(fuzzing, "HANG_S", 0.5)
    wrong = fuzz("observations", seed=5, seconds=0.1).wrong
    assert said in wrong
    assert "observations, seed 5, input 17" in wrong


def test_slow_inputs_and_growing_memory_do_not_hold() -> None:
    assert "2500 ms" in Fuzzed(10, 1, 2500.0, 0.0).wrong
    assert "300 MB" in Fuzzed(10, 1, 1.0, 300.0).wrong
    assert Fuzzed(10, 1, 1.0, 1.0).wrong == ""
