"""Fits stacks and trees on the training part of GOODS-N: ``redshift_baselines.npz``.

They are fitted with templates that did not see the same galaxies (``held_out``), and used with the
templates in force. Needs scikit-learn, and takes half a minute.

    export MMBROKER_DATA=folder/of/tables
    python -m mmbroker.models.redshift.baselines.train --output models/weights
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from sklearn.ensemble import HistGradientBoostingRegressor

from mmbroker.models.packaged.cards import about
from mmbroker.models.packaged.templates import load_templates
from mmbroker.models.real_data.catalogues import goods_north
from mmbroker.models.real_data.folder import add_data_option
from mmbroker.models.real_data.split import TRAIN
from mmbroker.models.redshift.baselines.baselines import (
    NAME,
    Fitted,
    log_components,
    log_factors,
    save_baselines,
    table,
)
from mmbroker.models.redshift.baselines.held_out import FOLDS, HeldOut, held_out
from mmbroker.models.redshift.baselines.trees import Trees
from mmbroker.models.redshift.sample import Indices, Sample, at_truth, sample_of
from mmbroker.models.redshift.templates.train import Examples, Recipe
from mmbroker.processors.redshift import ConventionalRedshift
from mmbroker.processors.redshift.grids import Array
from mmbroker.schemas import __version__

TREES = {
    "loss": "absolute_error",
    "max_iter": 100,
    "learning_rate": 0.05,
    "max_leaf_nodes": 8,
    "min_samples_leaf": 20,
}
"""The settings of the trees, as scikit-learn names them."""

_FEWEST_OBSERVED = 50
"""The fewest training galaxies with a value in a column that the trees read."""


def training_part(everything: Sample) -> Sample:
    """The galaxies of the training part with spectroscopic and published redshifts.

    Args:
        everything: the galaxies of all parts.
    """
    return everything.select(
        (everything.split == TRAIN) & np.isfinite(everything.truth) & (everything.inputs.count > 0)
    )


def fitted_on(
    training: Sample, conventional: ConventionalRedshift, tables: Path, seed: int = 0
) -> Fitted:
    """Fit stacks and trees to some galaxies of GOODS-N.

    Args:
        training: the galaxies.
        conventional: the conventional redshift that template fits are added to.
        tables: the folder of the published tables; templates are also fitted to zCOSMOS.
        seed: the seed of trees and folds.
    """
    recipe = Recipe()
    examples = Examples.read(tables, recipe)
    return fit(held_out(training, examples, conventional, recipe, seed), seed)


def fit(training: Sequence[HeldOut], seed: int = 0) -> Fitted:
    """Fit shares, exponents and trees.

    Args:
        training: the folds of the training galaxies, at least two.
        seed: the seed of the trees.
    """
    samples = [one.sample for one in training]
    truth = np.concatenate([one.truth for one in samples])
    centre = np.concatenate([one.inputs.centre for one in samples])
    fold = np.repeat(np.arange(len(samples)), [len(one.truth) for one in samples])
    read = np.concatenate([table(one.inputs) for one in samples])
    trees, errors = fit_trees(read, np.log1p(truth) - centre, fold, seed)
    components = np.concatenate([log_components(one.inputs) for one in samples])
    factors = np.concatenate(
        [
            log_factors(one.sample.fingerprints, one.sample.inputs, one.template_fit)
            for one in training
        ]
    )
    shares = stack(np.exp(at_truth(components, truth)))
    return Fitted(shares, pool(factors, truth), trees, errors)


def fit_trees(read: Array, residual: Array, fold: Indices, seed: int) -> tuple[Trees, Array]:
    """Fit the trees, and find their errors by leaving out folds.

    Args:
        read: the table that they read, NaN where nothing was observed, shape (N, columns).
        residual: the error of the published redshift in ln(1 + z), shape (N,).
        fold: the fold of each galaxy, int64, shape (N,).
        seed: the seed of the trees.

    Returns:
        The trees, fitted to all galaxies, and the errors of trees that were fitted without the
        galaxy's fold, in ln(1 + z), shape (N,).
    """
    regressor = HistGradientBoostingRegressor(**TREES, random_state=seed)
    columns = np.flatnonzero(np.isfinite(read).sum(axis=0) >= _FEWEST_OBSERVED)
    observed = read[:, columns]
    predicted = np.empty(len(residual))
    for number in np.unique(fold):
        out = fold == number
        regressor.fit(observed[~out], residual[~out])
        predicted[out] = regressor.predict(observed[out])
    regressor.fit(observed, residual)
    return as_arrays(regressor, columns), residual - predicted


def as_arrays(fitted: HistGradientBoostingRegressor, columns: Indices) -> Trees:
    """Convert scikit-learn's estimator to arrays.

    Args:
        fitted: the estimator, fitted to numbers without categories.
        columns: the columns of the table that it was fitted to, int64, shape (columns,).
    """
    nodes = [one.nodes for (one,) in fitted._predictors]
    size = max(map(len, nodes))

    def filled(name: str) -> NDArray[Any]:
        # No row gets to what is beyond a tree's last node.
        return np.stack([np.resize(each[name], size) for each in nodes])

    leaf, itself = filled("is_leaf").astype(bool), np.arange(size)
    return Trees(
        start=np.asarray(fitted._baseline_prediction, float).reshape(1),
        value=filled("value"),
        column=columns[filled("feature_idx").astype(int)],
        threshold=filled("num_threshold"),
        missing_left=filled("missing_go_to_left").astype(bool),
        left=np.where(leaf, itself, filled("left")),
        right=np.where(leaf, itself, filled("right")),
    )


def stack(density: Array, steps: int = 500) -> Array:
    """Fit constant shares that maximise the likelihood, by expectation maximisation.

    See Yao et al. 2018, Bayesian Analysis 13 917.

    Args:
        density: the density of each component at the truth, shape (N, components).
        steps: the number of steps.

    Returns:
        Shares that sum to 1, float64, shape (components,).
    """
    shares = np.full(density.shape[1], 1 / density.shape[1])
    for _ in range(steps):
        part = shares * density
        shares = (part / part.sum(axis=1, keepdims=True)).mean(axis=0)
    return shares


def pool(log_factors: Array, truth: Array) -> Array:
    """Fit constant exponents that maximise the likelihood of a product of densities.

    Args:
        log_factors: the ln of the factors, shape (N, factors, COARSE).
        truth: the true redshifts, shape (N,).

    Returns:
        The exponents, all positive, float64, shape (factors,).
    """

    def loss(logarithms: Array) -> float:
        found = np.einsum("k,nkz->nz", np.exp(logarithms), log_factors)
        found -= np.logaddexp.reduce(found, axis=1, keepdims=True)
        return -float(at_truth(found, truth).mean())

    start = np.log(np.full(log_factors.shape[1], 0.7))
    return np.asarray(np.exp(minimize(loss, start, method="Nelder-Mead").x))


def main(arguments: list[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m mmbroker.models.redshift.baselines.train", description=__doc__
    )
    add_data_option(parser)
    parser.add_argument("--output", type=Path, help="folder for the npz and its card")
    options = parser.parse_args(arguments)
    conventional = ConventionalRedshift().with_templates(load_templates())
    training = training_part(sample_of(goods_north(options.data), conventional))
    seed = 0
    fitted = fitted_on(training, conventional, options.data, seed)
    print("shares", *fitted.shares.round(3), "exponents", *fitted.exponents.round(3))
    if options.output is not None:
        card = {
            "name": NAME,
            "code_version": __version__,
            "fitted_on": {"GOODS-N (Liu et al. 2018), training part": len(training.truth)},
            "folds": FOLDS,
            "seed": seed,
            "conventional": conventional.identity,
            "trees": TREES,
            **about(NAME),
        }
        save_baselines(fitted, card, options.output)


if __name__ == "__main__":
    main()
