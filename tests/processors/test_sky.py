"""Observations find their galaxies wherever they are on the sky."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mmbroker.processors import relations
from mmbroker.processors.sky import (
    MAX_POSITION_ERROR_ARCSEC,
    SEARCH_SIGMAS,
    Neighbour,
    Position,
    associate,
    index_key,
    separation_arcsec,
    strips_to_search,
    unit_vector,
)

directions = st.tuples(st.floats(-1, 1), st.floats(-1, 1), st.floats(-1, 1)).filter(
    lambda v: 0.01 < sum(x * x for x in v) <= 1
)
special = st.sampled_from(
    [(0.0, 90.0), (0.0, -90.0), (359.9999999, 0.0), (0.0, 0.0), (45.0, 41.8103148957786),
     (90.0, 0.0), (180.0, -41.8103148957786), (123.4, 89.9999)]
)  # fmt: skip


@st.composite
def places(draw: st.DrawFn) -> tuple[float, float]:
    """Anywhere, and the places where spheres make trouble: poles, 0h, corners of base cells."""
    if draw(st.booleans()):
        return draw(special)
    x, y, z = draw(directions)
    return float(np.degrees(np.arctan2(y, x)) % 360), float(
        np.degrees(np.arctan2(z, np.hypot(x, y)))
    )


def moved(place: tuple[float, float], distance_arcsec: float, angle: float) -> tuple[float, float]:
    """A place so far from another, in a direction."""
    start = unit_vector(*place)
    east = np.cross([0.0, 0.0, 1.0], start)
    east = east / np.linalg.norm(east) if np.linalg.norm(east) > 1e-9 else np.array([1.0, 0.0, 0.0])
    north = np.cross(start, east)
    radians = distance_arcsec / 206264.806
    x, y, z = np.cos(radians) * start + np.sin(radians) * (
        np.cos(angle) * north + np.sin(angle) * east
    )
    return float(np.degrees(np.arctan2(y, x)) % 360), float(
        np.degrees(np.arctan2(z, np.hypot(x, y)))
    )


@given(places(), st.floats(0.05, 30), st.floats(0.05, 30), st.floats(0, 1), st.floats(0, 6.283))
@settings(max_examples=500)
def test_every_galaxy_within_reach_is_in_a_searched_strip(
    place: tuple[float, float], error: float, galaxy_error: float, share: float, angle: float
) -> None:
    observed = Position(*place, error)
    reach = SEARCH_SIGMAS * np.hypot(error, galaxy_error) * share
    galaxy = Position(*moved(place, reach, angle), galaxy_error)
    kept = index_key(galaxy)
    assert any(
        (strip.level, strip.zone) == (kept.level, kept.zone)
        and strip.west_deg <= kept.right_ascension_deg <= strip.east_deg
        for strip in strips_to_search(observed)
    )


@given(places(), st.floats(0.05, 10), st.floats(0, 1), st.floats(0, 6.283))
def test_an_observation_within_its_error_finds_its_galaxy(
    place: tuple[float, float], error: float, share: float, angle: float
) -> None:
    assume(error < 3)  # wider ones may be strangers: see the surface density
    galaxy = Neighbour("g", Position(*place, error))
    observed = Position(*moved(place, error * share, angle), error)
    assert associate(observed, [galaxy]).galaxy_id == "g"


@given(places(), st.floats(0.05, 5), st.floats(0, 6.283))
def test_an_observation_far_away_founds_a_galaxy(
    place: tuple[float, float], error: float, angle: float
) -> None:
    galaxy = Neighbour("g", Position(*place, error))
    observed = Position(*moved(place, 10 * error + 1, angle), error)
    assert associate(observed, [galaxy]).galaxy_id is None


@given(places(), st.floats(0.3, 3), st.floats(0, 6.283))
def test_two_galaxies_closer_than_the_errors_are_ambiguous(
    place: tuple[float, float], error: float, angle: float
) -> None:
    galaxies = [
        Neighbour("a", Position(*place, error)),
        Neighbour("b", Position(*moved(place, 0.5 * error, angle), error)),
    ]
    found = associate(Position(*moved(place, 0.25 * error, angle), error), galaxies)
    assert {found.galaxy_id, *found.candidates} == {"a", "b"}


def test_a_precise_neighbour_is_not_ambiguous() -> None:
    galaxies = [
        Neighbour("a", Position(150.0, 2.0, 0.1)),
        Neighbour("b", Position(150.0, 2.0 + 3 / 3600, 0.1)),
    ]
    found = associate(Position(150.0, 2.0 + 0.05 / 3600, 0.1), galaxies)
    assert (found.galaxy_id, found.candidates) == ("a", [])


@given(places(), st.floats(0, 1000), st.floats(0, 6.283))
def test_separations_are_exact(place: tuple[float, float], distance: float, angle: float) -> None:
    there = moved(place, distance, angle)
    measured = separation_arcsec(*place, *there)
    assert float(measured) == pytest.approx(distance, abs=1e-4)


@given(places(), st.floats(0.05, 30))
def test_a_search_touches_few_strips(place: tuple[float, float], error: float) -> None:
    strips = strips_to_search(Position(*place, error))
    assert len(strips) <= 2 * (12 + 3)  # two ranges at 0h; zones of 30 and of 300 arcsec
    assert all(0 <= strip.west_deg <= strip.east_deg <= 360 for strip in strips)


@given(st.floats(0, 360), st.floats(-90, 90), st.floats(0, 360), st.floats(-90, 90))
def test_separations_agree_with_astropy(ra1: float, dec1: float, ra2: float, dec2: float) -> None:
    from astropy.coordinates import angular_separation

    expected = angular_separation(*map(math.radians, (ra1, dec1, ra2, dec2))) * 206264.806247
    assert float(separation_arcsec(ra1, dec1, ra2, dec2)) == pytest.approx(expected, abs=1e-3)


def test_a_source_in_the_widest_beam_can_be_associated() -> None:
    spire_500_um_arcsec = 36.0
    assert relations.POSITION_ERROR_BEAMS * spire_500_um_arcsec < MAX_POSITION_ERROR_ARCSEC
