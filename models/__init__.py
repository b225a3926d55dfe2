"""Trains, judges, packages and serves all that is learned from data, and simulates galaxies."""
