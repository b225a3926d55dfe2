"""Published catalogues as observations: the real galaxies that networks are trained and tested on.

The tables are not part of the project; each reader says which paper they come from. What is missing
in a table stays missing, it is not a non-detection. Up to 24 µm bands and wavelengths are those of
the stream's mappings (``processors/ingest/mappings``), so that what is fitted here is met there.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from astropy import units
from astropy.coordinates import Angle
from astropy.table import Table

from mmbroker.processors.relations import SPEED_OF_LIGHT_KM_S
from mmbroker.schemas.events import (
    Acquisition,
    BandMeasurement,
    Observation,
    PhotometricRedshift,
    Photometry,
)

DATA_VARIABLE = "MMBROKER_DATA"
"""Environment variable with the folder of the tables."""

GOODS_NORTH = "goodsn.ecsv"
COSMOS = "cosmos_fir.ecsv"
ZCOSMOS = "zcosmos.ecsv"
SPT = ("spt_dndz_tab_a1.txt", "spt_dndz_tab_d1.txt", "spt_dndz_tab_f1.txt")


@dataclass(frozen=True, slots=True)
class RealGalaxy:
    """A galaxy of a published table.

    Args:
        name: unique.
        observations: what the table says of it.
        spectroscopic_redshift: where known and secure; never part of the observations.
    """

    name: str
    observations: list[Observation]
    spectroscopic_redshift: float | None


@dataclass(frozen=True, slots=True)
class _Paper:
    """Where a table was published."""

    label: str
    instrument: str
    bibcode: str
    published_mjd: float
    position_error_arcsec: float

    def observation(
        self,
        name: str,
        right_ascension_deg: float,
        declination_deg: float,
        *,
        photometry: list[BandMeasurement] | None = None,
        redshift: PhotometricRedshift | None = None,
    ) -> Observation:
        kind = "photometry" if redshift is None else redshift.method
        return Observation(
            observation_id=f"{name} {kind}",
            instrument=self.instrument,
            right_ascension_deg=right_ascension_deg,
            declination_deg=declination_deg,
            position_error_arcsec=self.position_error_arcsec,
            time_mjd=self.published_mjd,
            acquisition=Acquisition(bibcode=self.bibcode, quality="UNKNOWN"),
            photometry=None if photometry is None else Photometry(photometry),
            photometric_redshift=redshift,
        )


_LIU = _Paper("GOODS-N", "GOODS-N super-deblended", "2018ApJ...853..172L", 58_150.0, 0.3)
_DREW = _Paper("COSMOS", "COSMOS far-infrared", "2022ApJ...930..142D", 59_714.0, 0.3)
_LILLY = _Paper("zCOSMOS", "zCOSMOS photometry", "2007ApJS..172...70L", 54_344.0, 0.2)
_REUTER = _Paper("SPT", "SPT-SMG", "2020ApJ...902...78R", 59_138.0, 0.3)

_LARGEST_ERROR_MJY = 1e3
_AB_ZERO_JY = (0.0 * units.ABmag).to_value(units.Jy)
_NO_STAR = 0.01  # redshift

# Column, band, wavelength in µm. The table's columns of 16 and 24 µm are exchanged: of the sources
# that the radio does not detect, which are in the catalogue for their 24 µm flux, 95 % have more
# than 3 sigma in "16" and 31 % in "24"; "24" is missing at the edges of the field, where only the
# 16 µm survey ends (beyond 9' from the middle 14 % have it, and 85 % have "16"); and "16" is three
# times as bright as "24" at z = 2, where 24 µm sees the strongest aromatic band, and 0.85 times at
# 1.2 < z < 1.5, where 16 µm does and 24 µm sees silicate absorption.
_GOODS_NORTH_BANDS = (
    ("K", "K", 2.146),
    ("IRAC1", "IRAC1", 3.550),
    ("IRAC2", "IRAC2", 4.493),
    ("IRAC3", "IRAC3", 5.731),
    ("IRAC4", "IRAC4", 7.872),
    ("24", "IRS-16", 16.0),
    ("16", "MIPS-24", 23.68),
    ("100", "PACS-100", 100.0),
    ("160", "PACS-160", 160.0),
    ("250", "SPIRE-250", 250.0),
    ("350", "SPIRE-350", 350.0),
    ("500", "SPIRE-500", 500.0),
    ("850", "SCUBA-2-850", 850.0),
    ("1160", "AzTEC+MAMBO-1160", 1160.0),
    ("20cm", "VLA-1.4GHz", 214_137.0),
)
_COSMOS_BANDS = (
    ("24", "MIPS-24", 23.68),
    ("70", "MIPS-70", 70.0),
    ("100", "PACS-100", 100.0),
    ("160", "PACS-160", 160.0),
    ("250", "SPIRE-250", 250.0),
    ("350", "SPIRE-350", 350.0),
    ("500", "SPIRE-500", 500.0),
    ("850", "SCUBA-2-850", 850.0),
    ("1point1mm", "AzTEC-1.1mm", 1100.0),
    ("1point2mm", "MAMBO-1.2mm", 1200.0),
)
# Pivot wavelengths of the filters, as the template library has them; of Subaru g and CFHT i, which
# it has not, effective ones: Ilbert et al. 2009, ApJ 690 1236, table 1.
_COSMOS_OPTICAL = (
    ("fuv", "GALEX-FUV", 0.1535),
    ("nuv", "GALEX-NUV", 0.2301),
    ("u", "CFHT-u", 0.3828),
    ("b", "Subaru-B", 0.4448),
    ("v", "Subaru-V", 0.5470),
    ("g", "Subaru-g", 0.4728),
    ("r", "Subaru-r", 0.6275),
    ("ic", "CFHT-i", 0.7629),
    ("i", "Subaru-i", 0.7671),
    ("z", "Subaru-z", 0.9028),
    ("j", "UKIRT-J", 1.250),
    ("k", "CFHT-K", 2.157),
)
_SPT_BANDS = (
    ("ALMA-3mm", 2998.0),
    ("SPT-150GHz", 1999.0),
    ("SPT-220GHz", 1363.0),
    ("LABOCA-870", 870.0),
    ("SPIRE-500", 500.0),
    ("SPIRE-350", 350.0),
    ("SPIRE-250", 250.0),
    ("PACS-160", 160.0),
    ("PACS-100", 100.0),
)


def read_catalogues(folder: Path) -> list[RealGalaxy]:
    """All galaxies of the tables in a folder.

    Raises:
        FileNotFoundError: a table is missing; the message names all that are.
    """
    missing = [name for name in (GOODS_NORTH, COSMOS, *SPT) if not (folder / name).exists()]
    if missing:
        raise FileNotFoundError(f"{folder} has no {', '.join(missing)}")
    return [*goods_north(folder), *cosmos(folder), *spt(folder)]


def goods_north(folder: Path) -> list[RealGalaxy]:
    """The super-deblended catalogue of GOODS-N (Liu et al. 2018, ApJ 853 172).

    -99 and an error of 1e10 mean not observed, and so do errors over 1 Jy at 100 and 160 µm, a
    hundred times the brightest source. Fluxes are in mJy. The redshifts that are observed
    are the published photometric one and that of EAZY (Skelton et al. 2014, ApJS 214 24).
    """
    galaxies = []
    for row in Table.read(folder / GOODS_NORTH):
        name, place = f"{_LIU.label} {row['id']}", (float(row["ra_deg"]), float(row["dec_deg"]))
        fluxes = (
            _band(band, um, row[f"f_{column}"] * 1e-3, row[f"e_{column}"] * 1e-3)
            for column, band, um in _GOODS_NORTH_BANDS
            if row[f"e_{column}"] < _LARGEST_ERROR_MJY
        )
        observations = [_LIU.observation(name, *place, photometry=_measured(fluxes))]
        if row["z_phot"] > 0:
            published = PhotometricRedshift("Liu et al. 2018", float(row["z_phot"]))
            observations.append(_LIU.observation(name, *place, redshift=published))
        if row["eazy_z"] > 0:
            low, best, high = (float(row[key]) for key in ("eazy_z_l68", "eazy_z", "eazy_z_u68"))
            bounded = low <= best <= high
            eazy = PhotometricRedshift(
                "EAZY", best, low if bounded else None, high if bounded else None
            )
            observations.append(_LIU.observation(name, *place, redshift=eazy))
        galaxies.append(RealGalaxy(name, observations, _positive(row["z_spec"])))
    return galaxies


def cosmos(folder: Path) -> list[RealGalaxy]:
    """Far-infrared sources in COSMOS (Drew & Casey 2022; optical: Lilly et al. 2007, ApJS 172 70).

    A flux of 0 or an error of -99 means not observed; magnitudes are AB. Only zCOSMOS redshifts of
    classes 3 and 4 are taken for secure.
    """
    galaxies = []
    for row in Table.read(folder / COSMOS):
        name, place = f"{_DREW.label} {row['row']}", (float(row["RA24"]), float(row["DEC24"]))
        fluxes = [
            _band(band, um, row[f"F{column}"] * 1e-3, row[f"E{column}"] * 1e-3)
            for column, band, um in _COSMOS_BANDS
            if row[f"F{column}"] != 0
        ]
        fluxes += _cosmos_optical(row)
        secure = 3.0 <= row["cc"] < 5.0
        galaxies.append(
            RealGalaxy(
                name,
                [_DREW.observation(name, *place, photometry=_measured(fluxes))],
                _positive(row["zpec"]) if secure else None,
            )
        )
    return galaxies


def zcosmos(folder: Path) -> list[RealGalaxy]:
    """Galaxies of zCOSMOS-bright, ultraviolet to near-infrared (Lilly et al. 2007, ApJS 172 70).

    Secure redshifts alone, classes 3 and 4, no stars; those of ``cosmos`` are left out.
    """
    elsewhere = set(Table.read(folder / COSMOS)["id_zcosmos"].tolist())
    galaxies = []
    for row in Table.read(folder / ZCOSMOS):
        secure = 3.0 <= row["cc"] < 5.0 and row["zpec"] > _NO_STAR
        if not secure or row["id_zcosmos"] in elsewhere:
            continue
        name, place = f"{_LILLY.label} {row['id_zcosmos']}", (row["alpha"], row["delta"])
        fluxes = _measured(_cosmos_optical(row))
        observation = _LILLY.observation(name, *map(float, place), photometry=fluxes)
        galaxies.append(RealGalaxy(name, [observation], float(row["zpec"])))
    return galaxies


def _cosmos_optical(row: Any) -> list[BandMeasurement | None]:
    """AB magnitudes; what is not positive is not observed."""
    found = []
    for column, band, um in _COSMOS_OPTICAL:
        magnitude, error = row[f"{column}_photzi25"], row[f"e{column}_photzi25"]
        if magnitude > 0 and error > 0:
            flux = _AB_ZERO_JY * 10 ** (-0.4 * float(magnitude))
            found.append(_band(band, um, flux, flux * error * np.log(10) / 2.5))
    return found


def spt(folder: Path) -> list[RealGalaxy]:
    """The SPT-SMG sample (Reuter et al. 2020, ApJ 902 78, tables A1, D1 and F1).

    A missing flux with an error is a non-detection: a 3 sigma upper limit.
    """
    places = {row[0]: (row[-2], row[-1]) for row in _rows(folder / SPT[0])}
    estimates = {row[0]: (float(row[2]), float(row[3])) for row in _rows(folder / SPT[2])}
    galaxies = []
    for source, redshift, *numbers in _rows(folder / SPT[1]):
        if source not in places:
            continue
        ra, dec = (text.replace("−", "-") for text in places[source])
        place = (float(Angle(ra, "hourangle").deg), float(Angle(dec, "deg").deg))
        name = f"{_REUTER.label} {source}"
        values = np.array(numbers, float).reshape(-1, 2) * 1e-3
        fluxes = (
            _band(band, um, flux, error)
            for (band, um), (flux, error) in zip(_SPT_BANDS, values, strict=True)
        )
        observations = [_REUTER.observation(name, *place, photometry=_measured(fluxes))]
        if source in estimates:
            best, error = estimates[source]
            estimate = PhotometricRedshift("SPT dust", best, max(best - error, 0.0), best + error)
            observations.append(_REUTER.observation(name, *place, redshift=estimate))
        galaxies.append(RealGalaxy(name, observations, float(redshift)))
    return galaxies


def _rows(path: Path) -> list[list[str]]:
    lines = path.read_text(encoding="utf-8").splitlines()
    return [line.split() for line in lines if line.strip() and not line.startswith("#")]


def _band(band: str, wavelength_um: float, flux_jy: Any, error_jy: Any) -> BandMeasurement | None:
    """A measurement; a limit where only the error is a number, None where neither is."""
    if not (np.isfinite(error_jy) and error_jy > 0):
        return None
    frequency_hz, error = SPEED_OF_LIGHT_KM_S * 1e9 / wavelength_um, float(error_jy)
    if not np.isfinite(flux_jy):
        return BandMeasurement(band, frequency_hz, None, error, 3 * error)
    return BandMeasurement(band, frequency_hz, float(flux_jy), error)


def _measured(bands: Iterable[BandMeasurement | None]) -> list[BandMeasurement]:
    return [band for band in bands if band is not None]


def _positive(value: Any) -> float | None:
    return float(value) if value > 0 else None
