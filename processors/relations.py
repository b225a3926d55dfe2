"""Constants of nature and published relations, each with its source.

Nothing else in the project states a physical constant or a published number.
"""

from __future__ import annotations

import math

SPEED_OF_LIGHT_KM_S = 299_792.458
"""Exact, SI."""

ARCSEC_PER_RADIAN = 180.0 * 3600.0 / math.pi

GALAXY_SURFACE_DENSITY_PER_ARCSEC2 = 20.0 / 3600.0
"""Surface density of galaxies that a source may be confused with: some 20 per square arcminute in
the prior list of the GOODS-N super-deblended catalogue (3306 sources in 134 arcmin2; Liu et al.
2018, ApJ 853 172)."""

ASTROMETRIC_FLOOR_ARCSEC = 0.1
"""Registration of ALMA, VLA and optical frames against each other, of the order of 0.1 arcsec
(Franco et al. 2018, A&A 620 A152, find 0.1 to 0.3 arcsec offsets ALMA to HST)."""
