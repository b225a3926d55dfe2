from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("sklearn", reason="judging needs scikit-learn: pip install -e '.[train]'")
pytest.importorskip("onnxruntime", reason="judging needs onnxruntime: pip install -e '.[train]'")

from models.exported import WEIGHTS
from models.judge.critic import PREVIOUS, judge
from models.judge.critic_page import conditions, draw, page
from models.training_data import VALIDATION


def test_without_tables_simulated_galaxies_are_judged_and_the_page_says_so(tmp_path: Path) -> None:
    numbers = judge(None, WEIGHTS, PREVIOUS, VALIDATION, galaxies=500)
    assert set(numbers) == {"simulated"}
    group = numbers["simulated"]
    assert set(group["samples"]) == {"version 2", "version 1", "hot deck", "marginals"}
    # Fluxes drawn one by one from their distributions are no galaxies.
    assert group["samples"]["marginals"]["two_sample"][0] > 0.8
    card = json.loads((WEIGHTS / "critic.json").read_text())
    text = page(numbers, card)
    assert "tables of real galaxies are missing" in text
    draw(numbers, [{"distance": 1.0, "gradient_norm": 1.0}, {"auc_generated": 0.7}], tmp_path)
    for name in ("training", "marginals_simulated", "receiver_simulated"):
        assert f"critic_{name}.png" in text
        assert (tmp_path / f"critic_{name}.png").stat().st_size > 0


def test_conditions_are_met_or_not_by_their_figures() -> None:
    sample = {
        "two_sample": (0.65, 0.6, 0.7),
        "marginals": 0.05,
        "correlations": 0.05,
        "known_nearer": (0.5, 0.45, 0.55),
        "drawn_nearer": (0.7, 0.65, 0.75),
        "version_2_minus_this": (-0.1, -0.2, -0.05),
    }
    trees = {"area": (0.8, 0.7, 0.9), "critic_minus_trees": (-0.02, -0.05, 0.01)}
    real = {
        "samples": dict.fromkeys(("version 2", "version 1", "hot deck"), sample),
        "null": {"marginals": (0.04, 0.03, 0.05), "correlations": (0.02, 0.01, 0.03)},
        "trees": {"generated": trees, "corrupted": trees},
        "critic": {
            "version 2": {
                "calibration_error": 0.02,
                "kinds": {kind: {"area": (0.8, 0.7, 0.9)} for kind in ("generated", "corrupted")},
            }
        },
    }
    met = [each[2] for each in conditions(real)]
    assert met == [True, True, True, True, True, True, False, True, False, True]
