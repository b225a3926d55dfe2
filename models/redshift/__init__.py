"""Fit, learn and judge redshifts on real galaxies."""
