"""The report on the probability of a redshift, and the card of its calibration."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="judging needs scikit-learn: pip install -e '.[train]'")
pytest.importorskip("onnxruntime", reason="judging needs onnxruntime: pip install -e '.[train]'")

from mmbroker.models.packaged.cards import about
from mmbroker.models.pages.render import REPORTS
from mmbroker.models.redshift.conventional.probability import (
    NAME,
    PATH,
    Cases,
    card,
    figures,
    write,
)
from mmbroker.models.redshift.judged.probability import found as found_in
from mmbroker.models.redshift.judged.probability import report
from mmbroker.processors.scoring.calibration import Calibration


@pytest.fixture
def found() -> Cases:
    """Two galaxies with a published redshift and without, and two more of COSMOS."""
    right = np.array([True, True, False, True, False, True])
    stated = np.array([0.9, 0.8, 0.2, 0.4, 0.1, 1.0])
    names = np.array(["a", "b", "a", "b", "c", "d"])
    groups = ("GOODS-N, with", "GOODS-N, alone", "COSMOS, alone")
    group = np.array([0, 0, 1, 1, 2, 2])
    return Cases(group, names, stated, stated, stated, right, groups, ("c",))


def test_without_the_tables_the_page_says_so(tmp_path: Path) -> None:
    report(None, tmp_path)
    assert "published tables are missing" in (tmp_path / "redshift_probability.md").read_text()


def test_page_and_card_are_of_the_calibration_in_force() -> None:
    numbers = json.loads((REPORTS / "redshift_probability.json").read_text())
    assert numbers["found"] == found_in(numbers)
    calibration, stated = Calibration.from_json(PATH.read_text()), json.loads(PATH.read_text())
    assert numbers["calibration_id"] == calibration.calibration_id
    expected = card(calibration, numbers)
    for key in ("name", "counts", "galaxies", "on_the_same_galaxies", "report", "caveats"):
        assert stated[key] == expected[key]
    assert (PATH.parents[2] / about(NAME)["report"]).is_file()


def test_figures_are_means_over_cases_and_galaxies_count_once(found: Cases) -> None:
    numbers = figures(found)
    everything = numbers["groups"]["all"]
    assert (everything["n"], everything["galaxies"]) == (6, 4)
    assert everything["right"][0] == pytest.approx(4 / 6, abs=1e-4)
    scores = (0.1**2, 0.2**2, 0.2**2, 0.6**2, 0.1**2, 0.0)
    assert everything["brier"][0] == pytest.approx(np.mean(scores), abs=1e-4)
    assert everything["brier_minus_mass"] == [0.0, 0.0, 0.0]
    assert numbers["groups"]["COSMOS, alone, secure"]["n"] == 1
    assert sum(one["n"] for one in numbers["bins"]) == 6


def test_tables_in_which_stated_and_right_differ_are_named(found: Cases) -> None:
    numbers = figures(found)
    for one in numbers["groups"].values():
        one["stated_minus_right"] = [0.1, -0.1, 0.3]
    assert found_in(numbers)["off"] == []
    numbers["groups"]["COSMOS, alone"]["stated_minus_right"] = [-0.2, -0.3, -0.1]
    assert found_in(numbers)["off"] == ["COSMOS, alone"]
    assert found_in(numbers)["between"] == 1
    assert found_in(numbers)["certain"] == 2


def test_a_card_leaves_the_calibration_as_it_is(tmp_path: Path, found: Cases) -> None:
    path = tmp_path / "calibration.json"
    calibration = Calibration(np.array([0.1, 0.9]), np.array([0.2, 0.8]))
    path.write_text(calibration.to_json())
    write(path, figures(found))
    written = Calibration.from_json(path.read_text())
    assert written.calibration_id == calibration.calibration_id
    assert json.loads(path.read_text())["report"] == about(NAME)["report"]
