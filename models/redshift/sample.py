"""Prepares galaxies for redshift estimators, and judges the estimates beside each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmbroker.models.real_data.catalogues import RealGalaxy
from mmbroker.models.real_data.split import split_of
from mmbroker.models.redshift import measures
from mmbroker.processors.fingerprint import vector
from mmbroker.processors.fingerprint.merge import build
from mmbroker.processors.redshift import ConventionalRedshift, refined
from mmbroker.processors.redshift.dust import HIGHEST_FREQUENCY_HZ
from mmbroker.processors.redshift.grids import COARSE, Array
from mmbroker.processors.redshift.posterior import posteriors_of
from mmbroker.processors.redshift.refined import Inputs
from mmbroker.schemas.events import Fingerprint, RedshiftPosterior

Indices = NDArray[np.int64]
FAINT_JY = 15e-3
"""Galaxies with less at 500 um count as faint."""

S500 = int(np.searchsorted(vector.BROADBAND_CENTRES_HZ, 599.6e9))
"""The index of the canonical broadband interval at 500 um."""

HIGH_REDSHIFT = 1.5


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """N galaxies with the inputs of the networks, and their true redshifts.

    Attributes:
        galaxies: the galaxies, as they were read.
        fingerprints: their fingerprints.
        inputs: the inputs of the refined redshift's networks.
        truth: spectroscopic redshifts, NaN where unknown, shape (N,).
        split: the part of the split that each galaxy belongs to, shape (N,).
    """

    galaxies: list[RealGalaxy]
    fingerprints: list[Fingerprint]
    inputs: Inputs
    truth: Array
    split: Indices

    def select(self, chosen: NDArray[np.bool_] | Indices) -> Sample:
        """The chosen galaxies.

        Args:
            chosen: whether each galaxy is chosen, shape (N,), or the indices of the chosen ones.
        """
        rows = np.arange(len(self.truth))[chosen]
        return Sample(
            [self.galaxies[row] for row in rows],
            [self.fingerprints[row] for row in rows],
            self.inputs.select(rows),
            self.truth[rows],
            self.split[rows],
        )

    @property
    def faint(self) -> NDArray[np.bool_]:
        """Whether each galaxy has no flux of 15 mJy or more at 500 um, shape (N,).

        Most of those are not detected there.
        """
        bright = self.inputs.mask[:, S500] * np.sinh(self.inputs.values[:, S500])
        return np.asarray(~(bright * vector.BROADBAND_DEPTH_JY[S500] >= FAINT_JY))


def sample_of(galaxies: Sequence[RealGalaxy], conventional: ConventionalRedshift) -> Sample:
    """Make the sample of some galaxies.

    Args:
        galaxies: the galaxies.
        conventional: the conventional redshift with which the networks' inputs are made.
    """
    fingerprints = [build(one.name, one.observations) for one in galaxies]
    truth = [one.spectroscopic_redshift or np.nan for one in galaxies]
    return Sample(
        list(galaxies),
        fingerprints,
        refined.inputs_of(fingerprints, conventional),
        np.array(truth),
        np.array([split_of(one.name) for one in galaxies]),
    )


def without_published(inputs: Inputs) -> Inputs:
    """The inputs of the same galaxies as if no redshift were published.

    The conventional posterior is then that of the other evidence.

    Args:
        inputs: the inputs of N galaxies.
    """
    parts = {name: getattr(inputs, name) for name in Inputs.__dataclass_fields__}
    zero = np.zeros(len(inputs))
    parts.update(
        centre=zero,
        half_width=zero + inputs.half_width.max(initial=0.05),
        count=zero,
        log_conventional=inputs.log_photometry,
        log_fallback=inputs.log_continuum,
    )
    return Inputs(**parts)


def far_infrared_alone(sample: Sample, conventional: ConventionalRedshift) -> Sample:
    """The same galaxies as if no redshift were published and nothing were observed below 60 um.

    Args:
        sample: the galaxies.
        conventional: the conventional redshift that the sample's inputs were made with.
    """
    kept = [
        replace(
            one,
            photometric_redshifts=[],
            bands=[band for band in one.bands if band.frequency_hz <= HIGHEST_FREQUENCY_HZ],
        )
        for one in sample.fingerprints
    ]
    return replace(sample, fingerprints=kept, inputs=refined.inputs_of(kept, conventional))


def at_truth(log_density: Array, redshift: Array) -> Array:
    """The densities of N galaxies at one redshift each.

    Args:
        log_density: the ln of the densities, shape (N, ..., COARSE).
        redshift: a redshift for each galaxy, shape (N,).

    Returns:
        The ln of the densities in the cells of these redshifts, shape (N, ...).
    """
    step = COARSE[1] - COARSE[0]
    cell = np.clip(np.rint((np.log1p(redshift) - COARSE[0]) / step).astype(int), 0, len(COARSE) - 1)
    return np.asarray(log_density[np.arange(len(redshift)), ..., cell])


@dataclass(frozen=True, slots=True, eq=False)
class Estimate:
    """Redshifts of one estimator for N galaxies, and how good they are; shapes (N,).

    Attributes:
        redshift: the estimated redshifts.
        crps: the continuous ranked probability score of each.
        covered_68: 1 where the truth is within the 68 % interval, else 0; NaN without an interval.
        covered_95: the same of the 95 % interval.
    """

    redshift: Array
    crps: Array
    covered_68: Array
    covered_95: Array

    @classmethod
    def of_points(cls, redshift: Array, truth: Array) -> Estimate:
        """Make the estimate of redshifts without intervals; their CRPS is the absolute error.

        Args:
            redshift: the estimated redshifts, shape (N,).
            truth: the true redshifts, shape (N,).
        """
        missing = np.full(len(truth), np.nan)
        return cls(redshift, np.abs(redshift - truth), missing, missing)

    @classmethod
    def of_densities(cls, log_density: Array, truth: Array) -> Estimate:
        """Make the estimate of densities on the grid.

        Args:
            log_density: the ln of the densities in ln(1 + z), normalised or not, shape (N, COARSE).
            truth: the true redshifts, shape (N,).
        """
        many = posteriors_of(log_density, [[]] * len(log_density))
        return cls.of_posteriors(many, truth)

    @classmethod
    def of_posteriors(cls, many: Sequence[RedshiftPosterior], truth: Array) -> Estimate:
        """Make the estimate of posteriors as the stream gives them.

        Args:
            many: the posteriors of N galaxies, at least one, all on the same grid.
            truth: the true redshifts, shape (N,).
        """

        def covered(name: str) -> Array:
            intervals = [getattr(one, name) for one in many]
            lower = np.array([one.lower for one in intervals])
            return measures.covered(lower, np.array([one.upper for one in intervals]), truth)

        grid = np.asarray(many[0].grid_redshift, float)
        probability = np.array([one.grid_probability for one in many], float)
        return cls(
            np.array([one.best for one in many]),
            measures.crps(grid, probability, truth),
            covered("interval_68"),
            covered("interval_95"),
        )

    def values(self, truth: Array, chosen: NDArray[np.bool_]) -> dict[str, Array]:
        """The values of the chosen galaxies from which each measure is computed, by its name.

        Args:
            truth: the true redshifts, shape (N,).
            chosen: whether each galaxy is chosen, shape (N,).

        Returns:
            Arrays of shape (chosen galaxies,).
        """
        delta = measures.deviation(self.redshift, truth)[chosen]
        return {
            **dict.fromkeys(("mae", "nmad", "outliers"), delta),
            "crps": self.crps[chosen],
            "coverage68": self.covered_68[chosen],
            "coverage95": self.covered_95[chosen],
        }


def subsets_of(sample: Sample) -> dict[str, NDArray[np.bool_]]:
    """The subsets of the protocol: whether each galaxy belongs to one, shape (N,), by its name."""
    return {
        "all": np.ones(len(sample.truth), bool),
        "faint": sample.faint,
        "faint positive": sample.faint & (sample.inputs.values[:, S500] > 0),
        f"z > {HIGH_REDSHIFT}": sample.truth > HIGH_REDSHIFT,
    }


def judge(
    estimates: dict[str, Estimate],
    truth: Array,
    subsets: dict[str, NDArray[np.bool_]],
    ours_name: str = "refined",
) -> dict[str, Any]:
    """Compute figures by subset and estimator with 95 % intervals, and ours minus each other's.

    Args:
        estimates: the estimates of N galaxies, by the estimator's name.
        truth: the true redshifts, shape (N,).
        subsets: whether each galaxy belongs to a subset, shape (N,), by the subset's name. Empty
            subsets are left out.
        ours_name: the estimator that the others are compared with.

    Returns:
        ``{subset: {estimator: {n, mae: [value, low, high], ..., <ours>_minus: {mae: ...}}}}``.
    """
    found: dict[str, Any] = {}
    for subset, chosen in subsets.items():
        if not chosen.any():
            continue
        found[subset] = {}
        ours = estimates[ours_name].values(truth, chosen)
        for name, one in estimates.items():
            theirs = one.values(truth, chosen)
            figures: dict[str, Any] = {"n": int(chosen.sum())}
            minus = {}
            for key, measure in measures.MEASURES.items():
                value = float(measure(theirs[key]))
                if not np.isfinite(value):
                    continue
                figures[key] = _rounded(value, measures.bootstrap(measure, theirs[key]))
                minus[key] = _rounded(
                    float(measure(ours[key])) - value,
                    measures.paired_bootstrap(measure, ours[key], theirs[key]),
                )
            found[subset][name] = figures
            if name != ours_name:
                figures[f"{ours_name}_minus"] = minus
    return found


def _rounded(value: float, interval: tuple[float, float]) -> list[float]:
    return [round(each, 4) for each in (value, *interval)]
