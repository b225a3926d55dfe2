"""Tunes the conventional redshift's constants by cross-validation over galaxies.

The constants are the same for every table. What is maximised was fixed in advance: the mean, over
samples, of the mean ln posterior density in ln(1 + z) at the spectroscopic redshift, minus a
penalty for intervals whose coverage is not nominal. Figures to quote are those of galaxies whose
fold was left out. The search starts at ``NEUTRAL``, constants for which no table was used. From
constants that were tuned on all galaxies, it would know those that are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from mmbroker.models.real_data.split import name_hash
from mmbroker.models.redshift.real_galaxies import read_galaxies
from mmbroker.processors.redshift import ConventionalRedshift, published
from mmbroker.processors.redshift.grids import COARSE
from mmbroker.processors.redshift.tuned import Tuned
from mmbroker.schemas.events import Fingerprint, RedshiftPosterior

Array = NDArray[np.float64]

CONTINUUM = (
    "dust_temper",
    "dust_error",
    "dust_wien_error",
    "dust_peak_scatter",
    "dust_mismatch",
    "luminosity_limit",
    "radio_temper",
    "radio_excess",
)
PUBLISHED = (
    "published_inflation",
    "published_floor",
    "published_default",
    "published_degrees",
    "published_outliers",
    "published_correlation",
    "continuum_beside_published",
)
COVERAGE_PENALTY = 30.0
EVALUATIONS = 300
"""How often the score is computed at most; thrice as often for published redshifts' constants.

From ``NEUTRAL`` the search for the constants of the continuum ends by itself after some 230.
"""

_NOMINAL = 0.68
_BOUNDS = {
    "published_inflation": (0.5, 5.0),
    "published_floor": (0.002, 0.1),
    "published_default": (0.005, 0.2),
    "published_degrees": (1.0, 30.0),
    "published_outliers": (0.002, 0.05),
    "published_correlation": (0.5, 2.0),
    "continuum_beside_published": (0.1, 1.0),
    "dust_temper": (0.3, 1.0),
    "dust_error": (0.02, 0.4),
    "dust_wien_error": (0.05, 1.0),
    "dust_peak_scatter": (0.06, 0.3),
    "dust_mismatch": (0.001, 0.2),
    "luminosity_limit": (1e8, 1e12),
    "radio_temper": (0.3, 1.0),
    "radio_excess": (0.01, 0.3),
}
NEUTRAL = Tuned(
    # Published intervals are taken at their word, and methods that see the same photometry count
    # together as one.
    published_inflation=1.0,
    published_correlation=1.0,
    # Likelihoods are taken at their word: the rule of Bayes has no exponent.
    continuum_beside_published=1.0,
    dust_temper=1.0,
    radio_temper=1.0,
    # Nothing says what these are. They start in the middle of the logarithm of their bounds, which
    # is what the search goes through, rounded to two digits. The scatter of the peak that
    # ``relations`` states is no start: it was measured on galaxies of SPT.
    published_floor=0.014,
    published_default=0.032,
    published_degrees=5.5,
    published_outliers=0.01,
    dust_error=0.089,
    dust_wien_error=0.22,
    dust_peak_scatter=0.13,
    dust_mismatch=0.014,
    luminosity_limit=1e10,
    radio_excess=0.055,
)
"""The constants at which every search starts: no table was used for them."""

_FIRST_STEP = 0.3  # of the search, in the logarithm of each constant


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """Galaxies of one kind with spectroscopic redshifts.

    Attributes:
        name: the name of the table.
        fingerprints: the fingerprints of the galaxies.
        truth: spectroscopic redshifts, shape (galaxies,).
        fold: fold of each galaxy, shape (galaxies,); one galaxy in two samples has one fold.
    """

    name: str
    fingerprints: list[Fingerprint]
    truth: Array
    fold: NDArray[np.int64]

    @property
    def has_published(self) -> bool:
        """Whether published redshifts are among the evidence."""
        return any(one.photometric_redshifts for one in self.fingerprints)

    def select(self, chosen: NDArray[np.bool_]) -> Sample:
        """The chosen galaxies.

        Args:
            chosen: whether each galaxy is chosen, shape (galaxies,).
        """
        kept = [one for one, keep in zip(self.fingerprints, chosen, strict=True) if keep]
        return Sample(self.name, kept, self.truth[chosen], self.fold[chosen])


def fold_of(names: Sequence[str], folds: int) -> NDArray[np.int64]:
    """Assign each galaxy to a fold by a hash of its name, the same one in every sample.

    Args:
        names: the names of the galaxies.
        folds: the number of folds.

    Returns:
        The fold of each galaxy, int64, shape (galaxies,).
    """
    return np.array([name_hash(name) % folds for name in names], np.int64)


def samples(tables: Sequence[str | Path], folds: int = 5) -> list[Sample]:
    """The tables as samples to tune on.

    Galaxies with optical photometric redshifts are a sample for each number of them; and all are
    once more a sample without.
    """
    found: list[Sample] = []
    for table in tables:
        galaxies = read_galaxies(table)
        fold = fold_of(galaxies.identifiers, folds)
        name = Path(table).name
        optical = [
            published.independent(one.photometric_redshifts, dust=True)
            for one in galaxies.fingerprints
        ]
        everything = [
            replace(one, photometric_redshifts=kept)
            for one, kept in zip(galaxies.fingerprints, optical, strict=True)
        ]
        methods = np.array([len(kept) for kept in optical])
        whole = Sample(name, everything, galaxies.truth, fold)
        for count in range(methods.max(), 0, -1):
            part = replace(whole, name=f"{name}, published redshifts: {count}")
            found.append(part.select(methods == count))
        without = [replace(one, photometric_redshifts=[]) for one in galaxies.fingerprints]
        found.append(Sample(f"{name}, far infrared alone", without, galaxies.truth, fold))
    return found


def tune(samples: Sequence[Sample], evaluations: int = EVALUATIONS) -> Tuned:
    """Find the constants that maximise the score on the samples, by Nelder-Mead from ``NEUTRAL``.

    The constants of the continuum are tuned on the samples without published redshifts, then those
    of published redshifts on the samples with them.

    Args:
        samples: the samples.
        evaluations: how often the score is computed at most, see ``EVALUATIONS``.
    """
    without = [one for one in samples if not one.has_published]

    def continuum(candidate: Tuned) -> float:
        estimator = ConventionalRedshift(candidate)
        return _mean_score(without, [estimator.log_posterior(one.fingerprints) for one in without])

    tuned = _maximise(continuum, NEUTRAL, CONTINUUM, evaluations) if without else NEUTRAL
    estimator = ConventionalRedshift(tuned)
    with_published = [one for one in samples if one.has_published]
    estimates = [
        [each.photometric_redshifts for each in one.fingerprints] for one in with_published
    ]
    rest = [estimator.log_continuum(one.fingerprints) for one in with_published]
    prior = estimator.log_prior

    def of_published(candidate: Tuned) -> float:
        exponent = candidate.continuum_beside_published
        posteriors = [
            prior + exponent * (base - prior) + published.log_likelihood(candidate, many)
            for base, many in zip(rest, estimates, strict=True)
        ]
        return _mean_score(with_published, posteriors)

    if not with_published:
        return tuned
    return _maximise(of_published, tuned, PUBLISHED, 3 * evaluations)


def cross_validate(
    samples: Sequence[Sample], evaluations: int = EVALUATIONS
) -> list[list[RedshiftPosterior]]:
    """Estimate the posteriors of every sample, each with constants tuned without its fold.

    Args:
        samples: the samples.
        evaluations: as for ``tune``.

    Returns:
        For each sample the posteriors of its galaxies, in order.
    """
    posteriors: list[list[RedshiftPosterior | None]] = [[None] * len(one.truth) for one in samples]
    for fold in sorted(set(np.concatenate([one.fold for one in samples]).tolist())):
        tuned = tune([one.select(one.fold != fold) for one in samples], evaluations)
        estimator = ConventionalRedshift(tuned)
        for sample, held in zip(samples, posteriors, strict=True):
            rows = np.flatnonzero(sample.fold == fold)
            estimated = estimator.estimate([sample.fingerprints[row] for row in rows])
            for row, posterior in zip(rows, estimated, strict=True):
                held[row] = posterior
    return [[one for one in held if one is not None] for held in posteriors]


def _mean_score(samples: Sequence[Sample], log_posteriors: Sequence[Array]) -> float:
    return float(
        np.mean(
            [
                _score(log_posterior, sample.truth)
                for sample, log_posterior in zip(samples, log_posteriors, strict=True)
            ]
        )
    )


def _score(log_posterior: Array, truth: Array) -> float:
    """The mean ln density at the truth, minus the penalty on coverage."""
    step = COARSE[1] - COARSE[0]
    largest = log_posterior.max(axis=1, keepdims=True)
    probability = np.exp(log_posterior - largest)
    probability /= probability.sum(axis=1, keepdims=True)
    place = np.clip((np.log1p(truth) - COARSE[0]) / step, 0, len(COARSE) - 1)
    cell = np.rint(place).astype(int)
    rows = np.arange(len(truth))
    density = probability[rows, cell] / step
    below = (
        np.cumsum(probability, axis=1)[rows, cell]
        - (0.5 - (place - cell)) * probability[rows, cell]
    )
    covered = np.mean(np.abs(below - 0.5) <= _NOMINAL / 2)
    return float(np.log(density + 1e-12).mean() - COVERAGE_PENALTY * (covered - _NOMINAL) ** 2)


def _maximise(
    score: Callable[[Tuned], float], start: Tuned, names: Sequence[str], evaluations: int
) -> Tuned:
    """Maximise by Nelder-Mead in the logarithm of the named constants, within their bounds."""
    low, high = np.log(np.array([_BOUNDS[name] for name in names]).T)
    initial = np.clip(np.log([getattr(start, name) for name in names]), low + 0.01, high - 0.01)

    def candidate(logarithms: Array) -> Tuned:
        values = np.exp(np.clip(logarithms, low, high)).tolist()
        return replace(start, **dict(zip(names, values, strict=True)))

    # Inwards from an upper bound: clipped to it, the search would hardly see that constant.
    step = np.where(initial + _FIRST_STEP > high, -_FIRST_STEP, _FIRST_STEP)
    steps = np.vstack([np.zeros(len(names)), np.diag(step)])
    found = minimize(
        lambda logarithms: -score(candidate(logarithms)),
        initial,
        method="Nelder-Mead",
        options={
            "maxfev": evaluations,
            "initial_simplex": np.clip(initial + steps, low, high),
            "xatol": 0.01,
            "fatol": 1e-4,
        },
    )
    return candidate(found.x)
