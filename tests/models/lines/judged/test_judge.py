"""The report on recovered lines."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mmbroker.models.lines.judged import judge as weak_lines
from mmbroker.models.lines.judged import page as weak_lines_page
from mmbroker.models.packaged.networks import WEIGHTS

REPORTS = WEIGHTS.parent / "reports"


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
    assert "## Candidates" not in page
    assert (tmp_path / "weak_lines_simulated.png").stat().st_size < 150_000


def test_the_page_is_made_of_the_numbers_beside_it() -> None:
    numbers, card = (
        json.loads((folder / "weak_lines.json").read_text(encoding="utf-8"))
        for folder in (REPORTS, WEIGHTS)
    )
    page = weak_lines_page.page(numbers, card, real=True)
    assert page == (REPORTS / "weak_lines.md").read_text(encoding="utf-8")
    del card["cross_validation"], card["cross_validation_of_network"]
    assert weak_lines_page.page(numbers, card, real=True) == page
