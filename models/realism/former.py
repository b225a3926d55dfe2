"""Loads catalogues of the first simulator, which are judged beside those of the present one.

They were made with ``models/simulator.py`` of commit a275aae. They are the photometry that
``simulate(60_000, 2026, Mix(1, 0, 0, 0, 0), observations_per_galaxy=1)`` yields: the first sources
of each instrument, as many as the present simulator makes for that table (4,368 for GOODS-N, 724
for COSMOS, 527 for SPT).
"""

from __future__ import annotations

import numpy as np

from mmbroker.models.packaged.comparison import kept_to_compare
from mmbroker.models.simulation.catalogue_surveys import Catalogue, Survey
from mmbroker.schemas.events import Floats

NAME = "the first simulator"
"""Its name on the pages, since the code's version was the same as that of the present one."""

CATALOGUES = "former.npz"
"""The file of the catalogues.

For each table it has flux densities and errors in Jy, float32, shape (N, bands), NaN where missing,
in the order of the survey's bands, and true redshifts, float32, shape (N,).
"""


def former_table(survey: Survey) -> tuple[Catalogue, Floats]:
    """Load the first simulator's catalogue of the galaxies that a real table would have.

    Bands that it did not simulate are missing in all sources.

    Args:
        survey: the survey of the table.

    Returns:
        The catalogue of N galaxies, and their true redshifts, float64, shape (N,).

    Raises:
        FileNotFoundError: the catalogues are missing, as in an installed package.
    """
    with np.load(kept_to_compare(CATALOGUES)) as kept:
        flux, error, redshift = (
            kept[f"{survey.table} {name}"].astype(float)
            for name in ("flux_jy", "error_jy", "redshift")
        )
    return Catalogue(flux, error, np.isfinite(flux)), redshift
