"""Fits the density of the lines found in each transition: ``processors/redshift/transitions.npz``.

It is fitted to the CO, [CI] and [CII] lines of galaxies in DIGAME and of Yang et al. 2017.

MMBROKER_DATA=folder/of/tables python -m mmbroker.models.redshift.transitions.fit
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mmbroker.models.real_data.folder import add_data_option
from mmbroker.models.real_data.line_tables import DETECTED, LineSample, read_lines
from mmbroker.processors.lines.measure import LINES
from mmbroker.processors.redshift import transitions
from mmbroker.processors.redshift.transitions import LOG_FLUX, LOG_REDSHIFT, NAMES, Transitions

Array = NDArray[np.float64]

PATH = Path(transitions.__file__).with_name("transitions.npz")

WIDTH_REDSHIFT, WIDTH_FLUX = 0.1, 1.0
"""Widths of the Gaussians in ln(1 + z) and ln(flux)."""

FLOOR = 0.05
"""Lines of each transition beside those found, in units of the peak of one Gaussian, everywhere."""


@dataclass(frozen=True, slots=True, eq=False)
class FoundLines:
    """N lines of galaxies; arrays have shape (N,).

    Attributes:
        galaxy: the name of the galaxy.
        transition: index into ``NAMES``.
        redshift: redshift of the galaxy.
        flux: in Jy km/s.
    """

    galaxy: NDArray[np.str_]
    transition: NDArray[np.int64]
    redshift: Array
    flux: Array

    def select(self, chosen: NDArray[np.bool_]) -> FoundLines:
        """The chosen lines."""
        return FoundLines(
            self.galaxy[chosen], self.transition[chosen], self.redshift[chosen], self.flux[chosen]
        )


def found_lines(sample: LineSample) -> FoundLines:
    """The lines of a sample that were detected."""
    galaxy, line = np.nonzero(sample.flux >= DETECTED * sample.error)
    place = np.array([NAMES.index(name) for name in LINES])
    return FoundLines(
        np.array(sample.names)[galaxy],
        place[line],
        sample.redshift[galaxy],
        sample.flux[galaxy, line],
    )


def fit(lines: FoundLines) -> Transitions:
    """The density of some lines."""
    density = np.full((len(NAMES), len(LOG_REDSHIFT), len(LOG_FLUX)), FLOOR)
    by_redshift = _gaussians(LOG_REDSHIFT, np.log1p(lines.redshift), WIDTH_REDSHIFT)
    by_flux = _gaussians(LOG_FLUX, np.log(lines.flux), WIDTH_FLUX)
    for number in range(len(NAMES)):
        own = lines.transition == number
        density[number] += by_redshift[own].T @ by_flux[own]
    return Transitions(density.astype(np.float32))


def _gaussians(grid: Array, centres: Array, width: float) -> Array:
    """Gaussians of peak 1, shape (centres, grid)."""
    return np.asarray(np.exp(-0.5 * np.square((grid - centres[:, None]) / width)))


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m mmbroker.models.redshift.transitions.fit",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_data_option(parser)
    parser.add_argument("--path", type=Path, default=PATH, help="the file to write")
    options = parser.parse_args(arguments)
    np.savez_compressed(options.path, density=fit(found_lines(read_lines(options.data))).density)


if __name__ == "__main__":
    main()
