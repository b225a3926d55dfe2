"""Divides a spectrum of any length, with gaps, into patches of channels for the parser's network.

Channels are laid out on regular stretches. A small gap becomes channels without weight. A wide gap,
or a change of the channel width, begins a new stretch at the next patch. Channels much narrower
than any line are averaged. The continuum is subtracted, and Gaussian filters of several widths are
run over the rest. So the network reads the output of matched filters besides the channels
themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from mmbroker.processors.features.continuum import fit_continuum, robust_scatter
from mmbroker.processors.relations import SPEED_OF_LIGHT_KM_S
from mmbroker.schemas.events import Floats

Array = NDArray[np.float64]
Array32 = NDArray[np.float32]
Integers = NDArray[np.int64]

PATCH = 16
"""Number of channels of a patch."""

NARROWEST_KM_S = 16.0
"""Narrower channels are averaged in groups, because no line is narrower than some 80 km/s."""

FILTER_WIDTHS_KM_S: Array = np.array([100.0, 180.0, 320.0, 560.0, 1000.0])
"""Full widths at half maximum of the filters."""

CHANNEL_INPUTS = len(FILTER_WIDTHS_KM_S) + 3
"""Number of inputs for each channel: channel over its error and the filters' signal-to-noise ratios
(all compressed), whether it was observed, and its error over the mean error around it, less 1."""

_FREQUENCY_SCALES: Array = np.geomspace(0.01, 4.0, 10)
PATCH_INPUTS = 2 * len(_FREQUENCY_SCALES) + 2 + len(FILTER_WIDTHS_KM_S) + 3
"""Number of inputs for each patch: sine and cosine of ln(frequency) at each scale, ln of the
channel width, ln of the error over that of the whole spectrum, ln of the robust scatter of the
filters and of the channels, and the correlation of channels with their next and second next
neighbours."""

_WIDEST_GAP = 2 * PATCH  # channels; wider gaps are skipped, not filled in
_ALIKE = 0.01  # fraction by which equal channel widths may differ, as frequencies are rounded
_LEAST_PADDING = 4  # channels between stretches, the reach of the network's first layers


@dataclass(frozen=True, slots=True, eq=False)
class Patches:
    """One spectrum laid out for the network.

    P patches have N = P * PATCH channels. Channels without weight are gaps and padding.

    Attributes:
        frequency_hz: middle of each channel, float64, shape (N,).
        width_km_s: width of each channel, float64, shape (N,).
        flux_jy: flux density without the continuum, float64, shape (N,).
        weight: inverse variance in Jy**-2, 0 where nothing was observed, shape (N,).
        continuum_jy: the continuum that was subtracted, shape (N,).
        level_jy: error of a channel, averaged over its surroundings, shape (N,).
        stretch: number of the regular stretch that a channel belongs to, int, shape (N,).
        channels: inputs of the network for each channel, float32, shape (N, CHANNEL_INPUTS).
        patches: inputs of the network for each patch, float32, shape (P, PATCH_INPUTS).
    """

    frequency_hz: Array
    width_km_s: Array
    flux_jy: Array
    weight: Array
    continuum_jy: Array
    level_jy: Array
    stretch: Integers
    channels: Array32
    patches: Array32

    def __len__(self) -> int:
        return len(self.patches)

    def between(self, first: int, stop: int) -> Patches:
        """The patches from ``first`` up to, but not including, ``stop``."""
        channels = slice(first * PATCH, stop * PATCH)
        return Patches(
            self.frequency_hz[channels],
            self.width_km_s[channels],
            self.flux_jy[channels],
            self.weight[channels],
            self.continuum_jy[channels],
            self.level_jy[channels],
            self.stretch[channels],
            self.channels[channels],
            self.patches[first:stop],
        )


def patches_of(
    frequency_hz: Floats, flux_jy: Floats, error_jy: Floats, most: int | None = None
) -> Patches:
    """Lay out one spectrum.

    Args:
        frequency_hz: strictly monotonic frequencies, shape (channels,).
        flux_jy: flux density, shape (channels,); a channel was not observed if it is not finite.
        error_jy: 1 sigma error, shape (channels,); a channel was not observed if its error is not
            finite and positive.
        most: largest number of patches; None for any number.

    Raises:
        ValueError: the shapes differ, the axis is not monotonic and positive, fewer than eight
            channels were observed, or there would be too many patches.
    """
    frequency = np.asarray(frequency_hz, float)
    flux, error = np.asarray(flux_jy, float), np.asarray(error_jy, float)
    if not frequency.shape == flux.shape == error.shape or frequency.ndim != 1:
        raise ValueError(
            f"frequency, flux density and error have shapes {frequency.shape}, {flux.shape}, "
            f"{error.shape}, not one and the same"
        )
    if len(frequency) > 1 and frequency[0] > frequency[-1]:
        frequency, flux, error = frequency[::-1], flux[::-1], error[::-1]
    if not (frequency[1:] > frequency[:-1]).all() or not (frequency > 0).all():
        raise ValueError("frequency_hz is not strictly monotonic and positive")
    seen = np.isfinite(flux) & np.isfinite(error) & (error > 0)
    if seen.sum() < 8:
        raise ValueError(f"{seen.sum()} channels were observed, fewer than 8")
    frequency, flux, error = frequency[seen], flux[seen], error[seen]
    place, spacing, stretch, total = _layout(frequency)
    if most is not None and total > most * PATCH:
        raise ValueError(f"the spectrum has {total // PATCH} patches, more than {most}")
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        weight = 1.0 / np.square(error)
        # From here on in units of a typical error, so that sums and float32 stay in range.
        unit = median(weight) ** -0.5
        relative = weight * unit**2
    told = np.isfinite(relative) & (relative > 0)
    if not told.all():
        # Leave out errors so large that the weight is 0, or so small that it is infinite.
        return patches_of(frequency[told], flux[told], error[told], most)
    at, width, mean, weights, stretches = _averaged(
        place, spacing, stretch, total, frequency, flux / unit, relative
    )
    continuum = fit_continuum(mean, weights, at)
    residual = np.where(weights > 0, mean - continuum, 0.0)
    channels, patches, level = _inputs(
        at, width, residual, weights, stretches, FILTER_WIDTHS_KM_S, _FREQUENCY_SCALES
    )
    return Patches(
        at, width, residual * unit, weights / unit**2, continuum * unit, level * unit, stretches,
        channels, patches,
    )  # fmt: skip


def batch(
    spectra: Sequence[Patches], longest: int | None = None
) -> tuple[Array32, Array32, Array32]:
    """Join spectra to one batch, padded to the longest.

    Args:
        spectra: B spectra.
        longest: number of patches P to pad them to; at least as many as each has. None for that of
            the longest spectrum.

    Returns:
        Inputs for channels, shape (B, P * PATCH, CHANNEL_INPUTS); inputs for patches, shape (B, P,
        PATCH_INPUTS); and 1 for each patch that is not padding, shape (B, P); all float32.
    """
    longest = longest or max(len(each) for each in spectra)
    channels = np.zeros((len(spectra), longest * PATCH, CHANNEL_INPUTS), np.float32)
    patches = np.zeros((len(spectra), longest, PATCH_INPUTS), np.float32)
    present = np.zeros((len(spectra), longest), np.float32)
    for row, each in enumerate(spectra):
        channels[row, : len(each) * PATCH] = each.channels
        patches[row, : len(each)] = each.patches
        present[row, : len(each)] = 1.0
    return channels, patches, present


@njit(cache=True)
def median(values: Array) -> float:
    """The median, compiled, which takes less than half of the time of numpy's own function."""
    return float(np.median(values))


@njit(cache=True)
def _layout(frequency: Array) -> tuple[Integers, Array, Integers, int]:
    """Place of each channel in the layout, its spacing in Hz, its stretch; and the total length."""
    count = len(frequency)
    place = np.zeros(count, np.int64)
    spacing = np.empty(count)
    stretch = np.zeros(count, np.int64)
    for index in range(count):
        before = frequency[index] - frequency[index - 1] if index > 0 else np.inf
        after = frequency[index + 1] - frequency[index] if index < count - 1 else np.inf
        spacing[index] = min(before, after)
    # A single channel between two gaps would look as wide as the gap.
    for index in range(1, count):
        spacing[index] = min(spacing[index], spacing[index - 1] * 1.5)
    first = 0
    offset = 0
    number = 0
    while first < count:
        step = spacing[first]
        stop = first + 1
        steps = np.zeros(count - first, np.int64)
        while stop < count:
            gap = int(np.rint((frequency[stop] - frequency[stop - 1]) / spacing[stop - 1]))
            unlike = spacing[stop] > 1.4 * step or spacing[stop] < step / 1.4
            if gap > _WIDEST_GAP or unlike:
                break
            steps[stop - first] = steps[stop - first - 1] + max(gap, 1)
            stop += 1
        middle = frequency[(first + stop - 1) // 2]
        group = int(np.ceil(NARROWEST_KM_S / (SPEED_OF_LIGHT_KM_S * step / middle)))
        last = 0
        for index in range(first, stop):
            last = steps[index - first] // group
            place[index] = offset + last
            # Channels equal in Hz get the same spacing; those equal in velocity grow in Hz.
            alike = abs(spacing[index] - step) < _ALIKE * step
            spacing[index] = (step if alike else spacing[index]) * group
            stretch[index] = number
        offset += -(-(last + 1 + _LEAST_PADDING) // PATCH) * PATCH
        number += 1
        first = stop
    return place, spacing, stretch, offset


@njit(cache=True)
def _averaged(
    place: Integers,
    spacing: Array,
    stretch: Integers,
    total: int,
    frequency: Array,
    flux: Array,
    weight: Array,
) -> tuple[Array, Array, Array, Array, Integers]:
    """Middle in Hz, width in km/s, mean, weight and stretch of each channel of the layout."""
    weights, sums, moments = np.zeros(total), np.zeros(total), np.zeros(total)
    for index in range(len(place)):
        at = place[index]
        weights[at] += weight[index]
        sums[at] += weight[index] * flux[index]
        moments[at] += weight[index] * frequency[index]
    mean = np.zeros(total)
    middle = np.empty(total)
    width = np.empty(total)
    stretches = np.empty(total, np.int64)
    source = 0
    known = 0
    for at in range(total):
        # Find the next channel that was observed.
        while source < len(place) - 1 and place[source] < at:
            source += 1
        if weights[at] > 0:
            known = at
            middle[at] = moments[at] / weights[at]
            mean[at] = sums[at] / weights[at]
        elif at > 0:
            # A gap goes on from the channel before; so does the padding after a stretch.
            middle[at] = middle[known] + (at - known) * spacing[max(source - 1, 0)]
        owner = source if place[source] == at else max(source - 1, 0)
        stretches[at] = stretch[owner]
        width[at] = SPEED_OF_LIGHT_KM_S * spacing[owner] / middle[at]
    return middle, width, mean, weights, stretches


@njit(cache=True, fastmath=True)
def filter_signal_to_noise(
    flux: Array, weight: Array, width_km_s: Array, stretch: Integers, fwhm_km_s: float
) -> tuple[Array, Array]:
    """Signal-to-noise ratio and flux of a Gaussian line centred on each channel.

    Args:
        flux: flux density without the continuum in Jy, shape (N,).
        weight: inverse variance in Jy**-2, 0 where nothing was observed, shape (N,).
        width_km_s: widths of the channels, shape (N,).
        stretch: number of the regular stretch of each channel, shape (N,). The filter of a channel
            uses only channels of its own stretch.
        fwhm_km_s: full width at half maximum of the line.

    Returns:
        The ratio, and the flux in Jy km/s, shape (N,) each; 0 where too little of a line was
        observed.
    """
    count = len(flux)
    ratio, integral = np.zeros(count), np.zeros(count)
    weighted = weight * flux
    seen = np.zeros(count + 1)
    for k in range(count):
        seen[k + 1] = seen[k] + (weight[k] > 0)
    signal, inverse = np.empty(PATCH), np.empty(PATCH)
    for start in range(0, count, PATCH):
        channel = width_km_s[start]
        sigma = np.sqrt((fwhm_km_s / 2.3548) ** 2 + channel**2 / 12.0) / channel
        reach = int(np.ceil(2.5 * sigma))
        # A Gaussian at equal steps needs only products: each ratio of neighbours is the previous
        # ratio times a constant factor. Exponentials would take longer than all the rest.
        total = channel
        share, ratio_of_neighbours = 1.0, np.exp(-0.5 / sigma**2)
        factor = ratio_of_neighbours**2
        first, last = max(start - reach, 0), min(start + PATCH + reach, count)
        while stretch[first] != stretch[start]:
            first += 1
        while stretch[last - 1] != stretch[start]:
            last -= 1
        # This is always PATCH, but the compiler must not know it: it unrolls short loops of known
        # length and then does not vectorise them. It does not vectorise loops over many arrays,
        # either.
        size = min(PATCH, count - start)
        for k in range(PATCH):
            signal[k] = weighted[start + k]
            inverse[k] = weight[start + k]
        for tap in range(1, reach + 1):
            share *= ratio_of_neighbours
            ratio_of_neighbours *= factor
            square = share * share
            total += 2 * share * channel
            if start - tap >= first and start + tap + PATCH <= last:
                # Slices, since indices that might be negative keep the loop from being vectorised.
                above = slice(start + tap, start + tap + PATCH)
                below = slice(start - tap, start - tap + PATCH)
                upper, lower = weighted[above], weighted[below]
                upper_weight, lower_weight = weight[above], weight[below]
                for k in range(size):
                    signal[k] += share * (upper[k] + lower[k])
                for k in range(size):
                    inverse[k] += square * (upper_weight[k] + lower_weight[k])
            else:
                for k in range(max(0, first - start + tap), PATCH):
                    signal[k] += share * weighted[start - tap + k]
                    inverse[k] += square * weight[start - tap + k]
                for k in range(min(PATCH, last - start - tap)):
                    signal[k] += share * weighted[start + tap + k]
                    inverse[k] += square * weight[start + tap + k]
        half = max(int(sigma), 1)
        for k in range(PATCH):
            low, high = max(start + k - half, first), min(start + k + half + 1, last)
            if seen[high] - seen[low] > 0.25 * (2 * half + 1):
                ratio[start + k] = signal[k] / np.sqrt(inverse[k])
                integral[start + k] = signal[k] / inverse[k] * total
    return ratio, integral


@njit(cache=True)
def _compressed(values: Array) -> Array:
    """Compress values: small ones stay as they are, of large ones the root is taken."""
    return values / np.sqrt(1.0 + np.abs(values))


@njit(cache=True)
def _inputs(
    frequency: Array,
    width_km_s: Array,
    flux: Array,
    weight: Array,
    stretch: Integers,
    fwhm_km_s: Array,
    scales: Array,
) -> tuple[Array32, Array32, Array]:
    count = len(flux)
    filters = len(fwhm_km_s)
    observed = weight > 0
    channels = np.zeros((count, filters + 3), np.float32)
    patches = np.zeros((count // PATCH, 2 * len(scales) + filters + 5), np.float32)
    scatter = np.empty(filters + 3)
    scaled = flux * np.sqrt(weight)
    channels[:, 0] = _compressed(scaled)
    for k in range(filters):
        ratio, _ = filter_signal_to_noise(flux, weight, width_km_s, stretch, fwhm_km_s[k])
        channels[:, 1 + k] = _compressed(ratio)
        scatter[k] = np.log(robust_scatter(ratio, observed))
    scatter[filters] = np.log(robust_scatter(scaled, observed))
    for lag in range(1, 3):
        product = 0.0
        square = 0.0
        for k in range(count - lag):
            if observed[k] and observed[k + lag]:
                one = min(max(scaled[k], -4.0), 4.0)
                product += one * min(max(scaled[k + lag], -4.0), 4.0)
                square += one * one
        scatter[filters + lag] = product / max(square, 1e-9)
    level = np.empty(count)
    total = np.zeros(count + 1)
    number = np.zeros(count + 1)
    for k in range(count):
        total[k + 1] = total[k] + weight[k]
        number[k + 1] = number[k] + observed[k]
    typical = np.sqrt(number[count] / total[count])
    for k in range(count):
        low, high = max(k - PATCH // 2, 0), min(k + PATCH // 2 + 1, count)
        seen = number[high] - number[low]
        level[k] = np.sqrt(seen / (total[high] - total[low])) if seen > 0 else typical
        if observed[k]:
            channels[k, filters + 1] = 1.0
            relative = 1.0 / (np.sqrt(weight[k]) * level[k]) - 1.0
            channels[k, filters + 2] = min(relative, 3.0)
    for patch in range(count // PATCH):
        middle = patch * PATCH + PATCH // 2
        place = np.log(frequency[middle] / 1e11)
        for k in range(len(scales)):
            patches[patch, 2 * k] = np.sin(2 * np.pi * place / scales[k])
            patches[patch, 2 * k + 1] = np.cos(2 * np.pi * place / scales[k])
        rest = 2 * len(scales)
        patches[patch, rest] = np.log(width_km_s[middle] / 40.0)
        patches[patch, rest + 1] = min(max(np.log(level[middle] / typical), -3.0), 3.0)
        patches[patch, rest + 2 :] = scatter
    return channels, patches, level
