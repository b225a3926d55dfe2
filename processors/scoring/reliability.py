"""Computes the probability that a redshift is right, and what makes it high or low.

The probability is a generalised additive model (Hastie & Tibshirani 1986, Stat. Sci. 1 297): the ln
of its odds is a sum of terms, one for each thing that was looked at. So each term can be shown. The
terms were fitted on real galaxies, for each kind of evidence; see ``models.redshift.reliability``.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numba import njit

from mmbroker.processors import relations
from mmbroker.processors.redshift import Estimated, dust, radio
from mmbroker.processors.redshift.evidence import Evidence
from mmbroker.processors.redshift.evidence_kind import NO_REDSHIFT, EvidenceKind, evidence_kind
from mmbroker.processors.redshift.grids import Array
from mmbroker.processors.redshift.modes import REDSHIFT_TOLERANCE
from mmbroker.processors.redshift.posterior import COARSE_EDGES, to_probability
from mmbroker.processors.redshift.templates import FittedTemplates
from mmbroker.schemas.events import (
    Fingerprint,
    PublishedRedshift,
    RedshiftReliability,
    ReliabilityTerm,
)

FEWEST_BANDS = 5
"""With fewer measurements from the ultraviolet to 24 um, templates say nothing."""

Scale = Literal["linear", "log", "logit"]

_SMALLEST = 1e-3
"""Probabilities and differences count as at least this before their logarithm is taken."""

NAN = math.nan

_LOWEST_24_UM_HZ, _HIGHEST_24_UM_HZ = (
    relations.SPEED_OF_LIGHT_KM_S * 1e9 / micron for micron in (30, 20)
)


@dataclass(frozen=True, slots=True)
class Term:
    """One term of the ln of the odds: piecewise linear in a value, constant beyond the ends.

    Attributes:
        name: what is looked at, one of ``CHECKS``.
        values: ascending values on their scale, at which slopes change.
        log_odds: the term at each of these values.
        unknown: the term where the value is not known.
    """

    name: str
    values: tuple[float, ...]
    log_odds: tuple[float, ...]
    unknown: float

    def __post_init__(self) -> None:
        ascending = all(low < high for low, high in itertools.pairwise(self.values))
        if not (ascending and len(self.values) == len(self.log_odds) > 0):
            raise ValueError(f"the values of term {self.name!r} do not ascend, or do not match")

    def at(self, values: Array) -> Array:
        """The term at values on their scale, NaN where they are not known, the same shape."""
        return np.nan_to_num(np.interp(values, self.values, self.log_odds), nan=self.unknown)


@dataclass(frozen=True)
class ReliabilityModel:
    """The terms and constants for each kind of evidence, as they were fitted.

    Attributes:
        constants: the constant of the ln of the odds by kind of evidence.
        terms: the terms by kind of evidence.
    """

    constants: Mapping[str, float]
    terms: Mapping[str, Sequence[Term]]

    def __post_init__(self) -> None:
        for kind in EvidenceKind:
            if kind not in NO_REDSHIFT and not (kind in self.constants and kind in self.terms):
                raise ValueError(f"the reliability of redshifts by {kind.value!r} is missing")
        unknown = {one.name for many in self.terms.values() for one in many} - set(CHECKS)
        if unknown:
            raise ValueError(f"unknown terms {', '.join(sorted(unknown))}")

    @cached_property
    def identity(self) -> str:
        """Hash of all numbers, 16 hexadecimal digits."""
        text = json.dumps(self.as_json(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def as_json(self) -> dict[str, Any]:
        """All numbers by kind of evidence."""
        return {
            kind: {
                "constant": self.constants[kind],
                "terms": [asdict(one) for one in self.terms[kind]],
            }
            for kind in self.constants
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> ReliabilityModel:
        """The model of what ``as_json`` made.

        Raises:
            ValueError: the content is none.
        """
        try:
            return cls(
                {kind: float(one["constant"]) for kind, one in content.items()},
                {
                    kind: [
                        Term(
                            each["name"],
                            tuple(each["values"]),
                            tuple(each["log_odds"]),
                            float(each["unknown"]),
                        )
                        for each in one["terms"]
                    ]
                    for kind, one in content.items()
                },
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"not a model of reliability: {error!r}") from error

    def compared(
        self, fingerprints: Sequence[Fingerprint], estimated: Sequence[Estimated]
    ) -> list[int]:
        """The rows of the galaxies whose redshifts are compared with templates.

        Those without a spectrum are always: their refined redshifts rest on templates.
        """
        kinds = {
            kind
            for kind, terms in self.terms.items()
            if {term.name for term in terms} & {"mass by templates", "magnitude at 2.2 um"}
        }
        return [
            row
            for row, (one, each) in enumerate(zip(fingerprints, estimated, strict=True))
            if not len(one.chunk_index) or evidence_kind(each.posterior).value in kinds
        ]

    def rate(
        self,
        fingerprints: Sequence[Fingerprint],
        estimated: Sequence[Estimated],
        evidence: Evidence,
    ) -> list[RedshiftReliability | None]:
        """What makes each redshift right or wrong; None where there is no redshift in force.

        Args:
            fingerprints: fingerprints of N galaxies.
            estimated: what was found out about their redshifts.
            evidence: the evidence on their redshifts, with fitted templates.
        """
        kinds = [evidence_kind(each.posterior) for each in estimated]
        checks = checks_of(fingerprints, estimated, evidence)
        found: list[RedshiftReliability | None] = [None] * len(kinds)
        for kind in set(kinds) - set(NO_REDSHIFT):
            rows = [row for row, one in enumerate(kinds) if one == kind]
            constant = ReliabilityTerm("kind of evidence", None, self.constants[kind])
            columns = []
            for term in self.terms[kind]:
                values = checks[term.name][rows]
                log_odds = term.at(scaled(term.name, values)).tolist()
                columns.append((term.name, values.tolist(), log_odds))
            for place, row in enumerate(rows):
                terms = [
                    ReliabilityTerm(name, None if math.isnan(values[place]) else values[place], at)
                    for name, values, log_odds in columns
                    for at in (log_odds[place],)
                ]
                found[row] = RedshiftReliability(kind.value, [constant, *terms])
        return found


def probability_of(reliability: RedshiftReliability) -> float:
    """The probability that a redshift is right: within ``REDSHIFT_TOLERANCE`` (1 + z) of truth."""
    return 1.0 / (1.0 + math.exp(-sum(term.log_odds for term in reliability.terms)))


CHECKS: Mapping[str, Scale] = {
    "posterior mass": "logit",
    "published disagreement": "log",
    "published width": "log",
    "mass by continuum": "log",
    "mass by templates": "logit",
    "magnitude at 2.2 um": "linear",
    "1 + z": "log",
    "bands": "log",
    "S/N at 24 um": "log",
    "far-infrared S/N": "log",
    "radio S/N": "log",
}
"""What is looked at, and the scale on which it counts.

- posterior mass: probability of the posterior within 0.05 (1 + z) of the redshift;
- published disagreement: largest |z1 - z2| / (1 + z) of the published redshifts that are used;
- published width: mean half-width of their 68 % intervals over 1 + z;
- mass by continuum, mass by templates: probability within 0.05 (1 + z) of the redshift by dust and
  radio alone, and by the templates alone;
- bands: number of measured flux densities;
- S/N: of the flux densities of a range together, the square root of the sum of squares.
"""


def checks_of(
    fingerprints: Sequence[Fingerprint], estimated: Sequence[Estimated], evidence: Evidence
) -> dict[str, Array]:
    """The values of ``CHECKS`` for N galaxies, by name; NaN where not known; shape (N,).

    Args:
        fingerprints: fingerprints of the galaxies.
        estimated: what was found out about their redshifts.
        evidence: the evidence on their redshifts, with fitted templates.

    Raises:
        ValueError: no templates were fitted.
    """
    if evidence.templates is None:
        raise ValueError("the reliability of redshifts needs evidence with fitted templates")
    best = np.array([each.posterior.best for each in estimated])
    stated = [_stated(many) for many in evidence.stated]
    far = np.array([bool({"dust", "radio"} & set(one)) for one in evidence.observed], bool)
    measured = [_measured(each) for each in fingerprints]
    by_continuum = mass_around(to_probability(evidence.log_continuum), best)
    probability = np.stack([each.posterior.grid_probability for each in estimated]).astype(float)
    found = {
        "posterior mass": mass_around(probability, best),
        "published disagreement": [one[0] for one in stated],
        "published width": [one[1] for one in stated],
        "mass by continuum": np.where(far, by_continuum, NAN),
        "mass by templates": _mass_by_templates(evidence.templates, best),
        "magnitude at 2.2 um": evidence.templates.magnitude,
        "1 + z": 1.0 + best,
        "bands": [one[0] for one in measured],
        "S/N at 24 um": [one[1] for one in measured],
        "far-infrared S/N": [one[2] for one in measured],
        "radio S/N": [one[3] for one in measured],
    }
    return {name: np.asarray(values, float) for name, values in found.items()}


def scaled(name: str, values: Array) -> Array:
    """Values of a check on the scale on which it counts, the same shape; NaN stays NaN."""
    scale = CHECKS[name]
    if scale == "linear":
        return values
    if scale == "log":
        return np.asarray(np.log(np.maximum(values, _SMALLEST)))
    share = np.clip(values, _SMALLEST, 1 - _SMALLEST)
    return np.asarray(np.log(share / (1 - share)))


def mass_around(probability: Array, redshift: Array) -> Array:
    """Probability within ``REDSHIFT_TOLERANCE`` (1 + z) of a redshift, float64, shape (N,).

    Args:
        probability: of cells that are even in ln(1 + z) and reach as far as ``COARSE``, shape (N,
            cells); it need not be normalised.
        redshift: shape (N,).
    """
    edges = np.linspace(COARSE_EDGES[0], COARSE_EDGES[-1], probability.shape[1] + 1)
    return np.asarray(_mass_around(probability, np.log1p(redshift), edges))


@njit(cache=True)
def _mass_around(probability, place, edges):  # type: ignore[no-untyped-def]
    result = np.empty(len(probability))
    below = np.zeros(len(edges))
    for row in range(len(probability)):
        below[1:] = np.cumsum(probability[row])
        high = np.interp(place[row] - np.log(1 - REDSHIFT_TOLERANCE), edges, below)
        low = np.interp(place[row] - np.log(1 + REDSHIFT_TOLERANCE), edges, below)
        result[row] = (high - low) / below[-1]
    return result


def _stated(estimates: Sequence[PublishedRedshift]) -> tuple[float, float]:
    """How far published redshifts disagree, and how wide their intervals are, over 1 + z."""
    redshifts = [one.redshift for one in estimates]
    widths = [
        (one.upper_68 - one.lower_68) / 2 / (1 + one.redshift)
        for one in estimates
        if one.lower_68 is not None and one.upper_68 is not None
    ]
    span = (max(redshifts) - min(redshifts)) / (1 + min(redshifts)) if len(estimates) > 1 else NAN
    return span, sum(widths) / len(widths) if widths else NAN


def _measured(fingerprint: Fingerprint) -> tuple[float, float, float, float]:
    """The number of measured bands, and the S/N at 24 um, in the far infrared and in the radio."""
    near = far = low = NAN
    count = 0
    for band in fingerprint.bands:
        if band.weight <= 0:
            continue
        count += 1
        square = band.weighted_flux**2 / band.weight
        frequency = band.frequency_hz
        if frequency <= radio.HIGHEST_FREQUENCY_HZ:
            low = square if low != low else low + square
        elif dust.LOWEST_FREQUENCY_HZ < frequency <= dust.HIGHEST_FREQUENCY_HZ:
            far = square if far != far else far + square
        elif _LOWEST_24_UM_HZ < frequency <= _HIGHEST_24_UM_HZ:
            near = square if near != near else near + square
    return float(count), math.sqrt(near), math.sqrt(far), math.sqrt(low)


def _mass_by_templates(fitted: FittedTemplates, best: Array) -> Array:
    """Probability by templates around a redshift; NaN where they were fitted to too few bands."""
    found = np.full(len(best), NAN)
    rows = np.flatnonzero(fitted.count >= FEWEST_BANDS)
    if len(rows):
        found[rows] = mass_around(np.exp(fitted.log_posterior[rows]), best[rows])
    return found
