"""Judges the critic and its generator, and writes the report on them."""
