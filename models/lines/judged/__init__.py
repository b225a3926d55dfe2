"""Judges recovered lines, and writes the report on them."""
