"""Load catalogues of the first simulator, which are judged beside those of the present one.

Made with ``models/simulator.py`` of commit a275aae: the photometry that
``simulate(60_000, 2026, Mix(1, 0, 0, 0, 0), observations_per_galaxy=1)`` yields, of each instrument
the first sources, as many as the present simulator makes of that table (4,368 for GOODS-N, 724
COSMOS, 527 SPT).
"""

from __future__ import annotations

import numpy as np

from mmbroker.models.packaged.comparison import kept_to_compare
from mmbroker.models.simulation.catalogue_surveys import Catalogue, Survey
from mmbroker.schemas.events import Floats

NAME = "the first simulator"
"""What pages call it: the code's version was the same as that of the present one."""

CATALOGUES = "former.npz"
"""By table: flux densities and errors in Jy, float32, shape (N, bands), NaN where missing, in the
order of the survey's bands; true redshifts, float32, shape (N,)."""


def former_table(survey: Survey) -> tuple[Catalogue, Floats]:
    """The former simulated catalogue of the galaxies that a real table would hold, with redshifts.

    Bands that it did not simulate are missing in all sources.

    Raises:
        FileNotFoundError: this is no working copy.
    """
    with np.load(kept_to_compare(CATALOGUES)) as kept:
        flux, error, redshift = (
            kept[f"{survey.table} {name}"].astype(float)
            for name in ("flux_jy", "error_jy", "redshift")
        )
    return Catalogue(flux, error, np.isfinite(flux)), redshift
