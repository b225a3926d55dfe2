"""Estimates the redshifts of fingerprints: the conventional ones and the learned, refined ones."""

from mmbroker.processors.redshift.estimator import ConventionalRedshift, Estimated
from mmbroker.processors.scoring.features import features_of

__all__ = ["ConventionalRedshift", "Estimated", "features_of"]
