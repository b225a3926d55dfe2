"""Recovered lines judged."""
