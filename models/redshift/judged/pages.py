"""Words, tables and figures that pages share."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import numpy as np

from mmbroker.models.redshift import measures
from mmbroker.models.redshift.sample import Estimate
from mmbroker.processors.redshift.grids import Array
from mmbroker.schemas.wording import times

NO_TABLES = (
    "The published tables are missing (MMBROKER_DATA names their folder): nothing about real "
    "galaxies can be said without them."
)
OPENINGS = {
    "with version 1 of the refined redshift": 1,
    "with version 2": 1,
    "with version 3": 1,
    "for critic and generator across trial redshifts": 1,
    "when stacks and trees, whose weights had been in sample, were fitted anew out of fold": 1,
    "with version 4": 1,
    "for EAZY beside the template fit": 1,
}
"""How often the test part of GOODS-N was opened for redshifts, in order of time. With the versions
it was for all estimators together, once for nothing but baselines. Raise it with each new version
of an estimator."""

CAVEAT = (
    "Galaxies with spectroscopic redshifts are brighter in the optical than the sources this "
    "system is for: published redshifts, and what rests on them, are expected to be worse on those."
)

EXCHANGED = (
    "* The columns of 16 and 24 µm in the table of GOODS-N are exchanged, and are read as what "
    "they are: f_16 is 1.3 times f_24 at z < 0.5, 0.85 times at 1.2 < z < 1.5 and 3.1 times at "
    "1.8 < z < 2.2, as S24/S16 goes while the aromatic feature at 7.7 µm passes through 16 µm, "
    "then through 24 µm (see `models/real_data/catalogues.py`)."
)
ERRORS = {"mae": "MAE", "nmad": "NMAD", "outliers": "outliers", "crps": "CRPS"}
"""Headings of the measures that are the better the lower."""

_HEADINGS = {**ERRORS, "coverage68": "68 % covers", "coverage95": "95 % covers"}
_SHARES = ("outliers", "coverage68", "coverage95")


def openings() -> str:
    """How often the test part of GOODS-N was opened for redshifts, and when."""
    each = ", ".join(f"{times(count)} {when}" for when, count in OPENINGS.items())
    return f"The test part has been opened {times(sum(OPENINGS.values()))} in all: {each}."


def figures_table(estimators: dict[str, dict[str, Any]], bold: bool = True) -> str:
    """A table of estimators, with the lowest error of each column in bold or not."""
    best = {key: min(one[key][0] for one in estimators.values() if key in one) for key in ERRORS}
    rows = []
    for name, one in estimators.items():
        cells = [_cell(key, one.get(key), best.get(key) if bold else None) for key in _HEADINGS]
        rows.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join([_head("estimate"), *rows])


def differences_table(estimators: dict[str, dict[str, Any]]) -> str:
    """A table of what is minus the others, with paired intervals."""
    rows = []
    for name, one in estimators.items():
        minus = next((value for key, value in one.items() if key.endswith("_minus")), None)
        if minus is not None:
            cells = [_signed(key, minus.get(key)) for key in _HEADINGS]
            rows.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join([_head("minus"), *rows])


def _head(first: str) -> str:
    headings = [first, *_HEADINGS.values()]
    return f"| {' | '.join(headings)} |\n|{'---|' * len(headings)}"


def _cell(key: str, values: list[float] | None, best: float | None) -> str:
    if values is None:
        return "–"
    value, low, high = values
    if key in _SHARES:
        text = f"{100 * value:.1f} % ({100 * low:.0f}–{100 * high:.0f})"
    else:
        text = f"{value:.4f} ({low:.3f}–{high:.3f})"
    return f"**{text}**" if best is not None and value <= best else text


def _signed(key: str, values: list[float] | None) -> str:
    if values is None:
        return "–"
    if key in _SHARES:
        value, low, high = (100 * one for one in values)
        return f"{value:+.1f} ({low:+.1f} to {high:+.1f})"
    value, low, high = values
    return f"{value:+.4f} ({low:+.4f} to {high:+.4f})"


def scatter_figure(path: Path, truth: Array, estimates: dict[str, Estimate], title: str) -> None:
    """Estimates against the truth, a panel each, with what to mind in small print."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import FixedLocator, NullLocator

    figure = Figure(figsize=(4.2 * len(estimates), 4.2), layout="constrained")
    panels = figure.subplots(1, len(estimates), sharex=True, sharey=True, squeeze=False)[0]
    line = np.array([1.0, 1.1 * (1 + truth.max())])
    for panel, (name, one) in zip(panels, estimates.items(), strict=True):
        delta = measures.deviation(one.redshift, truth)
        panel.plot(1 + truth, 1 + one.redshift, "o", ms=2.5, alpha=0.6)
        panel.plot(line, line, color="black", lw=1)
        for sign in (-1, 1):
            panel.plot(line, line * (1 + sign * measures.OUTLIER), color="black", lw=0.7, ls=":")
        panel.set(
            xscale="log",
            yscale="log",
            xlabel="1 + spectroscopic redshift",
            title=f"{name}\nMAE {measures.mae(delta):.3f}, outliers {measures.outliers(delta):.1%}",
        )
        for axis in (panel.xaxis, panel.yaxis):
            axis.set_major_locator(FixedLocator([1, 1.5, 2, 3, 4, 5, 6, 8, 10]))
            axis.set_major_formatter("{x:g}")
            axis.set_minor_locator(NullLocator())
    panels[0].set_ylabel("1 + estimate")
    figure.suptitle(title, fontsize=9)
    figure.supxlabel(textwrap.fill(CAVEAT, 75 * len(estimates)), fontsize=7)
    figure.savefig(path, dpi=80)
