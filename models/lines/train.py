"""Fits the joint distribution of line luminosities, and compares it with the other candidate.

Everything is chosen by cross-validation over galaxies of the training and validation parts. The
test part is opened only when told to. The other candidate, a network, needs torch; the rest does
not.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from mmbroker.models.lines.baselines import Baselines, Masked, masked
from mmbroker.models.lines.distribution import PARAMETERS, fit
from mmbroker.models.lines.measures import (
    NORMAL_95,
    Predictions,
    figures,
    held_out,
    log_score,
    predict,
)
from mmbroker.models.packaged.cards import about
from mmbroker.models.packaged.networks import WEIGHTS
from mmbroker.models.real_data.folder import add_data_option
from mmbroker.models.real_data.line_tables import LineSample, read_lines
from mmbroker.models.real_data.split import TEST
from mmbroker.processors.lines.joint import LineRecovery
from mmbroker.processors.lines.measure import LINES
from mmbroker.schemas import __version__

if TYPE_CHECKING:
    from mmbroker.models.lines.network import Recipe

FOLDS = 10
SEED = 0

Array = NDArray[np.float64]


def cross_validation_folds(sample: LineSample) -> NDArray[np.int64]:
    """Assign each galaxy to a fold at random, always in the same way.

    Args:
        sample: N galaxies.

    Returns:
        The fold of each galaxy, int64, shape (N,).
    """
    return np.random.default_rng(SEED).permutation(len(sample)) % FOLDS


def fitted(sample: LineSample) -> LineRecovery:
    """Fit the joint normal distribution of a sample; its intervals are not calibrated yet.

    Args:
        sample: the galaxies.
    """
    return LineRecovery(fit(sample)[0])


def with_widths(
    weights: dict[str, NDArray[Any]], widths: tuple[float, float]
) -> dict[str, NDArray[Any]]:
    """The weights with other widths of the intervals.

    Args:
        weights: the weights by name.
        widths: half of the 68 and 95 % intervals, in standard deviations.
    """
    return weights | {"width_68": np.array(widths[0]), "width_95": np.array(widths[1])}


def calibrated_widths(rows: Masked, found: Predictions) -> tuple[float, float]:
    """Find the widths with which 68 and 95 % intervals cover 68 and 95 % of the lines.

    Args:
        rows: masked lines.
        found: their predictions with intervals of 1 and 1.96 standard deviations.

    Returns:
        Half of the 68 and 95 % intervals, in standard deviations.
    """
    chosen = with_others(rows)
    error = np.abs(found.value - rows.truth)[chosen]
    spread, noise = found.half_width_68[chosen], rows.truth_error[chosen]

    def narrowest(times: float, share: float) -> float:
        widths = times * np.geomspace(0.1, 10.0, 1000)
        half = np.hypot(widths[:, None] * spread, times * noise)
        return float(widths[np.argmax((error <= half).mean(axis=1) >= share)])

    return narrowest(1.0, 0.6827), narrowest(NORMAL_95, 0.95)


def calibrated_out_of_fold(
    rows: Masked, fold: NDArray[np.int64], found: Predictions
) -> Predictions:
    """Calibrate the intervals of each fold on the lines of the other folds.

    Args:
        rows: M masked lines.
        fold: the fold of each line, int64, shape (M,).
        found: their predictions with intervals of 1 and 1.96 standard deviations.

    Returns:
        The same predictions with calibrated intervals.
    """
    half_68, half_95 = found.half_width_68.copy(), found.half_width_95.copy()
    for number in np.unique(fold):
        out, others = fold == number, np.flatnonzero(fold != number)
        baselines = {name: each[others] for name, each in found.baselines.items()}
        low, high = calibrated_widths(
            rows.select(others),
            Predictions(
                found.value[others], found.half_width_68[others], found.half_width_95[others],
                baselines,
            ),
        )  # fmt: skip
        half_68[out] *= low
        half_95[out] *= high / NORMAL_95
    return replace(found, half_width_68=half_68, half_width_95=half_95)


def with_others(rows: Masked) -> NDArray[np.bool_]:
    """Whether the galaxy of each line has another measured line, bool, shape (M,).

    Args:
        rows: M masked lines.
    """
    return np.asarray(rows.others > 0)


def subsets(rows: Masked) -> dict[str, NDArray[np.bool_]]:
    """The subsets that are judged by themselves: whether each line belongs to one, by its name.

    Args:
        rows: M masked lines.

    Returns:
        bool, shape (M,) each.
    """
    distant = rows.sample.redshift > 0.1
    many = with_others(rows)
    alone = ~many & np.isfinite(rows.sample.infrared_error)
    return {
        "all": many,
        "z > 0.1": many & distant,
        "z < 0.1": many & ~distant,
        "no other line, L_IR and z alone": alone,
    }


def judged(rows: Masked, found: Predictions) -> dict[str, Any]:
    """Compute the figures of every subset with three lines or more, and of each line by itself.

    Args:
        rows: masked lines.
        found: their predictions.
    """
    result = {
        name: figures(rows, found, chosen)
        for name, chosen in subsets(rows).items()
        if chosen.sum() > 2
    }
    many = with_others(rows)
    by_line = {
        name: figures(rows, found, many & (rows.line == place))
        for place, name in enumerate(LINES)
        if (many & (rows.line == place)).sum() > 2
    }
    return result | {"by line": by_line}


def leave_one_galaxy_out(sample: LineSample) -> tuple[Masked, Predictions]:
    """Predict each line by a model that is fitted to and calibrated on all other galaxies.

    Args:
        sample: the galaxies.

    Returns:
        The masked lines whose galaxy has another line or an infrared luminosity, and their
        predictions.
    """
    rows = masked(sample)
    # Lines of galaxies of which nothing else is known are not judged.
    judgeable = with_others(rows) | np.isfinite(rows.sample.infrared_error)
    rows = rows.select(np.flatnonzero(judgeable))
    done = track(np.unique(rows.galaxy), "leaving out each galaxy")
    steps = iter(done)

    def with_progress(training: LineSample) -> LineRecovery:
        next(steps, None)
        return fitted(training)

    raw = held_out(sample, rows, np.arange(len(sample)), with_progress)
    return rows, calibrated_out_of_fold(rows, rows.galaxy, raw)


def cross_validation(sample: LineSample) -> dict[str, Any]:
    """Cross-validate the joint normal distribution; the log score is without calibration.

    Every fit starts at the means of the priors. Parameters of a fit to all galaxies would know
    those that are left out.

    Args:
        sample: the galaxies of the training and validation parts.
    """
    rows, fold = masked(sample), cross_validation_folds(sample)
    raw = held_out(sample, rows, fold, fitted)
    found = calibrated_out_of_fold(rows, fold[rows.galaxy], raw)
    return {"log_score": _scores(rows, raw), **judged(rows, found)}


def cross_validation_of_network(sample: LineSample, recipe: Recipe | None = None) -> dict[str, Any]:
    """Cross-validate the encoder and generator, which are trained again for it. Needs torch.

    Args:
        sample: the galaxies of the training and validation parts.
        recipe: how to train; the standard one by default.
    """
    import torch

    from mmbroker.models.lines import network

    # Matrices this small gain nothing from threads, which wait for each other on a busy machine.
    torch.set_num_threads(1)
    recipe = recipe or network.Recipe()
    members = network.pretrained(recipe)
    rows, fold = masked(sample), cross_validation_folds(sample)
    found = held_out(sample, rows, fold, lambda part: network.fine_tuned(members, part, recipe))
    return {"log_score": _scores(rows, found), **judged(rows, found)}


def _scores(rows: Masked, found: Predictions) -> dict[str, float]:
    return {
        name: round(log_score(rows, found, chosen), 3)
        for name, chosen in subsets(rows).items()
        if chosen.any()
    }


def write(folder: Path, weights: dict[str, Any], card: dict[str, Any]) -> None:
    """Write weak_lines.npz and its card weak_lines.json, to which the SHA-256 is added.

    Args:
        folder: the folder to write to; made if it is missing.
        weights: the arrays by name.
        card: what the card says besides.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "weak_lines.npz"
    np.savez(path, **weights)
    stated = {"sha256": hashlib.sha256(path.read_bytes()).hexdigest(), **card}
    (folder / "weak_lines.json").write_text(json.dumps(stated, indent=1, ensure_ascii=False) + "\n")


def main() -> None:
    """Run the command line: fit, compare, calibrate, and write the weights with their card."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_data_option(parser)
    parser.add_argument("--output", type=Path, default=WEIGHTS)
    parser.add_argument("--network", action="store_true", help="compare with the network")
    parser.add_argument("--open-test", action="store_true", help="judge on the test part, once")
    arguments = parser.parse_args()

    everything = read_lines(arguments.data)
    known = everything.select(everything.split != TEST)
    weights, theta = fit(known)
    rows, fold = masked(known), cross_validation_folds(known)
    raw = held_out(known, rows, fold, fitted)
    widths = calibrated_widths(rows, raw)
    weights = with_widths(weights, widths)
    card: dict[str, Any] = {
        "name": "weak_lines",
        "code_version": __version__,
        "fitted_to": "DIGAME (T. Greve) and Yang et al. 2017, training and validation parts",
        "galaxies": len(known),
        "lines": int(known.detected.sum()),
        "scatter": {name: round(float(x), 3) for name, x in zip(PARAMETERS, theta, strict=True)},
        "widths": [round(each, 3) for each in widths],
        **about("weak_lines"),
        "test_openings": 0,
        "cross_validation": cross_validation(known),
    }
    if arguments.network:
        card["cross_validation_of_network"] = cross_validation_of_network(known)
    if arguments.open_test:
        card["test_openings"] = 1
        test_rows = masked(everything.select(everything.split == TEST))
        judgement = predict(LineRecovery(weights), Baselines(known), test_rows)
        card["test"] = judged(test_rows, judgement)
        card["leave_one_galaxy_out"] = judged(*leave_one_galaxy_out(everything))
    write(arguments.output, weights, card)
    print(json.dumps(card["cross_validation"]["log_score"]))


if __name__ == "__main__":
    main()
