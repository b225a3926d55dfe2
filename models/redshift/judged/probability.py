"""Judges the probability that a redshift is right, and writes its page: by the protocol."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier

from mmbroker.models.measures import resampling
from mmbroker.models.packaged.reliability import load_reliability
from mmbroker.models.packaged.templates import load_templates
from mmbroker.models.pages.render import write
from mmbroker.models.redshift.conventional.tune import fold_of
from mmbroker.models.redshift.conventional.tune_held_out import FOLDS, HeldOut, load_held_out
from mmbroker.models.redshift.judged import no_harm, one_line
from mmbroker.models.redshift.probability_measures import FEWEST, area_under_curve, share
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

PUBLISHED = f"GOODS-N: {EvidenceKind.PUBLISHED_AND_FAR.value}"
"""The group of galaxies with published redshifts and all else."""

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
        "limit": no_harm.LIMIT,
        "published": PUBLISHED,
        "tables": list(TABLES),
    }
    if tables is not None:
        held_out = load_held_out()
        numbers["in_force"] = no_harm.judged(tables, held_out)
        numbers["probability"] = judged(read_samples(tables), held_out)
        numbers["one_line"] = one_line.judged(tables)
        numbers["conditions"] = conditions(
            numbers["in_force"], numbers["probability"], numbers["one_line"]
        )
        draw(output / f"{NAME}.png", numbers["probability"]["out of fold"])
    write(NAME, numbers, output)


def conditions(
    in_force: dict[str, Any], probability: dict[str, Any], by_one_line: dict[str, Any]
) -> list[dict[str, Any]]:
    """The conditions of the protocol, what was found, and whether it meets them."""
    found: list[dict[str, Any]] = []

    def add(asked: str, said: str, met: bool) -> None:
        found.append({"asked": asked, "found": said, "met": met})

    for way in ("out of fold", "across fields"):
        judged_there = [
            (f"{field}, {subset}: {name}", each["holds"])
            for field, one in in_force[way].items()
            for subset, some in one["subsets"].items()
            for name, each in some["measures"].items()
        ]
        failed = [name for name, holds in judged_there if not holds]
        add(
            f"no harm, {way}: {len(judged_there)} upper ends within the limit",
            f"{len(judged_there) - len(failed)} are; not: {', '.join(failed) or 'none'}",
            not failed,
        )
    for field, one in in_force["out of fold"].items():
        for subset in ("all", f"z > {no_harm.HIGH_REDSHIFT}"):
            held = one["subsets"][subset]["held68"][0]
            add(f"{field}, {subset}: 68 % hold 65 to 71 %", f"{held:.1%}", 0.65 <= held <= 0.71)
        below = one["subsets"]["all"]["below_median"][0]
        add(f"{field}: 47 to 53 % below the median", f"{below:.1%}", 0.47 <= below <= 0.53)
    held = by_one_line["by transitions of other galaxies"]
    for per_cent, low, high in (("68", 0.63, 0.73), ("95", 0.92, 0.98)):
        found_to_hold = held[f"held{per_cent}"]
        asked = f"one line alone: {per_cent} % hold {low:.0%} to {high:.0%}"
        add(asked, f"{found_to_hold:.1%}", low <= found_to_hold <= high)
    for way, groups in probability.items():
        for name, one in groups.items():
            area = one["ways"][MODEL].get("area")
            least = 0.75 if name.split(": ")[1].startswith("published") else 0.70
            if area is not None:
                asked = f"{name}, {way}: area at least {least:g}"
                add(asked, f"{area[0]:.3f} ({area[1]:.3f} to {area[2]:.3f})", area[0] >= least)
            error = one["calibration_error"]
            add(f"{name}, {way}: calibration error below 0.03", f"{error:.3f}", error < 0.03)
            difference = one["ways"][MASS]["brier_difference"]
            add(
                f"{name}, {way}: Brier score below that of the former probability",
                f"{difference[0]:+.4f} ({difference[1]:+.4f} to {difference[2]:+.4f})",
                difference[2] < 0,
            )
    best = probability["out of fold"][PUBLISHED]["best"]
    add(
        f"{PUBLISHED}: of the best {BEST} at least 95 % right",
        f"{best[0]:.0%} ({best[1]:.0%} to {best[2]:.0%})",
        best[0] >= 0.95,
    )
    return found


def draw(path: Path, groups: dict[str, Any]) -> None:
    """Draw stated against right, and the share that is right among the best.

    Args:
        path: the file of the figure.
        groups: the figures out of fold, by group.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot([0, 1], [0, 1], color="black", lw=0.8)
    for name, one in groups.items():
        bins = [each for each in one["bins"] if each["n"] >= 10]
        if name.startswith("all fields") or not bins:
            continue
        stated = np.array([each["stated"] for each in bins])
        share = np.array([each["right"] for each in bins])
        spread = np.abs(share[:, 1:].T - share[:, 0])
        left.errorbar(stated, share[:, 0], spread, fmt="o-", ms=4, lw=1, capsize=2, label=name)
        right.plot(one["among"]["count"], one["among"]["right"], lw=1.3, label=name)
        right.axhline(one["right"][0], color=right.lines[-1].get_color(), lw=0.6, ls=":")
    left.set(xlabel="stated probability", ylabel="share that is right", title="reliability")
    right.set(
        xscale="log",
        xlabel="galaxies with the highest probability",
        ylabel="share that is right among them",
        title="ranking (dotted: all galaxies of the kind)",
    )
    left.legend(fontsize=7)
    figure.savefig(path, dpi=90)


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
        "right": share(right),
        "stated": float(ours.mean()),
        "best": share(right[best]),
        "calibration_error": calibration_error(ours, right),
        "bins": _bins(ours, right),
        "among": _among(ours, right),
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
            "right": share(right[place == one]),
        }
        for one in range(len(EDGES) - 1)
        if (place == one).any()
    ]


def _among(stated: Array, right: NDArray[np.bool_]) -> dict[str, list[Any]]:
    """The share that is right among the galaxies with the highest probabilities."""
    share = np.cumsum(right[np.argsort(-stated, kind="stable")]) / np.arange(1, len(right) + 1)
    count = np.unique(np.geomspace(min(10, len(right)), len(right), 40).astype(int))
    return {"count": count.tolist(), "right": share[count - 1].round(4).tolist()}


def _mean(values: Array) -> list[float]:
    ends = resampling.bootstrap(lambda drawn: np.asarray(drawn.mean(axis=-1)), values)
    return [float(values.mean()), *ends]
