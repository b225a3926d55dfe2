"""Redshift estimators that the refined redshift is compared with."""
