"""Simulates the emission lines of galaxies: molecular gas, its excitation, and carbon."""

from __future__ import annotations

import numpy as np

from mmbroker.processors import relations
from mmbroker.schemas.events import Floats

LINE_NAMES = tuple(relations.LINES_HZ)

EXCITATION_DEX = 0.20
"""Scatter between galaxies of the tilt of the CO ladder, in dex of L' per decade of J. Assumed:
half the way from discs to quasars (``relations.DISC_CO_RATIO``, ``relations.QUASAR_CO_RATIO``) is
0.34."""

EXCITATION_PER_LUMINOSITY = 0.12
EXCITATION_OF_NUCLEI = 0.30
"""Tilt per dex of L_IR above that of submillimetre galaxies, and of galaxies with active nuclei.
Assumed, so as to put discs, submillimetre galaxies and quasars about where those ratios are."""

_SUBMILLIMETRE_LOG_LUMINOSITY = 12.6
"""log10 of L_IR in Lsun at which the ladder is that of submillimetre galaxies. Assumed: that of
bright ones."""

_GAS_SCATTER_DEX = 0.25
"""Scatter of log L' of CO(1-0) at given L_IR. Assumed, near
``relations.CO_LUMINOSITY_SCATTER_DEX``."""

_TRANSITION_SCATTER_DEX = 0.06
"""Scatter of each CO line about the tilted ladder. Assumed, small, as the tilt is most of what
ratios differ by."""

_CARBON_SCATTER_DEX = 0.15
_IONISED_CARBON_SCATTER_DEX = 0.25
"""Scatter of [CI] and [CII] at given CO(1-0). Assumed: [CI] follows the cold gas closely, [CII]
less so."""

REST_HZ = np.array([relations.LINES_HZ[name] for name in LINE_NAMES])
"""Frequencies at rest in Hz, shape (lines,), in the order of LINE_NAMES."""

_IS_CO = np.array([name.startswith("CO") for name in LINE_NAMES])
_IS_IONISED = np.array([name == "[CII]" for name in LINE_NAMES])
_LOG_J = np.where(_IS_CO, np.log10(REST_HZ / REST_HZ[0]), 0.0)


def line_luminosities(
    log_luminosity: Floats, active: Floats, random: np.random.Generator
) -> tuple[Floats, Floats]:
    """Draw the intrinsic L' of the lines.

    CO(1-0) follows the infrared luminosity. The ladder is that of submillimetre galaxies, tilted by
    the galaxy's excitation. [CI] follows the cold gas whatever its excitation, and [CII] does so
    less closely.

    Args:
        log_luminosity: log10 of L_IR in Lsun, shape (N,).
        active: 1 for galaxies with a bright active nucleus, else 0; shape (N,).
        random: the generator of random numbers.

    Returns:
        L' in K km/s pc2, shape (N, lines), and the excitation: the tilt in dex per decade of J
        against submillimetre galaxies, shape (N,).
    """
    count = len(log_luminosity)
    log_gas = (log_luminosity - relations.CO_LUMINOSITY_INTERCEPT) / relations.CO_LUMINOSITY_SLOPE
    log_gas = log_gas + random.normal(0, _GAS_SCATTER_DEX, count)
    excitation = (
        EXCITATION_PER_LUMINOSITY * (log_luminosity - _SUBMILLIMETRE_LOG_LUMINOSITY)
        + EXCITATION_OF_NUCLEI * active
        + random.normal(0, EXCITATION_DEX, count)
    )
    log_ratio = np.log10([relations.LINE_RATIOS[name] for name in LINE_NAMES])
    own = random.normal(0, _TRANSITION_SCATTER_DEX, (count, len(LINE_NAMES)))
    # Both lines of neutral carbon rise and fall together.
    carbon = random.normal(0, _CARBON_SCATTER_DEX, (count, 1)) * (~_IS_CO & ~_IS_IONISED)
    ionised = random.normal(0, _IONISED_CARBON_SCATTER_DEX, (count, 1)) * _IS_IONISED
    # CO(1-0) is what the relation gives.
    own[:, 0] = 0.0
    log_lines = log_gas[:, None] + log_ratio + np.outer(excitation, _LOG_J) + own
    luminosity: Floats = 10 ** (log_lines + carbon + ionised)
    return luminosity, excitation


def line_fluxes(
    luminosity: Floats, redshift: Floats, distance_mpc: Floats, magnification: Floats
) -> Floats:
    """Convert L' to observed fluxes.

    Args:
        luminosity: the intrinsic L' in K km/s pc2, shape (N, lines).
        redshift: the redshifts, shape (N,).
        distance_mpc: the luminosity distances in Mpc, shape (N,).
        magnification: the magnifications, shape (N,).

    Returns:
        Fluxes in Jy km/s, float64, shape (N, lines).
    """
    observed_ghz = REST_HZ / 1e9 / (1 + redshift)[:, None]
    flux: Floats = (
        luminosity * observed_ghz**2 * ((1 + redshift) ** 3 * magnification)[:, None]
    ) / (relations.LINE_LUMINOSITY_FACTOR * distance_mpc[:, None] ** 2)
    return flux
