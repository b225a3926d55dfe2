"""Redshifts learned from real galaxies, and the measures that they are judged by."""
