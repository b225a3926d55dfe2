"""Compare redshift estimates with the spectroscopic redshifts of a table.

The table takes the way of the stream: rows become observations, observations fingerprints, and
fingerprints posteriors. Spectroscopic redshifts are only compared with.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import compress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmbroker.models.packaged.refined import load_refined
from mmbroker.models.packaged.templates import load_templates
from mmbroker.models.real_data.split import split_of
from mmbroker.models.redshift import measures
from mmbroker.models.redshift.baselines.baselines import (
    CONVENTIONAL,
    LOG_LINEAR,
    PUBLISHED,
    RECALIBRATED,
    STACKED,
    TREES,
    WITH_TEMPLATES,
    load_baselines,
)
from mmbroker.models.redshift.compare_tables.learned_from import was_learned_from
from mmbroker.models.redshift.compare_tables.real_galaxies import (
    Array,
    Difference,
    Differences,
    Estimates,
    Figures,
    Galaxies,
    Results,
    read_galaxies,
)
from mmbroker.models.redshift.sample import FAINT_JY
from mmbroker.processors.redshift import ConventionalRedshift
from mmbroker.processors.redshift import published as published_redshift
from mmbroker.processors.redshift.posterior import posteriors_of
from mmbroker.processors.redshift.refined import Fallback, RefinedRedshift, inputs_of
from mmbroker.processors.redshift.tuned import packaged
from mmbroker.schemas.events import Fingerprint, RedshiftPosterior

FAR_INFRARED = "conventional far-infrared"
TEMPLATES_PHOTOMETRY = "with templates, without published"
REFINED = "refined"
REFINED_PHOTOMETRY = "refined without published"

EVERY_ROW = "every row"
"""Those without a published redshift too; there are figures of our estimates alone."""

HIGH_REDSHIFT = 1.5

SPLITS = ("train", "validation", "test")
UNSEEN = "unseen"
"""Galaxies that learned redshifts were not learned from, of any table, by their places."""

_CATALOGUE_OF_MAPPING = {
    "goodsn": "GOODS-N",
    "cosmos_fir": "COSMOS",
    "zcosmos": "zCOSMOS",
    "spt": "SPT",
}
"""Tables that something was trained on, as ``models.real_data.catalogues`` names their galaxies."""

MODELS = (CONVENTIONAL, REFINED, "both")

_BATCH = 500


@dataclass(frozen=True, slots=True, eq=False)
class ComparedTable:
    """Estimates of every estimator on the same galaxies."""

    table: str
    truth: Array
    subsets: dict[str, NDArray[np.bool_]]
    estimates: dict[str, Estimates]
    """NaN where one makes none of a galaxy."""

    posteriors: list[RedshiftPosterior]
    problems: list[str]
    identity: str
    mapping: str
    """Name of the mapping."""

    notes: list[str] = field(default_factory=list)
    """What could not be compared, and why."""

    reasons: dict[str, list[Fallback | None]] = field(default_factory=dict)
    """Why an estimate of each galaxy is the conventional one, or None, by learned estimator."""

    trained_on: int = 0
    """How many of the galaxies are in parts that learned estimators were fitted or chosen on."""

    ranks: dict[str, Array] = field(default_factory=dict)
    """Posterior probability below the truth of each galaxy, by estimator that is plotted."""

    simulated: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, bool))
    """Which galaxies have simulated data in them."""

    def estimators(self, subset: str) -> list[str]:
        """Names of the estimators that estimate every galaxy of a subset."""
        chosen = self.subsets[subset]
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

    def as_json(self) -> Results:
        """``{subset: {estimator: {n, mae, ..., minus: {reference: {mae: difference, ...}}}}}``.

        The figures are those of ``measures.MEASURES``. A difference is
        ``{"difference": number, "interval_95": {"lower": number, "upper": number}}``, and None
        where a figure is missing. Only estimates of ours have ``minus``, and
        ``fallbacks`` where some are the conventional one: how many, by reason. ``simulated`` is the
        number of galaxies with simulated data, if there are any.
        """
        return {
            subset: {
                estimator: {
                    **self.figures(subset, estimator),
                    **self._minus(subset, estimator),
                    **self._fallen_back(subset, estimator),
                    **self._simulated(subset),
                }
                for estimator in self.estimators(subset)
            }
            for subset in self.subsets
        }

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
    difference, lower, upper = found
    return {"difference": difference, "interval_95": {"lower": lower, "upper": upper}}


def _or_none(value: float) -> float | None:
    return value if math.isfinite(value) else None


def compare_table(
    table: str | Path,
    mapping: str | Path | None = None,
    model: str = CONVENTIONAL,
    split: str = "all",
) -> ComparedTable:
    """Compare our redshifts and the published ones of a table with spectroscopic ones.

    Every estimator is judged on the same galaxies: those that have all published redshifts that
    the table does; ours once more on every row. A galaxy counts as faint unless 15 mJy or more
    were measured at 500 um.

    Args:
        table: path of the table.
        mapping: name or path of its mapping; found by the table's name, else by its columns,
            unless given.
        model: which estimates of ours, one of ``MODELS``; beside the refined one stand stacks and
            trees, which it has to beat.
        split: train, validation or test: the galaxies of that part of the training data alone;
            unseen: those, of any table, that redshifts were not learned from.

    Raises:
        MappingError: the table cannot be read, or the mapping does not fit.
        ValueError: no row has a spectroscopic redshift; or no galaxy is in the part that is asked
            for.
    """
    if model not in MODELS:
        raise ValueError(f"model {model!r} is none of {', '.join(MODELS)}")
    galaxies = read_galaxies(table, mapping)
    chosen = np.ones(len(galaxies.truth), bool)
    if split != "all":
        chosen = _in_split(galaxies, split)
        if not chosen.any():
            raise ValueError(f"{table}: none of {len(chosen)} galaxies is {split}")
    fingerprints = [one for one, keep in zip(galaxies.fingerprints, chosen, strict=True) if keep]
    stated = {name: one.select(chosen) for name, one in galaxies.published.items()}
    published, complete, not_compared = _comparable(stated, len(fingerprints))
    truth, s500 = galaxies.truth[chosen], galaxies.s500_jy[chosen]
    estimator = ConventionalRedshift()
    posteriors = _ours(estimator, model, fingerprints, bool(published))
    estimates = {name: estimates_of(many, truth) for name, many in posteriors.items()}
    if model != CONVENTIONAL:
        estimates |= _baselines(estimator, fingerprints, truth)
    for name, one in published.items():
        estimates[f"{PUBLISHED}{name}"] = one
    for name in published:
        method = galaxies.methods[name]
        alone = estimates_of(_recalibrated(fingerprints, method), truth)
        there = np.isfinite(published[name].redshift)
        estimates[f"{RECALIBRATED}{name}"] = alone.where(there)
    faint = ~(s500 >= FAINT_JY)
    subsets = {
        "all": complete,
        "faint": complete & faint,
        "faint positive": complete & faint & (s500 > 0),
        f"z > {HIGH_REDSHIFT}": complete & (truth > HIGH_REDSHIFT),
    }
    if not complete.all():
        subsets[EVERY_ROW] = np.ones(len(truth), bool)
    learned = [name for name in (REFINED, REFINED_PHOTOMETRY) if name in posteriors]
    return ComparedTable(
        table=Path(table).name,
        truth=truth,
        subsets=subsets,
        estimates=estimates,
        posteriors=posteriors[REFINED if model != CONVENTIONAL else CONVENTIONAL],
        problems=galaxies.problems,
        mapping=galaxies.mapping,
        notes=galaxies.notes + not_compared,
        identity=estimator.identity,
        reasons={name: [_reason(one) for one in posteriors[name]] for name in learned},
        trained_on=int(_trained_on(galaxies)[chosen].sum()) if learned else 0,
        ranks={
            name: _ranks(posteriors[name], truth)
            for name in (CONVENTIONAL, REFINED)
            if name in posteriors
        },
        simulated=np.array([one.acquisition.simulated > 0 for one in fingerprints]),
    )


def _ours(
    conventional: ConventionalRedshift,
    model: str,
    fingerprints: Sequence[Fingerprint],
    with_published: bool,
) -> dict[str, list[RedshiftPosterior]]:
    """Our estimates by name; those without published redshifts only if some are published."""
    known: dict[str, tuple[ConventionalRedshift | RefinedRedshift, bool]] = {
        CONVENTIONAL: (conventional, False),
        FAR_INFRARED: (conventional, True),
    }
    if model != CONVENTIONAL:
        templates = conventional.with_templates(load_templates())
        refined = load_refined(templates)
        learned: dict[str, tuple[ConventionalRedshift | RefinedRedshift, bool]] = {
            WITH_TEMPLATES: (templates, False),
            TEMPLATES_PHOTOMETRY: (templates, True),
            REFINED: (refined, False),
            REFINED_PHOTOMETRY: (refined, True),
        }
        known = ({FAR_INFRARED: known[FAR_INFRARED]} if model == REFINED else known) | learned
    without = [replace(one, photometric_redshifts=[]) for one in fingerprints]
    return {
        name: posteriors_by(estimator, without if withheld else fingerprints)
        for name, (estimator, withheld) in known.items()
        if with_published or not withheld
    }


def _baselines(
    conventional: ConventionalRedshift, fingerprints: Sequence[Fingerprint], truth: Array
) -> dict[str, Estimates]:
    """Stacks and trees by name; NaN of the trees where no published redshift counts."""
    with_templates = conventional.with_templates(load_templates())
    baselines = load_baselines(with_templates)
    densities: dict[str, list[Array]] = {}
    published: list[Array] = []
    for some in _batches(fingerprints):
        inputs = inputs_of(some, with_templates)
        for name, one in baselines.log_densities(some, inputs).items():
            densities.setdefault(name, []).append(one)
        published.append(inputs.count)
    found = {
        name: estimates_of(posteriors_of(np.concatenate(many), [[]] * len(truth)), truth)
        for name, many in densities.items()
    }
    return found | {TREES: found[TREES].where(np.concatenate(published) > 0)}


def _reason(posterior: RedshiftPosterior) -> Fallback | None:
    """Why a learned posterior is the conventional one, or None."""
    last = posterior.inputs[-1]
    return last if isinstance(last, Fallback) else None


def _comparable(
    published: dict[str, Estimates], count: int
) -> tuple[dict[str, Estimates], NDArray[np.bool_], list[str]]:
    """The published redshifts that some galaxies all have, the most frequent first.

    Returns:
        Those by name, which galaxies have all of them, and why the others are left out.
    """
    stated = {name: np.isfinite(one.redshift) for name, one in published.items()}
    complete = np.ones(count, bool)
    kept: dict[str, Estimates] = {}
    left_out: list[str] = []
    for name in sorted(stated, key=lambda each: -stated[each].sum()):
        if (complete & stated[name]).any():
            complete &= stated[name]
            kept[name] = published[name]
        elif stated[name].any():
            left_out.append(f"no redshift {name}: no galaxy has it that has {', '.join(kept)} too")
        else:
            left_out.append(f"no redshift {name}: no galaxy has it")
    return {name: kept[name] for name in published if name in kept}, complete, left_out


def _trained_on(galaxies: Galaxies) -> NDArray[np.bool_]:
    """Which galaxies are among those that learned redshifts were fitted, trained or chosen on."""
    return was_learned_from(
        [one.right_ascension_deg for one in galaxies.fingerprints],
        [one.declination_deg for one in galaxies.fingerprints],
    )


def _in_split(galaxies: Galaxies, split: str) -> NDArray[np.bool_]:
    if split == UNSEEN:
        return ~_trained_on(galaxies)
    if split not in SPLITS:
        raise ValueError(f"split {split!r} is none of all, {', '.join((*SPLITS, UNSEEN))}")
    if galaxies.mapping not in _CATALOGUE_OF_MAPPING:
        raise ValueError(
            f"nothing was trained on tables of mapping {galaxies.mapping!r}: "
            f"no galaxy is in the {split} part; {UNSEEN} works with every table"
        )
    return np.asarray(_parts(galaxies) == SPLITS.index(split))


def _parts(galaxies: Galaxies) -> NDArray[np.int64]:
    """Which part of the training data each galaxy of a table that was trained on is in."""
    catalogue = _CATALOGUE_OF_MAPPING[galaxies.mapping]
    return np.array([split_of(f"{catalogue} {one}") for one in galaxies.identifiers])


def posteriors_by(
    estimator: ConventionalRedshift | RefinedRedshift, fingerprints: Sequence[Fingerprint]
) -> list[RedshiftPosterior]:
    """The posteriors of an estimator, asked in batches."""
    return [one for some in _batches(fingerprints) for one in estimator.estimate(some)]


def _batches(fingerprints: Sequence[Fingerprint]) -> list[Sequence[Fingerprint]]:
    starts = range(0, len(fingerprints), _BATCH)
    return [fingerprints[start : start + _BATCH] for start in starts]


def _recalibrated(fingerprints: Sequence[Fingerprint], method: str) -> list[RedshiftPosterior]:
    """One published redshift alone, with the width and the outliers that tuning found for it."""
    stated = [
        [one for one in each.photometric_redshifts if one.method == method] for each in fingerprints
    ]
    log_likelihood = published_redshift.log_likelihood(packaged(), stated)
    return posteriors_of(log_likelihood, [["photometric-redshift"]] * len(fingerprints))


def estimates_of(posteriors: Sequence[RedshiftPosterior], truth: Array) -> Estimates:
    """Posteriors as estimates beside the true redshifts, float64, shape (N,)."""
    grid = np.asarray(posteriors[0].grid_redshift, dtype=float)
    probability = np.array([one.grid_probability for one in posteriors], dtype=float)
    return Estimates(
        np.array([one.best for one in posteriors]),
        np.array([one.interval_68.lower for one in posteriors]),
        np.array([one.interval_68.upper for one in posteriors]),
        np.array([one.interval_95.lower for one in posteriors]),
        np.array([one.interval_95.upper for one in posteriors]),
        measures.crps(grid, probability, truth),
    )


def _ranks(posteriors: Sequence[RedshiftPosterior], truth: Array) -> Array:
    """Posterior probability below the truth, shape (galaxies,).

    Not of those that a line tells better than the cells of the grid: within one of them the grid
    says nothing.
    """
    cell = np.diff(np.log1p(np.asarray(posteriors[0].grid_redshift, dtype=float))).min()
    return np.array(
        [
            # half of a cell's probability lies below its centre
            np.interp(
                value,
                one.grid_redshift,
                np.cumsum(one.grid_probability) - 0.5 * one.grid_probability,
            )
            for one, value in zip(posteriors, truth, strict=True)
            if np.log1p(one.interval_68.upper) - np.log1p(one.interval_68.lower) > cell
        ]
    )
