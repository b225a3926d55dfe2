"""Judges the probability that a redshift is right, and writes its page: by the protocol."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from astropy.stats import binom_conf_interval
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier

from mmbroker.models.measures import resampling
from mmbroker.models.packaged.reliability import load_reliability
from mmbroker.models.packaged.templates import load_templates
from mmbroker.models.pages.render import write
from mmbroker.models.redshift.conventional.tune import fold_of
from mmbroker.models.redshift.conventional.tune_held_out import FOLDS, HeldOut, load_held_out
from mmbroker.models.redshift.judged import no_harm
from mmbroker.models.redshift.probability_measures import FEWEST, area_under_curve
from mmbroker.models.redshift.reliability.cases import (
    TABLES,
    Cases,
    Sample,
    cases_of,
    read_samples,
)
from mmbroker.models.redshift.reliability.fit import LOOKED_AT, SIGNS, fit, probabilities
from mmbroker.processors.redshift.evidence_kind import EvidenceKind
from mmbroker.processors.redshift.modes import REDSHIFT_TOLERANCE
from mmbroker.processors.scoring.calibration import fit_logistic
from mmbroker.processors.scoring.reliability import scaled

Array = NDArray[np.float64]

NAME = "redshift_probability"
BEST = 50
"""So many galaxies with the highest probability are looked at."""

BINS = 5
"""Of equal count, for the calibration error."""

EDGES = (0.0, 0.1, 0.3, 0.5, 0.7, 0.8, 0.9, 1.0)

Stated = dict[str, Array]
"""Probabilities by the way they are made."""


def report(tables: Path | None, output: Path) -> None:
    """Write ``redshift_probability.md`` and ``redshift_probability.json``.

    Args:
        tables: the folder of the published tables; without it the page says that they are missing.
        output: the folder to write to.
    """
    output.mkdir(parents=True, exist_ok=True)
    numbers: dict[str, Any] = {
        "identity": load_reliability().identity,
        "tolerance": REDSHIFT_TOLERANCE,
        "folds": FOLDS,
        "resamples": resampling.RESAMPLES,
        "fewest": FEWEST,
        "best": BEST,
        "tables": list(TABLES),
    }
    if tables is not None:
        held_out = load_held_out()
        numbers["in_force"] = no_harm.judged(tables, held_out)
        numbers["probability"] = judged(read_samples(tables), held_out)
    write(NAME, numbers, output)


def judged(samples: list[Sample], held_out: HeldOut) -> dict[str, Any]:
    """Judge the probability out of fold and across fields.

    Args:
        samples: the galaxies.
        held_out: estimators whose constants have not seen some galaxies.
    """
    templates = load_templates()
    cases = cases_of(samples, templates, held_out.without)
    fold = fold_of(cases.name.tolist(), FOLDS)
    found: dict[str, Any] = {"out of fold": {}, "across fields": {}}
    stated = _crossed(cases, fold)
    for name, chosen in _groups(cases).items():
        found["out of fold"][name] = figures(cases, stated, chosen)
        unseen = chosen & cases.unseen
        if FEWEST <= unseen.sum() < chosen.sum():
            found["out of fold"][name]["unseen"] = figures(cases, stated, unseen)
    for field in sorted(set(cases.field.tolist())):
        there = [one for one in samples if one.field == field]
        judged_there = cases_of(there, templates, lambda _, at=field: held_out.fields[at])  # type: ignore[misc]
        others = cases.select(cases.field != field)
        ways = {name: way(others, judged_there) for name, way in WAYS.items()}
        fitted = set(others.kind.tolist())
        for name, chosen in _groups(judged_there).items():
            if set(judged_there.kind[chosen].tolist()) <= fitted:
                found["across fields"][name] = figures(judged_there, ways, chosen)
    return found


def figures(cases: Cases, stated: Stated, chosen: NDArray[np.bool_]) -> dict[str, Any]:
    """The figures of some cases, with 95 % intervals over galaxies.

    Args:
        cases: the cases.
        stated: probabilities by the way they are made, those of ``MODEL`` among them.
        chosen: which cases count, shape (N,).
    """
    right = cases.right[chosen]
    ours = stated[MODEL][chosen]
    best = np.argsort(-ours, kind="stable")[:BEST]
    drawn = resampling.rows(len(right))
    found: dict[str, Any] = {
        "n": len(right),
        "right": _share(right),
        "stated": float(ours.mean()),
        "best": _share(right[best]),
        "calibration_error": calibration_error(ours, right),
        "bins": _bins(ours, right),
        "ways": {},
    }
    numbers = {name: one[chosen] for name, one in stated.items()}
    alone = {
        "agreement of the published": -cases.checks["published disagreement"][chosen],
        "flux density at 500 um": cases.s500_jy[chosen],
    }
    for name, values in {**numbers, **alone}.items():
        known = np.isfinite(values)
        one: dict[str, Any] = {}
        if right[known].any() and not right[known].all() and len(np.unique(values[known])) > 1:
            filled = np.where(known, values, np.nanmedian(values))
            areas = area_under_curve(filled[drawn], right[drawn])
            one["area"] = [float(area_under_curve(filled, right)), *resampling.interval(areas)]
        if name in numbers:
            loss = (values - right) ** 2
            one["brier"] = _mean(loss)
            if name != MODEL:
                one["brier_difference"] = _mean((ours - right) ** 2 - loss)
        found["ways"][name] = one
    return found


def calibration_error(stated: Array, right: NDArray[np.bool_]) -> float:
    """The mean |stated - right| over bins of equal count."""
    parts = np.array_split(np.argsort(stated, kind="stable"), BINS)
    return float(np.mean([abs(stated[one].mean() - right[one].mean()) for one in parts]))


def _crossed(cases: Cases, fold: NDArray[np.int64]) -> Stated:
    """Probabilities of each case by all ways, fitted to the other folds."""
    found = {name: np.empty(len(cases)) for name in WAYS}
    for number in range(FOLDS):
        left, out = cases.select(fold != number), cases.select(fold == number)
        for name, way in WAYS.items():
            found[name][fold == number] = way(left, out)
    return found


def _model(fitted: Cases, cases: Cases) -> Array:
    return probabilities(fit(fitted), cases)


def _mass(fitted: Cases, cases: Cases) -> Array:
    """The former probability: the posterior mass, calibrated for all kinds together."""
    calibration = fit_logistic(fitted.checks["posterior mass"], fitted.right)
    return np.asarray(calibration.apply(cases.checks["posterior mass"]), float)


def _trees(fitted: Cases, cases: Cases) -> Array:
    """Boosted trees, monotone where physics says so, a model for each kind of evidence."""
    found = np.full(len(cases), float(fitted.right.mean()))
    for kind, names in LOOKED_AT.items():
        own, asked = fitted.kind == kind.value, cases.kind == kind.value
        if not asked.any() or len(set(fitted.right[own].tolist())) < 2:
            continue
        trees = HistGradientBoostingClassifier(
            max_depth=2,
            learning_rate=0.04,
            max_iter=120,
            min_samples_leaf=25,
            l2_regularization=10.0,
            monotonic_cst=[SIGNS.get(name, 0) for name in names],
            random_state=0,
        )
        trees.fit(_columns(fitted.select(own), names), fitted.right[own])
        found[asked] = trees.predict_proba(_columns(cases.select(asked), names))[:, 1]
    return found


def _columns(cases: Cases, names: tuple[str, ...]) -> Array:
    return np.asarray(np.stack([scaled(name, cases.checks[name]) for name in names], axis=1))


MODEL, MASS, TREES = "the model", "posterior mass, calibrated", "boosted trees"
WAYS: Mapping[str, Callable[[Cases, Cases], Array]] = {MODEL: _model, MASS: _mass, TREES: _trees}
"""Ways to state a probability: fitted to some cases, applied to others."""


def _groups(cases: Cases) -> dict[str, NDArray[np.bool_]]:
    """Cases by kind of evidence and field; those with fewer than ``FEWEST`` are left out."""
    fields = sorted(set(cases.field.tolist()))
    found = {
        f"{field}: {kind.value}": (cases.field == field) & (cases.kind == kind.value)
        for kind in EvidenceKind
        for field in fields
    }
    found |= {
        f"all fields: {kind.value}": cases.kind == kind.value
        for kind in EvidenceKind
        if len(set(cases.field[cases.kind == kind.value].tolist())) > 1
    }
    return {name: chosen for name, chosen in found.items() if chosen.sum() >= FEWEST}


def _bins(stated: Array, right: NDArray[np.bool_]) -> list[dict[str, Any]]:
    place = np.digitize(stated, EDGES[1:-1])
    return [
        {
            "from": EDGES[one],
            "to": EDGES[one + 1],
            "n": int((place == one).sum()),
            "stated": float(stated[place == one].mean()),
            "right": _share(right[place == one]),
        }
        for one in range(len(EDGES) - 1)
        if (place == one).any()
    ]


def _share(right: NDArray[np.bool_]) -> list[float]:
    """A share with its 95 % interval (Wilson 1927)."""
    low, high = binom_conf_interval(int(right.sum()), len(right), 0.95, interval="wilson")
    return [float(right.mean()), float(low), float(high)]


def _mean(values: Array) -> list[float]:
    ends = resampling.bootstrap(lambda drawn: np.asarray(drawn.mean(axis=-1)), values)
    return [float(values.mean()), *ends]
