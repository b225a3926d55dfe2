"""Judges redshifts of simulated galaxies, which needs no published table."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from mmbroker.models.real_data.catalogues import RealGalaxy
from mmbroker.models.redshift.figures import judged_part
from mmbroker.models.redshift.sample import Sample, sample_of
from mmbroker.models.simulation.catalogue_surveys import SUPER_DEBLENDED
from mmbroker.models.simulation.observations import Mix, galaxy_number, simulate, true_redshifts
from mmbroker.processors.redshift import ConventionalRedshift
from mmbroker.processors.redshift.refined import RefinedRedshift
from mmbroker.schemas.events import Observation

GALAXIES = 2_000
SEED = 2026
_MIX = Mix(photometry=0.4, photometric_redshift=0.6, continuum=0.0, spectra=0.0, maps=0.0)
_OBSERVATIONS = 8.0
"""The mean number of observations of a galaxy.

With so many, most galaxies have the catalogue's photometry and both redshifts.
"""

_LISTED = (SUPER_DEBLENDED.name, "simulated EAZY", "simulated photometric")
"""What the table of GOODS-N has of a galaxy: photometry, and redshifts by two methods."""


def simulated_sample(galaxies: int, seed: int, conventional: ConventionalRedshift) -> Sample:
    """Simulate galaxies as the table of GOODS-N would list them, with their true redshifts.

    Args:
        galaxies: the number of simulated galaxies. Only those with photometry and both redshifts
            are kept.
        seed: the seed of the simulation.
        conventional: the conventional redshift with which the sample's inputs are made.
    """
    observed: dict[int, dict[str, Observation]] = defaultdict(dict)
    for one in simulate(galaxies, seed, _MIX, observations_per_galaxy=_OBSERVATIONS):
        stated = one.photometric_redshift
        kind = one.instrument if stated is None else stated.method
        observed[galaxy_number(one.observation_id)].setdefault(kind, one)
    truth = true_redshifts(galaxies, seed).tolist()
    listed = [
        RealGalaxy(f"simulated {seed} {number}", [each[kind] for kind in _LISTED], truth[number])
        for number, each in sorted(observed.items())
        if each.keys() >= set(_LISTED)
    ]
    return sample_of(listed, conventional)


def judged(conventional: ConventionalRedshift, model: RefinedRedshift) -> dict[str, Any]:
    """Judge the conventional redshift, with and without templates, and the refined one.

    Args:
        conventional: the conventional redshift with templates.
        model: the refined redshift.
    """
    sample = simulated_sample(GALAXIES, SEED, conventional)
    return {"seed": SEED, **judged_part(sample, None, conventional, model)}
