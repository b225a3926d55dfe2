"""A table that was published before is corrected: what has changed is replaced, the rest stays."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from astropy.table import Table

from mmbroker.processors.fingerprint.contribution import observation_hash
from mmbroker.processors.ingest.mapping import find_mapping
from mmbroker.processors.ingest.tables import read_table
from mmbroker.schemas.codec import Codec
from mmbroker.schemas.events import Fingerprint, Observation
from mmbroker.streams.publishing.correct import NotCorrectableError, correction
from mmbroker.streams.publishing.files import publish_files
from mmbroker.streams.settings import Settings, SettingsError
from mmbroker.streams.stages.build_fingerprints import BuildFingerprints
from mmbroker.streams.stages.messages import Received
from mmbroker.streams.store import LMDBStore
from mmbroker.streams.topics import Topics
from tests.conftest import Broker, wait_until

MAPPING = """
name = "{name}"
id = "{{id}}"
time = 2020-01-01
[position]
right_ascension = "ra"
declination = "dec"
error_arcsec = 0.3
[[photometry]]
instrument = "SCUBA-2"
unit = "mJy"
bands = [{{ name = "SCUBA2-850", wavelength = "850 um", flux = "f", error = "e" }}]
"""
codec = Codec()
topics = Topics()


def table(folder: Path, *fluxes: float, name: str = "survey") -> Path:
    """A table of galaxies a degree apart with these flux densities in mJy."""
    path = folder / f"{name}.ecsv"
    path.with_suffix(".toml").write_text(MAPPING.format(name=name))
    rows = [
        {"id": number, "ra": 200.0 + number, "dec": 2.0, "f": flux, "e": 1.0}
        for number, flux in enumerate(fluxes, 1)
    ]
    Table(rows=rows).write(path, overwrite=True)
    return path


def observations(path: Path) -> list[Observation]:
    return [each for row in read_table(path, find_mapping(path)) for each in row.observations]


def fluxes_mjy(galaxies: Iterable[Fingerprint], prefix: str = "") -> list[float]:
    """The flux density of each galaxy with observations of such ids, all from one of them."""
    bands = [
        each.bands[0]
        for each in galaxies
        if any(source.observation_id.startswith(prefix) for source in each.recent_sources)
    ]
    assert all(band.count == 1 for band in bands)
    return sorted(round(1e3 * band.weighted_flux / band.weight, 6) for band in bands)


class Fed:
    """The first stage with what was sent to it so far."""

    def __init__(self, store: LMDBStore) -> None:
        self.store = store
        self._stage = BuildFingerprints(store, topics, codec)
        self._sent = 0

    def send(self, *sent: Observation) -> None:
        batch = [
            Received(topics.observations, 0, self._sent + place, 0, codec.encode(each))
            for place, each in enumerate(sent)
        ]
        self._sent += len(batch)
        list(self._stage.process_safely(batch))

    def corrections(self, path: Path) -> list[Observation]:
        """What a corrected table has to send."""
        with self.store.reading() as reading:
            found = [correction(each, reading, codec) for each in observations(path)]
        return [each for each in found if each is not None]

    def outcomes(self) -> dict[str, int]:
        with self.store.reading() as reading:
            return {name: count for (_, name), count in reading.counts().items()}

    def fluxes_mjy(self) -> list[float]:
        """Of every galaxy."""
        with self.store.reading() as reading:
            encoded = [reading.fingerprint(each) for each in reading.galaxy_ids()]
        return fluxes_mjy([codec.decode_as(Fingerprint, each) for each in encoded])


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Fed]:
    store = LMDBStore(tmp_path / "store")
    yield Fed(store)
    store.close()


def test_what_has_changed_is_replaced_and_nothing_else_is_sent(tmp_path: Path, stage: Fed) -> None:
    first = observations(table(tmp_path, 3.0, 4.0))
    stage.send(*first)
    assert stage.corrections(table(tmp_path, 3.0, 4.0)) == []
    for number, flux in enumerate((5.0, 6.0, 4.0), 2):  # at last as it was at first
        (sent,) = stage.corrections(table(tmp_path, 3.0, flux))
        former = first[1].observation_id + (f"@{number - 1}" if number > 2 else "")
        assert sent.observation_id == f"{first[1].observation_id}@{number}"
        assert sent.replaces == former
        stage.send(sent)
        assert stage.fluxes_mjy() == [3.0, flux]
        assert stage.corrections(table(tmp_path, 3.0, flux)) == []
    assert stage.outcomes() == {"merged": 2, "corrected": 3}


def test_a_row_that_is_new_is_sent_as_it_is(tmp_path: Path, stage: Fed) -> None:
    stage.send(*observations(table(tmp_path, 3.0)))
    *_, new = observations(table(tmp_path, 3.0, 4.0))
    (sent,) = stage.corrections(table(tmp_path, 3.0, 4.0))
    assert codec.encode(sent) == codec.encode(new)


def test_two_corrections_at_once_are_told_and_not_both_merged(tmp_path: Path, stage: Fed) -> None:
    stage.send(*observations(table(tmp_path, 3.0)))
    both = [*stage.corrections(table(tmp_path, 4.0)), *stage.corrections(table(tmp_path, 5.0))]
    stage.send(*both)
    assert stage.fluxes_mjy() == [4.0]
    assert stage.outcomes() == {"merged": 1, "corrected": 1, "quarantined: conflicting": 1}


def test_what_was_replaced_otherwise_or_is_not_archived_is_told(tmp_path: Path, stage: Fed) -> None:
    first, second = observations(table(tmp_path, 3.0, 4.0))
    by_hand = dataclasses.replace(first, observation_id="other", replaces=first.observation_id)
    stage.send(first, second, by_hand)
    with stage.store.writing() as writing:
        hashed = observation_hash(second.observation_id)
        known = writing.archived(hashed)
        assert known is not None
        writing.archive(hashed, dataclasses.replace(known, data=b""))
    with stage.store.reading() as reading:
        with pytest.raises(NotCorrectableError, match="survey/1/SCUBA-2 was replaced or withdrawn"):
            correction(first, reading, codec)
        with pytest.raises(NotCorrectableError, match="survey/2/SCUBA-2 is not in the archive"):
            correction(second, reading, codec)


def test_corrections_need_the_store_of_the_stages(tmp_path: Path) -> None:
    settings = Settings(data_directory=tmp_path / "elsewhere")
    with pytest.raises(SettingsError, match=r"there is no store in .*elsewhere/store"):
        publish_files([table(tmp_path, 3.0)], check=True, settings=settings, correct=True)
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.slow
def test_a_table_is_corrected_from_the_command_line(broker: Broker, tmp_path: Path) -> None:
    def publish(*fluxes: float, sent: int) -> str:
        path = table(tmp_path, *fluxes, name="corrected")
        before = broker.ledger()[0].received
        said = broker.command("publish", "--correct", str(path)).stdout
        broker.settle(before + sent)
        return said

    store = broker.settings.store_directory
    wait_until(store.is_dir, f"no stage has begun {store}")
    assert "unchanged" not in publish(3.0, 4.0, sent=2)
    assert "unchanged, not sent │            1" in publish(3.0, 9.0, sent=1)
    assert "unchanged, not sent │            2" in publish(3.0, 9.0, sent=0)
    newest = {each.key: each.event for each in broker.read("fingerprints")}
    found = [each for each in newest.values() if isinstance(each, Fingerprint)]
    assert fluxes_mjy(found, "corrected/") == [3.0, 9.0]
