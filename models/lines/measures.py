"""Measure how good recovered lines are: correlation, skill, coverage, each with an interval."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmbroker.models.lines.baselines import BASELINES, Baselines, Masked
from mmbroker.models.measures import resampling
from mmbroker.models.real_data.line_tables import LineSample
from mmbroker.processors.lines.joint import LinePosterior, LineRecovery

Array = NDArray[np.float64]
Booleans = NDArray[np.bool_]

NORMAL_95 = 1.96


@dataclass(frozen=True, slots=True, eq=False)
class Predictions:
    """Of M masked lines; arrays of shape (M,).

    Attributes:
        value: log10 L'.
        half_width_68: in dex.
        half_width_95: in dex.
        baselines: log10 L' by name, NaN where there is nothing to go by.
    """

    value: Array
    half_width_68: Array
    half_width_95: Array
    baselines: dict[str, Array]


Fitter = Callable[[LineSample], LineRecovery]


def recover(model: LineRecovery, sample: LineSample) -> LinePosterior:
    """The lines of a sample as a model recovers them."""
    return model.recover(
        sample.redshift, sample.flux, sample.error, sample.log_infrared, sample.infrared_error
    )


def predict(model: LineRecovery, baselines: Baselines, rows: Masked) -> Predictions:
    """The masked lines by a model and by the baselines."""
    found = recover(model, rows.sample)
    at = np.arange(len(rows)), rows.line
    return Predictions(
        found.log_luminosity[at],
        found.half_width_68[at],
        found.half_width_95[at],
        baselines.predictions(rows),
    )


def held_out(
    sample: LineSample, rows: Masked, fold: NDArray[np.int64], fitter: Fitter
) -> Predictions:
    """Predictions of the masked lines of each fold by a model fitted to the other folds.

    Args:
        sample: galaxies.
        rows: their lines, masked in turn.
        fold: of each galaxy, shape (N,).
        fitter: makes a model of a sample.
    """
    value, half_68, half_95 = (np.full(len(rows), np.nan) for _ in range(3))
    baselines = {name: np.full(len(rows), np.nan) for name in BASELINES}
    for number in np.unique(fold[rows.galaxy]):
        training = sample.select(fold != number)
        chosen = np.flatnonzero(fold[rows.galaxy] == number)
        found = predict(fitter(training), Baselines(training), rows.select(chosen))
        value[chosen] = found.value
        half_68[chosen], half_95[chosen] = found.half_width_68, found.half_width_95
        for name, each in found.baselines.items():
            baselines[name][chosen] = each
    return Predictions(value, half_68, half_95, baselines)


def interval_half_widths(rows: Masked, found: Predictions) -> tuple[Array, Array]:
    """Half of the 68 and 95 % intervals of a measurement, its own error included."""
    return (
        np.hypot(found.half_width_68, rows.truth_error),
        np.hypot(found.half_width_95, NORMAL_95 * rows.truth_error),
    )


def log_score(rows: Masked, found: Predictions, chosen: Booleans) -> float:
    """Mean ln of the normal density of the measurements; higher is better."""
    total = np.hypot(found.half_width_68, rows.truth_error)[chosen]
    pull = (found.value - rows.truth)[chosen] / total
    return float((-0.5 * np.square(pull) - np.log(total) - 0.5 * np.log(2 * np.pi)).mean())


def figures(rows: Masked, found: Predictions, chosen: Booleans, seed: int = 0) -> dict[str, Any]:
    """Figures over the chosen lines, each with its 95 % interval over resampled galaxies.

    Returns:
        ``lines``, ``galaxies``, and ``[value, low, high]`` of ``pearson_r``, ``rms_dex``,
        ``bias_dex``, ``coverage_68``, ``coverage_95``, ``pull_dispersion``; ``skill`` by baseline,
        with the number of lines that both predict and the ``rms_dex`` of the baseline.
    """
    keep = np.flatnonzero(chosen & np.isfinite(found.value))
    galaxy = rows.galaxy[keep]
    # The first row of weights is the sample itself, the others are its resamples.
    weight = np.concatenate([np.ones((1, len(keep))), resampling.counts(galaxy, seed)])
    value, truth = found.value[keep], rows.truth[keep]
    error = value - truth
    half_68, half_95 = (each[keep] for each in interval_half_widths(rows, found))

    def mean(of: Array) -> Array:
        return np.asarray((weight @ of) / weight.sum(axis=1))

    centred, truth_centred = value - value.mean(), truth - truth.mean()
    covariance = mean(centred * truth_centred) - mean(centred) * mean(truth_centred)
    variances = [mean(each**2) - mean(each) ** 2 for each in (centred, truth_centred)]
    pulls = error / half_68
    result: dict[str, Any] = {
        "lines": len(keep),
        "galaxies": len(np.unique(galaxy)),
        "pearson_r": _interval(covariance / np.sqrt(variances[0] * variances[1])),
        "rms_dex": _interval(np.sqrt(mean(error**2))),
        "bias_dex": _interval(mean(error)),
        "coverage_68": _interval(mean((np.abs(error) <= half_68).astype(float))),
        "coverage_95": _interval(mean((np.abs(error) <= half_95).astype(float))),
        "pull_dispersion": _interval(np.sqrt(mean(pulls**2) - mean(pulls) ** 2)),
        "skill": {},
    }
    for name, every in found.baselines.items():
        baseline_error = every[keep] - truth
        both = np.isfinite(baseline_error)
        if not both.any():
            continue
        theirs = weight[:, both] @ np.square(baseline_error[both])
        ours = weight[:, both] @ np.square(error[both])
        # A resample may hold none of the galaxies that the baseline predicts.
        known = theirs > 0
        result["skill"][name] = {
            "lines": int(both.sum()),
            "rms_dex": round(float(np.sqrt(theirs[0] / both.sum())), 3),
            "skill": _interval(1 - ours[known] / theirs[known]),
        }
    return result


def _interval(values: Array) -> list[float]:
    """The value of the sample itself, and the 95 % interval of the resamples."""
    return [round(float(each), 3) for each in (values[0], *resampling.interval(values[1:]))]
