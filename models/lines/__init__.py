"""Recovers the lines of a galaxy that were not measured from those that were; fits and judges."""
