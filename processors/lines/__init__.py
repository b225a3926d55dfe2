"""Measures the lines of a galaxy, and recovers those that were not measured."""
