"""Converts radio maps to inputs of the parser's network, and its outputs to morphologies."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mmbroker.processors.features.patches import Array32
from mmbroker.schemas.events import Floats, MapComponent, Morphology

MORPHOLOGIES = ("compact", "extended", "double", "jet")
"""Of sources, in the order of their probabilities."""

SIDE = 36
PIXELS_PER_BEAM = 3.0
"""The network sees a square of SIDE pixels, which is 12 beams wide."""

PATCH = 4
CELLS = 2
"""A patch of 4 x 4 pixels has outputs for 2 x 2 cells, each two thirds of a beam wide."""

CELL_PIXELS = PATCH // CELLS
CELL_GRID = SIDE // CELL_PIXELS
MAP_INPUTS = 4
"""Number of inputs besides the pixels: the axis ratio of the beam, cosine and sine of twice its
angle, and ln(peak / noise) / 3 - 1."""

PRESENCE, X, Y, FLUX, LOG_ERROR = 0, 1, 2, 3, 4
CELL_OUTPUTS = 5
"""Outputs for each cell: the logit that it has a component, the component's offset in x and y from
the middle of the cell in cells, ln(flux / noise in a beam), and the ln of the relative error of the
flux."""


@dataclass(frozen=True, slots=True, eq=False)
class MapInput:
    """One map as the network reads it.

    Attributes:
        pixels: compressed ratios of pixel to noise, float32, shape (SIDE, SIDE); 0 outside of the
            map.
        beam: inputs besides the pixels, see ``MAP_INPUTS``, float32, shape (MAP_INPUTS,).
        noise_jy: 1 sigma noise in Jy/beam.
        beam_arcsec: geometric mean of the beam's full widths at half maximum.
        peak: signal-to-noise ratio of the brightest pixel, at least 1.
        observed: share of the network's square that was observed.
    """

    pixels: Array32
    beam: Array32
    noise_jy: float
    beam_arcsec: float
    peak: float
    observed: float


@dataclass(frozen=True, slots=True)
class MapCalibration:
    """Calibration on validation data.

    Attributes:
        temperature: divisor of the logits of the morphology.
        component_logit: logit that a component has to exceed.
        flux_error_scale: factor on the errors of fluxes.
    """

    temperature: float = 1.0
    component_logit: float = 0.0
    flux_error_scale: float = 1.0

    @classmethod
    def from_card(cls, stored: Mapping[str, Any]) -> MapCalibration:
        """Read the calibration on a model's card.

        Raises:
            LookupError, TypeError, ValueError: the content is not a calibration.
        """
        return cls(
            float(stored["temperature"]),
            float(stored["component_logit"]),
            float(stored["flux_error_scale"]),
        )


def map_input(
    image: Floats,
    pixel_arcsec: float,
    beam_major_arcsec: float,
    beam_minor_arcsec: float,
    beam_angle_rad: float,
    noise_jy: float | None = None,
    middle: tuple[float, float] | None = None,
) -> MapInput:
    """Resample a map to pixels of a third of the beam.

    Args:
        image: map in Jy/beam, shape (height, width); pixels that are not finite were not observed.
        pixel_arcsec: side of a pixel.
        beam_major_arcsec: full width at half maximum of the beam along its major axis.
        beam_minor_arcsec: full width at half maximum along its minor axis.
        beam_angle_rad: angle of the major axis, from the direction of growing column number
            towards that of growing row number.
        noise_jy: 1 sigma noise in Jy/beam; None to measure it on the map, robustly.
        middle: column and row in the middle of the network's square; None for the middle of the
            map.

    Raises:
        ValueError: no pixel was observed, a length is not positive, or the noise cannot be
            measured.
    """
    if not min(pixel_arcsec, beam_major_arcsec, beam_minor_arcsec) > 0:
        raise ValueError(
            f"pixel and beam of {pixel_arcsec}, {beam_major_arcsec} and {beam_minor_arcsec} arcsec "
            "must be positive"
        )
    observed = np.isfinite(image)
    if not observed.any():
        raise ValueError("no pixel of the map was observed")
    values = np.where(observed, image, 0.0)
    if noise_jy is None or not noise_jy > 0:
        kept = values[observed]
        noise_jy = 1.4826 * float(np.median(np.abs(kept - np.median(kept))))
        if not noise_jy > 0:
            raise ValueError("the noise of the map is not known, and most pixels are alike")
    beam_arcsec = math.sqrt(beam_major_arcsec * beam_minor_arcsec)
    step = beam_arcsec / pixel_arcsec / PIXELS_PER_BEAM
    height, width = values.shape
    at = ((width - 1) / 2, (height - 1) / 2) if middle is None else middle
    columns, rows = (_steps(*each, step) for each in zip((width, height), at, strict=True))
    scaled = rows @ values @ columns.T / noise_jy
    share = float((rows @ observed @ columns.T).mean())
    peak = max(float(scaled.max()), 1.0)
    beam = (
        beam_minor_arcsec / beam_major_arcsec,
        math.cos(2 * beam_angle_rad),
        math.sin(2 * beam_angle_rad),
        math.log(peak) / 3 - 1,
    )
    compressed = scaled / np.sqrt(1 + np.abs(scaled))
    return MapInput(
        compressed.astype(np.float32),
        np.array(beam, np.float32),
        noise_jy,
        beam_arcsec,
        peak,
        share,
    )


def _steps(size: int, middle: float, step: float) -> Floats:
    """The matrix that resamples one axis to SIDE places, shape (SIDE, size).

    It interpolates linearly, and gives 0 outside of the map.

    Args:
        size: number of pixels along the axis.
        middle: pixel in the middle of the places.
        step: distance between places in pixels.
    """
    place = (np.arange(SIDE) - (SIDE - 1) / 2) * step + middle
    inside = np.flatnonzero((place >= 0) & (place <= size - 1))
    place = place[inside]
    below = np.minimum(place.astype(int), max(size - 2, 0))
    part = np.minimum(place - below, 1.0)
    matrix = np.zeros((SIDE, size))
    matrix[inside, below] = 1 - part
    matrix[inside, np.minimum(below + 1, size - 1)] += part
    return matrix


def morphology_of(
    source: MapInput,
    morphology_logits: Array32,
    cells: Array32,
    calibration: MapCalibration | None = None,
) -> Morphology:
    """Morphology and components of one map, these by falling flux, from the middle of the input.

    Args:
        source: the map.
        morphology_logits: logits of the network, shape (MORPHOLOGIES,).
        cells: outputs of the network for the cells, shape (CELL_GRID, CELL_GRID, CELL_OUTPUTS),
            with y along the first axis.
        calibration: calibration of the outputs; None for none.
    """
    calibration = calibration or MapCalibration()
    logits = np.asarray(morphology_logits, float) / calibration.temperature
    weight = np.exp(logits - logits.max())
    shares = weight / weight.sum()
    return Morphology(
        MORPHOLOGIES[int(shares.argmax())],
        shares,
        _components(source, np.asarray(cells, float), calibration),
    )


def _components(source: MapInput, cells: Floats, calibration: MapCalibration) -> list[MapComponent]:
    logit = cells[..., PRESENCE]
    # A cell reports a component only if no neighbour has a higher logit.
    padded = np.full((CELL_GRID + 2, CELL_GRID + 2), -np.inf)
    padded[1:-1, 1:-1] = logit
    around = np.max(
        [
            padded[1 + dy : 1 + dy + CELL_GRID, 1 + dx : 1 + dx + CELL_GRID]
            for dy, dx in ((0, 1), (1, 0), (0, -1), (-1, 0))
        ],
        axis=0,
    )
    rows, columns = np.nonzero((logit > calibration.component_logit) & (logit >= around))
    cell_arcsec = CELL_PIXELS / PIXELS_PER_BEAM * source.beam_arcsec
    middle = (CELL_GRID - 1) / 2
    found = []
    for row, column in zip(rows.tolist(), columns.tolist(), strict=True):
        output = cells[row, column]
        flux = source.noise_jy * math.exp(min(max(float(output[FLUX]), -5.0), 15.0))
        log_error = min(max(float(output[LOG_ERROR]), -5.0), 1.0)
        found.append(
            MapComponent(
                x_arcsec=(column - middle + float(np.clip(output[X], -1, 1))) * cell_arcsec,
                y_arcsec=(row - middle + float(np.clip(output[Y], -1, 1))) * cell_arcsec,
                flux_jy=flux,
                flux_error_jy=calibration.flux_error_scale * math.exp(log_error) * flux,
                probability=1 / (1 + math.exp(-float(output[PRESENCE]))),
            )
        )
    return sorted(found, key=lambda each: -each.flux_jy)
