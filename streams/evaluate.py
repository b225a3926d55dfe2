"""Evaluation of redshift estimates on a table with spectroscopic redshifts.

The table takes the way of the stream: rows become observations, observations fingerprints, and
fingerprints posteriors. Spectroscopic redshifts are only compared with.
"""

from __future__ import annotations

import json
import math
import textwrap
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from rich.box import SIMPLE
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from models.learned_from import was_learned_from
from models.redshift_baselines import (
    CONVENTIONAL,
    LOG_LINEAR,
    STACKED,
    TREES,
    WITH_TEMPLATES,
    load_baselines,
)
from models.refined import load_refined
from models.templates import load_templates
from models.training_data import split_of
from models.tune_redshift import Sample, cross_validate, fold_of, tune
from processors import fingerprint, metrics
from processors.calibration import fit_logistic
from processors.contribution import contribution
from processors.map_photometry import UnusableError
from processors.redshift import ConventionalRedshift
from processors.redshift import published as published_redshift
from processors.redshift.estimator import posteriors_of
from processors.redshift.published import independent
from processors.redshift.refined import FALLBACK, Refined, inputs_of
from processors.redshift.tuned import Tuned, packaged
from processors.relations import SPEED_OF_LIGHT_KM_S
from processors.scoring import REDSHIFT_TOLERANCE, mass_around_best
from schemas.events import Fingerprint, Observation, RedshiftPosterior

from .files.fitting import fitting_mapping, without_absent
from .files.mapping import MappingError, load_mapping
from .files.tables import Row, read_table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Array = NDArray[np.float64]
Figures = dict[str, float | int | None]
Difference = tuple[float, float, float]
"""Value, and the ends of its 95 % interval."""

Differences = dict[str, Difference | None]
Results = dict[str, dict[str, dict[str, Any]]]

FAR_INFRARED = "conventional far-infrared"
PUBLISHED = "published "
"""Prefix of the published redshifts' names."""

RECALIBRATED = "recalibrated "
"""Prefix of the same with the intervals that the conventional redshift gives them."""

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
"""Tables that something was trained on, as ``models.catalogues`` names their galaxies."""

MODELS = (CONVENTIONAL, REFINED, "both")

FAINT_JY = 15e-3
_S500_HZ = SPEED_OF_LIGHT_KM_S * 1e9 / 500
_BATCH = 500

CAVEAT = (
    "Galaxies with spectroscopic redshifts are brighter in the optical than the sources this "
    "system is for: expect published photometric redshifts, and what rests on them, to be worse "
    "on those."
)

_STACKS_AND_TREES = (
    "Stacked: a mixture of conventional densities, log-linear: a product, their weights fitted in "
    "GOODS-N where redshifts are published, which is not what they are for where none is. Trees: "
    "the published redshift with a learnt correction, so there is none without it. They read no "
    "spectra."
)


@dataclass(frozen=True, slots=True, eq=False)
class Estimates:
    """Redshifts of one estimator; NaN where an interval is not stated; arrays shape (galaxies,)."""

    redshift: Array
    lower_68: Array
    upper_68: Array
    lower_95: Array
    upper_95: Array
    crps: Array
    """Of the posterior in redshift; of the redshift alone where there is no posterior."""

    def select(self, chosen: NDArray[np.bool_]) -> Estimates:
        """Those of the chosen galaxies."""
        return Estimates(*(getattr(self, each.name)[chosen] for each in fields(self)))

    def where(self, chosen: NDArray[np.bool_]) -> Estimates:
        """Those of the chosen galaxies, NaN for the others."""
        return Estimates(
            *(np.where(chosen, getattr(self, each.name), np.nan) for each in fields(self))
        )


@dataclass(frozen=True, slots=True, eq=False)
class Galaxies:
    """The rows of a table that have a spectroscopic redshift."""

    identifiers: list[str]
    fingerprints: list[Fingerprint]
    truth: Array
    """Spectroscopic redshifts, shape (galaxies,)."""

    s500_jy: Array
    """Flux density at 500 um, NaN where not measured, shape (galaxies,)."""

    published: dict[str, Estimates]
    mapping: str
    """Name of the mapping."""

    methods: dict[str, str]
    """Method of each published redshift, as in the fingerprints."""

    problems: list[str]
    notes: list[str]
    """What the table does not have, of what its mapping names."""


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
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

    reasons: dict[str, list[str]] = field(default_factory=dict)
    """Why an estimate of each galaxy is the conventional one, or "", by learned estimator."""

    trained_on: int = 0
    """How many of the galaxies are in parts that learned estimators were fitted or chosen on."""

    ranks: dict[str, Array] = field(default_factory=dict)
    """Posterior probability below the truth of each galaxy, by estimator that is plotted."""

    simulated: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, bool))
    """Which galaxies have simulated data in them."""

    def estimators(self, subset: str) -> list[str]:
        """Those that estimate every galaxy of a subset."""
        chosen = self.subsets[subset]
        return [
            name for name, one in self.estimates.items() if np.isfinite(one.redshift[chosen]).all()
        ]

    def fallbacks(self, subset: str, estimator: str) -> dict[str, int]:
        """How many galaxies of a subset have the conventional estimate instead, by reason."""
        chosen = self.subsets[subset]
        reasons = np.array(self.reasons.get(estimator, [""] * len(chosen)))[chosen]
        return dict(Counter(reasons[reasons != ""].tolist()))

    def figures(self, subset: str, estimator: str) -> Figures:
        """The figures of one estimator on one subset; None where there are none."""
        count = int(self.subsets[subset].sum())
        if not count:
            return {"n": 0, **dict.fromkeys(metrics.MEASURES)}
        values = self.values(subset, estimator)
        return {
            "n": count,
            **{
                name: _or_none(float(metrics.MEASURES[name](each))) for name, each in values.items()
            },
        }

    def values(self, subset: str, estimator: str) -> dict[str, Array]:
        """What each of ``metrics.MEASURES`` is taken of, a value for each galaxy of a subset."""
        chosen = self.subsets[subset]
        truth = self.truth[chosen]
        one = self.estimates[estimator].select(chosen)
        delta = metrics.deviation(one.redshift, truth)
        return {
            **dict.fromkeys(("mae", "nmad", "outliers"), delta),
            "crps": one.crps,
            "coverage68": metrics.covered(one.lower_68, one.upper_68, truth),
            "coverage95": metrics.covered(one.lower_95, one.upper_95, truth),
        }

    def differences(self, subset: str, estimator: str, reference: str) -> Differences:
        """One estimator's figures minus another's on the same galaxies, with paired intervals."""
        if not self.subsets[subset].any():
            return dict.fromkeys(metrics.MEASURES)
        ours, theirs = (self.values(subset, each) for each in (estimator, reference))
        found: Differences = {}
        for name, measure in metrics.MEASURES.items():
            value = float(measure(ours[name]) - measure(theirs[name]))
            low, high = metrics.paired_bootstrap(measure, ours[name], theirs[name])
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
        """``{subset: {estimator: {n, mae, ..., minus: {reference: {mae: [value, low, high]}}}}}``.

        The figures are those of ``metrics.MEASURES``; only estimates of ours have ``minus``, and
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

    def _minus(self, subset: str, estimator: str) -> dict[str, dict[str, Differences]]:
        compared = {
            reference: self.differences(subset, estimator, reference)
            for reference in self.references(subset, estimator)
        }
        return {"minus": compared} if compared else {}

    def _fallen_back(self, subset: str, estimator: str) -> dict[str, dict[str, int]]:
        found = self.fallbacks(subset, estimator)
        return {"fallbacks": found} if found else {}

    def _simulated(self, subset: str) -> dict[str, int]:
        count = int((self.simulated & self.subsets[subset]).sum())
        return {"simulated": count} if count else {}


_HEADINGS = ("MAE", "NMAD", "outliers", "CRPS", "68 %", "95 %")


def _or_none(value: float) -> float | None:
    return value if math.isfinite(value) else None


def read_galaxies(table: str | Path, mapping: str | Path | None = None) -> Galaxies:
    """The galaxies of a table that have a spectroscopic redshift, as fingerprints.

    Args:
        table: path of the table.
        mapping: name or path of its mapping; found by the table's name, else by its columns,
            unless given.

    Raises:
        MappingError: the table cannot be read, or the mapping does not fit.
        ValueError: the mapping names no spectroscopic redshift, or no row has one.
    """
    path = Path(table)
    if not path.is_file():
        raise MappingError(f"{path}: there is no such file")
    whole = fitting_mapping(path) if mapping is None else load_mapping(mapping)
    if whole.truth is None:
        raise ValueError(f"{path}: mapping {whole.name} has no [truth] with a redshift column")
    chosen, notes = without_absent(path, whole)
    rows = list(read_table(path, chosen))
    problems = [f"row {row.number}: {problem}" for row in rows for problem in row.problems]
    kept = [row for row in rows if row.observations and (row.true_redshift or 0.0) > 0.0]
    if not kept:
        raise ValueError(f"{path}: no row has a positive {whole.truth.redshift!r}")
    fingerprints: list[Fingerprint] = []
    for row in kept:
        usable, unusable = _usable(row)
        problems += unusable
        fingerprints.append(fingerprint.build(row.identifier, usable))
    nan = float("nan")
    published: dict[str, Estimates] = {}
    for name in chosen.published:
        values = np.full((3, len(kept)), nan)
        for column, row in enumerate(kept):
            one = row.published.get(name)
            if one is not None:
                ends = (one.lower_68, one.upper_68)
                values[:, column] = (one.redshift, *(nan if end is None else end for end in ends))
        missing = np.full(len(kept), nan)
        error = np.abs(values[0] - np.array([row.true_redshift for row in kept], dtype=float))
        published[name] = Estimates(values[0], values[1], values[2], missing, missing, error)
    return Galaxies(
        [row.identifier for row in kept],
        fingerprints,
        np.array([row.true_redshift for row in kept], dtype=float),
        np.array([_s500_jy(one) for one in fingerprints]),
        published,
        chosen.name,
        {name: one.method or name for name, one in chosen.published.items()},
        problems,
        notes,
    )


def _usable(row: Row) -> tuple[list[Observation], list[str]]:
    """The observations that the stream would keep, and why not the others."""
    usable: list[Observation] = []
    problems: list[str] = []
    for observation in row.observations:
        try:
            contribution(observation)
        except UnusableError as error:
            problems.append(f"row {row.number}: {error}")
        else:
            usable.append(observation)
    return usable, problems


def _s500_jy(one: Fingerprint) -> float:
    near = [
        band.weighted_flux / band.weight
        for band in one.bands
        if band.weight > 0 and abs(math.log(band.frequency_hz / _S500_HZ)) < 0.05
    ]
    return near[0] if near else float("nan")


def evaluate_redshift(
    table: str | Path,
    mapping: str | Path | None = None,
    model: str = CONVENTIONAL,
    split: str = "all",
) -> Evaluation:
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
    estimates = {name: _of_posteriors(many, truth) for name, many in posteriors.items()}
    if model != CONVENTIONAL:
        estimates |= _baselines(estimator, fingerprints, truth)
    for name, one in published.items():
        estimates[f"{PUBLISHED}{name}"] = one
    for name in published:
        method = galaxies.methods[name]
        alone = _of_posteriors(_recalibrated(fingerprints, method), truth)
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
    return Evaluation(
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
    known: dict[str, tuple[ConventionalRedshift | Refined, bool]] = {
        CONVENTIONAL: (conventional, False),
        FAR_INFRARED: (conventional, True),
    }
    if model != CONVENTIONAL:
        templates = conventional.with_templates(load_templates())
        refined = load_refined(templates)
        learned: dict[str, tuple[ConventionalRedshift | Refined, bool]] = {
            WITH_TEMPLATES: (templates, False),
            TEMPLATES_PHOTOMETRY: (templates, True),
            REFINED: (refined, False),
            REFINED_PHOTOMETRY: (refined, True),
        }
        known = ({FAR_INFRARED: known[FAR_INFRARED]} if model == REFINED else known) | learned
    without = [replace(one, photometric_redshifts=[]) for one in fingerprints]
    return {
        name: _estimate(estimator, without if withheld else fingerprints)
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
        name: _of_posteriors(posteriors_of(np.concatenate(many), [[]] * len(truth)), truth)
        for name, many in densities.items()
    }
    return found | {TREES: found[TREES].where(np.concatenate(published) > 0)}


def _reason(posterior: RedshiftPosterior) -> str:
    """Why a learned posterior is the conventional one, or ""."""
    last = posterior.inputs[-1]
    start = f"{FALLBACK}: "
    return last.removeprefix(start) if last.startswith(start) else ""


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


def _estimate(
    estimator: ConventionalRedshift | Refined, fingerprints: Sequence[Fingerprint]
) -> list[RedshiftPosterior]:
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


def _of_posteriors(posteriors: Sequence[RedshiftPosterior], truth: Array) -> Estimates:
    grid = np.asarray(posteriors[0].grid_redshift, dtype=float)
    probability = np.array([one.grid_probability for one in posteriors], dtype=float)
    return Estimates(
        np.array([one.best for one in posteriors]),
        np.array([one.interval_68.lower for one in posteriors]),
        np.array([one.interval_68.upper for one in posteriors]),
        np.array([one.interval_95.lower for one in posteriors]),
        np.array([one.interval_95.upper for one in posteriors]),
        metrics.crps(grid, probability, truth),
    )


def render(evaluation: Evaluation) -> Group:
    """The figures to print, and how the conventional estimate compares with the published."""
    parts: list[RenderableType] = []
    for subset, chosen in evaluation.subsets.items():
        if chosen.any():
            parts.append(_figures_table(evaluation, subset))
            parts += [_fallen_back(evaluation, subset, each) for each in evaluation.reasons]
            parts += [
                _differences_table(evaluation, subset, estimator)
                for estimator in evaluation.estimators(subset)
                if evaluation.references(subset, estimator)
            ]
    parts += [
        "Δ = (z - z_spec) / (1 + z_spec). MAE: mean |Δ|. NMAD: 1.4826 median|Δ - median Δ|. "
        "Outliers: |Δ| > 0.15. CRPS: of the posterior in z; of the redshift alone where only that "
        "is published. 68 %, 95 %: share of spectroscopic redshifts within the stated interval. "
        "Recalibrated: a published redshift alone, with the intervals that tuning found for it. "
        "Faint: not 15 mJy or more at 500 µm, which includes what was not observed there; faint "
        "positive: 0 < S500 < 15 mJy. Conventional far-infrared: without the published redshifts, "
        "from far infrared, radio and lines; the refined redshift would be the same there.",
        *([_STACKS_AND_TREES] if STACKED in evaluation.estimates else []),
        f"Constants {evaluation.identity} were tuned on tables of this kind; figures of galaxies "
        "left out of the tuning are in processors/redshift/tuned.json.",
        f"[bold]{CAVEAT}[/bold]",
    ]
    absent = "".join(f"; {each}" for each in evaluation.notes)
    parts.append(f"Read with mapping {evaluation.mapping}{escape(absent)}.")
    if evaluation.trained_on:
        parts.append(f"[bold]{_trained_on_some(evaluation)}[/bold]")
    if evaluation.problems:
        parts.append(
            f"{len(evaluation.problems)} problems, the first: {escape(evaluation.problems[0])}"
        )
    return Group(*parts)


def _trained_on_some(evaluation: Evaluation) -> str:
    return (
        f"{evaluation.trained_on} of these {len(evaluation.truth)} galaxies, by their places, are "
        "among those on which templates, stacks, trees or the refined redshift were fitted, "
        f"trained or chosen, which flatters them: --split {UNSEEN} leaves them out."
    )


def _figures_table(evaluation: Evaluation, subset: str) -> Table:
    chosen = evaluation.subsets[subset]
    table = _table(
        f"{evaluation.table}: {subset}, {_counted(evaluation.simulated[chosen])} "
        "(95 % bootstrap, from and to, below)",
        "redshift",
    )
    for estimator in evaluation.estimators(subset):
        values = evaluation.values(subset, estimator)
        cells = [_with_interval(metrics.MEASURES[name], each) for name, each in values.items()]
        table.add_row(estimator, *cells)
    return table


def _counted(simulated: NDArray[np.bool_]) -> str:
    """How many galaxies there are, and how many of them have simulated data."""
    count = f"{len(simulated)} galaxies"
    if not simulated.any():
        return count
    some = "all" if simulated.all() else f"{simulated.sum()} of them"
    return f"{count}, {some} with simulated data"


def _table(title: str, rows: str) -> Table:
    table = Table(title=title, box=SIMPLE)
    table.add_column(rows, overflow="fold")
    for heading in _HEADINGS:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def _with_interval(measure: metrics.Measure, values: Array) -> str:
    value = float(measure(values))
    if not math.isfinite(value):
        return ""
    low, high = metrics.bootstrap(measure, values)
    return f"{value:.4f}\n{low:.4f}\n{high:.4f}"


def _differences_table(evaluation: Evaluation, subset: str, estimator: str) -> Table:
    table = _table(
        f"{estimator} minus another, negative is better but for coverage "
        "(95 % paired bootstrap, from and to, below)",
        "other",
    )
    for reference in evaluation.references(subset, estimator):
        found = evaluation.differences(subset, estimator, reference)
        table.add_row(reference, *(_signed(each) for each in found.values()))
    return table


def _fallen_back(evaluation: Evaluation, subset: str, estimator: str) -> str:
    """How many estimates of a subset are the conventional one, and why."""
    found = evaluation.fallbacks(subset, estimator)
    count = int(evaluation.subsets[subset].sum())
    why = "".join(f"; {reason}: {number}" for reason, number in found.items())
    return f"{estimator}: {sum(found.values())} of {count} are the conventional redshift{why}\n"


def _signed(difference: Difference | None) -> str:
    if difference is None:
        return ""
    value, low, high = difference
    return f"{value:+.4f}\n{low:+.4f}\n{high:+.4f}"


def plot(evaluation: Evaluation, path: str | Path) -> None:
    """Write a figure: estimates with 68 % intervals against the truth, and their coverage."""
    from matplotlib.figure import Figure  # slow to import, and rarely wanted

    truth = evaluation.truth
    shown = {name: evaluation.estimates[name] for name in evaluation.ranks}
    figure = Figure(figsize=(5.5 * (1 + len(shown)), 5), layout="constrained")
    *panels, right = figure.subplots(1, 1 + len(shown))
    largest = np.max([truth, *(one.redshift for one in shown.values())])
    line = np.array([1.0, 1.05 * (1 + largest)])
    styles = (("C0", 2.5), ("C1", 1.2))  # what lies below the other is seen too
    for (name, one), (colour, width), panel in zip(shown.items(), styles, panels, strict=False):
        _plot_redshifts(panel, truth, one, line, colour)
        panel.set(ylabel=f"1 + {name} redshift", title=name)
        ranks = np.sort(evaluation.ranks[name])
        share = (np.arange(len(ranks)) + 0.5) / max(len(ranks), 1)
        right.plot(ranks, share, color=colour, lw=width, label=f"{name}, {len(ranks)} galaxies")
    right.plot([0, 1], [0, 1], color="black", lw=1, label="calibrated")
    right.set(
        xlabel="posterior probability below the spectroscopic redshift",
        ylabel="share of galaxies",
        xlim=(0, 1),
        ylim=(0, 1),
        title="calibration",
    )
    right.legend()
    figure.suptitle(f"{evaluation.table}, {_counted(evaluation.simulated)}")
    trained = f" {_trained_on_some(evaluation)}" if evaluation.trained_on else ""
    figure.supxlabel("\n".join(textwrap.wrap(CAVEAT + trained, 190)), fontsize=7)
    figure.savefig(path, dpi=150)


def _plot_redshifts(panel: Axes, truth: Array, one: Estimates, line: Array, colour: str) -> None:
    """Estimates with 68 % intervals against the truth, and a line from end to end for the right."""
    from matplotlib.ticker import FixedLocator, NullLocator

    errors = np.abs(np.array([one.redshift - one.lower_68, one.upper_68 - one.redshift]))
    panel.errorbar(
        1 + truth, 1 + one.redshift, yerr=errors,
        fmt="o", color=colour, ms=2.5, lw=0.5, alpha=0.5, label="68 %",
    )  # fmt: skip
    panel.plot(line, line, color="black", lw=1)
    for sign in (-1, 1):
        bound = line * (1 + sign * metrics.OUTLIER)
        label = f"|Δ| = {metrics.OUTLIER}" if sign > 0 else None
        panel.plot(line, bound, color="black", lw=0.7, ls=":", label=label)
    panel.set(xscale="log", yscale="log", xlabel="1 + spectroscopic redshift")
    for axis in (panel.xaxis, panel.yaxis):
        axis.set_major_locator(FixedLocator([1, 1.5, 2, 3, 4, 5, 6, 8, 10]))
        axis.set_major_formatter("{x:g}")
        axis.set_minor_locator(NullLocator())
    panel.legend()


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


def samples(tables: Sequence[str | Path], folds: int = 5) -> list[Sample]:
    """The tables as samples to tune on.

    Galaxies with optical photometric redshifts are a sample for each number of them; and all are
    once more a sample without.
    """
    found: list[Sample] = []
    for table in tables:
        galaxies = read_galaxies(table)
        fold = fold_of(galaxies.identifiers, folds)
        name = Path(table).name
        optical = [
            independent(one.photometric_redshifts, dust=True) for one in galaxies.fingerprints
        ]
        everything = [
            replace(one, photometric_redshifts=kept)
            for one, kept in zip(galaxies.fingerprints, optical, strict=True)
        ]
        methods = np.array([len(kept) for kept in optical])
        whole = Sample(name, everything, galaxies.truth, fold)
        for count in range(methods.max(), 0, -1):
            part = replace(whole, name=f"{name}, published redshifts: {count}")
            found.append(part.select(methods == count))
        without = [replace(one, photometric_redshifts=[]) for one in galaxies.fingerprints]
        found.append(Sample(f"{name}, far infrared alone", without, galaxies.truth, fold))
    return found


def tune_redshift(
    tables: Sequence[str | Path], path: Path, start: Tuned | None = None, evaluations: int = 120
) -> dict[str, Figures]:
    """Tune the constants on tables, write them with their cross-validated figures.

    Args:
        tables: paths of tables with spectroscopic redshifts.
        path: file to write, ``processors/redshift/tuned.json`` of a working copy.
        start: where to start; by default the constants in force.
        evaluations: of the score, for each fold.

    Returns:
        By sample the figures of galaxies whose fold was left out.
    """
    many = samples(tables)
    first = packaged() if start is None else start
    figures: dict[str, Figures] = {}
    for sample, posteriors in zip(many, cross_validate(many, first, evaluations), strict=True):
        everything = np.ones(len(sample.truth), bool)
        estimates = {CONVENTIONAL: _of_posteriors(posteriors, sample.truth)}
        held = Evaluation(
            sample.name, sample.truth, {"all": everything}, estimates, posteriors, [], "", ""
        )
        figures[sample.name] = held.figures("all", CONVENTIONAL)
    final = tune(many, first, evaluations)
    content = {
        "how": (
            "Nelder-Mead on the mean ln density at the spectroscopic redshift with a penalty on "
            "coverage, the samples equally weighted (models/tune_redshift.py); the figures are "
            "those of galaxies whose fold, of five, was left out."
        ),
        "tables": [Path(table).name for table in tables],
        "out_of_fold": figures,
        "constants": {name: getattr(final, name) for name in Tuned.__dataclass_fields__},
    }
    path.write_text(json.dumps(content, indent=2) + "\n")
    return figures


def calibrate_redshift(tables: Sequence[str | Path], path: Path, folds: int = 5) -> Figures:
    """Calibrate the probability that a published redshift is right, and write the calibration.

    The posterior's mass within 0.05 (1 + z) of the best redshift becomes the share of galaxies for
    which the best redshift was that close. Every galaxy counts with all that is known of it and
    once more with its far-infrared photometry alone.

    Args:
        tables: paths of tables with spectroscopic redshifts.
        path: file to write, ``models/weights/redshift_calibration.json`` of a working copy.
        folds: of the cross-validation over galaxies.

    Returns:
        How many there were, their share of right redshifts, and the Brier scores of the posterior's
        own mass and, out of fold, of the calibrated probability.
    """
    estimator = ConventionalRedshift()
    masses, right, fold = [], [], []
    for sample in samples(tables, folds):
        posteriors = _estimate(estimator, sample.fingerprints)
        best = np.array([one.best for one in posteriors])
        masses.append([mass_around_best(one) for one in posteriors])
        right.append(np.abs(metrics.deviation(best, sample.truth)) <= REDSHIFT_TOLERANCE)
        fold.append(sample.fold)
    mass, is_right, of_fold = (np.concatenate(each) for each in (masses, right, fold))
    held = np.empty(len(mass))
    for number in range(folds):
        out = of_fold == number
        held[out] = fit_logistic(mass[~out], is_right[~out]).apply(mass[out])
    path.write_text(fit_logistic(mass, is_right).to_json())
    return {
        "n": len(mass),
        "right": float(is_right.mean()),
        "brier_of_mass": float(np.mean((mass - is_right) ** 2)),
        "brier_calibrated": float(np.mean((held - is_right) ** 2)),
    }
