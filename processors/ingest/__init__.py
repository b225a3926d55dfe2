"""Reads observations from files of published measurements.

The files are tables, with a mapping of their columns (``tables``, ``mapping``, ``mappings/``),
one-dimensional spectra (``spectra``) and map cut-outs (``maps``).
"""
