"""Redshifts judged."""
