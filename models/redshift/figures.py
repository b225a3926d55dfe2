"""Measures every redshift estimator on one part of the galaxies, beside each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from mmbroker.models.redshift import measures
from mmbroker.models.redshift.baselines.baselines import CONVENTIONAL, WITH_TEMPLATES, Baselines
from mmbroker.models.redshift.sample import (
    Estimate,
    Sample,
    far_infrared_alone,
    judge,
    subsets_of,
    without_published,
)
from mmbroker.processors.redshift import ConventionalRedshift
from mmbroker.processors.redshift.refined import Fallback, RefinedRedshift

REFINED = "refined"
WITH_PUBLISHED = "with published"
ALONE = "photometry alone"
FAR_INFRARED = "far infrared alone"
"""The case without published redshifts and without photometry below 60 um; radio stays."""

TEMPLATES_MINUS = "templates minus"
"""The figures of the conventional redshift with templates minus without, of faint galaxies."""

TEMPLATES_MINUS_ALONE = "templates minus, photometry alone"


def judged_part(
    sample: Sample,
    baselines: Baselines | None,
    conventional: ConventionalRedshift,
    model: RefinedRedshift | None = None,
) -> dict[str, Any]:
    """Compute all figures of one part, with published redshifts and with ever less evidence.

    Args:
        sample: the galaxies of the part; those without spectroscopic redshift do not count.
        baselines: the estimators to beat; None for the conventional redshift alone, with templates
            and without.
        conventional: the conventional redshift that the sample's inputs were made with.
        model: the refined redshift; None to leave it out.
    """
    known = np.isfinite(sample.truth)
    both, alone = sample.select((sample.inputs.count == 2) & known), sample.select(known)
    given = {
        WITH_PUBLISHED: both.inputs,
        ALONE: without_published(alone.inputs),
        FAR_INFRARED: far_infrared_alone(alone, conventional).inputs,
    }
    estimates = {
        WITH_PUBLISHED: _conventional(both) if baselines is None else baselines.estimates(both),
        ALONE: {
            CONVENTIONAL: Estimate.of_densities(given[ALONE].log_continuum, alone.truth),
            WITH_TEMPLATES: Estimate.of_densities(given[ALONE].log_photometry, alone.truth),
        },
        FAR_INFRARED: {
            CONVENTIONAL: Estimate.of_densities(given[FAR_INFRARED].log_continuum, alone.truth)
        },
    }
    reasons = {}
    if model is not None:
        for name, inputs in given.items():
            truth = both.truth if name == WITH_PUBLISHED else alone.truth
            found, reasons[name] = model.log_posterior(inputs)
            estimates[name][REFINED] = Estimate.of_densities(found, truth)
    ours = CONVENTIONAL if model is None else REFINED
    subsets, every = subsets_of(both), np.ones(len(alone.truth), bool)
    figures = judge(estimates[WITH_PUBLISHED], both.truth, subsets, ours)
    for name in (ALONE, FAR_INFRARED):
        figures |= judge(estimates[name], alone.truth, {name: every}, ours)
    pair = {name: estimates[WITH_PUBLISHED][name] for name in (CONVENTIONAL, WITH_TEMPLATES)}
    figures[TEMPLATES_MINUS] = judge(pair, both.truth, subsets, WITH_TEMPLATES)["faint"]
    figures[TEMPLATES_MINUS_ALONE] = judge(
        estimates[ALONE], alone.truth, {ALONE: every}, WITH_TEMPLATES
    )[ALONE]
    figures["fallbacks"] = {name: _counts(each) for name, each in reasons.items()}
    return figures


def _conventional(sample: Sample) -> dict[str, Estimate]:
    plain = ConventionalRedshift().log_posterior(sample.fingerprints)
    return {
        CONVENTIONAL: Estimate.of_densities(plain, sample.truth),
        WITH_TEMPLATES: Estimate.of_densities(sample.inputs.log_conventional, sample.truth),
    }


def _counts(reasons: Sequence[Fallback | None]) -> dict[str, int]:
    return {each.value: reasons.count(each) for each in Fallback if each in reasons}


def render(figures: dict[str, Any]) -> str:
    """Write the figures as text, with a line for each estimator of each subset."""
    lines = []
    for subset, estimators in figures.items():
        if subset in ("fallbacks", TEMPLATES_MINUS, TEMPLATES_MINUS_ALONE):
            continue
        lines.append(f"{subset}, n = {next(iter(estimators.values()))['n']}")
        for name, one in estimators.items():
            cells = [f"{key} {one[key][0]:.4f}" for key in measures.MEASURES if key in one]
            lines.append(f"  {name:28s} {'  '.join(cells)}")
    return "\n".join(lines)
