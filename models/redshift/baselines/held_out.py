"""Give each training galaxy what templates say of it that were fitted without it.

Weights of stacks fitted to galaxies that the templates had been fitted to would favour the
templates. So the training part is dealt into folds, templates are fitted anew without each of them,
with all that is fitted in GOODS-N: which templates and how common, prior, exponents; what zCOSMOS
gives stays. That takes half a minute.
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
    """A fold of the training galaxies, with what is known without them.

    Attributes:
        sample: the galaxies, with spectroscopic and published redshifts; their inputs are those of
            ``template_fit``.
        template_fit: templates that were not fitted to them.
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
    """The folds of some galaxies, each with a template fit that saw none of it.

    Args:
        training: galaxies with spectroscopic redshifts.
        examples: what templates are fitted to.
        conventional: the redshift that the template fits are added to.
        recipe: of the template fits.
        seed: of the folds.
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
