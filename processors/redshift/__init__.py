"""The conventional redshift of a fingerprint."""

from .estimator import ConventionalRedshift

__all__ = ["ConventionalRedshift"]
