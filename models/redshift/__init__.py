"""Fits, learns and judges redshifts on real galaxies."""
