"""Draws estimated against true redshifts."""

from __future__ import annotations

import textwrap
from pathlib import Path

import numpy as np

from mmbroker.models.pages.render import render
from mmbroker.models.redshift import measures
from mmbroker.models.redshift.sample import Estimate
from mmbroker.processors.redshift.grids import Array


def scatter_figure(path: Path, truth: Array, estimates: dict[str, Estimate], title: str) -> None:
    """Draw estimates against the truth, one panel for each, with the caveat in small print.

    Args:
        path: the file of the figure.
        truth: the true redshifts, shape (N,).
        estimates: the estimates of the same galaxies, by the title of the panel.
        title: the title of the figure.
    """
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
    figure.supxlabel(textwrap.fill(render("_caveat", {}), 75 * len(estimates)), fontsize=7)
    figure.savefig(path, dpi=80)
