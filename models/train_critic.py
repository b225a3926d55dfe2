"""Train the conditional WGAN-GP on fingerprints, calibrate its critic, and write what it is.

    python -m models.train_critic --data FOLDER

The critic learns to tell genuine fingerprints from generated ones (Wasserstein loss with gradient
penalty, Gulrajani et al. 2017, arXiv:1704.00028) and from corrupted ones (negative data
augmentation, Sinha et al., ICLR 2021): first on simulated galaxies, then on real ones
with simulated ones beside them. Without real tables it is trained on simulated galaxies alone, and
its card says so. Needs torch, onnx and onnxruntime.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from processors import calibration, vector
from processors.calibration import Calibration
from processors.vector import Float32
from schemas import __version__
from schemas.events import Floats

from . import onnx_export
from .networks import NOISE, Critic, Generator, Normalisation
from .training_data import (
    CORRUPTIONS,
    TEST,
    TRAIN,
    VALIDATION,
    Examples,
    corrupted,
    real_examples,
    simulated_examples,
)

WEIGHTS = Path(__file__).with_name("weights")
DATA_VARIABLE = "MMBROKER_DATA"
INPUTS = ("values", "mask", "condition")

Batch = tuple[Tensor, Tensor, Tensor]


@dataclass(frozen=True, slots=True)
class Recipe:
    """How to train.

    Args:
        galaxies: simulated galaxies.
        simulated_epochs: passes over the simulated training split.
        real_epochs: passes over the real training split, half of each batch being simulated.
        frozen_epochs: further passes in which the generator stays as it is and the critic comes as
            near to its optimum as it can.
        seed: of everything random.
        batch: examples a step.
        critic_steps: steps of the critic for one of the generator.
        gradient_penalty: weight of the penalty.
        frozen_gradient_penalty: the same once the generator is frozen and the critic only ranks.
        ranking_weight: weight of ranking genuine ones above corrupted ones; small, so that the
            distance goes on leading the generator.
        learning_rate: of Adam, for both networks.
        frozen_learning_rate: of Adam for the critic once the generator is frozen; it falls to 0.
    """

    galaxies: int = 12_000
    simulated_epochs: int = 20
    real_epochs: int = 30
    frozen_epochs: int = 60
    seed: int = 20
    batch: int = 64
    critic_steps: int = 3
    gradient_penalty: float = 3.0
    ranking_weight: float = 2.0
    frozen_gradient_penalty: float = 0.1
    learning_rate: float = 5e-4
    frozen_learning_rate: float = 1e-3


class Trainer:
    """The two networks, their optimisers, and what is remembered of the training.

    Args:
        recipe: how to train.
        genuine: examples; only the training split is learnt from.
        checkpoint: where the state is kept after each epoch, and taken up from if it exists.
    """

    def __init__(self, recipe: Recipe, genuine: Examples, checkpoint: Path | None = None) -> None:
        torch.manual_seed(recipe.seed)
        self.recipe = recipe
        self.random = np.random.default_rng(recipe.seed)
        training = genuine.where(genuine.split == TRAIN)
        normalisation = Normalisation.of(training.vectors)
        self.critic, self.generator = Critic(normalisation), Generator(normalisation)
        self.optimisers = [
            torch.optim.Adam(network.parameters(), lr=recipe.learning_rate, betas=(0.0, 0.9))
            for network in (self.critic, self.generator)
        ]
        self.simulated = training.where(training.simulated)
        self.real = training.where(~training.simulated)
        self.validation = genuine.where(genuine.split == VALIDATION)
        self.history: list[dict[str, float]] = []
        self.best: tuple[float, dict[str, Any]] | None = None
        self.checkpoint = checkpoint
        if checkpoint is not None and checkpoint.exists():
            self._load(checkpoint)

    def run(self) -> None:
        """Train all epochs that are left, and end with the critic that validated best."""
        recipe = self.recipe
        adversarial = recipe.simulated_epochs + (recipe.real_epochs if len(self.real) else 0)
        for epoch in range(len(self.history), adversarial + recipe.frozen_epochs):
            frozen = epoch - adversarial
            if frozen >= 0:
                for group in self.optimisers[0].param_groups:
                    group["lr"] = recipe.frozen_learning_rate * (1 - frozen / recipe.frozen_epochs)
            with_real = bool(len(self.real)) and epoch >= recipe.simulated_epochs
            self._epoch(with_real, frozen=frozen >= 0)
            if self.checkpoint is not None:
                self._save(self.checkpoint)
        if self.best is not None:
            self.critic.load_state_dict(self.best[1])

    def generated(self, examples: Examples) -> Examples:
        """Generated vectors with the masks and conditions of the examples."""
        _, mask, condition = _tensors(examples)
        with torch.no_grad():
            values = self.generator(torch.randn(len(mask), NOISE), mask, condition).numpy()
        vectors = vector.FingerprintVectors(values, examples.vectors.mask)
        return Examples(vectors, examples.condition, examples.split, examples.simulated)

    def not_genuine(self, examples: Examples) -> Floats:
        """Outputs for as many that are generated or corrupted, alternately."""
        generated = self.outputs(self.generated(examples))
        wrong = self.outputs(corrupted(examples, np.random.default_rng(self.recipe.seed))[0])
        return np.where(np.arange(len(examples)) % 2, generated, wrong)

    def outputs(self, examples: Examples) -> Floats:
        """The critic's outputs, float64, shape (N,)."""
        with torch.no_grad():
            return np.asarray(self.critic(*_tensors(examples)).numpy()[:, 0], np.float64)

    def _epoch(self, with_real: bool, frozen: bool) -> None:
        recipe = self.recipe
        main, beside = (self.real, self.simulated) if with_real else (self.simulated, None)
        size = recipe.batch if beside is None else recipe.batch // 2
        losses, distances = [], []
        order = self.random.permutation(len(main))
        wrong_main = corrupted(main, self.random)[0]
        wrong_beside = None if beside is None else corrupted(beside, self.random)[0]
        for step in range(len(main) // size):
            chosen = order[step * size : (step + 1) * size]
            genuine, wrong = main.where(chosen), wrong_main.where(chosen)
            if beside is not None and wrong_beside is not None:
                extra = self.random.integers(len(beside), size=size)
                genuine, wrong = genuine + beside.where(extra), wrong + wrong_beside.where(extra)
            distance, loss = self._critic_step(_tensors(genuine), _tensors(wrong), frozen)
            distances.append(distance)
            losses.append(loss)
            if not frozen and step % recipe.critic_steps == 0:
                self._generator_step(_tensors(genuine))
        self._validate(float(np.mean(distances)), float(np.mean(losses)), frozen)

    def _critic_step(self, genuine: Batch, wrong: Batch, frozen: bool) -> tuple[float, float]:
        values, mask, condition = genuine
        with torch.no_grad():
            fake = self.generator(torch.randn(len(values), NOISE), mask, condition)
        genuine_output = self.critic(*genuine)
        fake_output = self.critic(fake, mask, condition)
        distance = (genuine_output - fake_output).mean()
        share = torch.rand(len(values), 1)
        between = (share * values + (1 - share) * fake).requires_grad_()
        output = self.critic(between, mask, condition).sum()
        (slope,) = torch.autograd.grad(output, between, create_graph=True)
        # In units of each element's scatter, in which the critic sees it.
        square = ((slope * self.critic.scatter) ** 2).sum(dim=1)
        # A root has no slope at zero.
        steepness = (square + 1e-12).sqrt()
        penalty = ((steepness - 1) ** 2).mean()
        # Every genuine one should stand above every corrupted one of the batch.
        ranking = nn.functional.softplus(self.critic(*wrong) - genuine_output.T).mean()
        if frozen:
            # No generator is left to be led by the distance: what counts is telling them apart.
            ranking = ranking + nn.functional.softplus(fake_output - genuine_output.T).mean()
            loss = ranking + self.recipe.frozen_gradient_penalty * penalty
        else:
            loss = (
                self.recipe.gradient_penalty * penalty
                + self.recipe.ranking_weight * ranking
                - distance
            )
        self._step(self.optimisers[0], loss)
        return float(distance.detach()), float(loss.detach())

    def _generator_step(self, genuine: Batch) -> None:
        _, mask, condition = genuine
        fake = self.generator(torch.randn(len(mask), NOISE), mask, condition)
        self._step(self.optimisers[1], -self.critic(fake, mask, condition).mean())

    @staticmethod
    def _step(optimiser: torch.optim.Optimizer, loss: Tensor) -> None:
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()

    def _validate(self, distance: float, loss: float, frozen: bool) -> None:
        """Remember how well the critic does on the validation split, and the best frozen one."""
        random = np.random.default_rng(0)
        shown = self.validation
        if not shown.simulated.all():
            shown = _balanced(shown)
        genuine = self.outputs(shown)
        generated = self.outputs(self.generated(shown))
        wrong = self.outputs(corrupted(shown, random)[0])
        row = {
            "distance": distance,
            "loss": loss,
            "auc_generated": area_under_curve(genuine, generated),
            "auc_corrupted": area_under_curve(genuine, wrong),
        }
        self.history.append(row)
        merit = row["auc_generated"] + row["auc_corrupted"]
        if frozen and (self.best is None or merit > self.best[0]):
            copied = {name: value.clone() for name, value in self.critic.state_dict().items()}
            self.best = (merit, copied)

    def _save(self, path: Path) -> None:
        state = {
            "critic": self.critic.state_dict(),
            "generator": self.generator.state_dict(),
            "optimisers": [each.state_dict() for each in self.optimisers],
            "torch": torch.get_rng_state(),
            "random": self.random.bit_generator.state,
            "history": self.history,
            "best": self.best,
        }
        torch.save(state, path.with_suffix(".part"))
        path.with_suffix(".part").replace(path)

    def _load(self, path: Path) -> None:
        state = torch.load(path, weights_only=False)
        self.critic.load_state_dict(state["critic"])
        self.generator.load_state_dict(state["generator"])
        for optimiser, saved in zip(self.optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(saved)
        torch.set_rng_state(state["torch"])
        self.random.bit_generator.state = state["random"]
        self.history, self.best = state["history"], state["best"]


def area_under_curve(positive: Floats, negative: Floats) -> float:
    """Probability that a positive case has the higher output, ties counting half."""
    ordered = np.sort(negative)
    below = np.searchsorted(ordered, positive, side="left")
    not_above = np.searchsorted(ordered, positive, side="right")
    return float((below + not_above).mean() / 2 / len(negative))


def calibrate(trainer: Trainer, genuine: Examples) -> Calibration:
    """Calibrate on the validation split: of two fingerprints one is genuine.

    What is not genuine is generated or corrupted, half of each. With real galaxies, they and
    simulated ones count the same.
    """
    shown = _balanced(genuine.where(genuine.split == VALIDATION))
    good, wrong = trainer.outputs(shown), trainer.not_genuine(shown)
    labels = np.concatenate([np.ones(len(good), bool), np.zeros(len(wrong), bool)])
    return calibration.fit(np.concatenate([good, wrong]), labels)


def report(trainer: Trainer, calibrated: Calibration, genuine: Examples) -> dict[str, Any]:
    """The metrics on one group of examples of the test split.

    The calibrated critic calls genuine what has a probability of at least one half.
    """
    good = trainer.outputs(genuine)
    generated = trainer.outputs(trainer.generated(genuine))
    wrong, kind = corrupted(genuine, np.random.default_rng(1))
    wrong_outputs = trainer.outputs(wrong)

    def called_genuine(outputs: Floats) -> float:
        return round(float((calibrated.apply(outputs) >= 0.5).mean()), 4)

    probability = calibrated.apply(np.concatenate([good, trainer.not_genuine(genuine)]))
    label = np.concatenate([np.ones(len(good)), np.zeros(len(good))])
    return {
        "examples": len(genuine),
        "auc_generated": round(area_under_curve(good, generated), 4),
        "auc_corrupted": round(area_under_curve(good, wrong_outputs), 4),
        "auc_by_corruption": {
            name: round(area_under_curve(good, wrong_outputs[kind == number]), 4)
            for number, name in enumerate(CORRUPTIONS)
        },
        "genuine_called_genuine": called_genuine(good),
        "false_positive_rate_generated": called_genuine(generated),
        "false_positive_rate_corrupted": called_genuine(wrong_outputs),
        "calibration_error": round(_calibration_error(probability, label), 4),
    }


def export(trainer: Trainer, folder: Path, examples: Examples) -> dict[str, str]:
    """Write critic.onnx and generator.onnx, check them against torch, and return their SHA-256.

    Raises:
        RuntimeError: a network in ONNX differs from the one in torch.
    """
    folder.mkdir(parents=True, exist_ok=True)
    values, mask, condition = _tensors(examples)
    noise = torch.randn(len(values), NOISE)
    hashes = {}
    networks: list[tuple[str, torch.nn.Module, dict[str, Tensor], str]] = [
        (
            "critic",
            trainer.critic,
            {"values": values, "mask": mask, "condition": condition},
            "critic",
        ),
        (
            "generator",
            trainer.generator,
            {"noise": noise, "mask": mask, "condition": condition},
            "values",
        ),
    ]
    for name, network, inputs, output in networks:
        hashes[name] = onnx_export.export(network, inputs, [output], folder / f"{name}.onnx")
    return hashes


def write_card(
    folder: Path, trainer: Trainer, calibrated: Calibration, genuine: Examples, sha256: str
) -> dict[str, Any]:
    """Write critic.json, the model card, and critic_calibration.json; return the card."""
    test = genuine.where(genuine.split == TEST)
    groups = {"simulated": test.where(test.simulated), "real": test.where(~test.simulated)}
    has_real = bool(len(trainer.real))
    card: dict[str, Any] = {
        "name": "critic",
        "sha256": sha256,
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
            f"{kind} {split}": int(
                ((genuine.split == number) & (genuine.simulated == (kind == "simulated"))).sum()
            )
            for kind in groups
            for number, split in enumerate(("train", "validation", "test"))
        },
        "recipe": asdict(trainer.recipe),
        "calibration_id": calibrated.calibration_id,
        "genuine_share_assumed": 0.5,
        "test": {
            name: report(trainer, calibrated, group) for name, group in groups.items() if len(group)
        },
    }
    (folder / "critic.json").write_text(json.dumps(card, indent=1) + "\n")
    (folder / "critic_calibration.json").write_text(calibrated.to_json())
    return card


def write_generator_card(folder: Path, critic: dict[str, Any], sha256: str) -> None:
    """Write generator.json, the card of the network that was trained with a critic."""
    card = {
        "name": "generator",
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
    }
    (folder / "generator.json").write_text(json.dumps(card, indent=1) + "\n")


def draw_curves(history: list[dict[str, float]], path: Path) -> None:
    """Draw the critic's distance and its areas under the curve against the epoch."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 6), layout="constrained")
    above, below = figure.subplots(2, sharex=True)
    above.plot([row["distance"] for row in history], color="k", lw=1)
    above.set_ylabel("critic: genuine − not genuine (training)")
    for key, label in (("auc_generated", "generated"), ("auc_corrupted", "corrupted")):
        below.plot([row[key] for row in history], label=f"genuine against {label}", lw=1)
    below.axhline(0.5, color="0.7", lw=1)
    below.set(xlabel="epoch", ylabel="area under curve (validation)")
    below.legend()
    figure.savefig(path, dpi=120)


def train(
    recipe: Recipe,
    data: Path | None,
    folder: Path = WEIGHTS,
    curves: Path | None = None,
    checkpoint: Path | None = None,
) -> dict[str, Any]:
    """Train, calibrate, export, and write the card, which is returned."""
    torch.set_num_threads(1)
    genuine = simulated_examples(recipe.galaxies, recipe.seed)
    if data is not None:
        genuine = genuine + real_examples(data, recipe.seed)
    trainer = Trainer(recipe, genuine, checkpoint)
    trainer.run()
    calibrated = calibrate(trainer, genuine)
    hashes = export(trainer, folder, genuine.where(genuine.split == TEST))
    if curves is not None:
        draw_curves(trainer.history, curves)
    card = write_card(folder, trainer, calibrated, genuine, hashes["critic"])
    write_generator_card(folder, card, hashes["generator"])
    return card


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m models.train_critic",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    standard = Recipe()
    stated = os.environ.get(DATA_VARIABLE)
    parser.add_argument(
        "--data",
        type=Path,
        default=Path(stated) if stated else None,
        help=f"folder of the real tables; default ${DATA_VARIABLE}",
    )
    parser.add_argument("--galaxies", type=int, default=standard.galaxies, help="simulated ones")
    parser.add_argument("--epochs", type=int, default=standard.simulated_epochs)
    parser.add_argument("--real-epochs", type=int, default=standard.real_epochs)
    parser.add_argument("--frozen-epochs", type=int, default=standard.frozen_epochs)
    parser.add_argument("--seed", type=int, default=standard.seed)
    parser.add_argument("--output", type=Path, default=WEIGHTS, help="folder to write to")
    parser.add_argument("--curves", type=Path, help="PNG of the training curves")
    parser.add_argument("--checkpoint", type=Path, help="file to resume from")
    options = parser.parse_args(arguments)
    recipe = Recipe(
        galaxies=options.galaxies,
        simulated_epochs=options.epochs,
        real_epochs=options.real_epochs,
        frozen_epochs=options.frozen_epochs,
        seed=options.seed,
    )
    started = time.monotonic()
    card = train(recipe, options.data, options.output, options.curves, options.checkpoint)
    print(json.dumps(card, indent=1))
    print(f"trained on {card['trained_on']} in {time.monotonic() - started:.0f} s")


def _tensors(examples: Examples) -> Batch:
    arrays: tuple[Float32, ...] = (
        examples.vectors.values,
        examples.vectors.mask,
        examples.condition,
    )
    values, mask, condition = (torch.from_numpy(np.ascontiguousarray(each)) for each in arrays)
    return values, mask, condition


def _balanced(examples: Examples) -> Examples:
    """As many simulated as real examples, or all where there are only simulated ones."""
    real = np.flatnonzero(~examples.simulated)
    simulated = np.flatnonzero(examples.simulated)
    if not len(real):
        return examples
    count = min(len(real), len(simulated))
    return examples.where(np.concatenate([real[:count], simulated[:count]]))


def _calibration_error(probability: Floats, label: Floats) -> float:
    """Mean difference between probability and share of genuine ones in ten bins of probability."""
    place: NDArray[np.int64] = np.minimum((probability * 10).astype(np.int64), 9)
    counts = np.bincount(place, minlength=10)
    difference = np.bincount(place, probability, 10) - np.bincount(place, label, 10)
    return float(np.abs(difference).sum() / counts.sum())


if __name__ == "__main__":
    main()
