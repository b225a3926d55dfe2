"""Trains the conditional WGAN-GP on fingerprints, calibrates its critic, and writes the cards.

    python -m mmbroker.models.critic.train --data FOLDER --recipe full --checkpoint critic.pt

The critic learns to tell genuine fingerprints from generated ones (Wasserstein loss with gradient
penalty, Gulrajani et al. 2017, arXiv:1704.00028) and from corrupted ones (negative data
augmentation, Sinha et al., ICLR 2021). It learns first from simulated galaxies, then from real ones
with simulated ones beside them. Without real tables it learns from simulated galaxies alone, and
its card says so. With a checkpoint, training can be stopped at any time and goes on from there.
Needs torch, onnx, onnxruntime and scikit-learn.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from mmbroker.models.critic.adversarial import Trainer
from mmbroker.models.critic.examples import Examples, real_examples, simulated_examples
from mmbroker.models.critic.exported import ExportedNetworks
from mmbroker.models.critic.measures import calibrate, measure, not_genuine
from mmbroker.models.critic.networks import NOISE
from mmbroker.models.critic.recipes import RECIPES, Recipe
from mmbroker.models.packaged import onnx_export
from mmbroker.models.packaged.cards import about
from mmbroker.models.packaged.networks import WEIGHTS
from mmbroker.models.real_data.folder import add_data_option
from mmbroker.models.real_data.split import TEST, VALIDATION
from mmbroker.processors.fingerprint import vector
from mmbroker.schemas import __version__

VERSION = 2
CURVES = "critic_curves.json"
SPLITS = ("train", "validation", "test")
SEED = 1
"""The seed of the draws and corruptions on which the critic is measured."""


def export(trainer: Trainer, folder: Path, examples: Examples) -> dict[str, str]:
    """Write critic.onnx and generator.onnx, check them against torch, and return their SHA-256.

    Args:
        trainer: the trained networks.
        folder: the folder to write to; made if it is missing.
        examples: examples on which the files are checked.

    Raises:
        RuntimeError: a network in ONNX differs from the one in torch.
    """
    folder.mkdir(parents=True, exist_ok=True)
    arrays = examples.vectors.values, examples.vectors.mask, examples.condition
    values, mask, condition = (torch.from_numpy(each) for each in arrays)
    noise = torch.randn(len(values), NOISE, generator=torch.Generator().manual_seed(0))
    of_critic = {"values": values, "mask": mask, "condition": condition}
    of_generator = {"noise": noise, "mask": mask, "condition": condition}
    critic, generator = folder / "critic.onnx", folder / "generator.onnx"
    return {
        "critic": onnx_export.export(trainer.critic, of_critic, ["critic"], critic),
        "generator": onnx_export.export(trainer.averaged, of_generator, ["values"], generator),
    }


def write_card(
    folder: Path,
    recipe: Recipe,
    genuine: Examples,
    hashes: dict[str, str],
    open_test: bool,
) -> dict[str, Any]:
    """Calibrate the critic, and write critic_calibration.json and the card critic.json.

    Args:
        folder: the folder with the networks, to which the files are written.
        recipe: how they were trained.
        genuine: examples of all splits.
        hashes: the SHA-256 of both networks.
        open_test: whether to measure on the test split as well.

    Returns:
        The card.
    """
    networks = ExportedNetworks(folder)
    calibrated = calibrate(networks, genuine.where(genuine.split == VALIDATION), recipe.seed)
    has_real = not genuine.simulated.all()
    card: dict[str, Any] = {
        "name": "critic",
        "version": VERSION,
        "sha256": hashes["critic"],
        "code_version": __version__,
        "inputs": {
            "values": [vector.LENGTH],
            "mask": [vector.LENGTH],
            "condition": [vector.REDSHIFT_CELLS],
        },
        "outputs": {"critic": [1]},
        "trained_on": (
            "simulated galaxies, then GOODS-N (Liu et al. 2018), COSMOS (Drew & Casey 2022) and "
            "SPT-SMG (Reuter et al. 2020) with simulated galaxies beside them"
            if has_real
            else "simulated galaxies alone"
        ),
        "counts": {
            f"{kind} {name}": int(
                ((genuine.split == number) & (genuine.simulated == (kind == "simulated"))).sum()
            )
            for kind in ("simulated", "real")
            for number, name in enumerate(SPLITS)
        },
        "recipe": asdict(recipe),
        "calibration_id": calibrated.calibration_id,
        "genuine_share_assumed": 0.5,
        **about("critic"),
    }
    for split in (VALIDATION, TEST) if open_test else (VALIDATION,):
        part = genuine.where(genuine.split == split)
        card[SPLITS[split]] = {
            name: measure(networks, calibrated, group, not_genuine(networks, group, SEED))
            for name, group in (
                ("simulated", part.where(part.simulated)),
                ("real", part.where(~part.simulated)),
            )
            if len(group)
        }
    (folder / "critic.json").write_text(json.dumps(card, indent=1) + "\n")
    (folder / "critic_calibration.json").write_text(calibrated.to_json())
    return card


def write_generator_card(folder: Path, critic: dict[str, Any], sha256: str) -> None:
    """Write generator.json, the card of the network that was trained with a critic.

    Args:
        folder: the folder to write to.
        critic: the card of the critic.
        sha256: the SHA-256 of the generator.
    """
    card = {
        "name": "generator",
        "version": critic["version"],
        "sha256": sha256,
        "code_version": critic["code_version"],
        "inputs": {
            "noise": [NOISE],
            "mask": [vector.LENGTH],
            "condition": [vector.REDSHIFT_CELLS],
        },
        "outputs": {"values": [vector.LENGTH]},
        "trained_on": critic["trained_on"],
        "recipe": critic["recipe"],
        **about("generator"),
    }
    (folder / "generator.json").write_text(json.dumps(card, indent=1) + "\n")


def write_curves(history: list[dict[str, float]], folder: Path) -> None:
    """Write the measurements of each epoch, rounded, to critic_curves.json.

    Args:
        history: the measurements.
        folder: the folder to write to.
    """
    rows = [{key: round(value, 4) for key, value in row.items()} for row in history]
    (folder / CURVES).write_text("[\n" + ",\n".join(map(json.dumps, rows)) + "\n]\n")


def train(
    recipe: Recipe,
    data: Path | None,
    folder: Path = WEIGHTS,
    checkpoint: Path | None = None,
    *,
    open_test: bool = False,
    at_most: int | None = None,
) -> dict[str, Any] | None:
    """Train, export, calibrate, and write the card.

    Args:
        recipe: how to train.
        data: the folder of the published tables; None to train on simulated galaxies alone.
        folder: the folder to write to.
        checkpoint: the file in which the state is kept, and from which training goes on if it
            exists.
        open_test: whether to measure on the test split as well.
        at_most: the most epochs to train now; None for all.

    Returns:
        The card; None if epochs are left.
    """
    torch.set_num_threads(1)
    genuine = simulated_examples(recipe.galaxies, recipe.seed)
    if data is not None:
        genuine = genuine + real_examples(data, recipe.seed)
    trainer = Trainer(recipe, genuine, checkpoint)
    trainer.run(at_most)
    if not trainer.finished:
        return None
    hashes = export(trainer, folder, genuine.where(genuine.split == VALIDATION))
    write_curves(trainer.history, folder)
    card = write_card(folder, recipe, genuine, hashes, open_test)
    write_generator_card(folder, card, hashes["generator"])
    return card


def main(arguments: list[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m mmbroker.models.critic.train",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_data_option(parser, without="simulated galaxies alone are trained on")
    parser.add_argument("--recipe", choices=list(RECIPES), default="full")
    parser.add_argument("--galaxies", type=int, help="simulated ones")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--output", type=Path, default=WEIGHTS, help="folder to write to")
    parser.add_argument("--checkpoint", type=Path, help="file to resume from")
    parser.add_argument("--at-most", type=int, metavar="EPOCHS", help="epochs to train now")
    parser.add_argument("--open-test", action="store_true", help="measure on the test split too")
    options = parser.parse_args(arguments)
    stated_too = {"galaxies": options.galaxies, "seed": options.seed}
    recipe = replace(
        RECIPES[options.recipe],
        **{name: value for name, value in stated_too.items() if value is not None},
    )
    started = time.monotonic()
    card = train(
        recipe,
        options.data,
        options.output,
        options.checkpoint,
        open_test=options.open_test,
        at_most=options.at_most,
    )
    if card is None:
        print(f"epochs are left; go on with --checkpoint {options.checkpoint}")
        return
    print(json.dumps(card, indent=1))
    print(f"trained on {card['trained_on']} in {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
