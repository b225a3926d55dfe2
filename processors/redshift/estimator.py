"""Estimates the conventional redshift: combines all evidence on one grid of trial redshifts."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from copy import copy
from dataclasses import asdict, dataclass, replace
from functools import cached_property

import numpy as np

from mmbroker.processors.redshift import comb, dust, grids, published, radio, spectral_lines
from mmbroker.processors.redshift.dust import Dust
from mmbroker.processors.redshift.evidence import Evidence, bands_of, filled, inputs_of
from mmbroker.processors.redshift.grids import (
    COARSE,
    FINE,
    NODES,
    NODES_TO_COARSE,
    Array,
)
from mmbroker.processors.redshift.posterior import (
    FINE_EDGES,
    cumulated,
    identify,
    posteriors_from,
    posteriors_of,
    to_probability,
)
from mmbroker.processors.redshift.templates import TemplateFit
from mmbroker.processors.redshift.transitions import Transitions, packaged_transitions
from mmbroker.processors.redshift.tuned import Tuned, packaged
from mmbroker.schemas.events import (
    Fingerprint,
    RedshiftPosterior,
)

_FINE_ROWS = 64  # galaxies with spectra at a time, which bounds the memory


@dataclass(frozen=True, slots=True, eq=False)
class Estimated:
    """The redshift of one galaxy, with intermediate results.

    Attributes:
        posterior: the redshift posterior.
        found: significant lines of the spectrum.
        spectrum: the merged spectrum without its continuum; None without a spectrum.
        log_infrared: log10 of the apparent L_IR in Lsun at the best redshift; 0 where unknown.
        infrared_error_dex: 1 sigma error of ``log_infrared``; inf without dust continuum.
    """

    posterior: RedshiftPosterior
    found: list[spectral_lines.DetectedLine]
    spectrum: spectral_lines.Residual | None
    log_infrared: float
    infrared_error_dex: float


class ConventionalRedshift:
    """Estimates redshift posteriors of fingerprints from published relations and templates.

    Args:
        tuned: the tuned constants; by default those packaged with the module.
        template_fit: the fit of templates to the ultraviolet to mid-infrared photometry; None to
            leave that photometry out.
        transitions: which transition a single line is; by default those packaged with the module.
    """

    def __init__(
        self,
        tuned: Tuned | None = None,
        template_fit: TemplateFit | None = None,
        transitions: Transitions | None = None,
    ) -> None:
        self._tuned = packaged() if tuned is None else tuned
        self.template_fit = template_fit
        self.transitions = packaged_transitions() if transitions is None else transitions
        self._dust = Dust(self._tuned)
        self._comb = comb.Comb()
        nothing = np.zeros((1, 0))
        self._prior = self._dust.posterior(
            np.zeros(0), nothing, nothing, np.full((1, 0), np.nan), nothing
        )
        self._log_dust_prior: Array = self._prior.log_likelihood[0] @ NODES_TO_COARSE
        self.identity: str = _identity(self._tuned, template_fit)
        """Hash over the tuned constants, the grid and the templates, hexadecimal.

        It is that of redshifts without spectra; ``transitions`` have one of their own."""

    def with_templates(self, template_fit: TemplateFit) -> ConventionalRedshift:
        """A copy of this estimator with a template fit; both share their tables."""
        other = copy(self)
        other.template_fit = template_fit
        other.identity = _identity(self._tuned, template_fit)
        return other

    def without_templates(self) -> ConventionalRedshift:
        """A copy of this estimator without a template fit; both share their tables."""
        other = copy(self)
        other.template_fit = None
        other.identity = _identity(self._tuned, None)
        return other

    def estimate(self, fingerprints: Sequence[Fingerprint]) -> list[RedshiftPosterior]:
        """The posterior of each fingerprint, in order; the same to the bit in every batch."""
        return [estimated.posterior for estimated in self.estimate_fully(fingerprints)]

    def estimate_fully(
        self, fingerprints: Sequence[Fingerprint], evidence: Evidence | None = None
    ) -> list[Estimated]:
        """The posterior of each fingerprint with intermediate results, in order.

        Args:
            fingerprints: fingerprints of any galaxies.
            evidence: evidence of the same galaxies; None to compute it here.
        """
        if not fingerprints:
            return []
        if evidence is None:
            evidence = self.evidence(fingerprints)
        log_posterior, dust_posterior = self.combined(evidence), evidence.dust_posterior
        inputs = self.inputs(evidence)
        found: dict[
            int,
            tuple[
                RedshiftPosterior, list[spectral_lines.DetectedLine], spectral_lines.Residual | None
            ],
        ] = {}
        plain = [row for row, one in enumerate(fingerprints) if not len(one.chunk_index)]
        without_lines = posteriors_of(log_posterior[plain], [inputs[row] for row in plain])
        for row, posterior in zip(plain, without_lines, strict=True):
            found[row] = posterior, [], None
        spectra = [row for row, one in enumerate(fingerprints) if len(one.chunk_index)]
        for first in range(0, len(spectra), _FINE_ROWS):
            rows = spectra[first : first + _FINE_ROWS]
            observed = [spectral_lines.residual(fingerprints[row]) for row in rows]
            with_lines = self._with_lines(
                observed, log_posterior[rows], dust_posterior, rows, [inputs[row] for row in rows]
            )
            for row, spectrum, (posterior, significant) in zip(
                rows, observed, with_lines, strict=True
            ):
                found[row] = posterior, significant, spectrum
        in_order = [found[row] for row in range(len(fingerprints))]
        infrared = _infrared(dust_posterior, [posterior for posterior, *_ in in_order], inputs)
        return [Estimated(*one, *far) for one, far in zip(in_order, infrared, strict=True)]

    def log_posterior(self, fingerprints: Sequence[Fingerprint]) -> Array:
        """The ln of the unnormalised posterior without lines, float64, shape (galaxies, COARSE)."""
        return self.combined(self.evidence(fingerprints))

    def log_continuum(self, fingerprints: Sequence[Fingerprint]) -> Array:
        """The ln of the posterior from prior, dust and radio alone, shape (galaxies, COARSE)."""
        return self._continuum(fingerprints)[0]

    @cached_property
    def log_prior(self) -> Array:
        """``log_continuum`` of a galaxy without observations, shape (COARSE,)."""
        (at_nodes,) = self._or_neighbour(self._prior.log_likelihood)
        return np.asarray(at_nodes @ NODES_TO_COARSE)

    def evidence(self, fingerprints: Sequence[Fingerprint]) -> Evidence:
        """All evidence on the redshifts of some galaxies, except lines."""
        log_continuum, dust_posterior, observed = self._continuum(fingerprints)
        far_infrared = np.array(["dust" in one for one in observed], bool)
        stated = [
            published.independent(one.photometric_redshifts, far)
            for one, far in zip(fingerprints, far_infrared.tolist(), strict=True)
        ]
        evidence = Evidence(
            log_continuum=log_continuum,
            log_published=published.log_likelihood(self._tuned, stated),
            stated=stated,
            far_infrared=far_infrared,
            dust_posterior=dust_posterior,
            observed=observed,
            tuned=self._tuned,
        )
        return self.with_fitted_templates(fingerprints, evidence)

    def with_fitted_templates(
        self, fingerprints: Sequence[Fingerprint], evidence: Evidence
    ) -> Evidence:
        """Add the template fit of this estimator, if it has one, to the evidence of fingerprints.

        Templates that were fitted before are not fitted again.

        Raises:
            ValueError: the evidence was computed with other tuned constants.
        """
        if evidence.tuned != self._tuned:
            raise ValueError("the evidence was found with other tuned constants")
        fit, before = self.template_fit, evidence.templates
        if fit is not None and before is not None and before.identity == fit.identity:
            return evidence
        return replace(evidence, templates=None if fit is None else fit.fitted(fingerprints))

    def inputs(self, evidence: Evidence) -> list[list[str]]:
        """Names of the kinds of evidence that the posterior of each galaxy rests on."""
        fit, templates = self.template_fit, evidence.templates
        fitted = np.zeros(len(evidence.stated), bool)
        if fit is not None and templates is not None:
            fitted = (templates.count > 0) & (fit.exponent(evidence.published) > 0)
        return [
            (["photometric-redshift"] if many else []) + (["templates"] if used else []) + rest
            or ["prior"]
            for many, used, rest in zip(
                evidence.stated, fitted.tolist(), evidence.observed, strict=True
            )
        ]

    def combined(self, evidence: Evidence, with_published: bool = True) -> Array:
        """The ln of the unnormalised posterior, float64, shape (N, COARSE).

        Args:
            evidence: evidence of N galaxies.
            with_published: whether published redshifts are used.
        """
        total = evidence.log_continuum
        if with_published:
            # A factor of exactly 1 where nothing is published would round, so these rows stay.
            rows = np.flatnonzero(evidence.published)
            added = total[rows] - self.log_prior
            total = total + evidence.log_published
            total[rows] += (self._tuned.continuum_beside_published - 1) * added
        if self.template_fit is not None and evidence.templates is not None:
            total = total + self.template_fit.evidence(
                evidence.templates,
                evidence.published & with_published,
                evidence.far_infrared,
                self._log_dust_prior,
            )
        return total

    def _continuum(
        self, fingerprints: Sequence[Fingerprint]
    ) -> tuple[Array, dust.DustPosterior, list[list[str]]]:
        bands = bands_of(fingerprints)
        far_infrared = bands.between(dust.LOWEST_FREQUENCY_HZ, dust.HIGHEST_FREQUENCY_HZ)
        radio_bands = bands.between(0.0, radio.HIGHEST_FREQUENCY_HZ).with_limits_as_zero()
        rows = np.flatnonzero(far_infrared.present)
        count = len(rows)
        log_likelihood = np.repeat(self._prior.log_likelihood, len(fingerprints), axis=0)
        log_luminosity = np.repeat(self._prior.log_luminosity, len(fingerprints), axis=0)
        variance = np.repeat(self._prior.log_luminosity_variance, len(fingerprints), axis=0)
        if count:
            padded = rows[filled(count)]
            measured = self._dust.posterior(
                far_infrared.log_frequency,
                far_infrared.flux[padded],
                far_infrared.weight[padded],
                far_infrared.limit[padded],
                far_infrared.limit_error[padded],
            )
            log_likelihood[rows] = measured.log_likelihood[:count]
            log_luminosity[rows] = measured.log_luminosity[:count]
            variance[rows] = measured.log_luminosity_variance[:count]
        dust_posterior = dust.DustPosterior(log_likelihood, log_luminosity, variance)
        at_nodes = self._or_neighbour(
            log_likelihood
            + radio.log_likelihood(
                self._tuned,
                dust_posterior,
                radio_bands.log_frequency,
                radio_bands.flux,
                radio_bands.weight,
            )
        )
        total = (at_nodes[filled(len(at_nodes))] @ NODES_TO_COARSE)[: len(at_nodes)]
        radio_present = radio_bands.present
        inputs = [
            inputs_of(one, bool(far), bool(near))
            for one, far, near in zip(
                fingerprints, far_infrared.present, radio_present, strict=True
            )
        ]
        return total, dust_posterior, inputs

    def _or_neighbour(self, log_posterior: Array) -> Array:
        """Mix a small share of the prior into the posterior.

        The measured continuum may be that of a neighbour, and then it says nothing.

        Args:
            log_posterior: ln of prior times likelihood of the continuum, shape (galaxies, NODES).
        """
        share = self._tuned.dust_mismatch
        prior = self._prior.log_likelihood
        normalised = log_posterior - np.logaddexp.reduce(log_posterior, axis=1)[:, None]
        prior_share = prior - np.logaddexp.reduce(prior, axis=1)[:, None]
        return np.asarray(np.logaddexp(np.log1p(-share) + normalised, np.log(share) + prior_share))

    def _with_lines(
        self,
        spectra: Sequence[spectral_lines.Residual],
        log_coarse: Array,
        dust_posterior: dust.DustPosterior,
        rows: Sequence[int],
        inputs: Sequence[list[str]],
    ) -> list[tuple[RedshiftPosterior, list[spectral_lines.DetectedLine]]]:
        """Posteriors and significant lines of galaxies with spectra.

        Args:
            spectra: spectra of the galaxies, without their continuum.
            log_coarse: ln of the posteriors without lines, shape (galaxies, COARSE).
            dust_posterior: dust posterior of the whole batch.
            rows: rows of these galaxies in ``dust_posterior``.
            inputs: kinds of evidence for each galaxy.
        """
        # np.take keeps the rows contiguous; indexing would change the layout and the order of sums.
        log_fine = np.take(log_coarse, _COARSE_CELL, axis=1) * (1 - _COARSE_FRACTION)
        log_fine += np.take(log_coarse, _COARSE_CELL + 1, axis=1) * _COARSE_FRACTION
        found = []
        without_lines = {
            place: to_probability(log_fine[place : place + 1])[0]
            for place, used in enumerate(inputs)
            if used == ["lines"]
        }
        for place, (row, observed) in enumerate(zip(rows, spectra, strict=True)):
            copies = spectral_lines.filtered(observed)
            luminosity = variance = None
            if "dust" in inputs[place]:
                luminosity = dust_posterior.log_luminosity[row]
                variance = dust_posterior.log_luminosity_variance[row]
            by_lines = self._comb.log_likelihood(observed, copies, luminosity, variance)
            log_fine[place] += comb.EVIDENCE_WEIGHT * by_lines
            found.append(spectral_lines.significant(observed, copies))
        probability = to_probability(log_fine)
        for place, before in without_lines.items():
            if len(found[place]) == 1:
                (line,) = found[place]
                probability[place] = self.transitions.applied(probability[place], before, line)
        cumulative = cumulated(probability)
        identified = [
            identify(probability[place], cumulative[place], significant)
            for place, significant in enumerate(found)
        ]
        posteriors = posteriors_from(probability, cumulative, FINE_EDGES, inputs, identified)
        return list(zip(posteriors, found, strict=True))


def _identity(tuned: Tuned, template_fit: TemplateFit | None) -> str:
    constants = {
        "tuned": asdict(tuned),
        "grid": [grids.FINE_POINTS, grids.FINE_PER_COARSE, grids.COARSE_PER_NODE],
        "step": float(FINE[1] - FINE[0]),
    }
    if template_fit is not None:
        constants["templates"] = template_fit.identity
    text = json.dumps(constants, sort_keys=True).encode()
    return hashlib.blake2b(text, digest_size=8).hexdigest()


def _infrared(
    dust_posterior: dust.DustPosterior,
    posteriors: Sequence[RedshiftPosterior],
    inputs: Sequence[list[str]],
) -> list[tuple[float, float]]:
    """log10 of L_IR / Lsun at the best redshift of each galaxy, and its 1 sigma error in dex."""
    place = np.log1p([posterior.best for posterior in posteriors]) - NODES[0]
    node = np.clip(np.rint(place / (NODES[1] - NODES[0])), 0, len(NODES) - 1).astype(int)
    rows = np.arange(len(posteriors))
    mean = dust_posterior.log_luminosity[rows, node] / np.log(10)
    error = np.sqrt(dust_posterior.log_luminosity_variance[rows, node]) / np.log(10)
    return [
        (float(mean[row]), float(error[row])) if "dust" in inputs[row] else (0.0, math.inf)
        for row in range(len(posteriors))
    ]


_COARSE_PLACE: Array = np.clip((FINE - COARSE[0]) / (COARSE[1] - COARSE[0]), 0, len(COARSE) - 1)
_COARSE_CELL = np.minimum(_COARSE_PLACE.astype(int), len(COARSE) - 2)
_COARSE_FRACTION: Array = _COARSE_PLACE - _COARSE_CELL
"""Position of each point of the fine grid between two points of the coarse one."""
