"""Simulates the stream of observations that surveys would make of a population of galaxies.

Depths, errors and gaps are those of ``catalogue_surveys``, ``spectrum_surveys`` and
``map_surveys``. Each galaxy is observed a few times by different instruments, in no particular
order, as a stream would bring it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mmbroker.models.simulation.catalogue_surveys import (
    CONTINUUM_BANDS,
    CONTINUUM_DEPTH_JY,
    CONTINUUM_DEPTH_SCATTER_DEX,
    CONTINUUM_FREQUENCY_HZ,
    CONTINUUM_SHARES,
    DUST_REDSHIFT_HALF_WIDTH,
    DUST_REDSHIFT_SCATTER,
    EAZY_HALF_WIDTH,
    EAZY_OUTLIERS,
    EAZY_SCATTER,
    FAR_INFRARED_AND_OPTICAL,
    FLUX_CALIBRATION_ERROR,
    HALF_WIDTH_SCATTER_DEX,
    IMAGING,
    LENSED_SAMPLE,
    REDSHIFT_ERROR_CORRELATION,
    SUPER_DEBLENDED,
    Catalogue,
    ImagingSurvey,
    Survey,
    in_far_infrared_sample,
    in_prior_list,
    observe,
)
from mmbroker.models.simulation.map_surveys import maps
from mmbroker.models.simulation.population import LENSED, Population, simulate_population
from mmbroker.models.simulation.spectrum_surveys import spectra
from mmbroker.schemas.events import (
    Acquisition,
    BandMeasurement,
    ContinuumMap,
    Floats,
    Observation,
    PhotometricRedshift,
    Photometry,
    Spectrum,
)

Integers = NDArray[np.int64]

BLOCK_GALAXIES = 2_000
"""The number of galaxies that are simulated at once."""

FIELD_CENTRE_DEG = (330.0, 45.0)
"""The middle of the simulated field. It is in the plane of the Milky Way, where no deep field is,
so that simulated galaxies are not mixed up with real ones."""

FIRST_MJD = 59_000.0
_DAYS = 1_000.0


@dataclass(frozen=True, slots=True)
class Mix:
    """Shares of the kinds of observation, which add up to 1; the defaults are assumed.

    Attributes:
        photometry: photometry in the bands of a catalogue.
        photometric_redshift: photometric redshifts.
        continuum: a flux density in one band.
        spectra: spectra.
        maps: continuum maps.
    """

    photometry: float = 0.45
    photometric_redshift: float = 0.15
    continuum: float = 0.20
    spectra: float = 0.15
    maps: float = 0.05

    @property
    def shares(self) -> tuple[float, ...]:
        """The shares in the order of the fields.

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


CATALOGUES = (SUPER_DEBLENDED, FAR_INFRARED_AND_OPTICAL, LENSED_SAMPLE)

IMAGING_SHARE = 0.25
"""The share of the photometry that is from optical to mid-infrared imaging alone. Galaxies that are
too faint for the other catalogues come on top. Assumed."""

_WIDE_SHARE = 0.5
"""The share of galaxies within the limits of the COSMOS sample that are observed as such.
Assumed."""

_BOUNDED_SHARE = 0.5
"""The share of redshifts of the field that state an interval. Assumed: EAZY states one, the
catalogue's own estimate does not."""

_HIGHEST_MISTAKE = 4.0
"""Assumed: redshifts that fail are anywhere below this."""

_LIMIT_SHARE = 0.5
"""The share of authors who publish a limit for a source that they do not detect. Assumed."""

_POSITION_ERRORS_ARCSEC = {"redshift": 0.3, "continuum": 0.2, "spectrum": 0.2, "map": 0.15}
"""The 1 sigma position error on each axis, for observations but photometry. Assumed."""

UPPER_LIMIT_SIGMA = 3.0


def simulate(
    galaxies: int,
    seed: int,
    mix: Mix | None = None,
    *,
    observations_per_galaxy: float = 4.0,
    galaxies_per_square_arcmin: float = 12.0,
) -> Iterator[Observation]:
    """Simulate observations of galaxies; the same arguments give the same observations.

    Args:
        galaxies: the number of galaxies; ``true_redshifts`` gives their redshifts.
        seed: the seed of the random numbers; it stands in the ids and in ``acquisition.project``.
        mix: the shares of the kinds of observation; those of ``Mix()`` by default.
        observations_per_galaxy: the mean number of observations of a galaxy, which has at least
            one.
        galaxies_per_square_arcmin: the surface density in the square field, in arcmin**-2; 12 is
            that of the GOODS-N table.

    Yields:
        Observations block by block of galaxies, shuffled within a block.

    Raises:
        ValueError: there is less than one galaxy or observation per galaxy, the density is not
            positive, or a share of the mix is negative, or they do not add up to 1.
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
    """The true redshifts of the galaxies of ``simulate``, by ``galaxy_number``.

    Args:
        galaxies: the number of galaxies.
        seed: the seed of the random numbers.

    Returns:
        float64, shape (galaxies,).
    """
    blocks = -(-galaxies // BLOCK_GALAXIES)
    every = [simulate_population(BLOCK_GALAXIES, seed, block).redshift for block in range(blocks)]
    return np.concatenate(every)[:galaxies]


def galaxy_number(observation_id: str) -> int:
    """The number of the simulated galaxy that was observed.

    Args:
        observation_id: the id of the observation.

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
        failures = np.random.default_rng([seed, block, 2])
        self.redshift_error = failures.standard_normal(BLOCK_GALAXIES)
        self.mistaken_redshift = np.where(
            failures.random(BLOCK_GALAXIES) < EAZY_OUTLIERS,
            _HIGHEST_MISTAKE * failures.random(BLOCK_GALAXIES),
            np.nan,
        )
        self.acquisition = Acquisition(
            project=f"simulation {seed}", quality="PASS", calibration="simulated noise"
        )

    def observe(
        self, count: int, shares: tuple[float, ...], per_galaxy: float
    ) -> Iterator[Observation]:
        """Make all observations of the first ``count`` galaxies of the block, shuffled."""
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
        lensed = self.population.kind[galaxies] == LENSED
        wide = in_far_infrared_sample(self.population, galaxies)
        wide &= self.random.random(len(galaxies)) < _WIDE_SHARE
        survey = np.where(lensed, 2, np.where(wide, 1, 0))
        imaged = self.random.random(len(galaxies)) < IMAGING_SHARE
        imaged |= (survey == 0) & ~in_prior_list(self.population, galaxies)
        which = self.random.choice(len(IMAGING), len(galaxies))
        survey = np.where(imaged, len(CATALOGUES) + which, survey)
        measured: list[_Measured] = [_NOTHING] * len(galaxies)
        surveys: tuple[Survey | ImagingSurvey, ...] = (*CATALOGUES, *IMAGING)
        for number, each in enumerate(surveys):
            places = np.flatnonzero(survey == number)
            if not len(places):
                continue
            catalogue = observe(each, self.population, galaxies[places], self.random)
            for place, photometry in zip(places, _photometry(each, catalogue), strict=True):
                measured[place] = _Measured(
                    each.name, each.position_error_arcsec, photometry=photometry
                )
        return measured

    def _photometric_redshifts(self, galaxies: Integers) -> list[_Measured]:
        count = len(galaxies)
        true = self.population.redshift[galaxies]
        lensed = self.population.kind[galaxies] == LENSED
        bounded = lensed | (self.random.random(count) < _BOUNDED_SHARE)
        scatter = np.where(lensed, DUST_REDSHIFT_SCATTER, EAZY_SCATTER)
        half_width = np.where(lensed, DUST_REDSHIFT_HALF_WIDTH, EAZY_HALF_WIDTH)
        spread = HALF_WIDTH_SCATTER_DEX * self.random.standard_normal(count)
        half_width = half_width * 10**spread * (1 + true)
        shared = REDSHIFT_ERROR_CORRELATION
        error = np.sqrt(shared) * self.redshift_error[galaxies]
        error += np.sqrt(1 - shared) * self.random.standard_normal(count)
        redshift = true + scatter * (1 + true) * error
        mistaken = ~lensed & np.isfinite(self.mistaken_redshift[galaxies])
        redshift = np.where(mistaken, self.mistaken_redshift[galaxies], redshift).clip(0.01)
        lower, upper = (redshift - half_width).clip(0.0), redshift + half_width
        return [
            _Measured(
                "simulated SPT-SMG" if is_lensed else "simulated super-deblended",
                _POSITION_ERRORS_ARCSEC["redshift"],
                photometric_redshift=PhotometricRedshift(
                    "simulated dust" if is_lensed else "simulated EAZY", best, low, high
                )
                if has_interval
                else PhotometricRedshift("simulated photometric", best),
            )
            for is_lensed, has_interval, best, low, high in zip(
                *(each.tolist() for each in (lensed, bounded, redshift, lower, upper)), strict=True
            )
        ]

    def _continuum(self, galaxies: Integers) -> list[_Measured]:
        count = len(galaxies)
        band = self.random.choice(len(CONTINUUM_BANDS), count, p=CONTINUUM_SHARES)
        frequency = CONTINUUM_FREQUENCY_HZ[band]
        true = self.population.flux_density_jy(frequency[:, None], galaxies)[:, 0]
        spread = CONTINUUM_DEPTH_SCATTER_DEX * self.random.standard_normal(count)
        error = np.hypot(CONTINUUM_DEPTH_JY[band] * 10**spread, FLUX_CALIBRATION_ERROR * true)
        flux = true + error * self.random.standard_normal(count)
        limited = self.random.random(count) < _LIMIT_SHARE
        limit = (flux < UPPER_LIMIT_SIGMA * error) & limited
        return [
            _Measured(
                CONTINUUM_BANDS[k].split("-")[0],
                _POSITION_ERRORS_ARCSEC["continuum"],
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
        return [
            _Measured("ALMA", _POSITION_ERRORS_ARCSEC["spectrum"], spectrum=spectrum)
            for spectrum in spectra(self.population, galaxies, self.random)
        ]

    def _maps(self, galaxies: Integers) -> list[_Measured]:
        places = self.right_ascension[galaxies], self.declination[galaxies]
        return [
            _Measured(instrument, _POSITION_ERRORS_ARCSEC["map"], continuum_map=continuum_map)
            for instrument, continuum_map in maps(self.population, galaxies, *places, self.random)
        ]


@dataclass(frozen=True, slots=True)
class _Measured:
    """An observation without its id, position and time."""

    instrument: str
    position_error_arcsec: float
    photometry: Photometry | None = None
    photometric_redshift: PhotometricRedshift | None = None
    spectrum: Spectrum | None = None
    continuum_map: ContinuumMap | None = None


_NOTHING = _Measured("", 0.0)


def _photometry(survey: Survey | ImagingSurvey, catalogue: Catalogue) -> Iterator[Photometry]:
    frequencies = survey.frequency_hz.tolist()
    fluxes, errors = catalogue.flux_jy.tolist(), catalogue.error_jy.tolist()
    for row, seen in enumerate(catalogue.seen):
        yield Photometry(
            [
                BandMeasurement(survey.bands[k], frequencies[k], fluxes[row][k], errors[row][k])
                for k in np.flatnonzero(seen).tolist()
            ]
        )
