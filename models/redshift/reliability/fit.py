"""Fits the model of the probability that a redshift is right to cases of real galaxies.

Each kind of evidence has a constant and terms of its own: a logistic regression on pieces of the
values, with a quadratic penalty. Pieces whose sign physics tells may not have the other one. A kind
that has fewer than ``FEWEST`` galaxies takes what is fitted to the posterior mass of all kinds
together: a straight line in the logit (Platt 1999). The model in
force is fitted on the published tables:

MMBROKER_DATA=folder/of/tables python -m mmbroker.models.redshift.reliability.fit
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit

from mmbroker.models.packaged.cards import about
from mmbroker.models.packaged.reliability import NAME, PATH, save_reliability
from mmbroker.models.packaged.templates import load_templates
from mmbroker.models.real_data.folder import add_data_option
from mmbroker.models.redshift.conventional.tune import fold_of
from mmbroker.models.redshift.probability_measures import FEWEST
from mmbroker.models.redshift.reliability.cases import (
    TABLES,
    Cases,
    Sample,
    cases_of,
    read_samples,
)
from mmbroker.processors.redshift import ConventionalRedshift
from mmbroker.processors.redshift.evidence_kind import NO_REDSHIFT, EvidenceKind
from mmbroker.processors.redshift.modes import REDSHIFT_TOLERANCE
from mmbroker.processors.scoring.reliability import ReliabilityModel, Term, scaled
from mmbroker.schemas import __version__

Array = NDArray[np.float64]

LOOKED_AT: Mapping[EvidenceKind, tuple[str, ...]] = {
    EvidenceKind.PUBLISHED_AND_FAR: (
        "posterior mass",
        "published disagreement",
        "published width",
        "mass by continuum",
        "mass by templates",
        "magnitude at 2.2 um",
        "1 + z",
        "S/N at 24 um",
        "far-infrared S/N",
        "radio S/N",
    ),
    EvidenceKind.PUBLISHED: (
        "posterior mass",
        "published disagreement",
        "published width",
        "mass by templates",
        "magnitude at 2.2 um",
        "1 + z",
    ),
    EvidenceKind.FAR: (
        "posterior mass",
        "mass by templates",
        "magnitude at 2.2 um",
        "1 + z",
        "bands",
        "S/N at 24 um",
        "far-infrared S/N",
        "radio S/N",
    ),
}
"""What is looked at, by kind of evidence; of other kinds at the posterior mass alone."""

SIGNS: Mapping[str, int] = {
    "posterior mass": 1,
    "published disagreement": -1,
    "published width": -1,
    "mass by continuum": 1,
    "mass by templates": 1,
}
"""The sign that a slope may have alone."""

PENALTIES = (1.0, 3.0, 8.0, 20.0, 50.0)
"""Half of it times the square of each weight, the ln of the odds for one standard deviation, is
added to the loss."""

FOLDS = 5

QUANTILES = (0.01, 0.25, 0.5, 0.75, 0.99)
"""Quantiles of the cases' values at which the terms' slopes change; terms are constant beyond."""

_LEAST_SPREAD = 1e-6


@dataclass(frozen=True, slots=True)
class _Fitted:
    constant: float
    terms: tuple[Term, ...]


def fit(cases: Cases) -> ReliabilityModel:
    """Fit the model to cases.

    Args:
        cases: the cases, of any kinds.

    Raises:
        ValueError: all redshifts are right, or all are wrong.
    """
    if cases.right.all() or not cases.right.any():
        raise ValueError("the probability cannot be fitted: it needs right and wrong redshifts")
    # Straight in the logit, so that it goes on beyond the cases: lines make narrow posteriors.
    everywhere = scaled("posterior mass", np.array([0.0, 1.0]))
    parent = _maximise(cases, ("posterior mass",), PENALTIES[0], everywhere)
    found: dict[EvidenceKind, _Fitted] = {}
    for kind in EvidenceKind:
        if kind in NO_REDSHIFT:
            continue
        own = cases.select(cases.kind == kind.value)
        enough = len(np.unique(own.galaxy)) >= FEWEST
        found[kind] = _fit_kind(own, LOOKED_AT.get(kind, ("posterior mass",))) if enough else parent
    return ReliabilityModel(
        {kind.value: one.constant for kind, one in found.items()},
        {kind.value: one.terms for kind, one in found.items()},
    )


def probabilities(model: ReliabilityModel, cases: Cases) -> Array:
    """The probability that each redshift is right, float64, shape (N,)."""
    log_odds = np.zeros(len(cases))
    for kind, constant in model.constants.items():
        rows = cases.kind == kind
        fitted = _Fitted(constant, tuple(model.terms[kind]))
        log_odds[rows] = _log_odds(fitted, cases.select(rows))
    return np.asarray(expit(log_odds))


def _fit_kind(cases: Cases, names: Sequence[str]) -> _Fitted:
    """The terms and the constant for cases of one kind, with the best penalty.

    The penalty is that with the highest likelihood of cases whose galaxies were left out, in five
    folds by name.

    Args:
        cases: the cases.
        names: what is looked at.

    Raises:
        ValueError: all redshifts are right, or all are wrong.
    """
    if cases.right.all() or not cases.right.any():
        raise ValueError("the probability cannot be fitted: it needs right and wrong redshifts")
    fold = fold_of(cases.galaxy.tolist(), FOLDS)
    losses = np.zeros(len(PENALTIES))
    for number in range(FOLDS):
        left, out = cases.select(fold != number), cases.select(fold == number)
        if not len(out) or left.right.all() or not left.right.any():
            continue
        for place, penalty in enumerate(PENALTIES):
            log_odds = _log_odds(_maximise(left, names, penalty), out)
            losses[place] += np.logaddexp(0.0, np.where(out.right, -log_odds, log_odds)).sum()
    return _maximise(cases, names, PENALTIES[int(losses.argmin())])


def _log_odds(fitted: _Fitted, cases: Cases) -> Array:
    """The ln of the odds of cases of one kind, shape (N,)."""
    terms = [one.at(scaled(one.name, cases.checks[one.name])) for one in fitted.terms]
    return np.asarray(fitted.constant + np.sum(terms, axis=0))


def _maximise(
    cases: Cases, names: Sequence[str], penalty: float, knots: Array | None = None
) -> _Fitted:
    """The terms and the constant with the highest penalised likelihood.

    Args:
        cases: the cases.
        names: what is looked at.
        penalty: see ``PENALTIES``.
        knots: the values at which slopes change; by default quantiles of the cases' own.
    """
    right = cases.right
    found_parts = [_part(name, cases.checks[name], knots) for name in names]
    parts = [part for part in found_parts if part is not None]
    design = np.concatenate([part.columns for part in parts], axis=1)
    bounds: list[tuple[float | None, float | None]] = [(None, None)]
    for part in parts:
        sign = SIGNS.get(part.name, 0)
        own = [(0.0 if sign > 0 else None, 0.0 if sign < 0 else None)] * len(part.spread)
        bounds += [*own, (None, None)] if part.unknown else own

    def loss(parameters: Array) -> tuple[float, Array]:
        log_odds = parameters[0] + design @ parameters[1:]
        value = np.logaddexp(0.0, log_odds).sum() - log_odds[right].sum()
        excess = expit(log_odds) - right
        slope = np.concatenate([[excess.sum()], design.T @ excess + penalty * parameters[1:]])
        return float(value + penalty / 2 * np.square(parameters[1:]).sum()), slope

    start = np.zeros(design.shape[1] + 1)
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds).x
    terms, first = [], 1
    for part in parts:
        count = part.columns.shape[1]
        terms.append(part.term(found[first : first + count]))
        first += count
    return _Fitted(float(found[0]), tuple(terms))


@dataclass(frozen=True, slots=True, eq=False)
class _Part:
    """The columns of the design for one thing that is looked at.

    Attributes:
        name: what is looked at.
        knots: ends of the pieces, on the scale of the values, shape (pieces + 1,).
        centre: mean of how far the values reach into each piece, shape (pieces,).
        spread: standard deviation of the same, shape (pieces,).
        unknown: the last column says which values are not known: its spread; 0 without one.
        columns: how far each value reaches into each piece, scaled; 0 where it is not known; and
            perhaps the column of those that are not known; shape (cases, columns).
    """

    name: str
    knots: Array
    centre: Array
    spread: Array
    unknown: float
    columns: Array

    def term(self, weights: Array) -> Term:
        """The term that the weights of the columns make, shape (columns,)."""
        slopes = weights[: len(self.spread)] / self.spread
        rise = np.concatenate([[0.0], np.cumsum(slopes * np.diff(self.knots))])
        log_odds = rise - slopes @ self.centre
        unknown = float(weights[-1] / self.unknown) if self.unknown else 0.0
        return Term(self.name, tuple(self.knots.tolist()), tuple(log_odds.tolist()), unknown)


def _part(name: str, values: Array, knots: Array | None = None) -> _Part | None:
    """The columns for one check; None where it has one value only, or none.

    Args:
        name: of the check.
        values: of the cases, NaN where not known.
        knots: see ``_maximise``.
    """
    on_scale = scaled(name, values)
    missing = ~np.isfinite(on_scale)
    if missing.all():
        return None
    if knots is None:
        knots = np.unique(np.nanquantile(on_scale, QUANTILES))
    if len(knots) < 2:
        return None
    reach = np.clip(on_scale[:, None], knots[:-1], knots[1:]) - knots[:-1]
    centre, spread = np.nanmean(reach, axis=0), np.nanstd(reach, axis=0)
    spread = np.maximum(spread, _LEAST_SPREAD)
    columns = [np.nan_to_num((reach - centre) / spread)]
    unknown = float(missing.std()) if missing.sum() >= FEWEST else 0.0
    if unknown:
        columns.append(missing[:, None] / unknown)
    return _Part(name, knots, centre, spread, unknown, np.concatenate(columns, axis=1))


def card_of(cases: Cases, fitted_on: Sequence[str]) -> dict[str, Any]:
    """What the packaged model says of itself.

    Args:
        cases: what it was fitted to.
        fitted_on: the tables.
    """
    by_kind = {
        kind.value: cases.select(cases.kind == kind.value)
        for kind in EvidenceKind
        if kind not in NO_REDSHIFT
    }
    return {
        "code_version": __version__,
        "fitted_on": list(fitted_on),
        "conventional": ConventionalRedshift().identity,
        "templates": load_templates().identity,
        "right_within": REDSHIFT_TOLERANCE,
        "kinds": {
            name: {
                "cases": len(some),
                "galaxies": len(np.unique(some.galaxy)),
                "right": round(float(some.right.mean()), 4) if len(some) else None,
                "fitted_to": name if len(np.unique(some.galaxy)) >= FEWEST else "all kinds",
            }
            for name, some in by_kind.items()
        },
        **about(NAME),
    }


def fit_in_force(samples: Sequence[Sample]) -> tuple[ReliabilityModel, Cases]:
    """Fit the model to galaxies, with the redshifts in force.

    Args:
        samples: the galaxies.

    Returns:
        The model, and the cases that it was fitted to.
    """
    estimator = ConventionalRedshift()
    cases = cases_of(samples, load_templates(), lambda _: estimator)
    return fit(cases), cases


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m mmbroker.models.redshift.reliability.fit",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_data_option(parser)
    parser.add_argument("--path", type=Path, default=PATH, help="the file to write")
    options = parser.parse_args(arguments)
    model, cases = fit_in_force(read_samples(options.data))
    save_reliability(model, card_of(cases, TABLES), options.path)


if __name__ == "__main__":
    main()
