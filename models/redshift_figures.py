"""Figures of every redshift estimator on one part of the galaxies, beside each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from processors import metrics
from processors.redshift import ConventionalRedshift
from processors.redshift.refined import Refined

from .redshift_baselines import CONVENTIONAL, WITH_TEMPLATES, Baselines
from .redshift_sample import Estimate, Sample, judge, subsets_of, without_published

REFINED = "refined"
ALONE = "photometry alone"
TEMPLATES_MINUS = "templates minus"
"""Of the conventional redshift with templates, on the faint galaxies."""

TEMPLATES_MINUS_ALONE = "templates minus, photometry alone"


def judged_part(
    sample: Sample,
    baselines: Baselines,
    conventional: ConventionalRedshift,
    model: Refined | None = None,
) -> dict[str, Any]:
    """All figures of one part: with published redshifts, and once more with photometry alone.

    Args:
        sample: galaxies of the part, with spectroscopic redshifts or without.
        baselines: the estimators to beat.
        conventional: that the sample's inputs were made with.
        model: the refined redshift, left out without it.
    """
    both = sample.select((sample.inputs.count == 2) & np.isfinite(sample.truth))
    alone = sample.select(np.isfinite(sample.truth))
    inputs = without_published(alone.inputs)
    estimates = baselines.estimates(both)
    without = {
        CONVENTIONAL: Estimate.of_densities(inputs.log_continuum, alone.truth),
        WITH_TEMPLATES: Estimate.of_densities(inputs.log_photometry, alone.truth),
    }
    reasons: dict[str, list[str]] = {}
    if model is not None:
        found, reasons["with published"] = model.log_posterior(both.inputs)
        estimates[REFINED] = Estimate.of_densities(found, both.truth)
        found, reasons[ALONE] = model.log_posterior(inputs)
        without[REFINED] = Estimate.of_densities(found, alone.truth)
    subsets = subsets_of(both)
    everything = {ALONE: np.ones(len(alone.truth), bool)}
    ours = CONVENTIONAL if model is None else REFINED
    figures = judge(estimates, both.truth, subsets, ours)
    figures |= judge(without, alone.truth, everything, ours)
    pair = {name: estimates[name] for name in (CONVENTIONAL, WITH_TEMPLATES)}
    figures[TEMPLATES_MINUS] = judge(pair, both.truth, subsets, WITH_TEMPLATES)["faint"]
    figures[TEMPLATES_MINUS_ALONE] = judge(without, alone.truth, everything, WITH_TEMPLATES)[ALONE]
    figures["fallbacks"] = {name: _counts(each) for name, each in reasons.items()}
    return figures


def _counts(reasons: Sequence[str]) -> dict[str, int]:
    return {reason: reasons.count(reason) for reason in sorted(set(reasons)) if reason}


def render(figures: dict[str, Any]) -> str:
    """A few lines for each subset."""
    lines = []
    for subset, estimators in figures.items():
        if subset in ("fallbacks", TEMPLATES_MINUS, TEMPLATES_MINUS_ALONE):
            continue
        lines.append(f"{subset}, n = {next(iter(estimators.values()))['n']}")
        for name, one in estimators.items():
            cells = [f"{key} {one[key][0]:.4f}" for key in metrics.MEASURES if key in one]
            lines.append(f"  {name:28s} {'  '.join(cells)}")
    return "\n".join(lines)
