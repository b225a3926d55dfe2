"""Compare redshift estimates with the spectroscopic redshifts of a table.

The table takes the way of the stream: rows become observations, observations fingerprints, and
fingerprints posteriors. Spectroscopic redshifts are only compared with.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mmbroker.models.packaged.refined import load_refined
from mmbroker.models.packaged.templates import load_templates
from mmbroker.models.real_data.split import TRAIN, split_of
from mmbroker.models.redshift import measures
from mmbroker.models.redshift.baselines.baselines import (
    CONVENTIONAL,
    PUBLISHED,
    RECALIBRATED,
    TREES,
    WITH_TEMPLATES,
    load_baselines,
)
from mmbroker.models.redshift.compare_tables.compared_table import (
    EVERY_ROW,
    EVERYTHING,
    FAR_INFRARED,
    REFINED,
    REFINED_PHOTOMETRY,
    TEMPLATES_PHOTOMETRY,
    ComparedTable,
)
from mmbroker.models.redshift.in_force import in_force
from mmbroker.models.redshift.learned_from import was_learned_from
from mmbroker.models.redshift.real_galaxies import (
    Array,
    Estimates,
    Galaxies,
    read_galaxies,
)
from mmbroker.models.redshift.sample import FAINT_JY
from mmbroker.processors.redshift import ConventionalRedshift
from mmbroker.processors.redshift import published as published_redshift
from mmbroker.processors.redshift.evidence_kind import EvidenceKind, evidence_kind
from mmbroker.processors.redshift.posterior import posteriors_of
from mmbroker.processors.redshift.refined import Fallback, RefinedRedshift, inputs_of
from mmbroker.processors.redshift.tuned import packaged
from mmbroker.schemas.events import Fingerprint, RedshiftPosterior

HIGH_REDSHIFT = 1.5

SPLITS = ("train", "validation", "test")
UNSEEN = "unseen"
"""Galaxies that learned redshifts were not learned from, of any table, by their places."""

_CATALOGUE_OF_MAPPING = {"goodsn": "GOODS-N", "zcosmos": "zCOSMOS"}
"""Tables that redshifts were learned from, as ``models.real_data.catalogues`` names their
galaxies."""

MODELS = (CONVENTIONAL, REFINED, "both")

_BATCH = 500

_WITHOUT = (
    "redshift in force: without lines, published redshifts, and dust or radio continuum, none is "
    "stated"
)


def compare_table(
    table: str | Path,
    mapping: str | Path | None = None,
    model: str = CONVENTIONAL,
    split: str = "all",
) -> ComparedTable:
    """Compare our redshifts and the published ones of a table with spectroscopic ones.

    Every estimator is judged on the same galaxies: those that have all published redshifts that
    the table does; ours once more on every row, and all by which published redshift there is and by
    kind of evidence. A galaxy counts as faint unless 15 mJy or more were measured at 500 um.

    Args:
        table: path of the table.
        mapping: name or path of its mapping; found by the table's name, else by its columns,
            unless given.
        model: which estimates of ours, one of ``MODELS``; beside the refined one stand stacks and
            trees, which it has to beat.
        split: train, validation or test: the galaxies of that part of the training data alone, of
            a table that redshifts were learned from; unseen: those, of any table, that they were
            not learned from.

    Raises:
        MappingError: the table cannot be read, or the mapping does not fit.
        ValueError: no row has a spectroscopic redshift; no galaxy is in the part that is asked for;
            or the table has no such parts.
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
    truth = galaxies.truth[chosen]
    estimator = ConventionalRedshift()
    posteriors = _ours(estimator, model, fingerprints, bool(published))
    estimates = {name: estimates_of(many, truth) for name, many in posteriors.items()}
    probability, without = None, []
    every = np.ones(len(truth), bool)
    if model != REFINED:
        probability = in_force(fingerprints).probability
        ours = np.isfinite(probability)
        if not ours.any() and model == CONVENTIONAL:
            raise ValueError(f"{table}: no galaxy has a {_WITHOUT}")
        estimates[CONVENTIONAL] = estimates[CONVENTIONAL].where(ours)
        if ours.any():
            every, complete = ours, complete & ours
        if not ours.all():
            without = [f"{(~ours).sum():,} galaxies do not count: they have no {_WITHOUT}"]
    if model != CONVENTIONAL:
        estimates |= _baselines(estimator, fingerprints, truth)
    for name, one in published.items():
        estimates[f"{PUBLISHED}{name}"] = one
    for name in published:
        method = galaxies.methods[name]
        alone = estimates_of(_recalibrated(fingerprints, method), truth)
        there = np.isfinite(published[name].redshift)
        estimates[f"{RECALIBRATED}{name}"] = alone.where(there)
    judged = posteriors[REFINED if model == REFINED else CONVENTIONAL]
    kinds = [evidence_kind(one) for one in judged]
    learned = [name for name in (REFINED, REFINED_PHOTOMETRY) if name in posteriors]
    return ComparedTable(
        table=Path(table).name,
        truth=truth,
        subsets=_subsets(truth, galaxies.s500_jy[chosen], every, complete, published, kinds),
        estimates=estimates,
        posteriors=posteriors[REFINED if model != CONVENTIONAL else CONVENTIONAL],
        problems=galaxies.problems,
        mapping=galaxies.mapping,
        notes=galaxies.notes + not_compared + without,
        identity=estimator.identity,
        identifiers=[one.galaxy_id for one in fingerprints],
        positions=np.array(
            [(one.right_ascension_deg, one.declination_deg) for one in fingerprints], float
        ),
        kinds=kinds,
        probability=probability,
        reasons={name: [_reason(one) for one in posteriors[name]] for name in learned},
        known=_known(galaxies)[chosen],
        ranks={
            name: _ranks(posteriors[name], truth)
            for name in (CONVENTIONAL, REFINED)
            if name in posteriors
        },
        simulated=np.array([one.acquisition.simulated > 0 for one in fingerprints]),
    )


def _subsets(
    truth: Array,
    s500_jy: Array,
    every: NDArray[np.bool_],
    complete: NDArray[np.bool_],
    published: dict[str, Estimates],
    kinds: Sequence[EvidenceKind],
) -> dict[str, NDArray[np.bool_]]:
    """The groups of galaxies that have figures of their own, by name.

    Args:
        truth: spectroscopic redshifts, shape (N,).
        s500_jy: flux densities at 500 um, NaN where not measured, shape (N,).
        every: which galaxies count, shape (N,).
        complete: which of them have all published redshifts that are compared, shape (N,).
        published: the published redshifts that are compared.
        kinds: what the redshift of each galaxy rests on.
    """
    faint = ~(s500_jy >= FAINT_JY)
    found = {
        EVERYTHING: complete,
        "faint": complete & faint,
        "faint positive": complete & faint & (s500_jy > 0),
        f"z > {HIGH_REDSHIFT}": complete & (truth > HIGH_REDSHIFT),
    }
    if (every & ~complete).any():
        there = {name: every & np.isfinite(one.redshift) for name, one in published.items()}
        none = every & ~np.logical_or.reduce(list(there.values()))
        further = {f"with {name}": each for name, each in there.items()}
        further |= {"none published": none, EVERY_ROW: every}
        found |= {name: each for name, each in further.items() if each.any()}
    of_kind = {kind.value: np.array([one == kind for one in kinds]) for kind in EvidenceKind}
    return found | {name: each for name, each in of_kind.items() if each.any()}


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


def _known(galaxies: Galaxies) -> NDArray[np.bool_]:
    """Which galaxies are among those that learned redshifts were fitted, trained or chosen on."""
    return was_learned_from(
        [one.right_ascension_deg for one in galaxies.fingerprints],
        [one.declination_deg for one in galaxies.fingerprints],
    )


def _in_split(galaxies: Galaxies, split: str) -> NDArray[np.bool_]:
    known = _known(galaxies)
    if split == UNSEEN:
        return ~known
    if split not in SPLITS:
        raise ValueError(f"split {split!r} is none of all, {', '.join((*SPLITS, UNSEEN))}")
    catalogue = _CATALOGUE_OF_MAPPING.get(galaxies.mapping)
    if catalogue is not None:
        parts = np.array([split_of(f"{catalogue} {one}") for one in galaxies.identifiers])
        training = parts == TRAIN
        # In a table of other galaxies with the same columns, next to none is known by its place.
        if not training.any() or known[training].mean() > 0.5:
            return np.asarray(parts == SPLITS.index(split))
    raise ValueError(
        f"redshifts were not learned from this table, so it has no {split} part: of its "
        f"{len(known)} galaxies {known.sum()} are, by their places, among those that redshifts "
        f"were learned from; --split {UNSEEN} leaves these out"
    )


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
