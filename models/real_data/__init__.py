"""Reads published tables of real galaxies, and splits them for training and tests."""
