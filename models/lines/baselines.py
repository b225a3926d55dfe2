"""Predicts lines by simpler means: constant ratios, linear regressions, infrared luminosity."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from astropy import constants, units
from numpy.typing import NDArray

from mmbroker.models.real_data.line_tables import LineSample
from mmbroker.processors import relations
from mmbroker.processors.lines.joint import log_luminosity_per_flux
from mmbroker.processors.lines.measure import LINES

Array = NDArray[np.float64]
Integers = NDArray[np.int64]

CONSTANT_NEAREST = "constant ratio, nearest line"
CONSTANT_ALL = "constant ratio, all lines"
LINEAR_NEAREST = "linear regression, nearest line"
LINEAR_ALL = "linear regression, line, L_IR and z"
INFRARED_PUBLISHED = "L_IR–CO relation, published"
INFRARED_REFITTED = "L_IR–CO relation, refitted"
BASELINES = (
    CONSTANT_NEAREST,
    CONSTANT_ALL,
    LINEAR_NEAREST,
    LINEAR_ALL,
    INFRARED_PUBLISHED,
    INFRARED_REFITTED,
)

_FEWEST_PAIRS = 5
_FEWEST_PER_COEFFICIENT = 4

PLANCK_OVER_BOLTZMANN_K_S = (constants.h / constants.k_B).to_value(units.K * units.s)

_LOG_RATIO: Array = np.log10([relations.LINE_RATIOS[name] for name in LINES])


@dataclass(frozen=True, slots=True, eq=False)
class Masked:
    """M lines, each masked in its galaxy.

    Attributes:
        sample: a row for each line, which is its galaxy without the masked line.
        galaxy: the index of the galaxy in the original sample, int64, shape (M,).
        line: the index of the masked line in LINES, int64, shape (M,).
        truth: the measured log10 of L' in K km/s pc2, float64, shape (M,).
        truth_error: its 1 sigma error in dex, float64, shape (M,).
    """

    sample: LineSample
    galaxy: Integers
    line: Integers
    truth: Array
    truth_error: Array

    def __len__(self) -> int:
        return len(self.line)

    def select(self, chosen: Integers) -> Masked:
        """The chosen lines.

        Args:
            chosen: the indices of the chosen lines, int64, shape (m,).
        """
        return Masked(
            self.sample.select(chosen),
            self.galaxy[chosen],
            self.line[chosen],
            self.truth[chosen],
            self.truth_error[chosen],
        )

    @property
    def others(self) -> Integers:
        """The number of other measured lines of the galaxy, int64, shape (M,)."""
        return np.asarray(self.sample.detected.sum(axis=1))


def masked(sample: LineSample) -> Masked:
    """Mask each measured line of a sample in turn.

    Args:
        sample: the galaxies.
    """
    galaxy, line = np.nonzero(sample.detected)
    rows = sample.select(galaxy)
    place = np.arange(len(line)), line
    truth = np.log10(rows.flux[place]) + log_luminosity_per_flux(rows.redshift)[place]
    truth_error = rows.total_error[place] / rows.flux[place] / np.log(10)
    flux, error = rows.flux.copy(), rows.error.copy()
    flux[place], error[place] = 0.0, np.inf
    return Masked(replace(rows, flux=flux, error=error), galaxy, line, truth, truth_error)


def _log_luminosity(sample: LineSample) -> Array:
    """The log10 of L' in K km/s pc2, NaN where it was not measured, shape (N, LINES)."""
    measured = np.where(sample.detected, sample.flux, np.nan)
    return np.asarray(np.log10(measured) + log_luminosity_per_flux(sample.redshift))


class Baselines:
    """The baselines, fitted to a sample.

    Args:
        training: the sample; with an empty one, published numbers are used.
    """

    def __init__(self, training: LineSample) -> None:
        self._value = _log_luminosity(training)
        self._infrared = _infrared(training)
        self._growth = np.log1p(training.redshift)
        difference = self._value[:, :, None] - self._value[:, None, :]
        pairs = np.isfinite(difference).sum(axis=0)
        published = _LOG_RATIO[:, None] - _LOG_RATIO
        known = np.where(pairs >= _FEWEST_PAIRS, difference, 0.0)
        self._ratio = np.where(pairs >= _FEWEST_PAIRS, np.nanmedian(known, axis=0), published)

    def predictions(self, rows: Masked) -> dict[str, Array]:
        """Predict the masked lines by each baseline.

        Args:
            rows: M masked lines.

        Returns:
            The log10 of L' in K km/s pc2 by baseline, float64, shape (M,), NaN where a baseline has
            no data to predict from.
        """
        value = _log_luminosity(rows.sample)
        infrared, growth = _infrared(rows.sample), np.log1p(rows.sample.redshift)
        nearest = nearest_line(rows)
        at = np.arange(len(rows)), np.maximum(nearest, 0)
        reference = np.where(nearest >= 0, value[at], np.nan)
        scaled = value + self._ratio[rows.line]
        count = np.isfinite(scaled).sum(axis=1)
        mean = np.nansum(scaled, axis=1) / np.where(count, count, np.nan)
        constant = reference + self._ratio[rows.line, at[1]]
        linear, linear_all = constant.copy(), constant.copy()
        from_infrared = np.full(len(rows), np.nan)
        for row, (line, near) in enumerate(zip(rows.line, nearest, strict=True)):
            target = self._value[:, line]
            if near >= 0:
                columns = (self._value[:, near], self._infrared, self._growth)
                given = (reference[row], infrared[row], growth[row])
                linear[row] = _regression(target, columns[:1], given[:1], constant[row])
                linear_all[row] = _regression(target, columns, given, linear[row])
            if np.isfinite(infrared[row]):
                published = float(_published(infrared, rows.line)[row])
                from_infrared[row] = _regression(
                    target, (self._infrared,), (infrared[row],), published
                )
        return {
            CONSTANT_NEAREST: constant,
            CONSTANT_ALL: mean,
            LINEAR_NEAREST: linear,
            LINEAR_ALL: linear_all,
            INFRARED_PUBLISHED: _published(infrared, rows.line),
            INFRARED_REFITTED: from_infrared,
        }


def nearest_line(rows: Masked) -> Integers:
    """The measured line that is nearest in upper-level energy to the masked one.

    Args:
        rows: M masked lines.

    Returns:
        The index in LINES, -1 if no other line was measured; int64, shape (M,).
    """
    energy = np.log(upper_energy_k())
    apart = np.abs(energy - energy[rows.line][:, None])
    apart = np.where(rows.sample.detected, apart, np.inf)
    return np.where(rows.sample.detected.any(axis=1), apart.argmin(axis=1), -1)


def upper_energy_k() -> Array:
    """The energy of the upper level of each line over k_B, in K, float64, shape (LINES,).

    The lines of the comb are the steps of three ladders: the energy of a level is the sum of the
    photons' energies up to it.
    """
    quantum = {name: PLANCK_OVER_BOLTZMANN_K_S * hz for name, hz in relations.LINES_HZ.items()}
    energies = []
    for name in LINES:
        species = name.split("(")[0]
        below = [one for one in LINES[: LINES.index(name) + 1] if one.split("(")[0] == species]
        energies.append(sum(quantum[one] for one in below))
    return np.array(energies)


def _published(infrared: Array, line: Integers) -> Array:
    first = (infrared - relations.CO_LUMINOSITY_INTERCEPT) / relations.CO_LUMINOSITY_SLOPE
    return np.asarray(first + _LOG_RATIO[line])


def _infrared(sample: LineSample) -> Array:
    return np.where(np.isfinite(sample.infrared_error), sample.log_infrared, np.nan)


def _regression(
    target: Array, columns: tuple[Array, ...], given: tuple[float, ...], otherwise: float
) -> float:
    """Predict by least squares on the columns known of the galaxy, if enough others have them."""
    chosen = [column for column, one in zip(columns, given, strict=True) if np.isfinite(one)]
    known = [one for one in given if np.isfinite(one)]
    while chosen:
        table = np.column_stack([np.ones(len(target)), *chosen])
        both = np.isfinite(table).all(axis=1) & np.isfinite(target)
        if both.sum() >= _FEWEST_PER_COEFFICIENT * table.shape[1]:
            fitted, *_ = np.linalg.lstsq(table[both], target[both], rcond=None)
            return float(fitted @ [1.0, *known])
        # The last column is left out first, which is the redshift.
        chosen, known = chosen[:-1], known[:-1]
    return otherwise
