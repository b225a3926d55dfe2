"""A simulated population of dusty galaxies: what they are, before anything observes them.

Three kinds are mixed: the field of a deep prior list, unlensed submillimetre galaxies, and
galaxies magnified by gravitational lenses. Dust, radio and line emission follow the published
relations of ``processors.relations`` with their scatter; starlight is a schematic curve.

The same relations stand behind the conventional redshift, so that redshifts of simulated galaxies
come out better than those of real ones: simulated truth tests the machinery, not the science.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from astropy import constants, units
from astropy.cosmology import Planck18
from numpy.typing import NDArray

from processors import relations
from schemas.events import Floats

Integers = NDArray[np.int64]
Booleans = NDArray[np.bool_]

WAVELENGTH_UM: Floats = np.geomspace(0.1, 1e6, 225)
"""Rest wavelengths of the spectral energy distributions in µm, float64, shape (wavelengths,)."""

LINE_NAMES = tuple(relations.LINES_HZ)

KIND_SHARES = (0.82, 0.15, 0.03)
"""Field, submillimetre and lensed galaxies: a load with enough bright galaxies to alert on."""

_FREQUENCY_HZ = relations.SPEED_OF_LIGHT_KM_S * 1e9 / WAVELENGTH_UM
_BETA_STEPS = np.linspace(1.3, 2.5, 7)
_SOLAR_JY_MPC2 = (1 * units.L_sun / units.Hz / (4 * np.pi * units.Mpc**2)).to_value(units.Jy)
_STARLIGHT_UM = (0.1, 0.2, 0.3, 0.4, 0.6, 1.0, 1.6, 2.5, 3.5, 5.0, 8.0, 30.0)
_STARLIGHT = (1e-4, 0.012, 0.03, 0.10, 0.35, 0.80, 1.0, 0.60, 0.38, 0.21, 0.09, 1e-3)


@dataclass(frozen=True, slots=True, eq=False)
class Population:
    """N simulated galaxies; arrays are float64 of shape (N,) where nothing else is said.

    Args:
        redshift: true redshift.
        log_luminosity: log10 of the intrinsic L_IR in Lsun, 8 to 1000 µm.
        magnification: by a gravitational lens; 1 without one.
        peak_wavelength_um: rest wavelength where S_nu of the dust peaks.
        emissivity_index: beta of the dust.
        line_width_km_s: full width at half maximum of the lines.
        double_horned: whether the lines have two horns; bool.
        radio_excess_dex: log10 of the radio emission over that of star formation; 0 for most.
        log_flux_density: ln of the observed flux density in Jy at rest WAVELENGTH_UM, shape
            (N, wavelengths).
        line_flux_jy_km_s: observed, shape (N, lines), in the order of LINE_NAMES.
    """

    redshift: Floats
    log_luminosity: Floats
    magnification: Floats
    peak_wavelength_um: Floats
    emissivity_index: Floats
    line_width_km_s: Floats
    double_horned: Booleans
    radio_excess_dex: Floats
    log_flux_density: Floats
    line_flux_jy_km_s: Floats

    def __len__(self) -> int:
        return len(self.redshift)

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
    kind = random.choice(3, galaxies, p=KIND_SHARES)
    redshift = _redshifts(kind, random)
    log_luminosity = _log_luminosities(kind, redshift, random)
    magnification = np.where(kind == 2, 10 ** random.normal(0.79, 0.26, galaxies), 1.0).clip(1.0)
    peak = relations.PEAK_WAVELENGTH_MICRON * 10 ** (
        relations.PEAK_WAVELENGTH_SLOPE
        * (log_luminosity - np.log10(relations.PEAK_WAVELENGTH_LUMINOSITY))
        + random.normal(0, relations.PEAK_WAVELENGTH_SCATTER_DEX, galaxies)
    )
    beta = relations.DUST_EMISSIVITY_INDEX + random.normal(
        0, relations.DUST_EMISSIVITY_INDEX_SCATTER / 2, galaxies
    )
    beta = _BETA_STEPS[np.abs(beta[:, None] - _BETA_STEPS).argmin(axis=1)]
    # One in ten is an active nucleus whose jets outshine its star formation in the radio.
    excess = np.where(random.random(galaxies) < 0.1, 0.3 + random.exponential(0.5, galaxies), 0.0)
    log_stars = _log_stellar_mass(log_luminosity, redshift) + random.normal(0, 0.3, galaxies)
    luminosity = (
        _dust(log_luminosity, peak, beta)
        + _aromatic_bands(log_luminosity, random)
        + _starlight(log_stars, random)
        + _radio(log_luminosity, log_stars, redshift, excess, random)
    )
    dilution = (
        _SOLAR_JY_MPC2 * (1 + redshift) * magnification / luminosity_distance_mpc(redshift) ** 2
    )
    return Population(
        redshift=redshift,
        log_luminosity=log_luminosity,
        magnification=magnification,
        peak_wavelength_um=peak,
        emissivity_index=beta,
        line_width_km_s=(
            relations.LINE_WIDTH_KM_S
            * 10 ** random.normal(0, relations.LINE_WIDTH_SCATTER_DEX, galaxies)
        ).clip(80.0, 1500.0),
        double_horned=random.random(galaxies) < 0.3,
        radio_excess_dex=excess,
        log_flux_density=np.log(luminosity * dilution[:, None]),
        line_flux_jy_km_s=_line_fluxes(log_luminosity, redshift, magnification, random),
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
    """Redshifts, normal in ln(1 + z).

    Of the field as z_phot in GOODS-N (Liu et al. 2018), of submillimetre galaxies with a median of
    2.61 and 68 % between 1.8 and 3.4 (Dudzeviciute et al. 2020, MNRAS 494 3828), of lensed ones as
    in the SPT sample (Reuter et al. 2020).
    """
    centre = np.choose(kind, [0.80, np.log(3.61), np.log(4.80)])
    width = np.choose(kind, [0.34, 0.22, 0.20])
    redshift: Floats = np.expm1(random.normal(centre, width))
    return redshift.clip(0.08, 8.0)


def _log_luminosities(kind: Integers, redshift: Floats, random: np.random.Generator) -> Floats:
    """Luminosities of a flux-limited field, of SCUBA-2 galaxies, and of the SPT sample unlensed.

    The field's rise with redshift gives the median fluxes of the GOODS-N catalogue, the luminosity
    of submillimetre galaxies 850 µm fluxes of some 2 mJy; lensed ones have log L_FIR = 12.78
    (Reuter et al. 2020, table F1), to which the mid-infrared adds 0.2.
    """
    field = 10.15 + 3.2 * np.log10(1 + redshift)
    centre = np.choose(kind, [field, 12.37, 12.98])
    luminosity: Floats = random.normal(centre, np.choose(kind, [0.45, 0.30, 0.32]))
    return luminosity


def _log_stellar_mass(log_luminosity: Floats, redshift: Floats) -> Floats:
    """Stellar mass in Msun on the main sequence of the star formation behind L_IR."""
    age = age_gyr(redshift)
    slope = relations.MAIN_SEQUENCE_SLOPE[0] + relations.MAIN_SEQUENCE_SLOPE[1] * age
    intercept = relations.MAIN_SEQUENCE_INTERCEPT[0] + relations.MAIN_SEQUENCE_INTERCEPT[1] * age
    log_rate = log_luminosity + np.log10(relations.STAR_FORMATION_RATE_PER_LUMINOSITY)
    mass: Floats = (log_rate - intercept) / slope
    return np.minimum(mass, 11.6)


def _modified_blackbody(temperature: Floats, beta: Floats) -> Floats:
    """Emission up to a factor, a power law on the Wien side; shape (N, wavelengths)."""
    scale = (constants.h * constants.c / constants.k_B).to_value(units.K * units.um)
    opacity = (relations.DUST_OPACITY_ONE_MICRON / WAVELENGTH_UM) ** beta[:, None]
    exponent = (scale / WAVELENGTH_UM / temperature[:, None]).clip(None, 600.0)
    thermal = -np.expm1(-opacity) / WAVELENGTH_UM**3 / np.expm1(exponent)
    # The power law touches the blackbody where both have its slope, which is where S nu**slope
    # is largest; towards shorter wavelengths it takes over.
    tilted = thermal * _FREQUENCY_HZ**relations.MID_INFRARED_SLOPE
    touching = tilted.argmax(axis=1)[:, None]
    power_law = np.take_along_axis(tilted, touching, axis=1) / (
        _FREQUENCY_HZ**relations.MID_INFRARED_SLOPE
    )
    emission: Floats = np.where(np.arange(len(WAVELENGTH_UM)) < touching, power_law, thermal)
    # Below 10 µm the aromatic bands take over, and dust hot enough to go on sublimates.
    faded: Floats = emission * np.exp(-((8.0 / WAVELENGTH_UM) ** 2))
    return faded


@cache
def _temperature_of_peak() -> tuple[Floats, list[Floats]]:
    """Temperatures, and for each emissivity index the peak wavelength in µm at each of them."""
    temperatures = np.geomspace(10.0, 200.0, 200)
    peaks = []
    for beta in _BETA_STEPS:
        emission = _modified_blackbody(temperatures, np.full_like(temperatures, beta))
        top = emission.argmax(axis=1)
        # A parabola through the three highest points, in log-log.
        y = np.log(np.array([emission[np.arange(200), top + k] for k in (-1, 0, 1)]))
        shift = 0.5 * (y[0] - y[2]) / (y[0] - 2 * y[1] + y[2])
        step = np.log(WAVELENGTH_UM[1] / WAVELENGTH_UM[0])
        peaks.append(WAVELENGTH_UM[top] * np.exp(shift * step))
    return temperatures, peaks


def _dust(log_luminosity: Floats, peak_um: Floats, beta: Floats) -> Floats:
    """L_nu of the dust in Lsun/Hz, shape (N, wavelengths)."""
    temperatures, peaks = _temperature_of_peak()
    temperature = np.empty_like(peak_um)
    for value, peak in zip(_BETA_STEPS, peaks, strict=True):
        chosen = beta == value
        temperature[chosen] = np.interp(-peak_um[chosen], -peak, temperatures)
    shape = _modified_blackbody(temperature, beta)
    low, high = relations.INFRARED_LUMINOSITY_MICRON
    inside = (low <= WAVELENGTH_UM) & (high >= WAVELENGTH_UM)
    log_step = np.log(WAVELENGTH_UM[1] / WAVELENGTH_UM[0])
    total = (shape * _FREQUENCY_HZ)[:, inside].sum(axis=1) * log_step
    emission: Floats = shape * (10**log_luminosity / total)[:, None]
    return emission


def _aromatic_bands(log_luminosity: Floats, random: np.random.Generator) -> Floats:
    """L_nu of the emission bands around 3.3, 7.7 and 12 µm in Lsun/Hz, shape (N, wavelengths).

    The broad filter behind L_8 holds some 0.6 of the peak at 7.7 µm, hence the factor of 1.6.
    """
    log_ratio = np.log10(relations.INFRARED_TO_8_MICRON) + random.normal(
        0, relations.INFRARED_TO_8_MICRON_SCATTER_DEX, len(log_luminosity)
    )
    shape = sum(
        strength * np.exp(-0.5 * (np.log(WAVELENGTH_UM / centre) / width) ** 2)
        for strength, centre, width in ((0.08, 3.3, 0.05), (1.6, 7.7, 0.13), (0.5, 12.0, 0.13))
    )
    emission: Floats = 10 ** (log_luminosity - log_ratio)[:, None] * shape / _FREQUENCY_HZ
    return emission


def _starlight(log_mass: Floats, random: np.random.Generator) -> Floats:
    """L_nu of the stars in Lsun/Hz: a schematic curve, more or less reddened below 1.6 µm."""
    curve = np.exp(
        np.interp(np.log(WAVELENGTH_UM), np.log(_STARLIGHT_UM), np.log(_STARLIGHT), right=-30.0)
    )
    reddening = random.normal(0, 0.5, len(log_mass))[:, None]
    tilt = np.exp(reddening * np.log(WAVELENGTH_UM / 1.6).clip(None, 0.0))
    at_1_6_um = _FREQUENCY_HZ[np.abs(WAVELENGTH_UM - 1.6).argmin()]
    light: Floats = 10 ** log_mass[:, None] / at_1_6_um * curve * tilt
    return light


def _radio(
    log_luminosity: Floats,
    log_mass: Floats,
    redshift: Floats,
    excess_dex: Floats,
    random: np.random.Generator,
) -> Floats:
    """L_nu of synchrotron and other radio emission in Lsun/Hz, shape (N, wavelengths)."""
    count = len(log_luminosity)
    ratio = (
        relations.RADIO_Q * (1 + redshift) ** relations.RADIO_Q_REDSHIFT_EXPONENT
        + relations.RADIO_Q_MASS_SLOPE * (log_mass - 10.0)
        + random.normal(0, relations.RADIO_Q_SCATTER_DEX, count)
    )
    at_1_4_ghz = 10 ** (log_luminosity - ratio + excess_dex) / relations.Q_REFERENCE_FREQUENCY_HZ
    index = random.normal(
        relations.RADIO_SPECTRAL_INDEX, relations.RADIO_SPECTRAL_INDEX_SCATTER / 2, count
    )
    emission: Floats = at_1_4_ghz[:, None] * (_FREQUENCY_HZ / 1.4e9) ** -index[:, None]
    return emission


def _line_fluxes(
    log_luminosity: Floats, redshift: Floats, magnification: Floats, random: np.random.Generator
) -> Floats:
    """Observed line fluxes in Jy km/s, shape (N, lines)."""
    count = len(redshift)
    log_co = (log_luminosity - relations.CO_LUMINOSITY_INTERCEPT) / relations.CO_LUMINOSITY_SLOPE
    log_co = log_co + random.normal(0, 0.25, count)
    rest_hz = np.array([relations.LINES_HZ[name] for name in LINE_NAMES])
    log_ratio = np.log10([relations.LINE_RATIOS[name] for name in LINE_NAMES])
    # Excitation tilts the ladder as a whole; each line scatters a little by itself.
    tilt = random.normal(0, 0.1, count)[:, None] * np.log(rest_hz / rest_hz[0])
    own = random.normal(0, 0.08, (count, len(LINE_NAMES)))
    luminosity = 10 ** (log_co[:, None] + log_ratio + tilt + own)
    observed_ghz = rest_hz / 1e9 / (1 + redshift)[:, None]
    distance = luminosity_distance_mpc(redshift)[:, None]
    flux: Floats = (
        luminosity * observed_ghz**2 * (1 + redshift[:, None]) ** 3 * magnification[:, None]
    ) / (relations.LINE_LUMINOSITY_FACTOR * distance**2)
    return flux
