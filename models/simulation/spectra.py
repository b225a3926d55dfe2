"""Simulates spectra with lines for the parser, in the regimes of noise of ``spectral_noise``."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mmbroker.models.simulation.line_emission import LINE_NAMES, REST_HZ
from mmbroker.models.simulation.line_profiles import BLENDED, LineProfiles, draw_profiles
from mmbroker.models.simulation.spectral_axes import Axis, draw_axis
from mmbroker.models.simulation.spectral_noise import (
    BASELINE,
    RECEIVER,
    REGIME_SHARES,
    REGIMES,
    Booleans,
    Integers,
    convolved,
    draw_kernels,
    draw_mistakes,
    draw_observed,
    draw_ripples,
)
from mmbroker.processors import relations
from mmbroker.schemas.events import Floats

LINES = 6
"""The most lines of a spectrum."""

FAINTEST_TRUTH = 1.5
"""The signal-to-noise ratio below which a line does not count as one."""

_LEAST, _MOST = 2.5, 25.0
"""The range of the signal-to-noise ratio of a galaxy's chosen line, drawn in its logarithm.
Assumed: from lines that cannot be found to lines that cannot be missed."""

_WITH_GALAXY, _WITH_INTERLOPER = 0.7, 0.08
"""The shares of spectra with the lines of a galaxy, and with a line of another galaxy. Assumed."""

_C = relations.SPEED_OF_LIGHT_KM_S

_LOG_RATIO = np.log([relations.LINE_RATIOS[name] for name in LINE_NAMES])


@dataclass(frozen=True, slots=True, eq=False)
class SimulatedLines:
    """Up to LINES lines of N spectra; arrays of shape (N, LINES).

    They are float64, and NaN where there is no line, if nothing else is said.

    Attributes:
        frequency_hz: the observed frequency in Hz, in the middle between the outer edges.
        width_km_s: the width in km/s, see ``LineProfiles``.
        flux_jy_km_s: the velocity-integrated flux density in Jy km/s.
        signal_to_noise: that of a filter with the true profile; its noise has the true covariance,
            without ripples.
        shape: the index into SHAPES, -1 for none; int64.
        name: the index into the lines of ``relations.LINES_HZ``, -1 for none and for interlopers;
            int64.
    """

    frequency_hz: Floats
    width_km_s: Floats
    flux_jy_km_s: Floats
    signal_to_noise: Floats
    shape: Integers
    name: Integers


@dataclass(frozen=True, slots=True, eq=False)
class SimulatedSpectra:
    """N spectra on one frequency axis.

    Attributes:
        axis: the frequency axis.
        flux_density_jy: the flux densities in Jy, float64, shape (N, channels).
        flux_error_jy: the errors in Jy that the observatory would state, float64, shape
            (N, channels).
        observed: False where a channel is flagged, bool, shape (N, channels).
        continuum_jy: the noiseless continuum in Jy, float64, shape (N, channels).
        regime: the index into REGIMES, int64, shape (N,).
        redshift: the redshift of the galaxy, NaN without one, float64, shape (N,).
        lines: the true lines, which a finder should find.
    """

    axis: Axis
    flux_density_jy: Floats
    flux_error_jy: Floats
    observed: Booleans
    continuum_jy: Floats
    regime: Integers
    redshift: Floats
    lines: SimulatedLines

    def __len__(self) -> int:
        return len(self.regime)

    def spectrum(self, row: int) -> tuple[Floats, Floats, Floats]:
        """The observed channels of one spectrum.

        Args:
            row: the index of the spectrum.

        Returns:
            Frequencies in Hz, flux densities in Jy and errors in Jy; float64, shape (observed
            channels,) each.
        """
        seen = self.observed[row]
        return (
            self.axis.frequency_hz[seen],
            self.flux_density_jy[row][seen],
            self.flux_error_jy[row][seen],
        )


def simulate_spectra(
    count: int, random: np.random.Generator, axis: Axis | None = None, regime: int | None = None
) -> SimulatedSpectra:
    """Simulate spectra on one axis.

    Args:
        count: the number of spectra.
        random: the generator of random numbers.
        axis: the axis of all; None draws one.
        regime: the index into REGIMES; None draws one for each spectrum.
    """
    axis = axis or draw_axis(random)
    regimes = (
        random.choice(len(REGIMES), count, p=REGIME_SHARES)
        if regime is None
        else np.full(count, regime)
    )
    error = _errors(count, axis, random)
    observed = draw_observed(count, len(axis.frequency_hz), random)
    kernel = draw_kernels(regimes, random)
    noise = convolved(random.standard_normal(error.shape), kernel)
    continuum = _continuum(error, axis, random)
    flux = continuum + noise * error
    troubled = regimes >= BASELINE
    flux[troubled] += draw_ripples(error[troubled], continuum[troubled], axis, random)
    lines, redshift, signal = _lines(axis, error, observed, kernel, random)
    flux += signal
    stated = error
    broken = np.flatnonzero(regimes == RECEIVER)
    if len(broken):
        stated = error.copy()
        stated[broken], spikes = draw_mistakes(error[broken], axis, random)
        flux[broken] += spikes
    return SimulatedSpectra(axis, flux, stated, observed, continuum, regimes, redshift, lines)


def _errors(count: int, axis: Axis, random: np.random.Generator) -> Floats:
    """Draw the true noise in Jy, which varies slowly and rises where the atmosphere absorbs."""
    place = np.linspace(0, 1, len(axis.frequency_hz))
    depth = 4e-4 * 10 ** random.normal(0, 0.3, (count, 1))
    shape = np.zeros((count, len(place)))
    for mode in range(1, 4):
        phase = random.uniform(0, 2 * np.pi, (count, 1))
        amplitude = random.normal(0, 0.12, (count, 1)) / mode
        shape += amplitude * np.cos(2 * np.pi * mode * place + phase)
    absorbed = random.random((count, 1)) < 0.2
    centre, width = random.random((count, 1)), random.uniform(0.01, 0.08, (count, 1))
    shape += (
        absorbed
        * random.uniform(0.3, 1.2, (count, 1))
        * np.exp(-0.5 * ((place - centre) / width) ** 2)
    )
    noise: Floats = depth * np.exp(shape)
    return noise


def _continuum(error: Floats, axis: Axis, random: np.random.Generator) -> Floats:
    count = len(error)
    middle = np.median(error, axis=1, keepdims=True)
    level = middle * np.exp(random.uniform(np.log(0.03), np.log(10.0), (count, 1)))
    slope = np.where(random.random((count, 1)) < 0.85, random.normal(3.3, 0.4, (count, 1)), -0.7)
    flux: Floats = level * (axis.frequency_hz / axis.frequency_hz.mean()) ** slope
    return flux


def _lines(
    axis: Axis,
    error: Floats,
    observed: Booleans,
    kernel: Floats,
    random: np.random.Generator,
) -> tuple[SimulatedLines, Floats, Floats]:
    """Draw the lines of a galaxy's ladder and of an interloper.

    Returns:
        The lines, the redshifts, shape (N,), and the signal in Jy, shape (N, channels).
    """
    count = len(error)
    frequency, chosen = _chosen_line(count, axis, random)
    galaxy = random.random(count) < _WITH_GALAXY
    redshift = np.where(galaxy, REST_HZ[chosen] / frequency - 1, np.nan)
    width = (
        relations.LINE_WIDTH_KM_S * 10 ** random.normal(0, relations.LINE_WIDTH_SCATTER_DEX, count)
    ).clip(80.0, 1200.0)
    profiles = draw_profiles(width, random)
    profiles = _widened(profiles)
    edges = np.concatenate([axis.frequency_hz - axis.width_hz / 2, [np.nan]])
    low, high = edges[:-1], edges[:-1] + axis.width_hz

    # A ladder's other lines, brighter or fainter by their ratios and scatter.
    ratio = _LOG_RATIO + 2 * np.log(REST_HZ)
    scatter = relations.LINE_RATIO_SCATTER_DEX * np.log(10)
    log_flux = ratio - ratio[chosen][:, None] + random.normal(0, scatter, (count, len(LINE_NAMES)))
    at = REST_HZ / (1 + redshift)[:, None]
    reach = 1500.0 / _C
    covered = (at > low[0] * (1 - reach)) & (at < high[-1] * (1 + reach))
    log_flux[np.arange(count), chosen] = 0.0

    found = _Found(count)
    signal = np.zeros(error.shape)
    goal = np.exp(random.uniform(np.log(_LEAST), np.log(_MOST), count))
    scale = np.ones(count)
    order = [(chosen, galaxy)]
    order += [(np.full(count, k), galaxy & covered[:, k] & (chosen != k)) for k in range(12)]
    rows_of = np.arange(count)
    for number, (line, present) in enumerate(order):
        rows = np.flatnonzero(present)
        if not len(rows):
            continue
        centre = at[rows, line[rows]]
        shape = _profile_density(profiles, rows, centre, low, high)
        shape *= np.exp(log_flux[rows, line[rows]])[:, None]
        if number == 0:
            scale[rows] = goal[rows] / _unit(shape, error[rows], observed[rows], kernel[rows])
        shape *= scale[rows][:, None]
        signal[rows] += shape
        found.add(
            rows,
            centre,
            profiles.width_km_s[rows],
            np.exp(log_flux[rows, line[rows]]) * scale[rows],
            _signal_to_noise(shape, error[rows], observed[rows], kernel[rows]),
            profiles.shape[rows],
            line[rows],
        )
    rows = rows_of[random.random(count) < _WITH_INTERLOPER]
    if len(rows):
        centre = random.choice(axis.frequency_hz, len(rows))
        other = draw_profiles(width[random.integers(0, count, len(rows))], random)
        other = _widened(other)
        shape = _profile_density(other, np.arange(len(rows)), centre, low, high)
        size = np.exp(random.uniform(np.log(_LEAST), np.log(_MOST), len(rows)))
        size /= _unit(shape, error[rows], observed[rows], kernel[rows])
        unit = _signal_to_noise(shape, error[rows], observed[rows], kernel[rows])
        signal[rows] += shape * size[:, None]
        found.add(
            rows, centre, other.width_km_s, size, size * unit, other.shape,
            np.full(len(rows), -1),
        )  # fmt: skip
    return found.lines(), redshift, signal


def _chosen_line(count: int, axis: Axis, random: np.random.Generator) -> tuple[Floats, Integers]:
    """Draw a frequency in the spectrum, and a line that may be there at a redshift of 0.1 to 8."""
    frequency = random.choice(axis.frequency_hz, count)
    frequency = frequency + (random.random(count) - 0.5) * axis.width_hz
    shift = REST_HZ / frequency[:, None]
    possible = (shift > 1.1) & (shift < 9.0)
    weight = np.where(possible, random.random(possible.shape), -1.0)
    return frequency, np.asarray(weight.argmax(axis=1))


def _widened(profiles: LineProfiles) -> LineProfiles:
    """Widen blends, which are of two galaxies."""
    wider = np.where(profiles.shape == BLENDED, 1.4, 1.0)
    return LineProfiles(
        profiles.shape,
        profiles.width_km_s * wider,
        profiles.separation,
        profiles.contrast,
        profiles.valley,
        profiles.width_ratio,
    )


def _profile_density(
    profiles: LineProfiles, rows: Integers, centre_hz: Floats, low: Floats, high: Floats
) -> Floats:
    """The flux density in Jy of lines of 1 Jy km/s in each channel, shape (rows, channels)."""
    part = LineProfiles(*(getattr(profiles, name)[rows] for name in profiles.__slots__))
    # Radio convention: velocity rises as frequency falls, linearly.
    at_low = _C * (1 - low / centre_hz[:, None])
    at_high = _C * (1 - high / centre_hz[:, None])
    density = (part.cumulative(at_low) - part.cumulative(at_high)) / (at_low - at_high)
    return np.asarray(density)


def _unit(shape: Floats, error: Floats, observed: Booleans, kernel: Floats) -> Floats:
    """The signal-to-noise ratio of a line of 1 Jy km/s.

    It is at least 0.3 times that without flagged channels.
    """
    seen = _signal_to_noise(shape, error, observed, kernel)
    whole = _signal_to_noise(shape, error, np.ones_like(observed), kernel)
    return np.asarray(np.maximum(seen, 0.3 * whole))


def _signal_to_noise(shape: Floats, error: Floats, observed: Booleans, kernel: Floats) -> Floats:
    scaled = np.where(observed, shape / error, 0.0)
    # R = K K^T: the quadratic form is the squared norm of K^T g.
    spread = convolved(scaled, kernel[:, ::-1])
    ratio: Floats = (scaled**2).sum(axis=1) / np.sqrt((spread**2).sum(axis=1) + 1e-30)
    return ratio


class _Found:
    """Collects the lines of spectra."""

    def __init__(self, count: int) -> None:
        self._values = np.full((4, count, LINES), np.nan)
        self._kinds = np.full((2, count, LINES), -1)
        self._number = np.zeros(count, int)

    def add(
        self,
        rows: Integers,
        frequency: Floats,
        width: Floats,
        flux: Floats,
        signal_to_noise: Floats,
        shape: Integers,
        name: Integers,
    ) -> None:
        """Add a line to some spectra, where it is bright enough and there is room."""
        keep = (signal_to_noise >= FAINTEST_TRUTH) & (self._number[rows] < LINES)
        chosen, place = rows[keep], self._number[rows[keep]]
        for index, values in enumerate((frequency, width, flux, signal_to_noise)):
            self._values[index, chosen, place] = values[keep]
        self._kinds[0, chosen, place] = shape[keep]
        self._kinds[1, chosen, place] = name[keep]
        self._number[chosen] += 1

    def lines(self) -> SimulatedLines:
        """Return all lines, after those that overlap too much are joined to one blend."""
        frequency, width, flux, ratio = self._values
        shape, name = self._kinds
        for first in range(LINES):
            for second in range(LINES):
                if first == second:
                    continue
                apart = _C * np.abs(np.log(frequency[:, first] / frequency[:, second]))
                mean = (width[:, first] + width[:, second]) / 2
                rows = np.flatnonzero((apart < 0.8 * mean) & (flux[:, first] >= flux[:, second]))
                if not len(rows):
                    continue
                frequency[rows, first] = (frequency[rows, first] + frequency[rows, second]) / 2
                width[rows, first] = apart[rows] + mean[rows]
                flux[rows, first] += flux[rows, second]
                ratio[rows, first] = np.hypot(ratio[rows, first], ratio[rows, second])
                shape[rows, first] = BLENDED
                self._values[:, rows, second] = np.nan
                self._kinds[:, rows, second] = -1
        return SimulatedLines(frequency, width, flux, ratio, shape, name)
