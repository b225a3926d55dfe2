"""Lines by matched filtering: the conventional way, which the parser is compared with.

Gaussians of some widths are run over a spectrum without its continuum; peaks of the signal-to-noise
ratio over position and width are lines. In white noise of known depth nothing finds an isolated
Gaussian line better. Errors are those of a least-squares fit in white noise (the inverse Fisher
matrix of centre, width and amplitude).
"""

from __future__ import annotations

import math

import numpy as np

from ..relations import SPEED_OF_LIGHT_KM_S
from .patches import Array, Patches, filter_signal_to_noise
from .tree import SHAPES, SpectralLine

WIDTHS_KM_S: Array = np.geomspace(80.0, 1400.0, 9)

_FWHM_PER_SIGMA = math.sqrt(8 * math.log(2))
_APART = 0.45  # of the sum of two widths


def matched_filter_lines(
    patches: Patches, least: float = 5.0, robust: bool = False
) -> list[tuple[float, SpectralLine]]:
    """Lines by falling signal-to-noise ratio, each with that ratio.

    Args:
        patches: the spectrum.
        least: least signal-to-noise ratio.
        robust: whether noise is what each filter's output scatters by (median absolute
            deviation), rather than what the stated errors make it, and single bad channels are
            left out.
    """
    weight = _without_bad_channels(patches) if robust else patches.weight
    observed = weight > 0
    ratios = np.empty((len(WIDTHS_KM_S), len(patches.flux_jy)))
    fluxes = np.empty_like(ratios)
    for k, width in enumerate(WIDTHS_KM_S):
        ratios[k], fluxes[k] = filter_signal_to_noise(
            patches.flux_jy, weight, patches.width_km_s, patches.stretch, float(width)
        )
        if robust:
            ratios[k] /= max(float(np.median(np.abs(ratios[k][observed]))) * 1.4826, 0.05)
    best = ratios.max(axis=0)
    found: list[tuple[float, SpectralLine]] = []
    bright = np.flatnonzero(observed & (best >= least))
    for index in bright[np.argsort(-best[bright], kind="stable")].tolist():
        line = _line(patches, ratios, fluxes, index)
        if all(_apart(line, other) for _, other in found):
            found.append((float(best[index]), line))
    return found


def _without_bad_channels(patches: Patches) -> Array:
    """Weights without channels that stand out alone: 5 sigma, and 4 above both neighbours."""
    scaled = np.abs(patches.flux_jy) * np.sqrt(patches.weight)
    around = np.maximum(np.roll(scaled, 1), np.roll(scaled, -1))
    return np.where((scaled > 5) & (scaled > around + 4), 0.0, patches.weight)


def _apart(one: SpectralLine, other: SpectralLine) -> bool:
    distance = abs(math.log(one.frequency_hz / other.frequency_hz)) * SPEED_OF_LIGHT_KM_S
    return distance >= _APART * (one.width_km_s + other.width_km_s)


def _line(patches: Patches, ratios: Array, fluxes: Array, index: int) -> SpectralLine:
    k = int(ratios[:, index].argmax())
    ratio = float(ratios[k, index])
    step = math.log(WIDTHS_KM_S[1] / WIDTHS_KM_S[0])
    inside = 0 < k < len(WIDTHS_KM_S) - 1
    log_width = math.log(WIDTHS_KM_S[k])
    flux = float(fluxes[k, index])
    if inside:
        shift = _top(*(float(ratios[j, index]) for j in (k - 1, k, k + 1)))
        log_width += shift * step
        neighbour = float(fluxes[k + (1 if shift > 0 else -1), index])
        flux += abs(shift) * (neighbour - flux)
    shift = 0.0
    if 0 < index < len(patches.flux_jy) - 1:
        shift = _top(*(float(ratios[k, j]) for j in (index - 1, index, index + 1)))
    width = math.exp(log_width)
    velocity = shift * patches.width_km_s[index]
    # The place in the layout rises with frequency.
    frequency = float(patches.frequency_hz[index]) * (1 + velocity / SPEED_OF_LIGHT_KM_S)
    velocity_error = math.sqrt(2) * width / _FWHM_PER_SIGMA / ratio
    return SpectralLine(
        frequency_hz=frequency,
        frequency_error_hz=velocity_error / SPEED_OF_LIGHT_KM_S * frequency,
        width_km_s=width,
        width_error_km_s=math.sqrt(2) / ratio * width,
        flux_jy_km_s=flux,
        flux_error_jy_km_s=math.sqrt(1.5) / ratio * flux,
        probability=0.5 * (1 + math.erf(ratio / math.sqrt(2))),
        shape=SHAPES[0],
        shape_probabilities=(1.0, 0.0, 0.0),
    )


def _top(before: float, at: float, after: float) -> float:
    """Where a parabola through three values has its maximum, in steps from the middle one."""
    bend = before - 2 * at + after
    if bend >= 0:
        return 0.0
    return min(max(0.5 * (before - after) / bend, -0.5), 0.5)
