"""Has what a comparison of redshift estimates with a table found: figures, differences, JSON."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import asdict, dataclass, field
from itertools import compress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmbroker.models.redshift import measures
from mmbroker.models.redshift.baselines.baselines import (
    CONVENTIONAL,
    LOG_LINEAR,
    PUBLISHED,
    RECALIBRATED,
    STACKED,
    TREES,
    WITH_TEMPLATES,
)
from mmbroker.models.redshift.probability_measures import Reliability, reliability
from mmbroker.models.redshift.real_galaxies import (
    Array,
    Difference,
    Differences,
    Estimates,
    Figures,
)
from mmbroker.processors.redshift.evidence_kind import EvidenceKind
from mmbroker.processors.redshift.modes import REDSHIFT_TOLERANCE
from mmbroker.processors.redshift.refined import Fallback
from mmbroker.schemas.events import RedshiftPosterior

FAR_INFRARED = "conventional far-infrared"
TEMPLATES_PHOTOMETRY = "with templates, without published"
REFINED = "refined"
REFINED_PHOTOMETRY = "refined without published"

EVERYTHING = "all"
"""Galaxies that have every published redshift that is compared."""

EVERY_ROW = "every row"
"""Those without a published redshift too; there are figures of our estimates alone."""


@dataclass(frozen=True, slots=True, eq=False)
class ComparedTable:
    """Estimates of every estimator on the same galaxies, N of them."""

    table: str
    truth: Array
    """Spectroscopic redshifts, shape (N,)."""

    subsets: dict[str, NDArray[np.bool_]]
    estimates: dict[str, Estimates]
    """NaN where one makes none of a galaxy."""

    posteriors: list[RedshiftPosterior]
    problems: list[str]
    """Why parts of the table are not judged: what cannot be read, what the stream would refuse."""

    identity: str
    mapping: str
    """Name of the mapping."""

    identifiers: list[str] = field(default_factory=list)
    positions: Array = field(default_factory=lambda: np.zeros((0, 2)))
    """Right ascension and declination in degrees, ICRS, shape (N, 2)."""

    kinds: list[EvidenceKind] = field(default_factory=list)
    """What the redshift of each galaxy rests on."""

    probability: Array | None = None
    """The stated probability that the conventional redshift is right, as in scored galaxies, shape
    (N,); None if it is not among the estimates."""

    notes: list[str] = field(default_factory=list)
    """What could not be compared, and why."""

    reasons: dict[str, list[Fallback | None]] = field(default_factory=dict)
    """Why an estimate of each galaxy is the conventional one, or None, by learned estimator."""

    known: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, bool))
    """Which galaxies learned estimators were fitted or chosen on, shape (N,)."""

    ranks: dict[str, Array] = field(default_factory=dict)
    """Posterior probability below the truth of each galaxy, by estimator that is plotted."""

    simulated: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, bool))
    """Which galaxies have simulated data in them."""

    @property
    def trained_on(self) -> int:
        """How many galaxies the learned estimators among ours were fitted or chosen on."""
        return int(self.known.sum()) if self.reasons else 0

    def estimators(self, subset: str) -> list[str]:
        """Names of the estimators that estimate every galaxy of a subset; none of an empty one."""
        chosen = self.subsets[subset]
        if not chosen.any():
            return []
        return [
            name for name, one in self.estimates.items() if np.isfinite(one.redshift[chosen]).all()
        ]

    def fallbacks(self, subset: str, estimator: str) -> dict[Fallback, int]:
        """How many galaxies of a subset have the conventional estimate instead, by reason."""
        reasons = compress(self.reasons.get(estimator, []), self.subsets[subset])
        return dict(Counter(each for each in reasons if each is not None))

    def figures(self, subset: str, estimator: str) -> Figures:
        """The figures of one estimator on one subset; None where there are none."""
        count = int(self.subsets[subset].sum())
        if not count:
            return {"n": 0, **dict.fromkeys(measures.MEASURES)}
        values = self.values(subset, estimator)
        return {
            "n": count,
            **{
                name: _or_none(float(measures.MEASURES[name](each)))
                for name, each in values.items()
            },
        }

    def values(self, subset: str, estimator: str) -> dict[str, Array]:
        """What each of ``measures.MEASURES`` is taken of, a value for each galaxy of a subset."""
        chosen = self.subsets[subset]
        truth = self.truth[chosen]
        one = self.estimates[estimator].select(chosen)
        delta = measures.deviation(one.redshift, truth)
        return {
            **dict.fromkeys(("mae", "nmad", "outliers"), delta),
            "crps": one.crps,
            "coverage68": measures.covered(one.lower_68, one.upper_68, truth),
            "coverage95": measures.covered(one.lower_95, one.upper_95, truth),
        }

    def differences(self, subset: str, estimator: str, reference: str) -> Differences:
        """One estimator's figures minus another's on the same galaxies, with paired intervals."""
        if not self.subsets[subset].any():
            return dict.fromkeys(measures.MEASURES)
        ours, theirs = (self.values(subset, each) for each in (estimator, reference))
        found: Differences = {}
        for name, measure in measures.MEASURES.items():
            value = float(measure(ours[name]) - measure(theirs[name]))
            low, high = measures.paired_bootstrap(measure, ours[name], theirs[name])
            found[name] = (value, low, high) if math.isfinite(value) else None
        return found

    def references(self, subset: str, estimator: str) -> list[str]:
        """What an estimate of ours is compared with on a subset: others that know as much."""
        there = self.estimators(subset)
        if sum(self.fallbacks(subset, estimator).values()) == self.subsets[subset].sum():
            return []  # it is the conventional redshift everywhere, so no difference is its own
        wanted = {
            CONVENTIONAL: [],
            REFINED: [CONVENTIONAL, WITH_TEMPLATES, STACKED, LOG_LINEAR, TREES],
            REFINED_PHOTOMETRY: [FAR_INFRARED, TEMPLATES_PHOTOMETRY],
        }
        if estimator not in wanted:
            return []
        found = [name for name in wanted[estimator] if name in there]
        if estimator != REFINED_PHOTOMETRY:
            found += [name for name in there if name.startswith((PUBLISHED, RECALIBRATED))]
        return found

    def right(self) -> NDArray[np.bool_]:
        """Whether the conventional redshift of each galaxy is right, shape (N,)."""
        delta = measures.deviation(self.estimates[CONVENTIONAL].redshift, self.truth)
        return np.asarray(np.abs(delta) <= REDSHIFT_TOLERANCE)

    def reliabilities(self) -> dict[str, Reliability]:
        """How good the stated probability is: of all galaxies, and by kind of evidence."""
        if self.probability is None:
            return {}
        right, kinds = self.right(), np.array(self.kinds)
        stated = np.isfinite(self.probability)
        groups = {EVERY_ROW: stated}
        groups |= {kind.value: stated & (kinds == kind) for kind in EvidenceKind}
        return {
            name: reliability(self.probability[chosen], right[chosen])
            for name, chosen in groups.items()
            if chosen.any()
        }

    def as_json(self) -> dict[str, Any]:
        """All figures, with names and 95 % intervals.

        ``groups`` has ``{group: {estimator: {n, mae, ..., minus: {reference: {mae, ...}}}}}``. A
        figure, and a difference to a reference, is ``{"value": number, "interval_95": {"lower":
        number, "upper": number}}``, or None where there is none. The figures are those of
        ``measures.MEASURES``. Estimates of ours alone have ``minus``, and ``fallbacks`` where some
        are the conventional one: how many, by reason. ``simulated`` is the number of galaxies with
        simulated data, if there are any. ``reliability`` has figures of the stated probability for
        every row and by kind of evidence.
        """
        return {
            "table": self.table,
            "mapping": self.mapping,
            "constants": self.identity,
            "galaxies": len(self.truth),
            "learned_from": int(self.known.sum()),
            "problems": self.problems,
            "notes": self.notes,
            "groups": {
                subset: {
                    estimator: {
                        **self._figures(subset, estimator),
                        **self._minus(subset, estimator),
                        **self._fallen_back(subset, estimator),
                        **self._simulated(subset),
                    }
                    for estimator in self.estimators(subset)
                }
                for subset in self.subsets
            },
            "reliability": {name: _as_json(one) for name, one in self.reliabilities().items()},
        }

    def _figures(self, subset: str, estimator: str) -> dict[str, Any]:
        found: dict[str, Any] = {"n": int(self.subsets[subset].sum())}
        for name, values in self.values(subset, estimator).items():
            measure = measures.MEASURES[name]
            value = float(measure(values))
            found[name] = (
                _named((value, *measures.bootstrap(measure, values)))
                if math.isfinite(value)
                else None
            )
        return found

    def _minus(self, subset: str, estimator: str) -> dict[str, dict[str, Any]]:
        compared = {
            reference: {
                name: found and _named(found)
                for name, found in self.differences(subset, estimator, reference).items()
            }
            for reference in self.references(subset, estimator)
        }
        return {"minus": compared} if compared else {}

    def _fallen_back(self, subset: str, estimator: str) -> dict[str, dict[Fallback, int]]:
        found = self.fallbacks(subset, estimator)
        return {"fallbacks": found} if found else {}

    def _simulated(self, subset: str) -> dict[str, int]:
        count = int((self.simulated & self.subsets[subset]).sum())
        return {"simulated": count} if count else {}


def _named(found: Difference) -> dict[str, Any]:
    value, lower, upper = found
    return {"value": value, "interval_95": {"lower": lower, "upper": upper}}


def _as_json(one: Reliability) -> dict[str, Any]:
    return {
        "n": one.count,
        **{name: found and _named(found) for name, found in one.figures.items()},
        "bins": [{**asdict(each), "right": _named(each.right)} for each in one.bins],
    }


def _or_none(value: float) -> float | None:
    return value if math.isfinite(value) else None
