"""The conventional redshift of a fingerprint."""

from mmbroker.processors.redshift.estimator import ConventionalRedshift, Estimated
from mmbroker.processors.scoring.features import features_of

__all__ = ["ConventionalRedshift", "Estimated", "features_of"]
