"""Positions: cells of the sky, and which galaxy an observation belongs to.

Association is by likelihood ratio (Sutherland & Saunders 1992, MNRAS 259 413). A candidate at
distance r has LR = f(r) / n, with f the two-dimensional normal distribution of the combined
position errors and n the surface density of galaxies it may be confused with. The reliability of
candidate j is LR_j / (sum of all LR + 1): the 1 stands for a galaxy that is not known yet.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from astropy import units
from astropy.units import Quantity
from astropy_healpix.core import healpix_cone_search, lonlat_to_healpix

from schemas.events import Floats

from .relations import (
    ARCSEC_PER_RADIAN,
    ASTROMETRIC_FLOOR_ARCSEC,
    GALAXY_SURFACE_DENSITY_PER_ARCSEC2,
)

SEARCH_SIGMAS = 5.0
"""Candidates within so many combined sigma are considered; beyond, LR is below 1e-4."""

AMBIGUOUS_RELIABILITY = 0.1
"""A second candidate at least this reliable makes an association ambiguous."""

MAX_POSITION_ERROR_ARCSEC = 30.0
"""Positions with larger errors cannot be associated. The widest beam of the surveys, 36 arcsec
(SPIRE at 500 um), centres a source of signal-to-noise 1 to 22 arcsec (0.6 FWHM / SNR; Ivison et
al. 2007, MNRAS 380 199)."""

_PUBLISHING_NSIDE = 64


@dataclass(frozen=True)
class Position:
    """A position with its error.

    Attributes:
        right_ascension_deg: ICRS right ascension in degrees.
        declination_deg: ICRS declination in degrees.
        error_arcsec: 1 sigma error on each axis in arcsec.
    """

    right_ascension_deg: float
    declination_deg: float
    error_arcsec: float


@dataclass(frozen=True)
class Neighbour:
    """A known galaxy with its position."""

    galaxy_id: str
    position: Position


@dataclass(frozen=True)
class Association:
    """What an observation belongs to.

    Attributes:
        galaxy_id: the galaxy; None when it founds a new one.
        candidates: the other galaxies that it could belong to, ascending, when it is ambiguous.
    """

    galaxy_id: str | None
    candidates: list[str]


@dataclass(frozen=True)
class CellLevel:
    """One level of the index of positions.

    Attributes:
        largest_error_arcsec: galaxies with at most this position error are kept on this level.
        nside: HEALPix resolution of its cells.
    """

    largest_error_arcsec: float
    nside: int


LEVELS = (CellLevel(1.0, 16384), CellLevel(MAX_POSITION_ERROR_ARCSEC, 1024))
"""Two levels: cells of 13 arcsec for precise positions, of 3.4 arcmin for the others, so that
either search touches few cells and reads few galaxies."""


def level_of(position: Position) -> CellLevel:
    """The level of the index that keeps a galaxy at this position."""
    return next(each for each in LEVELS if position.error_arcsec <= each.largest_error_arcsec)


def cell_of(position: Position, level: CellLevel) -> int:
    """The nested HEALPix cell of a position."""
    return _cell(position.right_ascension_deg, position.declination_deg, level.nside)


def cells_to_search(position: Position, level: CellLevel) -> list[int]:
    """Cells of a level that may hold a candidate for an observation at this position."""
    radius = SEARCH_SIGMAS * _combined_error(position.error_arcsec, level.largest_error_arcsec)
    cells = healpix_cone_search(
        Quantity(position.right_ascension_deg, units.deg),
        Quantity(position.declination_deg, units.deg),
        Quantity(radius, units.arcsec),
        level.nside,
        order="nested",
    )
    return [int(cell) for cell in cells]


def publishing_cell(right_ascension_deg: float, declination_deg: float) -> int:
    """The HEALPix cell (nside 64, nested) that keys an observation."""
    return _cell(right_ascension_deg, declination_deg, _PUBLISHING_NSIDE)


def associate(position: Position, neighbours: Sequence[Neighbour]) -> Association:
    """Choose the galaxy that an observation belongs to, or a new one."""
    if not neighbours:
        return Association(None, [])
    known = np.array(
        [
            (each.position.right_ascension_deg, each.position.declination_deg,
             each.position.error_arcsec)
            for each in neighbours
        ]
    )  # fmt: skip
    ratios = likelihood_ratios(position, known[:, 0], known[:, 1], known[:, 2])
    reliabilities = ratios / (ratios.sum() + 1.0)
    best = int(np.argmax(reliabilities))
    new = 1.0 / (ratios.sum() + 1.0)
    chosen = None if new > reliabilities[best] else neighbours[best].galaxy_id
    others = sorted(
        neighbour.galaxy_id
        for neighbour, reliability in zip(neighbours, reliabilities, strict=True)
        if reliability >= AMBIGUOUS_RELIABILITY and neighbour.galaxy_id != chosen
    )
    return Association(chosen, others)


def likelihood_ratios(
    position: Position,
    right_ascension_deg: Floats,
    declination_deg: Floats,
    error_arcsec: Floats,
) -> Floats:
    """Likelihood ratios of candidates.

    Args:
        position: the observation's.
        right_ascension_deg: of the candidates, float64, shape (n,), degrees.
        declination_deg: of the candidates, float64, shape (n,), degrees.
        error_arcsec: of the candidates, float64, shape (n,), arcsec.

    Returns:
        Likelihood ratios, float64, shape (n,).
    """
    distance = separations_arcsec(
        position.right_ascension_deg,
        position.declination_deg,
        right_ascension_deg,
        declination_deg,
    )
    variance = position.error_arcsec**2 + np.square(error_arcsec) + ASTROMETRIC_FLOOR_ARCSEC**2
    density = np.exp(-0.5 * distance**2 / variance) / (2 * math.pi * variance)
    ratios: Floats = density / GALAXY_SURFACE_DENSITY_PER_ARCSEC2
    return ratios


def separations_arcsec(
    right_ascension_deg: float,
    declination_deg: float,
    right_ascensions_deg: Floats | float,
    declinations_deg: Floats | float,
) -> Floats:
    """Great-circle distances of one position to others in arcsec, from the chord between them."""
    chord = np.linalg.norm(
        unit_vectors(right_ascensions_deg, declinations_deg)
        - unit_vectors(right_ascension_deg, declination_deg),
        axis=-1,
    )
    distances: Floats = 2 * np.arcsin(np.minimum(chord / 2, 1.0)) * ARCSEC_PER_RADIAN
    return distances


def unit_vectors(right_ascension_deg: Floats | float, declination_deg: Floats | float) -> Floats:
    """Unit vectors of positions, float64, shape (..., 3)."""
    ra, dec = np.radians(right_ascension_deg), np.radians(declination_deg)
    return np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)], axis=-1)


def _combined_error(*errors_arcsec: float) -> float:
    return math.hypot(*errors_arcsec, ASTROMETRIC_FLOOR_ARCSEC)


def _cell(right_ascension_deg: float, declination_deg: float, nside: int) -> int:
    longitude, latitude = (
        Quantity(right_ascension_deg, units.deg),
        Quantity(declination_deg, units.deg),
    )
    return int(lonlat_to_healpix(longitude, latitude, nside, order="nested"))
