"""Tables that the project has never seen are evaluated too; what they lack is named."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from astropy.table import Table
from rich.console import Console

from mmbroker.models.packaged.arrays import read_packaged
from mmbroker.models.packaged.networks import WEIGHTS
from mmbroker.models.redshift.compare_tables.compare import compare_table
from mmbroker.models.redshift.compare_tables.compared_table import EVERY_ROW, ComparedTable
from mmbroker.models.redshift.compare_tables.page import render
from mmbroker.models.redshift.learned_from import (
    learned_from,
    was_learned_from,
    write,
)
from mmbroker.processors.ingest.mapping import MappingError, NoMappingError

Change = Callable[[Table], None]
EAZY, BY_AUTHORS = "eazy_z", "z_phot"


@pytest.fixture(scope="module")
def galaxies(shared_data: Path) -> Table:
    """Some galaxies of GOODS-N with a spectroscopic redshift, some with both published ones."""
    table = Table.read(shared_data / "goodsn.ecsv")
    return table[np.flatnonzero(np.asarray(table["z_spec"]) > 0)[:40]]


@pytest.fixture
def evaluated(galaxies: Table, tmp_path: Path) -> Callable[[str, Change], ComparedTable]:
    """Evaluates a changed copy of them, under some name."""

    def evaluate(name: str, change: Change) -> ComparedTable:
        table = galaxies.copy()
        change(table)
        table.write(tmp_path / name)
        return compare_table(tmp_path / name, split="all")

    return evaluate


def said(compared: ComparedTable) -> str:
    text = io.StringIO()
    Console(file=text, width=400).print(render(compared))
    return text.getvalue()


def without(*names: str) -> Change:
    return lambda table: table.remove_columns(list(names))


def never(*names: str) -> Change:
    """Values that the mapping takes for not observed."""
    return lambda table: table.update({name: np.full(len(table), -99.0) for name in names})


def test_a_table_of_another_name_is_known_by_its_columns(
    evaluated: Callable[[str, Change], ComparedTable],
) -> None:
    compared = evaluated("mine.ecsv", lambda _: None)
    assert "Read with mapping goodsn." in said(compared)
    assert compared.subsets["all"].sum() > 0


def test_a_band_that_a_table_does_not_have_is_left_out_and_named(
    evaluated: Callable[[str, Change], ComparedTable],
) -> None:
    compared = evaluated("goodsn_part.ecsv", without("f_850", "e_850"))
    assert "no band SCUBA2-850: there is no column f_850, e_850" in said(compared)
    assert len(compared.truth) == 40


@pytest.mark.parametrize("change", [without, never])
def test_a_published_redshift_that_a_table_does_not_have_is_left_out_and_named(
    evaluated: Callable[[str, Change], ComparedTable], change: Callable[..., Change]
) -> None:
    compared = evaluated("goodsn_part.ecsv", change(EAZY))
    assert "no redshift eazy: " in said(compared)
    assert f"published {BY_AUTHORS}" in compared.estimates
    assert "published eazy" not in compared.estimates


def test_our_redshifts_are_judged_where_none_is_published(
    evaluated: Callable[[str, Change], ComparedTable],
) -> None:
    compared = evaluated("goodsn_part.ecsv", never(EAZY, BY_AUTHORS))
    assert compared.subsets["all"].all()
    assert EVERY_ROW not in compared.subsets
    assert compared.as_json()["groups"]["all"]["conventional"]["n"] == 40


def test_of_published_redshifts_that_no_galaxy_has_both_the_more_frequent_is_compared(
    evaluated: Callable[[str, Change], ComparedTable],
) -> None:
    def exclusive(table: Table) -> None:
        first = np.arange(len(table)) < 10
        table[EAZY] = np.where(first, 1.0, -99.0)
        table[BY_AUTHORS] = np.where(first, -99.0, 1.0)

    compared = evaluated("goodsn_part.ecsv", exclusive)
    assert "no redshift eazy: no galaxy has it that has z_phot too" in said(compared)
    assert compared.subsets["all"].sum() == 30


def test_a_table_without_spectroscopic_redshifts_or_of_unknown_columns_is_refused(
    evaluated: Callable[[str, Change], ComparedTable],
) -> None:
    with pytest.raises(MappingError, match="z_spec"):
        evaluated("goodsn_part.ecsv", without("z_spec"))
    with pytest.raises(NoMappingError, match="no mapping fits this file name"):
        evaluated("mine.ecsv", lambda table: table.rename_column("ra_deg", "where"))


def test_galaxies_that_redshifts_were_learned_from_are_known_in_any_table(
    galaxies: Table, tmp_path: Path
) -> None:
    galaxies.write(tmp_path / "mine.ecsv")
    every = compare_table(tmp_path / "mine.ecsv", model="refined")
    known = was_learned_from(galaxies["ra_deg"].tolist(), galaxies["dec_deg"].tolist())
    assert every.trained_on == known.sum() > 20
    assert f"{known.sum()} of these 40 galaxies, by their places" in said(every)
    unseen = compare_table(tmp_path / "mine.ecsv", model="refined", split="unseen")
    assert len(unseen.truth) == 40 - known.sum()
    assert unseen.trained_on == 0


def test_a_table_of_nothing_but_such_galaxies_has_none_unseen(
    galaxies: Table, tmp_path: Path
) -> None:
    known = was_learned_from(galaxies["ra_deg"].tolist(), galaxies["dec_deg"].tolist())
    galaxies[known].write(tmp_path / "mine.ecsv")
    with pytest.raises(ValueError, match=f"none of {known.sum()} galaxies is unseen"):
        compare_table(tmp_path / "mine.ecsv", split="unseen")


@pytest.mark.slow
def test_the_packaged_places_are_those_of_the_tables(shared_data: Path, tmp_path: Path) -> None:
    write(shared_data, tmp_path)
    (made, _), (packaged, card) = (
        read_packaged(each, "learned_from", "") for each in (tmp_path, WEIGHTS)
    )
    assert made.keys() == packaged.keys()
    assert all((made[name] == packaged[name]).all() for name in made)
    assert sum(card["galaxies"].values()) == len(learned_from(shared_data))
