"""Finds the galaxies near a position, and the one that an observation belongs to.

Galaxies are kept by declination zone and, within a zone, by right ascension. So the galaxies around
a position are a few ranges of one sorted list (Gray et al. 2006, MSR-TR-2006-52).

Association is by likelihood ratio (Sutherland & Saunders 1992, MNRAS 259 413). A candidate at
distance r has LR = f(r) / n, with f the two-dimensional normal distribution of the combined
position errors and n the surface density of galaxies it may be confused with. The reliability of
candidate j is LR_j / (sum of all LR + 1): the 1 stands for a galaxy that is not known yet.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from mmbroker.processors.relations import (
    ARCSEC_PER_RADIAN,
    ASTROMETRIC_FLOOR_ARCSEC,
    GALAXY_SURFACE_DENSITY_PER_ARCSEC2,
)
from mmbroker.schemas.events import Floats

SEARCH_SIGMAS = 5.0
"""Candidates within this many combined sigma are considered.

Beyond, LR is below 1.1e-4 / (combined sigma in arcsec)**2."""

AMBIGUOUS_RELIABILITY = 0.1
"""A second candidate at least this reliable makes an association ambiguous."""

MAX_POSITION_ERROR_ARCSEC = 30.0
"""Positions with larger errors cannot be associated. Even the widest beam of the surveys, that of
SPIRE at 500 um, gives positions with smaller errors (see ``relations.POSITION_ERROR_BEAMS``)."""

MOST_NEIGHBOURS = 10_000
"""Most galaxies that are considered for an observation. The deepest optical catalogues have some
thousands within the search radius of the widest beam."""

_PUBLISHING_NSIDE = 64
_ROUNDING_DEG = 1e-9  # 4 microarcsec, far above what is lost in rounding


class Position(NamedTuple):
    """A position with its error.

    Attributes:
        right_ascension_deg: ICRS right ascension in degrees.
        declination_deg: ICRS declination in degrees.
        error_arcsec: 1 sigma error on each axis in arcsec.
    """

    right_ascension_deg: float
    declination_deg: float
    error_arcsec: float


class Neighbour(NamedTuple):
    """A known galaxy with its position."""

    galaxy_id: str
    position: Position


@dataclass(frozen=True)
class Association:
    """The galaxy that an observation belongs to.

    Attributes:
        galaxy_id: id of the galaxy; None when the observation founds a new one.
        candidates: ids of the other galaxies that it could belong to, ascending; empty unless the
            association is ambiguous.
    """

    galaxy_id: str | None
    candidates: list[str]


@dataclass(frozen=True)
class Level:
    """One level of the index of positions.

    Attributes:
        largest_error_arcsec: galaxies with at most this position error are kept on this level.
        zone_arcsec: height of its declination zones.
    """

    largest_error_arcsec: float
    zone_arcsec: float


LEVELS = (Level(1.0, 30.0), Level(MAX_POSITION_ERROR_ARCSEC, 300.0))
"""Two levels, one for precise positions and one for the others. So a search touches few zones and
reads few galaxies on each level."""


@dataclass(frozen=True)
class IndexKey:
    """Where a galaxy is kept in the index.

    Attributes:
        level: index of its level in ``LEVELS``.
        zone: number of its declination zone, from the south.
        right_ascension_deg: its right ascension in degrees.
    """

    level: int
    zone: int
    right_ascension_deg: float


@dataclass(frozen=True)
class Strip:
    """A part of one zone: all right ascensions from ``west_deg`` to ``east_deg``, both included."""

    level: int
    zone: int
    west_deg: float
    east_deg: float


def index_key(position: Position) -> IndexKey:
    """Where a galaxy at this position is kept."""
    number = next(
        number
        for number, level in enumerate(LEVELS)
        if position.error_arcsec <= level.largest_error_arcsec
    )
    zone = _zone(position.declination_deg, LEVELS[number])
    return IndexKey(number, zone, position.right_ascension_deg)


def strips_to_search(position: Position) -> list[Strip]:
    """The parts of the index that hold every candidate for an observation at this position."""
    strips = []
    for number, level in enumerate(LEVELS):
        combined = _combined_error(position.error_arcsec, level.largest_error_arcsec)
        radius = SEARCH_SIGMAS * combined / 3600 + _ROUNDING_DEG
        south, north = position.declination_deg - radius, position.declination_deg + radius
        ranges = _right_ascensions(position, radius)
        strips += [
            Strip(number, zone, west, east)
            for zone in range(_zone(max(south, -90.0), level), _zone(min(north, 90.0), level) + 1)
            for west, east in ranges
        ]
    return strips


def _zone(declination_deg: float, level: Level) -> int:
    return int((declination_deg + 90.0) * 3600 / level.zone_arcsec)


def _right_ascensions(position: Position, radius_deg: float) -> list[tuple[float, float]]:
    """The right ascensions within a radius, as ranges within 0 to 360 deg (Gray et al. 2006)."""
    if abs(position.declination_deg) + radius_deg >= 90.0:
        return [(0.0, 360.0)]  # a pole is within the radius
    declination, radius = math.radians(position.declination_deg), math.radians(radius_deg)
    across = math.sqrt(math.cos(declination - radius) * math.cos(declination + radius))
    reach = math.degrees(math.atan2(math.sin(radius), across)) + _ROUNDING_DEG
    west, east = position.right_ascension_deg - reach, position.right_ascension_deg + reach
    if west < 0.0:
        return [(0.0, east), (west + 360.0, 360.0)]
    if east > 360.0:
        return [(0.0, east - 360.0), (west, 360.0)]
    return [(west, east)]


def publishing_cell(right_ascension_deg: float, declination_deg: float) -> int:
    """The HEALPix cell (nside 64, nested) of a position, which is the key of an observation."""
    from astropy import units  # imported late: most users of this module need no cells
    from astropy.units import Quantity
    from astropy_healpix.core import lonlat_to_healpix

    longitude, latitude = (
        Quantity(right_ascension_deg, units.deg),
        Quantity(declination_deg, units.deg),
    )
    return int(lonlat_to_healpix(longitude, latitude, _PUBLISHING_NSIDE, order="nested"))


def associate(position: Position, neighbours: Sequence[Neighbour]) -> Association:
    """Choose the galaxy that an observation belongs to, or a new one.

    Args:
        position: position of the observation.
        neighbours: the known galaxies around it.
    """
    ratios = [likelihood_ratio(position, each.position) for each in neighbours]
    total = sum(ratios) + 1.0
    largest = max(ratios, default=0.0)
    chosen = neighbours[ratios.index(largest)].galaxy_id if largest >= 1.0 else None
    others = sorted(
        neighbour.galaxy_id
        for neighbour, ratio in zip(neighbours, ratios, strict=True)
        if ratio / total >= AMBIGUOUS_RELIABILITY and neighbour.galaxy_id != chosen
    )
    return Association(chosen, others)


def likelihood_ratio(position: Position, candidate: Position) -> float:
    """Likelihood ratio of a candidate for an observation."""
    distance = separation_arcsec(
        position.right_ascension_deg,
        position.declination_deg,
        candidate.right_ascension_deg,
        candidate.declination_deg,
    )
    variance = _combined_error(position.error_arcsec, candidate.error_arcsec) ** 2
    density = math.exp(-0.5 * distance**2 / variance) / (2 * math.pi * variance)
    return density / GALAXY_SURFACE_DENSITY_PER_ARCSEC2


def separation_arcsec(
    right_ascension_deg: float,
    declination_deg: float,
    other_right_ascension_deg: float,
    other_declination_deg: float,
) -> float:
    """Great-circle distance between two positions in arcsec, computed from the chord."""
    chord = math.dist(
        _direction(right_ascension_deg, declination_deg),
        _direction(other_right_ascension_deg, other_declination_deg),
    )
    return 2 * math.asin(min(chord / 2, 1.0)) * ARCSEC_PER_RADIAN


def unit_vector(right_ascension_deg: float, declination_deg: float) -> Floats:
    """Unit vector of a position, float64, shape (3,)."""
    return np.array(_direction(right_ascension_deg, declination_deg))


def _direction(right_ascension_deg: float, declination_deg: float) -> tuple[float, float, float]:
    longitude, latitude = math.radians(right_ascension_deg), math.radians(declination_deg)
    across = math.cos(latitude)
    return across * math.cos(longitude), across * math.sin(longitude), math.sin(latitude)


def _combined_error(*errors_arcsec: float) -> float:
    return math.hypot(*errors_arcsec, ASTROMETRIC_FLOOR_ARCSEC)
