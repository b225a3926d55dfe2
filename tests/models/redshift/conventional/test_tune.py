from __future__ import annotations

import math
from dataclasses import asdict, replace

import numpy as np
import pytest

from mmbroker.models.redshift.conventional.tune import (
    _BOUNDS,
    NEUTRAL,
    Sample,
    _maximise,
    cross_validate,
    fold_of,
    tune,
)
from mmbroker.processors.fingerprint.merge import empty
from mmbroker.processors.redshift.tuned import packaged
from mmbroker.schemas.events import PublishedRedshift


def sample(count: int, width: float, stated: float) -> Sample:
    """Simulated published redshifts that scatter by ``width`` and state ``stated``."""
    random = np.random.default_rng(0)
    truth = random.uniform(0.5, 2.5, count)
    estimate = np.expm1(np.log1p(truth) + random.normal(0, width, count))
    published = [
        PublishedRedshift("A", 58000.0, "id", z, z - stated * (1 + z), z + stated * (1 + z))
        for z in estimate.tolist()
    ]
    fingerprints = [replace(empty("galaxy"), photometric_redshifts=[one]) for one in published]
    names = [str(index) for index in range(count)]
    return Sample("simulated", fingerprints, truth, fold_of(names, 3))


def test_understated_intervals_are_widened_until_they_hold_the_truth() -> None:
    simulated = sample(240, width=0.06, stated=0.02)
    tuned = tune([simulated], evaluations=50)
    width = np.hypot(tuned.published_inflation * 0.02, tuned.published_floor)
    assert 0.04 < width < 0.08
    (posteriors,) = cross_validate([simulated], evaluations=50)
    inside = [
        one.interval_68.lower <= z <= one.interval_68.upper
        for one, z in zip(posteriors, simulated.truth, strict=True)
    ]
    assert 0.58 < np.mean(inside) < 0.78


def test_the_search_starts_at_constants_that_have_seen_no_table() -> None:
    """What is in force was tuned on all galaxies, and knows those of every fold."""
    simulated = sample(60, width=0.06, stated=0.02)
    alone = [replace(one, photometric_redshifts=[]) for one in simulated.fingerprints]
    # A single evaluation leads nowhere.
    found = asdict(tune([replace(simulated, fingerprints=alone)], evaluations=1))
    in_force = asdict(packaged())
    assert found == pytest.approx(asdict(NEUTRAL), rel=0.011)
    same = {name for name in found if found[name] == pytest.approx(in_force[name], rel=0.005)}
    assert len(same) < len(found) / 4  # a constant may come back to where it started


def test_a_search_that_starts_at_a_bound_leaves_it() -> None:
    """Cut off at the bound, its first step would be too small to tell a better value."""
    best = {"dust_temper": 0.6, "radio_temper": 0.5}
    tuned = _maximise(
        lambda one: -sum((math.log(getattr(one, name) / best[name])) ** 2 for name in best),
        NEUTRAL,
        list(best),
        60,
    )
    assert NEUTRAL.dust_temper == NEUTRAL.radio_temper == 1.0
    assert tuned.dust_temper == pytest.approx(0.6, rel=0.02)
    assert tuned.radio_temper == pytest.approx(0.5, rel=0.02)


def test_neutral_constants_are_within_the_bounds_of_the_search() -> None:
    assert asdict(NEUTRAL).keys() == _BOUNDS.keys()
    assert all(low <= getattr(NEUTRAL, name) <= high for name, (low, high) in _BOUNDS.items())


def test_a_galaxy_has_the_same_fold_whatever_else_there_is() -> None:
    names = [str(index) for index in range(1000)]
    folds = fold_of(names, 5)
    assert fold_of(names[::-7], 5).tolist() == folds[::-7].tolist()
    assert np.bincount(folds).min() > 150
