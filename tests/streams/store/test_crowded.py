"""A field with more galaxies than are considered for one observation."""

from __future__ import annotations

import random
from contextlib import closing
from pathlib import Path

import pytest

from mmbroker.processors.sky import Neighbour, Position
from mmbroker.streams.store import LMDBStore
from mmbroker.streams.store import lmdb as lmdb_store

GALAXIES = 400
MOST = 50


@pytest.mark.parametrize(
    "centre",
    [
        Position(150.0, 2.0, 0.3),
        Position(359.9999, -45.0, 20.0),
        Position(0.00001, 60.0, 1.0),
        Position(10.0, 89.999, 3.0),
    ],
)
def test_the_nearest_are_considered_where_there_are_too_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, centre: Position
) -> None:
    chance = random.Random(5)
    with closing(LMDBStore(tmp_path)) as store:
        with store.writing() as writing:
            for number in range(GALAXIES):
                place = Position(
                    (centre.right_ascension_deg + chance.uniform(-5, 5) / 3600) % 360,
                    centre.declination_deg + chance.uniform(-2, 2) / 3600,
                    chance.choice([0.1, 20.0]),
                )
                writing.put_position(f"g{number}", place)
        with store.reading() as reading:
            everyone = reading.neighbours(centre)
            assert len(everyone) == GALAXIES
            monkeypatch.setattr(lmdb_store, "MOST_NEIGHBOURS", GALAXIES)
            assert reading.neighbours(centre) == everyone
            monkeypatch.setattr(lmdb_store, "MOST_NEIGHBOURS", MOST)
            nearest = reading.neighbours(centre)

    def distance_deg(galaxy: Neighbour) -> float:
        apart = abs(galaxy.position.right_ascension_deg - centre.right_ascension_deg)
        return min(apart, 360 - apart)

    assert len(nearest) == MOST
    assert nearest == [each for each in everyone if each in nearest]  # in the same order
    assert {*nearest} == {*sorted(everyone, key=distance_deg)[:MOST]}
