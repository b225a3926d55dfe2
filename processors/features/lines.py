"""Converts outputs of the parser's network to lines and continuum segments."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from mmbroker.processors.features.patches import Array, Array32, Patches
from mmbroker.processors.relations import SPEED_OF_LIGHT_KM_S
from mmbroker.schemas.events import ContinuumSegment, ParsedLine

SHAPES = ("gaussian", "double-horned", "blended")
"""Of lines, in the order of their probabilities."""

PRESENCE, COVERED, OFFSET, WIDTH, FLUX, SHAPE = 0, 1, 2, 4, 6, 8
OUTPUTS = SHAPE + len(SHAPES)
"""Outputs of the network for each channel.

There are two logits: that the middle of a line is near, and that a line covers the channel. Then
follow mean and ln of the error of three quantities: the offset of the line's middle in units of
``UNIT_KM_S``, ln(width / UNIT_KM_S), and ln(flux / (error of a channel * sqrt(channel width *
UNIT_KM_S))). The logits of the shapes are last."""

UNIT_KM_S = 300.0

LOG_ERRORS = (-5.0, 1.0)
"""Lowest and highest ln of an error."""

_APART = 0.45
"""Two lines are separate if they are at least this fraction of the sum of their widths apart."""

_UNRESOLVED = 1.5
"""Two lines are not separate within this number of channels."""

_LEAST_CONTINUUM = 8  # channels
_BLOCK = 8  # channels of the shortest blocks over which noise is averaged
_FEWEST_BLOCKS = 4  # fewer do not give a useful scatter

_EXCESS_EXPONENT = 1.5
"""Exponent on the excess scatter of long blocks over their errors.

The effect of ripples on the mean of a segment cannot be seen within the segment, but it grows with
the excess that can be seen. Assumed: of several values that were tried on simulated spectra (seed
987001, which is used neither for training nor for judging the parser), with this one 68 % of the
means are within the stated errors."""


@dataclass(frozen=True, slots=True, eq=False)
class LineCalibration:
    """Calibration on validation data: probabilities of logits, and factors on errors.

    Attributes:
        logit: ascending logits, shape (points,).
        probability: probability of a line at these logits, non-decreasing, shape (points,).
        detection_logit: lowest logit of a line that is reported.
        error_logit: ascending logits, shape (steps,).
        error_scale: factors on the errors of frequency, width and flux at these logits, shape
            (steps, 3). Faint lines are harder to measure than the network knows.
    """

    logit: Array
    probability: Array
    detection_logit: float = 0.0
    error_logit: Array = field(default_factory=lambda: np.zeros(1))
    error_scale: Array = field(default_factory=lambda: np.ones((1, 3)))

    @classmethod
    def from_card(cls, stored: Mapping[str, Any]) -> LineCalibration:
        """Read the calibration on a model's card.

        Raises:
            LookupError, TypeError, ValueError: the content is not a calibration.
        """
        found = cls(
            np.array(stored["logit"], float),
            np.array(stored["probability"], float),
            float(stored["detection_logit"]),
            np.array(stored["error_logit"], float),
            np.array(stored["error_scale"], float),
        )
        shapes = found.probability.shape, found.error_scale.shape
        if shapes != (found.logit.shape, (len(found.error_logit), 3)):
            raise ValueError(f"the calibration's arrays have shapes {shapes}")
        return found


UNCALIBRATED = LineCalibration(
    np.linspace(-20.0, 20.0, 161), 1 / (1 + np.exp(-np.linspace(-20.0, 20.0, 161)))
)


def lines_of(
    patches: Patches,
    outputs: Array32,
    calibration: LineCalibration = UNCALIBRATED,
    least_logit: float | None = None,
    most: int | None = None,
) -> list[ParsedLine]:
    """The lines of one spectrum, by ascending frequency, without identifications.

    Args:
        patches: the spectrum.
        outputs: outputs of the network, shape (at least N, OUTPUTS).
        calibration: calibration of the outputs.
        least_logit: lowest logit of a line; by default that of the calibration.
        most: largest number of lines, of which the most probable are kept; None for any number.
    """
    threshold = calibration.detection_logit if least_logit is None else least_logit
    presence = outputs[: len(patches.flux_jy), PRESENCE].astype(float)
    score = np.where(patches.weight > 0, presence, -np.inf)
    bright = np.flatnonzero(score >= threshold)
    bright = bright[np.argsort(-score[bright], kind="stable")]
    found: list[ParsedLine] = []
    for at, channel, level, output in zip(
        patches.frequency_hz[bright].tolist(),
        patches.width_km_s[bright].tolist(),
        patches.level_jy[bright].tolist(),
        outputs[bright].tolist(),
        strict=True,
    ):
        width = UNIT_KM_S * math.exp(min(max(output[WIDTH], -2.0), 2.0))
        reach = max(width / 2, 2 * channel)
        offset = min(max(UNIT_KM_S * output[OFFSET], -reach), reach)
        frequency = at * (1 - offset / SPEED_OF_LIGHT_KM_S)
        if any(
            abs(math.log(frequency / other.frequency_hz)) * SPEED_OF_LIGHT_KM_S
            < max(_APART * (width + other.width_km_s), _UNRESOLVED * channel)
            for other in found
        ):
            continue
        unit = level * math.sqrt(channel * UNIT_KM_S)
        found.append(_line(output, frequency, width, unit, calibration))
        if len(found) == most:
            break
    return sorted(found, key=lambda each: each.frequency_hz)


def _line(
    output: list[float], frequency: float, width: float, unit: float, calibration: LineCalibration
) -> ParsedLine:
    """A line of some frequency in Hz and width in km/s; fluxes are in a unit in Jy km/s."""
    flux = unit * math.exp(min(max(output[FLUX], -3.0), 8.0))
    errors = [
        np.interp(output[PRESENCE], calibration.error_logit, calibration.error_scale[:, column])
        * math.exp(min(max(output[at + 1], LOG_ERRORS[0]), LOG_ERRORS[1]))
        for column, at in enumerate((OFFSET, WIDTH, FLUX))
    ]
    logits = np.array(output[SHAPE:OUTPUTS])
    weight = np.exp(logits - logits.max())
    return ParsedLine(
        frequency_hz=frequency,
        frequency_error_hz=float(errors[0]) * UNIT_KM_S / SPEED_OF_LIGHT_KM_S * frequency,
        width_km_s=width,
        width_error_km_s=float(errors[1]) * width,
        flux_jy_km_s=flux,
        flux_error_jy_km_s=float(errors[2]) * flux,
        probability=float(np.interp(output[PRESENCE], calibration.logit, calibration.probability)),
        shape=SHAPES[int(np.argmax(logits))],
        shape_probabilities=(weight / weight.sum()).astype(np.float32),
        identifications=[],
    )


def continuum_of(patches: Patches, outputs: Array32) -> list[ContinuumSegment]:
    """The continuum of each regular stretch of a spectrum, from channels that no line covers."""
    found = _segments(
        patches.frequency_hz / 1e9,
        patches.flux_jy + patches.continuum_jy,
        patches.weight,
        patches.stretch,
        outputs[: len(patches.flux_jy), COVERED],
    )
    return [
        ContinuumSegment(low * 1e9, high * 1e9, mean, error, slope, line_free)
        for low, high, mean, error, slope, line_free in found
        if line_free > 0
    ]


@njit(cache=True)
def _segments(
    frequency_ghz: Array,
    flux: Array,
    weight: Array,
    stretch: NDArray[np.int64],
    covered: Array32,
) -> list[tuple[float, float, float, float, float, float]]:
    """The straight line through each regular stretch; see ``_segment``."""
    found = []
    first = 0
    for last in range(1, len(stretch) + 1):
        if last == len(stretch) or stretch[last] != stretch[first]:
            inside = slice(first, last)
            found.append(
                _segment(frequency_ghz[inside], flux[inside], weight[inside], covered[inside])
            )
            first = last
    return found


@njit(cache=True)
def _segment(
    frequency_ghz: Array, flux: Array, weight: Array, covered: Array32
) -> tuple[float, float, float, float, float, float]:
    """The straight line through the channels of a stretch that no line covers.

    Returns:
        Lowest and highest observed frequency, the mean (which holds at the inverse-variance mean
        frequency), its error, the slope, and the share of the observed channels that were used.
        With too few channels all are 0.
    """
    seen = np.flatnonzero(weight > 0)
    used = np.flatnonzero((weight > 0) & (covered < 0))
    if len(used) < _LEAST_CONTINUUM:
        return 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    share = len(used) / len(seen)
    low, high = frequency_ghz[seen[0]], frequency_ghz[seen[-1]]
    frequency_ghz, flux, weight = frequency_ghz[used], flux[used], weight[used]
    total = weight.sum()
    middle = (weight * frequency_ghz).sum() / total
    mean = (weight * flux).sum() / total
    away = frequency_ghz - middle
    spread = (weight * away**2).sum()
    slope = (weight * away * flux).sum() / spread if spread > 0 else 0.0
    scaled = (flux - mean - slope * away) * np.sqrt(weight)
    return low, high, mean, _excess(scaled) / np.sqrt(total), slope, share


@njit(cache=True)
def _excess(scaled: Array) -> float:
    """Factor by which the error of a mean exceeds that of independent channels; at least 1.

    Neighbours share noise, and there are ripples. So the means of blocks of channels scatter more
    than their errors say. The length of block with the largest excess is used.

    Args:
        scaled: deviations in units of their errors, shape (channels,).
    """
    largest, length = 1.0, _BLOCK
    while len(scaled) // length >= _FEWEST_BLOCKS:
        blocks = len(scaled) // length
        square = 0.0
        for block in range(blocks):
            square += scaled[block * length : (block + 1) * length].sum() ** 2 / length
        largest = max(largest, np.sqrt(square / blocks))
        length *= 2
    return float(largest**_EXCESS_EXPONENT)
