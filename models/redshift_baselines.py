"""The conventional estimators at full strength, fitted on the training part: what to beat."""

from __future__ import annotations

import json
from collections.abc import Sequence
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

from .redshift_sample import Estimate, Sample, at_truth
from .repository import WEIGHTS

CONVENTIONAL = "conventional"
WITH_TEMPLATES = "conventional with templates"
TEMPLATES = "templates"
STACKED = "stacked"
LOG_LINEAR = "stacked, log-linear"
TREES = "trees"
TRAINING_CONSTANTS = "conventional, training constants"

_FOLDS = 5
_FEWEST_OBSERVED = 50
"""Training galaxies that an interval must have been observed for."""

_LEVELS = (0.16, 0.5, 0.84)


def training_constants(weights: Path = WEIGHTS) -> Tuned:
    """The fourteen constants tuned on the training parts alone."""
    text = (weights / "redshift_constants_training.json").read_text()
    return Tuned(**json.loads(text)["constants"])


class Baselines:
    """The estimators to beat.

    Args:
        training: galaxies with spectroscopic and published redshifts.
        conventional: the conventional redshift with templates, of which the inputs are.
        seed: of the trees and the folds.
    """

    def __init__(self, training: Sample, conventional: ConventionalRedshift, seed: int = 0) -> None:
        self._conventional = conventional
        self._plain = ConventionalRedshift()
        self._trained = ConventionalRedshift(training_constants())
        self._trees = HistGradientBoostingRegressor(
            loss="absolute_error",
            max_iter=100,
            learning_rate=0.05,
            max_leaf_nodes=8,
            min_samples_leaf=20,
            random_state=seed,
        )
        truth = np.log1p(training.truth)
        table = _table(training)
        self._columns = np.isfinite(table).sum(axis=0) >= _FEWEST_OBSERVED
        table = table[:, self._columns]
        residual = truth - training.inputs.centre
        fold = np.random.default_rng(seed).permutation(len(truth)) % _FOLDS
        held_out = np.empty(len(truth))
        for number in range(_FOLDS):
            out = fold == number
            self._trees.fit(table[~out], residual[~out])
            held_out[out] = self._trees.predict(table[out])
        self._trees.fit(table, residual)
        self._errors = residual - held_out
        self.shares = stack(np.exp(at_truth(self._components(training), training.truth)))
        self.exponents = pool(self._factors(training), training.truth)

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
            LOG_LINEAR: np.einsum("k,nkz->nz", self.exponents, self._factors(sample)),
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

    def _factors(self, sample: Sample) -> Array:
        """The ln of what is multiplied: published, continuum, templates; (N, 3, COARSE)."""
        inputs = sample.inputs
        fit = self._conventional.template_fit
        assert fit is not None
        measured = photometry(sample.fingerprints, fit.templates.wavelength_um)
        stated = [one.photometric_redshifts for one in sample.fingerprints]
        parts = [
            log_likelihood(packaged(), stated),
            inputs.log_continuum,
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
