"""Simulates frequency axes of spectra: what receivers and correlators cover at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mmbroker.schemas.events import Floats

Integers = NDArray[np.int64]

_CENTRES_HZ = np.array([92e9, 100e9, 108e9, 144e9, 155e9, 190e9, 233e9, 260e9, 343.5e9])
"""Assumed: where tunings often are."""


@dataclass(frozen=True, slots=True, eq=False)
class Axis:
    """A frequency axis.

    Attributes:
        frequency_hz: the middles of the channels in Hz, ascending, with gaps, float64, shape
            (channels,).
        width_hz: the width of a channel in Hz.
        window: the number of each channel's spectral window, int64, shape (channels,).
    """

    frequency_hz: Floats
    width_hz: float
    window: Integers


def draw_axis(random: np.random.Generator) -> Axis:
    """Draw a spectral scan, a tuning of ALMA's or of NOEMA's receivers, or one of a single dish.

    * scan: 84.2 to 114.9 GHz (Weiss et al. 2013, ApJ 767 88), or as wide at 2 mm;
    * ALMA: two spectral windows of 1.875 GHz in each sideband, 15.6 MHz (time division mode) or
      7.8 and 3.9 MHz (averaged frequency division mode), ALMA Technical Handbook;
    * NOEMA: two sidebands of 7.744 GHz with a gap in the middle of each (PolyFiX; IRAM, NOEMA
      capabilities), channels averaged to 20 or 40 MHz;
    * single dish: two contiguous blocks of 4 or 8 GHz.

    How common each is, and where it is tuned to, is assumed.

    Args:
        random: the generator of random numbers.
    """
    kind = random.choice(4, p=[0.3, 0.35, 0.2, 0.15])
    centre = float(random.choice(_CENTRES_HZ)) * random.uniform(0.96, 1.04)
    if kind == 0:
        start = float(random.choice([84.2e9, 130.0e9]))
        width = float(random.choice([15.6e6, 31.2e6, 31.2e6, 62.5e6]))
        parts = [(start + k * 6.14e9, start + (k + 1) * 6.14e9) for k in range(5)]
        if width < 20e6:
            parts = parts[: int(random.integers(1, 4))]
    elif kind == 1:
        width = float(random.choice([15.625e6, 15.625e6, 7.8125e6, 3.90625e6]))
        parts = [(centre + o * 1e9 - 0.9375e9, centre + o * 1e9 + 0.9375e9) for o in (-7, -5, 5, 7)]
    elif kind == 2:
        width = float(random.choice([20e6, 20e6, 40e6]))
        parts = [
            (centre + side, centre + side + 3.862e9) for side in (-11.744e9, -7.862e9, 4e9, 7.882e9)
        ]
    else:
        width = float(random.choice([10e6, 20e6, 32e6]))
        block = float(random.choice([4e9, 8e9]))
        parts = [(centre - 6e9 - block / 2, centre - 6e9 + block / 2)]
        parts += [(centre + 10e9 - block / 2, centre + 10e9 + block / 2)]
    frequency: list[Floats] = []
    window: list[Integers] = []
    for number, (low, high) in enumerate(parts):
        channels = np.arange(low + width / 2, high, width)
        if len(frequency) and channels[0] < frequency[-1][-1] + 0.99 * width:
            channels = channels + (frequency[-1][-1] + width - channels[0])
        frequency.append(channels)
        window.append(np.full(len(channels), number))
    return Axis(np.concatenate(frequency), width, np.concatenate(window))
