"""Simulates a population of dusty galaxies: their properties, before anything observes them.

Three kinds are mixed: the field of a deep prior list, unlensed submillimetre galaxies, and
galaxies magnified by gravitational lenses. Starlight, dust, radio and line emission follow the
published relations of ``processors.relations`` with their scatter; where a published number is
missing, the constants here are assumed, and were set on the training part of the real tables.

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

from mmbroker.models.simulation import dust_emission, radio_emission
from mmbroker.models.simulation.line_emission import LINE_NAMES, line_fluxes, line_luminosities
from mmbroker.models.simulation.line_profiles import LineProfiles, draw_profiles
from mmbroker.models.simulation.radio_maps import DOUBLE, JET, NUCLEUS_EXCESS_DEX, draw_morphology
from mmbroker.models.simulation.starlight import TEMPLATES, intergalactic_transmission, starlight
from mmbroker.processors import relations
from mmbroker.schemas.events import Floats

__all__ = ["LINE_NAMES", "WAVELENGTH_UM", "Population", "simulate_population"]

Integers = NDArray[np.int64]
Booleans = NDArray[np.bool_]

WAVELENGTH_UM: Floats = np.geomspace(0.03, 1e6, 360)
"""Rest wavelengths of the spectral energy distributions in µm, float64, shape (wavelengths,)."""

KINDS = ("field", "submillimetre", "lensed")
KIND_SHARES = (0.82, 0.15, 0.03)
"""Assumed, so that the stream has enough bright galaxies to alert on."""

FIELD, SUBMILLIMETRE, LENSED = range(3)

_REDSHIFT_RANGE = (0.08, 8.0)
"""Assumed: no galaxy is nearer or farther."""

_FIELD_LOG_LUMINOSITY = 9.23
"""Assumed: log10 of L_IR in Lsun of the field at 1 Gpc, where its rise with the square of the
luminosity distance gives the median fluxes of GOODS-N."""

_FIELD_SCATTER_DEX = 0.33
_NEARBY_SCATTER_DEX = 0.25
_NEARBY_REDSHIFT = 0.4
"""Assumed scatter of the field's luminosities, its increase nearby, where the field is small and
luminosities differ most, and the redshift up to about which that counts."""

_FIELD_TAIL_DEX = 0.20
_FIELD_TAIL_START_DEX = -0.10
"""Assumed exponential tail of the field's luminosities. Bright ones are rare: the luminosity
function beyond the limit falls steeply."""

_SUBMILLIMETRE_LOG_LUMINOSITY = 12.37
"""Assumed: log10 of L_IR in Lsun that gives 850 µm fluxes of some 2 mJy, as SCUBA-2 galaxies
have."""

_SUBMILLIMETRE_SCATTER_DEX = 0.30
_LENSED_SCATTER_DEX = 0.32
"""Assumed scatter of the luminosities, likewise."""

_MAGNIFICATION_SCATTER_DEX = 0.26
"""Assumed: about that of published lens models."""

_MASS_OFFSETS = (
    (0.3, 0.55, 0.85, 1.25, 1.85, 2.70, 4.00),
    (0.70, 0.60, 0.45, 0.45, 0.18, 0.00, -0.25),
)
"""Redshifts, and log10 of the stellar mass of the field's galaxies over the main sequence. Assumed:
found with the near-infrared fluxes of GOODS-N. It accounts for galaxies that were not chosen by
mass, and for errors of the templates' mass-to-light ratios."""

_MASS_PER_LUMINOSITY = 0.8
"""Assumed dex of mass per dex of luminosity at one redshift: less than the main sequence inverted,
since that has scatter."""

_MASS_SCATTER_DEX = 0.25
"""Assumed scatter of the mass at given luminosity."""

_MASS_KNEE = 11.0
_MASS_ABOVE_KNEE_DEX = 0.5
"""log10 of the mass in Msun above which galaxies are rarer than any power law of scatter, and by
how much they surpass it at most. Assumed."""

_LATE_TEMPLATES = (1.4, 0.0, 0.22, 1.10, 0.12)
_EARLY_TEMPLATES = (1.9, 0.0, 0.7, 0.15, 0.7)
_LATE_REDSHIFT, _EARLY_REDSHIFT = 0.5, 2.5
"""Parameters of the Dirichlet distribution of the templates' shares, late and early, and the
redshifts between which one becomes the other. Late ones are means and scatters of non-negative fits
to u to K of the COSMOS far-infrared sources (Drew & Casey 2022, ApJ 930 142). Early ones are
assumed: there is less that is old."""

_YOUNG_LOG_SHARE = (-5.5, 0.5)
_YOUNG_EARLY_DEX = 1.5
"""Mean and scatter of log10 of the mass share of young stars, and how much more they are early.
Assumed."""

_ATTENUATION_MAG = 0.3
_ATTENUATION_PER_DEX = 0.6
_ATTENUATION_FROM = 11.0
_ATTENUATION_DEX = 2.5
"""Mean further attenuation A_V, and how much it grows per dex of L_IR above 10**11 Lsun, over so
many dex: the more galaxies radiate in the infrared, the more starlight they hide. Assumed."""

_TORUS_PROBABILITY = 0.10
_TORUS_PROBABILITY_PER_DEX = 0.10
_TORUS_PROBABILITIES = (0.05, 0.5)
_TORUS_FROM = 11.5
"""Share of galaxies that have an active nucleus in the infrared, at 10**11.5 Lsun, its growth per
dex of L_IR, and its limits. Assumed: one in ten, and more at high luminosity."""

_TORUS_LOG_SHARE = (-1.1, 0.4)
_LARGEST_TORUS_SHARE = 2.0
"""Mean and scatter of log10 of the luminosity of a torus over L_IR, and the largest such ratio.
Assumed."""

_BRIGHT_TORUS_SHARE = 0.2
"""Assumed luminosity of a torus over L_IR above which the nucleus excites the gas."""

_SILICATE_DEPTH = 0.1
_SILICATE_DEPTH_PER_DEX = 0.3
_SILICATE_DEPTHS = (0.05, 1.0)
_SILICATE_FROM = 11.5
"""Mean optical depth at 9.7 µm at 10**11.5 Lsun, its growth per dex of L_IR, and its limits.
Assumed: deepest in the most luminous."""

_AROMATIC_PART = 0.7
"""Assumed part of the light in the broad filter at 8 µm that aromatic bands emit; the dust's
continuum and the stars emit the rest."""

_INFRARED_TO_8_MICRON_SCATTER_DEX = 0.5 * relations.INFRARED_TO_8_MICRON_SCATTER_DEX
_RADIO_Q_SCATTER_DEX = 0.8 * relations.RADIO_Q_SCATTER_DEX
_RADIO_SPECTRAL_INDEX_SCATTER = relations.RADIO_SPECTRAL_INDEX_SCATTER / 2
_MID_INFRARED_SLOPE_SCATTER = relations.MID_INFRARED_SLOPE_SCATTER / 3
"""Assumed: of the published scatters, these parts are between galaxies, and the rest is errors."""

_RADIO_Q_OFFSET = 0.12
_RADIO_INDEX_OFFSET = 0.05
"""Assumed, and set on the training part: added to q, and to the spectral index, which is
here that of the synchrotron emission alone and steeper than the whole."""

_RADIO_NUCLEUS_SHARE = 0.06
"""Share of galaxies with an active nucleus whose jets outshine its star formation in the radio.
Assumed: one in sixteen."""

_LEAST_RADIO_EXCESS_DEX = 0.3
_RADIO_EXCESS_TAIL_DEX = 0.5
"""Assumed: least excess of these, and the scale of its exponential tail."""

_NUCLEUS_INDEX = (0.6, 0.3)
"""Mean and scatter of the spectral index of their radio emission, S ~ nu**-index. Assumed: flat
cores and steep lobes."""

_STARBURST_DEX = 0.6
"""Assumed: a galaxy that forms four times as many stars as the main sequence has is above it."""

_RADIUS_REDSHIFT = 1.0
"""Assumed redshift at which radii have the published medians, which are of 0.35 to 2.25."""

_NUCLEUS_EXTENT_KPC = 1.5
_JET_EXTENT_KPC = 40.0
"""Assumed median extents of compact active nuclei in the radio, for which Bondi et al. 2018 (A&A
618 L8, abstract) have 1 to 2 kpc, and of jets, which fade before they get as far as lobes."""

_EXTENT_SCATTER_DEX = 0.4
"""Assumed scatter of the extents of active nuclei, doubles and jets."""

_LINE_WIDTHS_KM_S = (80.0, 1500.0)
"""Assumed: no line is narrower or wider."""

_EMISSIVITY_INDICES = (
    (relations.DUST_EMISSIVITY_INDEX, *(relations.SUBMILLIMETRE_EMISSIVITY_INDEX,) * 2),
    (
        relations.DUST_EMISSIVITY_INDEX_SCATTER / 2,
        *(relations.SUBMILLIMETRE_EMISSIVITY_INDEX_SCATTER,) * 2,
    ),
)
"""Mean and scatter of beta, for each of KINDS. Assumed: half of the published scatter of the field
is errors."""

_GROUND = LINE_NAMES.index("CO(1-0)")
_FREQUENCY_HZ = relations.SPEED_OF_LIGHT_KM_S * 1e9 / WAVELENGTH_UM
_SOLAR_JY_MPC2 = (1 * units.L_sun / units.Hz / (4 * np.pi * units.Mpc**2)).to_value(units.Jy)


@dataclass(frozen=True, slots=True, eq=False)
class Population:
    """N simulated galaxies; arrays are float64 of shape (N,) where nothing else is said.

    Attributes:
        kind: index into KINDS; int64.
        redshift: true redshift.
        log_luminosity: log10 of the intrinsic L_IR in Lsun, 8 to 1000 µm.
        log_stellar_mass: log10 of the intrinsic mass of the stars in Msun.
        magnification: the magnification by a gravitational lens; 1 without one.
        peak_wavelength_um: the rest wavelength in µm where S_nu of the dust peaks.
        emissivity_index: beta of the dust.
        excitation: the tilt of the CO ladder, see ``models.simulation.line_emission``.
        log_gas_mass: log10 of the intrinsic mass of the molecular gas in Msun, from L' of CO(1-0).
        profiles: the profile of the lines of each galaxy.
        radio_excess_dex: log10 of the radio emission over that of star formation; 0 for most.
        morphology: the radio morphology, an index into
            ``processors.features.maps.MORPHOLOGIES``; int64.
        dust_radius_kpc: the radius in kpc that encloses half of the dust's light, without lensing.
        radio_extent_kpc: the full width at half maximum in the radio in kpc, without lensing. For
            doubles and jets it is the distance between the outermost components.
        torus_share: the luminosity of the dust around an active nucleus over L_IR; 0 for most.
        log_flux_density: ln of the observed flux density in Jy at rest WAVELENGTH_UM, shape
            (N, wavelengths).
        line_flux_jy_km_s: the observed line fluxes in Jy km/s, shape (N, lines), in the order of
            LINE_NAMES.
    """

    kind: Integers
    redshift: Floats
    log_luminosity: Floats
    log_stellar_mass: Floats
    magnification: Floats
    peak_wavelength_um: Floats
    emissivity_index: Floats
    excitation: Floats
    log_gas_mass: Floats
    profiles: LineProfiles
    radio_excess_dex: Floats
    morphology: Integers
    dust_radius_kpc: Floats
    radio_extent_kpc: Floats
    torus_share: Floats
    log_flux_density: Floats
    line_flux_jy_km_s: Floats

    def __len__(self) -> int:
        return len(self.redshift)

    @property
    def line_width_km_s(self) -> Floats:
        """The width of the lines in km/s, shape (N,); see ``LineProfiles``."""
        return self.profiles.width_km_s

    def arcsec_per_kpc(self, galaxies: Integers) -> Floats:
        """The apparent size of a kpc in arcsec.

        A lens magnifies lengths by the square root of the magnification of areas.

        Args:
            galaxies: the indices of the galaxies, int64, shape (n,).

        Returns:
            float64, shape (n,).
        """
        redshift = self.redshift[galaxies]
        distance_kpc = 1e3 * luminosity_distance_mpc(redshift) / (1 + redshift) ** 2
        angle: Floats = np.degrees(1 / distance_kpc) * 3600 * np.sqrt(self.magnification[galaxies])
        return angle

    def flux_density_jy(self, frequency_hz: Floats, galaxies: Integers | None = None) -> Floats:
        """The continuum flux density in Jy.

        Args:
            frequency_hz: observed frequencies in Hz, shape (bands,), or (n, bands) with one row for
                each galaxy.
            galaxies: the indices of the galaxies, int64, shape (n,); None for all.

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
        galaxies: the number of galaxies.
        seed: the seed of the random numbers.
        block: an independent part of the population, see ``models.simulation.observations``.
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
    typical_beta = np.choose(kind, _EMISSIVITY_INDICES[0])
    beta = random.normal(typical_beta, np.choose(kind, _EMISSIVITY_INDICES[1]))
    indices = dust_emission.EMISSIVITY_INDICES
    beta = indices[np.abs(beta[:, None] - indices).argmin(axis=1)]
    torus_share = _torus_shares(log_luminosity, random)
    radio, excess = _radio(log_luminosity, log_mass, redshift, random)
    slope = random.normal(relations.MID_INFRARED_SLOPE, _MID_INFRARED_SLOPE_SCATTER, galaxies)
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
    active = (torus_share > _BRIGHT_TORUS_SHARE) * 1.0
    lines, excitation = line_luminosities(log_luminosity, active, random)
    width = relations.LINE_WIDTH_KM_S * 10 ** random.normal(
        0, relations.LINE_WIDTH_SCATTER_DEX, galaxies
    )
    profiles = draw_profiles(width.clip(*_LINE_WIDTHS_KM_S), random)
    starburst = _above_main_sequence_dex(log_luminosity, log_mass, redshift) > _STARBURST_DEX
    morphology = draw_morphology(excess, starburst, random)
    radius = _dust_radii_kpc(kind, starburst, redshift, random)
    return Population(
        kind=kind,
        redshift=redshift,
        log_luminosity=log_luminosity,
        log_stellar_mass=log_mass,
        magnification=magnification,
        peak_wavelength_um=peak,
        emissivity_index=beta,
        excitation=excitation,
        log_gas_mass=np.log10(relations.GAS_MASS_PER_CO_LUMINOSITY * lines[:, _GROUND]),
        profiles=profiles,
        radio_excess_dex=excess,
        morphology=morphology,
        dust_radius_kpc=radius,
        radio_extent_kpc=_radio_extents_kpc(kind, excess, morphology, radius, random),
        torus_share=torus_share,
        log_flux_density=np.log(seen),
        line_flux_jy_km_s=line_fluxes(lines, redshift, distance, magnification),
    )


def luminosity_distance_mpc(redshift: Floats) -> Floats:
    """The luminosity distance in Mpc in the cosmology of Planck 2018.

    Args:
        redshift: redshifts up to 12, shape (N,).

    Returns:
        float64, shape (N,).
    """
    grid, comoving, _ = _cosmology()
    distance: Floats = (1 + redshift) * np.interp(redshift, grid, comoving)
    return distance


def age_gyr(redshift: Floats) -> Floats:
    """The age of the universe in Gyr in the cosmology of Planck 2018.

    Args:
        redshift: redshifts up to 12, shape (N,).

    Returns:
        float64, shape (N,).
    """
    grid, _, age = _cosmology()
    return np.asarray(np.interp(redshift, grid, age))


@cache
def _cosmology() -> tuple[Floats, Floats, Floats]:
    """Redshifts, comoving distances in Mpc and ages in Gyr to interpolate between."""
    grid = np.expm1(np.linspace(0, np.log(13.0), 500))
    comoving = Planck18.comoving_distance(grid).to_value(units.Mpc)
    return grid, comoving, Planck18.age(grid).to_value(units.Gyr)


def _redshifts(kind: Integers, random: np.random.Generator) -> Floats:
    """Draw redshifts: for the field by the percentiles of GOODS-N, else normal in ln(1 + z)."""
    count = len(kind)
    field = np.interp(random.random(count), *relations.FIELD_REDSHIFTS)
    other = np.expm1(
        random.normal(
            np.where(
                kind == LENSED,
                np.log(1 + relations.LENSED_REDSHIFT),
                np.log(1 + relations.SUBMILLIMETRE_REDSHIFT),
            ),
            np.where(
                kind == LENSED,
                relations.LENSED_REDSHIFT_SCATTER,
                relations.SUBMILLIMETRE_REDSHIFT_SCATTER,
            ),
        )
    )
    return np.where(kind == FIELD, field, other).clip(*_REDSHIFT_RANGE)


def _log_luminosities(kind: Integers, redshift: Floats, random: np.random.Generator) -> Floats:
    """Draw log10 of L_IR: of a flux-limited field, SCUBA-2 galaxies, the unlensed SPT sample."""
    field = _median_log_luminosity(redshift)
    centre = np.choose(
        kind, [field, _SUBMILLIMETRE_LOG_LUMINOSITY, relations.LENSED_LOG_LUMINOSITY]
    )
    nearby = np.exp(-((redshift / _NEARBY_REDSHIFT) ** 2))
    field_width = _FIELD_SCATTER_DEX + _NEARBY_SCATTER_DEX * nearby
    width = np.choose(kind, [field_width, _SUBMILLIMETRE_SCATTER_DEX, _LENSED_SCATTER_DEX])
    luminosity = random.normal(centre, width)
    tail = random.exponential(_FIELD_TAIL_DEX, len(kind)) + _FIELD_TAIL_START_DEX
    return np.where(kind == FIELD, luminosity + tail, luminosity)


def _median_log_luminosity(redshift: Floats) -> Floats:
    distance_gpc = luminosity_distance_mpc(redshift) / 1e3
    return np.asarray(_FIELD_LOG_LUMINOSITY + 2 * np.log10(distance_gpc))


def _magnifications(kind: Integers, random: np.random.Generator) -> Floats:
    """Draw magnifications: about the published median for lensed galaxies, 1 for the others."""
    drawn = relations.MAGNIFICATION * 10 ** random.normal(0, _MAGNIFICATION_SCATTER_DEX, len(kind))
    return np.where(kind == LENSED, drawn, 1.0).clip(1.0)


def _log_stellar_masses(
    log_luminosity: Floats, redshift: Floats, random: np.random.Generator
) -> Floats:
    """Draw log10 of the stellar mass in Msun given the luminosity, about the main sequence."""
    slope, intercept = _main_sequence(redshift)
    typical = _median_log_luminosity(redshift)
    log_rate = typical + np.log10(relations.STAR_FORMATION_RATE_PER_LUMINOSITY)
    offset = np.interp(redshift, *_MASS_OFFSETS)
    brighter = _MASS_PER_LUMINOSITY * (log_luminosity - typical)
    mass = (log_rate - intercept) / slope + offset + brighter
    scattered = mass + random.normal(0, _MASS_SCATTER_DEX, len(redshift))
    over, most = (scattered - _MASS_KNEE).clip(0.0), _MASS_ABOVE_KNEE_DEX
    return np.asarray(scattered - over + most * (1 - np.exp(-over / most)))


def _main_sequence(redshift: Floats) -> tuple[Floats, Floats]:
    """The slope and intercept of the main sequence: log SFR = slope log M* + intercept."""
    age = age_gyr(redshift)
    slope = relations.MAIN_SEQUENCE_SLOPE[0] + relations.MAIN_SEQUENCE_SLOPE[1] * age
    intercept = relations.MAIN_SEQUENCE_INTERCEPT[0] + relations.MAIN_SEQUENCE_INTERCEPT[1] * age
    return slope, intercept


def _above_main_sequence_dex(log_luminosity: Floats, log_mass: Floats, redshift: Floats) -> Floats:
    slope, intercept = _main_sequence(redshift)
    log_rate = log_luminosity + np.log10(relations.STAR_FORMATION_RATE_PER_LUMINOSITY)
    return np.asarray(log_rate - slope * log_mass - intercept)


def _dust_radii_kpc(
    kind: Integers, starburst: Booleans, redshift: Floats, random: np.random.Generator
) -> Floats:
    """Draw half-light radii of the dust: for the field as in the radio, else as measured."""
    shift = (1 + redshift) / (1 + _RADIUS_REDSHIFT)
    on_sequence, above = (
        relations.RADIO_RADIUS_KPC[place] * shift ** relations.RADIO_RADIUS_EXPONENT[place]
        for place in ("main sequence", "above")
    )
    field = np.where(starburst, above, on_sequence)
    typical = np.where(kind == FIELD, field, relations.SUBMILLIMETRE_RADIUS_KPC)
    return np.asarray(typical * 10 ** random.normal(0, relations.RADIUS_SCATTER_DEX, len(kind)))


def _radio_extents_kpc(
    kind: Integers,
    excess: Floats,
    morphology: Integers,
    radius: Floats,
    random: np.random.Generator,
) -> Floats:
    """Draw extents of the radio emission; those of star formation are the dust's, or larger."""
    wider = np.where(kind == FIELD, 1.0, relations.SUBMILLIMETRE_RADIO_RADIUS_FACTOR)
    disc = relations.FWHM_PER_RADIUS * radius * wider
    nucleus = np.select(
        [morphology == DOUBLE, morphology == JET],
        [relations.DOUBLE_EXTENT_KPC, _JET_EXTENT_KPC],
        _NUCLEUS_EXTENT_KPC,
    ) * 10 ** random.normal(0, _EXTENT_SCATTER_DEX, len(kind))
    return np.where(excess > NUCLEUS_EXCESS_DEX, nucleus, disc)


def _stellar_populations(
    redshift: Floats, log_luminosity: Floats, random: np.random.Generator
) -> tuple[Floats, Floats]:
    """Draw the templates' shares of the mass, (N, templates), and further attenuation A_V, (N,)."""
    count = len(redshift)
    span = _EARLY_REDSHIFT - _LATE_REDSHIFT
    early = np.clip((redshift - _LATE_REDSHIFT) / span, 0.0, 1.0)[:, None]
    shape = np.array(_LATE_TEMPLATES) * (1 - early) + np.array(_EARLY_TEMPLATES) * early
    drawn = random.standard_gamma(shape.clip(1e-6))
    mean, scatter = _YOUNG_LOG_SHARE
    young = 10 ** random.normal(mean + _YOUNG_EARLY_DEX * early[:, 0], scatter, count)
    shares = drawn / drawn.sum(axis=1, keepdims=True).clip(1e-12) * (1 - young)[:, None]
    shares[:, TEMPLATES.index("young")] = young
    over = (log_luminosity - _ATTENUATION_FROM).clip(0.0, _ATTENUATION_DEX)
    return shares, random.exponential(_ATTENUATION_MAG + _ATTENUATION_PER_DEX * over)


def _torus_shares(log_luminosity: Floats, random: np.random.Generator) -> Floats:
    """Draw the luminosity of the dust around an active nucleus over L_IR; 0 without one."""
    count = len(log_luminosity)
    growth = _TORUS_PROBABILITY_PER_DEX * (log_luminosity - _TORUS_FROM)
    probability = (_TORUS_PROBABILITY + growth).clip(*_TORUS_PROBABILITIES)
    share = (10 ** random.normal(*_TORUS_LOG_SHARE, count)).clip(0, _LARGEST_TORUS_SHARE)
    return np.where(random.random(count) < probability, share, 0.0)


def _silicate_depths(log_luminosity: Floats, random: np.random.Generator) -> Floats:
    """Draw the optical depth of silicate dust at 9.7 µm."""
    growth = _SILICATE_DEPTH_PER_DEX * (log_luminosity - _SILICATE_FROM)
    return np.asarray(random.exponential((_SILICATE_DEPTH + growth).clip(*_SILICATE_DEPTHS)))


def _aromatic_bands(log_luminosity: Floats, random: np.random.Generator) -> Floats:
    """Draw L_nu of the emission bands from 3.3 to 17 µm in Lsun/Hz, shape (N, wavelengths)."""
    log_ratio = np.log10(relations.INFRARED_TO_8_MICRON) + random.normal(
        0, _INFRARED_TO_8_MICRON_SCATTER_DEX, len(log_luminosity)
    )
    luminosity = _AROMATIC_PART * 10 ** (log_luminosity - log_ratio)
    return dust_emission.aromatic_bands(WAVELENGTH_UM, luminosity)


def _radio(
    log_luminosity: Floats, log_mass: Floats, redshift: Floats, random: np.random.Generator
) -> tuple[Floats, Floats]:
    """Draw L_nu of radio emission in Lsun/Hz, (N, wavelengths), and its excess in dex, (N,)."""
    count = len(log_luminosity)
    ratio = (
        relations.RADIO_Q * (1 + redshift) ** relations.RADIO_Q_REDSHIFT_EXPONENT
        + relations.RADIO_Q_MASS_SLOPE * (log_mass - 10.0)
        + random.normal(0, _RADIO_Q_SCATTER_DEX, count)
    )
    log_at_1_4_ghz = log_luminosity - ratio - _RADIO_Q_OFFSET
    at_1_4_ghz = 10**log_at_1_4_ghz / relations.Q_REFERENCE_FREQUENCY_HZ
    steep = relations.RADIO_SPECTRAL_INDEX + _RADIO_INDEX_OFFSET
    index = random.normal(steep, _RADIO_SPECTRAL_INDEX_SCATTER, count)
    outshone = random.random(count) < _RADIO_NUCLEUS_SHARE
    tail = random.exponential(_RADIO_EXCESS_TAIL_DEX, count)
    excess = np.where(outshone, _LEAST_RADIO_EXCESS_DEX + tail, 0.0)
    nucleus = random.normal(*_NUCLEUS_INDEX, count)
    emission = radio_emission.star_formation_radio(
        WAVELENGTH_UM, at_1_4_ghz, index
    ) + radio_emission.active_nucleus_radio(WAVELENGTH_UM, at_1_4_ghz * (10**excess - 1), nucleus)
    return emission, excess
