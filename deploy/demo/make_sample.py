"""Makes the tables of the demo from the published catalogues.

    python deploy/demo/make_sample.py FOLDER

FOLDER holds the catalogues under the names below. The result is part of the project; running this
again changes nothing. The README beside this file and the functions below say by which rule
galaxies are chosen, and what is simulated from which measurements.
"""

from __future__ import annotations

import csv
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.cosmology import Planck15
from astropy.table import Table
from numpy.typing import NDArray

HERE = Path(__file__).parent

GOODSN_WITH_PHOTOMETRIC_REDSHIFT = 160
GOODSN_WITHOUT = 40
SUBMILLIMETRE_BANDS = ("250", "350", "500", "850", "1160")

STACK_REDSHIFT = 3.0
"""Reuter et al. 2023 give the mean line fluxes of the SPT galaxies as seen at this redshift."""

SPT_LINES = ("CO10", "CO21", "CO32", "CO43", "CO54", "CO65", "CI10")

YANG_COLUMNS = (
    "CO10",
    "CO21",
    "CO32",
    "CO43",
    "CO54",
    "CO65",
    "CO76",
    "CO87",
    "CO98",
    "CO109",
    "CO1110",
    "CI10",
    "CI21",
)
LINE_COLUMNS = ("CO10", "CO21", "CO32", "CO43", "CO54", "CO65", "CO76", "CO87", "CI10", "CI21")

SPT_COLUMNS = {
    "a1": ("name", "long_name", "right_ascension", "declination"),
    "d1": (
        "name",
        "z_spec",
        "S_3mm",
        "e_3mm",
        "S_2mm",
        "e_2mm",
        "S_1mm",
        "e_1mm",
        "S_870",
        "e_870",
        "S_500",
        "e_500",
        "S_350",
        "e_350",
        "S_250",
        "e_250",
        "S_160",
        "e_160",
        "S_100",
        "e_100",
    ),
    "f1": ("name", "z_spec", "z_phot", "e_z_phot"),
}

GOODSN_LINES = (
    (564, "GN20/Carilli2010", "2010ApJ...714.1407C", "SMMJ123711+622212", "Carilli et al. (2010)"),
    (564, "GN20/Daddi2009", "2009ApJ...694.1517D", "SMMJ123711+622212", "Daddi et al. (2009)"),
    (9970, "GN70.104/Pope2013", "2013ApJ...772...92P", "GN70.104", "Pope et al. (2013)"),
    (17211, "BzK4171/Daddi2010", "2010ApJ...713..686D", "BzK04171", "Daddi et al. (2010)"),
)
"""GOODS-N galaxies with published lines: id in Liu et al. 2018, name, bibcode, and the id and the
reference in the DIGAME compilation."""

DIGAME_LINES = {
    "12CO(1-0)": "CO10",
    "12CO(2-1)": "CO21",
    "12CO(3-2)": "CO32",
    "12CO(4-3)": "CO43",
    "12CO(5-4)": "CO54",
    "12CO(6-5)": "CO65",
}
DIGAME_MISSING = (-999.0, 99.0, 999.0)


def main(folder: Path) -> None:
    """Write the tables of the demo.

    Args:
        folder: the folder with the published catalogues.
    """
    goodsn = Table.read(folder / "goodsn.ecsv")
    chosen = choose_goodsn(goodsn)
    write(goodsn[chosen], "goodsn", "GOODS-N super-deblended catalogue (Liu et al. 2018)")
    write(spt(folder), "spt", "SPT submillimetre galaxies (Reuter et al. 2020)")
    write(lines(folder, goodsn), "lines", "Published line fluxes in Jy km/s")
    write(malformed(), "malformed", "Impossible measurements, all invented, for quarantine")


def choose_goodsn(table: Table) -> NDArray[np.int_]:
    """Choose the rows with the highest joint signal-to-noise ratio from 250 to 1160 um.

    Args:
        table: the super-deblended catalogue; fluxes and errors in mJy.

    Returns:
        The ascending indices of 160 rows with an EAZY photometric redshift and 40 without, int,
        shape (200,).
    """
    squares = np.zeros(len(table))
    for band in SUBMILLIMETRE_BANDS:
        flux, error = np.array(table[f"f_{band}"]), np.array(table[f"e_{band}"])
        observed = (error < 1e9) & (flux > -90) & (error > 0)
        squares[observed] += np.maximum(flux[observed] / error[observed], 0.0) ** 2
    order = np.argsort(-squares, kind="stable")
    known = np.isfinite(table["eazy_z"]) & (np.array(table["eazy_z"]) > 0)
    with_redshift = order[known[order]][:GOODSN_WITH_PHOTOMETRIC_REDSHIFT]
    without = order[~known[order]][:GOODSN_WITHOUT]
    return np.unique(np.concatenate([with_redshift, without]))


def spt(folder: Path) -> Table:
    """Make the table of SPT galaxies: positions, photometry, redshifts, simulated line fluxes.

    A line has the mean flux of the stack, scaled with the 870 um flux density relative to the
    median of the sample (870 um follows the dust mass nearly independently of redshift). The flux
    is then moved from z = 3 to the redshift of the galaxy at constant luminosity: flux ~ (1 + z) /
    D_L**2.
    """
    parts = {name: read_spt(folder, name) for name in SPT_COLUMNS}
    table = parts["a1"]["name", "right_ascension", "declination"]
    place = SkyCoord(
        [text.replace("−", "-") for text in table["right_ascension"]],
        [text.replace("−", "-") for text in table["declination"]],
        unit=("hourangle", "deg"),
    )
    table["right_ascension"], table["declination"] = place.ra.deg, place.dec.deg
    for name in ("d1", "f1"):
        rows = {row["name"]: row for row in parts[name]}
        for column in SPT_COLUMNS[name][1:]:
            table[column] = [float(rows[galaxy][column]) for galaxy in table["name"]]
    mean = mean_lines(folder)
    redshift = np.array(table["z_spec"])
    brightness = np.array(table["S_870"]) / np.median(table["S_870"])
    distance = Planck15.luminosity_distance(redshift) / Planck15.luminosity_distance(STACK_REDSHIFT)
    dimming = (1 + redshift) / (1 + STACK_REDSHIFT) / distance.to_value(u.one) ** 2
    for line in SPT_LINES:
        table[f"simulated_{line}"] = mean[line] * brightness * dimming
    table["bibcode"] = "2020ApJ...902...78R"
    return table


def read_spt(folder: Path, name: str) -> Table:
    """Read one table of Reuter et al. 2020; its cells are text."""
    columns = SPT_COLUMNS[name]
    text = (folder / f"spt_dndz_tab_{name}.txt").read_text(encoding="utf-8")
    lines_of_data = [line for line in text.splitlines() if line and not line.startswith("#")]
    split = re.compile(r"\t" if name == "a1" else r"\s+")
    rows = [[cell.strip() for cell in split.split(line)][: len(columns)] for line in lines_of_data]
    return Table(rows=rows, names=columns)


def mean_lines(folder: Path) -> dict[str, float]:
    """Mean fluxes in Jy km/s of the lines of the SPT galaxies at z = 3 (Reuter et al. 2023)."""
    text = (folder / "faint_line_properties_mdust.txt").read_text(encoding="utf-8")
    cells = [line.split() for line in text.splitlines() if line and not line.startswith("#")]
    return {row[0]: float(row[2]) for row in cells if row[0] in SPT_LINES}


def lines(folder: Path, goodsn: Table) -> Table:
    """Make the table of published line fluxes, with one row for each galaxy and paper."""
    digame = list(csv.DictReader((folder / "digame.csv").open(encoding="utf-8-sig")))
    rows = [*yang(folder, digame), *goodsn_lines(goodsn, digame)]
    names = ["name", "right_ascension", "declination", "z_spec", "fwhm_km_s"]
    for line in LINE_COLUMNS:
        names += [line, f"e_{line}"]
    names.append("bibcode")
    return Table([[row.get(name, np.nan) for row in rows] for name in names], names=names)


def yang(folder: Path, digame: list[dict[str, str]]) -> list[dict[str, Any]]:
    """Read the line fluxes of Yang et al. 2017 for galaxies whose name in DIGAME has coordinates.

    Fluxes are in Jy km/s. CO(1-0) is left out, because it was corrected for differential lensing.
    """
    rows = []
    for line in (folder / "yang2017_flux.dat").read_text(encoding="utf-8").splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        name, redshift, _, fwhm, *values = line.split()
        places = (
            coordinates(row["ID"])
            for row in digame
            if name.replace(".", "") in row["ID_ALT"].replace(".", "")
        )
        place = next(filter(None, places), None)
        if place is None:
            continue
        row: dict[str, Any] = {
            "name": f"{name}/Yang2017",
            "right_ascension": place[0],
            "declination": place[1],
            "z_spec": float(redshift),
            "fwhm_km_s": float(fwhm),
            "bibcode": "2017A&A...608A.144Y",
        }
        fluxes = zip(YANG_COLUMNS, values[::2], values[1::2], strict=True)
        for column, flux, error in fluxes:
            if column != "CO10":
                row[column], row[f"e_{column}"] = float(flux), float(error)
        rows.append(row)
    return rows


def coordinates(designation: str) -> tuple[float, float] | None:
    """Right ascension and declination in degrees from a designation; None without coordinates.

    Half a unit of the last digit is added, because designations are truncated, not rounded.
    """
    found = re.search(r"(\d\d)(\d\d)(\d\d\.\d)([-+])(\d\d)(\d\d)(\d\d)", designation)
    if found is None:
        return None
    hours, minutes, seconds, sign, degrees, arcmin, arcsec = found.groups()
    right_ascension = 15 * (int(hours) + int(minutes) / 60 + (float(seconds) + 0.05) / 3600)
    declination = int(degrees) + int(arcmin) / 60 + (int(arcsec) + 0.5) / 3600
    return right_ascension, -declination if sign == "-" else declination


def goodsn_lines(goodsn: Table, digame: list[dict[str, str]]) -> list[dict[str, Any]]:
    """Find the lines of GOODS-N galaxies; positions are those of the photometric catalogue."""
    rows = []
    for identifier, name, bibcode, designation, reference in GOODSN_LINES:
        place = goodsn[np.flatnonzero(goodsn["id"] == identifier)[0]]
        row: dict[str, Any] = {
            "name": name,
            "right_ascension": float(place["ra_deg"]),
            "declination": float(place["dec_deg"]),
            "bibcode": bibcode,
        }
        for entry in digame:
            column = DIGAME_LINES.get(entry["LINE"])
            if (entry["ID"], entry["REF"]) != (designation, reference) or column is None:
                continue
            row[column], row[f"e_{column}"] = float(entry["IDV"]), float(entry["ERR_IDV"])
            for key, value in (("z_spec", entry["Z_LINE"]), ("fwhm_km_s", entry["FWHM"])):
                if float(value) not in DIGAME_MISSING:
                    row.setdefault(key, float(value))
        rows.append(row)
    return rows


def malformed() -> Table:
    """Make a table of impossible measurements, each of which breaks one rule."""
    good = {
        "right_ascension": 150.1,
        "declination": 2.2,
        "position_error": 0.5,
        "time": 60000.0,
        "flux": 5.0,
        "error": 1.0,
        "redshift": np.nan,
    }
    wrong: dict[str, dict[str, float]] = {
        "declination off the sky": {"declination": 123.4},
        "hour angle taken as right ascension": {"right_ascension": -5.0},
        "beam taken as position error": {"position_error": 60.0},
        "Julian Date instead of MJD": {"time": 2460000.5},
        "microjansky taken as millijansky": {"flux": 5e9},
        "no noise": {"error": 0.0},
        "sentinel of the catalogue": {"error": 1e10},
        "sentinel as redshift": {"flux": np.nan, "redshift": -99.0},
    }
    rows = [{"name": name, **good, **change} for name, change in wrong.items()]
    return Table([[row[key] for row in rows] for key in rows[0]], names=list(rows[0]))


def write(table: Table, name: str, title: str) -> None:
    """Write a table with six significant digits (positions and times: nine).

    The rows of GOODS-N get the bibcodes of the catalogue and of its photometric redshifts.
    """
    if name == "goodsn":
        table["bibcode"] = "2018ApJ...853..172L"
        known = np.isfinite(table["eazy_z"])
        table["bibcode_eazy"] = np.where(known, "2014ApJS..214...24S", "")
    for column in table.itercols():
        if column.dtype.kind == "f":
            position = column.name in ("right_ascension", "declination", "ra_deg", "dec_deg")
            digits = 9 if position or column.name == "time" else 6
            table[column.name] = [float(f"{value:.{digits}g}") for value in column]
    table.meta = {"title": title}
    table.write(HERE / f"{name}.ecsv", overwrite=True, delimiter=",")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
