"""The conventional estimators at full strength, fitted on the training part: what to beat."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.optimize import minimize
from sklearn.ensemble import HistGradientBoostingRegressor

from processors.redshift import ConventionalRedshift
from processors.redshift.grids import COARSE, Array
from processors.redshift.published import log_likelihood
from processors.redshift.templates import photometry
from processors.redshift.tuned import Tuned, packaged
from schemas.events import Fingerprint

from .redshift_sample import Estimate, Indices, Sample, at_truth
from .repository import WEIGHTS

CONVENTIONAL = "conventional"
WITH_TEMPLATES = "conventional with templates"
TEMPLATES = "templates"
STACKED = "stacked"
LOG_LINEAR = "stacked, log-linear"
TREES = "trees"
TRAINING_CONSTANTS = "conventional, training constants"

_FEWEST_OBSERVED = 50
"""Training galaxies that an interval must have been observed for."""

_LEVELS = (0.16, 0.5, 0.84)


def training_constants(weights: Path = WEIGHTS) -> Tuned:
    """The fourteen constants tuned on the training parts alone."""
    text = (weights / "redshift_constants_training.json").read_text()
    return Tuned(**json.loads(text)["constants"])


@dataclass(frozen=True, slots=True, eq=False)
class HeldOut:
    """A fold of the training galaxies, with what is known without them.

    Args:
        sample: the galaxies, with spectroscopic and published redshifts; their inputs are those of
            ``conventional``.
        conventional: the redshift with templates that were not fitted to them.
    """

    sample: Sample
    conventional: ConventionalRedshift


class Baselines:
    """The estimators to beat.

    Shares, exponents and trees are fitted to what held-out templates say, and used with the
    templates in force.

    Args:
        training: the folds of the training galaxies, at least two.
        conventional: the conventional redshift with the templates in force.
        seed: of the trees.
    """

    def __init__(
        self, training: Sequence[HeldOut], conventional: ConventionalRedshift, seed: int = 0
    ) -> None:
        self._conventional = conventional
        self._plain = ConventionalRedshift()
        self._trained = ConventionalRedshift(training_constants())
        samples = [one.sample for one in training]
        truth = np.concatenate([one.truth for one in samples])
        centre = np.concatenate([one.inputs.centre for one in samples])
        fold = np.repeat(np.arange(len(samples)), [len(one.truth) for one in samples])
        table = np.concatenate([_table(one) for one in samples])
        self._fit_trees(table, np.log1p(truth) - centre, fold, seed)
        components = np.concatenate([self._components(one) for one in samples])
        self.shares = stack(np.exp(at_truth(components, truth)))
        factors = np.concatenate([_factors(one.sample, one.conventional) for one in training])
        self.exponents = pool(factors, truth)

    def _fit_trees(self, table: Array, residual: Array, fold: Indices, seed: int) -> None:
        """Fit the trees, and find their errors by leaving out folds.

        Args:
            table: what they read, shape (N, columns).
            residual: of the published redshift in ln(1 + z), shape (N,).
            fold: of each galaxy, shape (N,).
            seed: of the trees.
        """
        self._trees = HistGradientBoostingRegressor(
            loss="absolute_error",
            max_iter=100,
            learning_rate=0.05,
            max_leaf_nodes=8,
            min_samples_leaf=20,
            random_state=seed,
        )
        self._columns = np.isfinite(table).sum(axis=0) >= _FEWEST_OBSERVED
        table = table[:, self._columns]
        predicted = np.empty(len(residual))
        for number in np.unique(fold):
            out = fold == number
            self._trees.fit(table[~out], residual[~out])
            predicted[out] = self._trees.predict(table[out])
        self._trees.fit(table, residual)
        self._errors = residual - predicted

    def estimates(self, sample: Sample) -> dict[str, Estimate]:
        """Their estimates of a sample whose galaxies have published redshifts."""
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
        densities = {
            CONVENTIONAL: self._plain.log_posterior(sample.fingerprints),
            TRAINING_CONSTANTS: self._trained.log_posterior(sample.fingerprints),
            TEMPLATES: inputs.log_templates,
            WITH_TEMPLATES: inputs.log_conventional,
            STACKED: _log(np.einsum("k,nkz->nz", self.shares, np.exp(self._components(sample)))),
            LOG_LINEAR: np.einsum(
                "k,nkz->nz", self.exponents, _factors(sample, self._conventional)
            ),
            TREES: self._of_trees(sample),
        }
        return found | {name: Estimate.of_densities(one, truth) for name, one in densities.items()}

    def _of_trees(self, sample: Sample) -> Array:
        """The trees' correction of the published redshift, with its errors held out in folds."""
        corrected = sample.inputs.centre + self._trees.predict(_table(sample)[:, self._columns])
        error = (COARSE[None, :, None] - corrected[:, None, None] - self._errors) / 0.01
        return _log(np.exp(-0.5 * np.square(error)).mean(axis=2))

    def _components(self, sample: Sample) -> Array:
        """The ln of densities to mix, shape (N, components, COARSE)."""
        inputs = sample.inputs
        stated = [one.photometric_redshifts for one in sample.fingerprints]
        prior = np.broadcast_to(inputs.log_prior, inputs.log_continuum.shape)
        parts = [
            log_likelihood(packaged(), stated),
            inputs.log_continuum,
            prior,
            inputs.log_templates,
            inputs.log_photometry,
            self._plain.log_posterior(sample.fingerprints),
            inputs.log_conventional,
        ]
        found = np.stack(parts, axis=1)
        step = COARSE[1] - COARSE[0]
        return np.asarray(found - np.logaddexp.reduce(found, axis=2, keepdims=True) - np.log(step))


def _factors(sample: Sample, conventional: ConventionalRedshift) -> Array:
    """The ln of what is multiplied: published, continuum, templates; (N, 3, COARSE)."""
    fit = conventional.template_fit
    assert fit is not None
    measured = photometry(sample.fingerprints, fit.templates.wavelength_um)
    stated = [one.photometric_redshifts for one in sample.fingerprints]
    parts = [
        log_likelihood(packaged(), stated),
        sample.inputs.log_continuum,
        fit.log_likelihood(measured),
    ]
    return np.stack(parts, axis=1)


def _log(density: Array) -> Array:
    return np.asarray(np.log(density + 1e-300))


def _methods(fingerprints: Sequence[Fingerprint]) -> list[str]:
    return sorted({one.method for each in fingerprints for one in each.photometric_redshifts})


def _table(sample: Sample) -> Array:
    """What the trees read: photometry, published redshift, what continuum and templates say."""
    inputs = sample.inputs
    measured = np.where(inputs.mask > 0, inputs.values, np.nan)
    published = np.stack([inputs.centre, inputs.half_width], axis=1)
    said = [_quantiles(each) for each in (inputs.log_continuum, inputs.log_templates)]
    relative = [each - inputs.centre[:, None] for each in said]
    return np.concatenate([measured, published, *relative], axis=1)


def _quantiles(log_density: Array) -> Array:
    """The ln(1 + z) at ``_LEVELS``, shape (N, 3)."""
    probability = np.exp(log_density - np.logaddexp.reduce(log_density, axis=1)[:, None])
    return np.array([np.interp(_LEVELS, np.cumsum(row), COARSE) for row in probability])


def stack(density: Array, steps: int = 500) -> Array:
    """Constant shares that maximise the likelihood, by expectation maximisation.

    Yao et al. 2018, Bayesian Analysis 13 917.

    Args:
        density: of each component at the truth, shape (N, components).
        steps: how many.
    """
    shares = np.full(density.shape[1], 1 / density.shape[1])
    for _ in range(steps):
        part = shares * density
        shares = (part / part.sum(axis=1, keepdims=True)).mean(axis=0)
    return shares


def pool(log_factors: Array, truth: Array) -> Array:
    """Constant exponents that maximise the likelihood of a product of densities.

    Args:
        log_factors: shape (N, factors, COARSE).
        truth: redshifts, shape (N,).
    """

    def loss(logarithms: Array) -> float:
        found = np.einsum("k,nkz->nz", np.exp(logarithms), log_factors)
        found -= np.logaddexp.reduce(found, axis=1, keepdims=True)
        return -float(at_truth(found, truth).mean())

    start = np.log(np.full(log_factors.shape[1], 0.7))
    return np.asarray(np.exp(minimize(loss, start, method="Nelder-Mead").x))
