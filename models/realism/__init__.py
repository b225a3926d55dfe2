"""Judges how like real galaxies the simulated ones are."""
