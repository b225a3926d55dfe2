"""What the reports on redshifts go by: the errors that count, and the openings of the test part."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from mmbroker.models.redshift.baselines.baselines import is_published

ERRORS = ("mae", "nmad", "outliers", "crps")
"""The measures that are the better the lower."""

OPENINGS = {
    "version_1": 1,
    "version_2": 1,
    "version_3": 1,
    "trial_redshifts": 1,
    "out_of_fold": 1,
    "version_4": 1,
    "eazy": 1,
}
"""How often the test part of GOODS-N was opened for redshifts, in order of time. With the versions
of the refined redshift it was for all estimators together, once for nothing but baselines. Raise it
with each new version of an estimator; ``_redshift.md.j2`` says what each opening was for."""


def best_estimators(estimators: dict[str, dict[str, Any]], others: Iterable[str]) -> dict[str, str]:
    """Names of those with the lowest MAE: of the ``published`` ones, and of ``others``.

    Args:
        estimators: figures by name.
        others: names of those that the second is looked for among.
    """
    groups = {
        "published": [name for name in estimators if is_published(name)],
        "others": others,
    }
    return {
        kind: min(names, key=lambda name: float(estimators[name]["mae"][0]))
        for kind, names in groups.items()
    }
