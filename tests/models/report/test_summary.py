"""The page over all reports is made from their numbers."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

pytest.importorskip("sklearn", reason="judging needs scikit-learn: pip install -e '.[train]'")
pytest.importorskip("onnxruntime", reason="judging needs onnxruntime: pip install -e '.[train]'")

from mmbroker.models.report.__main__ import OUTPUT, REPORTS
from mmbroker.models.report.summary import NAME, ROWS, page, write


def test_it_has_a_row_for_every_report_and_is_up_to_date() -> None:
    assert set(ROWS) == set(REPORTS)
    assert (OUTPUT / NAME).read_text() == page(OUTPUT)
    assert "missing" not in page(OUTPUT)


def test_it_says_what_is_missing(tmp_path: Path) -> None:
    shutil.copy(OUTPUT / "parser.json", tmp_path)
    (tmp_path / "redshift.json").write_text('{"simulated": {}}')
    write(tmp_path)
    rows = [row for row in (tmp_path / NAME).read_text().splitlines() if row.startswith("| [")]
    assert len(rows) == len(ROWS)
    assert [row for row in rows if "the published tables are missing" not in row] == [
        row for row in rows if "(parser.md)" in row
    ]
