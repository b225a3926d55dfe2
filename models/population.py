"""A simulated population of dusty galaxies: what they are, before anything observes them.

Three kinds are mixed: the field of a deep prior list, unlensed submillimetre galaxies, and
galaxies magnified by gravitational lenses. Starlight, dust, radio and line emission follow the
published relations of ``processors.relations`` with their scatter; where a published number is
missing, the constants here were set on the training part of the real tables.

The same relations stand behind the conventional redshift, so that redshifts of simulated galaxies
come out better than those of real ones: simulated truth tests the machinery, not the science.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from astropy import units
from astropy.cosmology import Planck18
from numpy.typing import NDArray

from processors import relations
from schemas.events import Floats

from . import dust_emission, radio_emission
from .line_emission import LINE_NAMES, line_fluxes, line_luminosities
from .line_profiles import LineProfiles, draw_profiles
from .radio_maps import draw_morphology
from .starlight import TEMPLATES, intergalactic_transmission, starlight

__all__ = ["LINE_NAMES", "WAVELENGTH_UM", "Population", "simulate_population"]

Integers = NDArray[np.int64]
Booleans = NDArray[np.bool_]

WAVELENGTH_UM: Floats = np.geomspace(0.03, 1e6, 360)
"""Rest wavelengths of the spectral energy distributions in µm, float64, shape (wavelengths,)."""

KINDS = ("field", "submillimetre", "lensed")
KIND_SHARES = (0.82, 0.15, 0.03)
"""A load with enough bright galaxies to alert on."""

FIELD, SUBMILLIMETRE, LENSED = range(3)

_FIELD_REDSHIFTS = (
    (0.0, 0.025, 0.10, 0.25, 0.50, 0.75, 0.90, 0.975, 1.0),
    (0.08, 0.26, 0.46, 0.70, 1.15, 1.92, 2.60, 3.38, 5.5),
)
"""Cumulative shares, and the redshifts up to which they reach."""

_MASS_OFFSETS = (
    (0.3, 0.55, 0.85, 1.25, 1.85, 2.70, 4.00),
    (0.70, 0.60, 0.45, 0.45, 0.18, 0.00, -0.25),
)
"""Redshifts, and log10 of the stellar mass of the field's galaxies over the main sequence."""

_EMISSIVITY_INDICES = (
    (relations.DUST_EMISSIVITY_INDEX, *(relations.SUBMILLIMETRE_EMISSIVITY_INDEX,) * 2),
    (
        relations.DUST_EMISSIVITY_INDEX_SCATTER / 2,
        *(relations.SUBMILLIMETRE_EMISSIVITY_INDEX_SCATTER,) * 2,
    ),
)
"""Mean and scatter of beta, of each of KINDS."""

_FREQUENCY_HZ = relations.SPEED_OF_LIGHT_KM_S * 1e9 / WAVELENGTH_UM
_SOLAR_JY_MPC2 = (1 * units.L_sun / units.Hz / (4 * np.pi * units.Mpc**2)).to_value(units.Jy)


@dataclass(frozen=True, slots=True, eq=False)
class Population:
    """N simulated galaxies; arrays are float64 of shape (N,) where nothing else is said.

    Args:
        kind: index into KINDS; int.
        redshift: true redshift.
        log_luminosity: log10 of the intrinsic L_IR in Lsun, 8 to 1000 µm.
        log_stellar_mass: log10 of the intrinsic mass of the stars in Msun.
        magnification: by a gravitational lens; 1 without one.
        peak_wavelength_um: rest wavelength where S_nu of the dust peaks.
        emissivity_index: beta of the dust.
        excitation: of the CO ladder, see ``models.line_emission``.
        profiles: of the lines.
        radio_excess_dex: log10 of the radio emission over that of star formation; 0 for most.
        morphology: in the radio, index into ``models.radio_maps.MORPHOLOGIES``; int.
        torus_share: luminosity of the dust around an active nucleus over L_IR; 0 for most.
        log_flux_density: ln of the observed flux density in Jy at rest WAVELENGTH_UM, shape
            (N, wavelengths).
        line_flux_jy_km_s: observed, shape (N, lines), in the order of LINE_NAMES.
    """

    kind: Integers
    redshift: Floats
    log_luminosity: Floats
    log_stellar_mass: Floats
    magnification: Floats
    peak_wavelength_um: Floats
    emissivity_index: Floats
    excitation: Floats
    profiles: LineProfiles
    radio_excess_dex: Floats
    morphology: Integers
    torus_share: Floats
    log_flux_density: Floats
    line_flux_jy_km_s: Floats

    def __len__(self) -> int:
        return len(self.redshift)

    @property
    def line_width_km_s(self) -> Floats:
        """Width of the lines, shape (N,); see ``LineProfiles``."""
        return self.profiles.width_km_s

    def flux_density_jy(self, frequency_hz: Floats, galaxies: Integers | None = None) -> Floats:
        """Continuum flux density in Jy.

        Args:
            frequency_hz: observed, shape (bands,), or (n, bands) with one row a galaxy.
            galaxies: which of the population, shape (n,); None is all.

        Returns:
            float64, shape (n, bands).
        """
        rows = np.arange(len(self)) if galaxies is None else galaxies
        rest = np.log(np.atleast_2d(frequency_hz)) + np.log1p(self.redshift[rows])[:, None]
        step = np.log(WAVELENGTH_UM[1] / WAVELENGTH_UM[0])
        place = np.clip((np.log(_FREQUENCY_HZ[0]) - rest) / step, 0, len(WAVELENGTH_UM) - 1.001)
        below = place.astype(np.int64)
        part = place - below
        row = rows[:, None]
        flux: Floats = np.exp(
            self.log_flux_density[row, below] * (1 - part)
            + self.log_flux_density[row, below + 1] * part
        )
        return flux


def simulate_population(galaxies: int, seed: int, block: int = 0) -> Population:
    """Draw galaxies; the same arguments give the same galaxies.

    Args:
        galaxies: how many.
        seed: of the random numbers.
        block: an independent part of the population, see ``models.simulator``.
    """
    random = np.random.default_rng([seed, block, 0])
    kind = random.choice(len(KINDS), galaxies, p=KIND_SHARES)
    redshift = _redshifts(kind, random)
    log_luminosity = _log_luminosities(kind, redshift, random)
    log_mass = _log_stellar_masses(log_luminosity, redshift, random)
    magnification = _magnifications(kind, random)
    distance = luminosity_distance_mpc(redshift)
    peak = relations.PEAK_WAVELENGTH_MICRON * 10 ** (
        relations.PEAK_WAVELENGTH_SLOPE
        * (log_luminosity - np.log10(relations.PEAK_WAVELENGTH_LUMINOSITY))
        + random.normal(0, relations.PEAK_WAVELENGTH_SCATTER_DEX, galaxies)
    )
    # Half of the published scatter of the field is taken for errors.
    typical_beta = np.choose(kind, _EMISSIVITY_INDICES[0])
    beta = random.normal(typical_beta, np.choose(kind, _EMISSIVITY_INDICES[1]))
    indices = dust_emission.EMISSIVITY_INDICES
    beta = indices[np.abs(beta[:, None] - indices).argmin(axis=1)]
    torus_share = _torus_shares(log_luminosity, random)
    radio, excess = _radio(log_luminosity, log_mass, redshift, random)
    slope = random.normal(
        relations.MID_INFRARED_SLOPE, relations.MID_INFRARED_SLOPE_SCATTER / 3, galaxies
    )
    luminosity = (
        starlight(WAVELENGTH_UM, log_mass, *_stellar_populations(redshift, log_luminosity, random))
        + (
            dust_emission.dust(WAVELENGTH_UM, log_luminosity, peak, beta, slope, redshift)
            + _aromatic_bands(log_luminosity, random)
        )
        * dust_emission.silicate_absorption(WAVELENGTH_UM, _silicate_depths(log_luminosity, random))
        + dust_emission.torus(WAVELENGTH_UM, torus_share * 10**log_luminosity)
        + radio
    )
    dilution = _SOLAR_JY_MPC2 * (1 + redshift) * magnification / distance**2
    seen = luminosity * intergalactic_transmission(WAVELENGTH_UM, redshift) * dilution[:, None]
    lines, excitation = line_luminosities(log_luminosity, (torus_share > 0.2) * 1.0, random)
    width = relations.LINE_WIDTH_KM_S * 10 ** random.normal(
        0, relations.LINE_WIDTH_SCATTER_DEX, galaxies
    )
    return Population(
        kind=kind,
        redshift=redshift,
        log_luminosity=log_luminosity,
        log_stellar_mass=log_mass,
        magnification=magnification,
        peak_wavelength_um=peak,
        emissivity_index=beta,
        excitation=excitation,
        profiles=draw_profiles(width.clip(80.0, 1500.0), random),
        radio_excess_dex=excess,
        morphology=draw_morphology(excess, random),
        torus_share=torus_share,
        log_flux_density=np.log(seen),
        line_flux_jy_km_s=line_fluxes(lines, redshift, distance, magnification),
    )


def luminosity_distance_mpc(redshift: Floats) -> Floats:
    """Luminosity distance in Mpc in the cosmology of Planck 2018."""
    grid, comoving, _ = _cosmology()
    distance: Floats = (1 + redshift) * np.interp(redshift, grid, comoving)
    return distance


def age_gyr(redshift: Floats) -> Floats:
    """Age of the universe in Gyr, likewise."""
    grid, _, age = _cosmology()
    return np.asarray(np.interp(redshift, grid, age))


@cache
def _cosmology() -> tuple[Floats, Floats, Floats]:
    """Redshifts, comoving distances in Mpc and ages in Gyr to interpolate between."""
    grid = np.expm1(np.linspace(0, np.log(13.0), 500))
    comoving = Planck18.comoving_distance(grid).to_value(units.Mpc)
    return grid, comoving, Planck18.age(grid).to_value(units.Gyr)


def _redshifts(kind: Integers, random: np.random.Generator) -> Floats:
    """Redshifts: of the field with the percentiles of z_phot in GOODS-N (Liu et al. 2018).

    Others are normal in ln(1 + z): submillimetre galaxies with a median of 2.61 and 68 % between
    1.8 and 3.4 (Dudzeviciute et al. 2020, MNRAS 494 3828), lensed ones as in the SPT sample (Reuter
    et al. 2020).
    """
    count = len(kind)
    field = np.interp(random.random(count), *_FIELD_REDSHIFTS)
    other = np.expm1(
        random.normal(
            np.where(kind == LENSED, np.log(4.80), np.log(3.61)),
            np.where(kind == LENSED, 0.20, 0.22),
        )
    )
    return np.where(kind == FIELD, field, other).clip(0.08, 8.0)


def _log_luminosities(kind: Integers, redshift: Floats, random: np.random.Generator) -> Floats:
    """Luminosities of a flux-limited field, of SCUBA-2 galaxies, and of the SPT sample unlensed.

    The field's rise with the square of the distance gives the median fluxes of GOODS-N, the
    luminosity of submillimetre galaxies 850 µm fluxes of some 2 mJy; lensed ones have log L_FIR =
    12.78 (Reuter et al. 2020, table F1), to which the mid-infrared adds 0.1.
    """
    field = _median_log_luminosity(redshift)
    centre = np.choose(kind, [field, 12.37, 12.88])
    # Nearby, where the field is small, luminosities differ most.
    width = np.choose(kind, [0.33 + 0.25 * np.exp(-((redshift / 0.4) ** 2)), 0.30, 0.32])
    luminosity = random.normal(centre, width)
    # Bright ones are rare: the luminosity function beyond the limit falls steeply.
    tail = random.exponential(0.20, len(kind)) - 0.10
    return np.where(kind == FIELD, luminosity + tail, luminosity)


def _median_log_luminosity(redshift: Floats) -> Floats:
    return np.asarray(9.23 + 2 * np.log10(luminosity_distance_mpc(redshift) / 1e3))


def _magnifications(kind: Integers, random: np.random.Generator) -> Floats:
    """Of the lensed about the published median, with a scatter as of published lens models."""
    drawn = relations.MAGNIFICATION * 10 ** random.normal(0, 0.26, len(kind))
    return np.where(kind == LENSED, drawn, 1.0).clip(1.0)


def _log_stellar_masses(
    log_luminosity: Floats, redshift: Floats, random: np.random.Generator
) -> Floats:
    """Stellar mass in Msun, given the luminosity, about the main sequence of star formation.

    Given the star formation rate the mass follows it less than the main sequence inverted, since
    that has scatter. The offset, found with the near-infrared fluxes of GOODS-N, takes in that its
    galaxies were not chosen by mass, and what the templates' mass-to-light ratios are off.
    """
    age = age_gyr(redshift)
    slope = relations.MAIN_SEQUENCE_SLOPE[0] + relations.MAIN_SEQUENCE_SLOPE[1] * age
    intercept = relations.MAIN_SEQUENCE_INTERCEPT[0] + relations.MAIN_SEQUENCE_INTERCEPT[1] * age
    typical = _median_log_luminosity(redshift)
    log_rate = typical + np.log10(relations.STAR_FORMATION_RATE_PER_LUMINOSITY)
    offset = np.interp(redshift, *_MASS_OFFSETS)
    mass = (log_rate - intercept) / slope + offset + 0.8 * (log_luminosity - typical)
    scattered = mass + random.normal(0, 0.25, len(redshift))
    # Galaxies more massive than this are rarer than any power law of scatter.
    knee = 11.0
    over = (scattered - knee).clip(0.0)
    return np.asarray(scattered - over + 0.5 * (1 - np.exp(-over / 0.5)))


def _stellar_populations(
    redshift: Floats, log_luminosity: Floats, random: np.random.Generator
) -> tuple[Floats, Floats]:
    """Shares of the templates in the mass, (N, templates), and further attenuation A_V, (N,).

    Non-negative fits of the templates to u to K of the COSMOS far-infrared sources (Drew & Casey
    2022) have the means and scatters of this Dirichlet distribution; earlier, there is less that
    is old.
    """
    count = len(redshift)
    early = np.clip((redshift - 0.5) / 2.0, 0.0, 1.0)[:, None]
    late_shape = np.array([1.4, 0.0, 0.22, 1.10, 0.12])
    early_shape = np.array([1.9, 0.0, 0.7, 0.15, 0.7])
    shape = late_shape * (1 - early) + early_shape * early
    drawn = random.standard_gamma(shape.clip(1e-6))
    young = 10 ** random.normal(-5.5 + 1.5 * early[:, 0], 0.5, count)
    shares = drawn / drawn.sum(axis=1, keepdims=True).clip(1e-12) * (1 - young)[:, None]
    shares[:, TEMPLATES.index("young")] = young
    # The more they radiate in the infrared, the more starlight they hide.
    return shares, random.exponential(0.3 + 0.6 * (log_luminosity - 11.0).clip(0.0, 2.5))


def _torus_shares(log_luminosity: Floats, random: np.random.Generator) -> Floats:
    """One in ten has an active nucleus in the infrared, more of them at high luminosity."""
    count = len(log_luminosity)
    probability = (0.10 + 0.10 * (log_luminosity - 11.5)).clip(0.05, 0.5)
    share = (10 ** random.normal(-1.1, 0.4, count)).clip(0, 2.0)
    return np.where(random.random(count) < probability, share, 0.0)


def _silicate_depths(log_luminosity: Floats, random: np.random.Generator) -> Floats:
    """Optical depth at 9.7 µm: deepest in the most luminous."""
    mean = (0.1 + 0.3 * (log_luminosity - 11.5)).clip(0.05, 1.0)
    return np.asarray(random.exponential(mean))


def _aromatic_bands(log_luminosity: Floats, random: np.random.Generator) -> Floats:
    """L_nu of the emission bands from 3.3 to 17 µm in Lsun/Hz, shape (N, wavelengths)."""
    log_ratio = np.log10(relations.INFRARED_TO_8_MICRON) + random.normal(
        0, 0.5 * relations.INFRARED_TO_8_MICRON_SCATTER_DEX, len(log_luminosity)
    )
    # The dust's continuum and the stars make the rest of what the filter sees.
    return dust_emission.aromatic_bands(WAVELENGTH_UM, 0.7 * 10 ** (log_luminosity - log_ratio))


def _radio(
    log_luminosity: Floats, log_mass: Floats, redshift: Floats, random: np.random.Generator
) -> tuple[Floats, Floats]:
    """L_nu of radio emission in Lsun/Hz, shape (N, wavelengths), and its excess in dex, (N,)."""
    count = len(log_luminosity)
    ratio = (
        relations.RADIO_Q * (1 + redshift) ** relations.RADIO_Q_REDSHIFT_EXPONENT
        + relations.RADIO_Q_MASS_SLOPE * (log_mass - 10.0)
        + random.normal(0, 0.8 * relations.RADIO_Q_SCATTER_DEX, count)
    )
    at_1_4_ghz = 10 ** (log_luminosity - ratio - 0.12) / relations.Q_REFERENCE_FREQUENCY_HZ
    scatter = relations.RADIO_SPECTRAL_INDEX_SCATTER / 2
    index = random.normal(relations.RADIO_SPECTRAL_INDEX + 0.05, scatter, count)
    # One in sixteen is an active nucleus whose jets outshine its star formation in the radio.
    excess = np.where(random.random(count) < 0.06, 0.3 + random.exponential(0.5, count), 0.0)
    nucleus = random.normal(0.6, 0.3, count)
    emission = radio_emission.star_formation_radio(
        WAVELENGTH_UM, at_1_4_ghz, index
    ) + radio_emission.active_nucleus_radio(WAVELENGTH_UM, at_1_4_ghz * (10**excess - 1), nucleus)
    return emission, excess
