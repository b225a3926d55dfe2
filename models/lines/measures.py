"""Measures how good recovered lines are: correlation, skill, coverage, each with an interval."""

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
    """The predictions of M masked lines; float64 arrays of shape (M,).

    Attributes:
        value: the log10 of L' in K km/s pc2.
        half_width_68: half of the 68 % interval in dex.
        half_width_95: half of the 95 % interval in dex.
        baselines: the log10 of L' by baseline, NaN where a baseline has no data to predict from.
    """

    value: Array
    half_width_68: Array
    half_width_95: Array
    baselines: dict[str, Array]


Fitter = Callable[[LineSample], LineRecovery]


def recover(model: LineRecovery, sample: LineSample) -> LinePosterior:
    """Recover the lines of a sample.

    Args:
        model: the model.
        sample: the galaxies.
    """
    return model.recover(
        sample.redshift, sample.flux, sample.error, sample.log_infrared, sample.infrared_error
    )


def predict(model: LineRecovery, baselines: Baselines, rows: Masked) -> Predictions:
    """Predict masked lines by a model and by the baselines.

    Args:
        model: the model.
        baselines: the baselines.
        rows: M masked lines.
    """
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
    """Predict the masked lines of each fold by a model fitted to the other folds.

    Args:
        sample: N galaxies.
        rows: their lines, masked in turn.
        fold: the fold of each galaxy, int64, shape (N,).
        fitter: fits a model to a sample.
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
    """Half of the 68 and 95 % intervals of a measurement, with its own error.

    Args:
        rows: M masked lines.
        found: their predictions.

    Returns:
        Both in dex, float64, shape (M,).
    """
    return (
        np.hypot(found.half_width_68, rows.truth_error),
        np.hypot(found.half_width_95, NORMAL_95 * rows.truth_error),
    )


def log_score(rows: Masked, found: Predictions, chosen: Booleans) -> float:
    """The mean ln of the predicted normal density in dex at the measurements; higher is better.

    Args:
        rows: M masked lines.
        found: their predictions.
        chosen: whether each line counts, bool, shape (M,).
    """
    total = np.hypot(found.half_width_68, rows.truth_error)[chosen]
    pull = (found.value - rows.truth)[chosen] / total
    return float((-0.5 * np.square(pull) - np.log(total) - 0.5 * np.log(2 * np.pi)).mean())


def figures(rows: Masked, found: Predictions, chosen: Booleans, seed: int = 0) -> dict[str, Any]:
    """Compute figures over the chosen lines, with 95 % intervals over resampled galaxies.

    Args:
        rows: M masked lines.
        found: their predictions; lines without one do not count.
        chosen: whether each line counts, bool, shape (M,).
        seed: the seed of the resamples.

    Returns:
        The number of ``lines`` and ``galaxies``, and ``[value, low, high]`` of ``pearson_r``,
        ``rms_dex``, ``bias_dex``, ``coverage_68``, ``coverage_95`` and ``pull_dispersion``;
        ``skill`` by baseline, with the number of lines that both predict and the ``rms_dex`` of the
        baseline.
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
        # A resample may have none of the galaxies that the baseline predicts.
        known = theirs > 0
        result["skill"][name] = {
            "lines": int(both.sum()),
            "rms_dex": round(float(np.sqrt(theirs[0] / both.sum())), 3),
            "skill": _interval(1 - ours[known] / theirs[known]),
        }
    return result


def _interval(values: Array) -> list[float]:
    """The value of the sample itself, and its 95 % interval over the resamples."""
    return [round(float(each), 3) for each in (values[0], *resampling.interval(values[1:]))]
