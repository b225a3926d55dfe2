"""Fits the probability that a redshift is right on real galaxies, and judges it."""
