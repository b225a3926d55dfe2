"""Finds the continuum of a spectrum, which is subtracted before lines are searched."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from mmbroker.processors.relations import SPEED_OF_LIGHT_KM_S

Array = NDArray[np.float64]

_CONTINUUM_KM_S = 8000.0  # length of the straight lines that make up the continuum
_CONTINUUM_GAP_KM_S = 4000.0  # no straight line reaches across a wider gap
_SLOPE = 0.5  # expected scatter of slopes, in typical errors per 1,000 km/s
_CLIP_KM_S = 300.0
_CLIP = 3.5  # sigma
_CLIPS = 3


@njit(cache=True)
def robust_scatter(values: Array, observed: NDArray[np.bool_]) -> float:
    """1.4826 times the median absolute value of what was observed.

    It is at least 0.05, and 1 with fewer than 8 values. At most some 500 of the values are used.
    """
    kept = np.abs(values[observed])
    if len(kept) < 8:
        return 1.0
    kept = kept[:: len(kept) // 512 + 1].copy()
    return float(max(np.median(kept) * 1.4826, 0.05))


@njit(cache=True)
def fit_continuum(flux: Array, weight: Array, frequency_hz: Array) -> Array:
    """The continuum: running straight lines over 8,000 km/s, fitted without clipped lines.

    Args:
        flux: flux density in units of a typical error, shape (N,).
        weight: inverse variance in that unit, 0 where nothing was observed, shape (N,).
        frequency_hz: frequencies of the channels, ascending where they were observed, shape (N,).

    Returns:
        The continuum in the unit of the flux, 0 where nothing was observed, shape (N,).
    """
    place = np.flatnonzero(weight > 0)
    count = len(place)
    values, weights = flux[place], weight[place]
    velocity = np.log(frequency_hz[place] / frequency_hz[place[0]]) * SPEED_OF_LIGHT_KM_S
    continuum = np.zeros(count)
    used = weights.copy()
    before = np.empty(count)
    sums = np.zeros((count + 1, 5))
    signal, inverse = np.zeros(count + 1), np.zeros(count + 1)
    ratio = np.zeros(count)
    for clip in range(_CLIPS + 1):
        for k in range(count):
            # In units of 1,000 km/s, so that no sum is much larger than another.
            moment, at = used[k], velocity[k] / 1e3
            sums[k + 1, 0] = sums[k, 0] + moment
            sums[k + 1, 1] = sums[k, 1] + moment * values[k]
            sums[k + 1, 2] = sums[k, 2] + moment * at
            sums[k + 1, 3] = sums[k, 3] + moment * at * at
            sums[k + 1, 4] = sums[k, 4] + moment * at * values[k]
        first = 0
        while first < count:
            last = first + 1
            while last < count and velocity[last] - velocity[last - 1] < _CONTINUUM_GAP_KM_S:
                last += 1
            low = high = first
            for k in range(first, last):
                # At an edge the line reaches further to the other side, to stay well determined.
                start = min(velocity[k], velocity[last - 1] - _CONTINUUM_KM_S / 2)
                stop = max(velocity[k], velocity[first] + _CONTINUUM_KM_S / 2)
                while low < last and velocity[low] < start - _CONTINUUM_KM_S / 2:
                    low += 1
                while high < last and velocity[high] <= stop + _CONTINUUM_KM_S / 2:
                    high += 1
                total = sums[high, 0] - sums[low, 0]
                if total < 1e-3 * (used[k] + weights[k]):
                    continue  # nothing is left, so the previous continuum stays
                mean = (sums[high, 1] - sums[low, 1]) / total
                centre = (sums[high, 2] - sums[low, 2]) / total
                variance = (sums[high, 3] - sums[low, 3]) / total - centre * centre
                product = (sums[high, 4] - sums[low, 4]) / total - centre * mean
                # A prior for small slopes: a line beside few channels must not tilt the continuum.
                slope = product / (max(variance, 0.0) + 1.0 / (total * _SLOPE**2))
                continuum[k] = mean + slope * (velocity[k] / 1e3 - centre)
            first = last
        if clip == _CLIPS:
            break
        for k in range(count):
            signal[k + 1] = signal[k] + weights[k] * (values[k] - continuum[k])
            inverse[k + 1] = inverse[k] + weights[k]
        low = high = 0
        for k in range(count):
            while velocity[low] < velocity[k] - _CLIP_KM_S / 2:
                low += 1
            while high < count and velocity[high] <= velocity[k] + _CLIP_KM_S / 2:
                high += 1
            ratio[k] = (signal[high] - signal[low]) / np.sqrt(inverse[high] - inverse[low])
        # Chance makes higher peaks where neighbours share noise or errors are too small.
        threshold = _CLIP * max(robust_scatter(ratio, weights > 0), 1.0)
        before[:] = used
        used[:] = weights
        clipped_to = -np.inf
        for k in range(count):
            if abs(ratio[k]) > threshold:
                clipped_to = velocity[k] + _CLIP_KM_S
            if velocity[k] <= clipped_to:
                used[k] = 0.0
        clipped_to = np.inf
        for k in range(count - 1, -1, -1):
            if abs(ratio[k]) > threshold:
                clipped_to = velocity[k] - _CLIP_KM_S
            if velocity[k] >= clipped_to:
                used[k] = 0.0
        if (used == before).all():
            break  # the same channels would give the same continuum
    result = np.zeros(len(flux))
    result[place] = continuum
    return result
