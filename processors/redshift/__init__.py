"""The conventional redshift of a fingerprint."""

from .estimator import ConventionalRedshift, Estimated, features_of

__all__ = ["ConventionalRedshift", "Estimated", "features_of"]
