"""Identifies the lines of a spectrum by redshifts at which the CO/[CI]/[CII] ladder explains them.

An explanation of a list of lines identifies one of them with one line of the ladder, which fixes
the redshift. Its weight depends on how many other lines then fall on the ladder, on their flux
ratios, on expected lines that were not seen, and on how common the redshift is among dusty
galaxies. One more explanation is that no line belongs to the ladder.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numba import njit
from numpy.typing import NDArray

from mmbroker.processors import relations
from mmbroker.processors.features.patches import Array, Patches
from mmbroker.schemas.events import Identification, ParsedLine

_NAMES = tuple(relations.LINES_HZ)
_REST_HZ = np.array([relations.LINES_HZ[name] for name in _NAMES])
_LOG_STRENGTH = np.log([relations.LINE_RATIOS[name] for name in _NAMES]) + 2 * np.log(_REST_HZ)
_SCATTER = relations.LINE_RATIO_SCATTER_DEX * np.log(10)
_C = relations.SPEED_OF_LIGHT_KM_S

_UNEXPLAINED = 0.1
"""Assumed share of lines outside the ladder: of another galaxy or another molecule."""

_SPREAD = 40.0 / _C
"""Scatter of the lines of one galaxy about its redshift, in ln(frequency)."""

_CENTRE, _WIDTH = 1.1, 0.4
"""Assumed mean and scatter of ln(1 + z): the median redshift is 2, and the scatter is wide enough
for field and lensed galaxies."""

_LEAST = 0.01
"""Probability below which a candidate is left out."""

_SEEN = 4.5
"""Signal-to-noise ratio at which half of the lines are found."""

_ABSENT = 0.02
"""Assumed share of lines that are not seen, however bright the ladder predicts them."""

_LOG_ANY_RATIO = np.log(np.log(100.0))
"""ln of the range of ln(flux) over which unrelated fluxes spread: a factor of ten either way."""


@dataclass(frozen=True, slots=True, eq=False)
class Coverage:
    """The frequencies at which a spectrum would show lines, and how faint ones.

    Attributes:
        frequency_hz: frequencies of the observed channels, ascending, shape (N,).
        flux_error_jy_km_s: 1 sigma error of the flux of a line of typical width there, shape (N,).
        velocity_km_s: total width of the observed channels.
    """

    frequency_hz: Array
    flux_error_jy_km_s: Array
    velocity_km_s: float

    @classmethod
    def of(cls, patches: Patches) -> Coverage:
        """The coverage of a spectrum."""
        seen = patches.weight > 0
        width = patches.width_km_s[seen]
        error = patches.level_jy[seen] * np.sqrt(width * relations.LINE_WIDTH_KM_S)
        return cls(patches.frequency_hz[seen], error, float(width.sum()))


def identified(
    lines: Sequence[ParsedLine], coverage: Coverage, most: int | None = None
) -> list[ParsedLine]:
    """The lines with their candidates, in the same order.

    Args:
        lines: of one spectrum.
        coverage: of that spectrum.
        most: candidates of each, the most probable ones; None for any number.
    """
    if not lines:
        return []
    matched, log_weight, shift, _ = _different(lines, coverage)
    log_weight = log_weight - 0.5 * np.where(
        (matched >= 0).any(axis=1), ((shift - _CENTRE) / _WIDTH) ** 2, 0.0
    )
    rows = np.argsort(-log_weight).tolist()
    share = np.exp(log_weight[rows] - log_weight.max())
    share /= share.sum()
    result = []
    for number, line in enumerate(lines):
        candidates: dict[int, tuple[float, float]] = {}
        for row, probability in zip(rows, share.tolist(), strict=True):
            name = int(matched[row, number])
            if name >= 0:
                # The most probable explanation comes first; its redshift is reported.
                at, sum_before = candidates.get(name, (float(np.expm1(shift[row])), 0.0))
                candidates[name] = at, sum_before + probability
        mine = [
            Identification(_NAMES[name], at, probability)
            for name, (at, probability) in candidates.items()
            if probability >= _LEAST
        ]
        mine.sort(key=lambda each: -each.probability)
        result.append(replace(line, identifications=mine[:most]))
    return result


def log_likelihood(lines: Sequence[ParsedLine], coverage: Coverage, shift: Array) -> Array:
    """The ln of the likelihood of redshifts by a list of lines, up to a constant.

    Args:
        lines: lines of one spectrum, improbable ones included.
        coverage: coverage of that spectrum.
        shift: equidistant grid of ln(1 + z), shape (points,).

    Returns:
        The ln of the likelihood, shape (points,).
    """
    if not lines:
        return np.zeros(len(shift))
    _, log_weight, mean, error = _different(lines, coverage)
    largest = log_weight.max()
    weight = np.exp(log_weight - largest)
    # Blur redshifts by half a step of the grid. The last explanation fits all redshifts alike.
    error = np.hypot(error[:-1], 0.5 * (shift[1] - shift[0]))
    away = (shift[None, :] - mean[:-1, None]) / error[:, None]
    chance = coverage.velocity_km_s / _C
    density = weight[:-1, None] * np.exp(-0.5 * away**2) / error[:, None] / np.sqrt(2 * np.pi)
    return np.asarray(np.log(density.sum(axis=0) * chance + weight[-1]) + largest)


def _different(
    lines: Sequence[ParsedLine], coverage: Coverage
) -> tuple[NDArray[np.int8], Array, Array, Array]:
    """All different explanations; the last is that no line belongs to the ladder.

    An explanation of several lines is found from each of them, but is returned once.

    Returns:
        As ``_explanations``.
    """
    table = np.array(
        [
            (
                line.frequency_hz,
                line.frequency_error_hz / line.frequency_hz,
                line.flux_jy_km_s,
                line.flux_error_jy_km_s / line.flux_jy_km_s,
                line.probability,
            )
            for line in lines
        ]
    )
    found = _explanations(
        table, coverage.frequency_hz, coverage.flux_error_jy_km_s, coverage.velocity_km_s / _C
    )
    matched, log_weight = found[0], found[1]
    best: dict[bytes, int] = {}
    for row in np.argsort(-log_weight, kind="stable").tolist():
        if np.isfinite(log_weight[row]):
            best.setdefault(matched[row].tobytes(), row)
    none = len(log_weight) - 1
    rows = [row for row in best.values() if row != none] + [none]
    return matched[rows], log_weight[rows], found[2][rows], found[3][rows]


@njit(cache=True)
def _explanations(
    lines: Array, covered_hz: Array, error: Array, chance: float
) -> tuple[NDArray[np.int8], Array, Array, Array]:
    """Explain a list of lines by every identification of one of them with a line of the ladder.

    Args:
        lines: frequency, its relative error, flux, its relative error, probability; shape (L, 5).
        covered_hz: observed frequencies, ascending, shape (N,).
        error: flux error at these frequencies, shape (N,).
        chance: total coverage in ln(frequency).

    Returns:
        For L * ladder + 1 explanations: the index into the ladder of each line, -1 for none, shape
        (explanations, L); and the ln of the weight, ln(1 + z), and the error of ln(1 + z), shape
        (explanations,) each. The last explanation is that no line belongs to the ladder. A weight
        is the likelihood with a flat prior of redshift; its ln is -inf if the redshift is not
        positive.
    """
    count, ladder = len(lines), len(_REST_HZ)
    matched = np.full((count * ladder + 1, count), -1, np.int8)
    log_weight = np.full(count * ladder + 1, -np.inf)
    shift_of = np.zeros(count * ladder + 1)
    error_of = np.full(count * ladder + 1, np.inf)
    unexplained = np.log(1 - lines[:, 4] * (1 - _UNEXPLAINED))
    log_weight[count * ladder] = unexplained.sum()
    line_of = np.empty(ladder, np.int64)
    for row in range(count * ladder):
        first, taken_for = row // ladder, row % ladder
        shift = np.log(_REST_HZ[taken_for] / lines[first, 0])
        if shift <= 0:
            continue
        line_of[:] = -1
        total = 0.0
        weight_sum = shift_sum = 0.0
        for number in range(count):
            name, away = -1, np.inf
            for k in range(ladder):
                distance = abs(np.log(_REST_HZ[k] / lines[number, 0]) - shift)
                if distance < away:
                    name, away = k, distance
            spread = np.hypot(lines[number, 1], _SPREAD)
            if away < 3.5 * spread and line_of[name] < 0:
                line_of[name] = number
                matched[row, number] = name
                weight_sum += spread**-2
                shift_sum += np.log(_REST_HZ[name] / lines[number, 0]) * spread**-2
                total += np.log(max(lines[number, 4], 1e-6))
            else:
                total += unexplained[number]
        mean = shift_sum / weight_sum
        # Count only agreement beyond chance; the first line is used up to fix the redshift.
        total -= np.log(chance * np.sqrt(weight_sum / (2 * np.pi)))
        brightness = brightness_weight = 0.0
        for k in range(ladder):
            if line_of[k] >= 0:
                line = lines[line_of[k]]
                spread = np.hypot(line[1], _SPREAD)
                away = np.log(_REST_HZ[k] / line[0]) - mean
                total += -0.5 * (away / spread) ** 2
                total -= np.log(spread * np.sqrt(2 * np.pi) / chance)
                weight = 1 / (line[3] ** 2 + _SCATTER**2)
                brightness += weight * (np.log(line[2]) - _LOG_STRENGTH[k])
                brightness_weight += weight
        brightness /= brightness_weight
        total += 0.5 * np.log(2 * np.pi / brightness_weight) - _LOG_ANY_RATIO
        for k in range(ladder):
            if line_of[k] >= 0:
                line = lines[line_of[k]]
                variance = line[3] ** 2 + _SCATTER**2
                away = np.log(line[2]) - _LOG_STRENGTH[k] - brightness
                total += -0.5 * away**2 / variance - 0.5 * np.log(2 * np.pi * variance)
                total += _LOG_ANY_RATIO
                continue
            expected = _REST_HZ[k] * np.exp(-mean)
            place = np.searchsorted(covered_hz, expected)
            place = min(max(place, 1), len(covered_hz) - 1)
            if expected - covered_hz[place - 1] < covered_hz[place] - expected:
                place -= 1
            if abs(covered_hz[place] / expected - 1) < 1e-3:
                # A line can be missed because of noise, or because the ladder scatters.
                ratio = np.exp(brightness + _LOG_STRENGTH[k]) / error[place]
                total += np.log(1 / (1 + (ratio / _SEEN) ** 3) + _ABSENT)
        log_weight[row] = total
        shift_of[row] = mean
        error_of[row] = weight_sum**-0.5
    return matched, log_weight, shift_of, error_of
