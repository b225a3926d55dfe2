"""Measure how much generated fingerprints resemble real ones, and whether they are copies.

Drawn examples stand beside the genuine ones whose masks and conditions they were drawn for, in the
same order. Of the vector only the broadband fluxes are compared.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.stats import ks_2samp, rankdata
from sklearn.ensemble import HistGradientBoostingClassifier

from mmbroker.models.critic.examples import Examples
from mmbroker.models.measures.discrimination import area_under_curve
from mmbroker.processors.fingerprint import vector
from mmbroker.processors.relations import SPEED_OF_LIGHT_KM_S
from mmbroker.schemas.events import Floats

LEAST_SEEN = 50
"""Fewest galaxies with a flux, or with both of a pair, for it to be compared."""

PRECISION = 1e-3
"""Fluxes are compared to this share of the depth: tables write zero as anything below."""

LEAST_COMMON = 4
"""Fewest fluxes in common of two galaxies that are called near; and at least half of one's own."""

_CELL_CENTRES = np.log1p(vector.REDSHIFT_EDGES)[:-1] + np.diff(np.log1p(vector.REDSHIFT_EDGES)) / 2


def fluxes(examples: Examples) -> Floats:
    """Scaled broadband fluxes, NaN where nothing was observed; shape (N, intervals)."""
    seen = examples.vectors.mask[:, vector.BROADBAND] > 0
    values = np.asarray(examples.vectors.values[:, vector.BROADBAND], np.float64)
    return np.where(seen, np.round(values / PRECISION) * PRECISION, np.nan)


def mean_redshift(examples: Examples) -> Floats:
    """Mean ln(1 + z) of the conditions; shape (N,)."""
    return np.asarray(examples.condition**2 @ _CELL_CENTRES, np.float64)


def marginal_distances(genuine: Examples, drawn: Examples) -> dict[int, float]:
    """Kolmogorov–Smirnov distance in each interval seen often enough."""
    first, second = fluxes(genuine), fluxes(drawn)
    distances = {}
    for interval in range(first.shape[1]):
        seen = np.isfinite(first[:, interval])
        if seen.sum() >= LEAST_SEEN:
            test = ks_2samp(first[seen, interval], second[seen, interval], method="asymp")
            distances[interval] = float(test.statistic)
    return distances


def rank_correlations(examples: Examples) -> dict[tuple[int, int], float]:
    """Spearman's ρ of each pair of intervals seen together often enough.

    The interval after the last stands for the mean redshift of the condition.
    """
    columns = np.column_stack([fluxes(examples), mean_redshift(examples)])
    seen = np.isfinite(columns)
    found = {}
    for first in range(columns.shape[1]):
        for second in range(first):
            both = seen[:, first] & seen[:, second]
            if both.sum() >= LEAST_SEEN:
                ranks = [rankdata(columns[both, each]) for each in (second, first)]
                # A column that is all zeros is correlated with nothing.
                steady = min(np.ptp(rank) for rank in ranks) == 0
                found[second, first] = 0.0 if steady else float(np.corrcoef(ranks)[0, 1])
    return found


def marginals(genuine: Examples, drawn: Examples) -> float:
    """Mean Kolmogorov–Smirnov distance."""
    return float(np.mean(list(marginal_distances(genuine, drawn).values()) or [np.nan]))


def correlations(genuine: Examples, drawn: Examples) -> float:
    """Mean |Δρ|."""
    first, second = rank_correlations(genuine), rank_correlations(drawn)
    return float(np.mean([abs(first[pair] - second[pair]) for pair in first] or [np.nan]))


def spreads(genuine: Examples, drawn: Examples) -> list[dict[str, float | list[float]]]:
    """Of each interval seen often enough how genuine and drawn fluxes are spread.

    Returns:
        Wavelength in µm as ``um``; standard deviation of the scaled fluxes as ``scatter`` and share
        of those that are zero as ``not detected``, each of the genuine and of the drawn.
    """
    both = [fluxes(each) for each in (genuine, drawn)]
    found: list[dict[str, float | list[float]]] = []
    for interval, centre in enumerate(vector.BROADBAND_CENTRES_HZ.tolist()):
        seen = np.isfinite(both[0][:, interval])
        if seen.sum() >= LEAST_SEEN:
            values = [each[seen, interval] for each in both]
            found.append(
                {
                    "um": round(SPEED_OF_LIGHT_KM_S * 1e9 / centre, 3),
                    "scatter": [round(float(each.std()), 4) for each in values],
                    "not detected": [round(float((each <= 0).mean()), 4) for each in values],
                }
            )
    return found


def under_exchange(
    measure: Callable[[Examples, Examples], float],
    genuine: Examples,
    drawn: Examples,
    exchanges: int = 100,
    seed: int = 0,
) -> Floats:
    """What a measure shows between two samples of one distribution; shape (exchanges,).

    Each galaxy and its draw change places with a chance of one half.
    """
    random = np.random.default_rng(seed)
    first, second = genuine.vectors.values, drawn.vectors.values
    found = []
    for _ in range(exchanges):
        swap = random.random((len(genuine), 1)) < 0.5
        found.append(
            measure(
                genuine.with_values(np.where(swap, second, first)),
                drawn.with_values(np.where(swap, first, second)),
            )
        )
    return np.array(found)


def features(examples: Examples) -> Floats:
    """What a tree ensemble is told: fluxes, the condition, its mean redshift."""
    return np.column_stack([fluxes(examples), examples.condition, mean_redshift(examples)])


def trees(genuine: Examples, other: Examples, rounds: int = 300) -> Callable[[Examples], Floats]:
    """Gradient-boosted trees that tell genuine examples from others: examples to log odds."""
    table = np.concatenate([features(genuine), features(other)])
    # Intervals never seen cannot be split at; a constant can be.
    known = np.isfinite(table).sum(axis=0) > 1
    label = np.concatenate([np.ones(len(genuine)), np.zeros(len(other))])
    forest = HistGradientBoostingClassifier(
        max_iter=rounds,
        learning_rate=0.06,
        max_leaf_nodes=15,
        l2_regularization=1.0,
        early_stopping=False,
        random_state=0,
    ).fit(table[:, known], label)
    return lambda examples: np.asarray(forest.decision_function(features(examples)[:, known]))


def two_sample_scores(
    learnt: tuple[Examples, Examples], unseen: tuple[Examples, Examples], rounds: int = 300
) -> tuple[Floats, Floats]:
    """Classifier two-sample test: log odds of unseen genuine ones, and of unseen draws.

    Args:
        learnt: genuine examples and draws to train the classifier on.
        unseen: the same of other galaxies.
        rounds: trees in the ensemble.
    """
    score = trees(*learnt, rounds)
    return score(unseen[0]), score(unseen[1])


def two_sample_area(
    learnt: tuple[Examples, Examples], unseen: tuple[Examples, Examples], rounds: int = 300
) -> float:
    """Area under the curve of ``two_sample_scores``, with the same arguments."""
    return area_under_curve(*two_sample_scores(learnt, unseen, rounds))


def nearest_distance(examples: Examples, known: Examples) -> Floats:
    """Distance of each example to the nearest of known galaxies; NaN where none is comparable.

    Root mean square of the difference of fluxes in units of their scatter among the known ones,
    over the intervals seen in both: at least LEAST_COMMON, and half of the example's own.
    """
    reference, asked = fluxes(known), fluxes(examples)
    seen_known, seen_asked = np.isfinite(reference), np.isfinite(asked)
    count = seen_known.sum(axis=0).clip(1)
    centre = np.where(seen_known, reference, 0).sum(axis=0) / count
    square = np.where(seen_known, (reference - centre) ** 2, 0).sum(axis=0)
    scatter = np.sqrt(square / count).clip(0.1)
    known_values = np.where(seen_known, (reference - centre) / scatter, 0)
    values = np.where(seen_asked, (asked - centre) / scatter, 0)
    common = seen_asked.astype(float) @ seen_known.T
    square = (
        (values**2) @ seen_known.T + seen_asked @ (known_values**2).T - 2 * values @ known_values.T
    )
    enough = (common >= LEAST_COMMON) & (2 * common >= seen_asked.sum(axis=1, keepdims=True))
    distance = np.sqrt(square.clip(0) / common.clip(1))
    nearest = np.where(enough, distance, np.inf).min(axis=1)
    return np.where(np.isfinite(nearest), nearest, np.nan)


def hot_deck(examples: Examples, known: Examples, random: np.random.Generator) -> Examples:
    """Draws that copy the fluxes of the known galaxy whose mask and condition are nearest.

    A galaxy is no copy of itself. What the other one lacks is drawn from the marginals.
    """
    filled = from_marginals(examples, known, random)
    mask, known_mask = (each.vectors.mask[:, vector.BROADBAND] for each in (examples, known))
    differing = mask @ (1 - known_mask).T + (1 - mask) @ known_mask.T
    unlike = 2 - 2 * examples.condition @ known.condition.T
    own = examples.galaxy[:, None] == known.galaxy
    chosen = np.where(own, np.inf, differing / mask.shape[1] + unlike).argmin(axis=1)
    both = (examples.vectors.mask > 0) & (known.vectors.mask[chosen] > 0)
    return examples.with_values(np.where(both, known.vectors.values[chosen], filled.vectors.values))


def from_marginals(examples: Examples, known: Examples, random: np.random.Generator) -> Examples:
    """Draws whose elements are each copied from a known galaxy chosen at random."""
    values = np.zeros_like(examples.vectors.values)
    for element in np.flatnonzero(examples.vectors.mask.any(axis=0)):
        seen = known.vectors.mask[:, element] > 0
        if seen.any():
            values[:, element] = random.choice(known.vectors.values[seen, element], len(values))
    return examples.with_values(values * examples.vectors.mask)
