"""What templates say of galaxies that they were not fitted to, on the real tables, in miniature."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mmbroker.models.packaged.templates import load_templates
from mmbroker.models.real_data.catalogues import goods_north
from mmbroker.models.real_data.split import TRAIN
from mmbroker.models.redshift.baselines.held_out import FOLDS, held_out
from mmbroker.models.redshift.sample import Sample, sample_of
from mmbroker.models.redshift.templates.library import Library, load_library
from mmbroker.models.redshift.templates.train import Examples, Recipe
from mmbroker.processors.redshift import ConventionalRedshift

RECIPE = Recipe(from_goods=4, from_zcosmos=2, zcosmos_galaxies=40, folds=2, steps=3)


@pytest.fixture(scope="module")
def conventional() -> ConventionalRedshift:
    return ConventionalRedshift().with_templates(load_templates())


@pytest.fixture(scope="module")
def training(shared_data: Path, conventional: ConventionalRedshift) -> Sample:
    known = [one for one in goods_north(shared_data) if one.spectroscopic_redshift][:120]
    sample = sample_of(known, conventional)
    return sample.select((sample.split == TRAIN) & (sample.inputs.count > 0))


@pytest.fixture(scope="module")
def examples(shared_data: Path, training: Sample) -> Examples:
    every = Examples.read(shared_data, RECIPE, _few(load_library()))
    names = {one.name for one in training.galaxies}
    some = [one.galaxy_id in names for one in every.goods.known.fingerprints]
    return replace(every, goods=every.goods.select(np.array(some)))


def _few(library: Library) -> Library:
    return replace(library, names=library.names[::4], flux=library.flux[:, :, ::4])


def test_every_training_galaxy_is_in_one_fold(
    training: Sample, examples: Examples, conventional: ConventionalRedshift
) -> None:
    folds = held_out(training, examples, conventional, RECIPE)
    names = [one.name for fold in folds for one in fold.sample.galaxies]
    assert len(folds) == FOLDS
    assert sorted(names) == sorted(one.name for one in training.galaxies)


@pytest.mark.slow
def test_what_templates_say_of_a_galaxy_does_not_hang_on_its_redshift(
    training: Sample, examples: Examples, conventional: ConventionalRedshift
) -> None:
    first, second, *_ = held_out(training, examples, conventional, RECIPE)
    names = {one.name for one in first.sample.galaxies}
    known = examples.goods.known
    mine = np.array([one.galaxy_id in names for one in known.fingerprints])
    wrong = replace(
        examples,
        goods=replace(
            examples.goods,
            known=replace(known, redshift=np.where(mine, 7.0, known.redshift)),
            at_truth=np.where(
                mine[:, None], examples.goods.at_truth[::-1], examples.goods.at_truth
            ),
        ),
    )
    same, other, *_ = held_out(training, wrong, conventional, RECIPE)
    assert mine.any()
    assert (same.sample.inputs.log_templates == first.sample.inputs.log_templates).all()
    assert (same.sample.inputs.log_conventional == first.sample.inputs.log_conventional).all()
    assert (other.sample.inputs.log_templates != second.sample.inputs.log_templates).any()
