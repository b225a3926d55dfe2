"""Every page is made of its template and the numbers beside it, and of nothing else.

Needs neither torch nor onnxruntime: whoever edits the words of a page can see that it is as it is
to be.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import jinja2
import pytest

from mmbroker.models.pages.render import REPORTS, SUMMARY, render, write, write_summary

PAGES = sorted(each.stem for each in REPORTS.glob("*.json"))


@pytest.mark.parametrize("name", PAGES)
def test_a_page_follows_from_its_numbers(name: str, tmp_path: Path) -> None:
    figures = json.loads((REPORTS / f"{name}.json").read_text(encoding="utf-8"))
    write(name, figures, tmp_path)
    for kind in ("json", "md"):
        made, kept = ((folder / f"{name}.{kind}").read_bytes() for folder in (tmp_path, REPORTS))
        assert made == kept, f"reports/{name}.{kind}: python -m mmbroker.models.pages.render"


def test_the_summary_follows_from_the_numbers_of_all(tmp_path: Path) -> None:
    for name in PAGES:
        shutil.copy(REPORTS / f"{name}.json", tmp_path)
    write_summary(tmp_path)
    page = (tmp_path / f"{SUMMARY}.md").read_text(encoding="utf-8")
    assert page == (REPORTS / f"{SUMMARY}.md").read_text(encoding="utf-8")
    assert "missing" not in page


def test_a_figure_that_is_missing_is_not_left_out_in_silence() -> None:
    figures = json.loads((REPORTS / "redshift_probability.json").read_text(encoding="utf-8"))
    del figures["in_force"]["bias"]
    with pytest.raises(jinja2.UndefinedError, match="bias"):
        render("redshift_probability", figures)


def test_pages_need_no_networks() -> None:
    script = (
        "import sys; import mmbroker.models.pages.render;"
        "print({'torch', 'onnxruntime', 'sklearn'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.strip() == "set()", done.stderr
