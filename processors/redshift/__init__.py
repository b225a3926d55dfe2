"""The conventional redshift of a fingerprint."""

from mmbroker.processors.redshift.estimator import ConventionalRedshift, Estimated

__all__ = ["ConventionalRedshift", "Estimated"]
