"""Keeps the rules of the reports on redshifts: which errors count, openings of the test part."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from mmbroker.models.redshift.baselines.baselines import is_published

ERRORS = ("mae", "nmad", "outliers", "crps")
"""The measures for which a lower value is better."""

OPENINGS = {
    "version_1": 1,
    "version_2": 1,
    "version_3": 1,
    "trial_redshifts": 1,
    "out_of_fold": 1,
    "version_4": 1,
    "eazy": 1,
    "version_5": 1,
}
"""How often the test part of GOODS-N was opened for redshifts, in order of time.

With a version of the refined redshift it was opened for all estimators together, and once for
baselines only. Add to it with each new version of an estimator; ``_redshifts.md.j2`` says what each
opening was for.
"""


def best_estimators(estimators: dict[str, dict[str, Any]], others: Iterable[str]) -> dict[str, str]:
    """The names of the estimators with the lowest MAE, of the ``published`` ones and of ``others``.

    Args:
        estimators: the figures by estimator.
        others: the names of the estimators that are no published redshifts.
    """
    groups = {
        "published": [name for name in estimators if is_published(name)],
        "others": others,
    }
    return {
        kind: min(names, key=lambda name: float(estimators[name]["mae"][0]))
        for kind, names in groups.items()
    }
