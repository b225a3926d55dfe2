"""Explain why the refined redshift meets its targets or not, by outliers and by the others."""

from __future__ import annotations

import numpy as np

from mmbroker.models.redshift import measures
from mmbroker.models.redshift.baselines.baselines import TEMPLATES, Baselines, is_published
from mmbroker.models.redshift.figures import REFINED
from mmbroker.models.redshift.sample import Estimate, Sample
from mmbroker.processors.redshift.grids import Array
from mmbroker.processors.redshift.refined import RefinedRedshift

IMPROVEMENT = -0.20
"""Of the MAE, that the protocol asks for."""


def targets(sample: Sample, baselines: Baselines, model: RefinedRedshift) -> dict[str, float]:
    """What makes the MAE of faint galaxies with both published redshifts.

    Args:
        sample: of one part of the split.
        baselines: with the best published redshift among them.
        model: the refined redshift.
    """
    known = np.isfinite(sample.truth) & (sample.inputs.count == 2) & sample.faint
    judged = sample.select(known)
    estimates = baselines.estimates(judged)
    log_posterior, _ = model.log_posterior(judged.inputs)
    estimates[REFINED] = Estimate.of_densities(log_posterior, judged.truth)
    deltas = {
        name: measures.deviation(one.redshift, judged.truth) for name, one in estimates.items()
    }
    published = min(
        (each for name, each in deltas.items() if is_published(name)),
        key=lambda each: float(measures.mae(each)),
    )
    return measured(published, deltas[REFINED], deltas[TEMPLATES])


def measured(published: Array, refined: Array, templates: Array) -> dict[str, float]:
    """The figures that the explanation rests on.

    Args:
        published: Δ of the best published redshift, shape (galaxies,).
        refined: Δ of the refined one, shape (galaxies,).
        templates: Δ of the template fit alone, shape (galaxies,).
    """
    out = np.abs(published) > measures.OUTLIER
    total = np.abs(published).sum()
    if not out.any():
        raise ValueError("no outlier of the published redshift among these galaxies")
    found = {
        "n": len(published),
        "outliers": out.sum(),
        "mended": (np.abs(refined[out]) <= measures.OUTLIER).sum(),
        "share of MAE": np.abs(published[out]).sum() / total,
        "outliers, published": measures.mae(published[out]),
        "outliers, refined": measures.mae(refined[out]),
        "others, published": measures.mae(published[~out]),
        "others, refined": measures.mae(refined[~out]),
        "others would need": IMPROVEMENT * total / np.abs(published[~out]).sum(),
        "correlation": np.corrcoef(published[~out], refined[~out])[0, 1],
        "nmad, published": measures.nmad(published),
        "nmad, templates": measures.nmad(templates),
    }
    return {name: round(float(value), 4) for name, value in found.items()}
