"""Published tables as observations."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from mmbroker.models.real_data.catalogues import (
    RealGalaxy,
    cosmos,
    goods_north,
    read_catalogues,
    spt,
    zcosmos,
)
from mmbroker.models.redshift.templates.library import load_library
from mmbroker.processors.fingerprint.merge import build
from mmbroker.processors.ingest.mapping import find_mapping
from mmbroker.processors.ingest.tables import read_table
from mmbroker.processors.redshift.templates import photometry
from mmbroker.processors.validation import problems
from mmbroker.schemas.events import BandMeasurement, Fingerprint, Observation


@pytest.fixture(scope="module")
def galaxies(shared_data: Path) -> list[RealGalaxy]:
    return read_catalogues(shared_data)


def test_every_galaxy_of_the_tables_is_read(galaxies: list[RealGalaxy]) -> None:
    tables = [galaxy.name.split()[0] for galaxy in galaxies]
    assert tables.count("GOODS-N") == 1668
    assert tables.count("COSMOS") == 314
    assert tables.count("SPT") >= 45
    assert len({galaxy.name for galaxy in galaxies}) == len(galaxies)


def test_every_observation_is_valid_real_and_says_where_it_is_from(
    galaxies: list[RealGalaxy],
) -> None:
    observations = [each for galaxy in galaxies for each in galaxy.observations]
    assert [problem for each in observations for problem in problems(each)] == []
    assert not any(each.simulated for each in observations)
    assert all(each.acquisition.bibcode for each in observations)
    assert len({each.observation_id for each in observations}) == len(observations)


def test_what_was_not_observed_is_no_measurement(galaxies: list[RealGalaxy]) -> None:
    for galaxy in galaxies:
        for band in build(galaxy.name, galaxy.observations).bands:
            if band.weight:
                mean, error = band.weighted_flux / band.weight, band.weight**-0.5
                assert mean > -0.05
                assert error < 1.0


def test_fluxes_are_those_of_the_tables(shared_data: Path) -> None:
    def flux(galaxy: RealGalaxy, band: str) -> float | None:
        photometry = galaxy.observations[0].photometry
        assert photometry is not None
        return next(each.flux_density_jy for each in photometry.measurements if each.band == band)

    first = goods_north(shared_data)[0]
    assert first.name == "GOODS-N 6"
    assert flux(first, "SPIRE-250") == pytest.approx(12.7e-3)
    assert flux(first, "VLA-1.4GHz") == pytest.approx(11.49e-6)
    assert flux(first, "MIPS-24") == pytest.approx(0.31e-3)  # of the column f_16: see there
    assert "IRS-16" not in {band.band for band in build(first.name, first.observations).bands}
    assert first.spectroscopic_redshift == pytest.approx(1.035)
    lensed = next(each for each in spt(shared_data) if each.name == "SPT SPT0418-47")
    assert flux(lensed, "LABOCA-870") == pytest.approx(0.1084)
    assert flux(lensed, "PACS-100") is None
    assert lensed.spectroscopic_redshift == pytest.approx(4.225)
    far = cosmos(shared_data)[0]
    assert flux(far, "MIPS-24") == pytest.approx(0.361e-3)
    assert flux(far, "Subaru-r") == pytest.approx(3631 * 10 ** (-0.4 * 20.939), rel=1e-3)
    assert far.spectroscopic_redshift == pytest.approx(0.4721)


@pytest.mark.parametrize(
    ("table", "reader"),
    [
        ("goodsn.ecsv", goods_north),
        ("cosmos_fir.ecsv", cosmos),
        pytest.param("zcosmos.ecsv", zcosmos, marks=pytest.mark.slow),
        ("spt_dndz_tab_a1.txt", spt),
    ],
)
def test_every_measurement_is_the_one_that_the_mapping_reads(
    shared_data: Path, table: str, reader: Callable[[Path], list[RealGalaxy]]
) -> None:
    def by_frequency(observations: Sequence[Observation]) -> list[BandMeasurement]:
        every = [each.photometry.measurements for each in observations if each.photometry]
        return sorted(itertools.chain(*every), key=lambda band: band.frequency_hz)

    path = shared_data / table
    rows = {row.identifier: row for row in read_table(path, find_mapping(path))}
    seen: dict[str, str] = {}
    for galaxy in reader(shared_data):
        row = rows[galaxy.name.split(maxsplit=1)[1]]
        ours, theirs = by_frequency(galaxy.observations), by_frequency(row.observations)
        for one, other in zip(ours, theirs, strict=True):
            assert seen.setdefault(other.band, one.band) == one.band
            assert one.frequency_hz == pytest.approx(other.frequency_hz, rel=0.025)
            ours_jy, theirs_jy = (
                (each.flux_density_jy or 0.0, each.flux_error_jy, each.upper_limit_jy or 0.0)
                for each in (one, other)
            )
            assert ours_jy == pytest.approx(theirs_jy, rel=1e-12)
        redshifts = [each.photometric_redshift for each in galaxy.observations[1:]]
        assert [(each.redshift, each.lower_68, each.upper_68) for each in redshifts if each] == [
            (each.redshift, each.lower_68, each.upper_68) for each in row.published.values()
        ]
    stated = {band.name for group in find_mapping(path).photometry for band in group.bands}
    assert seen.keys() == stated
    assert len(set(seen.values())) == len(stated)


@pytest.mark.parametrize(
    ("reader", "digest"),
    [
        (goods_north, "fe9bde3a46f9425e"),
        (cosmos, "774339008a6dde37"),
        (zcosmos, "a9f00494787f741d"),
        (spt, "e05f23c3109be159"),
    ],
)
def test_the_galaxies_are_to_the_bit_those_that_the_packaged_weights_were_trained_on(
    shared_data: Path, reader: Callable[[Path], list[RealGalaxy]], digest: str
) -> None:
    found = hashlib.blake2b(digest_size=8)
    for galaxy in reader(shared_data):
        found.update(repr((galaxy.name, galaxy.spectroscopic_redshift)).encode())
        for each in galaxy.observations:
            redshift = each.photometric_redshift
            place = each.right_ascension_deg, each.declination_deg
            estimate = redshift and (redshift.method, redshift.redshift, redshift.lower_68)
            found.update(repr((*place, each.photometry, estimate)).encode())
    assert found.hexdigest() == digest


def test_catalogue_and_mapping_agree_on_the_exchanged_columns(shared_data: Path) -> None:
    path = shared_data / "goodsn.ecsv"
    rows = {row.identifier: row for row in read_table(path, find_mapping(path))}
    for galaxy in goods_north(shared_data)[::50]:
        row = rows[galaxy.name.removeprefix("GOODS-N ")]
        ours, theirs = (
            {
                band.band: band.weighted_flux / band.weight
                for band in build(galaxy.name, observations).bands
                if band.band in ("IRS-16", "MIPS-24")
            }
            for observations in (galaxy.observations, row.observations)
        )
        assert ours == pytest.approx(theirs)


Measured = dict[str, np.ndarray]


def measured_through(fingerprints: Sequence[Fingerprint]) -> list[Measured]:
    """By filter of the templates, flux densities and errors in Jy, shape (2, bands), of each."""
    library = load_library()
    found = photometry(fingerprints, library.wavelength_um)
    galaxies = []
    for first, end in zip(found.start[:-1], found.start[1:], strict=True):
        band, flux, error = (each[first:end] for each in (found.band, found.flux, found.error))
        galaxies.append(
            {
                library.bands[one]: np.sort([flux[band == one], error[band == one]], axis=1)
                for one in np.unique(band)
            }
        )
    return galaxies


@pytest.mark.parametrize(
    ("table", "reader"),
    [
        ("goodsn.ecsv", goods_north),
        ("cosmos_fir.ecsv", cosmos),
        pytest.param("zcosmos.ecsv", zcosmos, marks=pytest.mark.slow),
    ],
)
def test_templates_see_the_same_whether_the_stream_reads_a_table_or_training_does(
    shared_data: Path, table: str, reader: Callable[[Path], list[RealGalaxy]]
) -> None:
    path = shared_data / table
    rows = {row.identifier: row for row in read_table(path, find_mapping(path))}
    galaxies = reader(shared_data)
    ours = measured_through([build(one.name, one.observations) for one in galaxies])
    theirs = measured_through(
        [build(one.name, rows[one.name.split()[1]].observations) for one in galaxies]
    )
    for galaxy, one, other in zip(galaxies, ours, theirs, strict=True):
        assert one.keys() == other.keys(), galaxy.name
        for band, values in one.items():
            np.testing.assert_allclose(values, other[band], rtol=1e-3, err_msg=galaxy.name)


def test_templates_see_cosmos_through_the_filters_that_were_used(shared_data: Path) -> None:
    path = shared_data / "cosmos_fir.ecsv"
    rows = [row for row in read_table(path, find_mapping(path)) if row.observations]
    seen = measured_through([build(row.identifier, row.observations) for row in rows])
    # Of Subaru g and CFHT i there is none: HSC g and Subaru i stand for them.
    assert set().union(*seen) == {
        *("galex_FUV", "galex_NUV", "cfht_megacam_us_9301", "subaru_suprimecam_B", "hsc_g"),
        *("subaru_suprimecam_V", "subaru_suprimecam_rp", "subaru_suprimecam_ip"),
        *("subaru_suprimecam_zp", "ukirt_wfcam_J", "cfht_wircam_Ks_8302", "spitzer_mips_24"),
    }
    assert max(len(one["subaru_suprimecam_ip"][0]) for one in seen if len(one) > 1) == 2


def test_a_folder_without_tables_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"goodsn\.ecsv, cosmos_fir\.ecsv"):
        read_catalogues(tmp_path)
