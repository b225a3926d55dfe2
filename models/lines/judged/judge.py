"""Judges recovered lines on real galaxies, simulated spectra and published CO ladders."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmbroker.models.lines import measures
from mmbroker.models.lines.baselines import Baselines, Masked, masked
from mmbroker.models.lines.judged import figures
from mmbroker.models.lines.judged.verdict import with_verdict
from mmbroker.models.lines.measures import Predictions, predict, recover
from mmbroker.models.lines.simulation import observed_lines, simulated_lines
from mmbroker.models.lines.train import (
    cross_validation,
    cross_validation_of_network,
    judged,
    leave_one_galaxy_out,
)
from mmbroker.models.measures import resampling
from mmbroker.models.packaged.line_recovery import load_line_recovery
from mmbroker.models.packaged.networks import WEIGHTS
from mmbroker.models.pages.render import write
from mmbroker.models.real_data.line_tables import (
    DETECTED,
    TABLES,
    Ladder,
    LineSample,
    read_ladders,
    read_lines,
)
from mmbroker.models.real_data.split import TEST
from mmbroker.processors.lines.joint import LineRecovery, log_luminosity_per_flux
from mmbroker.processors.lines.measure import LINES

Array = NDArray[np.float64]

CHOSEN, NETWORK = "joint normal distribution", "encoder and generator"
"""The candidates."""

SUBSETS = ("all", "z > 0.1", "z < 0.1")
"""The subsets of masked lines on which the candidates are compared."""

SIMULATED_GALAXIES = 6000
SEED = 20
SIGNAL_TO_NOISE = ((0.0, 1.0), (1.0, 2.0), (2.0, 3.0), (3.0, 5.0), (5.0, 8.0), (8.0, 1e9))

_LADDER_LOG_LUMINOSITY = 11.0
_LADDER_ERROR = 0.05


def report(tables: Path | None, output: Path) -> None:
    """Write weak_lines.md, its figures and weak_lines.json.

    With the real tables this needs torch: the other candidate is trained anew.

    Args:
        tables: the folder of the published tables. If it is None or lacks a table, only simulated
            spectra are judged.
        output: the folder to write to.
    """
    model = load_line_recovery()
    card = json.loads((WEIGHTS / "weak_lines.json").read_text(encoding="utf-8"))
    results: dict[str, Any] = {
        "simulated_galaxies": SIMULATED_GALAXIES,
        "seed": SEED,
        "test_openings": card["test_openings"],
        "detected": DETECTED,
        "chosen": CHOSEN,
    }
    real = tables is not None and all((tables / name).exists() for name in TABLES)
    baselines = None
    if tables is not None and real:
        everything = read_lines(tables)
        known = everything.select(everything.split != TEST)
        baselines = Baselines(known)
        held_back = masked(everything.select(everything.split == TEST))
        test = predict(model, baselines, held_back)
        rows, each = leave_one_galaxy_out(everything)
        results["measured"] = dict(
            zip(LINES, everything.detected.sum(axis=0).tolist(), strict=True)
        )
        results["test"] = judged(held_back, test)
        results["leave_one_galaxy_out"] = judged(rows, each)
        candidates = {
            CHOSEN: cross_validation(known),
            NETWORK: cross_validation_of_network(known),
        }
        results["candidates"] = {
            name: {key: one[key] for key in ("log_score", *SUBSETS)}
            for name, one in candidates.items()
        }
        ladders = [(one, *_recovered_ladder(model, one)) for one in read_ladders(tables)]
        results["ladders"] = {
            one.name: _ladder_numbers(masked_one, found) for one, masked_one, found in ladders
        }
        figures.recovered(rows, each, output / "weak_lines_recovered.png")
        figures.skills(results, output / "weak_lines_skill.png")
        figures.ladders(ladders, output / "weak_lines_ladders.png")
    results["simulated"] = _simulated(model, baselines or _published_alone())
    figures.simulated(results["simulated"], output / "weak_lines_simulated.png")
    write("weak_lines", with_verdict(results), output)


def _published_alone() -> Baselines:
    """Make baselines that are fitted to nothing, and use published numbers."""
    none = (np.zeros((0, len(LINES))), np.zeros((0, len(LINES))))
    return Baselines(LineSample((), np.zeros(0), *none, np.zeros(0), np.zeros(0), np.zeros(0, int)))


def _simulated(model: LineRecovery, baselines: Baselines) -> dict[str, Any]:
    """Judge simulated lines by true signal-to-noise ratio, with and without their measurement."""
    simulated = simulated_lines(SIMULATED_GALAXIES, SEED)
    result: dict[str, Any] = {}
    for kind, mask in (("masked", True), ("measured", False)):
        rows = observed_lines(simulated, mask)
        ratio = simulated.true_signal_to_noise[rows.galaxy, rows.line]
        besides = rows.others - (0 if mask else _itself(rows))
        found = predict(model, baselines, rows)
        for low, high in SIGNAL_TO_NOISE:
            chosen = (ratio >= low) & (ratio < high) & (besides > 0)
            name = f"{low:g}–{high:g}" if high < 1e3 else f"over {low:g}"
            numbers = measures.figures(rows, found, chosen)
            if mask:
                error = {each: (v - rows.truth)[chosen] for each, v in found.baselines.items()}
                numbers["bias_dex of baselines"] = {
                    each: round(float(np.nanmean(values)), 3)
                    for each, values in error.items()
                    if np.isfinite(values).any()
                }
            else:
                numbers["flux"] = _flux_skill(model, rows, simulated.true_flux, chosen)
            result.setdefault(name, {})[kind] = numbers
    return result


def _itself(rows: Masked) -> NDArray[np.int64]:
    return rows.sample.detected[np.arange(len(rows)), rows.line].astype(np.int64)


def _flux_skill(
    model: LineRecovery, rows: Masked, true_flux: Array, chosen: NDArray[np.bool_]
) -> dict[str, Any]:
    """The RMS of (F - F_true) / F_true of measured and of recovered fluxes, and the skill."""
    at = np.arange(len(rows)), rows.line
    truth = true_flux[rows.galaxy, rows.line]
    measured = (rows.sample.flux[at] / truth - 1)[chosen]
    recovered = (recover(model, rows.sample).flux_jy_km_s[at] / truth - 1)[chosen]
    weight = resampling.counts(rows.galaxy[chosen], SEED)
    skill = 1 - (weight @ recovered**2) / (weight @ measured**2)
    value = 1 - (recovered**2).sum() / (measured**2).sum()
    return {
        "rms_measured": round(float(np.sqrt((measured**2).mean())), 3),
        "rms_recovered": round(float(np.sqrt((recovered**2).mean())), 3),
        "skill": [round(float(x), 3) for x in (value, *resampling.interval(skill))],
    }


def _recovered_ladder(model: LineRecovery, ladder: Ladder) -> tuple[Masked, Predictions]:
    """Recover each line of a ladder from the others, at an assumed luminosity."""
    flux = ladder.ratio * 10 ** (
        _LADDER_LOG_LUMINOSITY - log_luminosity_per_flux(np.array([ladder.redshift]))
    )
    measured = ladder.ratio > 0
    relative = np.where(measured, ladder.error / np.where(measured, ladder.ratio, 1.0), np.inf)
    first = LINES.index("CO(1-0)")
    relative[first] = max(relative[first], _LADDER_ERROR)
    error = np.where(measured, flux * relative, np.inf)
    unknown = (np.zeros(1), np.full(1, np.inf), np.zeros(1, np.int64))
    sample = LineSample((ladder.name,), np.array([ladder.redshift]), flux, error, *unknown)
    rows = masked(sample)
    return rows, predict(model, _published_alone(), rows)


def _ladder_numbers(rows: Masked, found: Predictions) -> dict[str, list[float]]:
    """The measured and recovered ratio to CO(1-0), and its half interval, in dex, by line."""
    return {
        LINES[line]: [
            round(float(x), 3)
            for x in (
                rows.truth[row] - _LADDER_LOG_LUMINOSITY,
                found.value[row] - _LADDER_LOG_LUMINOSITY,
                found.half_width_68[row],
            )
        ]
        for row, line in enumerate(rows.line)
    }
