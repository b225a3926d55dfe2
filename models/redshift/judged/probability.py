"""Report on the probability that a redshift is right: page and numbers."""

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
"""Of galaxies, below which a share is not shown."""

_BETWEEN = (0.3, 0.7)
_CERTAIN = 0.9
"""Probabilities of which few galaxies have any."""


def report(tables: Path | None, output: Path) -> None:
    """Write ``redshift_probability.md`` and ``redshift_probability.json``.

    Args:
        tables: folder of the real tables; without it the page says that nothing can be said.
        output: folder to write to.
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
    """Where stated and right differ, what is gained over the share, and where few galaxies are.

    Args:
        numbers: with ``groups`` and ``bins``.

    Returns:
        ``off``, the groups in which they differ by more than the interval; ``gain``, the least and
        the most of a group; ``between`` and ``certain``, how many have a probability there.
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
