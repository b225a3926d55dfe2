"""One supervisor runs the stages of a data directory; others can ask whether one does."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmbroker.streams.running.supervise import StagesRunError, only_one, stages_run
from mmbroker.streams.settings import Settings


def test_only_one_runs_the_stages_of_a_data_directory(tmp_path: Path) -> None:
    settings = Settings(data_directory=tmp_path / "new")
    assert not stages_run(settings)
    with only_one(settings, "stop them"):
        assert stages_run(settings)
        refused = pytest.raises(StagesRunError, match=r"the stages run in .*new: wait$")
        with refused, only_one(settings, "wait"):
            pass
        assert stages_run(settings), "who was refused has not ended what runs"
    assert not stages_run(settings)
