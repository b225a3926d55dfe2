"""Explains why the refined redshift meets its targets or not, by outliers and other galaxies."""

from __future__ import annotations

import numpy as np

from mmbroker.models.redshift import measures
from mmbroker.models.redshift.baselines.baselines import TEMPLATES, Baselines, is_published
from mmbroker.models.redshift.figures import REFINED
from mmbroker.models.redshift.sample import Estimate, Sample
from mmbroker.processors.redshift.grids import Array
from mmbroker.processors.redshift.refined import RefinedRedshift

IMPROVEMENT = -0.20
"""The relative change of the MAE that the protocol asks for."""


def targets(sample: Sample, baselines: Baselines, model: RefinedRedshift) -> dict[str, float]:
    """Explain the MAE of faint galaxies that have both published redshifts.

    Args:
        sample: the galaxies of one part of the split.
        baselines: the baselines, among them the published redshifts.
        model: the refined redshift.

    Returns:
        The figures of ``measured``.

    Raises:
        ValueError: the best published redshift has no outlier among these galaxies.
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
    """Compute the figures on which the explanation rests.

    Args:
        published: Δ of the best published redshift, shape (galaxies,).
        refined: Δ of the refined one, shape (galaxies,).
        templates: Δ of the template fit alone, shape (galaxies,).

    Raises:
        ValueError: the published redshift has no outlier.
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
