"""Training galaxies with what templates that were fitted without them say of each.

Weights of stacks fitted to galaxies that the templates had been fitted to would favour the
templates. So the training part is dealt into folds, templates are fitted anew without each of them,
with all that is fitted in GOODS-N: which templates and how common, prior, exponents; what zCOSMOS
gives stays. That takes half a minute.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from processors.redshift import ConventionalRedshift, refined
from processors.redshift.templates import TemplateFit

from .redshift_baselines import Baselines, HeldOut
from .redshift_sample import Sample
from .train_templates import Examples, Recipe, fit_with_exponents
from .training_data import TRAIN

FOLDS = 5


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
        fitted = conventional.with_templates(TemplateFit(fit_with_exponents(others, recipe)))
        inputs = refined.inputs_of(left_out.fingerprints, fitted)
        found.append(HeldOut(replace(left_out, inputs=inputs), fitted))
    return found


def fitted_baselines(
    everything: Sample, conventional: ConventionalRedshift, tables: Path, seed: int = 0
) -> Baselines:
    """The baselines fitted on the training part of GOODS-N.

    Args:
        everything: galaxies of GOODS-N.
        conventional: the redshift with the templates in force.
        tables: folder of the published tables; templates need those of COSMOS as well.
        seed: of trees and folds.
    """
    training = everything.select(
        (everything.split == TRAIN) & np.isfinite(everything.truth) & (everything.inputs.count > 0)
    )
    recipe = Recipe()
    examples = Examples.read(tables, recipe)
    folds = held_out(training, examples, conventional, recipe, seed)
    return Baselines(folds, conventional, seed)
