from __future__ import annotations

from dataclasses import replace

import numpy as np

from mmbroker.models.redshift.conventional.tune import Sample, cross_validate, fold_of, tune
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
    tuned = tune([simulated], packaged(), evaluations=50)
    width = np.hypot(tuned.published_inflation * 0.02, tuned.published_floor)
    assert 0.04 < width < 0.08
    (posteriors,) = cross_validate([simulated], packaged(), evaluations=50)
    inside = [
        one.interval_68.lower <= z <= one.interval_68.upper
        for one, z in zip(posteriors, simulated.truth, strict=True)
    ]
    assert 0.58 < np.mean(inside) < 0.78


def test_folds_are_even_and_reproducible() -> None:
    names = [str(index) for index in range(103)]
    folds = fold_of(names, 5)
    assert (folds == fold_of(names, 5)).all()
    assert np.bincount(folds).tolist() == [21, 21, 21, 20, 20]
