"""Reads published line fluxes of galaxies, CO, [CI] and [CII], with one row for each galaxy.

The tables are heterogeneous: fluxes are from many telescopes and apertures, luminosities may or may
not be corrected for lensing, and there are copying errors. ``models/protocols/weak_lines.md`` says
how they are read.
"""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mmbroker.models.real_data.split import split_of
from mmbroker.processors import relations
from mmbroker.processors.ingest.mapping import load_mapping
from mmbroker.processors.lines.measure import LINES

DIGAME = "digame.csv"
YANG = "yang2017_flux.dat"
BOTHWELL = "Bothwell_SMGs.dat"
EYELASH = "Eyelash.dat"
STACK = "faint_line_properties_mdust.txt"
TABLES = (DIGAME, YANG, BOTHWELL, EYELASH, STACK)

DETECTED = 3.0
"""The lowest signal-to-noise ratio of a line that counts as measured."""

INFRARED_ERROR_DEX = 0.15
"""Assumed error of a published log10 of L_IR; the tables state few."""

INFRARED_RANGE = (1e10, 10**15.5)
"""The range of luminosities in Lsun; a number outside it in the column is something else."""

_LIMIT_ERROR = 99.0
_SENTINEL = 999.0

_SAME_GALAXY = {
    # Same redshift, position, CO(2-1) flux and luminosity: one of the two numbers is mistyped.
    "COSMOS_38503": "COSMOS_38053",
    "SDP.81": "H-ATLASJ090311.6+003906",
}
_PARTS = {
    *("BRI1335-0417N", "SPT-S053816-5030.8blue", "WMH5-SG-1", "WMH5-SG-2"),
    *("H-ATLAS090426.9+015448-component1", "H-ATLAS090426.9+015448-component2"),
    *("MACSJ0032-arc-D", "MACSJ0032-arc-E", "Q0957+561-B"),
}
"""Images or parts of a galaxy, which are left out."""

_YANG_NAMES = {
    # Yang et al. 2017, A&A 608 A144, table 1.
    "G09v1.97": "H-ATLASJ083051.0+013224",
    "G09v1.40": "H-ATLASJ085358.9+015537",
    "SDP81": "H-ATLASJ090311.6+003906",
    "G12v2.43": "H-ATLASJ113526.3-014605",
    "NCv1.143": "H-ATLASJ125632.7+233625",
    "NAv1.195": "H-ATLASJ132630.1+334410",
    "NAv1.177": "H-ATLASJ132859.3+292317",
    "NBv1.78": "H-ATLAS133008.4+245900",
    "NAv1.144": "H-ATLASJ133649.9+291801",
    "NAv1.56": "H-ATLASJ134429.4+303036",
    "G12v2.890": "H-ATLASJ113243.1-005108",
    "G12v2.257": "H-ATLASJ115820.2-013753",
    "G15v2.779": "H-ATLASJ142413.9+023040",
}
_YANG_LINES = (*LINES[:3], "CO(4-3)", *(f"CO({j}-{j - 1})" for j in range(5, 12)))
_DIFFERENTIAL_LENSING = 1.3
"""The factor by which CO(1-0) was corrected in that table."""

Array = NDArray[np.float64]
Booleans = NDArray[np.bool_]
Integers = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class LineSample:
    """N galaxies with their lines, in the order of LINES.

    Attributes:
        names: the names of the galaxies.
        redshift: the redshifts, float64, shape (N,).
        flux: the apparent fluxes in Jy km/s, 0 where a line was not measured, float64, shape
            (N, LINES).
        error: their 1 sigma errors in Jy km/s, inf where a line was not measured, float64, shape
            (N, LINES).
        log_infrared: the log10 of the apparent L_IR in Lsun, 0 where it is unknown, float64, shape
            (N,).
        infrared_error: its error in dex, inf where it is unknown, float64, shape (N,).
        split: TRAIN, VALIDATION or TEST, int64, shape (N,).
    """

    names: tuple[str, ...]
    redshift: Array
    flux: Array
    error: Array
    log_infrared: Array
    infrared_error: Array
    split: Integers

    def __len__(self) -> int:
        return len(self.names)

    @property
    def detected(self) -> Booleans:
        """Whether each line counts as measured, bool, shape (N, LINES)."""
        return np.asarray(self.flux >= DETECTED * self.error)

    @property
    def total_error(self) -> Array:
        """The errors with that of the flux scale in quadrature, in Jy km/s, shape (N, LINES)."""
        return np.hypot(self.error, relations.FLUX_SCALE_ERROR * self.flux)

    def select(self, chosen: Booleans | Integers) -> LineSample:
        """The chosen galaxies.

        Args:
            chosen: whether each galaxy is chosen, shape (N,), or the indices of the chosen ones.
        """
        rows = np.arange(len(self))[chosen]
        return LineSample(
            tuple(self.names[row] for row in rows),
            self.redshift[rows],
            self.flux[rows],
            self.error[rows],
            self.log_infrared[rows],
            self.infrared_error[rows],
            self.split[rows],
        )


@dataclass(frozen=True, slots=True, eq=False)
class Ladder:
    """The lines of a galaxy or an average relative to CO(1-0), without a luminosity.

    Attributes:
        name: the name of the galaxy or the average.
        redshift: the redshift of the galaxy, or a typical one.
        ratio: L' over that of CO(1-0), 0 where a line was not measured, float64, shape (LINES,).
        error: its 1 sigma error, inf where a line was not measured, float64, shape (LINES,).
    """

    name: str
    redshift: float
    ratio: Array
    error: Array


@dataclass(frozen=True, slots=True)
class _Measurement:
    line: str
    redshift: float
    flux: float
    error: float


def read_lines(folder: Path) -> LineSample:
    """Read all galaxies of DIGAME and of Yang et al. 2017 with a CO, [CI] or [CII] line.

    Args:
        folder: the folder of the tables.

    Raises:
        FileNotFoundError: a table is missing; the message names all that are.
    """
    missing = [name for name in TABLES if not (folder / name).exists()]
    if missing:
        raise FileNotFoundError(f"{folder} has no {', '.join(missing)}")
    lines, luminosities, magnification = _digame(folder / DIGAME)
    for name, found in _yang(folder / YANG).items():
        known = {each.line for each in lines[name]}
        lines[name] += [each for each in found if each.line not in known]
    names = tuple(sorted(name for name, found in lines.items() if found))
    merged = [_merged(lines[name]) for name in names]
    infrared = np.array([_infrared(luminosities[name], magnification[name]) for name in names])
    return LineSample(
        names,
        np.array([redshift for redshift, _, _ in merged]),
        np.array([flux for _, flux, _ in merged]),
        np.array([error for _, _, error in merged]),
        infrared[:, 0],
        infrared[:, 1],
        np.array([split_of(name) for name in names]),
    )


def read_ladders(folder: Path) -> list[Ladder]:
    """Read the ladder of the Eyelash, and averages of submillimetre galaxies and the SPT sample.

    They are from Danielson et al. 2011, MNRAS 410 1687 (z = 2.3); Bothwell et al. 2013, MNRAS 429
    3047 (typical z = 2.2); and Reuter et al. 2023, ApJ 948 44, scaled to z = 3.

    Args:
        folder: the folder of the tables.
    """
    stack = {row[0]: (float(row[8]), float(row[9])) for row in _rows(folder / STACK)}
    names = {"CI10": "[CI](1-0)", **{f"CO{j}{j - 1}": f"CO({j}-{j - 1})" for j in range(1, 7)}}
    first = stack["CO10"][0]
    values = {names[key]: np.array(each) / first for key, each in stack.items() if key in names}
    return [
        _ladder("Eyelash", 2.3, _ratios(folder / EYELASH)),
        _ladder("Bothwell et al. 2013, average", 2.2, _ratios(folder / BOTHWELL)),
        _ladder("SPT, stacked", 3.0, {key: (one[0], one[1]) for key, one in values.items()}),
    ]


def _digame(
    path: Path,
) -> tuple[dict[str, list[_Measurement]], dict[str, set[float]], dict[str, float]]:
    """Read measurements, luminosities in Lsun and the largest magnification, by galaxy."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    papers: dict[tuple[str, str, float, float], set[str]] = defaultdict(set)
    for row in rows:
        flux, error = _number(row["IDV"]), _number(row["ERR_IDV"])
        if error != _LIMIT_ERROR:
            papers[row["ID"], row["REF"], flux, error].add(row["LINE"])
    names = load_mapping("digame").line_spectrum[0].aliases
    lines: dict[str, list[_Measurement]] = defaultdict(list)
    luminosities: dict[str, set[float]] = defaultdict(set)
    magnification: dict[str, float] = defaultdict(lambda: 1.0)
    for row in rows:
        if row["ID"] in _PARTS:
            continue
        name = _SAME_GALAXY.get(row["ID"], row["ID"])
        low, high = INFRARED_RANGE
        stated = {_number(row[key]) for key in ("LIR_LIT", "LIR_CIGALE")}
        luminosities[name] |= {each for each in stated if low <= each <= high}
        magnification[name] = max(magnification[name], _number(row["MAG"]))
        flux, error = _number(row["IDV"]), _number(row["ERR_IDV"])
        redshift = max(_number(row["Z_LINE"]), 0.0) or _number(row["Z_OPT"])
        copied = len(papers[row["ID"], row["REF"], flux, error]) > 1
        line = names.get(row["LINE"])
        if line is None or row["IO"] == "0" or copied or min(flux, error, redshift) <= 0:
            continue
        if error == _LIMIT_ERROR:
            # Limits were tried as a flux of 0 with a third of the limit as its error. Predictions
            # got worse in cross-validation, because limits rest on assumed widths and sizes.
            continue
        lines[name].append(_Measurement(line, redshift, flux, error))
    return lines, luminosities, magnification


def _yang(path: Path) -> dict[str, list[_Measurement]]:
    """Read CO and [CI] of lensed galaxies (Yang et al. 2017, A&A 608 A144)."""
    columns = (*_YANG_LINES, "[CI](1-0)", "[CI](2-1)")
    lines: dict[str, list[_Measurement]] = defaultdict(list)
    for name, redshift, _, _, *numbers in _rows(path):
        values = np.array(numbers, float).reshape(-1, 2)
        for line, (flux, error) in zip(columns, values.tolist(), strict=True):
            if line not in LINES or not flux > 0:
                continue
            scale = _DIFFERENTIAL_LENSING if line == "CO(1-0)" else 1.0
            found = _Measurement(line, float(redshift), flux / scale, error / scale)
            lines[_YANG_NAMES.get(name, name)].append(found)
    return lines


def _merged(found: list[_Measurement]) -> tuple[float, Array, Array]:
    """The redshift of a galaxy, and its fluxes and errors in Jy km/s, shape (LINES,) each."""
    redshift = float(np.median([each.redshift for each in found]))
    flux, error = np.zeros(len(LINES)), np.full(len(LINES), np.inf)
    for line in {each.line for each in found}:
        values = np.array(
            sorted(
                {
                    (each.flux, each.error)
                    for each in found
                    if each.line == line and abs(each.redshift - redshift) <= 0.01 * (1 + redshift)
                }
            )
        )
        if len(values):
            place = LINES.index(line)
            flux[place], error[place] = _mean(values[:, 0], values[:, 1])
    return redshift, flux, error


def _mean(flux: Array, error: Array) -> tuple[float, float]:
    weight = 1 / np.square(error)
    mean = float((weight * flux).sum() / weight.sum())
    freedom = max(len(flux) - 1, 1)
    chi_squared = float((weight * np.square(flux - mean)).sum()) / freedom
    return mean, float(weight.sum() ** -0.5 * max(chi_squared, 1.0) ** 0.5)


def _infrared(luminosities: Iterable[float], magnification: float) -> tuple[float, float]:
    """The log10 of the apparent L_IR in Lsun and its error in dex; 0 and inf if none is known."""
    known = sorted(np.log10(each) for each in luminosities)
    if not known:
        return 0.0, np.inf
    if magnification <= 1 or known[-1] - known[0] > np.log10(2):
        return float(known[-1]), INFRARED_ERROR_DEX
    half = 0.5 * np.log10(magnification)
    return float(known[-1] + half), float(np.hypot(INFRARED_ERROR_DEX, half))


def _ratios(path: Path) -> dict[str, tuple[float, float]]:
    values = (np.array(row[:3], float).tolist() for row in _rows(path))
    return {f"CO({int(j)}-{int(j) - 1})": (ratio, error) for j, ratio, error in values}


def _ladder(name: str, redshift: float, values: dict[str, tuple[float, float]]) -> Ladder:
    ratio, error = np.zeros(len(LINES)), np.full(len(LINES), np.inf)
    for line, each in values.items():
        ratio[LINES.index(line)], error[LINES.index(line)] = each
    return Ladder(name, redshift, ratio, error)


def _rows(path: Path) -> list[list[str]]:
    lines = path.read_text(encoding="utf-8").splitlines()
    return [line.split() for line in lines if line.strip() and not line.startswith("#")]


def _number(text: str | None) -> float:
    """Convert a text to a number; -1 if it is a sentinel or no number."""
    try:
        value = float(text or "")
    except ValueError:
        return -1.0
    return -1.0 if abs(value) == _SENTINEL or value < -1 else value
