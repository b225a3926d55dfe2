"""A compared table of redshifts as tables and as a plot."""

from __future__ import annotations

import math
import textwrap
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray
from rich.box import SIMPLE
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from mmbroker.models.redshift import measures
from mmbroker.models.redshift.baselines.baselines import STACKED
from mmbroker.models.redshift.compare_tables.compare import UNSEEN
from mmbroker.models.redshift.compare_tables.compared_table import EVERY_ROW, ComparedTable
from mmbroker.models.redshift.probability_measures import FEWEST, Reliability
from mmbroker.models.redshift.real_galaxies import Array, Difference, Estimates
from mmbroker.processors.redshift.modes import REDSHIFT_TOLERANCE

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

_ENDS = "below each figure: from where to where its 95 % bootstrap interval reaches"

_HEADINGS = ("MAE", "NMAD", "outliers", "CRPS", "68 %", "95 %")


def render(compared: ComparedTable, groups: bool = True) -> Group:
    """The figures to print, and how the conventional estimate compares with the published.

    Args:
        compared: the figures.
        groups: also those of each group of the galaxies.
    """
    parts: list[RenderableType] = []
    filled = [subset for subset, chosen in compared.subsets.items() if chosen.any()]
    for place, subset in enumerate(filled):
        if groups or not place:
            parts.append(_figures_table(compared, subset))
            parts += [_fallen_back(compared, subset, each) for each in compared.reasons]
            parts += [
                _differences_table(compared, subset, estimator)
                for estimator in compared.estimators(subset)
                if compared.references(subset, estimator)
            ]
    reliabilities = compared.reliabilities()
    if reliabilities:
        parts += [_reliability_table(reliabilities), _bins_table(reliabilities[EVERY_ROW])]
    parts += [
        "Δ = (z - z_spec) / (1 + z_spec). MAE: mean |Δ|. NMAD: 1.4826 median|Δ - median Δ|. "
        "Outliers: |Δ| > 0.15. CRPS: of the posterior in z; of the redshift alone where only that "
        "is published. 68 %, 95 %: share of spectroscopic redshifts within the stated interval. "
        "Recalibrated: a published redshift alone, with the intervals that tuning found for it. "
        "Faint: not 15 mJy or more at 500 µm, which includes what was not observed there; faint "
        "positive: 0 < S500 < 15 mJy. Conventional far-infrared: without the published redshifts, "
        "from far infrared, radio and lines; the refined redshift would be the same there.",
        f"Right: |Δ| at most {REDSHIFT_TOLERANCE}. Area: the probability that a right redshift has "
        "the higher probability; 0.5 is chance.",
        *([_STACKS_AND_TREES] if STACKED in compared.estimates else []),
        f"Constants {compared.identity} were tuned on tables of this kind; figures of galaxies "
        "left out of the tuning are in processors/redshift/tuned.json. Intervals are right on "
        "average over a field, and too narrow for its galaxies that are bright in the "
        "submillimetre.",
        Text(CAVEAT, "bold"),
    ]
    if not groups and filled[1:]:
        parts.append(f"Groups of these galaxies, with --groups: {', '.join(filled[1:])}.")
    absent = "".join(f"; {each}" for each in compared.notes)
    parts.append(f"Read with mapping {compared.mapping}{absent}.")
    if compared.trained_on:
        parts.append(Text(_trained_on_some(compared), "bold"))
    if compared.problems:
        parts.append(
            "Left out, because the stream could not read it or would refuse it: "
            f"{len(compared.problems)}. The first: {compared.problems[0]}"
        )
    return Group(*parts)


def _trained_on_some(compared: ComparedTable) -> str:
    return (
        f"{compared.trained_on} of these {len(compared.truth)} galaxies, by their places, are "
        "among those on which templates, stacks, trees or the refined redshift were fitted, "
        f"trained or chosen, which flatters them: --split {UNSEEN} leaves them out."
    )


def _figures_table(compared: ComparedTable, subset: str) -> Table:
    chosen = compared.subsets[subset]
    table = _table(
        f"{compared.table}: {subset}, {_counted(compared.simulated[chosen])} ({_ENDS})",
        "redshift",
    )
    for estimator in compared.estimators(subset):
        values = compared.values(subset, estimator)
        cells = [_with_interval(measures.MEASURES[name], each) for name, each in values.items()]
        table.add_row(estimator, *cells)
    return table


def _reliability_table(found: dict[str, Reliability]) -> Table:
    table = Table(
        title=f"probability that the conventional redshift is right ({_ENDS})", box=SIMPLE
    )
    table.add_column("evidence", min_width=16)
    for heading in ("galaxies", "stated", "right", "stated - right", "Brier", "area"):
        table.add_column(heading, justify="right", no_wrap=True)
    for name, one in found.items():
        few = f"\nfewer than {FEWEST}" if one.count < FEWEST else ""
        table.add_row(name, f"{one.count}{few}", *(_ends(each) for each in one.figures.values()))
    return table


def _bins_table(every: Reliability) -> Table:
    table = Table(title="the same for every row, by stated probability", box=SIMPLE)
    for heading in ("stated", "galaxies", "mean stated", "right", "from", "to"):
        table.add_column(heading, justify="right", no_wrap=True)
    for each in every.bins:
        right = (f"{value:.3f}" for value in each.right)
        edges = f"{each.lower:g} to {each.upper:g}"
        table.add_row(edges, str(each.count), f"{each.stated:.3f}", *right)
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


def _with_interval(measure: measures.Measure, values: Array) -> str:
    value = float(measure(values))
    if not math.isfinite(value):
        return ""
    return _ends((value, *measures.bootstrap(measure, values)))


def _ends(found: Difference | None) -> str:
    return "" if found is None else "\n".join(f"{value:.4f}" for value in found)


def _differences_table(compared: ComparedTable, subset: str, estimator: str) -> Table:
    table = _table(
        f"{estimator} minus another, negative is better but for coverage ({_ENDS}, paired)",
        "other",
    )
    for reference in compared.references(subset, estimator):
        found = compared.differences(subset, estimator, reference)
        table.add_row(reference, *(_signed(each) for each in found.values()))
    return table


def _fallen_back(compared: ComparedTable, subset: str, estimator: str) -> str:
    """How many estimates of a subset are the conventional one, and why."""
    found = compared.fallbacks(subset, estimator)
    count = int(compared.subsets[subset].sum())
    why = "".join(f"; {each.words}: {number}" for each, number in found.items())
    return f"{estimator}: {sum(found.values())} of {count} are the conventional redshift{why}\n"


def _signed(difference: Difference | None) -> str:
    if difference is None:
        return ""
    value, low, high = difference
    return f"{value:+.4f}\n{low:+.4f}\n{high:+.4f}"


def plot(compared: ComparedTable, path: str | Path) -> None:
    """Write a figure: estimates with 68 % intervals against the truth, and their coverage."""
    from matplotlib.figure import Figure  # slow to import, and rarely wanted

    truth = compared.truth
    shown = {name: compared.estimates[name] for name in compared.ranks}
    figure = Figure(figsize=(5.5 * (1 + len(shown)), 5), layout="constrained")
    *panels, right = figure.subplots(1, 1 + len(shown))
    largest = np.max([truth, *(one.redshift for one in shown.values())])
    line = np.array([1.0, 1.05 * (1 + largest)])
    styles = (("C0", 2.5), ("C1", 1.2))  # what lies below the other is seen too
    for (name, one), (colour, width), panel in zip(shown.items(), styles, panels, strict=False):
        _plot_redshifts(panel, truth, one, line, colour)
        panel.set(ylabel=f"1 + {name} redshift", title=name)
        ranks = np.sort(compared.ranks[name])
        share = (np.arange(len(ranks)) + 0.5) / max(len(ranks), 1)
        right.plot(ranks, share, color=colour, lw=width, label=f"{name}, {len(ranks)} galaxies")
    right.plot([0, 1], [0, 1], color="black", lw=1, label="calibrated")
    right.set(
        xlabel="posterior probability below the spectroscopic redshift",
        ylabel="share of galaxies",
        xlim=(0, 1),
        ylim=(0, 1),
        title="calibration, of galaxies whose redshift no line tells",
    )
    right.legend()
    figure.suptitle(f"{compared.table}, {_counted(compared.simulated)}")
    trained = f" {_trained_on_some(compared)}" if compared.trained_on else ""
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
        bound = line * (1 + sign * measures.OUTLIER)
        label = f"|Δ| = {measures.OUTLIER}" if sign > 0 else None
        panel.plot(line, bound, color="black", lw=0.7, ls=":", label=label)
    panel.set(xscale="log", yscale="log", xlabel="1 + spectroscopic redshift")
    for axis in (panel.xaxis, panel.yaxis):
        axis.set_major_locator(FixedLocator([1, 1.5, 2, 3, 4, 5, 6, 8, 10]))
        axis.set_major_formatter("{x:g}")
        axis.set_minor_locator(NullLocator())
    panel.legend()
