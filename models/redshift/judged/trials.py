"""Tests whether critic and generator at trial redshifts improve a redshift posterior."""

from __future__ import annotations

from typing import Any

import numpy as np

from mmbroker.models.critic.exported import ExportedNetworks
from mmbroker.models.real_data.split import TEST, TRAIN, VALIDATION
from mmbroker.models.redshift.baselines.baselines import CONVENTIONAL, WITH_TEMPLATES
from mmbroker.models.redshift.figures import ALONE, REFINED
from mmbroker.models.redshift.sample import Estimate, Sample, judge, without_published
from mmbroker.models.redshift.trial_redshifts import Curves, combined, curves, exponent, on_grid
from mmbroker.processors.fingerprint.vector import vectors
from mmbroker.processors.redshift.grids import Array
from mmbroker.processors.redshift.refined import RefinedRedshift

CRITIC, GENERATOR = "critic", "generator"
PUBLISHED = "both published redshifts"


def figures(everything: Sample, model: RefinedRedshift) -> dict[str, Any]:
    """Compare every posterior with and without each curve, on the test part.

    Args:
        everything: the galaxies of GOODS-N of all parts.
        model: the refined redshift.

    Returns:
        Figures by which redshifts are there, by posterior and by curve: the ``exponent``, its
        ``gain``, the figures of both together minus those of the posterior, and whether they meet
        the condition (``keeps``).
    """
    known = everything.select(np.isfinite(everything.truth))
    said = curves(ExportedNetworks(), vectors(known.fingerprints))
    both = known.inputs.count == 2
    return {
        PUBLISHED: _each(known.select(both), said.select(both), model, withheld=False),
        ALONE: _each(known, said, model, withheld=True),
    }


def _each(sample: Sample, said: Curves, model: RefinedRedshift, withheld: bool) -> dict[str, Any]:
    found: dict[str, Any] = {}
    test = sample.split == TEST
    for name, log_density in _posteriors(sample, model, withheld).items():
        # The refined redshift's networks know the training part by heart.
        fitted_on = sample.split == (VALIDATION if name == REFINED else TRAIN)
        found[name] = {}
        for network, curve in _grids(said, log_density, sample.truth, fitted_on).items():
            value, gain = exponent(
                log_density[fitted_on], curve[fitted_on], sample.truth[fitted_on]
            )
            truth = sample.truth[test]
            estimates = {
                name: Estimate.of_densities(log_density[test], truth),
                network: Estimate.of_densities(
                    combined(log_density[test], curve[test], value), truth
                ),
            }
            everyone = {"test": np.ones(int(test.sum()), bool)}
            minus = judge(estimates, truth, everyone, network)["test"][name]
            found[name][network] = {
                "exponent": round(value, 3),
                "gain": round(gain, 4),
                "fitted_on": int(fitted_on.sum()),
                **minus,
                "keeps": keeps(minus),
            }
    return found


def _posteriors(sample: Sample, model: RefinedRedshift, withheld: bool) -> dict[str, Array]:
    """The ln of each kind of posterior, shape (N, COARSE)."""
    inputs = without_published(sample.inputs) if withheld else sample.inputs
    return {
        CONVENTIONAL: inputs.log_fallback,
        WITH_TEMPLATES: inputs.log_conventional,
        REFINED: model.log_posterior(inputs)[0],
    }


def _grids(said: Curves, log_density: Array, truth: Array, chosen: Array) -> dict[str, Array]:
    """The curves on the grid, shape (N, COARSE), with the generator's most likely width."""
    candidates = [on_grid(each) for each in said.generator.values()]
    gains = [exponent(log_density[chosen], each[chosen], truth[chosen])[1] for each in candidates]
    return {CRITIC: on_grid(said.critic), GENERATOR: candidates[int(np.argmax(gains))]}


def keeps(one: dict[str, Any]) -> bool:
    """Whether the CRPS falls and no other error rises, each by more than its 95 % interval.

    Args:
        one: figures with differences under a key that ends in ``_minus``.
    """
    minus = next(value for key, value in one.items() if key.endswith("_minus"))
    falls = minus["crps"][2] < 0
    return falls and not any(minus[key][1] > 0 for key in ("mae", "nmad", "outliers"))
