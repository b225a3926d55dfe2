"""Report on the probability that a redshift is right: page and numbers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mmbroker.models.redshift.conventional.probability import (
    FOLDS,
    NAME,
    PATH,
    TABLES,
    cases,
    figures,
)
from mmbroker.models.redshift.judged.pages import NO_TABLES
from mmbroker.processors.scoring.calibration import Calibration
from mmbroker.processors.scoring.score import REDSHIFT_TOLERANCE

FEWEST = 10
"""Of galaxies, below which a share is not shown."""


def report(tables: Path | None, output: Path) -> None:
    """Write ``redshift_probability.md`` and ``redshift_probability.json``.

    Args:
        tables: folder of the real tables; without it the page says that nothing can be said.
        output: folder to write to.
    """
    output.mkdir(parents=True, exist_ok=True)
    calibration = Calibration.from_json(PATH.read_text())
    numbers: dict[str, Any] = {"calibration_id": calibration.calibration_id}
    if tables is not None:
        numbers |= figures(cases(tables, calibration))
    (output / "redshift_probability.json").write_text(json.dumps(numbers, indent=1) + "\n")
    (output / "redshift_probability.md").write_text(page(numbers))


def page(numbers: dict[str, Any]) -> str:
    """The page in Markdown.

    Args:
        numbers: as in ``redshift_probability.json``.
    """
    parts = ["# The probability that a redshift is right", _asked(numbers)]
    if "groups" not in numbers:
        return "\n\n".join([*parts, NO_TABLES]) + "\n"
    parts += [_groups(numbers["groups"]), _bins(numbers["bins"]), _found(numbers), _CAVEATS]
    return "\n\n".join(parts) + "\n"


def _asked(numbers: dict[str, Any]) -> str:
    return (
        "Asked: of redshifts that are said to be right with some probability, are as many right? "
        f"Right is within {REDSHIFT_TOLERANCE:g} (1 + z) of the spectroscopic redshift. The "
        "probability is the posterior's mass within as much of the best redshift, put through a "
        f"calibration of two constants (`weights/{NAME}.json`, {numbers['calibration_id']}; Platt "
        "1999), which `mmbroker evaluate calibrate` fits. It stands in every scored galaxy and "
        "alert. No condition was written down before it was fitted.\n\n"
        f"Data: {'; '.join(TABLES.values())}; all galaxies with a spectroscopic redshift, in "
        "COSMOS of any class. One of GOODS-N with published redshifts counts twice, with them and "
        "by its far infrared alone. Baselines: the mass itself, and for all galaxies the share "
        "that is right. Brackets: 95 % intervals over 1,000 resamples of galaxies. Rebuild with "
        "`python -m mmbroker.models.report redshift_probability`; "
        "`python -m mmbroker.models.redshift.conventional.probability` writes the card."
    )


def _groups(groups: dict[str, Any]) -> str:
    rows = [
        "## Brier scores",
        "",
        "The mean of (probability − right)²; less is better. *Out of fold*: calibrations fitted to "
        f"the galaxies of the other folds, of {FOLDS}.",
        "",
        "| galaxies | n | right | stated | Brier | out of fold | of the mass | of the share |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, one in groups.items():
        cells = [
            _text(one[key])
            for key in ("right", "stated", "brier", "brier_out_of_fold", "brier_of_mass")
        ]
        rows.append(
            f"| {name} | {one['n']} | {' | '.join(cells)} | {one['brier_of_share'][0]:.3f} |"
        )
    return "\n".join(rows)


def _bins(bins: list[dict[str, Any]]) -> str:
    rows = [
        "## Reliability",
        "",
        "All galaxies by the probability in force.",
        "",
        "| probability | n | stated | right |",
        "|---|---|---|---|",
    ]
    for one in bins:
        cells = [f"{one['from']:g} to {one['to']:g}", str(one["n"]), "–", "–"]
        if one["n"] >= FEWEST:
            cells[2:] = f"{one['stated']:.3f}", _text(one["right"])
        rows.append("| " + " | ".join(cells) + " |")
    return "\n".join(rows)


def _found(numbers: dict[str, Any]) -> str:
    groups = dict(numbers["groups"])
    everything = groups.pop("all")
    difference, low, high = everything["brier_minus_mass"]
    off = [
        f"{name} {_signed(one['stated_minus_right'])}"
        for name, one in groups.items()
        if not one["stated_minus_right"][1] <= 0 <= one["stated_minus_right"][2]
    ]
    gains = [one["brier_of_share"][0] - one["brier_out_of_fold"][0] for one in groups.values()]
    few = sum(one["n"] for one in numbers["bins"] if 0.3 <= one["from"] < 0.7)
    many = sum(one["n"] for one in numbers["bins"])
    certain = sum(one["n"] for one in numbers["bins"] if one["from"] >= 0.9)
    table = "; ".join(off) or "in none"
    stated, right = everything["stated"][0], _text(everything["right"])
    least, most = (f"{pick(gains):.3f}".replace("-", "−") for pick in (min, max))
    return f"""## What came of it

* **Stated and right agree** over all: {stated:.3f} against {right}. Tables in which they differ by
  more than the interval: {table}.
* **The calibration changes little**: out of fold its Brier score minus that of the mass is
  {_signed((difference, low, high), 4)}. The posterior's own mass was nearly calibrated, since its
  constants had been tuned on these galaxies with a penalty on coverage.
* **It tells kinds of evidence apart more than galaxies**: over all its score is far below that of
  the share ({everything["brier_out_of_fold"][0]:.3f}, {everything["brier_of_share"][0]:.3f}),
  because redshifts with published ones are mostly right and those by the far infrared alone mostly
  not. Within one table and kind of evidence it gains {least} to {most}: the posteriors of most
  galaxies there are of much the same width.
* **It is known worst in between and at the top**: {few} of {many:,} have a probability from 0.3 to
  0.7, and {certain} one of 0.9 or more."""


_CAVEATS = """## Read with care

* Fitted and measured on the same galaxies, test parts among them. Folds hold out the two constants
  of the calibration, not those of the redshift below it, which were tuned on all galaxies too.
* No real spectrum was among them. What is stated where lines tell was looked at on simulated ones
  alone ([redshift](redshift.md#simulated-with-spectra)).
* Galaxies with spectroscopic redshifts are brighter in the optical than the sources this is for,
  and their published redshifts more often right.
* Spectroscopic redshifts of COSMOS that are not secure are among the fit: where one is wrong, a
  right redshift counts as wrong."""


def _text(figure: list[float]) -> str:
    value, low, high = figure
    return f"{value:.3f} ({low:.3f} to {high:.3f})"


def _signed(figure: list[float] | tuple[float, ...], digits: int = 3) -> str:
    value, low, high = (f"{each:+.{digits}f}".replace("-", "−") for each in figure)
    return f"{value} ({low} to {high})"
