"""Measures how well a calibrated critic tells genuine fingerprints from others."""

from __future__ import annotations

from typing import Any

import numpy as np

from mmbroker.models.critic.examples import CORRUPTIONS, Examples, balanced, corrupted, exchanged
from mmbroker.models.critic.exported import ExportedNetworks
from mmbroker.models.measures.discrimination import (
    area_under_curve,
    calibration_error,
    resampled_areas,
)
from mmbroker.models.measures.resampling import interval, means
from mmbroker.processors.scoring import calibration
from mmbroker.processors.scoring.calibration import Calibration
from mmbroker.schemas.events import Floats

PASSING = 0.9
"""The share of genuine fingerprints that the second threshold lets pass."""

Figure = tuple[float, float, float]
"""A value, and the ends of its 95 % interval."""


def not_genuine(networks: ExportedNetworks, examples: Examples, seed: int) -> dict[str, Examples]:
    """Make fingerprints that are not genuine from examples, by kind.

    Args:
        networks: the critic and the generator.
        examples: genuine examples.
        seed: the seed of draws and corruptions.
    """
    random = np.random.default_rng(seed)
    wrong, kind = corrupted(examples, random)
    return {
        "generated": networks.generated(examples, seed),
        "corrupted": wrong,
        **{name: wrong.where(kind == number) for number, name in enumerate(CORRUPTIONS)},
        "exchanged": exchanged(examples, random),
    }


def mixture(networks: ExportedNetworks, examples: Examples, seed: int) -> Floats:
    """The critic's outputs for fingerprints that are generated or corrupted, alternately.

    Args:
        networks: the critic and the generator.
        examples: N examples whose masks and conditions are used.
        seed: the seed of draws and corruptions.

    Returns:
        float64, shape (N,).
    """
    generated = networks.outputs(networks.generated(examples, seed))
    wrong = networks.outputs(corrupted(examples, np.random.default_rng(seed))[0])
    return np.where(np.arange(len(examples)) % 2, generated, wrong)


def calibrate(networks: ExportedNetworks, examples: Examples, seed: int) -> Calibration:
    """Calibrate the critic, supposing that one of two fingerprints is genuine.

    The others are generated or corrupted, half of each. If there are real galaxies, they and
    simulated ones count the same.

    Args:
        networks: the critic and the generator.
        examples: genuine examples.
        seed: the seed of draws and corruptions.
    """
    shown = balanced(examples)
    good, wrong = networks.outputs(shown), mixture(networks, shown, seed)
    labels = np.concatenate([np.ones(len(good), bool), np.zeros(len(wrong), bool)])
    return calibration.fit(np.concatenate([good, wrong]), labels)


def measure(
    networks: ExportedNetworks,
    calibrated: Calibration,
    genuine: Examples,
    others: dict[str, Examples],
    seed: int = 1,
) -> dict[str, Any]:
    """Compute the metrics of the protocol on one group of genuine examples.

    Args:
        networks: the critic, and the generator for the calibration error.
        calibrated: its calibration.
        genuine: real examples, or simulated ones.
        others: fingerprints that are not genuine, by kind.
        seed: the seed of the draws for the calibration error.

    Returns:
        The number of ``examples`` and ``galaxies``, the share of ``genuine_called_genuine``, the
        ``calibration_error``, and for each of ``kinds`` the area under the curve and the
        false-positive rates at a probability of one half and at the output that PASSING of the
        genuine reach. Shares, areas and rates are Figures.
    """
    good = networks.outputs(genuine)
    threshold = float(np.quantile(good, 1 - PASSING))

    def share(outputs: Floats, examples: Examples, strict: bool) -> Figure:
        called = outputs >= threshold if strict else calibrated.apply(outputs) >= 0.5
        values = called.astype(float)
        return figure(float(values.mean()), means(values, examples.galaxy))

    kinds = {}
    for name, examples in others.items():
        bad = networks.outputs(examples)
        galaxies = genuine.galaxy, examples.galaxy
        kinds[name] = {
            "area": figure(area_under_curve(good, bad), resampled_areas(good, bad, galaxies)),
            "false_positive_rate": share(bad, examples, strict=False),
            "false_positive_rate_at_90": share(bad, examples, strict=True),
        }
    probability = calibrated.apply(np.concatenate([good, mixture(networks, genuine, seed)]))
    label = np.concatenate([np.ones(len(good)), np.zeros(len(good))])
    return {
        "examples": len(genuine),
        "galaxies": len(np.unique(genuine.galaxy)),
        "genuine_called_genuine": share(good, genuine, strict=False),
        "calibration_error": round(calibration_error(probability, label), 4),
        "kinds": kinds,
    }


def figure(value: float, resampled: Floats) -> Figure:
    """A value and the ends of its 95 % interval over resamples, to four decimals.

    Args:
        value: the value.
        resampled: its values in resamples, float64, shape (resamples,).
    """
    low, high = interval(resampled)
    return round(value, 4), round(low, 4), round(high, 4)
