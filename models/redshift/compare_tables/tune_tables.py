"""Tune and calibrate the conventional redshift on tables that a user names."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from mmbroker.models.redshift import measures
from mmbroker.models.redshift.baselines.baselines import CONVENTIONAL
from mmbroker.models.redshift.compare_tables.compare import estimates_of, posteriors_by
from mmbroker.models.redshift.compare_tables.compared_table import ComparedTable
from mmbroker.models.redshift.compare_tables.real_galaxies import Figures, read_galaxies
from mmbroker.models.redshift.conventional.tune import (
    EVALUATIONS,
    Sample,
    cross_validate,
    fold_of,
    tune,
)
from mmbroker.processors.redshift import ConventionalRedshift
from mmbroker.processors.redshift.published import independent
from mmbroker.processors.redshift.tuned import Tuned
from mmbroker.processors.scoring.calibration import fit_logistic
from mmbroker.processors.scoring.score import REDSHIFT_TOLERANCE, mass_around_best


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
    tables: Sequence[str | Path], path: Path, evaluations: int = EVALUATIONS
) -> dict[str, Figures]:
    """Tune the constants on tables, write them with their cross-validated figures.

    Args:
        tables: paths of tables with spectroscopic redshifts.
        path: file to write, ``processors/redshift/tuned.json`` of a working copy.
        evaluations: of the score, for each fold.

    Returns:
        By sample the figures of galaxies whose fold was left out.
    """
    many = samples(tables)
    figures: dict[str, Figures] = {}
    for sample, posteriors in zip(many, cross_validate(many, evaluations), strict=True):
        everything = np.ones(len(sample.truth), bool)
        estimates = {CONVENTIONAL: estimates_of(posteriors, sample.truth)}
        held = ComparedTable(
            sample.name, sample.truth, {"all": everything}, estimates, posteriors, [], "", ""
        )
        figures[sample.name] = held.figures("all", CONVENTIONAL)
    final = tune(many, evaluations)
    content = {
        "how": (
            "Nelder-Mead, from constants that have seen no table, on the mean ln density at the "
            "spectroscopic redshift with a penalty on coverage, the samples equally weighted "
            "(models/redshift/conventional/tune.py); the figures are those of galaxies whose "
            "fold, of five, was left out."
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
        posteriors = posteriors_by(estimator, sample.fingerprints)
        best = np.array([one.best for one in posteriors])
        masses.append([mass_around_best(one) for one in posteriors])
        right.append(np.abs(measures.deviation(best, sample.truth)) <= REDSHIFT_TOLERANCE)
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
