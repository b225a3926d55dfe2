"""What is published arrives, and what cannot be is told."""

import dataclasses
import io
import re
import statistics
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from confluent_kafka import Consumer
from rich.console import Console

from mmbroker.deploy.local import LocalStack
from mmbroker.processors.ingest.mapping import TableFormat, find_mapping, load_mapping
from mmbroker.processors.ingest.maps import read_map
from mmbroker.processors.ingest.spectra import read_spectrum
from mmbroker.processors.ingest.tables import Row, read_table
from mmbroker.processors.validation import InvalidObservation, problems
from mmbroker.schemas.codec import Codec
from mmbroker.schemas.events import BandMeasurement, Observation, Photometry, Spectrum
from mmbroker.streams.kafka.client import create_topics
from mmbroker.streams.publishing.files import (
    Problem,
    Summary,
    publish_files,
    publish_simulated,
    publish_unchecked,
    unusable,
)
from mmbroker.streams.publishing.publisher import Publisher, PublishingError
from mmbroker.streams.settings import KafkaSettings, Settings
from mmbroker.streams.topics import observation_key
from tests.markdown import blocks
from tests.processors.ingest.test_spectra_and_maps import map_file, spectrum_file

DEMO = Path(__file__).parents[3] / "deploy" / "demo"
README = Path(__file__).parents[3] / "streams" / "README.md"
OBSERVATION = Observation(
    observation_id="survey/1",
    instrument="SCUBA-2",
    right_ascension_deg=150.0,
    declination_deg=2.0,
    position_error_arcsec=1.0,
    time_mjd=59_000.0,
    photometry=Photometry([BandMeasurement("SCUBA2-850", 3.5e11, 5e-3, 1e-3)]),
)


@pytest.fixture(scope="module")
def kafka_servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real Kafka; publishing needs no Triton."""
    with LocalStack(tmp_path_factory.mktemp("kafka"), triton=False, quiet=True) as stack:
        yield stack.bootstrap_servers


@pytest.fixture
def settings(kafka_servers: str) -> Settings:
    """Settings with topics of their own."""
    kafka = KafkaSettings(
        bootstrap_servers=kafka_servers, topic_prefix=f"test-{uuid4().hex}", partitions=2
    )
    made = Settings(kafka=kafka)
    create_topics(kafka, made.topics.all())
    return made


def arrived(settings: Settings, count: int) -> Iterator[tuple[bytes | None, Observation]]:
    consumer = Consumer(
        settings.kafka.client() | {"group.id": uuid4().hex, "auto.offset.reset": "earliest"}
    )
    consumer.subscribe([settings.topics.observations])
    try:
        for message in consumer.consume(count, timeout=30):
            assert message.error() is None
            yield message.key(), Codec().decode_as(Observation, message.value())
    finally:
        consumer.close()


def test_an_observation_arrives_under_the_key_of_its_sky_cell(settings: Settings) -> None:
    with Publisher(settings) as publisher:
        publisher.send(OBSERVATION)
    ((key, observation),) = arrived(settings, 1)
    assert Codec().encode(observation) == Codec().encode(OBSERVATION)
    assert key == observation_key(OBSERVATION)


def test_an_impossible_observation_is_refused_and_the_others_arrive(settings: Settings) -> None:
    impossible = dataclasses.replace(OBSERVATION, declination_deg=123.4, observation_id="survey/2")
    with Publisher(settings) as publisher:
        publisher.send(OBSERVATION)
        with pytest.raises(InvalidObservation, match=r"survey/2.*declination_deg = 123\.4"):
            publisher.send(impossible)
    assert [observation.observation_id for _, observation in arrived(settings, 1)] == ["survey/1"]


def test_a_table_arrives_whole(settings: Settings) -> None:
    table = DEMO / "lines.ecsv"
    summary = publish_files([table], settings=settings, progress=False)
    sent = {o.observation_id for row in demo_rows("lines") for o in row.observations}
    assert summary.sent == len(sent) == 14
    assert {o.observation_id for _, o in arrived(settings, 14)} == sent


def test_malformed_observations_can_be_sent_to_see_them_refused(settings: Settings) -> None:
    assert publish_unchecked(DEMO / "malformed.ecsv", settings=settings) == 8
    assert all(problems(observation) for _, observation in arrived(settings, 8))


def test_a_missing_topic_and_an_absent_kafka_are_told(
    kafka_servers: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    nowhere = KafkaSettings(bootstrap_servers=kafka_servers, topic_prefix="nowhere")
    with pytest.raises(PublishingError, match=r"no topic nowhere\.observations\.v1"):
        Publisher(Settings(kafka=nowhere))
    monkeypatch.setattr("mmbroker.streams.kafka.client.PROMPT_S", 0.3)
    monkeypatch.setattr("mmbroker.streams.kafka.client.METADATA_TIMEOUT_S", 0.6)
    absent = KafkaSettings(bootstrap_servers="127.0.0.1:1")
    with pytest.raises(PublishingError, match=r"127\.0\.0\.1:1: Kafka cannot be reached"):
        Publisher(Settings(kafka=absent))


def test_a_check_needs_no_kafka_and_names_file_row_and_field() -> None:
    summary = publish_files([DEMO / "malformed.ecsv"], check=True, progress=False)
    assert summary.sent == 0
    assert len(summary.problems) == 8
    first = str(summary.problems[0])
    assert first.startswith(f"{DEMO / 'malformed.ecsv'}, row 1, demo-malformed/")
    assert first.endswith("declination_deg = 123.4 is not between −90 and 90")


def test_a_check_tells_what_nothing_could_be_made_of() -> None:
    low = np.linspace(20e9, 21e9, 20)
    spectrum = Spectrum(low, "BARYCENTRIC", np.zeros(20, np.float32), np.ones(20, np.float32))
    observation = dataclasses.replace(OBSERVATION, photometry=None, spectrum=spectrum)
    assert problems(observation) == []
    (said,) = unusable(observation)
    assert "no valid channel between 3e+10" in said
    assert unusable(OBSERVATION) == []


def test_what_is_checked_is_what_is_published(settings: Settings, tmp_path: Path) -> None:
    """A broken file and a map without data at the position are told; the others arrive as read."""
    broken = tmp_path / "broken.fits"
    broken.write_bytes(b"not FITS")
    hollow = tmp_path / "hollow"
    hollow.mkdir()
    unusable_map = map_file(hollow)
    with fits.open(unusable_map, mode="update") as file:
        file[0].data[..., 20:80, 30:90] = np.nan
    good = [spectrum_file(tmp_path), map_file(tmp_path)]
    files = [broken, unusable_map, *good, DEMO / "lines.ecsv"]
    checked = publish_files(files, check=True, progress=False)
    summary = publish_files(files, settings=settings, progress=False)
    assert list(map(str, summary.problems)) == list(map(str, checked.problems))
    for problem, file in zip(summary.problems, (broken, unusable_map), strict=True):
        assert str(problem).startswith(str(file))
        assert str(problem).count(str(file)) == 1
    assert summary.sent == checked.sent == 2 + 14
    sent = {o.observation_id: o for _, o in arrived(settings, 16)}
    for read, path in zip((read_spectrum, read_map), good, strict=True):
        expected = read(path)
        assert Codec().encode(sent[expected.observation_id]) == Codec().encode(expected)


def test_what_was_read_is_explained_by_file(tmp_path: Path) -> None:
    path = map_file(tmp_path)
    said = explained([path, DEMO / "lines.ecsv"], width=160)
    assert str(path) in said
    assert "BUNIT = Jy/beam" in said
    assert "230 GHz" in said
    of_table = said.partition(str(DEMO / "lines.ecsv"))[2]
    assert re.search(r"CO\(3-2\).*column CO32 in Jy km / s \(default\)", of_table)
    assert re.search(r"fwhm_km_s .*column fwhm_km_s in km / s", of_table)


def explained(files: list[Path], width: int) -> str:
    console = Console(file=io.StringIO(), width=width)
    console.print(*publish_files(files, check=True, progress=False).explained())
    return console.file.getvalue()


SURVEY_ROWS = """
ID,MJD,RAh,RAm,RAs,DE-,DEd,DEm,DEs,S850,e_S850,l_S850
A1,57000.5,12,36,34.5,+,62,12,41,1.3,430,<
A2,57001.5,12,36,37.0,+,62,11,56,5.2,430,
A3,57002.5,12,36,40.0,+,62,13,10,-99,430,
"""
SURVEY_UNITS = {
    "RAh": "h", "RAm": "min", "RAs": "s", "DEd": "deg", "DEm": "arcmin", "DEs": "arcsec",
    "S850": "mJy", "e_S850": "uJy",
}  # fmt: skip


def readme_mapping() -> str:
    """The mapping that the README shows."""
    mappings = (each.content for each in blocks(README.read_text()) if each.language == "toml")
    return next(each for each in mappings if each.startswith('name = "survey"'))


def survey_file(folder: Path, mapping: str) -> Path:
    table = Table.read(SURVEY_ROWS, format="ascii.csv")
    for name, unit in SURVEY_UNITS.items():
        table[name].unit = unit
    table.write(path := folder / "survey.ecsv")
    path.with_suffix(".toml").write_text(mapping)
    return path


def test_the_readme_shows_how_its_mapping_is_explained(tmp_path: Path) -> None:
    written = blocks(README.read_text())
    (shown,) = (each.content for each in written if "│ id " in each.content)
    assert shown.strip() in explained([survey_file(tmp_path, readme_mapping())], width=80)


@pytest.mark.parametrize(
    ("old", "new", "shown"),
    [
        ("error_arcsec = 0.3", 'error_arcsec = "S850"\nerror_unit = "mas"',
         r"position error .* 0.0013 arcsec .* column S850 in mas \(mapping\)"),
        ("error_arcsec = 0.3", 'error_arcsec = 1\nframe = "fk4"\nequinox = "B1950"',
         r"frame .* fk4 B1950 .* mapping"),
        ('time = "MJD"', "time = 58849.0", r"time .* 58849 UTC \(MJD\) .* mapping"),
        ('time = "MJD"', 'time = "MJD"\ntime_format = "jd"', r"time .* jd in column MJD"),
        ('error = "e_S850"', "error = 2, percent_where_missing = 10",
         r"850 error .* 0.002 Jy .* 2 mJy \(mapping\), else 10 % \(mapping\)"),
        ('flux = "S850"', 'flux = "S850", unit = "Jy"',
         r"850 flux .* 5.2 Jy \(row 2\) .* column S850 in Jy \(mapping\)"),
    ],
)  # fmt: skip
def test_what_a_mapping_says_is_explained_as_such(
    old: str, new: str, shown: str, tmp_path: Path
) -> None:
    mapping = readme_mapping()
    assert old in mapping
    path = survey_file(tmp_path, mapping.replace(old, new))
    assert re.search(shown, explained([path], width=200))


def test_a_wrong_mapping_beside_a_table_is_told_for_what_it_is(tmp_path: Path) -> None:
    table = tmp_path / "survey.ecsv"
    table.write_bytes((DEMO / "malformed.ecsv").read_bytes())
    table.with_suffix(".toml").write_text(
        (DEMO / "malformed.toml").read_text().replace("[position]", "[positon]")
    )
    (told,) = map(str, publish_files([table], check=True, progress=False).problems)
    assert "did you mean position" in told
    assert "spectrum" not in told


def test_a_file_that_cannot_be_read_is_told_and_the_others_are_published(
    settings: Settings, tmp_path: Path
) -> None:
    (tmp_path / "empty.ecsv").touch()
    (tmp_path / "empty.toml").write_text((DEMO / "lines.toml").read_text())
    (tmp_path / "random.fits").write_bytes(b"SIMPLE" * 1000)
    wrong = [tmp_path, tmp_path / "gone.csv", tmp_path / "empty.ecsv", tmp_path / "random.fits"]
    files = [*wrong, DEMO / "lines.ecsv"]
    for check in (True, False):
        summary = publish_files(files, check=check, progress=False, settings=settings)
        assert summary.sent == 14
        assert [problem.file for problem in summary.problems] == wrong
        for problem, path in zip(summary.problems, wrong, strict=True):
            assert str(problem).startswith(str(path))
            assert str(problem).count(str(path)) == 1
    assert len(list(arrived(settings, 14))) == 14


FAR_LINES = """
name = "far"
id = "{name}"
time = 2020-01-01
position = { right_ascension = "ra", declination = "dec", error_arcsec = 1 }
[[line_spectrum]]
instrument = "line flux"
redshift = ["z"]
fwhm_km_s = 300
lines = [{ name = "CO(1-0)", flux = "flux", error = "error" }]
"""


def test_publishing_refuses_what_a_check_does(settings: Settings, tmp_path: Path) -> None:
    path = tmp_path / "far.ecsv"
    near = {"name": "near", "ra": 10.0, "dec": 2.0, "z": 0.5, "flux": 5.0, "error": 0.5}
    Table(rows=[near, near | {"name": "far", "z": 9.0}]).write(path)
    path.with_suffix(".toml").write_text(FAR_LINES)
    told = []
    for check in (True, False):
        summary = publish_files([path], check=check, progress=False, settings=settings)
        assert summary.sent == 1
        told.append([str(problem) for problem in summary.problems])
    assert told[0] == told[1]
    assert "far/far/line flux: " in told[0][0]
    ((_, observation),) = arrived(settings, 1)
    assert observation.observation_id == "far/near/line flux"


def test_a_table_behind_an_image_is_one_if_a_mapping_says_so(tmp_path: Path) -> None:
    path = tmp_path / "catalogue.fits"
    table = fits.BinTableHDU(Table.read(DEMO / "spt.ecsv"), name="CATALOG")
    fits.HDUList([fits.PrimaryHDU(np.zeros((16, 16), "f4")), table]).writeto(path)
    without = publish_files([path], check=True, progress=False)
    assert without.sent == 0
    mapping = find_mapping(DEMO / "spt.ecsv")
    named = mapping.model_copy(update={"table": TableFormat(hdu="CATALOG")})
    assert publish_files([path], named, check=True, progress=False).sent > 0
    path.with_suffix(".toml").write_text((DEMO / "spt.toml").read_text())
    assert publish_files([path], check=True, progress=False).sent > 0


def test_the_summary_counts_by_instrument() -> None:
    summary = publish_files([DEMO / "spt.ecsv"], check=True, progress=False)
    assert summary.problems == []
    assert summary.by_instrument["LABOCA"] == 46
    assert summary.sent == sum(summary.by_instrument.values())
    console = Console(file=io.StringIO())
    console.print(summary.table())
    assert "LABOCA" in console.file.getvalue()


def test_simulated_galaxies_are_valid_and_labelled() -> None:
    summary = publish_simulated(5, seed=3, check=True, progress=False)
    assert summary.problems == []
    assert summary.sent >= 5


@pytest.mark.parametrize("rate", [0.0, -1.0])
def test_a_rate_must_be_positive(rate: float) -> None:
    with pytest.raises(ValueError, match=f"rate = {rate}"):
        publish_files([DEMO / "lines.ecsv"], rate=rate, check=True, progress=False)


def demo_rows(name: str) -> list[Row]:
    path = DEMO / f"{name}.ecsv"
    return list(read_table(path, find_mapping(path)))


def test_the_demo_is_small_valid_and_says_what_is_simulated() -> None:
    tables = {name: demo_rows(name) for name in ("goodsn", "spt", "lines")}
    assert sum(map(len, tables.values())) <= 300
    assert sum(path.stat().st_size for path in DEMO.iterdir() if path.is_file()) < 500_000
    for row in (row for rows in tables.values() for row in rows):
        assert row.problems == []
        for observation in row.observations:
            assert problems(observation) == []
            assert len(observation.acquisition.bibcode or "") == 19
            assert observation.simulated == (observation.spectrum is not None)


def test_the_demo_is_made_of_the_published_catalogues(shared_data: Path, tmp_path: Path) -> None:
    script = tmp_path / "make_sample.py"
    script.write_bytes((DEMO / "make_sample.py").read_bytes())
    subprocess.run([sys.executable, str(script), str(shared_data)], check=True)
    for name in ("goodsn", "spt", "lines", "malformed"):
        assert (tmp_path / f"{name}.ecsv").read_text() == (DEMO / f"{name}.ecsv").read_text()


def published(path: Path, mapping: str) -> tuple[list[Row], Counter[str]]:
    rows = list(read_table(path, load_mapping(mapping)))
    return rows, Counter(o.instrument for row in rows for o in row.observations)


def flux(row: Row, band: str) -> float:
    (value,) = (
        measurement.flux_density_jy
        for observation in row.observations
        if observation.photometry is not None
        for measurement in observation.photometry.measurements
        if measurement.band == band and measurement.flux_density_jy is not None
    )
    return value


def by_id(rows: list[Row], identifier: str) -> Row:
    (row,) = (row for row in rows if row.identifier == identifier)
    return row


def test_goodsn_is_read_as_published(shared_data: Path) -> None:
    rows, instruments = published(shared_data / "goodsn.ecsv", "goodsn")
    assert len(rows) == 1668
    assert sum(instruments.values()) == 13_740
    assert instruments["SPIRE"] == 774
    assert instruments["EAZY"] == 1301
    assert sum(row.true_redshift is not None for row in rows) == 785
    gn20 = by_id(rows, "564")  # the submillimetre galaxy GN20, 44 mJy at 500 um and 63 uJy at 20 cm
    assert gn20.true_redshift == pytest.approx(4.051, abs=1e-3)
    assert flux(gn20, "SPIRE-500") == pytest.approx(44.03e-3, rel=1e-3)
    assert flux(gn20, "VLA-1.4GHz") == pytest.approx(63.1e-6, rel=1e-3)
    assert not any(problems(o) for row in rows for o in row.observations)


def test_goodsn_is_brighter_at_24_um_where_the_aromatic_feature_at_8_um_passes() -> None:
    ratios: dict[str, list[float]] = {"at 24 um": [], "at 16 um": []}
    for row in demo_rows("goodsn"):
        found = {
            measurement.band: measurement.flux_density_jy
            for observation in row.observations
            if observation.photometry is not None
            for measurement in observation.photometry.measurements
        }
        short, long = found.get("IRS-16") or 0.0, found.get("MIPS-24") or 0.0
        redshift = row.published["z_phot"].redshift if "z_phot" in row.published else None
        if redshift is not None and short > 0 and long > 0:
            if 1.8 < redshift < 2.6:
                ratios["at 24 um"].append(long / short)
            elif 1.0 < redshift < 1.5:
                ratios["at 16 um"].append(long / short)
    assert statistics.median(ratios["at 24 um"]) > 2.0
    assert statistics.median(ratios["at 16 um"]) < 1.3


def test_spt_is_joined_and_its_non_detections_are_limits(shared_data: Path) -> None:
    rows, instruments = published(shared_data / "spt_dndz_tab_a1.txt", "spt")
    assert len(rows) == 46
    assert instruments["SPT far-infrared"] == 46
    unicode_minus = by_id(rows, "SPT0551-48")
    assert unicode_minus.observations[0].declination_deg == pytest.approx(-48.41717, abs=1e-5)
    assert "ALMA" not in {o.instrument for o in unicode_minus.observations}
    faint = by_id(rows, "SPT0103-45")
    (pacs,) = (o.photometry for o in faint.observations if o.instrument == "PACS" and o.photometry)
    assert pacs.measurements[0] == BandMeasurement(
        "PACS-100", pytest.approx(2.998e12, rel=1e-3), None, 4.4e-3, pytest.approx(13.2e-3)
    )
    corrected = by_id(rows, "SPT0452-50")  # an older row of it is commented out
    assert corrected.true_redshift == 5.016
    assert not any(row.problems for row in rows)
    assert not any(problems(o) for row in rows for o in row.observations)


def test_cosmos_is_read_as_published(shared_data: Path) -> None:
    rows, instruments = published(shared_data / "cosmos_fir.ecsv", "cosmos_fir")
    assert instruments["SCUBA-2"] == 314  # negative fluxes are measurements
    assert instruments["MAMBO"] == 1
    assert not any(problems(o) for row in rows for o in row.observations)
    first = by_id(rows, "15")
    assert flux(first, "PACS-100") == pytest.approx(7.327e-3, rel=1e-3)
    assert flux(first, "COSMOS-K") == pytest.approx(10 ** (-0.4 * (19.087 - 8.9)), rel=1e-2)
    assert "AzTEC" not in {o.instrument for o in first.observations}  # 0 is not observed


def test_the_one_impossible_error_of_zcosmos_is_told(shared_data: Path) -> None:
    summary = publish_files([shared_data / "zcosmos.ecsv"], check=True, progress=False)
    (problem,) = summary.problems
    assert problem.row == 811
    assert "flux_error_jy" in problem.message
    assert summary.sent == 15_299


def test_digame_yields_simulated_spectra_only(shared_data: Path) -> None:
    rows, _ = published(shared_data / "digame.csv", "digame")
    observations = [o for row in rows for o in row.observations]
    assert len(observations) > 200
    assert all(o.simulated and o.spectrum is not None for o in observations)
    assert not any(problems(o) for o in observations)
    assert any("holds no full coordinates" in p for row in rows for p in row.problems)


def test_a_table_that_nothing_fits_is_told(shared_data: Path, tmp_path: Path) -> None:
    unknown = tmp_path / "unknown.ecsv"
    unknown.write_bytes((DEMO / "goodsn.ecsv").read_bytes())
    files = [shared_data / "spt_dndz_tab_f1.txt", unknown, DEMO / "lines.ecsv"]
    summary = publish_files(files, check=True, progress=False)
    joined, without = map(str, summary.problems)
    assert joined.startswith(f"{files[0]}: mapping spt reads this table together with ")
    assert joined.endswith("spt_dndz_tab_a1.txt: give that one")
    assert without.startswith(f"{unknown}: no mapping fits this file name")
    assert "this is no spectrum" in without
    assert summary.sent == 14


def test_what_is_none_of_what_is_read_is_told_without_advice_to_programmers(tmp_path: Path) -> None:
    (tmp_path / "x.fits").write_text("# no FITS file\n" * 300)
    (tmp_path / "page.md").write_text("# A page\n")
    files = [tmp_path / "x.fits", tmp_path / "page.md"]
    summary = publish_files(files, check=True, progress=False)
    no_fits, page = map(str, summary.problems)
    assert re.search(r"x\.fits: cannot be read: .* a valid FITS file\.$", no_fits)
    assert re.search(r"--mapping.*VOTable, spectra and maps are FITS$", page)


def test_problems_of_one_kind_are_told_a_few_times_and_counted() -> None:
    file = Path("table.csv")
    off_the_sky = [f"right_ascension_deg = {400 + row} is not in [0, 360)" for row in range(8)]
    unknown = "LINE = 'HCN(1-0)' is none of CO(1-0), CO(2-1)"
    summary = Summary(
        problems=[
            Problem(file, row, None, each) for row, each in enumerate([*off_the_sky, unknown])
        ]
    )
    first = [f"table.csv, row {row}: {off_the_sky[row]}" for row in range(5)]
    assert list(summary.told(5)) == [
        *first,
        f"table.csv, row 8: {unknown}",
        "3 more: right_ascension_deg = … is not in [0, 360)",
    ]
    assert list(summary.told()) == [str(each) for each in summary.problems]
