"""Matches lines found in simulated spectra to those that were put in."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mmbroker.models.parser.exported import ExportedSpectrumParser
from mmbroker.models.simulation.spectra import SimulatedSpectra, simulate_spectra
from mmbroker.processors.features.lines import SHAPES, LineCalibration, lines_of
from mmbroker.processors.features.patches import Patches, patches_of
from mmbroker.processors.relations import SPEED_OF_LIGHT_KM_S
from mmbroker.schemas.events import Floats, ParsedLine

Integers = NDArray[np.int64]
Finder = Callable[[Sequence[Patches]], list[list[tuple[float, ParsedLine]]]]
"""Finds lines: takes spectra, and returns for each its lines with their scores, in any order."""

Measure = Callable[[Patches, ParsedLine], ParsedLine]
"""Measures a line: takes a spectrum and a line found in it, and returns the measured line.

What cannot be measured is NaN.
"""

BATCH = 30
VALIDATION_SEED, TEST_SEED = 21, 22
VALIDATION_SPECTRA, TEST_SPECTRA = 3_000, 6_000


@dataclass(frozen=True, slots=True, eq=False)
class Truth:
    """T lines that were put in: arrays of shape (T,), float64 where nothing else is said.

    Attributes:
        spectrum: the number of the spectrum, ascending, int64.
        frequency_hz: the observed frequency in Hz.
        width_km_s: the width in km/s, see ``LineProfiles``.
        flux_jy_km_s: the velocity-integrated flux density in Jy km/s.
        signal_to_noise: the true signal-to-noise ratio.
        shape: the index into SHAPES, int64.
        counted: whether its middle was observed, bool. Others may be found, and need not.
    """

    spectrum: Integers
    frequency_hz: Floats
    width_km_s: Floats
    flux_jy_km_s: Floats
    signal_to_noise: Floats
    shape: Integers
    counted: NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Detections:
    """D lines that were found: arrays of shape (D,), float64 where nothing else is said.

    Attributes:
        spectrum: the number of the spectrum, ascending, int64.
        score: the score by the method.
        frequency_hz: the measured frequency in Hz.
        frequency_error_hz: its 1 sigma error in Hz.
        width_km_s: the measured width in km/s.
        width_error_km_s: its 1 sigma error in km/s.
        flux_jy_km_s: the measured flux in Jy km/s.
        flux_error_jy_km_s: its 1 sigma error in Jy km/s.
        shape: the index into SHAPES, int64.
        matched: the index of the true line that it is, -1 for none; int64.
    """

    spectrum: Integers
    score: Floats
    frequency_hz: Floats
    frequency_error_hz: Floats
    width_km_s: Floats
    width_error_km_s: Floats
    flux_jy_km_s: Floats
    flux_error_jy_km_s: Floats
    shape: Integers
    matched: Integers


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """The lines that some methods found in the same S spectra.

    Attributes:
        regime: the regime of each spectrum, an index into REGIMES, int64, shape (S,).
        truth: the lines that were put in.
        found: the lines that were found, by method.
    """

    regime: Integers
    truth: Truth
    found: dict[str, Detections]


LEAST_LOGIT = -4.0


def neural_finder(network: ExportedSpectrumParser, calibration: LineCalibration) -> Finder:
    """Make a finder of the parser; a line's score is the logit of its probability.

    Args:
        network: the parser of spectra.
        calibration: its calibration.
    """

    def find(spectra: Sequence[Patches]) -> list[list[tuple[float, ParsedLine]]]:
        outputs = network.outputs(spectra)
        return [
            [
                (math.log(line.probability / (1 - line.probability)), line)
                for line in lines_of(patches, output, calibration, LEAST_LOGIT)
            ]
            for patches, output in zip(spectra, outputs, strict=True)
        ]

    return find


def judge(
    finders: Mapping[str, Finder],
    spectra: int,
    seed: int,
    measures: Mapping[str, Measure] | None = None,
) -> Judged:
    """Let some methods find lines in the same simulated spectra.

    Args:
        finders: the methods by name.
        spectra: the number of spectra.
        seed: the seed of the simulation.
        measures: by the name of a method, what measures the lines that it finds. Lines are matched
            by the frequency at which they were found. For other methods, the finder itself
            measures.
    """
    measures = measures or {}
    regime: list[Integers] = []
    truths: list[list[float]] = []
    rows: dict[str, list[list[float]]] = {name: [] for name in finders}
    for first, simulated in simulations(spectra, seed):
        laid_out = [patches_of(*simulated.spectrum(row)) for row in range(len(simulated))]
        regime.append(simulated.regime)
        for row, patches in enumerate(laid_out):
            truths.extend(_truth_rows(simulated, patches, row, first + row))
        for name, finder in finders.items():
            measure = measures.get(name)
            for row, lines in enumerate(finder(laid_out)):
                for score, line in lines:
                    measured = line if measure is None else measure(laid_out[row], line)
                    rows[name].append(_detection_row(first + row, score, line, measured))
    table = np.array(truths)
    truth = Truth(
        table[:, 0].astype(int),
        table[:, 1],
        table[:, 2],
        table[:, 3],
        table[:, 4],
        table[:, 5].astype(int),
        table[:, 6] > 0,
    )
    channel = table[:, 7]
    found = {}
    for name, each in rows.items():
        found[name] = _matched(np.array(each).reshape(-1, 10), truth, channel)
    return Judged(np.concatenate(regime), truth, found)


def simulations(spectra: int, seed: int) -> Iterator[tuple[int, SimulatedSpectra]]:
    """Simulate spectra batch by batch; the first spectra are the same however many there are.

    Args:
        spectra: the number of spectra.
        seed: the seed of the simulation.

    Yields:
        The number of the first spectrum of a batch, and the batch.
    """
    for first in range(0, spectra, BATCH):
        random = np.random.default_rng([seed, first])
        yield first, simulate_spectra(min(BATCH, spectra - first), random)


def _truth_rows(
    simulated: SimulatedSpectra, patches: Patches, row: int, number: int
) -> Iterator[list[float]]:
    lines = simulated.lines
    observed = patches.weight > 0
    frequency, width = patches.frequency_hz[observed], patches.width_km_s[observed]
    for k in np.flatnonzero(np.isfinite(lines.frequency_hz[row])):
        centre = lines.frequency_hz[row, k]
        nearest = np.abs(frequency - centre).argmin()
        away = abs(frequency[nearest] / centre - 1) * SPEED_OF_LIGHT_KM_S
        yield [
            number,
            centre,
            lines.width_km_s[row, k],
            lines.flux_jy_km_s[row, k],
            lines.signal_to_noise[row, k],
            lines.shape[row, k],
            away <= width[nearest],
            width[nearest],
        ]


def _detection_row(
    spectrum: int, score: float, found: ParsedLine, measured: ParsedLine
) -> list[float]:
    return [
        spectrum,
        score,
        measured.frequency_hz,
        measured.frequency_error_hz,
        measured.width_km_s,
        measured.width_error_km_s,
        measured.flux_jy_km_s,
        measured.flux_error_jy_km_s,
        SHAPES.index(measured.shape),
        found.frequency_hz,
    ]


def _matched(table: Floats, truth: Truth, channel_km_s: Floats) -> Detections:
    """Match lines by falling score with true ones within half a width or two channels."""
    order = np.lexsort([-table[:, 1], table[:, 0]])
    table = table[order]
    matched = np.full(len(table), -1)
    first = np.searchsorted(truth.spectrum, table[:, 0], side="left")
    last = np.searchsorted(truth.spectrum, table[:, 0], side="right")
    taken = np.zeros(len(truth.spectrum), bool)
    reach = np.maximum(truth.width_km_s / 2, 2 * channel_km_s)
    for row in range(len(table)):
        best, nearest = -1, np.inf
        for k in range(first[row], last[row]):
            away = abs(np.log(table[row, 9] / truth.frequency_hz[k])) * SPEED_OF_LIGHT_KM_S
            if not taken[k] and away < reach[k] and away < nearest:
                best, nearest = k, away
        if best >= 0:
            taken[best] = True
            matched[row] = best
    score, frequency, frequency_error, width, width_error, flux, flux_error = table[:, 1:8].T
    return Detections(
        table[:, 0].astype(int),
        score,
        frequency,
        frequency_error,
        width,
        width_error,
        flux,
        flux_error,
        table[:, 8].astype(int),
        matched,
    )


def line_pulls(found: Detections, truth: Truth) -> dict[str, Floats]:
    """The pulls of the detections that are true: (measured - true) / error.

    Args:
        found: the detections of one method.
        truth: the true lines.

    Returns:
        ``frequency``, ``width`` and ``flux``, float64, shape (true detections,) each, in the order
        of the detections.
    """
    true = found.matched >= 0
    which = found.matched[true]
    return {
        "frequency": (found.frequency_hz[true] - truth.frequency_hz[which])
        / found.frequency_error_hz[true],
        "width": (found.width_km_s[true] - truth.width_km_s[which]) / found.width_error_km_s[true],
        "flux": (found.flux_jy_km_s[true] - truth.flux_jy_km_s[which])
        / found.flux_error_jy_km_s[true],
    }


def threshold_at_purity(found: Detections, purity: float, spectra: Integers | None = None) -> float:
    """Find the lowest score above which a wanted share of the detections is true.

    Args:
        found: the detections of one method.
        purity: the wanted share.
        spectra: the numbers of the spectra that count; None for all.

    Returns:
        The score; infinity if no score does.
    """
    chosen = np.ones(len(found.score), bool)
    if spectra is not None:
        chosen = np.isin(found.spectrum, spectra)
    order = np.argsort(-found.score[chosen], kind="stable")
    true = found.matched[chosen][order] >= 0
    share = np.cumsum(true) / np.arange(1, len(true) + 1)
    good = np.flatnonzero(share >= purity)
    if not len(good):
        return float("inf")
    return float(found.score[chosen][order][good[-1]])


def purity_and_completeness(
    judged: Judged, name: str, threshold: float, low: float, high: float, spectra: Integers
) -> tuple[float, float]:
    """The share of detections that are true, and of lines in a range of S/N that are found.

    Args:
        judged: the methods on the same spectra.
        name: the name of the method.
        threshold: the lowest score that counts.
        low: the lower end of the range of S/N, inside.
        high: its upper end, outside.
        spectra: the numbers of the spectra that count.
    """
    counts = counts_by_spectrum(judged, name, threshold, low, high)[:, spectra].sum(axis=1)
    detections, true, lines, found = counts.tolist()
    return true / max(detections, 1), found / max(lines, 1)


def counts_by_spectrum(
    judged: Judged, name: str, threshold: float, low: float, high: float
) -> Integers:
    """Count detections, true detections, lines, and found lines in each spectrum.

    Args:
        judged: the methods on the same S spectra.
        name: the name of the method.
        threshold: the lowest score that counts.
        low: the lower end of the range of S/N of lines, inside.
        high: its upper end, outside.

    Returns:
        int64, shape (4, S).
    """
    found, truth = judged.found[name], judged.truth
    count = len(judged.regime)
    above = found.score >= threshold
    inside = truth.counted & (truth.signal_to_noise >= low) & (truth.signal_to_noise < high)
    true = above & (found.matched >= 0)
    hit = np.zeros(len(truth.spectrum), bool)
    hit[found.matched[true]] = True
    return np.array(
        [
            np.bincount(found.spectrum[above], minlength=count),
            np.bincount(found.spectrum[true], minlength=count),
            np.bincount(truth.spectrum[inside], minlength=count),
            np.bincount(truth.spectrum[inside & hit], minlength=count),
        ]
    )
