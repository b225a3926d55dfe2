"""Read real galaxies with spectroscopic redshifts, and measure estimates of them."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mmbroker.processors.fingerprint import merge
from mmbroker.processors.fingerprint.contribution import contribution
from mmbroker.processors.fingerprint.errors import UnusableError
from mmbroker.processors.ingest.fitting import fitting_mapping, without_absent
from mmbroker.processors.ingest.mapping import MappingError, load_mapping
from mmbroker.processors.ingest.tables import Row, read_table
from mmbroker.processors.relations import SPEED_OF_LIGHT_KM_S
from mmbroker.processors.validation import problems
from mmbroker.schemas.events import Fingerprint, Observation

Array = NDArray[np.float64]
Figures = dict[str, float | int | None]
Difference = tuple[float, float, float]
"""Value, and the ends of its 95 % interval."""

Differences = dict[str, Difference | None]

_S500_HZ = SPEED_OF_LIGHT_KM_S * 1e9 / 500


@dataclass(frozen=True, slots=True, eq=False)
class Estimates:
    """Redshifts of one estimator; NaN where an interval is not stated; arrays shape (galaxies,)."""

    redshift: Array
    lower_68: Array
    upper_68: Array
    lower_95: Array
    upper_95: Array
    crps: Array
    """Of the posterior in redshift; of the redshift alone where there is no posterior."""

    def select(self, chosen: NDArray[np.bool_]) -> Estimates:
        """The estimates of the chosen galaxies."""
        return Estimates(*(getattr(self, each.name)[chosen] for each in fields(self)))

    def where(self, chosen: NDArray[np.bool_]) -> Estimates:
        """The estimates of the chosen galaxies, NaN for the others."""
        return Estimates(
            *(np.where(chosen, getattr(self, each.name), np.nan) for each in fields(self))
        )


@dataclass(frozen=True, slots=True, eq=False)
class Galaxies:
    """The rows of a table that have a spectroscopic redshift."""

    identifiers: list[str]
    fingerprints: list[Fingerprint]
    truth: Array
    """Spectroscopic redshifts, shape (galaxies,)."""

    s500_jy: Array
    """Flux density at 500 um, NaN where not measured, shape (galaxies,)."""

    published: dict[str, Estimates]
    mapping: str
    """Name of the mapping."""

    methods: dict[str, str]
    """Method of each published redshift, as in the fingerprints."""

    problems: list[str]
    """What cannot be read, and what the stream would refuse; it is left out."""

    notes: list[str]
    """What the table does not have, of what its mapping names."""


def read_galaxies(table: str | Path, mapping: str | Path | None = None) -> Galaxies:
    """The galaxies of a table that have a spectroscopic redshift, as fingerprints.

    Args:
        table: path of the table.
        mapping: name or path of its mapping; found by the table's name, else by its columns,
            unless given.

    Raises:
        MappingError: the table cannot be read, or the mapping does not fit.
        ValueError: the mapping names no spectroscopic redshift, or no row has one.
    """
    path = Path(table)
    if not path.is_file():
        raise MappingError(f"{path}: there is no such file")
    whole = fitting_mapping(path) if mapping is None else load_mapping(mapping)
    if whole.truth is None:
        raise ValueError(f"{path}: mapping {whole.name} has no [truth] with a redshift column")
    chosen, notes = without_absent(path, whole)
    rows = list(read_table(path, chosen))
    left_out = [f"row {row.number}: {problem}" for row in rows for problem in row.problems]
    kept: list[Row] = []
    fingerprints: list[Fingerprint] = []
    for row in rows:
        if (row.true_redshift or 0.0) > 0.0:
            usable, refused = _usable(row)
            left_out += refused
            if usable:
                kept.append(_with_observations(row, usable))
                fingerprints.append(merge.build(row.identifier, usable))
    if not kept:
        raise ValueError(
            f"{path}: no row has a positive {whole.truth.redshift!r} and an observation"
            + (f"; {len(left_out)} problems, the first: {left_out[0]}" if left_out else "")
        )
    nan = float("nan")
    published: dict[str, Estimates] = {}
    for name in chosen.published:
        values = np.full((3, len(kept)), nan)
        for column, row in enumerate(kept):
            one = row.published.get(name)
            if one is not None:
                ends = (one.lower_68, one.upper_68)
                values[:, column] = (one.redshift, *(nan if end is None else end for end in ends))
        missing = np.full(len(kept), nan)
        error = np.abs(values[0] - np.array([row.true_redshift for row in kept], dtype=float))
        published[name] = Estimates(values[0], values[1], values[2], missing, missing, error)
    return Galaxies(
        [row.identifier for row in kept],
        fingerprints,
        np.array([row.true_redshift for row in kept], dtype=float),
        np.array([_s500_jy(one) for one in fingerprints]),
        published,
        chosen.name,
        {name: one.method or name for name, one in chosen.published.items()},
        left_out,
        notes,
    )


def _usable(row: Row) -> tuple[list[Observation], list[str]]:
    """The observations that the stream would take in, and why not the others."""
    usable: list[Observation] = []
    refused: list[str] = []
    for observation in row.observations:
        broken = problems(observation) or _unusable(observation)
        if broken:
            refused += [
                f"row {row.number}: {observation.observation_id}: {each}" for each in broken
            ]
        else:
            usable.append(observation)
    return usable, refused


def _unusable(observation: Observation) -> list[str]:
    try:
        contribution(observation)
    except UnusableError as error:
        return [str(error)]
    return []


def _with_observations(row: Row, usable: list[Observation]) -> Row:
    """A row with some of its observations, and of its published redshifts those among them."""
    taken = {id(one.photometric_redshift) for one in usable}
    published = {name: one for name, one in row.published.items() if id(one) in taken}
    return replace(row, observations=usable, published=published)


def _s500_jy(one: Fingerprint) -> float:
    """The mean of what was measured near 500 um, NaN where nothing was."""
    near = [
        band
        for band in one.bands
        if band.weight > 0 and abs(math.log(band.frequency_hz / _S500_HZ)) < 0.05
    ]
    weight = sum(band.weight for band in near)
    return sum(band.weighted_flux for band in near) / weight if near else float("nan")
