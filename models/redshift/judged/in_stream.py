"""Says which redshift the stream uses, and judges the one with templates in another field."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from mmbroker.models.real_data.catalogues import cosmos
from mmbroker.models.redshift.baselines.baselines import CONVENTIONAL, WITH_TEMPLATES
from mmbroker.models.redshift.sample import Estimate, judge, sample_of
from mmbroker.processors.redshift import ConventionalRedshift

IN_FORCE = CONVENTIONAL
"""The estimate that the stream's scores use."""


def cosmos_figures(tables: Path, conventional: ConventionalRedshift) -> dict[str, dict[str, Any]]:
    """Judge the conventional redshift in COSMOS, with templates and without.

    Neither was fitted to this table.

    Args:
        tables: the folder of the published tables.
        conventional: the conventional redshift with templates.
    """
    known = [one for one in cosmos(tables) if one.spectroscopic_redshift is not None]
    sample = sample_of(known, conventional)
    estimates = {
        CONVENTIONAL: Estimate.of_densities(sample.inputs.log_continuum, sample.truth),
        WITH_TEMPLATES: Estimate.of_densities(sample.inputs.log_conventional, sample.truth),
    }
    every = {"all": np.ones(len(known), bool)}
    return dict(judge(estimates, sample.truth, every, WITH_TEMPLATES)["all"])
