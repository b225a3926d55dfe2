"""Recognise by their places, in any table, the galaxies that redshifts were learned from.

``python -m mmbroker.models.redshift.learned_from`` writes their places beside the
weights.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
from astropy import units
from astropy.coordinates import SkyCoord
from numpy.typing import NDArray

from mmbroker.models.packaged.arrays import read_packaged, write_packaged
from mmbroker.models.packaged.networks import WEIGHTS
from mmbroker.models.real_data.catalogues import RealGalaxy, goods_north, zcosmos
from mmbroker.models.real_data.folder import add_data_option
from mmbroker.models.real_data.split import TRAIN, VALIDATION, split_of

NAME = "learned_from"
COMMAND = "python -m mmbroker.models.redshift.learned_from"

PARTS = {goods_north: (TRAIN, VALIDATION), zcosmos: (TRAIN,)}
"""Templates, stacks and trees are fitted to the training parts, in zCOSMOS templates alone; the
refined redshift is trained on the training part of GOODS-N and was chosen on its validation
part."""

SAME_ARCSEC = 1.0
"""What is nearer than this to one of these galaxies is the same: of the galaxies of the same
tables that are in other parts, 0 of 116 in GOODS-N and 1 of 1,647 in zCOSMOS are that near to one,
and of those of the far-infrared table of COSMOS none of 314."""


def learned_from(folder: Path) -> list[RealGalaxy]:
    """The galaxies with a spectroscopic redshift that redshifts are learned from.

    Args:
        folder: with the tables.
    """
    return [
        galaxy
        for read, parts in PARTS.items()
        for galaxy in read(folder)
        if galaxy.spectroscopic_redshift is not None and split_of(galaxy.name) in parts
    ]


def was_learned_from(
    right_ascension_deg: Sequence[float], declination_deg: Sequence[float]
) -> NDArray[np.bool_]:
    """Which galaxies redshifts were learned from, by their places; shape (galaxies,)."""
    places = SkyCoord(right_ascension_deg, declination_deg, unit=units.deg)
    _, separation, _ = places.match_to_catalog_sky(_packaged())
    return np.asarray(separation < SAME_ARCSEC * units.arcsec)


@cache
def _packaged() -> SkyCoord:
    arrays, _ = read_packaged(WEIGHTS, NAME, COMMAND)
    return SkyCoord(arrays["right_ascension_deg"], arrays["declination_deg"], unit=units.deg)


def write(folder: Path, output: Path) -> None:
    """Write the places of these galaxies and a card.

    Args:
        folder: with the tables.
        output: where weights are.
    """
    galaxies = learned_from(folder)
    places = [each.observations[0] for each in galaxies]
    arrays = {
        name: np.array([getattr(each, name) for each in places])
        for name in ("right_ascension_deg", "declination_deg")
    }
    counts = Counter(each.name.split(" ")[0] for each in galaxies)
    about = "Places of the galaxies that templates, stacks, trees and refined redshifts rest on."
    write_packaged(output, NAME, arrays, {"name": NAME, "about": about, "galaxies": counts})


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog=COMMAND, description=__doc__)
    add_data_option(parser)
    parser.add_argument("--output", type=Path, default=WEIGHTS, help="folder for weights")
    options = parser.parse_args(arguments)
    write(options.data, options.output)


if __name__ == "__main__":
    main()
