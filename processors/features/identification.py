"""What the lines of a spectrum may be: redshifts at which the CO/[CI]/[CII] ladder explains them.

A candidate redshift takes one of the lines for one of the ladder. It is weighed by how many other
lines then fall on the ladder, by their flux ratios, by lines that should have been seen and were
not, and by how common such redshifts are among dusty galaxies.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from .. import relations
from .patches import Array, Patches
from .tree import Identification, SpectralLine

_NAMES = tuple(relations.LINES_HZ)
_REST_HZ = np.array([relations.LINES_HZ[name] for name in _NAMES])
_LOG_STRENGTH = np.log([relations.LINE_RATIOS[name] for name in _NAMES]) + 2 * np.log(_REST_HZ)
_SCATTER = relations.LINE_RATIO_SCATTER_DEX * np.log(10)

_UNEXPLAINED = 0.1
"""Share of lines that are of something else: another galaxy, another molecule."""

_SPREAD_KM_S = 40.0
"""Lines of one galaxy differ by so much in velocity."""

_PRIOR = (1.1, 0.4)
"""Mean and scatter of ln(1 + z): median redshift 2, wide enough for field and lensed galaxies."""

_LEAST = 0.01
"""Probability below which a candidate is left out."""

_SEEN = 4.5
"""Signal-to-noise ratio at which half of the lines are found."""


@dataclass(frozen=True, slots=True, eq=False)
class Coverage:
    """Where a spectrum would have shown lines, and how well.

    Args:
        frequency_hz: of the observed channels, ascending or not, shape (N,).
        flux_error_jy_km_s: 1 sigma of the flux of a line of 400 km/s there, shape (N,).
        velocity_km_s: that it covers in all.
    """

    frequency_hz: Array
    flux_error_jy_km_s: Array
    velocity_km_s: float

    @classmethod
    def of(cls, patches: Patches) -> Coverage:
        """That of a spectrum."""
        seen = patches.weight > 0
        order = np.argsort(patches.frequency_hz[seen])
        width = patches.width_km_s[seen][order]
        error = patches.level_jy[seen][order] * np.sqrt(width * relations.LINE_WIDTH_KM_S)
        return cls(patches.frequency_hz[seen][order], error, float(width.sum()))

    def errors_at(self, frequency_hz: Array) -> Array:
        """Flux error at each frequency, NaN where nothing was observed within 0.1 %."""
        place = np.searchsorted(self.frequency_hz, frequency_hz).clip(1, len(self.frequency_hz) - 1)
        left, right = self.frequency_hz[place - 1], self.frequency_hz[place]
        nearest = np.where(frequency_hz - left < right - frequency_hz, place - 1, place)
        near = np.abs(self.frequency_hz[nearest] / frequency_hz - 1) < 1e-3
        return np.where(near, self.flux_error_jy_km_s[nearest], np.nan)


def identified(lines: Sequence[SpectralLine], coverage: Coverage) -> list[SpectralLine]:
    """The lines with their candidates, in the same order.

    Args:
        lines: of one spectrum.
        coverage: of that spectrum.
    """
    if not lines:
        return []
    weights: dict[tuple[int, int], tuple[float, float]] = {}
    log_none = sum(_log_unexplained(line) for line in lines)
    for number, line in enumerate(lines):
        for name in range(len(_NAMES)):
            redshift = _REST_HZ[name] / line.frequency_hz - 1
            if redshift > 0:
                log_weight, refined = _log_weight(redshift, lines, coverage)
                weights[number, name] = log_weight, refined
    result = []
    for number, line in enumerate(lines):
        mine = [(name, *each) for (i, name), each in weights.items() if i == number]
        # That this line is of something else leaves the others to their best redshift.
        others = [each[0] for (i, _), each in weights.items() if i != number]
        log_other = max([log_none, *others])
        log_all = np.array([each[1] for each in mine] + [log_other])
        share = np.exp(log_all - log_all.max())
        share /= share.sum()
        candidates = [
            Identification(_NAMES[name], float(redshift), float(probability))
            for (name, _, redshift), probability in zip(mine, share[:-1], strict=True)
            if probability >= _LEAST
        ]
        candidates.sort(key=lambda each: -each.probability)
        result.append(replace(line, identifications=tuple(candidates)))
    return result


def _log_unexplained(line: SpectralLine) -> float:
    return float(np.log(1 - line.probability * (1 - _UNEXPLAINED)))


def _log_weight(
    redshift: float, lines: Sequence[SpectralLine], coverage: Coverage
) -> tuple[float, float]:
    """The ln of the weight of a redshift, and that redshift from all lines it explains."""
    expected = _REST_HZ / (1 + redshift)
    matched: list[tuple[int, SpectralLine, float]] = []
    log_weight = 0.0
    taken: set[int] = set()
    for line in lines:
        velocity = relations.SPEED_OF_LIGHT_KM_S * np.log(expected / line.frequency_hz)
        name = int(np.abs(velocity).argmin())
        error = relations.SPEED_OF_LIGHT_KM_S * line.frequency_error_hz / line.frequency_hz
        total = float(np.hypot(error, _SPREAD_KM_S))
        if abs(velocity[name]) < 3.5 * total and name not in taken:
            taken.add(name)
            matched.append((name, line, total))
            log_weight += np.log(max(line.probability, 1e-6))
        else:
            log_weight += _log_unexplained(line)
    shift = np.array([np.log(_REST_HZ[name] / line.frequency_hz) for name, line, _ in matched])
    spread = np.array([each for _, _, each in matched]) / relations.SPEED_OF_LIGHT_KM_S
    weight = spread**-2
    mean = float((weight * shift).sum() / weight.sum())
    # Agreement in velocity beyond what chance would bring over the spectrum, once for all lines.
    chance = coverage.velocity_km_s / relations.SPEED_OF_LIGHT_KM_S
    density = -0.5 * ((shift - mean) / spread) ** 2 - np.log(spread * np.sqrt(2 * np.pi) / chance)
    log_weight += float(density.sum()) - np.log(chance * np.sqrt(weight.sum() / (2 * np.pi)))
    log_weight += _log_ratios(matched, expected, coverage)
    centre, scatter = _PRIOR
    log_weight += -0.5 * ((np.log1p(redshift) - centre) / scatter) ** 2
    return log_weight, float(np.expm1(mean))


def _log_ratios(
    matched: Sequence[tuple[int, SpectralLine, float]], expected: Array, coverage: Coverage
) -> float:
    """The ln of how well the fluxes, and what is missing, go with the ladder."""
    names = np.array([name for name, _, _ in matched])
    brightness = np.log([line.flux_jy_km_s for _, line, _ in matched]) - _LOG_STRENGTH[names]
    relative = np.array([line.flux_error_jy_km_s / line.flux_jy_km_s for _, line, _ in matched])
    variance = relative**2 + _SCATTER**2
    mean = float((brightness / variance).sum() / (1 / variance).sum())
    log_weight = float((-0.5 * (brightness - mean) ** 2 / variance).sum())
    # Relative to any ratio within a factor of ten either way.
    any_ratio = float(np.log(np.log(100.0)))
    log_weight -= 0.5 * float(np.log(2 * np.pi * variance).sum()) - any_ratio * (len(names) - 1)
    log_weight += 0.5 * float(np.log(2 * np.pi / (1 / variance).sum()))
    error = coverage.errors_at(expected)
    for name in np.flatnonzero(np.isfinite(error)):
        if name not in names:
            ratio = np.exp(mean + _LOG_STRENGTH[name]) / error[name]
            # A line is missed for its noise or because the ladder scatters.
            log_weight += float(np.log(1 / (1 + (ratio / _SEEN) ** 3) + 0.02))
    return log_weight
