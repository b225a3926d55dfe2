"""Fits templates to folds of the training galaxies, so that each galaxy gets a fit without it.

Stacks that are fitted to galaxies which the templates were fitted to would favour the templates. So
the training part is dealt into folds, and templates are fitted anew without each of them: which
templates, how common they are, prior, exponents. Galaxies of zCOSMOS are in every fit. All takes
half a minute.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from mmbroker.models.redshift.sample import Sample
from mmbroker.models.redshift.templates.train import Examples, Recipe, fit_with_exponents
from mmbroker.processors.redshift import ConventionalRedshift, refined
from mmbroker.processors.redshift.templates import TemplateFit

FOLDS = 5


@dataclass(frozen=True, slots=True, eq=False)
class HeldOut:
    """A fold of the training galaxies, with a template fit that did not see them.

    Attributes:
        sample: the galaxies, with spectroscopic and published redshifts; their inputs are made with
            ``template_fit``.
        template_fit: the template fit.
    """

    sample: Sample
    template_fit: TemplateFit


def held_out(
    training: Sample,
    examples: Examples,
    conventional: ConventionalRedshift,
    recipe: Recipe,
    seed: int = 0,
) -> list[HeldOut]:
    """Deal galaxies into folds, and fit templates without each fold.

    Args:
        training: galaxies with spectroscopic redshifts.
        examples: the galaxies that templates are fitted to.
        conventional: the conventional redshift that the template fits are added to.
        recipe: how to fit templates.
        seed: the seed of the folds.
    """
    fold = np.random.default_rng(seed).permutation(len(training.truth)) % FOLDS
    found = []
    for number in range(FOLDS):
        left_out = training.select(fold == number)
        others = examples.without({one.name for one in left_out.galaxies})
        template_fit = TemplateFit(fit_with_exponents(others, recipe))
        fitted = conventional.with_templates(template_fit)
        inputs = refined.inputs_of(left_out.fingerprints, fitted)
        found.append(HeldOut(replace(left_out, inputs=inputs), template_fit))
    return found
