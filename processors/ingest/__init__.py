"""Files of published measurements, read as observations.

Tables through a mapping of their columns (``tables``, ``mapping``, ``mappings/``), one-dimensional
spectra (``spectra``) and map cut-outs (``maps``).
"""
