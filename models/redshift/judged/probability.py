"""Reports on the probability that a redshift is right: page and numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mmbroker.models.measures.resampling import RESAMPLES
from mmbroker.models.pages.render import write
from mmbroker.models.redshift.conventional.probability import (
    FOLDS,
    PATH,
    TABLES,
    cases,
    figures,
)
from mmbroker.processors.scoring.calibration import Calibration
from mmbroker.processors.scoring.score import REDSHIFT_TOLERANCE

FEWEST = 10
"""A share of fewer galaxies is not shown."""

_BETWEEN = (0.3, 0.7)
_CERTAIN = 0.9
"""The lowest probability that counts as certain; few galaxies have such a one."""


def report(tables: Path | None, output: Path) -> None:
    """Write ``redshift_probability.md`` and ``redshift_probability.json``.

    Args:
        tables: the folder of the published tables; without it the page says that they are missing.
        output: the folder to write to.
    """
    output.mkdir(parents=True, exist_ok=True)
    calibration = Calibration.from_json(PATH.read_text())
    numbers: dict[str, Any] = {
        "calibration_id": calibration.calibration_id,
        "tolerance": REDSHIFT_TOLERANCE,
        "folds": FOLDS,
        "resamples": RESAMPLES,
        "fewest": FEWEST,
        "tables": list(TABLES.values()),
    }
    if tables is not None:
        numbers |= figures(cases(tables, calibration))
        numbers["found"] = found(numbers)
    write("redshift_probability", numbers, output)


def found(numbers: dict[str, Any]) -> dict[str, Any]:
    """Find where stated probabilities are wrong, what they gain, and where there are few galaxies.

    Args:
        numbers: the numbers of the report, with ``groups`` and ``bins``.

    Returns:
        ``off``: the groups whose mean probability differs from the share that is right by more than
        the 95 % interval. ``gain``: the smallest and the largest gain of a group in the Brier score
        over stating that share. ``between`` and ``certain``: the number of galaxies with a
        probability from 0.3 to 0.7, and of 0.9 or more.
    """
    groups = {name: one for name, one in numbers["groups"].items() if name != "all"}
    gains = [one["brier_of_share"][0] - one["brier_out_of_fold"][0] for one in groups.values()]
    low, high = _BETWEEN
    bins = numbers["bins"]
    return {
        "off": [
            name
            for name, one in groups.items()
            if not one["stated_minus_right"][1] <= 0 <= one["stated_minus_right"][2]
        ],
        "gain": [round(min(gains), 4), round(max(gains), 4)],
        "between": sum(one["n"] for one in bins if low <= one["from"] < high),
        "certain": sum(one["n"] for one in bins if one["from"] >= _CERTAIN),
    }
