"""Trains the refined redshift, and judges it beside the baselines.

It is fitted to the training part of real galaxies, and compared with the baselines on the
validation part. The test part is opened only when told to. Needs torch:
``pip install -e '.[train]'``.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mmbroker.models.packaged.cards import about
from mmbroker.models.packaged.templates import load_templates
from mmbroker.models.real_data.catalogues import goods_north
from mmbroker.models.real_data.folder import add_data_option
from mmbroker.models.real_data.split import TEST, TRAIN, VALIDATION
from mmbroker.models.redshift.baselines.baselines import load_baselines
from mmbroker.models.redshift.figures import judged_part, render
from mmbroker.models.redshift.sample import (
    Estimate,
    Indices,
    Sample,
    at_truth,
    sample_of,
    without_published,
)
from mmbroker.processors.redshift import ConventionalRedshift, refined
from mmbroker.processors.redshift.grids import COARSE, Array, Array32
from mmbroker.processors.redshift.refined import FEATURES, RefinedRedshift
from mmbroker.processors.redshift.refined_networks import COMPONENTS
from mmbroker.schemas import __version__

_SPLITS = ("train", "validation", "test")


@dataclass(frozen=True, slots=True)
class Recipe:
    """How the networks are trained.

    Attributes:
        members: the number of members of each ensemble.
        fold_members: the number of members of the ensembles that leave out a fold, from which the
            gate learns.
        folds: the number of folds within the training part.
        epochs: the epochs of the colours' networks.
        width: the width of their layers.
        dropout: the share of values that is dropped in them.
        photometric_weight: the weight of a galaxy that has a published redshift and no
            spectroscopic one to learn its colours with.
        gate_epochs: the epochs of the gate.
        gate_width: the width of its layer.
        seed: the seed of everything random.
    """

    members: int = 5
    fold_members: int = 3
    folds: int = 5
    epochs: int = 150
    width: int = 128
    dropout: float = 0.1
    photometric_weight: float = 0.5
    gate_epochs: int = 60
    gate_width: int = 12
    seed: int = 0


GAUSSIANS = 4
_FEWEST_OBSERVED = 50
"""The fewest training galaxies with a flux in an interval that the networks read."""

_FEWEST_NEAR_INFRARED = 4
_MARGIN = 0.1
"""A flux is unlike the training fluxes if it is further outside than this share of their range."""

_EXPONENTS = np.round(np.linspace(0.7, 2.0, 27), 2)

_UNSURE = 0.99
"""The quantile of the disagreement in training; above it the networks are not believed."""


class _Colours(nn.Module):
    def __init__(self, inputs: int, recipe: Recipe) -> None:
        super().__init__()
        sizes = (inputs, recipe.width, recipe.width)
        layers = [nn.Linear(*each) for each in itertools.pairwise(sizes)]
        self.layers = nn.ModuleList([*layers, nn.Linear(recipe.width, 3 * GAUSSIANS)])
        self.dropout = nn.Dropout(recipe.dropout)

    def forward(self, given: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        for layer in self.layers[:-1]:
            given = self.dropout(nn.functional.silu(layer(given)))
        share, mean, width = self.layers[-1](given).chunk(3, dim=1)
        return share.log_softmax(dim=1), 0.7 + 0.4 * mean, width.clamp(-2.5, 2.0) - 2.0


def fit_colours(
    given: Array32, target: Array, weight: Array, recipe: Recipe, seed: int
) -> nn.Module:
    """Train a network of the colours, by maximum likelihood.

    Args:
        given: fluxes as ``refined.scaled`` gives them, float32, shape (N, intervals).
        target: ln(1 + z), float64, shape (N,).
        weight: the weight of each galaxy, float64, shape (N,).
        recipe: how to train.
        seed: the seed of the random numbers.
    """
    torch.manual_seed(seed)
    network = _Colours(given.shape[1], recipe)

    def loss(rows: Tensor) -> Tensor:
        share, mean, width = network(x[rows])
        each = share - width - 0.5 * ((y[rows, None] - mean) / width.exp()) ** 2
        return -(w[rows] * each.logsumexp(dim=1)).mean()

    x, y, w = (torch.tensor(each, dtype=torch.float32) for each in (given, target, weight))
    _minimise(network, loss, len(given), recipe.epochs, 3e-3, 0.03)
    return network


def fit_gate(given: Array32, log_density: Array, recipe: Recipe, seed: int) -> nn.Module:
    """Train a gate, by maximum likelihood of the mixture.

    Args:
        given: normalised features, float32, shape (N, FEATURES).
        log_density: the ln of each component's density at the truth, float64, shape
            (N, COMPONENTS); -inf where a component is absent.
        recipe: how to train.
        seed: the seed of the random numbers.
    """
    torch.manual_seed(seed)
    network = nn.Sequential(
        nn.Linear(FEATURES, recipe.gate_width),
        nn.Tanh(),
        nn.Dropout(0.1),
        nn.Linear(recipe.gate_width, len(COMPONENTS)),
    )
    absent = torch.tensor(np.isneginf(log_density))

    def loss(rows: Tensor) -> Tensor:
        raw = network(x[rows]).masked_fill(absent[rows], -1e9)
        value: Tensor = -(raw.log_softmax(dim=1) + y[rows]).logsumexp(dim=1).mean()
        return value

    x = torch.tensor(given, dtype=torch.float32)
    y = torch.tensor(np.where(np.isneginf(log_density), -1e9, log_density), dtype=torch.float32)
    _minimise(network, loss, len(given), recipe.gate_epochs, 5e-3, 0.3)
    return network


def _minimise(
    network: nn.Module,
    loss: Callable[[Tensor], Tensor],
    count: int,
    epochs: int,
    rate: float,
    decay: float,
) -> None:
    optimiser = torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, epochs)
    network.train()
    for _ in range(epochs):
        for rows in torch.randperm(count).split(64):
            optimiser.zero_grad()
            loss(rows).backward()  # type: ignore[no-untyped-call]
            optimiser.step()
        schedule.step()
    network.eval()


def densities(networks: Sequence[nn.Module], given: Array32) -> Array:
    """Compute the probabilities from each network of the colours.

    Args:
        networks: the networks.
        given: fluxes as ``refined.scaled`` gives them, float32, shape (N, intervals).

    Returns:
        Probabilities that sum to 1, float64, shape (networks, N, COARSE).
    """
    with torch.no_grad():
        found = [torch.stack(network(torch.from_numpy(given)), dim=1) for network in networks]
    return refined.density_of(torch.stack(found).numpy().astype(float))


def train(training: Sample, recipe: Recipe, identity: str) -> dict[str, NDArray[Any]]:
    """Train both ensembles on the training part.

    Args:
        training: the galaxies, with spectroscopic redshifts or without.
        recipe: how to train.
        identity: the identity of the conventional redshift that their inputs were made with.

    Returns:
        The weights by name. ``held_out`` is no weight: it has the densities in ln(1 + z) of
        galaxies that the networks did not see, with and without their published redshifts, shape
        (M, COARSE); ``held_out_truth`` has their true redshifts, shape (M,).
    """
    inputs = training.inputs
    known = np.isfinite(training.truth)
    label = np.where(known, np.log1p(training.truth), inputs.centre)
    weight = np.where(known, 1.0, np.where(inputs.count > 0, recipe.photometric_weight, 0.0))
    observed = inputs.mask.sum(axis=0) >= _FEWEST_OBSERVED
    intervals = np.flatnonzero(observed & refined.NEAR_INFRARED)
    values, mask = inputs.values[:, intervals], inputs.mask[:, intervals]
    seen = mask.sum(axis=0)
    mean = (values * mask).sum(axis=0) / seen
    scatter = np.sqrt((np.square(values - mean) * mask).sum(axis=0) / seen).clip(0.1)
    mean, scatter = mean.astype(np.float32), scatter.astype(np.float32)
    given = refined.scaled(values, mask, mean, scatter)

    def ensemble(rows: Indices, members: int, first_seed: int) -> list[nn.Module]:
        return [
            fit_colours(given[rows], label[rows], weight[rows], recipe, first_seed + member)
            for member in range(members)
        ]

    usable = np.flatnonzero(weight > 0)
    fold = np.random.default_rng(recipe.seed).permutation(len(inputs)) % recipe.folds
    held_out = np.empty((recipe.fold_members, len(inputs), len(COARSE)))
    for number in range(recipe.folds):
        rows = usable[fold[usable] != number]
        networks = ensemble(rows, recipe.fold_members, recipe.seed + 100 * (number + 1))
        held_out[:, fold == number] = densities(networks, given[fold == number])
    colours = ensemble(usable, recipe.members, recipe.seed)

    rows = np.flatnonzero(known)
    told, components, truth = _gate_examples(
        inputs.select(rows), held_out.mean(axis=0)[rows], training.truth[rows]
    )
    at_the_truth = at_truth(components, truth)
    told_mean, told_scatter = told.mean(axis=0), told.std(axis=0) + 1e-6
    normalised = np.asarray((told - told_mean) / told_scatter, np.float32)

    def gates_of(chosen: NDArray[np.bool_], members: int) -> list[nn.Module]:
        return [
            fit_gate(normalised[chosen], at_the_truth[chosen], recipe, recipe.seed + member)
            for member in range(members)
        ]

    gates = gates_of(np.ones(len(truth), bool), recipe.members)
    unseen = np.empty((len(truth), len(COARSE)))
    gate_fold = np.tile(fold[rows], 2)
    for number in range(recipe.folds):
        out = gate_fold == number
        shares = mixture_shares(
            gates_of(~out, recipe.fold_members), normalised[out], at_the_truth[out]
        )
        unseen[out] = np.einsum("nk,nkz->nz", shares, np.exp(components[out]))
    published = np.arange(len(truth)) < len(rows)
    span = _MARGIN * (_extreme(values, mask, np.max) - _extreme(values, mask, np.min))
    return {
        "conventional": np.array(identity),
        "intervals": intervals,
        "mean": mean,
        "scatter": scatter,
        "lowest": _extreme(values, mask, np.min) - span,
        "highest": _extreme(values, mask, np.max) + span,
        "fewest": np.array(_FEWEST_NEAR_INFRARED),
        "sharpness": np.array(sharpness(unseen[published], truth[published])),
        "largest_disagreement": np.quantile(refined.disagreement(held_out[:, rows]), _UNSURE),
        "features.mean": told_mean,
        "features.scatter": told_scatter,
        **stacked("colours", [[*each.layers] for each in colours]),
        **stacked("gate", [[each[0], each[3]] for each in gates]),
        "held_out": unseen,
        "held_out_truth": truth,
    }


def _gate_examples(
    inputs: refined.Inputs, colours: Array, truth: Array
) -> tuple[Array32, Array, Array]:
    """The features, components and truths of the galaxies, then of the same without published z."""
    variants = [inputs, without_published(inputs)]
    told = np.concatenate([refined.features(each, colours) for each in variants])
    components = np.concatenate([refined.log_components(each, colours) for each in variants])
    return told, components, np.tile(truth, 2)


def mixture_shares(gates: Sequence[nn.Module], given: Array32, log_density: Array) -> Array:
    """The mean shares of the components over an ensemble.

    Args:
        gates: the members of the ensemble.
        given: normalised features, float32, shape (N, FEATURES).
        log_density: -inf where a component is absent, shape (N, COMPONENTS).

    Returns:
        Shares that sum to 1, 0 where a component is absent; float64, shape (N, COMPONENTS).
    """
    absent = np.isneginf(log_density)
    with torch.no_grad():
        raw = torch.stack([gate(torch.from_numpy(given)) for gate in gates]).numpy().astype(float)
    raw = np.where(absent, -np.inf, raw)
    shares = np.exp(raw - raw.max(axis=2, keepdims=True))
    return np.asarray((shares / shares.sum(axis=2, keepdims=True)).mean(axis=0))


def sharpness(density: Array, truth: Array) -> float:
    """Find the exponent of densities with which 68 % intervals cover 68 % of the truths.

    Args:
        density: the densities of galaxies that the networks did not see, shape (N, COARSE).
        truth: their true redshifts, shape (N,).
    """

    def miss(exponent: float) -> float:
        estimate = Estimate.of_densities(exponent * np.log(density + 1e-300), truth)
        return abs(float(estimate.covered_68.mean()) - 0.68)

    return float(min(_EXPONENTS, key=miss))


def _extreme(values: Array32, mask: Array32, of: Callable[..., Any]) -> Array32:
    missing = np.inf if of is np.min else -np.inf
    return np.asarray(of(np.where(mask > 0, values, missing), axis=0), np.float32)


def stacked(name: str, members: Sequence[Sequence[nn.Linear]]) -> dict[str, Array32]:
    """Stack the weights of the members' layers.

    Args:
        name: the beginning of the names.
        members: the layers of each member.

    Returns:
        Weights, float32, shape (members, outputs, inputs), and biases, shape (members, outputs), by
        name.
    """
    found = {}
    for number, layers in enumerate(zip(*members, strict=True)):
        for part in ("weight", "bias"):
            arrays = [getattr(layer, part).detach().numpy() for layer in layers]
            found[f"{name}.{number}.{part}"] = np.stack(arrays)
    return found


def write(folder: Path, weights: dict[str, Any], card: dict[str, Any]) -> None:
    """Write refined.npz and its card refined.json, to which the SHA-256 is added.

    Args:
        folder: the folder to write to; made if it is missing.
        weights: the weights by name.
        card: what the card says besides.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "refined.npz"
    np.savez_compressed(path, **weights)
    card = {"sha256": hashlib.sha256(path.read_bytes()).hexdigest(), **card}
    # A figure and its interval on one line.
    text = re.sub(r"\[\s+([^\[\]{}]*?)\s+\]", _on_one_line, json.dumps(card, indent=1))
    (folder / "refined.json").write_text(text + "\n")


def _on_one_line(numbers: re.Match[str]) -> str:
    return f"[{' '.join(numbers[1].split())}]"


def main(arguments: list[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m mmbroker.models.redshift.refined.train", description=__doc__
    )
    standard = Recipe()
    add_data_option(parser)
    parser.add_argument("--output", type=Path, help="folder for weights and card")
    parser.add_argument("--epochs", type=int, default=standard.epochs)
    parser.add_argument("--width", type=int, default=standard.width)
    parser.add_argument(
        "--open-test", action="store_true", help="judge the test part as well; count the openings"
    )
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    recipe = Recipe(epochs=options.epochs, width=options.width)
    conventional = ConventionalRedshift().with_templates(load_templates())
    everything = sample_of(goods_north(options.data), conventional)
    training = everything.select(everything.split == TRAIN)
    weights = train(training, recipe, conventional.identity)
    for name in ("held_out", "held_out_truth"):
        del weights[name]
    baselines = load_baselines(conventional)
    card: dict[str, Any] = {
        "name": "refined",
        "version": 5,
        "stacked_shares": baselines.fitted.shares.round(3).tolist(),
        "log_linear_exponents": baselines.fitted.exponents.round(3).tolist(),
        "sharpness": float(weights["sharpness"]),
        "code_version": __version__,
        "trained_on": "GOODS-N (Liu et al. 2018), training part",
        "conventional": conventional.identity,
        "recipe": asdict(recipe),
        **about("refined"),
    }
    model = RefinedRedshift(weights, conventional)
    parts = (VALIDATION, TEST) if options.open_test else (VALIDATION,)
    for part in parts:
        some = everything.select(everything.split == part)
        figures = judged_part(some, baselines, conventional, model)
        card[_SPLITS[part]] = figures
        print(f"== {_SPLITS[part]}\n{render(figures)}")
    if options.output is not None:
        write(options.output, weights, card)


if __name__ == "__main__":
    main()
