"""Compares the errors of published photometric redshifts with those of simulated ones."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from mmbroker.models.real_data.catalogues import goods_north
from mmbroker.models.real_data.split import split_of
from mmbroker.models.redshift import measures
from mmbroker.models.simulation.observations import Mix, galaxy_number, simulate, true_redshifts
from mmbroker.schemas.events import Observation

GALAXIES = 2_000
_METHODS = {"EAZY": "EAZY", "Liu et al. 2018": "other"}
_SIMULATED_METHODS = {"simulated EAZY": "EAZY", "simulated photometric": "other"}


def compare(tables: Path, part: int, seed: int) -> dict[str, dict[str, float]]:
    """Compute the errors of galaxies with both redshifts, real (GOODS-N) and simulated.

    Args:
        tables: the folder of the published tables.
        part: the part of the split whose real galaxies count.
        seed: the seed of the simulation.

    Returns:
        The numbers of ``_errors`` under ``real`` and ``simulated``.
    """
    real = [
        (galaxy.spectroscopic_redshift, _by_method(galaxy.observations, _METHODS))
        for galaxy in goods_north(tables)
        if galaxy.spectroscopic_redshift is not None and split_of(galaxy.name) == part
    ]
    truth = true_redshifts(GALAXIES, seed)
    observed: dict[int, list[Observation]] = defaultdict(list)
    redshifts_alone = Mix(0.0, 1.0, 0.0, 0.0, 0.0)
    for each in simulate(GALAXIES, seed, redshifts_alone):
        observed[galaxy_number(each.observation_id)].append(each)
    simulated = [
        (float(truth[number]), _by_method(each, _SIMULATED_METHODS))
        for number, each in sorted(observed.items())
    ]
    return {"real": _errors(real), "simulated": _errors(simulated)}


def _by_method(observations: Iterable[Observation], methods: dict[str, str]) -> dict[str, float]:
    found = {}
    for each in observations:
        estimate = each.photometric_redshift
        if estimate is not None and estimate.method in methods:
            found[methods[estimate.method]] = estimate.redshift
    return found


def _errors(galaxies: list[tuple[float, dict[str, float]]]) -> dict[str, Any]:
    """Compute NMAD, shares of outliers and the correlation of both methods.

    They are those of (z - truth) / (1 + truth); NMAD and ``outliers`` are those of EAZY.
    """
    pairs = np.array(
        [
            [(by_method[name] - truth) / (1 + truth) for name in ("EAZY", "other")]
            for truth, by_method in galaxies
            if len(by_method) == 2
        ]
    )
    wrong = np.abs(pairs) > measures.OUTLIER
    core = pairs[~wrong.any(axis=1)]
    return {
        "galaxies": len(pairs),
        "NMAD": float(measures.nmad(pairs[:, 0])),
        "outliers": float(wrong[:, 0].mean()),
        "outliers of both": float(wrong.all(axis=1).mean()),
        "correlation of the others": float(np.corrcoef(core.T)[0, 1]),
    }
