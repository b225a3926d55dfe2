"""Judges redshifts from spectra of simulated galaxies, whose truth is known."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Sequence
from itertools import compress
from typing import Any

import numpy as np
from astropy.stats import binom_conf_interval
from numpy.typing import NDArray

from mmbroker.models.redshift.in_force import in_force
from mmbroker.models.redshift.measures import Array, covered, crps, mean_of_known, paired_bootstrap
from mmbroker.models.simulation.observations import Mix, galaxy_number, simulate, true_redshifts
from mmbroker.processors.fingerprint.merge import build
from mmbroker.processors.redshift import ConventionalRedshift
from mmbroker.processors.redshift.modes import REDSHIFT_TOLERANCE
from mmbroker.schemas.events import Observation, RedshiftPosterior

GALAXIES = 3_000
SEED = 2027
_MIX = Mix(photometry=0.5, photometric_redshift=0.0, continuum=0.1, spectra=0.4, maps=0.0)
_OBSERVATIONS = 3.0
"""The mean number of observations of a galaxy."""

EDGES = (0.0, 0.3, 0.5, 0.7, 0.8, 0.9, 1.0)
"""The edges of the bins of stated probabilities."""


def judged() -> dict[str, Any]:
    """Measure how often redshifts are right, by the probability that is stated for them.

    The redshifts are those of the stream: conventional, without templates, with the calibrated
    probability. No redshift is published, so that they rest on the spectra. Of GALAXIES only those
    with a spectrum and a redshift in force count.
    """
    observed: dict[int, list[Observation]] = defaultdict(list)
    for one in simulate(GALAXIES, SEED, _MIX, observations_per_galaxy=_OBSERVATIONS):
        observed[galaxy_number(one.observation_id)].append(one)
    truth = true_redshifts(GALAXIES, SEED)
    with_spectra = {
        number: many
        for number, many in sorted(observed.items())
        if any(one.spectrum is not None for one in many)
    }
    estimator = ConventionalRedshift()
    found = in_force([build(str(number), many) for number, many in with_spectra.items()])
    with_spectra = dict(compress(with_spectra.items(), found.stated))
    posteriors = list(compress(found.posteriors, found.stated))
    stated = found.probability[found.stated]
    true = truth[list(with_spectra)].astype(np.float64)
    right = _right(posteriors, true)
    intervals = [each.interval_68 for each in posteriors]
    held = covered(
        np.array([each.lower for each in intervals]),
        np.array([each.upper for each in intervals]),
        true,
    )
    bins = np.digitize(stated, EDGES[1:-1])
    without = {
        place: [one for one in many if one.spectrum is None]
        for place, many in enumerate(with_spectra.values())
    }
    places = [place for place, many in without.items() if many]
    left_out = estimator.estimate([build(str(place), without[place]) for place in places])
    return {
        "seed": SEED,
        "tolerance": REDSHIFT_TOLERANCE,
        "n": len(true),
        "without redshift": int((~found.stated).sum()),
        "brier": float(np.mean((stated - right) ** 2)),
        "bins": [
            {
                "from": low,
                "to": high,
                **_bin(*(values[bins == k] for values in (stated, right, held))),
            }
            for k, (low, high) in enumerate(itertools.pairwise(EDGES))
        ],
        "spectra left out": _compared(
            [posteriors[place] for place in places], left_out, true[places]
        ),
    }


def _right(posteriors: Sequence[RedshiftPosterior], truth: Array) -> NDArray[np.bool_]:
    best = np.array([each.best for each in posteriors])
    return np.asarray(np.abs(best - truth) < REDSHIFT_TOLERANCE * (1 + truth))


def _compared(
    posteriors: Sequence[RedshiftPosterior], others: Sequence[RedshiftPosterior], truth: Array
) -> dict[str, Any]:
    """The share that is right and the CRPS of both, and their paired difference.

    A difference comes with its 95 % interval.
    """
    both = [
        (
            _right(each, truth).astype(float),
            crps(
                each[0].grid_redshift.astype(float),
                np.array([one.grid_probability for one in each], float),
                truth,
            ),
        )
        for each in (posteriors, others)
    ]
    figures: dict[str, Any] = {"n": len(truth)}
    for name, with_them, left_out in zip(("right", "crps"), *both, strict=True):
        low, high = paired_bootstrap(mean_of_known, with_them, left_out)
        difference = float(np.mean(with_them - left_out))
        figures[name] = [float(with_them.mean()), float(left_out.mean())]
        figures[f"{name} difference"] = [difference, low, high]
    return figures


def _bin(stated: Array, right: Array, held: Array) -> dict[str, Any]:
    """The figures of galaxies with similar probabilities, with 95 % Wilson intervals.

    Args:
        stated: the stated probabilities, shape (galaxies,).
        right: whether each redshift is right, shape (galaxies,).
        held: whether the 68 % interval holds the truth, 0 or 1, shape (galaxies,).
    """
    if not len(stated):
        return {"n": 0}
    return {
        "n": len(stated),
        "stated": float(stated.mean()),
        "right": _share(right),
        "held": _share(held),
    }


def _share(found: Array) -> list[float]:
    low, high = binom_conf_interval(int(found.sum()), len(found), 0.95, interval="wilson")
    return [float(found.mean()), float(low), float(high)]
