"""The report on the parser, in miniature."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("onnxruntime")

from models.judge.parser import Sizes, report
from models.simulated_spectra import REGIMES

# Not the seeds of the test part, which is opened by the report alone.
SMALL = Sizes(90, 90, 0, 30, 100, test_seed=901, redshift_seed=902, maps_seed=903)


def test_without_the_tables_the_report_has_the_simulated_part_and_says_so(tmp_path: Path) -> None:
    report(None, tmp_path, SMALL)
    page = (tmp_path / "parser.md").read_text()
    assert "Everything that is counted here is simulated" in page
    assert "are missing here" in page
    assert not (tmp_path / "parser_real.png").exists()
    numbers = json.loads((tmp_path / "parser.json").read_text())
    assert set(numbers["lines"]) == {"all", *REGIMES}
    everything = numbers["lines"]["all"]
    assert everything["parser"]["completeness_4_8"] > 0.3
    for name in page.split("(parser_")[1:]:
        figure = tmp_path / f"parser_{name.split(')')[0]}"
        assert 0 < figure.stat().st_size < 150_000


def test_the_same_seeds_give_the_same_numbers(tmp_path: Path) -> None:
    pages = []
    for folder in ("one", "other"):
        report(None, tmp_path / folder, SMALL)
        pages.append((tmp_path / folder / "parser.json").read_text())
    assert pages[0] == pages[1]
