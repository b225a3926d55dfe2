"""The conventional redshift: every piece of evidence on one grid of trial redshift."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from copy import copy
from dataclasses import asdict, dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from schemas.events import (
    Feature,
    Fingerprint,
    Interval,
    LineIdentification,
    PublishedRedshift,
    RedshiftPosterior,
)

from . import dust, grids, lines, published, radio
from .dust import Dust
from .grids import COARSE, FINE, NODES, NODES_TO_COARSE, PUBLISHED, Array
from .templates import FittedTemplates, TemplateFit
from .tuned import Tuned, packaged

_MODE_BINS = 4  # fine cells on either side of a line identification: 1000 km/s
_LEAST_MODE = 0.005


@dataclass(frozen=True, slots=True)
class _Bands:
    """Continuum of a batch by distinct frequency; arrays have shape (galaxies, bands)."""

    log_frequency: Array
    flux: Array
    weight: Array
    limit: Array
    limit_error: Array

    def between(self, lowest_hz: float, highest_hz: float) -> _Bands:
        frequency = np.exp(self.log_frequency)
        inside = (frequency > lowest_hz) & (frequency <= highest_hz)
        return _Bands(
            self.log_frequency[inside],
            *(array[:, inside] for array in (self.flux, self.weight, self.limit, self.limit_error)),
        )

    def with_limits_as_zero(self) -> _Bands:
        """Upper limits replaced by a flux density of zero with the noise behind the limit."""
        limited = np.isfinite(self.limit)
        weight = np.where(limited, self.limit_error**-2.0, self.weight)
        flux = np.where(limited, 0.0, self.flux)
        none = np.full_like(self.limit, np.nan)
        return _Bands(self.log_frequency, flux, weight, none, self.limit_error)

    @property
    def present(self) -> NDArray[np.bool_]:
        """Which galaxies have a measurement or a limit."""
        used = (self.weight > 0) | np.isfinite(self.limit)
        return np.asarray(np.any(used, axis=1))


_FINE_ROWS = 64  # galaxies with spectra at a time: bounds the memory


@dataclass(frozen=True, slots=True, eq=False)
class Estimated:
    """What was found out about one galaxy on the way to its redshift.

    Attributes:
        posterior: the redshift.
        found: significant lines of the spectrum.
        spectrum: the merged spectrum without its continuum; None without one.
        log_infrared: log10 of the apparent L_IR in Lsun at the best redshift; 0 where unknown.
        infrared_error_dex: 1 sigma of it; inf where there is no dust continuum.
    """

    posterior: RedshiftPosterior
    found: list[lines.Line]
    spectrum: lines.Residual | None
    log_infrared: float
    infrared_error_dex: float


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """What is known of the redshifts of N galaxies, lines left out.

    Attributes:
        log_continuum: the ln of prior, dust and radio, float64, shape (N, COARSE).
        log_published: the ln of the likelihood of the published redshifts, shape (N, COARSE).
        stated: the published redshifts that count, of each galaxy.
        far_infrared: which have far-infrared photometry, shape (N,).
        dust_posterior: of the dust continuum.
        observed: which of dust, radio and lines there are of each galaxy.
        tuned: the constants that went into it.
        templates: what the template fit says; None without one.
    """

    log_continuum: Array
    log_published: Array
    stated: list[list[PublishedRedshift]]
    far_infrared: NDArray[np.bool_]
    dust_posterior: dust.DustPosterior
    observed: list[list[str]]
    tuned: Tuned
    templates: FittedTemplates | None = None

    @property
    def published(self) -> NDArray[np.bool_]:
        """Which galaxies have a published redshift that counts, shape (N,)."""
        return np.array([bool(many) for many in self.stated], bool)

    def select(self, rows: Sequence[int]) -> Evidence:
        """That of some of the galaxies, templates left out."""
        return Evidence(
            log_continuum=self.log_continuum[rows],
            log_published=self.log_published[rows],
            stated=[self.stated[row] for row in rows],
            far_infrared=self.far_infrared[rows],
            dust_posterior=self.dust_posterior.select(rows),
            observed=[self.observed[row] for row in rows],
            tuned=self.tuned,
        )


ROWS = 8
"""Matrices are filled up to a multiple of so many rows: linear algebra takes other ways, with other
rounding, for single rows, and a result shall not depend on the batch that it was computed in."""


def filled(count: int) -> NDArray[np.int64]:
    """Which of some rows, one after the other and then from the first again, fill them up."""
    return np.arange(count + -count % ROWS) % count


class ConventionalRedshift:
    """Redshift posteriors of fingerprints from published relations and templates.

    Args:
        tuned: the tuned constants; by default those packaged with the module.
        template_fit: of the ultraviolet to mid-infrared photometry, which is left out without it.
    """

    def __init__(self, tuned: Tuned | None = None, template_fit: TemplateFit | None = None) -> None:
        self._tuned = packaged() if tuned is None else tuned
        self.template_fit = template_fit
        self._dust = Dust(self._tuned)
        self._comb = lines.Comb()
        nothing = np.zeros((1, 0))
        self._prior = self._dust.posterior(
            np.zeros(0), nothing, nothing, np.full((1, 0), np.nan), nothing
        )
        self._log_dust_prior: Array = self._prior.log_likelihood[0] @ NODES_TO_COARSE
        self.identity: str = _identity(self._tuned, template_fit)
        """Hash over the tuned constants, the grid and the templates, hexadecimal."""

    def with_templates(self, template_fit: TemplateFit) -> ConventionalRedshift:
        """The same with a template fit among the evidence; it shares the tables of this one."""
        other = copy(self)
        other.template_fit = template_fit
        other.identity = _identity(self._tuned, template_fit)
        return other

    def without_templates(self) -> ConventionalRedshift:
        """The same without a template fit; it shares the tables of this one."""
        other = copy(self)
        other.template_fit = None
        other.identity = _identity(self._tuned, None)
        return other

    def estimate(self, fingerprints: Sequence[Fingerprint]) -> list[RedshiftPosterior]:
        """The posterior of each fingerprint, in order; the same to the bit in whichever batch."""
        return [estimated.posterior for estimated in self.estimate_fully(fingerprints)]

    def estimate_fully(
        self, fingerprints: Sequence[Fingerprint], evidence: Evidence | None = None
    ) -> list[Estimated]:
        """The posteriors with what was found out on the way to them.

        Args:
            fingerprints: of any galaxies.
            evidence: of the same; None to find it here.
        """
        if not fingerprints:
            return []
        if evidence is None:
            evidence = self.evidence(fingerprints)
        log_posterior, dust_posterior = self.combined(evidence), evidence.dust_posterior
        inputs = self.inputs(evidence)
        found: dict[int, tuple[RedshiftPosterior, list[lines.Line], lines.Residual | None]] = {}
        plain = [row for row, one in enumerate(fingerprints) if not len(one.chunk_index)]
        without_lines = posteriors_of(log_posterior[plain], [inputs[row] for row in plain])
        for row, posterior in zip(plain, without_lines, strict=True):
            found[row] = posterior, [], None
        spectra = [row for row, one in enumerate(fingerprints) if len(one.chunk_index)]
        for first in range(0, len(spectra), _FINE_ROWS):
            rows = spectra[first : first + _FINE_ROWS]
            observed = [lines.residual(fingerprints[row]) for row in rows]
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
        """The same without published redshifts and templates: prior, dust and radio."""
        return self._continuum(fingerprints)[0]

    @cached_property
    def log_prior(self) -> Array:
        """The same of a galaxy of which nothing is known, shape (COARSE,)."""
        (at_nodes,) = self._or_neighbour(self._prior.log_likelihood)
        return np.asarray(at_nodes @ NODES_TO_COARSE)

    def evidence(self, fingerprints: Sequence[Fingerprint]) -> Evidence:
        """The pieces of evidence, lines left out."""
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
        """Evidence of fingerprints with the templates of this redshift, if it has any.

        Raises:
            ValueError: the evidence was found with other constants.
        """
        if evidence.tuned != self._tuned:
            raise ValueError("the evidence was found with other tuned constants")
        fit = self.template_fit
        return replace(evidence, templates=None if fit is None else fit.fitted(fingerprints))

    def inputs(self, evidence: Evidence) -> list[list[str]]:
        """What the posterior of each galaxy rests on."""
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
            evidence: of N galaxies.
            with_published: whether published redshifts count, or it is as if there were none.
        """
        total = evidence.log_continuum
        if with_published:
            total = total + evidence.log_published
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
        bands = _gather(fingerprints)
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
            _inputs(one, bool(far), bool(near))
            for one, far, near in zip(
                fingerprints, far_infrared.present, radio_present, strict=True
            )
        ]
        return total, dust_posterior, inputs

    def _or_neighbour(self, log_posterior: Array) -> Array:
        """Leave a small share to the prior alone: the continuum may be that of a neighbour.

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
        spectra: Sequence[lines.Residual],
        log_coarse: Array,
        dust_posterior: dust.DustPosterior,
        rows: Sequence[int],
        inputs: Sequence[list[str]],
    ) -> list[tuple[RedshiftPosterior, list[lines.Line]]]:
        """Posteriors of galaxies with spectra; ``rows`` are theirs in ``dust_posterior``."""
        # Taken, not indexed, which would lay it out column by column and sum it in another order.
        log_fine = np.take(log_coarse, _COARSE_CELL, axis=1) * (1 - _COARSE_FRACTION)
        log_fine += np.take(log_coarse, _COARSE_CELL + 1, axis=1) * _COARSE_FRACTION
        found = []
        for place, (row, observed) in enumerate(zip(rows, spectra, strict=True)):
            copies = lines.filtered(observed)
            luminosity = variance = None
            if "dust" in inputs[place]:
                luminosity = dust_posterior.log_luminosity[row]
                variance = dust_posterior.log_luminosity_variance[row]
            by_lines = self._comb.log_likelihood(observed, copies, luminosity, variance)
            log_fine[place] += lines.EVIDENCE_WEIGHT * by_lines
            found.append(lines.significant(observed, copies))
        probability = _normalised(log_fine)
        cumulative = _cumulative(probability)
        quantiles = _quantiles(cumulative, _FINE_EDGES)
        cells = probability.reshape(len(rows), len(PUBLISHED), -1).sum(axis=2)
        posteriors = []
        for place, significant in enumerate(found):
            modes = _identify(probability[place], cumulative[place], significant)
            posterior = _posterior(quantiles[place], cells[place], modes, inputs[place])
            best = _most_likely_right(cumulative[place], posterior)
            posteriors.append((replace(posterior, best=best), significant))
        return posteriors


def _identity(tuned: Tuned, template_fit: TemplateFit | None) -> str:
    constants = {
        "tuned": asdict(tuned),
        "grid": [grids.FINE_POINTS, grids.FINE_PER_COARSE, grids.COARSE_PER_NODE],
        "step": float(FINE[1] - FINE[0]),
    }
    if template_fit is not None:
        constants["templates"] = template_fit.templates.identity
    text = json.dumps(constants, sort_keys=True).encode()
    return hashlib.blake2b(text, digest_size=8).hexdigest()


def posteriors_of(log_posterior: Array, inputs: Sequence[Sequence[str]]) -> list[RedshiftPosterior]:
    """Posteriors without lines from the ln of unnormalised densities.

    Args:
        log_posterior: per unit of ln(1 + z), shape (galaxies, COARSE).
        inputs: what each rests on, a list for each galaxy.
    """
    probability = _normalised(log_posterior)
    quantiles = _quantiles(_cumulative(probability), _COARSE_EDGES)
    cells = probability.reshape(-1, len(PUBLISHED), grids.COARSE_PER_CELL).sum(axis=2)
    return [
        _posterior(quantiles[row], cells[row], [], list(used)) for row, used in enumerate(inputs)
    ]


def _infrared(
    dust_posterior: dust.DustPosterior,
    posteriors: Sequence[RedshiftPosterior],
    inputs: Sequence[list[str]],
) -> list[tuple[float, float]]:
    """log10 of L_IR / Lsun at the best redshift of each galaxy, and its error in dex."""
    place = np.log1p([posterior.best for posterior in posteriors]) - NODES[0]
    node = np.clip(np.rint(place / (NODES[1] - NODES[0])), 0, len(NODES) - 1).astype(int)
    rows = np.arange(len(posteriors))
    mean = dust_posterior.log_luminosity[rows, node] / np.log(10)
    error = np.sqrt(dust_posterior.log_luminosity_variance[rows, node]) / np.log(10)
    return [
        (float(mean[row]), float(error[row])) if "dust" in inputs[row] else (0.0, math.inf)
        for row in range(len(posteriors))
    ]


def features_of(fingerprint: Fingerprint, estimated: Estimated) -> list[Feature]:
    """What stands out in a fingerprint: significant lines, then continuum."""
    found = _line_features(estimated.found, estimated.posterior)
    return [*found, *_continuum_features(fingerprint)]


def _line_features(found: list[lines.Line], posterior: RedshiftPosterior) -> list[Feature]:
    named: dict[float, str] = {}
    if posterior.identifications:
        best = min(posterior.identifications, key=lambda mode: abs(mode.redshift - posterior.best))
        named = dict(zip(best.observed_frequencies_hz, best.lines, strict=True))
    return [
        Feature(
            kind="line",
            name=named.get(line.frequency_hz, "unidentified"),
            frequency_hz=line.frequency_hz,
            flux_density_jy=line.peak_jy,
            line_flux_jy_km_s=line.flux_jy_km_s,
            line_width_km_s=line.width_km_s,
            signal_to_noise=line.signal_to_noise,
        )
        for line in found
    ]


def _continuum_features(fingerprint: Fingerprint) -> list[Feature]:
    """One feature for each band and map."""
    found = [
        _continuum(band.band, band.frequency_hz, band.weight, band.weighted_flux)
        for band in fingerprint.bands
        if band.weight > 0
    ]
    for image in fingerprint.maps:
        if image.weight > 0:
            frequency = image.weighted_frequency / image.weight
            name = f"map at {frequency / 1e9:.1f} GHz"
            found.append(_continuum(name, frequency, image.weight, image.weighted_flux))
    return found


def _continuum(name: str, frequency_hz: float, weight: float, weighted_flux: float) -> Feature:
    return Feature(
        kind="continuum",
        name=name,
        frequency_hz=frequency_hz,
        flux_density_jy=weighted_flux / weight,
        signal_to_noise=weighted_flux / weight**0.5,
    )


def _gather(fingerprints: Sequence[Fingerprint]) -> _Bands:
    """Bands and maps of a batch, to the far infrared, on the set of their distinct frequencies."""
    rows: list[int] = []
    values: list[tuple[float, float, float, float, float]] = []
    nan = float("nan")
    for row, one in enumerate(fingerprints):
        for band in one.bands:
            if band.frequency_hz > dust.HIGHEST_FREQUENCY_HZ:
                continue
            limited = band.weight <= 0 and band.upper_limit_jy is not None
            limit = band.upper_limit_jy if limited and band.upper_limit_jy is not None else nan
            error = band.upper_limit_error_jy or (limit / 3 if limited else 1.0)
            rows.append(row)
            values.append((band.frequency_hz, band.weight, band.weighted_flux, limit, error))
        for image in one.maps:
            if image.weight <= 0:
                continue
            rows.append(row)
            frequency = image.weighted_frequency / image.weight
            values.append((frequency, image.weight, image.weighted_flux, nan, 1.0))
    table = np.array(values, dtype=float).reshape(-1, 5)
    log_frequency, column = np.unique(np.log(table[:, 0]), return_inverse=True)
    shape = (len(fingerprints), len(log_frequency))
    weight = np.zeros(shape)
    total = np.zeros(shape)
    limit_array = np.full(shape, nan)
    limit_error = np.ones(shape)
    index = (np.array(rows, dtype=int), column)
    np.add.at(weight, index, table[:, 1])
    np.add.at(total, index, table[:, 2])
    limited = np.isfinite(table[:, 3])
    which = (index[0][limited], index[1][limited])
    limit_array[which] = table[limited, 3]
    limit_error[which] = table[limited, 4]
    return _Bands(
        log_frequency,
        np.divide(total, weight, out=np.zeros(shape), where=weight > 0),
        weight,
        limit_array,
        limit_error,
    )


def _inputs(fingerprint: Fingerprint, far_infrared: bool, radio_present: bool) -> list[str]:
    named = {
        "dust": far_infrared,
        "radio": radio_present,
        "lines": bool(len(fingerprint.chunk_index)),
    }
    return [name for name, used in named.items() if used]


def _normalised(log_posterior: Array) -> Array:
    probability = np.exp(log_posterior - log_posterior.max(axis=1, keepdims=True))
    return np.asarray(probability / probability.sum(axis=1, keepdims=True))


def _edges(grid: Array) -> Array:
    step = grid[1] - grid[0]
    return np.asarray(np.maximum(np.concatenate([grid - step / 2, [grid[-1] + step / 2]]), 0.0))


_FINE_EDGES, _COARSE_EDGES = _edges(FINE), _edges(COARSE)
_COARSE_PLACE: Array = np.clip((FINE - COARSE[0]) / (COARSE[1] - COARSE[0]), 0, len(COARSE) - 1)
_COARSE_CELL = np.minimum(_COARSE_PLACE.astype(int), len(COARSE) - 2)
_COARSE_FRACTION: Array = _COARSE_PLACE - _COARSE_CELL
"""Where the fine grid stands between two points of the coarse one."""
_PUBLISHED_REDSHIFT = np.expm1(PUBLISHED).astype(np.float32)

_NEAR = 0.05
"""Redshifts within so much of 1 + z are near each other."""

_LEVELS: Array = np.array([0.025, 0.16, 0.5, 0.84, 0.975])


def _cumulative(probability: Array) -> Array:
    """Probability below each edge of the grid's cells, shape (galaxies, cells + 1)."""
    cumulative = np.zeros((len(probability), probability.shape[1] + 1))
    np.cumsum(probability, axis=1, out=cumulative[:, 1:])
    return cumulative


def _quantiles(cumulative: Array, edges: Array) -> Array:
    """Redshifts at ``_LEVELS`` of the cumulative probability, shape (galaxies, 5)."""
    right = [np.searchsorted(row, _LEVELS) for row in cumulative]
    cell = np.array(right, int).reshape(-1, len(_LEVELS)) - 1
    cell = np.clip(cell, 0, cumulative.shape[1] - 2)
    before = np.take_along_axis(cumulative, cell, axis=1)
    inside = np.take_along_axis(cumulative, cell + 1, axis=1) - before
    fraction = np.clip((_LEVELS - before) / np.maximum(inside, 1e-300), 0, 1)
    return np.asarray(np.expm1(edges[cell] + fraction * (edges[cell + 1] - edges[cell])))


def _posterior(
    quantiles: Array,
    cells: Array,
    modes: list[LineIdentification],
    inputs: list[str],
) -> RedshiftPosterior:
    low95, low68, median, high68, high95 = (float(value) for value in quantiles)
    return RedshiftPosterior(
        best=median,
        interval_68=Interval(low68, high68),
        interval_95=Interval(low95, high95),
        grid_redshift=_PUBLISHED_REDSHIFT,
        grid_probability=cells.astype(np.float32),
        identifications=modes,
        inputs=inputs,
    )


def _most_likely_right(cumulative: Array, posterior: RedshiftPosterior) -> float:
    """Of the median and the identified modes, the redshift with most probability within 5 %.

    Lines make separate narrow modes, and the median may lie between them, where no galaxy is.
    """
    if not posterior.identifications:
        return posterior.best
    trials = np.array([posterior.best, *(mode.redshift for mode in posterior.identifications)])
    low_high = np.log1p(trials) - np.log([[1 + _NEAR], [1 - _NEAR]])
    below, upto = np.interp(low_high, _FINE_EDGES, cumulative)
    return float(trials[np.argmax(upto - below)])


def _identify(
    probability: Array, cumulative: Array, found: list[lines.Line]
) -> list[LineIdentification]:
    """Modes of the posterior at which lines of the comb fall on significant features."""
    if not found:
        return []
    step = FINE[1] - FINE[0]
    cells = np.unique(np.rint(lines.candidate_redshifts(found) / step).astype(int))
    starts = np.maximum(cells - _MODE_BINS, 0)
    stops = np.minimum(cells + _MODE_BINS + 1, len(probability))
    inside = cumulative[stops] - cumulative[starts]
    modes: list[LineIdentification] = []
    taken = np.zeros(len(probability), bool)
    for order in np.argsort(-inside):
        if inside[order] < _LEAST_MODE:
            break
        mode = slice(int(starts[order]), int(stops[order]))
        if taken[mode].any():
            continue
        taken[mode] = True
        share = probability[mode]
        redshift = float(np.expm1(np.sum(share * FINE[mode]) / share.sum()))
        named = lines.names_at(redshift, found)
        modes.append(
            LineIdentification(
                redshift=redshift,
                probability=float(min(share.sum(), 1.0)),
                lines=[name for name, _ in named],
                observed_frequencies_hz=[frequency for _, frequency in named],
            )
        )
    return modes
