from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="judging needs scikit-learn: pip install -e '.[train]'")

from mmbroker.models.critic.examples import Examples
from mmbroker.models.critic.sample_quality import (
    correlations,
    from_marginals,
    hot_deck,
    marginal_distances,
    marginals,
    nearest_distance,
    two_sample_area,
    under_exchange,
)
from mmbroker.processors.fingerprint import vector
from mmbroker.processors.fingerprint.vector import FingerprintVectors

SEEN = 6


def galaxies(count: int, seed: int, spread: float = 1.0) -> Examples:
    """Galaxies of one brightness in six intervals, with noise."""
    random = np.random.default_rng(seed)
    values = np.zeros((count, vector.LENGTH), np.float32)
    mask = np.zeros_like(values)
    mask[:, :SEEN] = 1
    brightness = random.normal(5, spread, (count, 1))
    values[:, :SEEN] = brightness + random.normal(0, 0.3, (count, SEEN))
    condition = np.zeros((count, vector.REDSHIFT_CELLS), np.float32)
    condition[np.arange(count), random.integers(0, vector.REDSHIFT_CELLS, count)] = 1
    number = seed * 100_000 + np.arange(count)
    flags = np.zeros(count, np.int64), np.zeros(count, np.bool_)
    return Examples(FingerprintVectors(values, mask), condition, *flags, number)


def redrawn(examples: Examples, seed: int, spread: float = 1.0) -> Examples:
    return examples.with_values(galaxies(len(examples), seed, spread).vectors.values)


def test_another_sample_of_the_same_galaxies_is_within_the_null() -> None:
    genuine = galaxies(300, 1)
    same, broader = redrawn(genuine, 2), redrawn(genuine, 2, spread=2.0)
    for measure in (marginals, correlations):
        null = under_exchange(measure, genuine, same, 40)
        assert null.min() * 0.5 < measure(genuine, same) < 2 * null.max()
    null = under_exchange(marginals, genuine, broader, 40)
    assert marginals(genuine, broader) > null.max()


def test_intervals_seen_seldom_are_not_compared() -> None:
    genuine = galaxies(300, 1)
    genuine.vectors.mask[30:, 0] = 0
    assert set(marginal_distances(genuine, redrawn(genuine, 2))) == set(range(1, SEEN))


def test_the_two_sample_test_finds_what_is_wrong_and_only_that() -> None:
    learnt, unseen = galaxies(600, 1), galaxies(300, 2)
    same = two_sample_area((learnt, redrawn(learnt, 3)), (unseen, redrawn(unseen, 4)), 50)
    assert same == pytest.approx(0.5, abs=0.07)
    random = np.random.default_rng(0)
    apart = two_sample_area(
        (learnt, from_marginals(learnt, learnt, random)),
        (unseen, from_marginals(unseen, learnt, random)),
        50,
    )
    assert apart > 0.9


def test_copies_are_nearer_than_other_galaxies() -> None:
    learnt, unseen = galaxies(300, 1), galaxies(100, 2)
    assert nearest_distance(learnt, learnt) == pytest.approx(0, abs=1e-3)
    copies = hot_deck(unseen, learnt, np.random.default_rng(0))
    assert nearest_distance(copies, learnt) == pytest.approx(0, abs=1e-3)
    assert nearest_distance(unseen, learnt).min() > 0.01


def test_a_galaxy_in_the_hot_deck_is_not_its_own_copy() -> None:
    learnt = galaxies(50, 1)
    copies = hot_deck(learnt, learnt, np.random.default_rng(0))
    assert (copies.vectors.values != learnt.vectors.values).any(axis=1).all()


def test_galaxies_with_too_little_in_common_are_not_compared() -> None:
    learnt, other = galaxies(50, 1), galaxies(50, 2)
    other.vectors.mask[:, :4] = 0
    assert np.isnan(nearest_distance(other, learnt)).all()
