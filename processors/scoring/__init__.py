"""Scores galaxies: features, evaluations, HyperScore, probability and rank."""
