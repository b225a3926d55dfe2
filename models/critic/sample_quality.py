"""Measures how much generated fingerprints resemble real ones, and whether they are copies.

Drawn examples are in the same order as the genuine ones whose masks and conditions they have. Only
the broadband fluxes of the vectors are compared.
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
"""The fewest galaxies with a flux, or with both of a pair, for it to be compared."""

PRECISION = 1e-3
"""Fluxes are rounded to this share of the depth, because tables write zero as anything below."""

LEAST_COMMON = 4
"""The fewest fluxes in common of two galaxies that are compared."""

_CELL_CENTRES = np.log1p(vector.REDSHIFT_EDGES)[:-1] + np.diff(np.log1p(vector.REDSHIFT_EDGES)) / 2


def fluxes(examples: Examples) -> Floats:
    """The scaled broadband fluxes of N examples.

    Args:
        examples: the examples.

    Returns:
        float64, shape (N, intervals), NaN where nothing was observed.
    """
    seen = examples.vectors.mask[:, vector.BROADBAND] > 0
    values = np.asarray(examples.vectors.values[:, vector.BROADBAND], np.float64)
    return np.where(seen, np.round(values / PRECISION) * PRECISION, np.nan)


def mean_redshift(examples: Examples) -> Floats:
    """The mean ln(1 + z) of the conditions of N examples, float64, shape (N,).

    Args:
        examples: the examples.
    """
    return np.asarray(examples.condition**2 @ _CELL_CENTRES, np.float64)


def marginal_distances(genuine: Examples, drawn: Examples) -> dict[int, float]:
    """The Kolmogorov–Smirnov distance in each interval that is observed often enough.

    Args:
        genuine: genuine examples.
        drawn: draws for them.
    """
    first, second = fluxes(genuine), fluxes(drawn)
    distances = {}
    for interval in range(first.shape[1]):
        seen = np.isfinite(first[:, interval])
        if seen.sum() >= LEAST_SEEN:
            test = ks_2samp(first[seen, interval], second[seen, interval], method="asymp")
            distances[interval] = float(test.statistic)
    return distances


def rank_correlations(examples: Examples) -> dict[tuple[int, int], float]:
    """Spearman's ρ of each pair of intervals that are observed together often enough.

    The interval after the last is the mean redshift of the condition.

    Args:
        examples: the examples.
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
    """The mean Kolmogorov–Smirnov distance over the intervals.

    Args:
        genuine: genuine examples.
        drawn: draws for them.
    """
    return float(np.mean(list(marginal_distances(genuine, drawn).values()) or [np.nan]))


def correlations(genuine: Examples, drawn: Examples) -> float:
    """The mean |Δρ| over the pairs of intervals, with Spearman's ρ.

    Args:
        genuine: genuine examples.
        drawn: draws for them.
    """
    first, second = rank_correlations(genuine), rank_correlations(drawn)
    return float(np.mean([abs(first[pair] - second[pair]) for pair in first] or [np.nan]))


def spreads(genuine: Examples, drawn: Examples) -> list[dict[str, float | list[float]]]:
    """Describe how genuine and drawn fluxes are spread in each interval observed often enough.

    Args:
        genuine: genuine examples.
        drawn: draws for them.

    Returns:
        For each interval the wavelength in µm (``um``), the standard deviation of the scaled fluxes
        (``scatter``) and the share of those that are not positive (``not detected``). The last two
        are given for genuine and for drawn ones.
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
    """Compute a measure between samples of one distribution.

    The samples are made from both: each galaxy and its draw change places with a chance of one
    half.

    Args:
        measure: the measure, such as ``marginals``.
        genuine: genuine examples.
        drawn: draws for them.
        exchanges: the number of samples.
        seed: the seed of the exchanges.

    Returns:
        The measure of each sample, float64, shape (exchanges,).
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
    """The features that trees read: fluxes, the condition, its mean redshift.

    Args:
        examples: N examples.

    Returns:
        float64, shape (N, intervals + REDSHIFT_CELLS + 1), NaN where nothing was observed.
    """
    return np.column_stack([fluxes(examples), examples.condition, mean_redshift(examples)])


def trees(genuine: Examples, other: Examples, rounds: int = 300) -> Callable[[Examples], Floats]:
    """Train gradient-boosted trees that tell genuine examples from others.

    Args:
        genuine: genuine examples.
        other: examples that are not genuine.
        rounds: the number of trees.

    Returns:
        A function from N examples to the log odds that they are genuine, float64, shape (N,).
    """
    table = np.concatenate([features(genuine), features(other)])
    # Trees cannot split at columns that were never observed; at a constant they can.
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
    """Do the classifier two-sample test.

    Args:
        learnt: genuine examples and draws to train the classifier on.
        unseen: genuine examples and draws of other galaxies.
        rounds: the number of trees.

    Returns:
        The log odds of the unseen genuine examples and of the unseen draws, float64.
    """
    score = trees(*learnt, rounds)
    return score(unseen[0]), score(unseen[1])


def two_sample_area(
    learnt: tuple[Examples, Examples], unseen: tuple[Examples, Examples], rounds: int = 300
) -> float:
    """The area under the curve of ``two_sample_scores``, which has the same arguments."""
    return area_under_curve(*two_sample_scores(learnt, unseen, rounds))


def nearest_distance(examples: Examples, known: Examples) -> Floats:
    """The distance of each example from the nearest known galaxy.

    It is the root mean square of the differences of fluxes, in units of their scatter among the
    known galaxies. It is taken over the intervals observed in both: these must be at least
    LEAST_COMMON, and half of the example's own.

    Args:
        examples: N examples.
        known: the known galaxies.

    Returns:
        float64, shape (N,), NaN where no galaxy is comparable.
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
    """Draw by copying the fluxes of the known galaxy with the nearest mask and condition.

    A galaxy is not copied to itself. Fluxes that the other galaxy lacks are drawn from the
    marginals.

    Args:
        examples: the examples whose masks and conditions are used.
        known: the known galaxies.
        random: the generator of random numbers.
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
    """Draw by copying each element from a known galaxy chosen at random.

    Args:
        examples: the examples whose masks and conditions are used.
        known: the known galaxies.
        random: the generator of random numbers.
    """
    values = np.zeros_like(examples.vectors.values)
    for element in np.flatnonzero(examples.vectors.mask.any(axis=0)):
        seen = known.vectors.mask[:, element] > 0
        if seen.any():
            values[:, element] = random.choice(known.vectors.values[seen, element], len(values))
    return examples.with_values(values * examples.vectors.mask)
