"""The encoder and generator of lines, in miniature."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch", reason="training needs torch")

from models.weak_lines_network import Recipe, pretrained, simulated_table, train
from processors.line_measurement import LINES

RECIPE = Recipe(members=2, simulated=300, simulated_epochs=2, width=8)


def test_an_ensemble_recovers_all_lines_of_a_galaxy() -> None:
    from models.weak_lines_network import NetworkRecovery

    members = pretrained(RECIPE)
    flux, error = np.zeros((1, len(LINES))), np.full((1, len(LINES)), np.inf)
    flux[0, 2], error[0, 2] = 2.0, 0.2
    known = NetworkRecovery(members).recover(
        np.array([2.0]), flux, error, np.array([12.5]), np.array([0.15])
    )
    assert np.isfinite(known.log_luminosity).all()
    assert (known.half_width_68 > 0).all()


def test_training_brings_hidden_quantities_nearer() -> None:
    import torch

    from models.weak_lines_network import EncoderGenerator, _tensors

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
