"""Measures how alike two samples of sources are: by a classifier, distributions, correlations."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import ks_2samp, spearmanr
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.inspection import permutation_importance

from mmbroker.models.measures import resampling
from mmbroker.models.measures.discrimination import area_under_curve, weighted_areas
from mmbroker.models.simulation.catalogue_surveys import Catalogue
from mmbroker.schemas.events import Floats

Integers = NDArray[np.int64]

VIEWS = ("flux densities", "errors", "mask", "all")


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """N sources; NaN where a band is missing.

    Attributes:
        scaled: asinh of flux density over depth, float64, shape (N, bands).
        log_error: log10 of the error over the depth, float64, shape (N, bands).
        log_stretch: ln(1 + z), NaN where it is unknown, float64, shape (N,).
    """

    scaled: Floats
    log_error: Floats
    log_stretch: Floats

    def __len__(self) -> int:
        return len(self.scaled)

    @property
    def seen(self) -> Floats:
        """1 where there is a flux density, else 0; float64, shape (N, bands)."""
        return np.isfinite(self.scaled).astype(float)

    def rows(self, chosen: Integers) -> Sample:
        """The chosen sources.

        Args:
            chosen: the indices of the chosen sources, int64, shape (n,).
        """
        return Sample(self.scaled[chosen], self.log_error[chosen], self.log_stretch[chosen])

    def bands(self, chosen: Integers) -> Sample:
        """The sources in the chosen bands alone.

        Args:
            chosen: the indices of the chosen bands, int64, shape (bands,).
        """
        return Sample(self.scaled[:, chosen], self.log_error[:, chosen], self.log_stretch)

    def halves(self) -> tuple[Sample, Sample]:
        """The first half of the sources and the second."""
        order = np.arange(len(self))
        return self.rows(order[: len(self) // 2]), self.rows(order[len(self) // 2 :])

    def view(self, name: str) -> Floats:
        """The features that a classifier sees.

        Args:
            name: one of VIEWS.

        Returns:
            float64, shape (N, features).

        Raises:
            KeyError: it is not one of VIEWS.
        """
        parts = {
            "flux densities": [self.scaled],
            "errors": [self.log_error],
            "mask": [self.seen],
            "all": [self.scaled, self.log_error, self.seen, self.log_stretch[:, None]],
        }
        return np.concatenate(parts[name], axis=1)


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate with its 95 % percentile interval.

    Attributes:
        value: the estimate.
        low: the lower end of the interval.
        high: the upper end of the interval.
    """

    value: float
    low: float
    high: float


def sample(catalogue: Catalogue, redshift: Floats, depth_jy: Floats) -> Sample:
    """Scale the sources of a catalogue.

    Values are rounded to hundredths, so that the way in which tables print numbers tells nothing.

    Args:
        catalogue: N sources.
        redshift: their redshifts, NaN where unknown, float64, shape (N,).
        depth_jy: the depth of each band in Jy, float64, shape (bands,).
    """
    flux = np.where(catalogue.seen, catalogue.flux_jy, np.nan)
    error = np.where(catalogue.seen, catalogue.error_jy, np.nan)
    return Sample(
        np.arcsinh(flux / depth_jy).round(2) + 0.0,
        np.log10(error / depth_jy).round(2) + 0.0,
        np.log1p(redshift),
    )


def classify(
    view: str, training: tuple[Sample, Sample], judged: tuple[Sample, Sample], seed: int = 0
) -> tuple[Interval, Integers]:
    """Train a classifier of real against simulated sources, and measure its area under the curve.

    Args:
        view: one of VIEWS.
        training: real and simulated sources that it learns from.
        judged: other real and simulated sources, on which it is judged.
        seed: the seed of the classifier and the resamples.

    Returns:
        The area, and the indices of the view's features, the most telling first; int64, shape
        (features,).
    """
    features = [np.concatenate([each.view(view) for each in pair]) for pair in (training, judged)]
    target = [np.repeat([1, 0], [len(each) for each in pair]) for pair in (training, judged)]
    model = HistGradientBoostingClassifier(
        max_iter=100,
        learning_rate=0.06,
        max_leaf_nodes=12,
        l2_regularization=1.0,
        class_weight="balanced",
        random_state=seed,
    )
    model.fit(features[0], target[0])
    score = model.predict_proba(features[1])[:, 1]
    telling = permutation_importance(
        model, features[1], target[1], scoring="roc_auc", n_repeats=2, random_state=seed
    )
    real, simulated = score[target[1] == 1], score[target[1] == 0]
    return _area(real, simulated, seed), np.argsort(-telling.importances_mean)


def distances(real: Sample, simulated: Sample, seed: int = 0) -> dict[str, list[Interval | None]]:
    """Measure the Kolmogorov-Smirnov distance of flux densities, ratios to noise and errors.

    Args:
        real: real sources.
        simulated: simulated sources in the same bands.
        seed: the seed of the resamples.

    Returns:
        The distance in each band, by quantity; None with fewer than 20 real or simulated
        measurements.
    """
    pairs = {
        "flux density": (real.scaled, simulated.scaled),
        "signal-to-noise": (
            np.sinh(real.scaled) / 10**real.log_error,
            np.sinh(simulated.scaled) / 10**simulated.log_error,
        ),
        "error": (real.log_error, simulated.log_error),
    }
    random = np.random.default_rng(seed)
    return {
        name: [_distance(one[:, band], other[:, band], random) for band in range(one.shape[1])]
        for name, (one, other) in pairs.items()
    }


def correlations(values: Floats) -> Floats:
    """The rank correlation of each two columns where both are known.

    Args:
        values: the columns, NaN where unknown, float64, shape (N, columns).

    Returns:
        float64, shape (columns, columns); NaN on the diagonal, with fewer than 20 rows, and where a
        column is constant.
    """
    bands = values.shape[1]
    matrix = np.full((bands, bands), np.nan)
    for one in range(bands):
        for other in range(one):
            both = np.isfinite(values[:, one]) & np.isfinite(values[:, other])
            vary = both.sum() >= 20 and np.ptp(values[both, one]) and np.ptp(values[both, other])
            if vary:
                rank = spearmanr(values[both, one], values[both, other]).statistic
                matrix[one, other] = matrix[other, one] = rank
    return matrix


def colour(each: Sample, blue: int, red: int) -> Floats:
    """The log10 of the ratio of two flux densities, each in units of its band's depth.

    Args:
        each: N sources.
        blue: the index of the band in the denominator.
        red: the index of the band in the numerator.

    Returns:
        float64, shape (N,), NaN where a flux density does not exceed 2 sigma.
    """
    flux = np.sinh(each.scaled[:, [blue, red]])
    detected = (flux > 2 * 10 ** each.log_error[:, [blue, red]]).all(axis=1)
    first, second = np.where(detected, flux.T, np.nan)
    return np.asarray(np.log10(second / first))


def _area(real: Floats, simulated: Floats, seed: int) -> Interval:
    """The area under the curve, with an interval over resamples of both samples."""
    random = np.random.default_rng(seed)
    weights = [resampling.counts(np.arange(len(scores)), random) for scores in (real, simulated)]
    areas = weighted_areas(real, simulated, *weights)
    return Interval(area_under_curve(real, simulated), *resampling.interval(areas))


def _distance(one: Floats, other: Floats, random: np.random.Generator) -> Interval | None:
    one, other = one[np.isfinite(one)], other[np.isfinite(other)]
    if len(one) < 20 or len(other) < 20:
        return None
    draws = [
        ks_2samp(random.choice(one, len(one)), random.choice(other, len(other))).statistic
        for _ in range(100)
    ]
    ends = resampling.interval(np.array(draws))
    return Interval(float(ks_2samp(one, other).statistic), *ends)
