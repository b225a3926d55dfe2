"""Trains the parser of spectra on simulated ones, and exports it to ONNX. Needs torch.

``python -m mmbroker.models.parser.train_spectra --checkpoint parser.pt`` takes some 25 minutes on
one core. It resumes from the checkpoint, and uses a GPU where there is one.
"""

from __future__ import annotations

import argparse
import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from rich.progress import track
from torch import Tensor, nn

from mmbroker.models.packaged import onnx_export
from mmbroker.models.packaged.networks import WEIGHTS
from mmbroker.models.parser.network import SpectrumParser
from mmbroker.models.parser.spectrum_targets import ParserBatch, parser_batch
from mmbroker.models.simulation.spectra import simulate_spectra
from mmbroker.processors.features.lines import (
    COVERED,
    FLUX,
    LOG_ERRORS,
    OFFSET,
    PRESENCE,
    SHAPE,
    WIDTH,
)
from mmbroker.processors.features.patches import CHANNEL_INPUTS, PATCH, PATCH_INPUTS

TRAINING_SEED, CURVE_SEED = 11, 12


@dataclass(frozen=True, slots=True)
class Recipe:
    """How the parser of spectra is trained.

    Attributes:
        steps: the number of steps.
        schedule: the number of steps over which the learning rate falls to 0; None for ``steps``.
            Training may stop before.
        batch: the number of spectra in a step.
        learning_rate: the highest learning rate.
        width: the length of a token.
        depth: the number of layers of attention.
        stem: the number of outputs of the convolutions.
        averaging: the factor by which the average of the weights keeps its former value in a step.
        seed: the seed of everything random.
    """

    steps: int = 24_000
    schedule: int | None = None
    batch: int = 32
    learning_rate: float = 2e-3
    width: int = 64
    depth: int = 2
    stem: int = 16
    averaging: float = 0.998
    seed: int = TRAINING_SEED


def loss(outputs: Tensor, targets: Tensor) -> tuple[Tensor, dict[str, float]]:
    """Add up cross-entropies of presence, cover and shape, and errors of what is measured.

    Args:
        outputs: the network's outputs, float32, shape (B, channels, OUTPUTS).
        targets: the answers, float32, shape (B, channels, TARGETS).

    Returns:
        The loss, a scalar, and its parts without their weights.
    """
    decided = targets[..., 0] >= 0
    presence = nn.functional.binary_cross_entropy_with_logits(
        outputs[..., PRESENCE][decided], targets[..., 0][decided]
    )
    seen = targets[..., 7] > 0
    cover = nn.functional.binary_cross_entropy_with_logits(
        outputs[..., COVERED][seen], targets[..., 6][seen]
    )
    middle = targets[..., 1] > 0
    weight = targets[..., 1][middle]
    lines = weight.sum().clamp(min=1.0)
    measured = outputs.new_zeros(())
    for output, target in ((OFFSET, 2), (WIDTH, 3), (FLUX, 4)):
        mean = outputs[..., output][middle]
        log_error = outputs[..., output + 1][middle].clamp(*LOG_ERRORS)
        pull = (targets[..., target][middle] - mean) * torch.exp(-log_error)
        # A line at the place of another is no error of measurement: beyond 5 sigma it counts less.
        square = torch.where(pull.abs() < 5, 0.5 * pull**2, 5 * pull.abs() - 12.5)
        measured = measured + (weight * (square + log_error)).sum() / lines
    shape = nn.functional.cross_entropy(
        outputs[..., SHAPE:][middle], targets[..., 5][middle].long(), reduction="none"
    )
    shapes = (weight * shape).sum() / lines
    total = 20 * presence + 2 * cover + 0.3 * measured + 0.4 * shapes
    parts = {
        "presence": float(presence),
        "cover": float(cover),
        "measured": float(measured),
        "shape": float(shapes),
    }
    return total, parts


def train(
    recipe: Recipe, checkpoint: Path | None = None
) -> tuple[SpectrumParser, list[dict[str, float]]]:
    """Train a parser of spectra.

    Args:
        recipe: how to train.
        checkpoint: the file in which the state is kept, and from which it goes on if it exists.

    Returns:
        The network with averaged weights, and the validation losses.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(recipe.seed)
    network = SpectrumParser(recipe.width, recipe.depth, recipe.stem).to(device)
    averaged = SpectrumParser(recipe.width, recipe.depth, recipe.stem).to(device)
    averaged.load_state_dict(network.state_dict())
    optimiser = torch.optim.AdamW(network.parameters(), recipe.learning_rate, weight_decay=1e-4)
    curve: list[dict[str, float]] = []
    first = 0
    if checkpoint is not None and checkpoint.is_file():
        state = torch.load(checkpoint, map_location=device, weights_only=True)
        network.load_state_dict(state["network"])
        averaged.load_state_dict(state["averaged"])
        optimiser.load_state_dict(state["optimiser"])
        first, curve = int(state["step"]), list(state["curve"])
    validation = curve_batches(min(recipe.steps, 16))
    started = time.monotonic()
    for step in track(range(first, recipe.steps), description="training the parser"):
        warm = min((step + 1) / 200, 1.0)
        rate = (
            recipe.learning_rate
            * warm
            * 0.5
            * (1 + math.cos(math.pi * step / (recipe.schedule or recipe.steps)))
        )
        for group in optimiser.param_groups:
            group["lr"] = rate
        # The spectra of a step depend only on its number, also after training was resumed.
        spectra = simulate_spectra(recipe.batch, np.random.default_rng([recipe.seed, step]))
        total, _ = loss(*_forward(network, parser_batch(spectra), device))
        optimiser.zero_grad()
        total.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        keep = min(recipe.averaging, (1 + step) / (10 + step))
        with torch.no_grad():
            for mean, value in zip(averaged.parameters(), network.parameters(), strict=True):
                mean.lerp_(value, 1 - keep)
        if (step + 1) % 500 == 0 or step + 1 == recipe.steps:
            curve.append({"step": step + 1, **_validate(averaged, validation, device)})
            print(
                f"{time.monotonic() - started:.0f} s",
                {name: round(value, 4) for name, value in curve[-1].items()},
                flush=True,
            )
            if checkpoint is not None:
                state = {
                    "network": network.state_dict(),
                    "averaged": averaged.state_dict(),
                    "optimiser": optimiser.state_dict(),
                    "step": step + 1,
                    "curve": curve,
                    "recipe": asdict(recipe),
                }
                torch.save(state, checkpoint)
    return averaged, curve


def curve_batches(count: int) -> list[ParserBatch]:
    """Make the batches whose loss is followed during training.

    Args:
        count: the number of batches.
    """
    return [
        parser_batch(simulate_spectra(32, np.random.default_rng([CURVE_SEED, number])))
        for number in range(count)
    ]


def _forward(
    network: SpectrumParser, batch: ParserBatch, device: torch.device
) -> tuple[Tensor, Tensor]:
    channels, patches, present, targets = (
        torch.from_numpy(array).to(device)
        for array in (batch.channels, batch.patches, batch.present, batch.targets)
    )
    return network(channels, patches, present), targets


def _validate(
    network: SpectrumParser, batches: list[ParserBatch], device: torch.device
) -> dict[str, float]:
    network.eval()
    with torch.no_grad():
        parts = [loss(*_forward(network, batch, device))[1] for batch in batches]
    network.train()
    return {name: float(np.mean([part[name] for part in parts])) for name in parts[0]}


def export(network: SpectrumParser, path: Path) -> None:
    """Write the network to ONNX, for any number of spectra of any length.

    Args:
        network: the network.
        path: the file to write.

    Raises:
        RuntimeError: the outputs of the file differ from those of the network.
    """
    count = 6
    inputs = {
        "channels": torch.zeros(2, count * PATCH, CHANNEL_INPUTS),
        "patches": torch.zeros(2, count, PATCH_INPUTS),
        "present": torch.ones(2, count),
    }
    free_axes = {
        "channels": {0: "spectra", 1: "channels"},
        "patches": {0: "spectra", 1: "patches"},
        "present": {0: "spectra", 1: "patches"},
        "lines": {0: "spectra", 1: "channels"},
    }
    onnx_export.export(network, inputs, ["lines"], path, free_axes)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line: train and export."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=WEIGHTS)
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--steps", type=int, default=Recipe().steps)
    parser.add_argument("--seed", type=int, default=Recipe().seed)
    chosen = parser.parse_args(arguments)
    network, _ = train(Recipe(steps=chosen.steps, seed=chosen.seed), chosen.checkpoint)
    export(network, chosen.output / "parser.onnx")


if __name__ == "__main__":
    main()
