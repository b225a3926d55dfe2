"""Finds lines by matched filtering, the conventional method that the parser is compared with.

Gaussians of several widths are run over a spectrum without its continuum. Peaks of the
signal-to-noise ratio over position and width are lines. In white noise of known depth no method
finds an isolated Gaussian line better. Errors are those of a least-squares fit in white noise (the
inverse Fisher matrix of centre, width and amplitude).
"""

from __future__ import annotations

import math

import numpy as np

from mmbroker.processors.features.lines import SHAPES
from mmbroker.processors.features.patches import Array, Patches, filter_signal_to_noise
from mmbroker.processors.relations import FWHM_PER_SIGMA, SPEED_OF_LIGHT_KM_S
from mmbroker.schemas.events import ParsedLine

WIDTHS_KM_S: Array = np.geomspace(80.0, 1400.0, 9)

MOST_LINES = 12

_APART = 0.45  # of the sum of two widths


def matched_filter_lines(
    patches: Patches, least: float = 5.0, own_noise: bool = False
) -> list[tuple[float, ParsedLine]]:
    """Lines by falling signal-to-noise ratio, each with that ratio.

    Args:
        patches: the spectrum.
        least: lowest signal-to-noise ratio of a line.
        own_noise: whether the noise is measured on the output of each filter. It is then 1.4826
            times the median of its negative half, which has no lines, but not less than the stated
            errors say.

    Returns:
        The signal-to-noise ratio of each line, and the line.
    """
    weight = _without_bad_channels(patches)
    observed = weight > 0
    flux = patches.flux_jy.copy()
    ratios, fluxes = _filtered(patches, flux, weight)
    noise = np.ones(len(WIDTHS_KM_S))
    if own_noise:
        for k, ratio in enumerate(ratios):
            negative = ratio[observed & (ratio < 0)]
            if len(negative):
                noise[k] = max(float(np.median(-negative)) * 1.4826, 1.0)
    found: list[tuple[float, ParsedLine]] = []
    while len(found) < MOST_LINES:
        best = np.where(observed, (ratios / noise[:, None]).max(axis=0), -np.inf)
        index = int(best.argmax())
        if best[index] < least:
            break
        line = _line(patches, ratios / noise[:, None], fluxes, index)
        if all(_apart(line, other) for _, other in found):
            found.append((float(best[index]), line))
        # The line is subtracted, so that its wings do not become further lines.
        flux -= _profile(patches, line)
        observed = observed & (np.abs(_velocity(patches, line)) > 0.3 * line.width_km_s)
        observed[index] = False
        ratios, fluxes = _filtered(patches, flux, weight)
    return found


def _filtered(patches: Patches, flux: Array, weight: Array) -> tuple[Array, Array]:
    """Signal-to-noise ratios and fluxes for all widths and channels, shape (widths, N) each."""
    both = [
        filter_signal_to_noise(flux, weight, patches.width_km_s, patches.stretch, float(width))
        for width in WIDTHS_KM_S
    ]
    return np.array([ratio for ratio, _ in both]), np.array([integral for _, integral in both])


def _velocity(patches: Patches, line: ParsedLine) -> Array:
    return SPEED_OF_LIGHT_KM_S * (1 - patches.frequency_hz / line.frequency_hz)


def _profile(patches: Patches, line: ParsedLine) -> Array:
    """Flux density of a Gaussian line in Jy, shape (N,)."""
    sigma = np.hypot(line.width_km_s / FWHM_PER_SIGMA, patches.width_km_s / math.sqrt(12))
    exponent = -0.5 * np.square(_velocity(patches, line) / sigma)
    profile: Array = line.flux_jy_km_s / (sigma * math.sqrt(2 * math.pi)) * np.exp(exponent)
    return profile


def _without_bad_channels(patches: Patches) -> Array:
    """The weights, 0 for single bad channels: beyond 5 sigma and 4 sigma above both neighbours."""
    scaled = np.abs(patches.flux_jy) * np.sqrt(patches.weight)
    around = np.maximum(np.roll(scaled, 1), np.roll(scaled, -1))
    return np.where((scaled > 5) & (scaled > around + 4), 0.0, patches.weight)


def _apart(one: ParsedLine, other: ParsedLine) -> bool:
    distance = abs(math.log(one.frequency_hz / other.frequency_hz)) * SPEED_OF_LIGHT_KM_S
    return distance >= _APART * (one.width_km_s + other.width_km_s)


def _line(patches: Patches, ratios: Array, fluxes: Array, index: int) -> ParsedLine:
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
    # Channels are laid out by rising frequency.
    frequency = float(patches.frequency_hz[index]) * (1 + velocity / SPEED_OF_LIGHT_KM_S)
    velocity_error = math.sqrt(2) * width / FWHM_PER_SIGMA / ratio
    return ParsedLine(
        frequency_hz=frequency,
        frequency_error_hz=velocity_error / SPEED_OF_LIGHT_KM_S * frequency,
        width_km_s=width,
        width_error_km_s=math.sqrt(2) / ratio * width,
        flux_jy_km_s=flux,
        flux_error_jy_km_s=math.sqrt(1.5) / ratio * flux,
        probability=0.5 * (1 + math.erf(ratio / math.sqrt(2))),
        shape=SHAPES[0],
        shape_probabilities=np.array([1.0, 0.0, 0.0], np.float32),
        identifications=[],
    )


def _top(before: float, at: float, after: float) -> float:
    """Position of the maximum of a parabola through three values, in steps from the middle one."""
    bend = before - 2 * at + after
    if bend >= 0:
        return 0.0
    return min(max(0.5 * (before - after) / bend, -0.5), 0.5)
