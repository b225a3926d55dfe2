"""Estimates redshifts by conventional means at full strength, for comparison.

The module ``train`` fits stacks and trees to galaxies of GOODS-N, and they are packaged.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mmbroker.models.packaged.arrays import read_packaged, write_packaged
from mmbroker.models.packaged.networks import WEIGHTS
from mmbroker.models.redshift.baselines.trees import Trees
from mmbroker.models.redshift.sample import Estimate, Sample
from mmbroker.processors.redshift import ConventionalRedshift
from mmbroker.processors.redshift.grids import COARSE, Array
from mmbroker.processors.redshift.published import log_likelihood
from mmbroker.processors.redshift.refined import Inputs
from mmbroker.processors.redshift.templates import TemplateFit, photometry
from mmbroker.processors.redshift.tuned import Tuned, packaged
from mmbroker.schemas.events import Fingerprint

CONVENTIONAL = "conventional"
WITH_TEMPLATES = "conventional with templates"
TEMPLATES = "templates"
STACKED = "stacked"
LOG_LINEAR = "stacked, log-linear"
TREES = "trees"
TRAINING_CONSTANTS = "conventional, training constants"
PUBLISHED = "published "
"""Beginning of the names of published redshifts; see ``is_published``."""

RECALIBRATED = "recalibrated "
"""Beginning of the names of the same with the intervals that the conventional redshift gives them.
"""

NAME = "redshift_baselines"
"""The name of the packaged files."""

COMPONENTS = (
    "published",
    "continuum",
    "prior",
    TEMPLATES,
    "photometry",
    CONVENTIONAL,
    WITH_TEMPLATES,
)
"""The densities that the linear stack mixes."""

FACTORS = ("published", "continuum", TEMPLATES)
"""The factors that the log-linear stack multiplies."""

_STEP = float(COARSE[1] - COARSE[0])
_KERNEL = 0.01
"""The width in ln(1 + z) by which the trees' errors are smoothed."""

_LEVELS = (0.16, 0.5, 0.84)


def is_published(estimator: str) -> bool:
    """Whether an estimator's name is that of a redshift as it was published."""
    return estimator.startswith(PUBLISHED)


def training_constants(weights: Path = WEIGHTS) -> Tuned:
    """Read the constants of the conventional redshift that were tuned on the training parts.

    The search for these started from constants that had seen all tables.

    Args:
        weights: the folder with redshift_constants_training.json.
    """
    text = (weights / "redshift_constants_training.json").read_text()
    return Tuned(**json.loads(text)["constants"])


@dataclass(frozen=True, slots=True, eq=False)
class Fitted:
    """What was fitted to the training galaxies.

    Attributes:
        shares: the shares of ``COMPONENTS``, which sum to 1, shape (components,).
        exponents: the exponents of ``FACTORS``, shape (factors,).
        trees: trees that predict the error of the published redshift in ln(1 + z) from ``table``.
        errors: the errors of the trees in ln(1 + z), each for a galaxy that was left out of the
            fit, shape (galaxies,).
    """

    shares: Array
    exponents: Array
    trees: Trees
    errors: Array


class Baselines:
    """The estimators that the refined redshift has to beat.

    Args:
        fitted: stacks and trees; the templates that they were fitted with had not seen the
            galaxies.
        conventional: the conventional redshift with the templates in force.

    Raises:
        ValueError: the conventional redshift fits no templates.
    """

    def __init__(self, fitted: Fitted, conventional: ConventionalRedshift) -> None:
        if conventional.template_fit is None:
            raise ValueError("the baselines need a conventional redshift that fits templates")
        self.fitted = fitted
        self._template_fit = conventional.template_fit

    def log_densities(
        self, fingerprints: Sequence[Fingerprint], inputs: Inputs
    ) -> dict[str, Array]:
        """Estimate with stacks and trees.

        For a galaxy without published redshift the stacks take that to be anywhere, and what the
        trees say means nothing, because they correct it.

        Args:
            fingerprints: the fingerprints of N galaxies.
            inputs: the inputs of the same galaxies, made with the templates in force.

        Returns:
            The ln of the densities in ln(1 + z), not always normalised, by estimator; float64,
            shape (N, COARSE).
        """
        fitted = self.fitted
        mixed = np.einsum("k,nkz->nz", fitted.shares, np.exp(log_components(inputs)))
        factors = log_factors(fingerprints, inputs, self._template_fit)
        corrected = inputs.centre + fitted.trees.predict(table(inputs))
        return {
            STACKED: _log(mixed),
            LOG_LINEAR: np.einsum("k,nkz->nz", fitted.exponents, factors),
            TREES: _log(np.array([_around(one, fitted.errors) for one in corrected])),
        }

    def estimates(self, sample: Sample) -> dict[str, Estimate]:
        """Estimate a sample whose galaxies have published redshifts, with every baseline.

        Args:
            sample: the galaxies.

        Returns:
            The estimates by the name of the baseline.
        """
        truth, inputs, fingerprints = sample.truth, sample.inputs, sample.fingerprints
        found = {}
        for method in _methods(fingerprints):
            stated = [
                [one for one in each.photometric_redshifts if one.method == method]
                for each in fingerprints
            ]
            if not all(stated):
                continue
            points = np.array([one[0].redshift for one in stated])
            found[f"{PUBLISHED}{method}"] = Estimate.of_points(points, truth)
            recalibrated = log_likelihood(packaged(), stated)
            found[f"{RECALIBRATED}{method}"] = Estimate.of_densities(recalibrated, truth)
        trained = ConventionalRedshift(training_constants())
        densities = {
            CONVENTIONAL: inputs.log_fallback,
            TRAINING_CONSTANTS: trained.log_posterior(fingerprints),
            TEMPLATES: inputs.log_templates,
            WITH_TEMPLATES: inputs.log_conventional,
            **self.log_densities(fingerprints, inputs),
        }
        return found | {name: Estimate.of_densities(one, truth) for name, one in densities.items()}


def load_baselines(conventional: ConventionalRedshift, weights: Path = WEIGHTS) -> Baselines:
    """Load the baselines with the packaged stacks and trees.

    Args:
        conventional: the conventional redshift with the templates in force.
        weights: the folder with redshift_baselines.npz and its card.

    Raises:
        FileNotFoundError: one of the files is missing.
        ValueError: the card belongs to other trees, they were fitted with another conventional
            redshift, or the conventional redshift fits no templates.
    """
    command = "python -m mmbroker.models.redshift.baselines.train"
    arrays, card = read_packaged(weights, NAME, command)
    if card["conventional"] != conventional.identity:
        raise ValueError(
            f"stacks and trees were fitted with the conventional redshift {card['conventional']}, "
            f"not {conventional.identity}: {command}"
        )
    shares, exponents = card["shares"], card["exponents"]
    errors = arrays.pop("errors")
    fitted = Fitted(
        np.array([shares[name] for name in COMPONENTS]),
        np.array([exponents[name] for name in FACTORS]),
        Trees(**arrays),
        errors,
    )
    return Baselines(fitted, conventional)


def save_baselines(fitted: Fitted, card: dict[str, Any], weights: Path = WEIGHTS) -> None:
    """Write redshift_baselines.npz and its card, with shares and exponents on it.

    Args:
        fitted: stacks and trees.
        card: what the card says besides, with the identity of the conventional redshift.
        weights: the folder to write to; made if it is missing.
    """
    stated = {
        "shares": dict(zip(COMPONENTS, fitted.shares.tolist(), strict=True)),
        "exponents": dict(zip(FACTORS, fitted.exponents.tolist(), strict=True)),
    }
    arrays = {**fitted.trees.arrays(), "errors": fitted.errors}
    write_packaged(weights, NAME, arrays, {**card, **stated})


def log_components(inputs: Inputs) -> Array:
    """The ln of the densities that the linear stack mixes; each integrates to 1 in ln(1 + z).

    Args:
        inputs: the inputs of N galaxies.

    Returns:
        float64, shape (N, COMPONENTS, COARSE).
    """
    parts = [
        _log_published(inputs),
        inputs.log_continuum,
        np.broadcast_to(inputs.log_prior, inputs.log_continuum.shape),
        inputs.log_templates,
        inputs.log_photometry,
        inputs.log_fallback,
        inputs.log_conventional,
    ]
    found = np.stack(parts, axis=1)
    return np.asarray(found - np.logaddexp.reduce(found, axis=2, keepdims=True) - np.log(_STEP))


def log_factors(
    fingerprints: Sequence[Fingerprint], inputs: Inputs, template_fit: TemplateFit
) -> Array:
    """The ln of the factors that the log-linear stack multiplies, not normalised.

    Args:
        fingerprints: the fingerprints of N galaxies.
        inputs: the inputs of the same galaxies.
        template_fit: the template fit that the inputs were made with.

    Returns:
        float64, shape (N, FACTORS, COARSE).
    """
    measured = photometry(fingerprints, template_fit.templates.wavelength_um)
    parts = [_log_published(inputs), inputs.log_continuum, template_fit.log_likelihood(measured)]
    return np.stack(parts, axis=1)


def table(inputs: Inputs) -> Array:
    """Make the table that the trees read: photometry, published redshift, continuum and templates.

    Args:
        inputs: the inputs of N galaxies.

    Returns:
        float64, shape (N, intervals + 8), NaN where nothing was observed.
    """
    measured = np.where(inputs.mask > 0, inputs.values, np.nan)
    published = np.stack([inputs.centre, inputs.half_width], axis=1)
    said = [_quantiles(each) for each in (inputs.log_continuum, inputs.log_templates)]
    relative = [each - inputs.centre[:, None] for each in said]
    return np.concatenate([measured, published, *relative], axis=1)


def _log_published(inputs: Inputs) -> Array:
    """The ln of the likelihood of the published redshifts, 0 without any, shape (N, COARSE)."""
    return inputs.log_fallback - inputs.log_continuum


def _around(corrected: float, errors: Array) -> Array:
    """The density of a corrected ln(1 + z) with these errors, not normalised, shape (COARSE,)."""
    deviation = (COARSE[:, None] - corrected - errors) / _KERNEL
    return np.asarray(np.exp(-0.5 * np.square(deviation)).mean(axis=1))


def _log(density: Array) -> Array:
    return np.asarray(np.log(density + 1e-300))


def _methods(fingerprints: Sequence[Fingerprint]) -> list[str]:
    return sorted({one.method for each in fingerprints for one in each.photometric_redshifts})


def _quantiles(log_density: Array) -> Array:
    """The ln(1 + z) at ``_LEVELS``, shape (N, 3)."""
    probability = np.exp(log_density - np.logaddexp.reduce(log_density, axis=1)[:, None])
    return np.array([np.interp(_LEVELS, np.cumsum(row), COARSE) for row in probability])
