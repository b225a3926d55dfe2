"""Says which transition a single line is, by what lines are found in.

One line alone fits every transition, each at a redshift of its own. How probable they are depends
on what is observed, and found, at which frequency and flux: so it is read off published lines of
galaxies of known redshift. The density of the lines found in a transition, over ln(1 + z) and
ln(flux), is smoothed by Gaussians and tabulated; see ``models.redshift.transitions``.
"""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from functools import cached_property
from importlib import resources

import numpy as np
from numpy.typing import NDArray

from mmbroker.processors import relations
from mmbroker.processors.frequency_grid import LOG_STEP
from mmbroker.processors.redshift.grids import FINE_POINTS, Array, Array32
from mmbroker.processors.redshift.spectral_lines import DetectedLine

NAMES = tuple(relations.LINES_HZ)
"""The transitions, ascending in frequency."""

LOG_REDSHIFT: Array = np.arange(0.0, 2.5, 0.04)
"""ln(1 + z) at which the density is tabulated, shape (redshifts,)."""

LOG_FLUX: Array = np.arange(np.log(0.01), np.log(3e4), 0.4)
"""ln(flux / (Jy km/s)) at which the density is tabulated, shape (fluxes,)."""

REAL_SIGNAL_TO_NOISE, REAL = (5.0, 9.0, 12.0, 20.0, 30.0), (0.59, 0.66, 0.73, 0.95, 0.99)
"""How often a single feature of a spectrum is a line of the galaxy, by its signal-to-noise ratio.

A line drawn by eye through what was counted in 1,057 simulated spectra with one significant feature
(seeds 11 and 12 of ``models.simulation.observations``, whose noise has ripples and bad channels):
61, 63, 56, 54, 71, 73, 96 and 100 % from 5, 5.5, 6, 7, 8, 10, 15 and 30 on. No real spectra are at
hand to count in."""

_REST_HZ: Array = np.array(list(relations.LINES_HZ.values()))
_WINDOW = 4  # fine cells on either side of a redshift at which the line is a transition


@dataclass(frozen=True, eq=False)
class Transitions:
    """How many lines are found in each transition, by redshift and flux.

    Attributes:
        density: lines per unit of ln(1 + z) and of ln(flux), above 0, float32, shape (transitions,
            redshifts, fluxes).
    """

    density: Array32

    @cached_property
    def identity(self) -> str:
        """Hash of the density, hexadecimal."""
        return hashlib.blake2b(self.density.tobytes(), digest_size=8).hexdigest()

    def shares(self, frequency_hz: float, flux_jy_km_s: float) -> tuple[Array, Array]:
        """The transitions that a line may be.

        Args:
            frequency_hz: observed frequency of the line.
            flux_jy_km_s: its flux.

        Returns:
            ln(1 + z) of each transition, negative where it cannot be; and how probable each is;
            both of shape (transitions,).
        """
        place = np.log(_REST_HZ / frequency_hz)
        row = np.clip(place / (LOG_REDSHIFT[1] - LOG_REDSHIFT[0]), 0, len(LOG_REDSHIFT) - 1.001)
        log_flux = np.log(max(flux_jy_km_s, 1e-6))
        column = (log_flux - LOG_FLUX[0]) / (LOG_FLUX[1] - LOG_FLUX[0])
        column = min(max(float(column), 0.0), len(LOG_FLUX) - 1.001)
        upper, left = row.astype(int), int(column)
        down, right = row - upper, column - left
        line = np.arange(len(NAMES))
        corners = [
            self.density[line, upper + step, left] * (1 - right)
            + self.density[line, upper + step, left + 1] * right
            for step in (0, 1)
        ]
        found = np.where(place >= 0, corners[0] * (1 - down) + corners[1] * down, 0.0)
        return place, found / max(found.sum(), 1e-300)

    def applied(self, probability: Array, prior: Array, line: DetectedLine) -> Array:
        """A posterior by one line alone, in which each transition has its share.

        The share takes the place of the prior of redshift. What the rest of the spectrum says for
        or against a transition, by lines that are not seen, stays. All transitions together have
        the probability that the feature is a line at all, see ``REAL``.

        Args:
            probability: the posterior on the fine grid, shape (FINE_POINTS,), of sum 1.
            prior: the posterior without the spectrum, likewise.
            line: the line.

        Returns:
            The posterior, of sum 1, shape (FINE_POINTS,).
        """
        place, share = self.shares(line.frequency_hz, line.flux_jy_km_s)
        nearest = _nearest(place)
        inside = nearest >= 0
        owner = nearest[inside]
        mass = np.bincount(owner, probability[inside], len(NAMES))
        before = np.bincount(owner, prior[inside], len(NAMES))
        wanted = share * mass / np.maximum(before, 1e-300)
        if not wanted.sum() > 0:
            return probability
        real = float(np.interp(line.signal_to_noise, REAL_SIGNAL_TO_NOISE, REAL))
        wanted *= real / wanted.sum()
        result = probability * (1 - real) / max(1 - mass.sum(), 1e-300)
        result[inside] = probability[inside] * (wanted / np.maximum(mass, 1e-300))[owner]
        return np.asarray(result / result.sum())


def _nearest(place: Array) -> NDArray[np.int64]:
    """The transition that each fine cell belongs to, -1 for none, shape (FINE_POINTS,)."""
    distance = np.full(FINE_POINTS, _WINDOW + 1.0)
    owner = np.full(FINE_POINTS, -1)
    for number, cell in enumerate((place / LOG_STEP).tolist()):
        if not -_WINDOW <= cell < FINE_POINTS + _WINDOW:
            continue
        cells = np.arange(
            max(round(cell) - _WINDOW, 0), min(round(cell) + _WINDOW + 1, FINE_POINTS)
        )
        nearer = np.abs(cells - cell) < distance[cells]
        owner[cells[nearer]] = number
        distance[cells[nearer]] = np.abs(cells[nearer] - cell)
    return owner


def packaged_transitions() -> Transitions:
    """The density in force, from ``transitions.npz`` beside this module."""
    data = resources.files(__package__).joinpath("transitions.npz").read_bytes()
    with np.load(io.BytesIO(data)) as arrays:
        return Transitions(np.asarray(arrays["density"], np.float32))
