"""Draws the figures of the report on the simulator; what is simulated is labelled so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from mmbroker.models.realism.comparison import Comparison
from mmbroker.models.realism.former import NAME
from mmbroker.models.realism.two_sample import VIEWS, Interval, colour
from mmbroker.models.realism.two_sample import correlations as rank_correlations
from mmbroker.models.simulation.catalogue_surveys import CANDELS, WEBB
from mmbroker.models.simulation.population import KINDS, Population
from mmbroker.processors.relations import AB_ZERO_JY
from mmbroker.schemas.events import Floats

mpl.use("Agg")

REAL, SIMULATED, OLD = "#1b1b1b", "#d1495b", "#8d99ae"


def population(galaxies: Population, wavelength_um: Floats, output: Path) -> None:
    """Draw spectral energy distributions, and redshift against luminosity.

    Args:
        galaxies: simulated galaxies.
        wavelength_um: the rest wavelengths of their spectral energy distributions in um, shape
            (wavelengths,).
        output: the folder to write to.
    """
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    inks = ("#457b9d", SIMULATED, "#e9a03b")
    for kind, (name, ink) in enumerate(zip(KINDS, inks, strict=True)):
        rows = np.flatnonzero(galaxies.kind == kind)
        right.scatter(
            galaxies.redshift[rows], galaxies.log_luminosity[rows], s=3, c=ink, label=name
        )
        for place, row in enumerate(rows[:4]):
            observed = wavelength_um * (1 + galaxies.redshift[row])
            flux = np.exp(galaxies.log_flux_density[row])
            left.loglog(observed, flux, c=ink, lw=0.7, label=name if place == 0 else None)
    for survey in (CANDELS, WEBB):
        depth = AB_ZERO_JY * 10 ** (-0.4 * survey.depth_mag) / 5
        left.plot(survey.wavelength_um, depth, "v", c="grey", ms=3)
    left.set(
        xlim=(0.3, 1e6), ylim=(1e-10, 1), xlabel="observed wavelength [µm]", ylabel="S [Jy]",
        title="simulated galaxies; triangles: 1σ of imaging",
    )  # fmt: skip
    right.set(xlabel="redshift", ylabel="log L_IR [L_sun]", title="simulated population")
    right.legend(markerscale=4, fontsize=7)
    _save(figure, output / "simulator_population.png")


def two_samples(tables: dict[str, dict[str, Any]], output: Path) -> None:
    """Draw the areas under the curve of the classifiers.

    Args:
        tables: the numbers of each table, by its name.
        output: the folder to write to.
    """
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    axes = figure.subplots(1, len(tables), sharey=True)
    for axis, (name, numbers) in zip(axes, tables.items(), strict=True):
        place = np.arange(len(VIEWS), dtype=float)
        _bars(axis, place + 0.12, numbers["area"], SIMULATED, "simulated")
        halves = numbers["area of real halves"]
        if halves[VIEWS[0]] is not None:
            _bars(axis, place, halves, REAL, "halves of the real table")
        former = numbers["area of the former simulator"]
        _bars(axis, place - 0.12, former, OLD, f"simulated by {NAME}")
        axis.axhline(0.5, c="grey", lw=0.6)
        axis.set_xticks(place, VIEWS, fontsize=7)
        axis.set_title(f"{name}: {numbers['real']} real sources")
    axes[0].set_ylabel("area under the curve, real from simulated")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), fontsize=7)
    _save(figure, output / "simulator_two_sample.png")


def distributions(compared: list[Comparison], output: Path) -> None:
    """Draw the distribution of flux densities in every band of the tables.

    Args:
        compared: the comparisons of GOODS-N, COSMOS and SPT, in this order.
        output: the folder to write to.
    """
    deep, wide, lensed = compared
    for each, name in ((deep, "goodsn"), (wide, "cosmos"), (lensed, "spt")):
        bands = each.survey.bands
        columns = 6
        figure = Figure(figsize=(11, 1.6 * -(-len(bands) // columns) + 0.4), layout="constrained")
        axes = figure.subplots(-(-len(bands) // columns), columns, squeeze=False).ravel()
        for axis in axes[len(bands) :]:
            axis.remove()
        for index, band in enumerate(bands):
            real, simulated = each.judged.scaled[:, index], each.simulated.scaled[:, index]
            both = np.concatenate([real[np.isfinite(real)], simulated[np.isfinite(simulated)]])
            low, high = np.percentile(both, [0.5, 99.5])
            edges = np.linspace(low, high, 16)
            for values, ink in ((real, REAL), (simulated, SIMULATED)):
                axes[index].hist(values, edges, density=True, histtype="step", color=ink)
            shares = each.judged.seen[:, index].mean(), each.simulated.seen[:, index].mean()
            axes[index].set_title(f"{band}  {shares[0]:.0%} / {shares[1]:.0%}", fontsize=7)
            axes[index].tick_params(labelsize=6)
            axes[index].set_yticks([])
        figure.suptitle(
            f"{each.survey.table}: asinh(flux density / depth), real (black) and simulated (red); "
            "shares of sources with the band",
            fontsize=8,
        )
        _save(figure, output / f"simulator_{name}.png")


def correlations(compared: Comparison, output: Path) -> None:
    """Draw the rank correlations of flux densities and of masks.

    Args:
        compared: the comparison of a table.
        output: the folder to write to.
    """
    figure = Figure(figsize=(9, 6.4), layout="constrained")
    axes = figure.subplots(2, 3)
    bands = compared.survey.bands
    rows = (
        ("flux densities", compared.judged.scaled, compared.simulated.scaled),
        ("masks", compared.judged.seen, compared.simulated.seen),
    )
    for line, (name, one, other) in zip(axes, rows, strict=True):
        real, simulated = rank_correlations(one), rank_correlations(other)
        titles = (f"{name}, real", f"{name}, simulated", "real − simulated")
        matrices = (real, simulated, real - simulated)
        for axis, title, matrix in zip(line, titles, matrices, strict=True):
            drawn = axis.imshow(matrix, vmin=-1, vmax=1, cmap="RdBu_r")
            axis.set_title(title, fontsize=8)
            axis.set_xticks(range(len(bands)), bands, rotation=90, fontsize=5)
            axis.set_yticks(range(len(bands)), bands, fontsize=5)
    figure.colorbar(drawn, ax=axes, shrink=0.5, label="rank correlation")
    _save(figure, output / "simulator_correlations.png")


def colours(compared: Comparison, pairs: tuple[tuple[str, str], ...], output: Path) -> None:
    """Draw colours against redshift.

    Args:
        compared: the comparison of a table.
        pairs: the two bands of each colour.
        output: the folder to write to.
    """
    figure = Figure(figsize=(11, 4.6), layout="constrained")
    axes = figure.subplots(2, -(-len(pairs) // 2)).ravel()
    bands = compared.survey.bands
    for axis, (blue, red) in zip(axes, pairs, strict=True):
        for each, ink, size in ((compared.simulated, SIMULATED, 1.5), (compared.judged, REAL, 4)):
            redshift = np.expm1(each.log_stretch)
            values = colour(each, bands.index(blue), bands.index(red))
            axis.scatter(redshift, values, s=size, c=ink, lw=0)
        axis.set(xlim=(0, 4.5))
        axis.set_title(f"{red} / {blue}", fontsize=8)
        axis.tick_params(labelsize=6)
    figure.suptitle(
        f"{compared.survey.table}: log of flux ratios against redshift where both exceed 2σ, in "
        "units of the depths; real (black), simulated (red)",
        fontsize=8,
    )
    _save(figure, output / "simulator_colours.png")


def _bars(axis: Any, place: Floats, areas: dict[str, Interval], ink: str, label: str) -> None:
    values = np.array([[areas[v].value, areas[v].low, areas[v].high] for v in VIEWS]).T
    spread = [values[0] - values[1], values[2] - values[0]]
    axis.errorbar(place, values[0], np.abs(spread), fmt="o", ms=4, c=ink, label=label)


def _save(figure: Figure, path: Path) -> None:
    figure.savefig(path, dpi=90, metadata={"Software": None})
