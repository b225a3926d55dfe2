"""Judges whether redshifts in force are ever worse than the published ones that they take in."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray

from mmbroker.models.real_data.catalogues import GOODS_NORTH, SPT
from mmbroker.models.redshift import measures
from mmbroker.models.redshift.conventional.tune_held_out import HeldOut
from mmbroker.models.redshift.probability_measures import share
from mmbroker.models.redshift.real_galaxies import Estimates, Galaxies, read_galaxies
from mmbroker.models.redshift.sample import FAINT_JY
from mmbroker.processors.redshift import ConventionalRedshift
from mmbroker.processors.redshift.modes import REDSHIFT_TOLERANCE
from mmbroker.schemas.events import RedshiftPosterior

Array = NDArray[np.float64]

TABLES = {"GOODS-N": GOODS_NORTH, "SPT": SPT[0]}
LITERATURE = "more/catalogues/goodsn_literature_specz/goodsn_literature_specz.ecsv"
LIMIT = 0.02
"""Worse by at most this share of the published figure."""

JUDGED = ("mae", "nmad", "outliers", "crps")
HIGH_REDSHIFT = 1.5
BIAS_EDGES = (0.0, 0.5, 1.0, 2.0, 7.0)
FAR_OFF = 0.15
"""A redshift that differs from every published one by more than this times 1 + z overrules them."""


def judged(tables: Path, held_out: HeldOut) -> dict[str, Any]:
    """Compare redshifts in force with published ones, by constants that have not seen them.

    Args:
        tables: the folder of the published tables.
        held_out: the estimators.

    Returns:
        By ``out of fold`` and ``across fields``, and by field: the figures.
    """
    galaxies = {field: read_galaxies(tables / name) for field, name in TABLES.items()}
    found: dict[str, Any] = {}
    for way, estimator_of in (
        ("out of fold", lambda field: held_out.without),
        ("across fields", lambda field: lambda _: held_out.fields[field]),
    ):
        found[way] = {
            field: _field(one, estimates_with(one, estimator_of(field)))
            for field, one in galaxies.items()
        }
    goods = galaxies["GOODS-N"]
    other = _second_truth(goods, Table.read(tables / LITERATURE))
    found["bias"] = _bias(goods)
    posteriors = estimates_with(goods, held_out.without)
    complete = _complete(goods)
    found["second truth"] = {
        "galaxies": int(np.isfinite(other).sum()),
        "differ": share(_differs(goods.truth, other)[np.isfinite(other)]),
        **_compared(goods, posteriors, complete, np.where(np.isfinite(other), other, goods.truth)),
    }
    return found


def _bias(galaxies: Galaxies) -> list[dict[str, float]]:
    """How far published redshifts lie below or above the truth, by published redshift."""
    logs = [np.log1p(one.redshift) for one in galaxies.published.values()]
    stated = np.mean(logs, axis=0)
    off = stated - np.log1p(galaxies.truth)
    inside = [
        (low, high, (stated >= np.log1p(low)) & (stated < np.log1p(high)))
        for low, high in itertools.pairwise(BIAS_EDGES)
    ]
    return [
        {"from": low, "to": high, "n": int(some.sum()), "median": float(np.median(off[some]))}
        for low, high, some in inside
        if some.any()
    ]


def estimates_with(
    galaxies: Galaxies, estimator_of: Callable[[str], ConventionalRedshift]
) -> list[RedshiftPosterior]:
    """The posterior of each galaxy by an estimator that depends on its name."""
    rows: dict[int, list[int]] = {}
    estimators: dict[int, ConventionalRedshift] = {}
    for row, name in enumerate(galaxies.identifiers):
        estimator = estimator_of(name)
        estimators[id(estimator)] = estimator
        rows.setdefault(id(estimator), []).append(row)
    found: dict[int, RedshiftPosterior] = {}
    for key, estimator in estimators.items():
        some = [galaxies.fingerprints[row] for row in rows[key]]
        found |= dict(zip(rows[key], estimator.estimate(some), strict=True))
    return [found[row] for row in range(len(galaxies.identifiers))]


def _field(galaxies: Galaxies, posteriors: Sequence[RedshiftPosterior]) -> dict[str, Any]:
    complete = _complete(galaxies)
    faint = complete & ~(galaxies.s500_jy >= FAINT_JY)
    subsets = {
        "all": complete,
        "S500 < 15 mJy": faint,
        "0 < S500 < 15 mJy": faint & (galaxies.s500_jy > 0),
        f"z > {HIGH_REDSHIFT}": complete & (galaxies.truth > HIGH_REDSHIFT),
    }
    return {
        "subsets": {
            name: _compared(galaxies, posteriors, chosen, galaxies.truth)
            for name, chosen in subsets.items()
            if chosen.any()
        },
        "overruled": _overruled(galaxies, posteriors, complete),
    }


def _compared(
    galaxies: Galaxies,
    posteriors: Sequence[RedshiftPosterior],
    chosen: NDArray[np.bool_],
    truth: Array,
) -> dict[str, Any]:
    """The figures of a subset, minus those of the best published redshift by each measure."""
    some = [posteriors[row] for row in np.flatnonzero(chosen).tolist()]
    true = truth[chosen]
    best = np.array([one.best for one in some])
    grid = some[0].grid_redshift.astype(float)
    crps = measures.crps(grid, np.array([one.grid_probability for one in some], float), true)
    below = np.array([probability_below(one, z) for one, z in zip(some, true, strict=True)])
    found: dict[str, Any] = {
        "n": len(some),
        "held68": share(np.abs(below - 0.5) <= 0.34),
        "below_median": share(below < 0.5),
        "measures": {},
    }
    for name in JUDGED:
        measure = measures.MEASURES[name]
        ours = crps if name == "crps" else measures.deviation(best, true)
        others = {
            each: _values(one.select(chosen), true, name)
            for each, one in galaxies.published.items()
        }
        reference = min(others, key=lambda each: float(measure(others[each])))
        value = float(measure(others[reference]))
        low, high = measures.paired_bootstrap(measure, ours, others[reference])
        found["measures"][name] = {
            "ours": float(measure(ours)),
            "published": value,
            "which": reference,
            "minus": [float(measure(ours)) - value, low, high],
            "limit": LIMIT * value,
            "holds": bool(high <= LIMIT * value),
        }
    return found


def _values(one: Estimates, truth: Array, name: str) -> Array:
    if name == "crps":
        return np.abs(one.redshift - truth)  # of a redshift without a posterior
    return measures.deviation(one.redshift, truth)


def _complete(galaxies: Galaxies) -> NDArray[np.bool_]:
    """Which galaxies have all published redshifts."""
    stated = [np.isfinite(one.redshift) for one in galaxies.published.values()]
    return np.asarray(np.all(stated, axis=0))


def probability_below(posterior: RedshiftPosterior, redshift: float) -> float:
    """Posterior probability below a redshift."""
    place = np.log1p(posterior.grid_redshift.astype(float))
    step = place[1] - place[0]
    edges = np.concatenate([place - step / 2, [place[-1] + step / 2]])
    cumulative = np.concatenate([[0.0], np.cumsum(posterior.grid_probability.astype(float))])
    return float(np.interp(np.log1p(redshift), edges, cumulative / cumulative[-1]))


def _overruled(
    galaxies: Galaxies, posteriors: Sequence[RedshiftPosterior], chosen: NDArray[np.bool_]
) -> dict[str, int]:
    """How many redshifts lie far off every published one, and how many of these are right."""
    best = np.array([one.best for one in posteriors])
    published = np.array([one.redshift for one in galaxies.published.values()])
    far = (np.abs(best - published) > FAR_OFF * (1 + published)).all(axis=0) & chosen
    right = np.abs(measures.deviation(best, galaxies.truth)) <= REDSHIFT_TOLERANCE
    return {"n": int(far.sum()), "right": int((far & right).sum())}


def _second_truth(galaxies: Galaxies, literature: Table) -> Array:
    """Spectroscopic redshifts that the table did not adopt, NaN without one, shape (N,).

    Of several the one that differs most.
    """
    adopted = dict(zip(galaxies.identifiers, galaxies.truth.tolist(), strict=True))
    found: dict[str, float] = {}
    for row in literature:
        name, redshift = str(row["id"]), float(row["z_spec_source"])
        if name in adopted and redshift > 0:
            before = found.get(name, adopted[name])
            further = abs(redshift - adopted[name]) >= abs(before - adopted[name])
            found[name] = redshift if further else before
    return np.array([found.get(name, np.nan) for name in galaxies.identifiers])


def _differs(one: Array, other: Array) -> NDArray[np.bool_]:
    return np.asarray(np.abs(measures.deviation(other, one)) > REDSHIFT_TOLERANCE)
