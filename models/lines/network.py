"""Recovers lines by a network, the candidate that was not chosen. Needs torch.

The encoder turns what is known of a galaxy into a few latent numbers. The generator makes all lines
from them, each with a mean and a scatter, as the DGAN of the source does through its encoder. The
network is trained on simulated galaxies, then on real ones, with a random part of what is known
hidden each time.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mmbroker.models.lines.distribution import Table, mean_prior
from mmbroker.models.real_data.line_tables import LineSample
from mmbroker.models.simulation.line_emission import LINE_NAMES
from mmbroker.models.simulation.population import simulate_population
from mmbroker.processors.lines.joint import (
    INFRARED,
    QUANTITIES,
    LinePosterior,
    LineRecovery,
    evolution,
    log_luminosity_per_flux,
)
from mmbroker.processors.lines.measure import LINES

Array = NDArray[np.float64]

_COUNT = len(QUANTITIES)


@dataclass(frozen=True, slots=True)
class Recipe:
    """How the networks are trained.

    Attributes:
        members: the number of members of the ensemble.
        simulated: the number of simulated galaxies.
        simulated_epochs: the epochs over simulated galaxies.
        epochs: the epochs over real galaxies.
        latent: the number of latent numbers.
        width: the width of the layers.
        seed: the seed of everything random.
    """

    members: int = 3
    simulated: int = 20_000
    simulated_epochs: int = 4
    epochs: int = 120
    latent: int = 4
    width: int = 48
    seed: int = 0


class EncoderGenerator(nn.Module):
    """Predicts mean and ln of the scatter of each quantity, from what is known of a galaxy.

    Args:
        recipe: says the sizes.
    """

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Linear(3 * _COUNT + 1, recipe.width),
            nn.SiLU(),
            nn.Linear(recipe.width, recipe.latent),
        )
        self.generator = nn.Sequential(
            nn.Linear(recipe.latent + 1 + _COUNT, recipe.width),
            nn.SiLU(),
            nn.Dropout(0.1),
            nn.Linear(recipe.width, 2 * _COUNT),
        )

    def forward(
        self, value: Tensor, error: Tensor, mask: Tensor, stage: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Predict the quantities of N galaxies.

        Args:
            value: log10 of the luminosities over those of the reference, float32, shape
                (N, QUANTITIES).
            error: their errors in dex, float32, shape (N, QUANTITIES).
            mask: 1 where a quantity is known, else 0; float32, shape (N, QUANTITIES).
            stage: the ``evolution``, float32, shape (N, 1).

        Returns:
            The means in dex over the reference, and the ln of the scatters in dex; float32, shape
            (N, QUANTITIES) each.
        """
        count = mask.sum(dim=1, keepdim=True).clamp(min=1.0)
        # The mean luminosity is subtracted and added again, so that only ratios are learnt.
        level = (value * mask).sum(dim=1, keepdim=True) / count
        relative = (value - level) * mask
        latent = self.encoder(torch.cat([relative, error * mask, mask, stage], dim=1))
        made = self.generator(torch.cat([latent, stage, mask], dim=1))
        mean, log_scatter = made.chunk(2, dim=1)
        return level + mean, (log_scatter - 1.6).clamp(-3.5, 1.0)


def _tensors(table: Table) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    seen = np.isfinite(table.value)
    reference = mean_prior()[0][:_COUNT]
    value = np.where(seen, table.value - reference, 0.0)
    error = np.where(seen, table.error, 0.0)
    arrays = (value, error, seen.astype(float), table.stage[:, None])
    first, second, third, last = (torch.tensor(each, dtype=torch.float32) for each in arrays)
    return first, second, third, last


def simulated_table(galaxies: int, seed: int) -> Table:
    """Simulate galaxies, with noise of 0.05 dex.

    Args:
        galaxies: the number of galaxies.
        seed: the seed of the simulation.
    """
    random = np.random.default_rng(seed)
    made = simulate_population(galaxies, seed)
    redshift = np.asarray(made.redshift, np.float64)
    flux = made.line_flux_jy_km_s[:, [LINE_NAMES.index(name) for name in LINES]]
    lines = np.log10(flux) + log_luminosity_per_flux(redshift)
    infrared = made.log_luminosity + np.log10(made.magnification)
    value = np.column_stack([lines, infrared])
    noise = 0.05
    value = value + noise * random.standard_normal(value.shape)
    return Table(value, np.full(value.shape, noise), evolution(redshift))


def train(table: Table, epochs: int, network: EncoderGenerator, rate: float, hidden: float) -> None:
    """Train to predict the hidden part of what is known from the rest, by maximum likelihood.

    Args:
        table: the galaxies; those with a single quantity do not count.
        epochs: the number of epochs.
        network: the network, which is changed.
        rate: the highest learning rate; it falls to 0.
        hidden: the share of quantities that is hidden. At least one is hidden, and one is not.
    """
    value, error, mask, stage = _tensors(table)
    rows = torch.nonzero(mask.sum(dim=1) > 1)[:, 0]
    optimiser = torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, epochs)
    network.train()
    for _ in range(epochs):
        for batch in rows[torch.randperm(len(rows))].split(64):
            seen = mask[batch]
            # At least one is hidden and one is not.
            order = torch.rand(seen.shape) * seen - (1 - seen)
            first, last = order.argmax(dim=1), (order + 2 * (1 - seen)).argmin(dim=1)
            given = seen * (torch.rand(seen.shape) > hidden)
            given[torch.arange(len(batch)), first] = 1.0
            given[torch.arange(len(batch)), last] = 0.0
            mean, log_scatter = network(value[batch], error[batch], given, stage[batch])
            variance = (2 * log_scatter).exp() + error[batch] ** 2
            loss = torch.log(variance) + (value[batch] - mean) ** 2 / variance
            target = seen - given
            optimiser.zero_grad()
            ((loss * target).sum() / target.sum()).backward()
            optimiser.step()
        schedule.step()
    network.eval()


class NetworkLineRecovery(LineRecovery):
    """Recovers lines with an ensemble, behind the interface of ``LineRecovery``.

    Args:
        members: the trained networks.
    """

    def __init__(self, members: list[EncoderGenerator]) -> None:
        self._members = members

    def recover(
        self,
        redshift: Array,
        flux_jy_km_s: Array,
        error_jy_km_s: Array,
        log_infrared: Array,
        infrared_error_dex: Array,
    ) -> LinePosterior:
        """Recover lines; see ``LineRecovery``."""
        none = tuple("" for _ in redshift)
        split = np.zeros(len(redshift), np.int64)
        sample = LineSample(
            none, redshift, flux_jy_km_s, error_jy_km_s, log_infrared, infrared_error_dex, split
        )
        reference = mean_prior()[0][:_COUNT]
        with torch.no_grad():
            made = [each(*_tensors(Table.of(sample))) for each in self._members]
        mean = np.stack([one.numpy() for one, _ in made]).astype(float) + reference
        variance = np.stack([(2 * one).exp().numpy() for _, one in made]).astype(float)
        total = variance.mean(axis=0) + mean.var(axis=0)
        value, spread = mean.mean(axis=0)[:, :INFRARED], np.sqrt(total)[:, :INFRARED]
        flux = 10 ** (value - log_luminosity_per_flux(redshift))
        known = np.isfinite(error_jy_km_s).any(axis=1) | np.isfinite(infrared_error_dex)
        return LinePosterior(value, spread, 1.96 * spread, flux, known)


def pretrained(recipe: Recipe) -> list[EncoderGenerator]:
    """Train the members of an ensemble on simulated galaxies.

    Args:
        recipe: how to train.
    """
    members = []
    for member in range(recipe.members):
        torch.manual_seed(recipe.seed + member)
        network = EncoderGenerator(recipe)
        table = simulated_table(recipe.simulated, recipe.seed + member)
        train(table, recipe.simulated_epochs, network, 3e-3, hidden=0.6)
        members.append(network)
    return members


def fine_tuned(
    members: list[EncoderGenerator], sample: LineSample, recipe: Recipe
) -> NetworkLineRecovery:
    """Train copies of the members further, on the real galaxies of a sample.

    Args:
        members: the members, which stay as they are.
        sample: the galaxies.
        recipe: how to train.
    """
    tuned = []
    for number, member in enumerate(members):
        torch.manual_seed(recipe.seed + 100 + number)
        network = EncoderGenerator(recipe)
        network.load_state_dict(member.state_dict())
        train(Table.of(sample), recipe.epochs, network, 1e-3, hidden=0.3)
        tuned.append(network)
    return NetworkLineRecovery(tuned)
