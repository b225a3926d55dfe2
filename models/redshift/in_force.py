"""The redshifts in force and their probabilities, as scored galaxies have them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mmbroker.models.packaged.reliability import load_reliability
from mmbroker.models.packaged.templates import load_templates
from mmbroker.processors.redshift import ConventionalRedshift
from mmbroker.processors.scoring.reliability import probability_of
from mmbroker.schemas.events import Fingerprint, RedshiftPosterior

_TOGETHER = 500


@dataclass(frozen=True, slots=True, eq=False)
class InForce:
    """The redshifts of N galaxies.

    Attributes:
        posteriors: the conventional posteriors.
        probability: the probability that each redshift is right, NaN where none is in force, shape
            (N,).
    """

    posteriors: list[RedshiftPosterior]
    probability: NDArray[np.float64]

    @property
    def stated(self) -> NDArray[np.bool_]:
        """Whether each galaxy has a redshift in force, shape (N,)."""
        return np.isfinite(self.probability)


def in_force(fingerprints: Sequence[Fingerprint]) -> InForce:
    """The redshifts in force of galaxies, and their probabilities."""
    estimator, templates, model = ConventionalRedshift(), load_templates(), load_reliability()
    posteriors: list[RedshiftPosterior] = []
    probability: list[float] = []
    for first in range(0, len(fingerprints), _TOGETHER):
        some = fingerprints[first : first + _TOGETHER]
        evidence = replace(estimator.evidence(some), templates=templates.fitted(some))
        estimated = estimator.estimate_fully(some, evidence)
        posteriors += [each.posterior for each in estimated]
        probability += [
            np.nan if each is None else probability_of(each)
            for each in model.rate(some, estimated, evidence)
        ]
    return InForce(posteriors, np.array(probability))
