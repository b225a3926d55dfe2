"""Tune and calibrate the conventional redshift on tables that a user names."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mmbroker.models.packaged.reliability import save_reliability
from mmbroker.models.redshift.baselines.baselines import CONVENTIONAL
from mmbroker.models.redshift.compare_tables.compare import estimates_of
from mmbroker.models.redshift.compare_tables.compared_table import ComparedTable
from mmbroker.models.redshift.conventional.tune import (
    EVALUATIONS,
    cross_validate,
    samples,
    tune,
)
from mmbroker.models.redshift.real_galaxies import Figures
from mmbroker.models.redshift.reliability.cases import sample_of
from mmbroker.models.redshift.reliability.fit import card_of, fit_in_force
from mmbroker.processors.redshift.tuned import Tuned


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


def fit_reliability(tables: Sequence[str | Path], path: Path) -> dict[str, Any]:
    """Fit the probability that a redshift is right on tables, and write it.

    Every galaxy counts with all that is known of it and, if its redshift is published, once more
    with the published redshifts alone and with far infrared and radio alone.

    Args:
        tables: paths of tables with spectroscopic redshifts.
        path: file to write, ``models/weights/redshift_reliability.json`` of a working copy.

    Returns:
        By kind of evidence how many there were, their share of right redshifts, and what the
        probability of the kind was fitted to.
    """
    model, cases = fit_in_force([sample_of(Path(table)) for table in tables])
    card = card_of(cases, [Path(table).name for table in tables])
    save_reliability(model, card, path)
    kinds: dict[str, Any] = card["kinds"]
    return kinds
