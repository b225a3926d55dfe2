"""Tunes the conventional constants on the training parts alone, to see what the rest adds.

MMBROKER_DATA=folder/of/tables python -m mmbroker.models.redshift.conventional.tune_on_training
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from mmbroker.models.packaged.networks import WEIGHTS
from mmbroker.models.real_data.catalogues import RealGalaxy, cosmos, goods_north, spt
from mmbroker.models.real_data.folder import add_data_option
from mmbroker.models.real_data.split import TRAIN, split_of
from mmbroker.models.redshift.conventional.tune import Sample, fold_of, tune
from mmbroker.processors.fingerprint.merge import build
from mmbroker.processors.redshift.published import independent


def training_samples(name: str, galaxies: Sequence[RealGalaxy]) -> list[Sample]:
    """Make the samples of a table's training part, see ``samples_of``.

    Args:
        name: the name of the table.
        galaxies: its galaxies.
    """
    return samples_of(name, [one for one in galaxies if split_of(one.name) == TRAIN])


def samples_of(name: str, galaxies: Sequence[RealGalaxy], folds: int = 1) -> list[Sample]:
    """Make samples of galaxies with spectroscopic redshifts, by the number of published ones.

    The last sample has all these galaxies, without their published redshifts.

    Args:
        name: the name of the table.
        galaxies: its galaxies.
        folds: the number of folds that they are assigned to.
    """
    chosen = [one for one in galaxies if one.spectroscopic_redshift]
    built = [build(one.name, one.observations) for one in chosen]
    fingerprints = [
        replace(one, photometric_redshifts=independent(one.photometric_redshifts, dust=True))
        for one in built
    ]
    truth = np.array([one.spectroscopic_redshift for one in chosen], float)
    count = np.array([len(one.photometric_redshifts) for one in fingerprints])
    whole = Sample(name, fingerprints, truth, fold_of([one.name for one in chosen], folds))
    parts = [whole.select(count == number) for number in range(count.max(initial=0), 0, -1)]
    without = [replace(one, photometric_redshifts=[]) for one in fingerprints]
    return [*parts, replace(whole, fingerprints=without)]


def main(arguments: list[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m mmbroker.models.redshift.conventional.tune_on_training", description=__doc__
    )
    add_data_option(parser)
    parser.add_argument("--output", type=Path, default=WEIGHTS / "redshift_constants_training.json")
    options = parser.parse_args(arguments)
    samples = [
        each
        for name, galaxies in (
            ("GOODS-N", goods_north(options.data)),
            ("COSMOS", cosmos(options.data)),
            ("SPT", spt(options.data)),
        )
        for each in training_samples(name, galaxies)
    ]
    content = {
        "how": "As processors/redshift/tuned.json, on the training parts of GOODS-N, COSMOS and "
        "SPT alone (python -m mmbroker.models.redshift.conventional.tune_on_training).",
        "constants": asdict(tune(samples)),
    }
    options.output.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
