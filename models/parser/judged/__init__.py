"""Judges the parsers of spectra and maps, and writes the report on them."""
