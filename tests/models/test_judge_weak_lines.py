"""The report on recovered lines."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from models.judge import weak_lines


def test_without_the_tables_it_says_so_and_does_the_simulated_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weak_lines, "SIMULATED_GALAXIES", 500)
    weak_lines.report(None, tmp_path)
    page = (tmp_path / "weak_lines.md").read_text(encoding="utf-8")
    assert "tables of real galaxies are not here" in page
    assert "**Simulated**: 500 galaxies" in page
    numbers = json.loads((tmp_path / "weak_lines.json").read_text(encoding="utf-8"))
    assert "test" not in numbers
    assert (tmp_path / "weak_lines_simulated.png").stat().st_size < 150_000
