"""Judge the continuum segments of feature trees against the continuum that was simulated."""

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
from mmbroker.models.parser.measures import robust_scatter
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
        regime: index into REGIMES, shape (S,).
        channel_error_jy: stated error of one channel, root of the inverse mean weight, shape (S,).
        stated_error_jy: of the flux density, as the parser says, shape (S,).
        difference_jy: flux density minus the true one, by method, each of shape (S,).
    """

    regime: Integers
    channel_error_jy: Floats
    stated_error_jy: Floats
    difference_jy: dict[str, Floats]


def judge_continuum(network: ExportedSpectrumParser, spectra: int, seed: int) -> JudgedSegments:
    """Segments of the first spectra of a simulation.

    The truth is the inverse-variance mean of the noiseless continuum over the channels that were
    observed; ripples and slopes that calibration leaves are no part of it.

    Args:
        network: of the parser.
        spectra: how many.
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
    """Stated errors of a channel and of a segment, and the deviation of each method, in Jy."""
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
    """Which channels were observed in the stretch whose lowest frequency this is, shape (N,)."""
    seen = patches.weight > 0
    away = np.where(seen, np.abs(patches.frequency_hz - low_hz), math.inf)
    return np.asarray(seen & (patches.stretch == patches.stretch[away.argmin()]))


def _generic(frequency_hz: Floats, flux_jy: Floats) -> Floats | None:
    """The continuum of ``specutils`` as it is, in Jy, shape (channels,); None without it."""
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
    """By regime and method: bias and robust scatter in errors of one channel, and the pull.

    The pull, bias and scatter in stated errors, is that of the parser alone: the others state none.
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
                "scatter": robust_scatter(in_channels),
            }
            if name == SEGMENTS:
                pull = (difference / judged.stated_error_jy)[rows]
                entry |= {"pull_bias": float(np.median(pull)), "pull": robust_scatter(pull)}
            result[group][name] = entry
    return result
