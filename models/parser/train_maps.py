"""Trains the parser of radio maps on simulated ones, and exports it to ONNX. Needs torch.

``python -m mmbroker.models.parser.train_maps`` takes some ten minutes on one core.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from rich.progress import track
from torch import Tensor, nn

from mmbroker.models.packaged import onnx_export
from mmbroker.models.packaged.networks import WEIGHTS
from mmbroker.models.parser.map_targets import cell_targets, map_inputs
from mmbroker.models.parser.network import MapParser
from mmbroker.models.simulation.radio_maps import simulate_maps
from mmbroker.processors.features.lines import LOG_ERRORS
from mmbroker.processors.features.maps import FLUX, LOG_ERROR, MAP_INPUTS, PRESENCE, SIDE, X, Y

TRAINING_SEED = 31


@dataclass(frozen=True, slots=True)
class Recipe:
    """How the parser of maps is trained.

    Attributes:
        steps: the number of steps.
        batch: the number of maps in a step.
        learning_rate: the highest learning rate; it falls to 0.
        width: the length of a token.
        depth: the number of layers of attention.
        averaging: the factor by which the average of the weights keeps its former value in a step.
        seed: the seed of everything random.
    """

    steps: int = 3_000
    batch: int = 48
    learning_rate: float = 2e-3
    width: int = 48
    depth: int = 2
    averaging: float = 0.998
    seed: int = TRAINING_SEED


def loss(logits: Tensor, cells: Tensor, morphology: Tensor, targets: Tensor) -> Tensor:
    """Add up cross-entropies of morphology and presence, and errors of flux and place.

    Args:
        logits: logits of morphologies, float32, shape (B, MORPHOLOGIES).
        cells: the cells, float32, shape (B, CELL_GRID, CELL_GRID, CELL_OUTPUTS).
        morphology: the true index into MORPHOLOGIES, int64, shape (B,).
        targets: the answers of ``cell_targets``, float32, shape (B, CELL_GRID, CELL_GRID, 4).
    """
    there = targets[..., 0] > 0
    presence = nn.functional.binary_cross_entropy_with_logits(cells[..., PRESENCE], targets[..., 0])
    found, wanted = cells[there], targets[there]
    place = (found[:, X] - wanted[:, 1]).abs().mean() + (found[:, Y] - wanted[:, 2]).abs().mean()
    log_error = found[:, LOG_ERROR].clamp(*LOG_ERRORS)
    pull = (found[:, FLUX] - wanted[:, 3]) * torch.exp(-log_error)
    flux = (torch.where(pull.abs() < 5, 0.5 * pull**2, 5 * pull.abs() - 12.5) + log_error).mean()
    which = nn.functional.cross_entropy(logits, morphology)
    total: Tensor = which + 30 * presence + place + 0.3 * flux
    return total


def train(recipe: Recipe) -> MapParser:
    """Train a parser of maps; its weights are averaged over the last steps.

    Args:
        recipe: how to train.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(recipe.seed)
    network, averaged = (MapParser(recipe.width, recipe.depth) for _ in range(2))
    network.to(device)
    averaged.to(device)
    averaged.load_state_dict(network.state_dict())
    optimiser = torch.optim.AdamW(network.parameters(), recipe.learning_rate, weight_decay=1e-4)
    recent = []
    for step in track(range(recipe.steps), description="training the map parser"):
        rate = 0.5 * (1 + math.cos(math.pi * step / recipe.steps)) * min((step + 1) / 100, 1)
        for group in optimiser.param_groups:
            group["lr"] = recipe.learning_rate * rate
        maps = simulate_maps(recipe.batch, np.random.default_rng([recipe.seed, step]))
        inputs = map_inputs(maps)
        logits, cells = network(
            torch.from_numpy(np.array([each.pixels for each in inputs])).to(device),
            torch.from_numpy(np.array([each.beam for each in inputs])).to(device),
        )
        total = loss(
            logits,
            cells,
            torch.from_numpy(maps.morphology).to(device),
            torch.from_numpy(cell_targets(maps)).to(device),
        )
        optimiser.zero_grad()
        total.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        keep = min(recipe.averaging, (1 + step) / (10 + step))
        with torch.no_grad():
            for mean, value in zip(averaged.parameters(), network.parameters(), strict=True):
                mean.lerp_(value, 1 - keep)
        recent.append(float(total))
        if (step + 1) % 250 == 0:
            print(f"step {step + 1}: loss {np.mean(recent[-250:]):.3f}", flush=True)
    return averaged


def export(network: MapParser, path: Path) -> None:
    """Write the network to ONNX, for any number of maps.

    Args:
        network: the network.
        path: the file to write.

    Raises:
        RuntimeError: the outputs of the file differ from those of the network.
    """
    inputs = {"pixels": torch.zeros(2, SIDE, SIDE), "beam": torch.zeros(2, MAP_INPUTS)}
    onnx_export.export(network, inputs, ["morphology", "cells"], path)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line: train and export."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=WEIGHTS)
    parser.add_argument("--steps", type=int, default=Recipe().steps)
    chosen = parser.parse_args(arguments)
    export(train(Recipe(steps=chosen.steps)), chosen.output / "map_parser.onnx")


if __name__ == "__main__":
    main()
