"""The page over all reports is made from their numbers."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

pytest.importorskip("sklearn", reason="judging needs scikit-learn: pip install -e '.[train]'")
pytest.importorskip("onnxruntime", reason="judging needs onnxruntime: pip install -e '.[train]'")

from mmbroker.models.pages.render import SUMMARY, TEMPLATES, write_summary
from mmbroker.models.report.__main__ import OUTPUT, REPORTS


def rows(folder: Path) -> list[str]:
    page = (folder / f"{SUMMARY}.md").read_text(encoding="utf-8")
    return [row for row in page.splitlines() if row.startswith("| [")]


def test_every_report_has_a_row_a_template_and_numbers() -> None:
    named = set(re.findall(r"^\| \[[\w ]+\]\((\w+)\.md\)", "\n".join(rows(OUTPUT)), re.MULTILINE))
    templates = {each.name.removesuffix(".md.j2") for each in TEMPLATES.glob("[!_]*.md.j2")}
    assert named == set(REPORTS) == templates - {SUMMARY}
    assert set(REPORTS) == {each.stem for each in OUTPUT.glob("*.json")}


def test_it_says_what_is_missing(tmp_path: Path) -> None:
    shutil.copy(OUTPUT / "parser.json", tmp_path)
    (tmp_path / "redshift.json").write_text('{"simulated": {}}')
    write_summary(tmp_path)
    assert len(rows(tmp_path)) == len(REPORTS)
    assert [row for row in rows(tmp_path) if "the published tables are missing" not in row] == [
        row for row in rows(tmp_path) if "(parser.md)" in row
    ]
