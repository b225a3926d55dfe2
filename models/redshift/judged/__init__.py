"""Judges redshifts, and writes the reports on them."""
