"""Runs the training: generator and critic against each other, then the critic alone.

Needs torch, and uses a GPU where there is one.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn

from mmbroker.models.critic.examples import Examples, balanced, corrupted
from mmbroker.models.critic.networks import NOISE, Critic, Generator, Normalisation, not_detected
from mmbroker.models.critic.recipes import Recipe
from mmbroker.models.critic.sample_quality import correlations, marginals, two_sample_area
from mmbroker.models.measures.discrimination import area_under_curve
from mmbroker.models.real_data.split import TRAIN, VALIDATION
from mmbroker.processors.fingerprint import vector
from mmbroker.schemas.events import Floats

Batch = tuple[Tensor, Tensor, Tensor]

_STATEFUL = (
    "critic",
    "generator",
    "averaged",
    "critic_optimiser",
    "generator_optimiser",
    "frozen_optimiser",
)
_KEPT = ("past", "history", "best_generator", "best_critic")


class Trainer:
    """The two networks, their optimisers, and the record of the training.

    Args:
        recipe: how to train. Without real examples, its real epochs use simulated ones too.
        genuine: examples of all splits; the networks learn only from the training split.
        checkpoint: the file in which the state is kept, and from which it goes on if it exists.

    Raises:
        ValueError: the checkpoint is of another recipe.
    """

    def __init__(self, recipe: Recipe, genuine: Examples, checkpoint: Path | None = None) -> None:
        torch.manual_seed(recipe.seed)
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.recipe = recipe
        self.random = np.random.default_rng(recipe.seed)
        training = genuine.where(genuine.split == TRAIN)
        self.simulated = training.where(training.simulated)
        real = training.where(~training.simulated)
        self.real = real.where(np.argsort(real.galaxy, kind="stable"))
        self.held_out = genuine.where(genuine.split == VALIDATION)
        known = self.real.complete if len(self.real) else self.simulated
        normalisation = Normalisation.of(training.complete.vectors, known.vectors)
        self.critic = Critic(normalisation).to(self.device)
        self.generator = Generator(normalisation).to(self.device)
        self.averaged = copy.deepcopy(self.generator).requires_grad_(False)
        self.past: list[dict[str, Tensor]] = []
        self.critic_optimiser = self._adam(self.critic)
        self.generator_optimiser = self._adam(self.generator)
        self.frozen_optimiser = torch.optim.AdamW(
            self.critic.parameters(),
            lr=recipe.frozen_learning_rate,
            weight_decay=recipe.weight_decay,
        )
        self.history: list[dict[str, float]] = []
        self.best_generator: tuple[float, dict[str, Tensor]] | None = None
        self.best_critic: tuple[float, dict[str, Tensor]] | None = None
        self.checkpoint = checkpoint
        if checkpoint is not None and checkpoint.exists():
            self._load(checkpoint)

    @property
    def finished(self) -> bool:
        """Whether all epochs are done."""
        return len(self.history) >= self.recipe.epochs

    def run(self, at_most: int | None = None) -> None:
        """Train the epochs that are left, and end with the networks that validated best.

        Args:
            at_most: the most epochs to train now. The rest can be trained later from the
                checkpoint.
        """
        recipe = self.recipe
        epochs = recipe.epochs
        if at_most is not None:
            epochs = min(epochs, len(self.history) + at_most)
        with _progress() as progress:
            task = progress.add_task("starting", total=epochs, completed=len(self.history))
            for epoch in range(len(self.history), epochs):
                last = epoch == epochs - 1
                if epoch < recipe.adversarial_epochs:
                    self._adversarial_epoch(epoch)
                else:
                    self._frozen_epoch(epoch - recipe.adversarial_epochs)
                if self.checkpoint and (last or (epoch + 1) % recipe.checkpoint_every == 0):
                    self._save(self.checkpoint)
                row = self.history[-1]
                progress.update(task, advance=1, description=f"distance {row['distance']:.3f}")
                if "auc_generated" in row:
                    found = ", ".join(f"{key} {value:.3f}" for key, value in row.items())
                    progress.console.print(f"epoch {epoch + 1}: {found}")
        if not self.finished:
            return
        if self.best_generator is not None:
            self.averaged.load_state_dict(self.best_generator[1])
        if self.best_critic is not None:
            self.critic.load_state_dict(self.best_critic[1])
        self.critic.eval()

    def generated(self, examples: Examples, seed: int = 0) -> Examples:
        """Draw with the averaged generator for the masks and conditions of the examples.

        Args:
            examples: the examples.
            seed: the seed of the noise.

        Returns:
            The same examples with drawn values.
        """
        random = torch.Generator().manual_seed(seed)
        noise = torch.randn(len(examples), NOISE, generator=random).to(self.device)
        _, mask, condition = self._tensors(examples)
        with torch.no_grad():
            values = self.averaged(noise, mask, condition).cpu().numpy()
        return examples.with_values(values)

    def outputs(self, examples: Examples) -> Floats:
        """The critic's outputs for N examples, float64, shape (N,).

        Args:
            examples: the examples.
        """
        training = self.critic.training
        self.critic.eval()
        with torch.no_grad():
            output = self.critic(*self._tensors(examples)).cpu().numpy()[:, 0]
        self.critic.train(training)
        return np.asarray(output, np.float64)

    def _adversarial_epoch(self, epoch: int) -> None:
        recipe = self.recipe
        with_real = epoch >= recipe.simulated_epochs and len(self.real) > 0
        rate = recipe.learning_rate * (1 - epoch / recipe.adversarial_epochs)
        _set_rate(rate, self.critic_optimiser, self.generator_optimiser)
        self.critic.dropout.p = recipe.adversarial_dropout
        rows = []
        simulated_share = recipe.simulated_share if with_real else 1.0
        for step, (genuine, wrong) in enumerate(self._batches(simulated_share)):
            rows.append(self._critic_step(genuine, wrong))
            if step % recipe.critic_steps == 0:
                self._generator_step(genuine)
        done = epoch + 1
        self._remember(rows, measured=done % recipe.measured_every == 0)
        row = self.history[-1]
        found = row.get("two_sample", np.inf)
        if done > recipe.simulated_epochs and (
            self.best_generator is None or found < self.best_generator[0]
        ):
            self.best_generator = (found, _copied(self.averaged))
        if recipe.past_generators:
            every = max(recipe.adversarial_epochs // (2 * recipe.past_generators), 1)
            if 2 * done > recipe.adversarial_epochs and done % every == 0:
                self.past = [*self.past, _copied(self.averaged)][-recipe.past_generators :]

    def _frozen_epoch(self, frozen: int) -> None:
        recipe = self.recipe
        if frozen == 0 and self.best_generator is not None:
            self.averaged.load_state_dict(self.best_generator[1])
        first, further = recipe.frozen_epochs, recipe.further_epochs
        left = 1 - frozen / first if frozen < first else 1 - (frozen - first) / further
        _set_rate(recipe.frozen_learning_rate * left, self.frozen_optimiser)
        self.critic.dropout.p = recipe.dropout
        generators = [self.averaged]
        for state in self.past:
            generators.append(copy.deepcopy(self.averaged))
            generators[-1].load_state_dict(state)
        rows = []
        for step, (genuine, wrong) in enumerate(self._batches(0.5 if len(self.real) else 1.0)):
            # Every other batch is drawn by the last generator.
            chosen = (
                generators[self.random.integers(len(generators))] if step % 2 else self.averaged
            )
            rows.append(self._frozen_step(chosen, genuine, wrong))
        every = max(recipe.frozen_epochs // 40, 1)
        self._remember(rows, measured=(frozen + 1) % every == 0)
        row = self.history[-1]
        if "auc_generated" in row:
            merit = row["auc_generated"] + row["auc_corrupted"]
            if self.best_critic is None or merit > self.best_critic[0]:
                self.best_critic = (merit, _copied(self.critic))

    def _batches(self, simulated_share: float) -> Iterator[tuple[Batch, Batch]]:
        """Make the batches of an epoch: genuine examples, and the same corrupted.

        An epoch passes once over the real galaxies, or over the simulated ones if it has no real
        ones.

        Args:
            simulated_share: the share of simulated examples in a batch; the rest is real.
        """
        simulated = round(simulated_share * self.recipe.batch)
        sizes = [self.recipe.batch - simulated, simulated]
        kinds = [self._one_of_each(self.real) if sizes[0] else self.real, self.simulated]
        groups = [(kind, size) for kind, size in zip(kinds, sizes, strict=True) if size]
        steps = max(len(groups[0][0]) // groups[0][1], 1)
        shown = []
        for group, size in groups:
            # Simulated galaxies beside real ones are different ones in each epoch.
            order = self.random.permutation(len(group))[: steps * size]
            genuine = group.where(order)
            pair = genuine, corrupted(genuine, self.random)[0]
            shown.append((size, [self._tensors(each) for each in pair]))

        def batch(which: int, step: int) -> Batch:
            values, mask, condition = (
                torch.cat(
                    [pair[which][field][step * size : (step + 1) * size] for size, pair in shown]
                )
                for field in range(3)
            )
            return values, mask, condition

        for step in range(steps):
            yield batch(0, step), batch(1, step)

    def _one_of_each(self, examples: Examples) -> Examples:
        """Choose one example of each galaxy at random; the examples must be in order of galaxy."""
        _, first, count = np.unique(examples.galaxy, return_index=True, return_counts=True)
        return examples.where(first + self.random.integers(count))

    def _critic_step(self, genuine: Batch, wrong: Batch) -> dict[str, float]:
        values, mask, condition = genuine
        fake = self._draw(self.generator, mask, condition)
        shown = mask * self._left(mask)
        together = (
            torch.cat([values, fake, wrong[0]]),
            torch.cat([shown, shown, wrong[1] * self._left(wrong[1])]),
            torch.cat([condition, condition, wrong[2]]),
        )
        genuine_output, fake_output, wrong_output = self.critic(*together).chunk(3)
        distance = (genuine_output - fake_output).mean()
        share = torch.rand(len(values), 1, device=self.device)
        between = share * values + (1 - share) * fake
        absent = share * not_detected(values) + (1 - share) * not_detected(fake)
        steepness = self.critic.steepness(between, shown, condition, absent)
        penalty = ((steepness - 1) ** 2).mean()
        # Every genuine one should stand above every corrupted one of the batch.
        ranking = nn.functional.softplus(wrong_output - genuine_output.T).mean()
        recipe = self.recipe
        loss = recipe.gradient_penalty * penalty + recipe.ranking_weight * ranking - distance
        _step(self.critic_optimiser, loss)
        return {
            "distance": distance.item(),
            "gradient_norm": steepness.mean().item(),
            "loss": loss.item(),
        }

    def _generator_step(self, genuine: Batch) -> None:
        _, mask, condition = genuine
        noise = torch.randn(len(mask), NOISE, device=self.device)
        fake, absent = self.generator.drawn(noise, mask, condition)
        shown = mask * self._left(mask)
        self.critic.requires_grad_(False)
        _step(self.generator_optimiser, -self.critic(fake, shown, condition, absent).mean())
        self.critic.requires_grad_(True)
        weight = 1 - self.recipe.averaging
        with torch.no_grad():
            torch._foreach_lerp_(
                list(self.averaged.parameters()), list(self.generator.parameters()), weight
            )

    def _frozen_step(self, generator: Generator, genuine: Batch, wrong: Batch) -> dict[str, float]:
        # No generator learns from the distance any more: what counts is telling them apart.
        values, mask, condition = genuine
        fake = self._draw(generator, mask, condition)
        genuine_output = self.critic(values, mask, condition)
        fake_output = self.critic(fake, mask, condition)
        loss = sum(
            nn.functional.softplus(other - genuine_output.T).mean()
            for other in (fake_output, self.critic(*wrong))
        )
        _step(self.frozen_optimiser, loss)
        distance = (genuine_output - fake_output).mean()
        return {"distance": distance.item(), "loss": loss.item()}

    def _left(self, mask: Tensor) -> Tensor:
        """Draw which fluxes of each fingerprint the critic is shown: 1 for these and 0 for others.

        Genuine and drawn fingerprints lack the same ones, each time different ones (Zhao et al.
        2020, arXiv:2006.10738). So the critic cannot learn galaxies by heart, and the generator is
        judged by parts too.
        """
        left = torch.ones_like(mask)
        hidden = self.recipe.hidden * torch.rand(len(mask), 1, device=self.device)
        shape = (len(mask), vector.BROADBAND.stop)
        left[:, vector.BROADBAND] = (torch.rand(shape, device=self.device) >= hidden).to(mask.dtype)
        return left

    def _draw(self, generator: Generator, mask: Tensor, condition: Tensor) -> Tensor:
        with torch.no_grad():
            noise = torch.randn(len(mask), NOISE, device=self.device)
            drawn: Tensor = generator(noise, mask, condition)
        return drawn

    def _remember(self, rows: list[dict[str, float]], measured: bool) -> None:
        row = {key: float(np.mean([each[key] for each in rows])) for key in rows[0]}
        self.history.append({**row, **(self._measured() if measured else {})})

    def _measured(self) -> dict[str, float]:
        """The figures of critic and samples on the validation split, always with the same seed."""
        shown = balanced(self.held_out)
        genuine = self.outputs(shown)
        wrong = corrupted(shown, np.random.default_rng(0))[0]
        found = {
            "auc_generated": area_under_curve(genuine, self.outputs(self.generated(shown))),
            "auc_corrupted": area_under_curve(genuine, self.outputs(wrong)),
        }
        if len(self.history) >= self.recipe.adversarial_epochs:
            return found  # The generator has not changed.
        learnt, unseen = self.simulated, self.held_out
        if len(self.real):
            learnt, unseen = self.real, unseen.where(~unseen.simulated)
        learnt, unseen = learnt.complete, unseen.complete
        drawn = self.generated(unseen)
        return {
            **found,
            "marginals": marginals(unseen, drawn),
            "correlations": correlations(unseen, drawn),
            "two_sample": two_sample_area(
                (learnt, self.generated(learnt, 1)), (unseen, drawn), rounds=100
            ),
        }

    def _adam(self, network: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.Adam(
            network.parameters(), lr=self.recipe.learning_rate, betas=(0.0, 0.9), fused=True
        )

    def _tensors(self, examples: Examples) -> Batch:
        arrays = examples.vectors.values, examples.vectors.mask, examples.condition
        values, mask, condition = (torch.from_numpy(each).to(self.device) for each in arrays)
        return values, mask, condition

    def _save(self, path: Path) -> None:
        state = {name: getattr(self, name).state_dict() for name in _STATEFUL}
        state |= {name: getattr(self, name) for name in _KEPT}
        state["recipe"] = asdict(self.recipe)
        state["random"] = self.random.bit_generator.state
        state["torch"] = torch.get_rng_state()
        if self.device.type == "cuda":
            state["cuda"] = torch.cuda.get_rng_state()
        partial = path.with_suffix(".part")
        torch.save(state, partial)
        partial.replace(path)

    def _load(self, path: Path) -> None:
        state: dict[str, Any] = torch.load(path, weights_only=False, map_location=self.device)
        if state["recipe"] != asdict(self.recipe):
            raise ValueError(f"{path} is of another recipe: {state['recipe']}")
        for name in _STATEFUL:
            getattr(self, name).load_state_dict(state[name])
        for name in _KEPT:
            setattr(self, name, state[name])
        self.random.bit_generator.state = state["random"]
        torch.set_rng_state(state["torch"].cpu())
        if self.device.type == "cuda":
            torch.cuda.set_rng_state(state["cuda"].cpu())


def _copied(network: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in network.state_dict().items()}


def _set_rate(rate: float, *optimisers: torch.optim.Optimizer) -> None:
    for optimiser in optimisers:
        for group in optimiser.param_groups:
            group["lr"] = rate


def _step(optimiser: torch.optim.Optimizer, loss: Tensor) -> None:
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()


@contextmanager
def _progress() -> Iterator[Progress]:
    with Progress(
        BarColumn(), MofNCompleteColumn(), TextColumn("epochs, {task.description}"),
        TimeRemainingColumn(),
    ) as progress:  # fmt: skip
        yield progress
