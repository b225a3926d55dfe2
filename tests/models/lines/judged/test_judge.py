"""The report on recovered lines."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mmbroker.models.lines.judged import judge as weak_lines
from mmbroker.models.lines.judged.verdict import missed, with_verdict
from mmbroker.models.pages.render import REPORTS


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


def test_the_report_says_what_follows_from_its_figures() -> None:
    numbers = json.loads((REPORTS / "weak_lines.json").read_text(encoding="utf-8"))
    assert json.loads(json.dumps(with_verdict(numbers))) == numbers


def test_what_is_missed_is_told_by_condition() -> None:
    figures = {
        "pearson_r": [0.9, 0.8, 0.95],
        "skill": {"one": {"skill": [0.5, 0.1, 0.7]}},
        "coverage_68": [0.70, 0.6, 0.8],
        "coverage_95": [0.95, 0.9, 1.0],
    }
    assert missed(figures) == {"correlation": False, "skill": [], "coverage": {}}
    figures |= {
        "pearson_r": [0.8, 0.7, 0.9],
        "skill": {"one": {"skill": [0.5, 0.1, 0.7]}, "other": {"skill": [0.5, -0.1, 0.7]}},
        "coverage_68": [0.80, 0.7, 0.9],
        "coverage_95": [0.90, 0.8, 1.0],
    }
    assert missed(figures) == {
        "correlation": True,
        "skill": ["other"],
        "coverage": {"68": pytest.approx(7.0), "95": pytest.approx(-2.0)},
    }
