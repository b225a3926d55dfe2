"""Simulates the noise and the faults that receivers and correlators leave in spectra.

Four regimes of noise, in rising order of trouble:

* ideal: white noise, its errors stated as they are;
* correlated: neighbouring channels share noise. ALMA data are Hanning smoothed unless one asks for
  something else (ALMA Technical Handbook, chapter on the correlators), and regridding to another
  velocity frame interpolates;
* baseline: ripples of standing waves, with the periods that are known and others
  (``relations.STANDING_WAVE_GAIN``), and slopes;
* receiver: all of this, errors that are wrong by some per cent in each spectral window, and
  channels that are bad and not flagged.

Shares and ranges are assumed where nothing else is said: wide enough that a parser meets the worst.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mmbroker.models.simulation.spectral_axes import Axis
from mmbroker.processors import relations
from mmbroker.schemas.events import Floats

Integers = NDArray[np.int64]
Booleans = NDArray[np.bool_]

REGIMES = ("ideal", "correlated", "baseline", "receiver")
IDEAL, CORRELATED, BASELINE, RECEIVER = range(4)
REGIME_SHARES = (0.25, 0.25, 0.20, 0.30)
"""Assumed: enough of each to learn from."""

_LOG_RIPPLE_PERIODS = (float(np.log(7e6)), float(np.log(600e6)))
_LOG_RIPPLE_AMPLITUDES = (float(np.log(0.1)), 0.0)
"""The ranges of the ln of ripples' periods in Hz, and of their amplitudes in units of the noise of
a channel. Assumed."""


def draw_observed(count: int, channels: int, random: np.random.Generator) -> Booleans:
    """Draw which channels are flagged.

    One or two intervals are flagged in a third of the spectra, and single channels in all of them.

    Args:
        count: the number of spectra.
        channels: the number of channels.
        random: the generator of random numbers.

    Returns:
        False where a channel is flagged, bool, shape (count, channels).
    """
    place = np.arange(channels)
    observed = random.random((count, channels)) > 0.002
    for _ in range(2):
        flagged = random.random((count, 1)) < 0.2
        start = random.integers(0, channels, (count, 1))
        length = random.uniform(0.005, 0.08, (count, 1)) * channels
        observed &= ~(flagged & (place >= start) & (place < start + length))
    return np.asarray(observed)


def draw_kernels(regimes: Integers, random: np.random.Generator) -> Floats:
    """Draw the kernels with which correlator and regridding convolve white noise.

    Args:
        regimes: the index into REGIMES, int64, shape (N,).
        random: the generator of random numbers.

    Returns:
        Kernels whose squares sum to 1, float64, shape (N, 5).
    """
    count = len(regimes)
    correlated = (regimes == CORRELATED) | ((regimes >= BASELINE) & (random.random(count) < 0.6))
    hanning = correlated & (random.random(count) < 0.7)
    shift = np.where(correlated & (~hanning | (random.random(count) < 0.3)), 1.0, 0.0)
    shift *= random.uniform(0.1, 0.5, count)
    smooth = np.where(hanning[:, None], [0.25, 0.5, 0.25], [0.0, 1.0, 0.0])
    kernel = np.zeros((count, 5))
    kernel[:, 1:4] = smooth * (1 - shift[:, None])
    kernel[:, 2:5] += smooth * shift[:, None]
    kernel /= np.sqrt((kernel**2).sum(axis=1, keepdims=True))
    return kernel


def convolved(values: Floats, kernel: Floats) -> Floats:
    """Convolve each row with its kernel.

    Unlike a correlator, this also convolves across the edges of spectral windows.

    Args:
        values: the rows, float64, shape (N, channels).
        kernel: the kernels, float64, shape (N, 5).

    Returns:
        float64, shape (N, channels).
    """
    padded = np.pad(values, ((0, 0), (2, 2)))
    channels = values.shape[1]
    total: Floats = sum(  # type: ignore[assignment]
        kernel[:, k : k + 1] * padded[:, 4 - k : 4 - k + channels] for k in range(5)
    )
    return total


def draw_ripples(
    error: Floats, continuum: Floats, axis: Axis, random: np.random.Generator
) -> Floats:
    """Draw standing waves and slopes that calibration left.

    Args:
        error: the true noise in Jy, shape (N, channels).
        continuum: the continuum in Jy, shape (N, channels).
        axis: the axis of all spectra.
        random: the generator of random numbers.

    Returns:
        In Jy, float64, shape (N, channels).
    """
    count = len(error)
    middle = np.median(error, axis=1, keepdims=True)
    place = np.linspace(-1, 1, len(axis.frequency_hz))
    total = np.zeros(error.shape)
    for number in range(2):
        present = random.random((count, 1)) < (0.8, 0.4)[number]
        period = np.exp(random.uniform(*_LOG_RIPPLE_PERIODS, (count, 1)))
        phase = random.uniform(0, 2 * np.pi, (count, 1))
        amplitude = np.exp(random.uniform(*_LOG_RIPPLE_AMPLITUDES, (count, 1)))
        fading = 1 + random.uniform(-0.8, 0.8, (count, 1)) * place
        wave = np.sin(2 * np.pi * axis.frequency_hz / period + phase) * fading
        gain = relations.STANDING_WAVE_GAIN * random.random((count, 1)) * continuum
        total += present * wave * (amplitude * middle + gain)
    # Slopes and bends of each spectral window.
    windows = int(axis.window.max()) + 1
    inside = np.concatenate(
        [np.linspace(-1, 1, int((axis.window == k).sum())) for k in range(windows)]
    )
    for order in range(3):
        size = random.normal(0.0, 0.25, (count, windows)) * (random.random((count, 1)) < 0.6)
        total += size[:, axis.window] * middle * np.cos(np.pi * order * (inside + 1) / 2)
    return total


def draw_mistakes(error: Floats, axis: Axis, random: np.random.Generator) -> tuple[Floats, Floats]:
    """Draw the errors that are stated wrongly, and what bad channels add to the flux density.

    Args:
        error: the true noise in Jy, shape (N, channels).
        axis: the axis of all spectra.
        random: the generator of random numbers.

    Returns:
        The stated errors and the added flux densities, in Jy, float64, shape (N, channels) each.
    """
    windows = int(axis.window.max()) + 1
    misjudged = np.exp(random.normal(0.0, 0.12, (len(error), windows)))
    bad = random.random(error.shape) < 1e-3
    size = np.exp(random.uniform(np.log(4), np.log(25), error.shape))
    sign = np.where(random.random(error.shape) < 0.7, 1.0, -1.0)
    return error * misjudged[:, axis.window], bad * size * sign * error
