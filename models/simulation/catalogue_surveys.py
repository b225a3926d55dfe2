"""Simulates the catalogues of surveys: their bands, their noise and their missing values.

The real tables of some catalogues are at hand (GOODS-N, Liu et al. 2018, ApJ 853 172; COSMOS, Drew
& Casey 2022, ApJ 930 142; SPT-SMG, Reuter et al. 2020, ApJ 902 78). For these,
``survey_statistics`` measures how errors scatter and correlate, and which bands a source has. For
the others this module states published depths. A catalogue is computed for many galaxies at once.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmbroker.models.packaged.networks import WEIGHTS
from mmbroker.models.simulation.population import Population
from mmbroker.processors import relations
from mmbroker.schemas.events import Floats

Integers = NDArray[np.int64]
Booleans = NDArray[np.bool_]

STATISTICS = WEIGHTS / "survey_statistics.json"

_LEAST_FLUX_JY = 1e-8
"""Assumed: the flux that a fit which cannot be negative gives to a source that it does not find."""

_LARGER_THAN_POINTS_DEX = 0.2
_DEPTH_SCATTER_DEX = 0.1
"""Assumed: how much larger than a point source's the noise of a galaxy is in imaging, because a
galaxy is extended, and how depth varies over the field."""

_EDGE_SHARE = 0.02
"""Assumed: the share of an imaged area in which neighbouring bands end in different places."""


@dataclass(frozen=True, slots=True, eq=False)
class Survey:
    """A catalogue whose real table is at hand.

    Attributes:
        name: the instrument of its observations.
        table: its name in the measured statistics.
        bands: the names of the bands.
        wavelength_um: the wavelengths of the instruments' filters, rounded, float64, shape
            (bands,).
        shared_noise: groups of bands, and how much of their noise is common, as a correlation
            coefficient. They see the same faint neighbours or have the same aperture. Assumed where
            no source is given.
        deblending: bands in which sources lose flux to their neighbours, how many sigma they lose
            on average, and the ratio of the scatter to the errors.
        calibration: bands, and the factors by which their flux densities are off.
        non_negative: whether the catalogue's fits from 10 to 2000 um cannot be negative.
        position_error_arcsec: the 1 sigma position error on each axis, in arcsec; assumed.
    """

    name: str
    table: str
    bands: tuple[str, ...]
    wavelength_um: Floats
    shared_noise: tuple[tuple[tuple[str, ...], float], ...] = ()
    deblending: tuple[tuple[str, float, float], ...] = ()
    calibration: tuple[tuple[str, float], ...] = ()
    non_negative: bool = False
    position_error_arcsec: float = 0.3

    @property
    def frequency_hz(self) -> Floats:
        """The frequencies of the bands in Hz, float64, shape (bands,)."""
        return relations.SPEED_OF_LIGHT_KM_S * 1e9 / self.wavelength_um


SUPER_DEBLENDED = Survey(
    name="simulated super-deblended",
    table="GOODS-N",
    bands=(
        *("K", "IRAC1", "IRAC2", "IRAC3", "IRAC4", "IRS-16", "MIPS-24", "PACS-100", "PACS-160"),
        *("SPIRE-250", "SPIRE-350", "SPIRE-500", "SCUBA-2-850", "AzTEC+MAMBO-1160", "VLA-1.4GHz"),
    ),
    wavelength_um=np.array(
        [2.15, 3.6, 4.5, 5.8, 8, 16, 24, 100, 160, 250, 350, 500, 850, 1160, 214_137.0]
    ),
    shared_noise=((("SPIRE-250", "SPIRE-350", "SPIRE-500"), 0.4), (("IRAC1", "IRAC2"), 0.5)),
    # Assumed: what the training part has more of fluxes at zero than colours and errors explain.
    deblending=(
        ("PACS-160", 0.5, 1.2),
        ("SCUBA-2-850", 0.4, 1.3),
        ("AzTEC+MAMBO-1160", 0.4, 1.7),
    ),
    non_negative=True,
)

FAR_INFRARED_AND_OPTICAL = Survey(
    name="simulated COSMOS far-infrared",
    table="COSMOS",
    bands=(
        *("CFHT-u", "Subaru-B", "Subaru-g", "Subaru-V", "Subaru-r", "Subaru-i", "Subaru-z"),
        *("UKIRT-J", "CFHT-K", "MIPS-24", "MIPS-70", "PACS-100", "PACS-160"),
        *("SPIRE-250", "SPIRE-350", "SPIRE-500", "SCUBA-2-850"),
    ),
    wavelength_um=np.array(
        [
            *(0.38, 0.446, 0.478, 0.548, 0.629, 0.768, 0.904, 1.25, 2.15),
            *(24.0, 70, 100, 160, 250, 350, 500, 850),
        ]
    ),
    # The errors at 250 to 500 µm are confusion alone (Nguyen et al. 2010, A&A 518 L5): the
    # correlation of shot noise seen by two Gaussian beams is 2 ab / (a**2 + b**2) of their widths.
    shared_noise=((("SPIRE-250", "SPIRE-350", "SPIRE-500"), 0.8),),
    # What fits of the templates of ``starlight`` leave, on average, of the training part.
    calibration=(
        *(("CFHT-u", 0.94), ("Subaru-B", 1.15), ("Subaru-g", 0.95), ("Subaru-r", 0.96)),
        *(("Subaru-z", 1.08), ("UKIRT-J", 0.91), ("CFHT-K", 1.04)),
    ),
)

LENSED_SAMPLE = Survey(
    name="simulated SPT-SMG",
    table="SPT",
    bands=(
        *("PACS-100", "PACS-160", "SPIRE-250", "SPIRE-350", "SPIRE-500", "LABOCA-870"),
        *("SPT-220GHz", "SPT-150GHz", "ALMA-3mm"),
    ),
    wavelength_um=np.array([100.0, 160, 250, 350, 500, 870, 1363, 1999, 2998]),
    shared_noise=(
        (("SPIRE-250", "SPIRE-350", "SPIRE-500"), 0.8),
        (("SPT-220GHz", "SPT-150GHz"), 0.3),
    ),
)


@dataclass(frozen=True, slots=True, eq=False)
class ImagingSurvey:
    """An optical to mid-infrared imaging survey of which no real table is at hand.

    Attributes:
        name: the instrument of its observations.
        bands: the names of the bands.
        wavelength_um: the wavelengths of the instruments' filters, rounded, float64, shape
            (bands,).
        depth_mag: the 5 sigma point-source depth in AB magnitudes, float64, shape (bands,).
        coverage: the share of the survey's area that a band covers, float64, shape (bands,).
        relative_error: the error of bright sources as a fraction of the flux. Half of its square is
            common to all bands, because they share the aperture. Assumed.
        position_error_arcsec: the 1 sigma position error on each axis, in arcsec; assumed.
    """

    name: str
    bands: tuple[str, ...]
    wavelength_um: Floats
    depth_mag: Floats
    coverage: Floats
    relative_error: float = 0.04
    position_error_arcsec: float = 0.2

    @property
    def frequency_hz(self) -> Floats:
        """The frequencies of the bands in Hz, float64, shape (bands,)."""
        return relations.SPEED_OF_LIGHT_KM_S * 1e9 / self.wavelength_um


CANDELS = ImagingSurvey(
    # Depths about those of the catalogue of Barro et al. 2019, ApJS 243 22; coverage assumed.
    name="simulated CANDELS",
    bands=(
        *("ACS-F435W", "ACS-F606W", "ACS-F775W", "ACS-F814W", "ACS-F850LP"),
        *("WFC3-F105W", "WFC3-F125W", "WFC3-F140W", "WFC3-F160W"),
    ),
    wavelength_um=np.array([0.432, 0.592, 0.770, 0.805, 0.904, 1.055, 1.249, 1.392, 1.537]),
    depth_mag=np.array([27.1, 27.7, 27.2, 28.1, 26.9, 26.4, 26.7, 25.9, 26.1]),
    coverage=np.array([0.9, 1.0, 0.9, 1.0, 0.95, 0.8, 1.0, 0.7, 1.0]),
)

HYPER_SUPRIME_CAM = ImagingSurvey(
    # The Deep layer: Aihara et al. 2018, PASJ 70 S4; coverage assumed.
    name="simulated HSC",
    bands=("HSC-g", "HSC-r", "HSC-i", "HSC-z", "HSC-y"),
    wavelength_um=np.array([0.477, 0.622, 0.773, 0.893, 0.978]),
    depth_mag=np.array([27.5, 27.1, 26.8, 26.3, 25.3]),
    coverage=np.array([1.0, 1.0, 1.0, 1.0, 0.95]),
)

WEBB = ImagingSurvey(
    # COSMOS-Web: depths and areas, of which MIRI has a third, of Casey et al. 2023, ApJ 954 31.
    name="simulated JWST",
    bands=("NIRCam-F115W", "NIRCam-F150W", "NIRCam-F277W", "NIRCam-F444W", "MIRI-F770W"),
    wavelength_um=np.array([1.154, 1.501, 2.786, 4.421, 7.64]),
    depth_mag=np.array([27.3, 27.5, 28.1, 28.0, 25.7]),
    coverage=np.array([0.98, 0.98, 0.98, 0.98, 0.35]),
)

IMAGING = (CANDELS, HYPER_SUPRIME_CAM, WEBB)

_PRIOR_LIMITS_JY = np.array([14e-6, 8e-6])
"""The limits at 24 um and at 20 cm: about 3 sigma of GOODS-N (Liu et al. 2018, ApJ 853 172)."""

_FAR_INFRARED_LIMITS_JY = np.array(
    [0.2e-3, 7e-3, 11e-3, relations.AB_ZERO_JY * 10 ** (-0.4 * 22.6)]
)
_FAR_INFRARED_REDSHIFT = 1.0
"""The limits at 24, 100 and 160 um and in the i band, and the highest redshift: about where the
table of Drew & Casey 2022 (ApJ 930 142), joined with zCOSMOS, begins and ends."""

_LENSED_LIMIT_JY = 12e-3
"""The limit at 1.4 mm: about where the SPT sample (Reuter et al. 2020, ApJ 902 78) begins."""

# --- Redshifts that come with the catalogues ---

EAZY_SCATTER = 0.028
EAZY_HALF_WIDTH = 0.0177
EAZY_OUTLIERS = 0.054
"""Scatter (NMAD) and median half-width of the 68 % interval, both of z/(1+z), and share of
outliers: EAZY redshifts (Skelton et al. 2014, ApJS 214 24) against spectroscopy in GOODS-N (Liu et
al. 2018, ApJ 853 172)."""

REDSHIFT_ERROR_CORRELATION = 0.966
"""The correlation between the errors of two redshifts from the same photometry, EAZY's and that of
Liu et al. 2018, in the training part of GOODS-N; outliers of one are outliers of the other."""

DUST_REDSHIFT_SCATTER = 0.154
DUST_REDSHIFT_HALF_WIDTH = 0.130
"""The same for the far-infrared redshifts of the SPT sample (Reuter et al. 2020, table F1)."""

HALF_WIDTH_SCATTER_DEX = 0.12
"""The scatter of the half-widths between galaxies; assumed."""

# --- Continuum in one band at a time ---

CONTINUUM_BANDS = ("ALMA-3", "ALMA-4", "ALMA-6", "ALMA-7", "VLA-8GHz", "VLA-22GHz", "GMRT-610MHz")
CONTINUUM_FREQUENCY_HZ = np.array([100e9, 144e9, 233e9, 343.5e9, 8e9, 22e9, 610e6])
CONTINUUM_DEPTH_JY = np.array([12e-6, 20e-6, 60e-6, 150e-6, 2e-6, 4e-6, 15e-6])
CONTINUUM_SHARES = np.array([0.15, 0.1, 0.25, 0.2, 0.1, 0.1, 0.1])
"""Snapshots of some minutes with ALMA, and deep fields of the VLA and the GMRT: 1 sigma depths and
how common each is. Assumed."""

CONTINUUM_DEPTH_SCATTER_DEX = 0.25
FLUX_CALIBRATION_ERROR = 0.05
"""Scatter of these depths, and error of the flux scale as a fraction. Assumed."""


@dataclass(frozen=True, slots=True, eq=False)
class Catalogue:
    """The measurements of N galaxies by a survey; float64 arrays of shape (N, bands).

    Attributes:
        flux_jy: the measured flux densities in Jy.
        error_jy: their 1 sigma errors in Jy.
        seen: whether the catalogue has that band at all; bool.
    """

    flux_jy: Floats
    error_jy: Floats
    seen: Booleans


def in_prior_list(population: Population, galaxies: Integers) -> Booleans:
    """Whether a galaxy is bright enough at 24 um or 20 cm for the super-deblended catalogue.

    Args:
        population: the population.
        galaxies: the indices of the galaxies in it, int64, shape (N,).

    Returns:
        bool, shape (N,).
    """
    flux = _flux_at(population, galaxies, 24.0, 214_137.0)
    return np.asarray((flux > _PRIOR_LIMITS_JY).any(axis=1))


def in_far_infrared_sample(population: Population, galaxies: Integers) -> Booleans:
    """Whether a galaxy can be in the COSMOS sample: bright in infrared and optical, and nearby.

    Args:
        population: the population.
        galaxies: the indices of the galaxies in it, int64, shape (N,).

    Returns:
        bool, shape (N,).
    """
    flux = _flux_at(population, galaxies, 24.0, 100.0, 160.0, 0.768)
    bright = (flux > _FAR_INFRARED_LIMITS_JY).all(axis=1)
    return np.asarray(bright & (population.redshift[galaxies] < _FAR_INFRARED_REDSHIFT))


def observe(
    survey: Survey | ImagingSurvey,
    population: Population,
    galaxies: Integers,
    random: np.random.Generator,
) -> Catalogue:
    """Simulate a catalogue, in which every galaxy has at least one band.

    Args:
        survey: the survey.
        population: the population that the galaxies are part of.
        galaxies: the indices of the galaxies in it, int64, shape (N,).
        random: the generator of random numbers.
    """
    if isinstance(survey, ImagingSurvey):
        return _imaged(survey, population, galaxies, random)
    return _catalogued(survey, population, galaxies, random)


def in_lensed_sample(population: Population, galaxies: Integers) -> Booleans:
    """Whether a galaxy is bright enough at 1.4 mm for the SPT sample.

    Args:
        population: the population.
        galaxies: the indices of the galaxies in it, int64, shape (N,).

    Returns:
        bool, shape (N,).
    """
    return np.asarray(_flux_at(population, galaxies, 1363.0)[:, 0] > _LENSED_LIMIT_JY)


def _catalogued(
    survey: Survey, population: Population, galaxies: Integers, random: np.random.Generator
) -> Catalogue:
    """Simulate a catalogue with the errors and gaps of the real one.

    The errors of all bands are drawn together, each given its flux density. Then, band after band
    in the order in which the statistics were measured, it is drawn whether the catalogue has the
    band, given the redshift and the bands before.
    """
    statistics = _statistics()[survey.table]
    true = population.flux_density_jy(survey.frequency_hz, galaxies)
    for band, factor in survey.calibration:
        true[:, survey.bands.index(band)] *= factor
    noise = _noise(survey, len(galaxies), random)
    depth = np.array(statistics["depth_jy"])
    ranks = random.standard_normal(true.shape) @ _root(survey.table).T
    # The error depends on the flux density that is measured with it.
    flux = true + depth * noise
    for _ in range(2):
        error = _errors(statistics, flux, ranks)
        flux = true + error * noise
    if survey.non_negative:
        fitted = (survey.wavelength_um > 10) & (survey.wavelength_um < 2000)
        flux = np.where(fitted, np.maximum(flux, _LEAST_FLUX_JY), flux)
    scaled = np.arcsinh(flux / depth)
    seen = _seen(statistics, np.log1p(population.redshift[galaxies]), scaled, random)
    return Catalogue(flux, error, seen)


def _imaged(
    survey: ImagingSurvey, population: Population, galaxies: Integers, random: np.random.Generator
) -> Catalogue:
    """Simulate the catalogue of an imaging survey."""
    true = population.flux_density_jy(survey.frequency_hz, galaxies)
    depth = relations.AB_ZERO_JY * 10 ** (-0.4 * survey.depth_mag) / 5
    variation = _DEPTH_SCATTER_DEX * random.standard_normal(true.shape)
    depth = depth * 10 ** (_LARGER_THAN_POINTS_DEX + variation)
    error = np.hypot(depth, survey.relative_error * true)
    share = 0.5**0.5 * survey.relative_error * true / error
    common = random.standard_normal((len(galaxies), 1))
    own = random.standard_normal(true.shape)
    flux = true + error * (share * common + np.sqrt(1 - share**2) * own)
    # Neighbouring bands miss a galaxy together, at the edge of the field or under a star.
    place = random.random((len(galaxies), 1)) + _EDGE_SHARE * random.standard_normal(true.shape)
    seen = place < survey.coverage
    seen[:, np.argmax(survey.coverage)] |= ~seen.any(axis=1)
    return Catalogue(flux, error, seen)


def mask_features(
    log_stretch: Floats, scaled: Floats, seen: Booleans, earlier: list[int]
) -> Floats:
    """The features from which a logistic regression says whether a source has a band.

    Args:
        log_stretch: ln(1 + z), float64, shape (N,).
        scaled: asinh of flux density over depth, float64, shape (N, bands).
        seen: whether a source has a band, bool, shape (N, bands).
        earlier: the indices of the bands that come before this one.

    Returns:
        float64, shape (N, 3 + 2 * earlier).
    """
    known = seen[:, earlier]
    parts = [
        np.ones((len(scaled), 1)),
        log_stretch[:, None],
        log_stretch[:, None] ** 2,
        known,
        np.where(known, scaled[:, earlier].clip(-3.0, 8.0), 0.0),
    ]
    return np.concatenate(parts, axis=1)


def _flux_at(population: Population, galaxies: Integers, *wavelengths_um: float) -> Floats:
    frequency = relations.SPEED_OF_LIGHT_KM_S * 1e9 / np.array(wavelengths_um)
    return population.flux_density_jy(frequency, galaxies)


def _errors(statistics: dict[str, Any], flux: Floats, ranks: Floats) -> Floats:
    """The errors in Jy at given ranks, by the measured percentiles of each band.

    They are interpolated between knots of scaled flux density.
    """
    depth = np.array(statistics["depth_jy"])
    scaled = np.arcsinh(flux / depth)
    normal = np.array(statistics["normal_quantiles"])
    errors = np.empty_like(flux)
    for band, (knots, quantiles) in enumerate(statistics["error"]):
        place = np.interp(scaled[:, band], knots, np.arange(len(knots)))
        below = np.minimum(place.astype(np.int64), len(knots) - 2)
        part = place - below
        by_knot = np.array([np.interp(ranks[:, band], normal, each) for each in quantiles])
        rows = np.arange(len(flux))
        log_error = by_knot[below, rows] * (1 - part) + by_knot[below + 1, rows] * part
        errors[:, band] = depth[band] * 10**log_error
    return errors


def _seen(
    statistics: dict[str, Any],
    log_stretch: Floats,
    scaled: Floats,
    random: np.random.Generator,
) -> Booleans:
    seen = np.zeros(scaled.shape, bool)
    order = [int(band) for band in statistics["order"]]
    for place, band in enumerate(order):
        features = mask_features(log_stretch, scaled, seen, order[:place])
        logit = features @ np.array(statistics["mask"][place])
        seen[:, band] = random.random(len(scaled)) < 1 / (1 + np.exp(-logit.clip(-30, 30)))
    seen[:, order[0]] |= ~seen.any(axis=1)
    return seen


def _noise(survey: Survey, count: int, random: np.random.Generator) -> Floats:
    """Draw noise in units of the error, with the part that bands share, shape (count, bands)."""
    noise = random.standard_normal((count, len(survey.bands)))
    for bands, share in survey.shared_noise:
        members = [survey.bands.index(band) for band in bands]
        common = random.standard_normal((count, 1))
        noise[:, members] = np.sqrt(share) * common + np.sqrt(1 - share) * noise[:, members]
    for band, lost, scatter in survey.deblending:
        index = survey.bands.index(band)
        noise[:, index] = scatter * noise[:, index] - lost
    return noise


@cache
def _statistics() -> dict[str, dict[str, Any]]:
    tables: dict[str, dict[str, Any]] = json.loads(STATISTICS.read_text(encoding="utf-8"))["tables"]
    return tables


@cache
def _root(table: str) -> Floats:
    """The Cholesky root of the correlation matrix of the errors' scatter, shape (bands, bands)."""
    root: Floats = np.linalg.cholesky(np.array(_statistics()[table]["correlation"]))
    return root
