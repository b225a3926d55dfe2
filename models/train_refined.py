"""Training of the refined redshift, and its judgement beside the baselines.

Fits on the training part of real galaxies, compares candidates and baselines on the validation
part, and opens the test part only when told to. Needs torch and scikit-learn:
``pip install -e '.[train]'``.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingRegressor
from torch import Tensor, nn

from processors import metrics, vector
from processors.fingerprint import build
from processors.redshift import ConventionalRedshift, refined
from processors.redshift.estimator import posteriors_of
from processors.redshift.grids import COARSE, Array, Array32
from processors.redshift.published import log_likelihood
from processors.redshift.refined import COMPONENTS, FEATURES, Inputs, Refined
from processors.redshift.tuned import packaged
from schemas import __version__
from schemas.events import Fingerprint, RedshiftPosterior

from .catalogues import RealGalaxy, goods_north
from .repository import WEIGHTS
from .train_critic import DATA_VARIABLE
from .training_data import TEST, TRAIN, VALIDATION, split_of

Indices = NDArray[np.int64]
_SPLITS = ("train", "validation", "test")
_FAINT_JY = 15e-3
_S500 = int(np.searchsorted(vector.BROADBAND_CENTRES_HZ, 599.6e9))


@dataclass(frozen=True, slots=True)
class Recipe:
    """How to train.

    Args:
        members: of each ensemble.
        fold_members: of the colours' ensembles that leave out a fold for the gate to learn from.
        folds: within the training part.
        epochs: of the colours' networks.
        width: of their layers.
        dropout: in them.
        photometric_weight: of a galaxy that has only a published redshift to learn colours from.
        gate_epochs: of the gate.
        gate_width: of its layer.
        seed: of everything random.
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
"""Training galaxies that an interval must have been observed for."""

_FEWEST_NEAR_INFRARED = 4
_MARGIN = 0.1
"""Of the range of the training fluxes, beyond which a flux is unlike them."""

_UNSURE = 0.99
"""Quantile of the disagreement in training above which the networks are not believed."""


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """Galaxies with what the networks are told, and the truth."""

    galaxies: list[RealGalaxy]
    fingerprints: list[Fingerprint]
    inputs: Inputs
    truth: Array
    """Spectroscopic redshifts, NaN where unknown, shape (N,)."""

    split: Indices

    def select(self, chosen: NDArray[np.bool_] | Indices) -> Sample:
        """The chosen galaxies."""
        rows = np.arange(len(self.truth))[chosen]
        return Sample(
            [self.galaxies[row] for row in rows],
            [self.fingerprints[row] for row in rows],
            self.inputs.select(rows),
            self.truth[rows],
            self.split[rows],
        )

    @property
    def faint(self) -> NDArray[np.bool_]:
        """Which have not 15 mJy or more at 500 um; most are not detected there."""
        bright = self.inputs.mask[:, _S500] * np.sinh(self.inputs.values[:, _S500])
        return np.asarray(~(bright * vector.BROADBAND_DEPTH_JY[_S500] >= _FAINT_JY))


def sample_of(galaxies: Sequence[RealGalaxy], conventional: ConventionalRedshift) -> Sample:
    """The sample of some galaxies."""
    fingerprints = [build(one.name, one.observations) for one in galaxies]
    truth = [one.spectroscopic_redshift or np.nan for one in galaxies]
    return Sample(
        list(galaxies),
        fingerprints,
        refined.inputs_of(fingerprints, conventional),
        np.array(truth),
        np.array([split_of(one.name) for one in galaxies]),
    )


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
    """A network of the colours, by maximum likelihood.

    Args:
        given: what ``refined.scaled`` gives, shape (N, inputs).
        target: ln(1 + z), shape (N,).
        weight: of each galaxy, shape (N,).
        recipe: how to train.
        seed: of the random numbers.
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
    """A gate, by maximum likelihood of the mixture.

    Args:
        given: normalised features, shape (N, FEATURES).
        log_density: of each component at the truth, shape (N, COMPONENTS); -inf where not there.
        recipe: how to train.
        seed: of the random numbers.
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
    """Probabilities on COARSE of each network, shape (networks, N, COARSE)."""
    with torch.no_grad():
        found = [torch.stack(network(torch.from_numpy(given)), dim=1) for network in networks]
    return refined.density_of(torch.stack(found).numpy().astype(float))


def without_published(inputs: Inputs) -> Inputs:
    """The same galaxies as if nothing were published; the conventional posterior is the rest's."""
    parts = {name: getattr(inputs, name) for name in Inputs.__dataclass_fields__}
    zero = np.zeros(len(inputs))
    parts.update(
        centre=zero,
        half_width=zero + inputs.half_width.max(initial=0.05),
        count=zero,
        log_conventional=inputs.log_continuum,
    )
    return Inputs(**parts)


def train(training: Sample, recipe: Recipe, identity: str) -> dict[str, NDArray[Any]]:
    """Train both ensembles on the training part and return the weights by name."""
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
    alone, truth = held_out.mean(axis=0)[rows], training.truth[rows]
    variants = [inputs.select(rows), without_published(inputs.select(rows))]
    told = np.concatenate([refined.features(each, alone) for each in variants])
    at_truth = np.concatenate(
        [_at(refined.log_components(each, alone), truth) for each in variants]
    )
    told_mean, told_scatter = told.mean(axis=0), told.std(axis=0) + 1e-6
    gates = [
        fit_gate((told - told_mean) / told_scatter, at_truth, recipe, recipe.seed + member)
        for member in range(recipe.members)
    ]
    span = _MARGIN * (_extreme(values, mask, np.max) - _extreme(values, mask, np.min))
    return {
        "conventional": np.array(identity),
        "intervals": intervals,
        "mean": mean,
        "scatter": scatter,
        "lowest": _extreme(values, mask, np.min) - span,
        "highest": _extreme(values, mask, np.max) + span,
        "fewest": np.array(_FEWEST_NEAR_INFRARED),
        "largest_disagreement": np.quantile(refined.disagreement(held_out[:, rows]), _UNSURE),
        "features.mean": told_mean,
        "features.scatter": told_scatter,
        **stacked("colours", [[*each.layers] for each in colours]),
        **stacked("gate", [[each[0], each[3]] for each in gates]),
        "held_out_colours": held_out.mean(axis=0),
    }


def _extreme(values: Array32, mask: Array32, of: Callable[..., Any]) -> Array32:
    missing = np.inf if of is np.min else -np.inf
    return np.asarray(of(np.where(mask > 0, values, missing), axis=0), np.float32)


def stacked(name: str, members: Sequence[Sequence[nn.Linear]]) -> dict[str, Array32]:
    """Weights of the members' layers by name, the members along the first axis."""
    found = {}
    for number, layers in enumerate(zip(*members, strict=True)):
        for part in ("weight", "bias"):
            arrays = [getattr(layer, part).detach().numpy() for layer in layers]
            found[f"{name}.{number}.{part}"] = np.stack(arrays)
    return found


def _at(log_density: Array, redshift: Array) -> Array:
    """Densities of shape (N, ..., COARSE) at a redshift each."""
    step = COARSE[1] - COARSE[0]
    cell = np.clip(np.rint((np.log1p(redshift) - COARSE[0]) / step).astype(int), 0, len(COARSE) - 1)
    return np.asarray(log_density[np.arange(len(redshift)), ..., cell])


@dataclass(frozen=True, slots=True, eq=False)
class Estimate:
    """Redshifts of one estimator for N galaxies, with what is judged of each."""

    redshift: Array
    crps: Array
    covered_68: Array
    covered_95: Array

    @classmethod
    def of_points(cls, redshift: Array, truth: Array) -> Estimate:
        """Redshifts without intervals."""
        missing = np.full(len(truth), np.nan)
        return cls(redshift, np.abs(redshift - truth), missing, missing)

    @classmethod
    def of_densities(cls, log_density: Array, truth: Array) -> Estimate:
        """Posteriors from the ln of densities in ln(1 + z), shape (N, COARSE)."""
        many = posteriors_of(log_density, [[]] * len(log_density))
        return cls.of_posteriors(many, truth)

    @classmethod
    def of_posteriors(cls, many: Sequence[RedshiftPosterior], truth: Array) -> Estimate:
        """Published posteriors."""

        def covered(name: str) -> Array:
            intervals = [getattr(one, name) for one in many]
            lower = np.array([one.lower for one in intervals])
            return metrics.covered(lower, np.array([one.upper for one in intervals]), truth)

        grid = np.asarray(many[0].grid_redshift, float)
        probability = np.array([one.grid_probability for one in many], float)
        return cls(
            np.array([one.best for one in many]),
            metrics.crps(grid, probability, truth),
            covered("interval_68"),
            covered("interval_95"),
        )

    def values(self, truth: Array, chosen: NDArray[np.bool_]) -> dict[str, Array]:
        """What each of the measures is taken of."""
        delta = metrics.deviation(self.redshift, truth)[chosen]
        return {
            **dict.fromkeys(("mae", "nmad", "outliers"), delta),
            "crps": self.crps[chosen],
            "coverage68": self.covered_68[chosen],
            "coverage95": self.covered_95[chosen],
        }


REFINED = "refined"
CONVENTIONAL = "conventional"


class Baselines:
    """The estimators to beat, fitted on the training part.

    Args:
        training: galaxies with spectroscopic and published redshifts.
        recipe: for folds and seed.
    """

    def __init__(self, training: Sample, recipe: Recipe) -> None:
        self._trees = HistGradientBoostingRegressor(
            loss="absolute_error",
            max_iter=100,
            learning_rate=0.05,
            max_leaf_nodes=8,
            min_samples_leaf=20,
            random_state=recipe.seed,
        )
        truth = np.log1p(training.truth)
        self._columns = np.isfinite(_table(training)).sum(axis=0) >= _FEWEST_OBSERVED
        table = _table(training)[:, self._columns]
        residual = truth - training.inputs.centre
        fold = np.random.default_rng(recipe.seed).permutation(len(truth)) % recipe.folds
        held_out = np.empty(len(truth))
        for number in range(recipe.folds):
            out = fold == number
            self._trees.fit(table[~out], residual[~out])
            held_out[out] = self._trees.predict(table[out])
        self._trees.fit(table, residual)
        self._errors = residual - held_out
        self._shares = stack(np.exp(_at(_conventional_components(training), training.truth)))
        self._temper = _temper(training)

    def estimates(self, sample: Sample) -> dict[str, Estimate]:
        """Their estimates of a sample."""
        truth, inputs = sample.truth, sample.inputs
        found = {}
        for method in _methods(sample.fingerprints):
            stated = [
                [one for one in each.photometric_redshifts if one.method == method]
                for each in sample.fingerprints
            ]
            if not all(stated):
                continue
            points = np.array([one[0].redshift for one in stated])
            found[f"published {method}"] = Estimate.of_points(points, truth)
            recalibrated = log_likelihood(packaged(), stated)
            found[f"recalibrated {method}"] = Estimate.of_densities(recalibrated, truth)
        found[CONVENTIONAL] = Estimate.of_densities(inputs.log_conventional, truth)
        stacked = np.einsum("k,nkz->nz", self._shares, np.exp(_conventional_components(sample)))
        found["stacked"] = Estimate.of_densities(np.log(stacked + 1e-300), truth)
        corrected = inputs.centre + self._trees.predict(_table(sample)[:, self._columns])
        error = (COARSE[None, :, None] - corrected[:, None, None] - self._errors) / 0.01
        density = np.exp(-0.5 * np.square(error)).mean(axis=2)
        found["trees"] = Estimate.of_densities(np.log(density + 1e-300), truth)
        found["critic"] = Estimate.of_densities(
            inputs.log_conventional + self._temper * critic_across_redshift(inputs, sample), truth
        )
        return found


def _methods(fingerprints: Sequence[Fingerprint]) -> list[str]:
    return sorted({one.method for each in fingerprints for one in each.photometric_redshifts})


def _table(sample: Sample) -> Array:
    """What the trees read: photometry, published redshift, and what the continuum says."""
    inputs = sample.inputs
    photometry = np.where(inputs.mask > 0, inputs.values, np.nan)
    probability = np.exp(
        inputs.log_continuum - np.logaddexp.reduce(inputs.log_continuum, axis=1)[:, None]
    )
    quantiles = [
        np.interp((0.16, 0.5, 0.84), np.cumsum(row), COARSE) - centre
        for row, centre in zip(probability, inputs.centre, strict=True)
    ]
    published = np.stack([inputs.centre, inputs.half_width], axis=1)
    return np.concatenate([photometry, published, np.array(quantiles)], axis=1)


def _conventional_components(sample: Sample) -> Array:
    """The ln of normalised densities: published and recalibrated, continuum, prior, all of them."""
    inputs = sample.inputs
    stated = [one.photometric_redshifts for one in sample.fingerprints]
    prior = np.broadcast_to(inputs.log_prior, inputs.log_continuum.shape)
    parts = [log_likelihood(packaged(), stated), inputs.log_continuum, prior]
    found = np.stack([*parts, inputs.log_conventional], axis=1)
    step = COARSE[1] - COARSE[0]
    return np.asarray(found - np.logaddexp.reduce(found, axis=2, keepdims=True) - np.log(step))


def stack(density: Array, steps: int = 500) -> Array:
    """Constant shares that maximise the likelihood, by expectation maximisation."""
    shares = np.full(density.shape[1], 1 / density.shape[1])
    for _ in range(steps):
        part = shares * density
        shares = (part / part.sum(axis=1, keepdims=True)).mean(axis=0)
    return shares


def critic_across_redshift(inputs: Inputs, sample: Sample) -> Array:
    """The critic's output with a peak at each trial redshift as its condition, (N, COARSE)."""
    import onnxruntime

    session = onnxruntime.InferenceSession(
        str(WEIGHTS / "critic.onnx"), providers=["CPUExecutionProvider"]
    )
    vectors = vector.vectors(sample.fingerprints)
    outputs = np.empty((len(inputs), vector.REDSHIFT_CELLS))
    for cell, peak in enumerate(np.eye(vector.REDSHIFT_CELLS, dtype=np.float32)):
        # The conditions that it was trained on are rarely in one cell alone.
        near = np.convolve(peak, (0.2, 0.6, 0.2), mode="same")
        condition = np.tile(np.sqrt(near / near.sum()).astype(np.float32), (len(inputs), 1))
        feed = {"values": vectors.values, "mask": vectors.mask, "condition": condition}
        outputs[:, cell] = session.run(None, feed)[0][:, 0]
    edges = np.log1p(vector.REDSHIFT_EDGES)
    centres = (edges[1:] + edges[:-1]) / 2
    return np.array([np.interp(COARSE, centres, row) for row in outputs])


def _temper(training: Sample) -> float:
    """Exponent of the critic that maximises the likelihood of the training part."""
    output = critic_across_redshift(training.inputs, training)
    step = COARSE[1] - COARSE[0]

    def likelihood(temper: float) -> float:
        found = training.inputs.log_conventional + temper * output
        found = found - np.logaddexp.reduce(found, axis=1, keepdims=True) - np.log(step)
        return float(_at(found, training.truth).mean())

    return max((0.0, 0.05, 0.1, 0.2, 0.4, 0.7, 1.0), key=likelihood)


def judge(
    estimates: dict[str, Estimate], truth: Array, subsets: dict[str, NDArray[np.bool_]]
) -> dict[str, Any]:
    """Figures by subset and estimator, with their 95 % intervals, and the refined one's minus each.

    Returns:
        ``{subset: {estimator: {n, mae: [value, low, high], ..., refined_minus: {mae: ...}}}}``.
    """
    found: dict[str, Any] = {}
    for subset, chosen in subsets.items():
        if not chosen.any():
            continue
        found[subset] = {}
        ours = estimates[REFINED].values(truth, chosen)
        for name, one in estimates.items():
            theirs = one.values(truth, chosen)
            figures: dict[str, Any] = {"n": int(chosen.sum())}
            minus = {}
            for key, measure in metrics.MEASURES.items():
                value = float(measure(theirs[key]))
                if not np.isfinite(value):
                    continue
                figures[key] = _rounded(value, metrics.bootstrap(measure, theirs[key]))
                minus[key] = _rounded(
                    float(measure(ours[key])) - value,
                    metrics.paired_bootstrap(measure, ours[key], theirs[key]),
                )
            found[subset][name] = figures
            if name != REFINED:
                figures["refined_minus"] = minus
    return found


def _rounded(value: float, interval: tuple[float, float]) -> list[float]:
    return [round(each, 4) for each in (value, *interval)]


def report(sample: Sample, baselines: Baselines, weights: dict[str, Any]) -> dict[str, Any]:
    """All figures of one part: with published redshifts, and once more with photometry alone."""
    conventional = ConventionalRedshift()
    model = Refined(weights, conventional)
    both = sample.select((sample.inputs.count == 2) & np.isfinite(sample.truth))
    log_posterior, reasons = model.log_posterior(both.inputs)
    estimates = baselines.estimates(both)
    estimates[REFINED] = Estimate.of_densities(log_posterior, both.truth)
    flux = both.inputs.values[:, _S500]
    subsets = {
        "all": np.ones(len(both.truth), bool),
        "faint": both.faint,
        "faint positive": both.faint & (flux > 0),
        "z > 1.5": both.truth > 1.5,
    }
    figures = judge(estimates, both.truth, subsets)
    alone = sample.select(np.isfinite(sample.truth))
    inputs = without_published(alone.inputs)
    refined_alone, reasons_alone = model.log_posterior(inputs)
    figures |= judge(
        {
            CONVENTIONAL: Estimate.of_densities(inputs.log_conventional, alone.truth),
            REFINED: Estimate.of_densities(refined_alone, alone.truth),
        },
        alone.truth,
        {"photometry alone": np.ones(len(alone.truth), bool)},
    )
    figures["fallbacks"] = {
        "with published": _counts(reasons),
        "photometry alone": _counts(reasons_alone),
    }
    return figures


def _counts(reasons: Sequence[str]) -> dict[str, int]:
    return {reason: reasons.count(reason) for reason in sorted(set(reasons)) if reason}


def render(figures: dict[str, Any]) -> str:
    """A few lines for each subset."""
    lines = []
    for subset, estimators in figures.items():
        if subset == "fallbacks":
            lines.append(f"fallbacks: {estimators}")
            continue
        lines.append(f"{subset}, n = {next(iter(estimators.values()))['n']}")
        for name, one in estimators.items():
            cells = [f"{key} {one[key][0]:.4f}" for key in metrics.MEASURES if key in one]
            lines.append(f"  {name:28s} {'  '.join(cells)}")
    return "\n".join(lines)


def write(folder: Path, weights: dict[str, Any], card: dict[str, Any]) -> None:
    """Write refined.npz and its card refined.json."""
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
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m models.train_refined", description=__doc__)
    stated, standard = os.environ.get(DATA_VARIABLE), Recipe()
    parser.add_argument("--data", type=Path, default=Path(stated) if stated else None)
    parser.add_argument("--output", type=Path, help="folder for weights and card")
    parser.add_argument("--epochs", type=int, default=standard.epochs)
    parser.add_argument("--width", type=int, default=standard.width)
    parser.add_argument(
        "--open-test", action="store_true", help="judge the test part as well; count the openings"
    )
    options = parser.parse_args(arguments)
    if options.data is None:
        parser.error(f"--data or ${DATA_VARIABLE} must name the folder of the tables")
    torch.set_num_threads(1)
    recipe = Recipe(epochs=options.epochs, width=options.width)
    conventional = ConventionalRedshift()
    everything = sample_of(goods_north(options.data), conventional)
    training = everything.select(everything.split == TRAIN)
    weights = train(training, recipe, conventional.identity)
    del weights["held_out_colours"]
    spectroscopic = np.isfinite(training.truth) & (training.inputs.count > 0)
    baselines = Baselines(training.select(spectroscopic), recipe)
    card: dict[str, Any] = {
        "name": "refined",
        "code_version": __version__,
        "trained_on": "GOODS-N (Liu et al. 2018), training part",
        "conventional": conventional.identity,
        "recipe": asdict(recipe),
    }
    parts = (VALIDATION, TEST) if options.open_test else (VALIDATION,)
    for part in parts:
        figures = report(everything.select(everything.split == part), baselines, weights)
        card[_SPLITS[part]] = figures
        print(f"== {_SPLITS[part]}\n{render(figures)}")
    if options.output is not None:
        write(options.output, weights, card)


if __name__ == "__main__":
    main()
