"""Simulates lines as they are measured in spectra, with their true fluxes."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mmbroker.models.lines.baselines import Masked
from mmbroker.models.real_data.line_tables import INFRARED_ERROR_DEX, LineSample
from mmbroker.models.real_data.split import split_of
from mmbroker.models.simulation.line_emission import LINE_NAMES
from mmbroker.models.simulation.observations import BLOCK_GALAXIES, Mix, galaxy_number, simulate
from mmbroker.models.simulation.population import Population, simulate_population
from mmbroker.processors.fingerprint.merge import build
from mmbroker.processors.lines.joint import log_luminosity_per_flux
from mmbroker.processors.lines.measure import LINES, measure
from mmbroker.processors.redshift.spectral_lines import residual
from mmbroker.schemas.events import Observation

Array = NDArray[np.float64]

_SPECTRA_ALONE = Mix(photometry=0.0, photometric_redshift=0.0, continuum=0.0, spectra=1.0, maps=0.0)


@dataclass(frozen=True, slots=True, eq=False)
class SimulatedLineSample:
    """N galaxies with the lines measured in their merged spectra, and the truth.

    Attributes:
        sample: the measured fluxes, and infrared luminosities with the error of published ones.
        true_flux: the true fluxes in Jy km/s, float64, shape (N, LINES).
    """

    sample: LineSample
    true_flux: Array

    @property
    def true_signal_to_noise(self) -> Array:
        """The true signal-to-noise ratio of each line, 0 where it was not observed; (N, LINES)."""
        return np.asarray(self.true_flux / self.sample.error)


def simulated_lines(galaxies: int, seed: int, spectra: float = 4.0) -> SimulatedLineSample:
    """Simulate galaxies, merge their spectra, and measure lines at the true redshift.

    Args:
        galaxies: the number of galaxies.
        seed: the seed of the random numbers.
        spectra: the mean number of spectra of a galaxy.
    """
    observations: dict[int, list[Observation]] = defaultdict(list)
    for one in simulate(galaxies, seed, _SPECTRA_ALONE, observations_per_galaxy=spectra):
        observations[galaxy_number(one.observation_id)].append(one)
    blocks: list[Population] = [
        simulate_population(BLOCK_GALAXIES, seed, block)
        for block in range(-(-galaxies // BLOCK_GALAXIES))
    ]
    redshift = np.concatenate([each.redshift for each in blocks])[:galaxies]
    columns = [LINE_NAMES.index(name) for name in LINES]
    true_flux = np.concatenate([each.line_flux_jy_km_s for each in blocks])[:galaxies, columns]
    infrared = np.concatenate(
        [each.log_luminosity + np.log10(each.magnification) for each in blocks]
    )[:galaxies]
    names = tuple(f"simulated {seed} {number}" for number in range(galaxies))
    merged = (build(name, observations[number]) for number, name in enumerate(names))
    measured = measure(
        [residual(one) if len(one.chunk_index) else None for one in merged], redshift
    )
    random = np.random.default_rng([seed, 5])
    sample = LineSample(
        names,
        redshift,
        measured.flux_jy_km_s,
        measured.error_jy_km_s,
        infrared + INFRARED_ERROR_DEX * random.standard_normal(galaxies),
        np.full(galaxies, INFRARED_ERROR_DEX),
        np.array([split_of(name) for name in names]),
    )
    return SimulatedLineSample(sample, true_flux)


def observed_lines(simulated: SimulatedLineSample, mask: bool) -> Masked:
    """Make a row of every line that was observed, however faint, with its truth.

    Args:
        simulated: the galaxies.
        mask: whether to withhold the line's own measurement.
    """
    galaxy, line = np.nonzero(np.isfinite(simulated.sample.error))
    rows = simulated.sample.select(galaxy)
    place = np.arange(len(line)), line
    scale = log_luminosity_per_flux(rows.redshift)[place]
    truth = np.log10(simulated.true_flux[galaxy, line]) + scale
    if mask:
        flux, error = rows.flux.copy(), rows.error.copy()
        flux[place], error[place] = 0.0, np.inf
        rows = replace(rows, flux=flux, error=error)
    return Masked(rows, galaxy, line, truth, np.zeros(len(line)))
