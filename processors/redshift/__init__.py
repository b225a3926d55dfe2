"""Estimates the redshifts of fingerprints: the conventional ones and the learned, refined ones."""

from mmbroker.processors.redshift.estimator import ConventionalRedshift, Estimated

__all__ = ["ConventionalRedshift", "Estimated"]
