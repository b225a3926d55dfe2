"""Turns simulated spectra into batches: what the network reads, and the answers it learns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mmbroker.models.simulation.spectra import SimulatedSpectra
from mmbroker.processors.features.lines import UNIT_KM_S
from mmbroker.processors.features.patches import PATCH, Patches, batch, patches_of
from mmbroker.processors.relations import SPEED_OF_LIGHT_KM_S

Float32 = NDArray[np.float32]

TARGETS = 8
"""The number of answers for each channel.

They are whether a line's middle is near (1, 0, or -1 for undecided), the weight of the line's
measurements, its offset in units of ``UNIT_KM_S``, ln of its width, ln of its flux, its shape,
whether a line covers the channel, and whether the channel was observed.
"""

_NEAR, _UNDECIDED, _COVERED = 0.25, 0.6, 0.75  # of the width


@dataclass(frozen=True, slots=True, eq=False)
class ParserBatch:
    """B spectra of P patches; float32 arrays, as ``processors.features.patches.batch`` makes them.

    Attributes:
        channels: inputs of the channels, shape (B, P * PATCH, CHANNEL_INPUTS).
        patches: inputs of the patches, shape (B, P, PATCH_INPUTS).
        present: 1 for a patch and 0 for padding, shape (B, P).
        targets: the answers, shape (B, P * PATCH, TARGETS).
    """

    channels: Float32
    patches: Float32
    present: Float32
    targets: Float32


def parser_batch(spectra: SimulatedSpectra, rows: list[int] | None = None) -> ParserBatch:
    """Make a batch of spectra of one simulation.

    Args:
        spectra: the simulation.
        rows: the indices of the spectra in it; None for all.
    """
    chosen = list(range(len(spectra))) if rows is None else rows
    laid_out = [patches_of(*spectra.spectrum(row)) for row in chosen]
    channels, patches, present = batch(laid_out)
    targets = np.zeros((*channels.shape[:2], TARGETS), np.float32)
    targets[:, :, 0] = -1.0
    for place, (row, each) in enumerate(zip(chosen, laid_out, strict=True)):
        targets[place, : len(each) * PATCH] = _targets(each, spectra, row)
    return ParserBatch(channels, patches, present, targets)


def _targets(patches: Patches, spectra: SimulatedSpectra, row: int) -> Float32:
    lines = spectra.lines
    count = len(patches.flux_jy)
    targets = np.zeros((count, TARGETS), np.float32)
    observed = patches.weight > 0
    targets[:, 0] = np.where(observed, 0.0, -1.0)
    targets[:, 7] = observed
    nearest = np.full(count, np.inf)
    for k in np.flatnonzero(np.isfinite(lines.frequency_hz[row])):
        centre, width = lines.frequency_hz[row, k], lines.width_km_s[row, k]
        offset = SPEED_OF_LIGHT_KM_S * (1 - patches.frequency_hz / centre)
        # The channel that the middle is in counts, however narrow the line.
        scaled = np.abs(offset) / np.maximum(width, 2.0 * patches.width_km_s)
        closest = scaled < nearest
        nearest = np.where(closest, scaled, nearest)
        middle = observed & closest & (scaled < _NEAR)
        targets[observed & closest & (scaled < _UNDECIDED), 0] = -1.0
        targets[middle, 0] = 1.0
        targets[:, 6] = np.maximum(targets[:, 6], scaled < _COVERED)
        targets[middle, 1] = 1.0 / max(middle.sum(), 1)
        # From the channel to the middle, hence the sign.
        targets[middle, 2] = -offset[middle] / UNIT_KM_S
        targets[middle, 3] = np.log(width / UNIT_KM_S)
        unit = patches.level_jy[middle] * np.sqrt(patches.width_km_s[middle] * UNIT_KM_S)
        targets[middle, 4] = np.log(lines.flux_jy_km_s[row, k] / unit)
        targets[middle, 5] = lines.shape[row, k]
    return targets
