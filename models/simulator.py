"""What surveys would measure of a simulated population: a stream of observations, all simulated.

Depths, errors and what is missing follow published tables; see the constants. Each galaxy is
observed a few times by different instruments, in no particular order, as a stream would bring it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from astropy.wcs import WCS
from numpy.typing import NDArray

from processors import relations
from schemas.events import (
    Acquisition,
    BandMeasurement,
    ContinuumMap,
    Floats,
    Observation,
    PhotometricRedshift,
    Photometry,
    Spectrum,
)

from .population import LINE_NAMES, Population, simulate_population

Integers = NDArray[np.int64]
Booleans = NDArray[np.bool_]

BLOCK_GALAXIES = 2_000
"""Galaxies that are simulated in one vectorised pass."""

FIELD_CENTRE_DEG = (189.23, 62.24)
"""Middle of the simulated field: that of GOODS-N."""

FIRST_MJD = 59_000.0
_DAYS = 1_000.0
_LINES_GHZ = np.array([relations.LINES_HZ[name] for name in LINE_NAMES]) / 1e9


@dataclass(frozen=True, slots=True)
class Mix:
    """Shares of the kinds of observation, which add up to 1."""

    photometry: float = 0.45
    photometric_redshift: float = 0.15
    continuum: float = 0.20
    spectra: float = 0.15
    maps: float = 0.05

    @property
    def shares(self) -> tuple[float, ...]:
        """In the order of the fields.

        Raises:
            ValueError: a share is negative, or they do not add up to 1.
        """
        shares = (
            self.photometry,
            self.photometric_redshift,
            self.continuum,
            self.spectra,
            self.maps,
        )
        if min(shares) < 0 or abs(sum(shares) - 1) > 1e-6:
            raise ValueError(f"the shares of the mix {shares} must be positive and add up to 1")
        return shares


@dataclass(frozen=True, slots=True, eq=False)
class Survey:
    """A catalogue: its bands, and how deep and how complete it is in each.

    Args:
        name: instrument of its observations.
        bands: names.
        wavelength_um: shape (bands,).
        depth_jy: median 1 sigma error, shape (bands,).
        depth_scatter_dex: scatter of the error from source to source, shape (bands,).
        relative_error: error of bright sources as a fraction of their flux, shape (bands,).
        patterns: which bands a source has, one string of 0 and 1 each, from the faintest sources
            in the far-infrared to the brightest.
        pattern_counts: how many sources of the real table have that pattern.
        non_negative: whether the catalogue's fits cannot be negative in the far-infrared.
        position_error_arcsec: 1 sigma on each axis.
    """

    name: str
    bands: tuple[str, ...]
    wavelength_um: Floats
    depth_jy: Floats
    depth_scatter_dex: Floats
    relative_error: Floats
    patterns: tuple[str, ...]
    pattern_counts: tuple[int, ...]
    non_negative: bool
    position_error_arcsec: float


SUPER_DEBLENDED = Survey(
    # Errors are the 50th and half of the 16th to 84th percentile, patterns the commonest, in the
    # GOODS-N table of Liu et al. 2018, ApJ 853 172 (1,668 sources).
    name="simulated super-deblended",
    bands=(
        *("K", "IRAC1", "IRAC2", "IRAC3", "IRAC4", "IRS-16", "MIPS-24", "PACS-100", "PACS-160"),
        *("SPIRE-250", "SPIRE-350", "SPIRE-500", "SCUBA-2-850", "AzTEC+MAMBO-1160", "VLA-1.4GHz"),
    ),
    wavelength_um=np.array(
        [2.15, 3.6, 4.5, 5.8, 8, 16, 24, 100, 160, 250, 350, 500, 850, 1160, 214_137.0]
    ),
    depth_jy=1e-3
    * np.array(
        [
            *(4e-5, 4e-5, 7e-5, 4.3e-4, 5e-4, 5.24e-3, 7.75e-3),
            *(0.39, 0.97, 1.97, 3.09, 3.15, 1.43, 0.77, 2.7e-3),
        ]
    ),
    depth_scatter_dex=np.array(
        [0.1, 0.09, 0.11, 0.13, 0.13, 0.2, 0.12, 0.11, 0.16, 0.23, 0.27, 0.23, 0.14, 0.14, 0.05]
    ),
    relative_error=np.array(
        [0.1, 0.004, 0.006, 0.02, 0.02, 0.03, 0.03, 0.03, 0.03, 0.05, 0.05, 0.05, 0.05, 0.05, 0.03]
    ),
    patterns=(
        *("111111011000001", "111111111000001", "111111011100001", "111111111100001"),
        *("111111111000111", "111111111110001", "111111111111001", "111111111110111"),
        "111111111111111",
    ),
    pattern_counts=(139, 640, 47, 236, 32, 128, 40, 56, 86),
    non_negative=True,
    position_error_arcsec=0.3,
)

WIDE_FAR_INFRARED = Survey(
    # COSMOS, from the table of Drew & Casey 2022, ApJ 930 142 (314 sources).
    name="simulated COSMOS far-infrared",
    bands=(
        *("MIPS-24", "MIPS-70", "PACS-100", "PACS-160", "SPIRE-250", "SPIRE-350", "SPIRE-500"),
        "SCUBA-2-850",
    ),
    wavelength_um=np.array([24.0, 70, 100, 160, 250, 350, 500, 850]),
    depth_jy=1e-3 * np.array([0.036, 2.97, 1.88, 4.12, 5.85, 6.32, 6.80, 1.09]),
    depth_scatter_dex=np.array([0.3, 0.1, 0.08, 0.08, 0.01, 0.01, 0.01, 0.09]),
    relative_error=np.full(8, 0.03),
    patterns=("10111001", "10111101", "10111111", "11111111"),
    pattern_counts=(35, 65, 118, 96),
    non_negative=False,
    position_error_arcsec=0.3,
)

LENSED_SAMPLE = Survey(
    # SPT-SMG, from table D1 of Reuter et al. 2020, ApJ 902 78 (46 rows).
    name="simulated SPT-SMG",
    bands=(
        *("PACS-100", "PACS-160", "SPIRE-250", "SPIRE-350", "SPIRE-500", "LABOCA-870"),
        *("SPT-220GHz", "SPT-150GHz", "ALMA-3mm"),
    ),
    wavelength_um=np.array([100.0, 160, 250, 350, 500, 870, 1363, 1999, 2998]),
    depth_jy=1e-3 * np.array([2.75, 12.2, 7.95, 7.1, 8.15, 5.7, 4.9, 1.2, 0.05]),
    depth_scatter_dex=np.array([0.1, 0.12, 0.12, 0.1, 0.08, 0.16, 0.09, 0.07, 0.3]),
    relative_error=np.array([0.1, 0.1, 0.03, 0.03, 0.03, 0.06, 0.06, 0.06, 0.03]),
    patterns=("001111111", "111111111"),
    pattern_counts=(14, 32),
    non_negative=False,
    position_error_arcsec=0.3,
)

EAZY_SCATTER = 0.028
EAZY_HALF_WIDTH = 0.0177
EAZY_OUTLIERS = 0.054
"""Scatter (NMAD) and median half-width of the 68 % interval, both of z/(1+z), and share of
outliers: EAZY redshifts (Skelton et al. 2014) against spectroscopy in GOODS-N (Liu et al. 2018)."""

DUST_REDSHIFT_SCATTER = 0.154
DUST_REDSHIFT_HALF_WIDTH = 0.130
"""The same of the far-infrared redshifts of the SPT sample (Reuter et al. 2020, table F1)."""

UPPER_LIMIT_SIGMA = 3.0

CONTINUUM_BANDS = ("ALMA-3", "ALMA-4", "ALMA-6", "ALMA-7", "VLA-8GHz", "VLA-22GHz", "GMRT-610MHz")
CONTINUUM_FREQUENCY_HZ = np.array([100e9, 144e9, 233e9, 343.5e9, 8e9, 22e9, 610e6])
CONTINUUM_DEPTH_JY = np.array([12e-6, 20e-6, 60e-6, 150e-6, 2e-6, 4e-6, 15e-6])
CONTINUUM_SHARES = np.array([0.15, 0.1, 0.25, 0.2, 0.1, 0.1, 0.1])
"""Snapshots of some minutes with ALMA, and deep fields of the VLA and the GMRT."""

SCAN_FREQUENCY_HZ = np.linspace(84.2e9, 114.9e9, 1000)
"""A 3 mm spectral scan (as of Weiss et al. 2013, ApJ 767 88), 31 MHz channels."""

TUNING_CENTRES_HZ = np.array([100e9, 144e9, 233e9, 343.5e9])
TUNING_OFFSETS_HZ = np.concatenate(
    [np.linspace(-7.75e9, -4.05e9, 480), np.linspace(4.05e9, 7.75e9, 480)]
)
"""Two sidebands of 3.75 GHz, 7.7 MHz channels."""

SPECTRUM_NOISE_JY = 0.4e-3
"""1 sigma in a channel of the scan; a tuning goes as deep over the same width in km/s."""

MAP_SIDE = 48
MAP_PIXELS_PER_BEAM = 5.0


def simulate(
    galaxies: int,
    seed: int,
    mix: Mix | None = None,
    *,
    observations_per_galaxy: float = 4.0,
    galaxies_per_square_arcmin: float = 12.0,
) -> Iterator[Observation]:
    """Observations of simulated galaxies; the same arguments give the same observations.

    Args:
        galaxies: how many; their truth is that of ``true_redshifts``.
        seed: of the random numbers; stands in the ids and in ``acquisition.project``.
        mix: shares of the kinds of observation.
        observations_per_galaxy: mean number; every galaxy has at least one.
        galaxies_per_square_arcmin: surface density in the square field; 12 as in the GOODS-N table.

    Yields:
        Observations block by block of galaxies, shuffled within a block.

    Raises:
        ValueError: a number is not positive, or the mix does not add up to 1.
    """
    shares = (mix or Mix()).shares
    if galaxies < 1 or observations_per_galaxy < 1 or galaxies_per_square_arcmin <= 0:
        raise ValueError(
            f"cannot simulate {galaxies} galaxies, {observations_per_galaxy} observations each, "
            f"{galaxies_per_square_arcmin} per square arcminute"
        )
    side_deg = np.sqrt(galaxies / galaxies_per_square_arcmin) / 60
    for block in range(-(-galaxies // BLOCK_GALAXIES)):
        first = block * BLOCK_GALAXIES
        count = min(BLOCK_GALAXIES, galaxies - first)
        telescope = _Telescope(seed, block, side_deg)
        yield from telescope.observe(count, shares, observations_per_galaxy)


def true_redshifts(galaxies: int, seed: int) -> Floats:
    """Redshifts of the galaxies of ``simulate``, by ``galaxy_number``; shape (galaxies,)."""
    blocks = -(-galaxies // BLOCK_GALAXIES)
    every = [simulate_population(BLOCK_GALAXIES, seed, block).redshift for block in range(blocks)]
    return np.concatenate(every)[:galaxies]


def galaxy_number(observation_id: str) -> int:
    """Number of the simulated galaxy that an observation is of.

    Raises:
        ValueError: the id is not that of a simulated observation.
    """
    parts = observation_id.split("-")
    if parts[0] != "simulation" or len(parts) != 4:
        raise ValueError(f"{observation_id!r} is not the id of a simulated observation")
    return int(parts[2])


class _Telescope:
    """Observes one block of galaxies."""

    def __init__(self, seed: int, block: int, side_deg: float) -> None:
        self.random = np.random.default_rng([seed, block, 1])
        self.seed = seed
        self.first = block * BLOCK_GALAXIES
        # Always the whole block, so that a galaxy is the same however many are asked for.
        self.population: Population = simulate_population(BLOCK_GALAXIES, seed, block)
        offsets = (self.random.random((2, BLOCK_GALAXIES)) - 0.5) * side_deg
        self.declination = FIELD_CENTRE_DEG[1] + offsets[1]
        self.right_ascension = (
            FIELD_CENTRE_DEG[0] + offsets[0] / np.cos(np.radians(self.declination))
        ) % 360
        self.acquisition = Acquisition(
            project=f"simulation {seed}", quality="PASS", calibration="simulated noise"
        )

    def observe(
        self, count: int, shares: tuple[float, ...], per_galaxy: float
    ) -> Iterator[Observation]:
        """All observations of the first so many galaxies of the block."""
        numbers = 1 + self.random.poisson(per_galaxy - 1, count)
        galaxies = np.repeat(np.arange(count), numbers)
        # Which observation of its galaxy each one is.
        order = np.arange(len(galaxies)) - np.repeat(np.cumsum(numbers) - numbers, numbers)
        kinds = self.random.choice(len(shares), len(galaxies), p=shares)
        observers: tuple[Callable[[Integers], list[_Measured]], ...] = (
            self._photometry,
            self._photometric_redshifts,
            self._continuum,
            self._spectra,
            self._maps,
        )
        measured: list[_Measured] = [_NOTHING] * len(galaxies)
        for kind, observer in enumerate(observers):
            places = np.flatnonzero(kinds == kind)
            if len(places):
                for place, result in zip(places, observer(galaxies[places]), strict=True):
                    measured[place] = result
        errors = np.array([each.position_error_arcsec for each in measured])
        shift = self.random.standard_normal((2, len(galaxies))) * errors / 3600
        declination = self.declination[galaxies] + shift[0]
        right_ascension = self.right_ascension[galaxies] + shift[1] / np.cos(
            np.radians(declination)
        )
        times = FIRST_MJD + _DAYS * self.random.random(len(galaxies))
        rows = list(
            zip(
                galaxies.tolist(),
                order.tolist(),
                (right_ascension % 360).tolist(),
                declination.tolist(),
                times.tolist(),
                measured,
                strict=True,
            )
        )
        for place in self.random.permutation(len(rows)).tolist():
            galaxy, number, ra, dec, mjd, result = rows[place]
            yield Observation(
                observation_id=f"simulation-{self.seed}-{self.first + galaxy:07d}-{number}",
                instrument=result.instrument,
                right_ascension_deg=ra,
                declination_deg=dec,
                position_error_arcsec=result.position_error_arcsec,
                time_mjd=mjd,
                simulated=True,
                acquisition=self.acquisition,
                photometry=result.photometry,
                photometric_redshift=result.photometric_redshift,
                spectrum=result.spectrum,
                continuum_map=result.continuum_map,
            )

    def _photometry(self, galaxies: Integers) -> list[_Measured]:
        lensed = self.population.magnification[galaxies] > 1
        bright = self.population.flux_density_jy(np.array([12.491e12]), galaxies)[:, 0] > 0.23e-3
        wide = bright & (self.random.random(len(galaxies)) < 0.4)
        survey = np.where(lensed, 2, np.where(wide, 1, 0))
        measured: list[_Measured] = [_NOTHING] * len(galaxies)
        for number, each in enumerate((SUPER_DEBLENDED, WIDE_FAR_INFRARED, LENSED_SAMPLE)):
            places = np.flatnonzero(survey == number)
            for place, photometry in zip(
                places, self._catalogue(each, galaxies[places]), strict=True
            ):
                measured[place] = _Measured(
                    each.name, each.position_error_arcsec, photometry=photometry
                )
        return measured

    def _catalogue(self, survey: Survey, galaxies: Integers) -> Iterator[Photometry]:
        if not len(galaxies):
            return
        frequency = relations.SPEED_OF_LIGHT_KM_S * 1e9 / survey.wavelength_um
        true = self.population.flux_density_jy(frequency, galaxies)
        depth = survey.depth_jy * 10 ** (
            survey.depth_scatter_dex * self.random.standard_normal(true.shape)
        )
        error = np.hypot(depth, survey.relative_error * true)
        flux = true + error * self.random.standard_normal(true.shape)
        if survey.non_negative:
            in_far_infrared = (survey.wavelength_um > 20) & (survey.wavelength_um < 2000)
            flux = np.where(in_far_infrared, np.maximum(flux, 1e-8), flux)
        seen = self._seen(survey, true)
        frequencies = frequency.tolist()
        for fluxes, errors, mask in zip(flux.tolist(), error.tolist(), seen, strict=True):
            yield Photometry(
                [
                    BandMeasurement(survey.bands[k], frequencies[k], fluxes[k], errors[k])
                    for k in mask
                ]
            )

    def _seen(self, survey: Survey, flux: Floats) -> list[list[int]]:
        """Bands that each source has: the brighter in the far-infrared, the more of them."""
        around_350 = np.abs(np.log(survey.wavelength_um / 350)).argmin()
        brightness = np.log(flux[:, around_350]) + 0.7 * self.random.standard_normal(len(flux))
        place = (brightness.argsort().argsort() + 0.5) / len(flux)
        share = np.cumsum(survey.pattern_counts) / sum(survey.pattern_counts)
        bands = [[k for k, one in enumerate(each) if one == "1"] for each in survey.patterns]
        return [bands[k] for k in np.searchsorted(share, place).tolist()]

    def _photometric_redshifts(self, galaxies: Integers) -> list[_Measured]:
        count = len(galaxies)
        true = self.population.redshift[galaxies]
        lensed = self.population.magnification[galaxies] > 1
        scatter = np.where(lensed, DUST_REDSHIFT_SCATTER, EAZY_SCATTER)
        half_width = np.where(lensed, DUST_REDSHIFT_HALF_WIDTH, EAZY_HALF_WIDTH)
        half_width = half_width * 10 ** (0.12 * self.random.standard_normal(count)) * (1 + true)
        redshift = true + scatter * (1 + true) * self.random.standard_normal(count)
        outlier = ~lensed & (self.random.random(count) < EAZY_OUTLIERS)
        redshift = np.where(outlier, 4 * self.random.random(count), redshift).clip(0.01)
        lower, upper = (redshift - half_width).clip(0.0), redshift + half_width
        return [
            _Measured(
                "simulated SPT-SMG" if is_lensed else "simulated super-deblended",
                0.3,
                photometric_redshift=PhotometricRedshift(
                    "simulated dust" if is_lensed else "simulated EAZY", best, low, high
                ),
            )
            for is_lensed, best, low, high in zip(
                lensed.tolist(), redshift.tolist(), lower.tolist(), upper.tolist(), strict=True
            )
        ]

    def _continuum(self, galaxies: Integers) -> list[_Measured]:
        count = len(galaxies)
        band = self.random.choice(len(CONTINUUM_BANDS), count, p=CONTINUUM_SHARES)
        frequency = CONTINUUM_FREQUENCY_HZ[band]
        true = self.population.flux_density_jy(frequency[:, None], galaxies)[:, 0]
        noise = CONTINUUM_DEPTH_JY[band] * 10 ** (0.25 * self.random.standard_normal(count))
        error = np.hypot(noise, 0.05 * true)
        flux = true + error * self.random.standard_normal(count)
        # Half of the authors publish a limit instead of what they measured.
        limit = (flux < UPPER_LIMIT_SIGMA * error) & (self.random.random(count) < 0.5)
        return [
            _Measured(
                CONTINUUM_BANDS[k].split("-")[0],
                0.2,
                photometry=Photometry(
                    [
                        BandMeasurement(
                            CONTINUUM_BANDS[k],
                            hertz,
                            None if is_limit else value,
                            sigma,
                            UPPER_LIMIT_SIGMA * sigma if is_limit else None,
                        )
                    ]
                ),
            )
            for k, hertz, value, sigma, is_limit in zip(
                band.tolist(),
                frequency.tolist(),
                flux.tolist(),
                error.tolist(),
                limit.tolist(),
                strict=True,
            )
        ]

    def _spectra(self, galaxies: Integers) -> list[_Measured]:
        scans = self.random.random(len(galaxies)) < 0.5
        measured: list[_Measured] = [_NOTHING] * len(galaxies)
        tuning = self._tunings(galaxies)
        groups = [(scans, SCAN_FREQUENCY_HZ)] + [
            (~scans & (tuning == k), centre + TUNING_OFFSETS_HZ)
            for k, centre in enumerate(TUNING_CENTRES_HZ)
        ]
        for chosen, frequency in groups:
            places = np.flatnonzero(chosen)
            for place, spectrum in zip(
                places, self._spectra_at(frequency, galaxies[places]), strict=True
            ):
                measured[place] = _Measured("ALMA", 0.2, spectrum=spectrum)
        return measured

    def _tunings(self, galaxies: Integers) -> Integers:
        """The tuning in which the strongest line falls, or any."""
        line_hz = _LINES_GHZ * 1e9 / (1 + self.population.redshift[galaxies])[:, None]
        offset = np.abs(line_hz[:, :, None] - TUNING_CENTRES_HZ)
        inside = (offset > -TUNING_OFFSETS_HZ[479]) & (offset < -TUNING_OFFSETS_HZ[0])
        flux = self.population.line_flux_jy_km_s[galaxies][:, :, None]
        best = (flux * inside).max(axis=1)
        anything = self.random.integers(len(TUNING_CENTRES_HZ), size=len(galaxies))
        return np.where(best.max(axis=1) > 0, best.argmax(axis=1), anything)

    def _spectra_at(self, frequency: Floats, galaxies: Integers) -> Iterator[Spectrum]:
        if not len(galaxies):
            return
        shape = (len(galaxies), len(frequency))
        channel_km_s = relations.SPEED_OF_LIGHT_KM_S * np.abs(np.diff(frequency)).min() / frequency
        scan_channel_km_s = relations.SPEED_OF_LIGHT_KM_S * 30.7e6 / 100e9
        error = SPECTRUM_NOISE_JY * np.sqrt(scan_channel_km_s / channel_km_s)
        # Brighter sources get less time.
        bright = self.population.flux_density_jy(np.array([352.7e9]), galaxies)
        depth = 10 ** (0.2 * self.random.standard_normal((len(galaxies), 1))) * np.sqrt(
            (bright / 3e-3).clip(0.5, 10)
        )
        error = (depth * error).astype(np.float32)
        ends = self.population.flux_density_jy(frequency[[0, -1]], galaxies)
        slope = np.log(ends[:, 1] / ends[:, 0]) / np.log(frequency[-1] / frequency[0])
        shape_of_continuum = np.exp(slope[:, None] * np.log(frequency / frequency[0]))
        flux = (ends[:, :1] * shape_of_continuum).astype(np.float32)
        flux += error * self.random.standard_normal(shape, dtype=np.float32)
        self._add_lines(flux, frequency, galaxies)
        for fluxes, errors in zip(flux, error, strict=True):
            yield Spectrum(frequency, "BARYCENTRIC", fluxes, errors, 1.5, 1.2, 0.0)

    def _add_lines(self, flux: NDArray[np.float32], frequency: Floats, galaxies: Integers) -> None:
        """Add lines in place: Gaussian, or two Gaussians for the horns of a rotating disc."""
        population = self.population
        for line, rest_ghz in enumerate(_LINES_GHZ):
            centre = rest_ghz * 1e9 / (1 + population.redshift[galaxies])
            rows = np.flatnonzero((centre > frequency[0]) & (centre < frequency[-1]))
            if not len(rows):
                continue
            width = population.line_width_km_s[galaxies[rows]][:, None]
            integral = population.line_flux_jy_km_s[galaxies[rows], line][:, None]
            velocity = relations.SPEED_OF_LIGHT_KM_S * (1 - frequency / centre[rows][:, None])
            horned = population.double_horned[galaxies[rows]][:, None]
            # Horns of 0.4 of the width, 0.6 of it apart, have the full width together.
            sigma = np.where(horned, 0.4, 1.0) * width / np.sqrt(8 * np.log(2))
            shift = np.where(horned, 0.3, 0.0) * width
            profile = np.exp(-0.5 * ((velocity - shift) / sigma) ** 2)
            profile += np.exp(-0.5 * ((velocity + shift) / sigma) ** 2)
            flux[rows] += integral * profile / (2 * sigma * np.sqrt(2 * np.pi))

    def _maps(self, galaxies: Integers) -> list[_Measured]:
        count = len(galaxies)
        # 233 GHz with ALMA, 1.4 and 8 GHz with the VLA.
        kind = self.random.choice(3, count, p=(0.5, 0.25, 0.25))
        frequency = np.array([233e9, 1.4e9, 8e9])[kind]
        noise = np.array([40e-6, 4e-6, 2e-6])[kind]
        beam = np.array([0.8, 1.5, 0.6])[kind]
        flux = self.population.flux_density_jy(frequency[:, None], galaxies)[:, 0]
        doubled = (self.population.radio_excess_dex[galaxies] > 0.6) & (kind > 0)
        images = self._images(flux, noise, doubled)
        wcs = WCS(naxis=2)
        wcs.wcs.ctype = ["RA---SIN", "DEC--SIN"]
        wcs.wcs.crpix = [MAP_SIDE / 2 + 0.5] * 2
        measured = []
        for row, galaxy in enumerate(galaxies):
            pixel_deg = beam[row] / MAP_PIXELS_PER_BEAM / 3600
            wcs.wcs.cdelt = [-pixel_deg, pixel_deg]
            wcs.wcs.crval = [self.right_ascension[galaxy], self.declination[galaxy]]
            continuum_map = ContinuumMap(
                image_jy_per_beam=images[row].ravel(),
                height=MAP_SIDE,
                width=MAP_SIDE,
                wcs_header=wcs.to_header_string(),
                frequency_hz=float(frequency[row]),
                beam_major_arcsec=float(beam[row]),
                beam_minor_arcsec=float(beam[row]),
                noise_jy_per_beam=float(noise[row]),
            )
            instrument = "VLA" if kind[row] else "ALMA"
            measured.append(_Measured(instrument, 0.15, continuum_map=continuum_map))
        return measured

    def _images(self, flux: Floats, noise: Floats, doubled: Booleans) -> NDArray[np.float32]:
        """Sources of a beam's size, or two lobes, in noise correlated over the beam."""
        count = len(flux)
        axis = np.arange(MAP_SIDE) - (MAP_SIDE - 1) / 2
        sigma = MAP_PIXELS_PER_BEAM / np.sqrt(8 * np.log(2))
        wave = np.fft.fftfreq(MAP_SIDE)
        transfer = np.exp(
            -2 * (np.pi * sigma) ** 2 * (wave[:, None] ** 2 + wave[: MAP_SIDE // 2 + 1] ** 2)
        )
        white = self.random.standard_normal((count, MAP_SIDE, MAP_SIDE))
        correlated = np.fft.irfft2(np.fft.rfft2(white) * transfer, s=(MAP_SIDE, MAP_SIDE))
        correlated *= noise[:, None, None] / correlated.std(axis=(1, 2), keepdims=True)
        # A resolved source: 0.4 beams wide, deconvolved.
        extent = np.abs(self.random.normal(0.4, 0.2, count)) * sigma
        total = np.sqrt(sigma**2 + extent**2)[:, None]
        separation = np.where(doubled, self.random.uniform(4.0, 12.0, count), 0.0)
        angle = self.random.uniform(0, 2 * np.pi, count)
        peak = flux * (sigma / total[:, 0]) ** 2
        for side in (-0.5, 0.5):
            x = np.exp(-0.5 * ((axis - (side * separation * np.cos(angle))[:, None]) / total) ** 2)
            y = np.exp(-0.5 * ((axis - (side * separation * np.sin(angle))[:, None]) / total) ** 2)
            correlated += 0.5 * peak[:, None, None] * y[:, :, None] * x[:, None, :]
        return correlated.astype(np.float32)


@dataclass(frozen=True, slots=True)
class _Measured:
    """An observation but for its place, time and name."""

    instrument: str
    position_error_arcsec: float
    photometry: Photometry | None = None
    photometric_redshift: PhotometricRedshift | None = None
    spectrum: Spectrum | None = None
    continuum_map: ContinuumMap | None = None


_NOTHING = _Measured("", 0.0)
