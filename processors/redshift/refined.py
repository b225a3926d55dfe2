"""Estimates a learned redshift posterior, with weights that say when a published redshift fails.

It uses two small ensembles of networks:

* *colours* gives a density of ln(1 + z) from the near- and mid-infrared photometry alone, without
  published redshifts;
* *gate* gives the weights of the components of a mixture. Among them are the published redshift
  with a narrow and a wide core, its products with the colours and the template fit, the colours,
  the continuum, and the conventional posterior. The weights depend on how well these agree.

The mixture is sharpened by one exponent, so that its 68 % intervals hold 68 % of the training
galaxies that the networks did not see.

The networks are not used for a galaxy with a spectrum, for photometry unlike that of the training,
and where they disagree. Then the posterior is the conventional one without templates, and the
reason is among its inputs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmbroker.processors.fingerprint import vector
from mmbroker.processors.redshift.estimator import ConventionalRedshift
from mmbroker.processors.redshift.evidence import Evidence, filled
from mmbroker.processors.redshift.grids import COARSE, Array, Array32
from mmbroker.processors.redshift.posterior import posteriors_of
from mmbroker.processors.redshift.refined_networks import WITH_PUBLISHED, Networks, NumpyNetworks
from mmbroker.schemas.events import Fingerprint, PublishedRedshift, RedshiftPosterior

REFINED = "refined"
"""Name among the inputs of a posterior that the networks made."""


class Fallback(StrEnum):
    """Why a posterior is not refined: the key in figures, and among the inputs of a posterior."""

    SPECTRUM = "spectrum"
    UNLIKE = "unlike"
    DISAGREE = "disagree"
    FEW_BANDS = "few_bands"

    @property
    def words(self) -> str:
        """The reason for people."""
        return _WORDS[self]

    @property
    def published(self) -> str:
        """The reason as scored galaxies say it."""
        return f"conventional: {self.words}"


_WORDS = {
    Fallback.SPECTRUM: "a spectrum counts for more",
    Fallback.UNLIKE: "fluxes unlike those of the training",
    Fallback.DISAGREE: "the networks disagree",
    Fallback.FEW_BANDS: "too few near-infrared bands",
}

_TOGETHER = 128
"""Number of galaxies at a time, which bounds the memory."""

FEATURES = 17
"""Number of features of a galaxy that the gate reads."""

_STEP = float(COARSE[1] - COARSE[0])
_POWERS: Array = np.stack([np.ones_like(COARSE), COARSE, np.square(COARSE)])
"""Powers 0 to 2 of ln(1 + z), of which a Gaussian's exponent is a sum; shape (3, COARSE)."""

_NARROW, _CORE, _WIDE = 0.012, 0.03, 0.08
"""Widths of the published redshift in ln(1 + z)."""

_NO_HALF_WIDTH = 0.05
"""Half-width in ln(1 + z) that is used where none is published."""

_COLOURS_IN_CORE, _CONTINUUM_IN_COLOURS = 0.6, 0.3
_COLOURS_BESIDE_TEMPLATES, _TEMPLATES_IN_CORE, _TEMPLATES_IN_COLOURS = 0.4, 0.3, 0.4
"""Exponents in the products of two pieces of evidence; below 1, as these are not independent."""

_FLOOR = 1e-4
"""Added to the colours' probabilities, so that no redshift is impossible."""

Fitting = Callable[[], AbstractContextManager[None]]
"""Makes a context in which templates are fitted, so that the caller can time the fit."""

NEAR_INFRARED = vector.BROADBAND_CENTRES_HZ > 1e13
"""Which canonical intervals are shortward of 30 um; the colours may use these."""


@dataclass(frozen=True, slots=True, eq=False)
class Inputs:
    """Inputs of the networks for N galaxies.

    Densities are logarithms on COARSE and need not be normalised.

    Attributes:
        values: scaled broadband flux densities, shape (N, intervals), see
            ``processors.fingerprint.vector``.
        mask: 1 where there is a flux density, else 0; shape (N, intervals).
        centre: mean ln(1 + z) of the published redshifts, 0 without any; shape (N,).
        half_width: mean published 68 % half-width in ln(1 + z), shape (N,).
        count: number of published redshifts, shape (N,).
        log_continuum: density from prior, dust and radio, shape (N, COARSE).
        log_prior: density from the prior alone, shape (COARSE,).
        log_templates: density from the template fit and its prior by magnitude, normalised, shape
            (N, COARSE).
        log_photometry: density from all evidence but the published redshifts, shape (N, COARSE).
        log_conventional: density from all evidence, shape (N, COARSE).
        log_fallback: density from all evidence but the templates, which few bands mislead; shape
            (N, COARSE).
        evidence: kinds of evidence that the conventional posterior of each galaxy rests on.
    """

    values: Array32
    mask: Array32
    centre: Array
    half_width: Array
    count: Array
    log_continuum: Array
    log_prior: Array
    log_templates: Array
    log_photometry: Array
    log_conventional: Array
    log_fallback: Array
    evidence: list[list[str]]

    def __len__(self) -> int:
        return len(self.centre)

    def select(self, chosen: NDArray[np.int64]) -> Inputs:
        """The inputs of the chosen galaxies."""
        parts = {field.name: getattr(self, field.name) for field in fields(self)}
        prior, evidence = parts.pop("log_prior"), parts.pop("evidence")
        return Inputs(
            **{name: array[chosen] for name, array in parts.items()},
            log_prior=prior,
            evidence=[evidence[row] for row in chosen],
        )


@dataclass(frozen=True, slots=True, eq=False)
class Known:
    """Results on N galaxies that were computed already and need not be computed again.

    Attributes:
        vectors: vectors of their fingerprints.
        evidence: evidence on their conventional redshifts, with or without templates.
    """

    vectors: vector.FingerprintVectors
    evidence: Evidence


def inputs_of(fingerprints: Sequence[Fingerprint], conventional: ConventionalRedshift) -> Inputs:
    """The networks' inputs for some fingerprints, without their spectra.

    Raises:
        ValueError: the conventional redshift has no template fit.
    """
    vectors = vector.vectors(fingerprints)
    return _inputs(
        vectors.values[:, vector.BROADBAND],
        vectors.mask[:, vector.BROADBAND],
        conventional.evidence(fingerprints),
        conventional,
    )


def _inputs(
    values: Array32, mask: Array32, evidence: Evidence, conventional: ConventionalRedshift
) -> Inputs:
    if evidence.templates is None:
        raise ValueError("the refined redshift needs a conventional one that fits templates")
    stated = evidence.stated
    return Inputs(
        values,
        mask,
        np.array([_mean([np.log1p(max(one.redshift, 0.0)) for one in many]) for many in stated]),
        np.array([_mean(_half_widths(many), _NO_HALF_WIDTH) for many in stated]),
        np.array([float(len(many)) for many in stated]),
        evidence.log_continuum,
        conventional.log_prior,
        evidence.templates.log_posterior,
        conventional.combined(evidence, with_published=False),
        conventional.combined(evidence),
        evidence.log_continuum + evidence.log_published,
        conventional.inputs(evidence),
    )


def _half_widths(many: Sequence[PublishedRedshift]) -> list[float]:
    return [
        0.5 * float(np.log1p(max(one.upper_68, 0.0)) - np.log1p(max(one.lower_68, 0.0)))
        for one in many
        if one.lower_68 is not None and one.upper_68 is not None and one.upper_68 > one.lower_68
    ]


def _mean(values: Sequence[float], otherwise: float = 0.0) -> float:
    return float(np.mean(values)) if values else otherwise


def scaled(values: Array32, mask: Array32, mean: Array32, scatter: Array32) -> Array32:
    """Inputs of the colours' networks: normalised values, 0 where masked, float32.

    The mask itself is not an input, because the bands that a survey observed say nothing about a
    galaxy.

    Args:
        values: scaled flux densities, shape (N, intervals).
        mask: 1 where there is a flux density, else 0; shape (N, intervals).
        mean: mean of the values in training, shape (intervals,).
        scatter: their scatter in training, shape (intervals,).
    """
    return np.asarray((values - mean) / scatter * mask, np.float32)


def density_of(parameters: Array) -> Array:
    """Probabilities on COARSE of mixtures of Gaussians in ln(1 + z).

    They are the same to the bit in every batch whose rows are a multiple of ``evidence.ROWS``.

    Args:
        parameters: ln of the shares, means, and ln of the widths, shape (..., 3, Gaussians).

    Returns:
        Probabilities that sum to 1, shape (..., COARSE).
    """
    share, mean, width = np.moveaxis(parameters, -2, 0)
    curvature = np.exp(-2 * width)
    constant = share - width - 0.5 * curvature * np.square(mean)
    coefficients = np.stack([constant, curvature * mean, -0.5 * curvature], axis=-1)
    density: Array = np.zeros((*parameters.shape[:-2], len(COARSE)))
    each = np.empty_like(density)
    for gaussian in np.moveaxis(coefficients, -2, 0):
        np.matmul(gaussian, _POWERS, out=each)
        density += np.exp(each, out=each)
    return _sum_to_one(density * _STEP / np.sqrt(2 * np.pi) + _FLOOR)


def log_components(inputs: Inputs, colours: Array) -> Array:
    """The ln of the components' densities in ln(1 + z), shape (N, COMPONENTS, COARSE).

    Components that need a published redshift are -inf without one.

    Args:
        inputs: inputs of N galaxies.
        colours: probabilities from the colours, shape (N, COARSE).
    """
    found = np.stack([*_products(inputs, colours)], axis=1)
    found -= found.max(axis=2, keepdims=True)
    found -= np.log(np.exp(found).sum(axis=2, keepdims=True) * _STEP)
    found[inputs.count == 0, WITH_PUBLISHED] = -np.inf
    return found


def mixture(inputs: Inputs, colours: Array, shares: Array) -> Array:
    """The density in ln(1 + z) of the mixture of all components, shape (N, COARSE).

    Args:
        inputs: inputs of N galaxies.
        colours: probabilities from the colours, shape (N, COARSE).
        shares: shares of the components, 0 for absent ones, shape (N, COMPONENTS).
    """
    total = np.zeros_like(colours)
    # One component after the other, so that each stays in the processor's cache.
    for share, log_density in zip(shares.T, _products(inputs, colours), strict=True):
        density = np.exp(log_density - log_density.max(axis=1, keepdims=True))
        total += density * (share / (density.sum(axis=1) * _STEP))[:, None]
    return total


def _products(inputs: Inputs, colours: Array) -> Iterator[Array]:
    """The ln of each component's density, not normalised, shape (N, COARSE)."""
    log_colours = np.log(colours)
    continuum = inputs.log_continuum - inputs.log_prior
    core, wide = _core(inputs.centre, _CORE, 4.0), _core(inputs.centre, _WIDE, 2.0)
    fitted = _TEMPLATES_IN_COLOURS * inputs.log_templates
    beside = _COLOURS_BESIDE_TEMPLATES * log_colours + _TEMPLATES_IN_CORE * inputs.log_templates
    yield _core(inputs.centre, _NARROW, 4.0)
    yield core
    yield core + _COLOURS_IN_CORE * log_colours
    yield core + beside
    yield wide + log_colours
    yield wide + log_colours + fitted
    yield log_colours
    yield log_colours + fitted
    yield log_colours + _CONTINUUM_IN_COLOURS * continuum
    yield inputs.log_continuum
    yield inputs.log_photometry
    yield inputs.log_conventional


def features(inputs: Inputs, colours: Array) -> Array32:
    """Inputs of the gate: how well the evidence agrees; float32, shape (N, FEATURES).

    Args:
        inputs: inputs of N galaxies.
        colours: probabilities from the colours, shape (N, COARSE).
    """
    core = _sum_to_one(np.exp(_core(inputs.centre, _CORE, 4.0)))
    continuum = _sum_to_one(
        np.exp(inputs.log_continuum - inputs.log_continuum.max(axis=1, keepdims=True))
    )
    overlap = (core * colours).sum(axis=1)
    supported = (core * continuum).sum(axis=1) / continuum.max(axis=1)
    templates = np.exp(inputs.log_templates)
    low, middle, high = _quantiles(colours)
    low_fit, middle_fit, high_fit = _quantiles(templates)
    fitted = (core * templates).sum(axis=1)
    known = inputs.count > 0
    of_published = np.stack(
        [
            np.log(overlap / _STEP + _FLOOR),
            np.log(overlap / colours.max(axis=1) + _FLOOR),
            np.log(supported + _FLOOR),
            inputs.centre,
            np.log(inputs.half_width + 0.003),
            middle - inputs.centre,
            np.abs(middle - inputs.centre),
            inputs.count,
            np.log(fitted / _STEP + _FLOOR),
            np.log(fitted / templates.max(axis=1) + _FLOOR),
            np.abs(middle_fit - inputs.centre),
        ]
    )
    of_all = np.stack(
        [
            np.log(high - low),
            middle,
            inputs.values[:, _FAR_INFRARED].sum(axis=1) / 10.0,
            np.log(high_fit - low_fit),
            np.log((colours * templates).sum(axis=1) / _STEP + _FLOOR),
            middle_fit,
        ]
    )
    return np.concatenate([np.where(known, of_published, 0.0), of_all]).T.astype(np.float32)


def disagreement(members: Array) -> Array:
    """Jensen-Shannon divergence of the members' densities in nats, shape (N,).

    Args:
        members: probabilities from each member of an ensemble, shape (members, N, COARSE).
    """
    return np.asarray(_entropy(members.mean(axis=0)) - _entropy(members).mean(axis=0))


class RefinedRedshift:
    """Estimates learned redshift posteriors of fingerprints.

    Args:
        weights: arrays by name, as ``models.redshift.refined.train`` writes them.
        conventional: the conventional estimator that this one rests on. Without its templates it is
            also the fallback.
        networks: the networks with these weights; None to compute them here with numpy.

    Raises:
        ValueError: the networks were trained with another conventional redshift.
    """

    def __init__(
        self,
        weights: Mapping[str, NDArray[Any]],
        conventional: ConventionalRedshift,
        networks: Networks | None = None,
    ) -> None:
        trained_with = str(weights["conventional"])
        if trained_with != conventional.identity:
            raise ValueError(
                f"the refined redshift was trained with constants {trained_with}, "
                f"not {conventional.identity}: python -m mmbroker.models.redshift.refined.train"
            )
        self._weights = weights
        self._conventional = conventional
        self._networks = NumpyNetworks(weights) if networks is None else networks

    def with_networks(self, networks: Networks) -> RefinedRedshift:
        """A copy of this estimator whose networks are computed elsewhere."""
        return RefinedRedshift(self._weights, self._conventional, networks)

    def estimate(self, fingerprints: Sequence[Fingerprint]) -> list[RedshiftPosterior]:
        """The posterior of each fingerprint, in order.

        Where it is not refined, it is the conventional one without templates, with the reason among
        its inputs.
        """
        found = self.refine(fingerprints)
        reasons = {row: one for row, one in enumerate(found) if isinstance(one, Fallback)}
        posteriors = [one for one in found if not isinstance(one, Fallback)]
        fallback = self._conventional.without_templates()
        again = fallback.estimate([fingerprints[row] for row in reasons])
        for (row, reason), posterior in zip(reasons.items(), again, strict=True):
            posterior.inputs.append(reason)
            posteriors.insert(row, posterior)
        return posteriors

    def refine(
        self,
        fingerprints: Sequence[Fingerprint],
        known: Known | None = None,
        fitting: Fitting = nullcontext,
    ) -> list[RedshiftPosterior | Fallback]:
        """The refined posterior of each fingerprint, in order, or why there is none.

        Galaxies for which it is clear beforehand that there is none take hardly any time. The
        result is the same to the bit in every batch if the networks' outputs are.

        Args:
            fingerprints: fingerprints of any galaxies.
            known: earlier results on the same galaxies; None to compute all here.
            fitting: makes the context in which templates are fitted.
        """
        vectors = vector.vectors(fingerprints) if known is None else known.vectors
        values, mask = vectors.values[:, vector.BROADBAND], vectors.mask[:, vector.BROADBAND]
        why = self._unlike_training(fingerprints, values, mask)
        found: dict[int, RedshiftPosterior | Fallback] = {
            row: reason for row, reason in enumerate(why) if reason is not None
        }
        asked = [row for row, reason in enumerate(why) if reason is None]
        for first in range(0, len(asked), _TOGETHER):
            rows = asked[first : first + _TOGETHER]
            evidence = self._evidence([fingerprints[row] for row in rows], rows, known, fitting)
            inputs = _inputs(values[rows], mask[rows], evidence, self._conventional)
            log_posterior, reasons = self.log_posterior(inputs.select(filled(len(rows))))
            used = [[*one, REFINED] for one in inputs.evidence]
            posteriors = posteriors_of(log_posterior[: len(rows)], used)
            for row, posterior, reason in zip(rows, posteriors, reasons, strict=False):
                found[row] = reason or posterior
        return [found[row] for row in range(len(fingerprints))]

    def _evidence(
        self,
        fingerprints: Sequence[Fingerprint],
        rows: Sequence[int],
        known: Known | None,
        fitting: Fitting,
    ) -> Evidence:
        """The evidence, with fitted templates, of fingerprints in the given rows of the batch."""
        if known is None:
            evidence = self._conventional.without_templates().evidence(fingerprints)
        else:
            evidence = known.evidence.select(rows)
        with fitting():
            return self._conventional.with_fitted_templates(fingerprints, evidence)

    def log_posterior(self, inputs: Inputs) -> tuple[Array, list[Fallback | None]]:
        """Compute the posteriors of N galaxies.

        Args:
            inputs: inputs of the galaxies.

        Returns:
            The ln of the posteriors, shape (N, COARSE); and for each galaxy the reason why it is
            the conventional posterior, None if it is the refined one.
        """
        weights = self._weights
        chosen = weights["intervals"]
        values, mask = inputs.values[:, chosen], inputs.mask[:, chosen]
        given = scaled(values, mask, weights["mean"], weights["scatter"])
        # One member after the other, so that each stays in the processor's cache.
        members = np.stack([density_of(each) for each in self._networks.colours(given)])
        colours = members.mean(axis=0)
        shares = self._networks.gate(features(inputs, colours), inputs.count > 0)
        density = mixture(inputs, colours, shares)
        unsure = disagreement(members) > float(weights["largest_disagreement"])
        reasons = [
            reason or (Fallback.DISAGREE if one else None)
            for reason, one in zip(self._beyond(inputs.values, inputs.mask), unsure, strict=True)
        ]
        refined = np.array([reason is None for reason in reasons])[:, None]
        log_density = float(weights["sharpness"]) * np.log(density + 1e-300)
        return np.where(refined, log_density, inputs.log_fallback), reasons

    def _unlike_training(
        self, fingerprints: Sequence[Fingerprint], values: Array32, mask: Array32
    ) -> list[Fallback | None]:
        """Why the networks are not asked about a galaxy, or None if they are."""
        return [
            Fallback.SPECTRUM if len(one.chunk_index) else reason
            for one, reason in zip(fingerprints, self._beyond(values, mask), strict=True)
        ]

    def _beyond(self, values: Array32, mask: Array32) -> list[Fallback | None]:
        """Why photometry is not like that of the training, or None if it is.

        Args:
            values: see ``Inputs``, shape (N, intervals).
            mask: see ``Inputs``, shape (N, intervals).
        """
        weights = self._weights
        chosen = weights["intervals"]
        values, seen = values[:, chosen], mask[:, chosen] > 0
        outside = seen & ((values < weights["lowest"]) | (values > weights["highest"]))
        few = seen.sum(axis=1) < float(weights["fewest"])
        return [
            Fallback.FEW_BANDS if too_few else Fallback.UNLIKE if beyond else None
            for too_few, beyond in zip(few, np.any(outside, axis=1), strict=True)
        ]


_FAR_INFRARED = (vector.BROADBAND_CENTRES_HZ > 1e11) & (vector.BROADBAND_CENTRES_HZ < 3.5e12)
_LEVELS = (0.16, 0.5, 0.84)


def _core(centre: Array, width: float, degrees: float) -> Array:
    """The ln of a Student t distribution about each centre, not normalised, shape (N, COARSE)."""
    deviation = (COARSE[None, :] - centre[:, None]) / width
    return np.asarray(-(degrees + 1) / 2 * np.log(1 + np.square(deviation) / degrees))


def _quantiles(probability: Array) -> Array:
    """The ln(1 + z) at which the cumulative probability is ``_LEVELS``, shape (3, N)."""
    cumulative = np.cumsum(probability, axis=1)
    return np.array([np.interp(_LEVELS, row, COARSE + _STEP / 2) for row in cumulative]).T


def _sum_to_one(density: Array) -> Array:
    return np.asarray(density / density.sum(axis=-1, keepdims=True))


def _entropy(probability: Array) -> Array:
    return np.asarray(-(probability * np.log(probability)).sum(axis=-1))
