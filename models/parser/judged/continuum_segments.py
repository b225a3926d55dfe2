"""Judges the continuum segments of feature trees against the continuum that was simulated."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmbroker.models.parser.exported import ExportedSpectrumParser
from mmbroker.models.parser.judged.line_detections import Integers, simulations
from mmbroker.models.parser.measures import central_half_width
from mmbroker.models.simulation.spectra import SimulatedSpectra
from mmbroker.models.simulation.spectral_noise import REGIMES
from mmbroker.processors.features.lines import continuum_of
from mmbroker.processors.features.patches import Array32, Patches, patches_of
from mmbroker.schemas.events import Floats

SEGMENTS = "parser"
MEDIAN = "median of the channels"
GENERIC = "specutils fit_generic_continuum"


@dataclass(frozen=True, slots=True, eq=False)
class JudgedSegments:
    """S segments of the continuum of simulated spectra.

    Attributes:
        regime: the index into REGIMES, int64, shape (S,).
        channel_error_jy: the stated error of one channel in Jy, as the root of the inverse mean
            weight, float64, shape (S,).
        stated_error_jy: the error of the flux density in Jy that the parser states, float64, shape
            (S,).
        difference_jy: the flux density minus the true one in Jy, by method, float64, shape (S,)
            each.
    """

    regime: Integers
    channel_error_jy: Floats
    stated_error_jy: Floats
    difference_jy: dict[str, Floats]


def judge_continuum(network: ExportedSpectrumParser, spectra: int, seed: int) -> JudgedSegments:
    """Judge the segments of simulated spectra.

    The truth is the inverse-variance mean of the noiseless continuum over the channels that were
    observed; ripples and slopes that calibration leaves are no part of it.

    Args:
        network: the parser of spectra.
        spectra: the number of spectra.
        seed: the seed of the simulation.
    """
    regime: list[int] = []
    errors: list[tuple[float, float]] = []
    differences: list[dict[str, float]] = []
    for _, simulated in simulations(spectra, seed):
        laid_out = [patches_of(*simulated.spectrum(row)) for row in range(len(simulated))]
        for row, outputs in enumerate(network.outputs(laid_out)):
            for both, difference in _segments(simulated, row, laid_out[row], outputs):
                regime.append(int(simulated.regime[row]))
                errors.append(both)
                differences.append(difference)
    channel, stated = np.array(errors).T
    return JudgedSegments(
        np.array(regime),
        channel,
        stated,
        {name: np.array([each[name] for each in differences]) for name in differences[0]},
    )


def _segments(
    simulated: SimulatedSpectra, row: int, patches: Patches, outputs: Array32
) -> Iterator[tuple[tuple[float, float], dict[str, float]]]:
    """The stated errors of a channel and of a segment, and each method's deviation, in Jy."""
    true = np.interp(patches.frequency_hz, simulated.axis.frequency_hz, simulated.continuum_jy[row])
    flux = patches.flux_jy + patches.continuum_jy
    for segment in continuum_of(patches, outputs):
        inside = _channels(patches, segment.low_hz)
        weight = patches.weight[inside]
        mean = float(np.average(true[inside], weights=weight))
        difference = {
            SEGMENTS: segment.flux_density_jy - mean,
            MEDIAN: float(np.median(flux[inside])) - mean,
        }
        generic = _generic(patches.frequency_hz[inside], flux[inside])
        if generic is not None:
            difference[GENERIC] = float(np.average(generic, weights=weight)) - mean
        yield (float(weight.mean()) ** -0.5, segment.flux_error_jy), difference


def _channels(patches: Patches, low_hz: float) -> NDArray[np.bool_]:
    """Whether each channel was observed and is in the stretch with this lowest frequency, (N,)."""
    seen = patches.weight > 0
    away = np.where(seen, np.abs(patches.frequency_hz - low_hz), math.inf)
    return np.asarray(seen & (patches.stretch == patches.stretch[away.argmin()]))


def _generic(frequency_hz: Floats, flux_jy: Floats) -> Floats | None:
    """The continuum by ``specutils`` in Jy, shape (channels,); None if it is not installed."""
    try:
        from specutils import Spectrum
        from specutils.fitting import fit_generic_continuum
    except ImportError:
        return None
    from astropy import units

    axis = frequency_hz / 1e9 * units.GHz
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        spectrum = Spectrum(spectral_axis=axis, flux=flux_jy * 1e3 * units.mJy)
        fitted = fit_generic_continuum(spectrum)(axis)
    return np.asarray(fitted.to_value(units.Jy))


def continuum_figures(judged: JudgedSegments) -> dict[str, dict[str, Any]]:
    """Compute bias and robust scatter in errors of one channel, by regime and method.

    For the parser also the pull is computed: bias and scatter in stated errors. The other methods
    state none.

    Args:
        judged: the judged segments.
    """
    groups = {"all": np.arange(len(judged.regime))}
    groups |= {name: np.flatnonzero(judged.regime == k) for k, name in enumerate(REGIMES)}
    result: dict[str, dict[str, Any]] = {}
    for group, rows in groups.items():
        result[group] = {"segments": len(rows)}
        if not len(rows):
            continue
        for name, difference in judged.difference_jy.items():
            in_channels = (difference / judged.channel_error_jy)[rows]
            entry = {
                "bias": float(np.median(in_channels)),
                "scatter": central_half_width(in_channels),
            }
            if name == SEGMENTS:
                pull = (difference / judged.stated_error_jy)[rows]
                entry |= {"pull_bias": float(np.median(pull)), "pull": central_half_width(pull)}
            result[group][name] = entry
    return result
