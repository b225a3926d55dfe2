"""The encoder and generator of lines, in miniature."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="training needs torch")

from mmbroker.models.lines.network import Recipe, pretrained, simulated_table, train
from mmbroker.models.lines.train import cross_validation, cross_validation_of_network
from mmbroker.models.packaged.networks import WEIGHTS
from mmbroker.models.real_data.line_tables import read_lines
from mmbroker.models.real_data.split import TEST
from mmbroker.processors.lines.measure import LINES

RECIPE = Recipe(members=2, simulated=300, simulated_epochs=2, width=8)


def test_an_ensemble_recovers_all_lines_of_a_galaxy() -> None:
    from mmbroker.models.lines.network import NetworkLineRecovery

    members = pretrained(RECIPE)
    flux, error = np.zeros((1, len(LINES))), np.full((1, len(LINES)), np.inf)
    flux[0, 2], error[0, 2] = 2.0, 0.2
    known = NetworkLineRecovery(members).recover(
        np.array([2.0]), flux, error, np.array([12.5]), np.array([0.15])
    )
    assert np.isfinite(known.log_luminosity).all()
    assert (known.half_width_68 > 0).all()


def test_training_brings_hidden_quantities_nearer() -> None:
    import torch

    from mmbroker.models.lines.network import EncoderGenerator, _tensors

    torch.manual_seed(0)
    network, table = EncoderGenerator(RECIPE), simulated_table(500, 1)
    value, error, mask, stage = _tensors(table)
    given = mask.clone()
    given[:, 4] = 0.0

    def offset() -> float:
        mean, _ = network(value, error, given, stage)
        return float((mean[:, 4] - value[:, 4]).detach().abs().mean())

    before = offset()
    train(table, 5, network, 5e-3, hidden=0.3)
    assert offset() < 0.7 * before


def test_candidates_are_judged_on_the_same_lines_and_that_of_the_card_as_it_says(
    shared_data: Path,
) -> None:
    everything = read_lines(shared_data)
    known = everything.select(everything.split != TEST)
    card = json.loads((WEIGHTS / "weak_lines.json").read_text(encoding="utf-8"))
    normal, stated = cross_validation(known), card["cross_validation"]
    network = cross_validation_of_network(known, replace(RECIPE, epochs=2))
    for subset in ("all", "z > 0.1", "z < 0.1"):
        assert normal["log_score"][subset] == pytest.approx(stated["log_score"][subset], abs=0.01)
        assert normal[subset]["rms_dex"] == pytest.approx(stated[subset]["rms_dex"], abs=0.005)
        assert network[subset]["lines"] == normal[subset]["lines"]
        assert network["log_score"][subset] < normal["log_score"][subset]
