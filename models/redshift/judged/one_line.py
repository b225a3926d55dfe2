"""Judges redshifts by one line alone, on published lines of galaxies that were left out.

Fluxes, redshifts and which lines are found are real; spectra are simulated from them, since the
tables have none: a Gaussian line in white noise. A galaxy's spectrum shows one of its lines.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from itertools import compress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmbroker.models.real_data.line_tables import read_lines
from mmbroker.models.redshift import measures
from mmbroker.models.redshift.conventional.tune import fold_of
from mmbroker.models.redshift.judged.no_harm import probability_below
from mmbroker.models.redshift.probability_measures import share
from mmbroker.models.redshift.transitions.fit import FoundLines, fit, found_lines
from mmbroker.processors import relations
from mmbroker.processors.fingerprint.merge import build
from mmbroker.processors.frequency_grid import HIGHEST_FREQUENCY_HZ, LOWEST_FREQUENCY_HZ
from mmbroker.processors.ingest.line_spectra import PublishedLine, simulated_spectrum
from mmbroker.processors.redshift import ConventionalRedshift
from mmbroker.processors.redshift.evidence_kind import EvidenceKind, evidence_kind
from mmbroker.processors.redshift.modes import REDSHIFT_TOLERANCE
from mmbroker.processors.redshift.transitions import NAMES
from mmbroker.processors.scoring.reliability import mass_around
from mmbroker.schemas.events import (
    Fingerprint,
    Observation,
    RedshiftPosterior,
)

Array = NDArray[np.float64]

FOLDS = 5
SEED = 2031
SIGNAL_TO_NOISE = 9.0
"""Of the line in the spectrum."""

_CHANNEL_KM_S = 60.0
_REACH_KM_S = 10_000.0  # on each side of the line


def judged(tables: Path) -> dict[str, Any]:
    """The figures of redshifts by one line, with the transitions of other galaxies and without.

    Args:
        tables: the folder of the published tables.
    """
    lines = found_lines(read_lines(tables))
    frequency = _frequency(lines)
    lines = lines.select(
        (frequency > 1.05 * LOWEST_FREQUENCY_HZ) & (frequency < 0.95 * HIGHEST_FREQUENCY_HZ)
    )
    fold = fold_of(lines.galaxy.tolist(), FOLDS)
    fingerprints = spectra_of(lines)
    flat = fit(lines.select(np.zeros(len(fold), bool)))
    posteriors: list[RedshiftPosterior] = [None] * len(fold)  # type: ignore[list-item]
    before = ConventionalRedshift(transitions=flat).estimate(fingerprints)
    for number in range(FOLDS):
        estimator = ConventionalRedshift(transitions=fit(lines.select(fold != number)))
        rows = np.flatnonzero(fold == number).tolist()
        for row, one in zip(
            rows, estimator.estimate([fingerprints[row] for row in rows]), strict=True
        ):
            posteriors[row] = one
    kinds = [evidence_kind(one) for one in posteriors]
    alone = [kind == EvidenceKind.ONE_LINE for kind in kinds]
    truth = lines.redshift[alone]
    return {
        "lines": len(alone),
        "kinds": dict(Counter(kind.value for kind in kinds).most_common()),
        "galaxies": len(set(lines.galaxy[alone].tolist())),
        "signal_to_noise": SIGNAL_TO_NOISE,
        "by transitions of other galaxies": figures(list(compress(posteriors, alone)), truth),
        "every transition alike": figures(list(compress(before, alone)), truth),
    }


def figures(posteriors: Sequence[RedshiftPosterior], truth: Array) -> dict[str, Any]:
    """How often redshifts by one line are right, and how much their intervals hold.

    A posterior is a few narrow modes. The truth lies within one of them, and that mode within 68 %
    around the median wholly, in part or not at all: the part counts.

    Args:
        posteriors: of N galaxies.
        truth: their redshifts, shape (N,).
    """
    best = np.array([one.best for one in posteriors])
    right = np.abs(measures.deviation(best, truth)) <= REDSHIFT_TOLERANCE
    probability = np.stack([one.grid_probability for one in posteriors]).astype(float)
    mass, at = mass_around(probability, best), mass_around(probability, truth)
    lowest = np.expm1(np.log1p(truth) - math.log1p(REDSHIFT_TOLERANCE))
    below = np.array([probability_below(one, z) for one, z in zip(posteriors, lowest, strict=True)])
    return {
        "n": len(truth),
        "right": share(right),
        "stated": float(mass.mean()),
        "held68": float(np.mean(_part_within(below, at, 0.68))),
        "held95": float(np.mean(_part_within(below, at, 0.95))),
        "probability_of_truth": float(at.mean()),
        "log_probability_of_truth": float(np.log(np.maximum(at, 1e-4)).mean()),
    }


def spectra_of(lines: FoundLines) -> list[Fingerprint]:
    """A fingerprint for each line, of one simulated spectrum that shows it."""
    found = []
    for number, (frequency, flux) in enumerate(
        zip(_frequency(lines).tolist(), lines.flux.tolist(), strict=True)
    ):
        line = PublishedLine(frequency, flux, flux / SIGNAL_TO_NOISE, relations.LINE_WIDTH_KM_S)
        spectrum = simulated_spectrum([line], f"{SEED} {number}", _CHANNEL_KM_S, _REACH_KM_S)
        observation = Observation(
            observation_id=f"line {number}",
            instrument="simulated spectrum of a published line",
            right_ascension_deg=10.0,
            declination_deg=0.0,
            position_error_arcsec=1.0,
            time_mjd=58_000.0,
            simulated=True,
            spectrum=spectrum,
        )
        found.append(build(str(number), [observation]))
    return found


def _frequency(lines: FoundLines) -> Array:
    rest = np.array([relations.LINES_HZ[name] for name in NAMES])
    return np.asarray(rest[lines.transition] / (1 + lines.redshift))


def _part_within(below: Array, at: Array, share: float) -> Array:
    """Which part of the probabilities from ``below`` by ``at`` is in the middle ``share``."""
    low, high = (1 - share) / 2, (1 + share) / 2
    inside = np.clip(below + at, low, high) - np.clip(below, low, high)
    return np.asarray(np.divide(inside, at, out=np.zeros_like(at), where=at > 0))
