"""Reads published catalogues as observations of real galaxies, for training and for tests.

Only the stream's mappings (``processors/ingest/mappings``) say what the columns of a table mean.
The tables themselves are not part of the project. A value that is missing in a table stays missing:
it is no non-detection. A galaxy has one observation with all its bands, and one for each published
redshift.

The packaged weights were trained on some bands under another name or at another wavelength than the
mappings state. ``_NAMES`` and ``_WAVELENGTHS_UM`` keep these, so that what is trained or judged
again sees the same numbers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from astropy import units
from astropy.table import Table

from mmbroker.processors.ingest.mapping import Band, Mapping, Truth, load_mapping
from mmbroker.processors.ingest.tables import Row, read_table
from mmbroker.processors.relations import SPEED_OF_LIGHT_KM_S
from mmbroker.schemas.events import (
    Acquisition,
    BandMeasurement,
    Observation,
    PhotometricRedshift,
    Photometry,
)

GOODS_NORTH = "goodsn.ecsv"
COSMOS = "cosmos_fir.ecsv"
ZCOSMOS = "zcosmos.ecsv"
SUPERDEBLENDED = "more/catalogues/cosmos_sdc2/cosmos_superdeblended.ecsv"
SPT = ("spt_dndz_tab_a1.txt", "spt_dndz_tab_d1.txt", "spt_dndz_tab_f1.txt")

Coordinates = tuple[float, float]
"""Right ascension and declination in degrees, ICRS."""


@dataclass(frozen=True, slots=True)
class RealGalaxy:
    """A galaxy of a published table.

    Attributes:
        name: its name, which is unique.
        observations: what the table says of it.
        spectroscopic_redshift: the spectroscopic redshift if it is known and secure; it is never
            part of the observations.
    """

    name: str
    observations: list[Observation]
    spectroscopic_redshift: float | None


@dataclass(frozen=True, slots=True)
class _Paper:
    """The paper in which a table was published.

    Attributes:
        label: how the names of its galaxies begin.
        instrument: the instrument of all its observations.
        bibcode: the bibcode of the paper.
        published_mjd: the time of all its observations, in days.
        position_error_arcsec: the 1 sigma position error on each axis, in arcsec.
        methods: the methods of the published redshifts, by their sections in the mapping.
    """

    label: str
    instrument: str
    bibcode: str
    published_mjd: float
    position_error_arcsec: float
    methods: dict[str, str] = field(default_factory=dict)

    def galaxy(
        self,
        identifier: str,
        place: Coordinates,
        bands: list[BandMeasurement],
        published: dict[str, PhotometricRedshift] | None = None,
        truth: float | None = None,
    ) -> RealGalaxy:
        """Make a galaxy of the table.

        Args:
            identifier: the identifier of its row.
            place: its position.
            bands: its bands, in the order in which parts of the galaxy are drawn.
            published: its photometric redshifts, by section of the mapping.
            truth: the spectroscopic redshift if it is known and secure.
        """
        name = f"{self.label} {identifier}"
        bare = Observation(
            observation_id=f"{name} photometry",
            instrument=self.instrument,
            right_ascension_deg=place[0],
            declination_deg=place[1],
            position_error_arcsec=self.position_error_arcsec,
            time_mjd=self.published_mjd,
            acquisition=Acquisition(bibcode=self.bibcode, quality="UNKNOWN"),
        )
        observations = [replace(bare, photometry=Photometry(bands))]
        for section, redshift in (published or {}).items():
            method = self.methods[section]
            observations.append(
                replace(
                    bare,
                    observation_id=f"{name} {method}",
                    photometric_redshift=replace(redshift, method=method),
                )
            )
        return RealGalaxy(name, observations, truth)


_LIU = _Paper(
    *("GOODS-N", "GOODS-N super-deblended", "2018ApJ...853..172L", 58_150.0, 0.3),
    {"z_phot": "Liu et al. 2018", "eazy": "EAZY"},
)
_DREW = _Paper("COSMOS", "COSMOS far-infrared", "2022ApJ...930..142D", 59_714.0, 0.3)
_LILLY = _Paper("zCOSMOS", "zCOSMOS photometry", "2007ApJS..172...70L", 54_344.0, 0.2)
_REUTER = _Paper(
    *("SPT", "SPT-SMG", "2020ApJ...902...78R", 59_138.0, 0.3), {"infrared": "SPT dust"}
)

_AB_ZERO_JY = (0.0 * units.ABmag).to_value(units.Jy)
_NO_STAR = 0.01  # redshift

_NAMES = {
    "WIRCam-Ks": "K",
    "COSMOS-J": "UKIRT-J",
    "COSMOS-K": "CFHT-K",
    "SCUBA2-850": "SCUBA-2-850",
}
"""The names in training of bands that the mappings name otherwise."""

_WAVELENGTHS_UM = {
    "MIPS-70": 70.0,
    "SPT-220GHz": 1363.0,
    "SPT-150GHz": 1999.0,
    "ALMA-3mm": 2998.0,
    "VLA-1.4GHz": 214_137.0,
}
"""The wavelengths in training of bands to which the mappings give others."""


def read_catalogues(folder: Path) -> list[RealGalaxy]:
    """Read all galaxies of GOODS-N, COSMOS and SPT.

    Args:
        folder: the folder of the tables.

    Raises:
        FileNotFoundError: a table is missing; the message names all that are missing.
    """
    missing = [name for name in (GOODS_NORTH, COSMOS, *SPT) if not (folder / name).exists()]
    if missing:
        raise FileNotFoundError(f"{folder} has no {', '.join(missing)}")
    return [*goods_north(folder), *cosmos(folder), *spt(folder)]


def goods_north(folder: Path) -> list[RealGalaxy]:
    """Read the super-deblended catalogue of GOODS-N (Liu et al. 2018, ApJ 853 172).

    The photometric redshifts are the published one and that of EAZY (Skelton et al. 2014, ApJS 214
    24).

    The table's columns of 16 and 24 µm are exchanged, and the mapping reads them as what they are.
    It says what their ratio tells. There is more evidence: of the sources that the radio does not
    detect, which are in the catalogue for their 24 µm flux, 95 % have more than 3 sigma in "16" and
    31 % in "24"; and "24" is missing at the edges of the field, where only the 16 µm survey ends
    (beyond 9' from the middle 14 % have it, and 85 % have "16").

    Args:
        folder: the folder of the tables.
    """
    return [
        _LIU.galaxy(row.identifier, place, bands, row.published, row.true_redshift)
        for row, place, bands in _rows(folder / GOODS_NORTH, load_mapping("goodsn"))
    ]


def cosmos(folder: Path) -> list[RealGalaxy]:
    """Read the far-infrared sources in COSMOS (Drew & Casey 2022).

    Their optical photometry is from Lilly et al. 2007, ApJS 172 70. Only zCOSMOS redshifts of
    classes 3 and 4 are taken for secure.

    Args:
        folder: the folder of the tables.
    """
    path, mapping = folder / COSMOS, load_mapping("cosmos_fir")
    optical = _optical(mapping)
    far_infrared = [group for group in mapping.photometry if group.unit == "mJy"]
    rows = _rows(path, mapping.model_copy(update={"photometry": far_infrared}))
    return [
        _DREW.galaxy(
            row.identifier,
            place,
            bands + _magnitudes(cells, optical),
            truth=row.true_redshift if 3.0 <= cells["cc"] < 5.0 else None,
        )
        for (row, place, bands), cells in zip(rows, Table.read(path), strict=True)
    ]


def zcosmos(folder: Path) -> list[RealGalaxy]:
    """Read galaxies of zCOSMOS-bright, ultraviolet to near-infrared (Lilly et al. 2007).

    The table is that of ApJS 172 70. Only galaxies with secure redshifts, of classes 3 and 4, are
    read, and no stars. Those of ``cosmos`` are left out.

    Args:
        folder: the folder of the tables.
    """
    elsewhere = set(Table.read(folder / COSMOS)["id_zcosmos"].tolist())
    optical = _optical(load_mapping("zcosmos"))
    return [
        _LILLY.galaxy(
            cells["id_zcosmos"],
            (float(cells["alpha"]), float(cells["delta"])),
            _magnitudes(cells, optical),
            truth=float(cells["zpec"]),
        )
        for cells in Table.read(folder / ZCOSMOS)
        if 3.0 <= cells["cc"] < 5.0
        and cells["zpec"] > _NO_STAR
        and cells["id_zcosmos"] not in elsewhere
    ]


def spt(folder: Path) -> list[RealGalaxy]:
    """Read the SPT-SMG sample (Reuter et al. 2020, ApJ 902 78, tables A1, D1 and F1).

    A missing flux with an error is a non-detection: a 3 sigma upper limit.

    Args:
        folder: the folder of the tables.
    """
    mapping = load_mapping("spt").model_copy(update={"truth": Truth(redshift="d1.specz")})
    return [
        _REUTER.galaxy(
            row.identifier,
            place,
            sorted(bands, key=lambda band: band.frequency_hz),
            row.published,
            row.true_redshift,
        )
        for row, place, bands in _rows(folder / SPT[0], mapping)
    ]


def _rows(path: Path, mapping: Mapping) -> Iterator[tuple[Row, Coordinates, list[BandMeasurement]]]:
    """Read the rows of a table, each with its position and its bands as they are in training."""
    bands = {band.name: band for group in mapping.photometry for band in group.bands}
    for row in read_table(path, mapping):
        measured = [
            replace(each, band=name, frequency_hz=frequency_hz)
            for observation in row.observations
            if observation.photometry
            for each in observation.photometry.measurements
            for name, frequency_hz in [_in_training(bands[each.band])]
        ]
        first = row.observations[0]
        yield row, (first.right_ascension_deg, first.declination_deg), measured


def _optical(mapping: Mapping) -> list[Band]:
    """The bands in magnitudes, V before g: parts of a galaxy are drawn in this order."""
    bands = [band for group in mapping.photometry if group.unit == "ABmag" for band in group.bands]
    place = [band.name for band in bands].index("Subaru-g")
    bands[place : place + 2] = bands[place + 1], bands[place]
    return bands


def _magnitudes(cells: Any, bands: Sequence[Band]) -> list[BandMeasurement]:
    """Convert the AB magnitudes in a row to flux densities; those not positive are not observed.

    ``read_table`` would do so too, but its errors differ in the last bit, and packaged results
    state by a hash from which fluxes they were made.
    """
    found = []
    for band in bands:
        magnitude, error = cells[band.flux], cells[band.error]
        if magnitude > 0 and error > 0:
            flux = _AB_ZERO_JY * 10 ** (-0.4 * float(magnitude))
            error = float(flux * error * np.log(10) / 2.5)
            found.append(BandMeasurement(*_in_training(band), float(flux), error))
    return found


@cache
def _in_training(band: Band) -> tuple[str, float]:
    """The name of a band and its frequency in Hz, as they were when the weights were trained."""
    wavelength_um = _WAVELENGTHS_UM.get(band.name)
    if wavelength_um is None:
        # It is rounded to what is written, since a conversion from mm can change the last bit.
        wavelength_um = round(units.Quantity(band.wavelength).to_value(units.um), 4)
    return _NAMES.get(band.name, band.name), float(SPEED_OF_LIGHT_KM_S * 1e9 / wavelength_um)
