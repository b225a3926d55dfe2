"""Trains, calibrates and judges the parsers, the networks that read spectra and maps."""
