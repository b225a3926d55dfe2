from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("sklearn", reason="the baselines need scikit-learn")

from models.judge import baselines, redshift
from models.judge.pages import differences_table, figures_table


def figures(mae: float, **more: Any) -> dict[str, Any]:
    values = {"mae": mae, "nmad": mae / 2, "outliers": mae, "crps": 2 * mae, "coverage68": 0.68}
    return {"n": 9, **{name: [one, one - 0.01, one + 0.01] for name, one in values.items()}, **more}


@pytest.mark.parametrize("report", [baselines.report, redshift.report])
def test_without_tables_the_page_says_so(tmp_path: Path, report: Any) -> None:
    report(None, tmp_path)
    (page,) = tmp_path.glob("*.md")
    assert "tables are missing" in page.read_text()


def test_conditions_hold_when_the_refined_redshift_is_much_better() -> None:
    published = figures(0.06, refined_minus={"mae": [-0.02, -0.03, -0.01]})
    found = redshift.conditions({"published A": published, "refined": figures(0.04)})
    assert [one["holds"] for one in found] == [True, True, True]


def test_conditions_fail_by_name() -> None:
    published = figures(0.06, refined_minus={"mae": [-0.005, -0.03, 0.01]})
    ours = figures(0.055, coverage68=[0.8, 0.7, 0.9])
    estimators = {"published A": published, "trees": figures(0.05), "refined": ours}
    found = redshift.conditions(estimators)
    assert [one["holds"] for one in found] == [False, False, False]
    assert "of trees" in found[2]["found"]


def test_tables_set_the_lowest_error_in_bold_and_sign_differences() -> None:
    table = figures_table({"good": figures(0.02), "bad": figures(0.04)})
    good, bad = table.splitlines()[2:]
    assert good.count("**") == 8
    assert "**" not in bad
    minus = {"bad": figures(0.04, good_minus={"mae": [-0.02, -0.03, 0.01]}), "good": figures(0.02)}
    assert "-0.0200 (-0.0300 to +0.0100)" in differences_table(minus)
