"""Which redshift the stream uses, and what speaks for another: said on both pages on redshifts."""

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
    """Figures of COSMOS, with templates and without: a field that neither was fitted in.

    Args:
        tables: folder of the published tables.
        conventional: with templates.
    """
    known = [one for one in cosmos(tables) if one.spectroscopic_redshift is not None]
    sample = sample_of(known, conventional)
    estimates = {
        CONVENTIONAL: Estimate.of_densities(sample.inputs.log_continuum, sample.truth),
        WITH_TEMPLATES: Estimate.of_densities(sample.inputs.log_conventional, sample.truth),
    }
    every = {"all": np.ones(len(known), bool)}
    return dict(judge(estimates, sample.truth, every, WITH_TEMPLATES)["all"])


def scores_use() -> str:
    """What the stream uses."""
    return (
        f"Scores, ranks and alerts use the redshift that is called *{IN_FORCE}* here "
        "(`streams/stages/asked.py`). The refined one stands beside it in a scored galaxy, as "
        "`refined_redshift`, and nothing else depends on it."
    )


def where_nothing_is_published(
    alone: dict[str, dict[str, Any]], elsewhere: dict[str, dict[str, Any]]
) -> str:
    """What templates would gain where nothing is published, and why they are not used.

    Args:
        alone: figures of the test part of GOODS-N, published redshifts withheld.
        elsewhere: those of ``cosmos_figures``.
    """
    plain, fitted = alone[CONVENTIONAL], alone[WITH_TEMPLATES]
    covers, low, high = (100 * one for one in elsewhere[WITH_TEMPLATES]["coverage68"])
    return (
        "Where nothing is published, *conventional with templates* would be much better in "
        f"GOODS-N: on the test part its MAE is {fitted['mae'][0]:.4f} against "
        f"{plain['mae'][0]:.4f}, and its 68 % intervals cover "
        f"{100 * fitted['coverage68'][0]:.0f} %. But elsewhere the template fit is not "
        f"calibrated: of {elsewhere[WITH_TEMPLATES]['n']} far-infrared sources of COSMOS, most "
        f"with 13 bands from the far ultraviolet to 24 µm, its 68 % intervals cover {covers:.0f} % "
        f"({low:.0f}–{high:.0f}), those of the conventional redshift "
        f"{100 * elsewhere[CONVENTIONAL]['coverage68'][0]:.0f} %; MAE is "
        f"{elsewhere[WITH_TEMPLATES]['mae'][0]:.4f} against "
        f"{elsewhere[CONVENTIONAL]['mae'][0]:.4f}. A score acts on the posterior: until intervals "
        "hold what they state, the stream does without templates."
    )
