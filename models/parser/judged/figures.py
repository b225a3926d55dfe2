"""Draws the figures of the report on the parser."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from mmbroker.models.parser.exported import ExportedSpectrumParser
from mmbroker.models.parser.judged.line_detections import (
    Judged,
    line_pulls,
    purity_and_completeness,
)
from mmbroker.models.parser.judged.line_purity import FEWEST_DETECTIONS
from mmbroker.models.parser.measures import PURITY
from mmbroker.models.simulation.spectra import simulate_spectra
from mmbroker.models.simulation.spectral_noise import REGIMES
from mmbroker.processors import relations
from mmbroker.processors.features.identification import Coverage, identified
from mmbroker.processors.features.lines import LineCalibration, lines_of
from mmbroker.processors.features.patches import Patches, patches_of
from mmbroker.schemas.events import Floats, ParsedLine

DPI = 80
EXAMPLES_SEED = 24
STACKS = ("smg_final_stackedspec.txt", "Template_spectrum_s14mm.txt")
_STACK_CITATIONS = ("Reuter et al. 2023", "Spilker et al. 2014")


def completeness(
    judged: Judged,
    thresholds: dict[str, dict[str, float]],
    bins: Sequence[tuple[float, float]],
    path: Path,
) -> None:
    """Draw completeness against S/N at the same purity on validation, by regime.

    Args:
        judged: the methods on the test spectra.
        thresholds: the threshold of each method, by regime.
        bins: the bins of S/N.
        path: the file to write.
    """
    _, axes = plt.subplots(1, 5, figsize=(15, 3.6), sharey=True)
    groups = {"all": np.arange(len(judged.regime))}
    groups |= {name: np.flatnonzero(judged.regime == k) for k, name in enumerate(REGIMES)}
    for axis, (group, spectra) in zip(axes, groups.items(), strict=True):
        for name, threshold in thresholds[group].items():
            shares = [
                purity_and_completeness(judged, name, threshold, *each, spectra)[1] for each in bins
            ]
            middles = [np.sqrt(low * high) for low, high in bins]
            short = name.split(",")[0] if name.startswith("specutils") else name
            axis.plot(middles, shares, "o-" if name == "parser" else ".--", label=short)
        axis.set(title=f"{group} (simulated)", xlabel="S/N of the line", xscale="log")
        axis.set_xticks([3, 4, 6, 8, 12, 20], ["3", "4", "6", "8", "12", "20"])
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("completeness at 90 % purity")
    axes[0].legend(fontsize=7)
    _save(path)


def purity(purities: dict[str, dict[str, Any]], path: Path) -> None:
    """Draw purity against the signal-to-noise ratio of each method, with 95 % intervals.

    Args:
        purities: the bins of ``purity_by_ratio``, by method.
        path: the file to write.
    """
    _, axis = plt.subplots(figsize=(6, 3.6))
    for number, (name, bins) in enumerate(purities.items()):
        seen = [each for each in bins.values() if each["detections"] >= FEWEST_DETECTIONS]
        if not seen:
            continue
        share, low, high = np.array([each["purity"] for each in seen]).T
        # Side by side, so that the intervals can be told apart.
        ratio = np.array([each["ratio"] for each in seen]) * 1.012 ** (number - 2)
        style = "o-" if name == "parser" else ".--"
        axis.errorbar(ratio, share, [share - low, high - share], fmt=style, lw=1, label=name)
    axis.set(xlabel="S/N as the method measured it", ylabel="purity (simulated)", xscale="log")
    axis.set_xticks([3, 4, 6, 8, 12, 20], ["3", "4", "6", "8", "12", "20"])
    axis.minorticks_off()
    axis.axhline(PURITY, color="black", lw=0.7, ls=":")
    axis.grid(alpha=0.3)
    axis.legend(fontsize=7, loc="lower right")
    _save(path)


def confusions(numbers: dict[str, Any], path: Path) -> None:
    """Draw confusions: shapes at S/N > 20, morphologies at S/N > 10, and those by counting peaks.

    Args:
        numbers: the numbers of the report.
        path: the file to write.
    """
    _, axes = plt.subplots(1, 3, figsize=(12, 3.8))
    maps, shapes = numbers["maps"], numbers["shapes"]
    _confusion(axes[0], np.array(shapes["above_20"]), shapes["names"], "shapes, S/N > 20")
    _confusion(axes[1], np.array(maps["confusion"]), maps["names"], "maps, S/N > 10: parser")
    table = np.array(maps["conventional_confusion"])
    _confusion(axes[2], table, maps["names"], "maps: counting peaks")
    _save(path)


def _confusion(axis: Axes, table: Floats, names: list[str], title: str) -> None:
    share = table / table.sum(axis=1, keepdims=True).clip(1)
    axis.imshow(share, vmin=0, vmax=1, cmap="Blues")
    for (row, column), value in np.ndenumerate(share):
        colour = "white" if value > 0.5 else "black"
        axis.text(column, row, f"{value:.2f}", ha="center", va="center", color=colour)
    axis.set_xticks(range(len(names)), names, rotation=20)
    axis.set_yticks(range(len(names)), names)
    axis.set(xlabel="said", ylabel="true", title=f"{title} (simulated)")


def pulls(judged: Judged, threshold: float, path: Path) -> None:
    """Draw the pulls of frequency, width and flux beside a unit Gaussian.

    Args:
        judged: the methods on the test spectra.
        threshold: the parser's threshold.
        path: the file to write.
    """
    found = judged.found["parser"]
    chosen = found.score[found.matched >= 0] >= threshold
    _, axes = plt.subplots(1, 3, figsize=(10, 3), sharey=True)
    edges = np.linspace(-5, 5, 41)
    for axis, (name, values) in zip(axes, line_pulls(found, judged.truth).items(), strict=True):
        axis.hist(values[chosen].clip(-5, 5), edges, density=True, color="tab:blue", alpha=0.6)
        axis.plot(edges, np.exp(-0.5 * edges**2) / np.sqrt(2 * np.pi), "k-", lw=1)
        axis.set(title=f"pull of the {name} (simulated)")
    _save(path)


def examples(network: ExportedSpectrumParser, calibration: LineCalibration, path: Path) -> None:
    """Draw one simulated spectrum of each regime, with the lines that the parser finds.

    Args:
        network: the parser of spectra.
        calibration: its calibration.
        path: the file to write.
    """
    _, axes = plt.subplots(len(REGIMES), 1, figsize=(11, 9))
    for number, (axis, regime) in enumerate(zip(axes, REGIMES, strict=True)):
        random = np.random.default_rng([EXAMPLES_SEED, number])
        simulated = simulate_spectra(8, random, regime=number)
        bright = np.nan_to_num(simulated.lines.signal_to_noise).max(axis=1)
        row = int(np.abs(bright - 8).argmin())
        patches = patches_of(*simulated.spectrum(row))
        _draw(axis, patches, _found(network, calibration, patches))
        for centre, ratio in zip(
            simulated.lines.frequency_hz[row], simulated.lines.signal_to_noise[row], strict=True
        ):
            if np.isfinite(centre):
                axis.axvline(centre / 1e9, color="tab:green", ls=":", lw=1)
                top = axis.get_ylim()[1]
                axis.text(centre / 1e9, top, f"S/N {ratio:.1f}", color="tab:green", fontsize=7)
        axis.set_ylabel("mJy")
        axis.set_title(f"{regime} (simulated)", loc="right", fontsize=8)
    axes[-1].set_xlabel("GHz; green: put in, red: found")
    _save(path)


def real_spectra(
    network: ExportedSpectrumParser, calibration: LineCalibration, tables: Path, path: Path
) -> bool:
    """Draw the lines that the parser finds in published stacked spectra.

    Args:
        network: the parser of spectra.
        calibration: its calibration.
        tables: the folder of the published tables.
        path: the file to write.

    Returns:
        Whether there were any such spectra.
    """
    present = [name for name in STACKS if (tables / name).is_file()]
    if not present:
        return False
    _, axes = plt.subplots(len(present), 1, figsize=(12, 3.2 * len(present)))
    for axis, name, citation in zip(np.atleast_1d(axes), present, _STACK_CITATIONS, strict=False):
        frequency, flux, error = read_stack(tables / name)
        patches = patches_of(frequency, flux, error)
        _draw(axis, patches, _found(network, calibration, patches))
        for line, rest in relations.LINES_HZ.items():
            if frequency[0] < rest < frequency[-1]:
                axis.axvline(rest / 1e9, color="grey", ls=":", lw=0.8)
                axis.text(rest / 1e9, 0, line, rotation=90, fontsize=6, color="grey")
        axis.set_yscale("symlog", linthresh=1.0)
        axis.set(ylabel="mJy", title=f"stack of {citation}, rest frame (real)")
    np.atleast_1d(axes)[-1].set_xlabel("GHz; grey: CO, [CI], [CII]; red: found")
    _save(path)
    return True


def read_stack(path: Path) -> tuple[Floats, Floats, Floats]:
    """Read a stacked spectrum, without the rows that have no sources.

    Args:
        path: the file.

    Returns:
        Frequencies in Hz, flux densities in Jy and errors in Jy, float64, shape (rows,) each.
    """
    table = np.genfromtxt(path, comments="#")
    seen = np.isfinite(table[:, 1]) & (table[:, 2] > 0)
    return table[seen, 0] * 1e9, table[seen, 1] / 1e3, table[seen, 2] / 1e3


def _found(
    network: ExportedSpectrumParser, calibration: LineCalibration, patches: Patches
) -> list[ParsedLine]:
    (outputs,) = network.outputs([patches])
    return identified(lines_of(patches, outputs, calibration), Coverage.of(patches))


def _draw(axis: Axes, patches: Patches, lines: list[ParsedLine]) -> None:
    seen = patches.weight > 0
    flux = np.where(seen, patches.flux_jy * 1e3, np.nan)
    for stretch in np.unique(patches.stretch):
        inside = patches.stretch == stretch
        axis.step(patches.frequency_hz[inside] / 1e9, flux[inside], where="mid", lw=0.6)
    top = float(np.nanmax(flux))
    for line in lines:
        centre = line.frequency_hz / 1e9
        half = centre * line.width_km_s / relations.SPEED_OF_LIGHT_KM_S / 2
        axis.axvspan(centre - half, centre + half, color="tab:red", alpha=0.2)
        axis.text(centre, top * 0.8, f"{line.probability:.2f}", color="tab:red", fontsize=7)


def _save(path: Path) -> None:
    plt.tight_layout()
    plt.savefig(path, dpi=DPI)
    plt.close()
