"""Draws the figures of the report on recovered lines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from mmbroker.models.lines.baselines import BASELINES, Masked
from mmbroker.models.lines.measures import Predictions
from mmbroker.models.lines.train import with_others
from mmbroker.models.real_data.line_tables import Ladder
from mmbroker.processors.lines.measure import LINES


def recovered(rows: Masked, found: Predictions, path: Path) -> None:
    """Draw recovered against measured luminosities, and their difference.

    Args:
        rows: masked lines.
        found: their predictions.
        path: the file to write.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 4))
    chosen = with_others(rows)
    for number, name in enumerate(LINES):
        of_line = chosen & (rows.line == number)
        if not of_line.any():
            continue
        truth, value = rows.truth[of_line], found.value[of_line]
        marker = "o" if name.startswith("CO") else "^"
        colour = plt.get_cmap("turbo")(number / len(LINES))
        left.plot(truth, value, marker, ms=3, color=colour, label=name)
        right.plot(truth, value - truth, marker, ms=3, color=colour)
    ends = np.array([rows.truth[chosen].min(), rows.truth[chosen].max()])
    left.plot(ends, ends, "k-", lw=0.6)
    right.axhline(0, color="k", lw=0.6)
    left.set(
        xlabel="measured log L′ / K km s⁻¹ pc²", ylabel="recovered, galaxy left out, line masked"
    )
    right.set(xlabel="measured log L′ / K km s⁻¹ pc²", ylabel="recovered − measured, dex")
    left.legend(fontsize=6, ncols=2)
    _save(figure, path)


def skills(results: dict[str, Any], path: Path) -> None:
    """Draw the skill over each baseline with its interval.

    Args:
        results: the numbers of the report.
        path: the file to write.
    """
    figure, axes = plt.subplots(figsize=(7, 3.5))
    parts = (("test", "all"), ("leave_one_galaxy_out", "all"), ("leave_one_galaxy_out", "z > 0.1"))
    titles = ("test", "each galaxy left out", "each galaxy left out, z > 0.1")
    for number, ((key, subset), title) in enumerate(zip(parts, titles, strict=True)):
        of_subset = results[key][subset]["skill"]
        names = [name for name in BASELINES if name in of_subset]
        values = np.array([of_subset[name]["skill"] for name in names])
        place = np.array([BASELINES.index(name) for name in names]) + 0.2 * (number - 1)
        errors = [values[:, 0] - values[:, 1], values[:, 2] - values[:, 0]]
        axes.errorbar(values[:, 0], place, xerr=errors, fmt="o", ms=4, label=title)
    axes.axvline(0, color="k", lw=0.6)
    axes.set_xlim(-1, 1)
    axes.set_yticks(range(len(BASELINES)), BASELINES, fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel("skill, 1 − Σe²/Σe_b²")
    axes.legend(fontsize=7, loc="lower left")
    _save(figure, path)


def ladders(found: list[tuple[Ladder, Masked, Predictions]], path: Path) -> None:
    """Draw published ladders, with each line recovered from the others.

    Args:
        found: each ladder with its masked lines and their predictions.
        path: the file to write.
    """
    figure, axes = plt.subplots(1, len(found), figsize=(9, 3), sharey=True)
    for each, (ladder, rows, values) in zip(axes, found, strict=True):
        place = np.arange(len(rows))
        first = rows.truth[0]
        names = [LINES[line] for line in rows.line]
        each.errorbar(place, rows.truth - first, rows.truth_error, fmt="ks", ms=4, label="measured")
        each.errorbar(
            place + 0.15,
            values.value - first,
            values.half_width_68,
            fmt="o",
            ms=4,
            label="recovered",
        )
        each.set_xticks(place, names, rotation=90, fontsize=7)
        each.set_title(ladder.name, fontsize=8)
    axes[0].set_ylabel("log of L′ over CO(1-0)")
    axes[0].legend(fontsize=7)
    _save(figure, path)


def simulated(results: dict[str, Any], path: Path) -> None:
    """Draw the errors by signal-to-noise ratio in simulated spectra.

    Args:
        results: the figures of each bin of the ratio, by its name.
        path: the file to write.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.5))
    place = np.arange(len(results))
    masked = np.array([each["masked"]["rms_dex"] for each in results.values()])
    measured = np.array([each["measured"]["rms_dex"] for each in results.values()])
    for values, label in ((masked, "line masked"), (measured, "line measured")):
        errors = [values[:, 0] - values[:, 1], values[:, 2] - values[:, 0]]
        left.errorbar(place, values[:, 0], errors, fmt="o-", ms=4, label=label)
    left.set(ylabel="RMS of recovered − true log L′, dex", ylim=(0, None))
    left.legend(fontsize=8)
    for key, label in (("rms_measured", "measured flux"), ("rms_recovered", "recovered flux")):
        right.semilogy(
            place, [each["measured"]["flux"][key] for each in results.values()], "o-", label=label
        )
    right.set_ylabel("RMS of (F − F_true) / F_true")
    right.legend(fontsize=8)
    for axes in (left, right):
        axes.set_xticks(place, list(results))
        axes.set_xlabel("signal-to-noise ratio of the line")
        axes.set_title("simulated spectra", fontsize=9)
    _save(figure, path)


def _save(figure: Figure, path: Path) -> None:
    figure.tight_layout()
    figure.savefig(path, dpi=100)
    plt.close(figure)
