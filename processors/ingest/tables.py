"""Reads observations from tables of published measurements.

``read_table`` reads ECSV, FITS, CSV, VOTable and plain text with ``astropy.table``. A mapping
(``mapping``) says what the columns mean. Each row becomes one observation for each instrument in
it, and one for each published redshift. Ids follow from the names of mapping, row and instrument,
so that publishing a table twice changes nothing.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from astropy import units as u
from astropy.time import Time

from mmbroker.processors.ingest.columns import MAPPING, Columns, Numbers
from mmbroker.processors.ingest.headers import Origin
from mmbroker.processors.ingest.line_spectra import PublishedLine, simulated_spectrum
from mmbroker.processors.ingest.mapping import (
    DEFAULT_LIMIT_SIGMA,
    AcquisitionFields,
    Band,
    LineSpectrumGroup,
    Mapping,
    MappingError,
    NoMappingError,
    PhotometryGroup,
    Published,
    find_mapping,
    load_mapping,
)
from mmbroker.processors.ingest.positions import positions
from mmbroker.processors.ingest.times import times
from mmbroker.processors.ingest.units import PERCENT, error_in_jansky, in_jansky
from mmbroker.processors.relations import LINES_HZ
from mmbroker.schemas.events import (
    Acquisition,
    BandMeasurement,
    Observation,
    PhotometricRedshift,
    Photometry,
)

__all__ = [
    "Mapping",
    "MappingError",
    "NoMappingError",
    "Row",
    "find_mapping",
    "load_mapping",
    "read_table",
]

_BLANK_FLAGS = ("", "=", "0", "False")
_SENTINEL = re.compile(r"-9{2,}(\.9+|\.0)?")


@dataclass(slots=True)
class Row:
    """A row of a table.

    Attributes:
        number: number of the row, from 1.
        identifier: id of the row, from the template ``id`` of the mapping.
        observations: the observations to publish.
        problems: reasons why parts of the row cannot be published, with column and value.
        true_redshift: spectroscopic redshift, if the table has one; it is never published.
        published: the published redshifts by section of the mapping; each is also among the
            observations.
    """

    number: int
    identifier: str
    observations: list[Observation] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    true_redshift: float | None = None
    published: dict[str, PhotometricRedshift] = field(default_factory=dict)


Header = Callable[[int], Observation]
"""Makes the observation of the row with an index, without its payload."""

Maker = Callable[[int], Observation | None]
"""Makes the observation of the row with an index; None if there is nothing to publish.

Raises ValueError if there is something that cannot be published.
"""


def read_table(
    path: str | Path, mapping: Mapping, origins: list[Origin] | None = None
) -> Iterator[Row]:
    """Read the rows of a table with their observations.

    A cell that cannot be read is a problem of its row; the other rows are read nevertheless. The
    observations are not validated here.

    Args:
        path: the table; paths of joined tables are relative to its folder.
        mapping: the meaning of its columns.
        origins: list to which is added what was read, and from where.

    Raises:
        MappingError: the table cannot be read, or lacks a column that the mapping names.
    """
    columns = Columns(Path(path), mapping)
    identifier = columns.template("id", mapping.id)
    identifiers = [identifier(i) for i in range(columns.rows)]
    columns.origin("id", identifiers, "", mapping.id)
    catalogue = _Catalogue(columns, mapping, identifiers)
    makers: list[Maker] = [
        *(catalogue.photometry(i, group) for i, group in enumerate(mapping.photometry)),
        *(catalogue.line_spectrum(i, group) for i, group in enumerate(mapping.line_spectrum)),
    ]
    redshifts = {name: catalogue.redshift(name, each) for name, each in mapping.published.items()}
    if origins is not None:
        origins += columns.origins
    truth = np.full(columns.rows, np.nan)
    if mapping.truth is not None:
        truth = columns.measured_in(
            u.dimensionless_unscaled, "truth.redshift", mapping.truth.redshift
        )

    first_with: dict[str, int] = {}
    for index, name in enumerate(catalogue.identifiers):
        row = Row(index + 1, name, problems=columns.problems.get(index, []))
        if np.isfinite(truth[index]):
            row.true_redshift = float(truth[index])
        if not name:
            row.problems.append(f"id = {mapping.id!r} is empty in this row")
        elif first_with.setdefault(name, row.number) != row.number:
            row.problems.append(f"id = {name!r} is that of row {first_with[name]} too")
        elif problem := catalogue.position_problem(index):
            row.problems.append(problem)
        else:
            _fill(row, index, makers, redshifts)
        yield row


def _fill(row: Row, index: int, makers: list[Maker], redshifts: dict[str, Maker]) -> None:
    for section, make in (*((None, each) for each in makers), *redshifts.items()):
        try:
            observation = make(index)
        except ValueError as error:
            row.problems.append(str(error))
            continue
        if observation is not None:
            row.observations.append(observation)
            if section is not None and observation.photometric_redshift is not None:
                row.published[section] = observation.photometric_redshift


class _Catalogue:
    """Makes observations of the rows of one table."""

    def __init__(self, columns: Columns, mapping: Mapping, identifiers: list[str]) -> None:
        self.identifiers = identifiers
        self._columns = columns
        self._mapping = mapping
        right_ascension, declination, error = positions(columns, mapping.position)
        self._right_ascension = right_ascension.tolist()
        self._declination = declination.tolist()
        self._error = error.tolist()

    def position_problem(self, index: int) -> str | None:
        """Why the position of a row is unknown; None if it is known."""
        position = self._mapping.position
        values = (self._right_ascension[index], self._declination[index], self._error[index])
        if all(map(math.isfinite, values)):
            return None
        if position.designation is not None:
            texts = {
                name: self._columns.texts("position.designation", name)[index]
                for name in position.designation
            }
            held = ", ".join(f"{name} = {text!r}" for name, text in texts.items())
            return f"position.designation: {held} holds no full coordinates"
        axes = (position.right_ascension, position.declination)
        names = [*(axis if isinstance(axis, str) else f"{axis}" for axis in axes), "position error"]
        held = ", ".join(f"{name} = {value}" for name, value in zip(names, values, strict=True))
        return f"position: {held} is not a position"

    def photometry(self, number: int, group: PhotometryGroup) -> Maker:
        """A maker of the photometry of one instrument."""
        key = f"photometry[{number}]"
        header = self._header(key, group.instrument, group.time, group.bibcode, group.acquisition)
        if group.limit_sigma is not None:
            limits = f"{group.limit_sigma:g} errors where there is no flux"
            self._columns.origin(f"{group.instrument} limits", [limits], "", MAPPING)
        bands = [
            _Band.read(self._columns, f"{key}.bands[{i}]", band, group)
            for i, band in enumerate(group.bands)
        ]

        def make(index: int) -> Observation | None:
            measurements = [found for band in bands if (found := band.measurement(index))]
            if not measurements:
                return None
            return replace(header(index), photometry=Photometry(measurements))

        return make

    def redshift(self, name: str, published: Published) -> Maker:
        """A maker of a published photometric redshift."""
        key = f"published.{name}"
        method = published.method or name
        header = self._header(
            key,
            published.instrument or method,
            published.time,
            published.bibcode,
            AcquisitionFields(),
            suffix=f"redshift/{name}",
        )
        best = self._columns.measured_in(
            u.dimensionless_unscaled, f"{key}.redshift", published.redshift
        ).tolist()
        lower, upper = (each.tolist() for each in self._interval(key, published))

        def make(index: int) -> Observation | None:
            if not math.isfinite(best[index]):
                return None
            interval = (lower[index], upper[index])
            if not interval[0] <= best[index] <= interval[1]:  # False for NaN too
                interval = (None, None)
            return replace(
                header(index),
                photometric_redshift=PhotometricRedshift(method, best[index], *interval),
            )

        return make

    def _interval(self, key: str, published: Published) -> tuple[Numbers, Numbers]:
        columns = self._columns
        if published.error is not None:
            best = columns.measured_in(
                u.dimensionless_unscaled, f"{key}.redshift", published.redshift
            )
            error = columns.measured_in(u.dimensionless_unscaled, f"{key}.error", published.error)
            return np.maximum(best - error, 0.0), best + error
        if published.lower is not None and published.upper is not None:
            return (
                columns.measured_in(u.dimensionless_unscaled, f"{key}.lower", published.lower),
                columns.measured_in(u.dimensionless_unscaled, f"{key}.upper", published.upper),
            )
        unknown = np.full(columns.rows, np.nan)
        return unknown, unknown

    def line_spectrum(self, number: int, group: LineSpectrumGroup) -> Maker:
        """A maker of spectra simulated from line fluxes."""
        key = f"line_spectrum[{number}]"
        header = self._header(key, group.instrument, group.time, group.bibcode, group.acquisition)
        redshift, fwhm = self._redshift_and_width(key, group)
        lines_of = self._line_fluxes(key, group)
        coverage = group.coverage_ghz and (group.coverage_ghz[0] * 1e9, group.coverage_ghz[1] * 1e9)
        noise = None if group.noise_mjy is None else group.noise_mjy * 1e-3

        def make(index: int) -> Observation | None:
            fluxes = lines_of(index)
            if not fluxes:
                return None
            if not math.isfinite(redshift[index]):
                held = ", ".join(group.redshift)
                raise ValueError(f"{key}.redshift: {held} is missing in a row with line fluxes")
            if not math.isfinite(fwhm[index]):
                raise ValueError(
                    f"{key}.fwhm_km_s: {group.fwhm_km_s} is missing in a row with line fluxes"
                )
            lines = [
                PublishedLine(LINES_HZ[name] / (1.0 + redshift[index]), flux, error, fwhm[index])
                for name, flux, error in fluxes
            ]
            bare = header(index)
            spectrum = simulated_spectrum(
                lines, bare.observation_id, group.channel_km_s, group.window_km_s, coverage, noise
            )
            return replace(bare, spectrum=spectrum, simulated=True) if spectrum else None

        return make

    def _redshift_and_width(
        self, key: str, group: LineSpectrumGroup
    ) -> tuple[list[float], list[float]]:
        columns = self._columns
        redshift = columns.measured_in(
            u.dimensionless_unscaled, f"{key}.redshift[0]", group.redshift[0], group.missing
        )
        for place, name in enumerate(group.redshift[1:], 1):
            other = columns.measured_in(
                u.dimensionless_unscaled, f"{key}.redshift[{place}]", name, group.missing
            )
            redshift = np.where(np.isfinite(redshift), redshift, other)
        if isinstance(group.fwhm_km_s, str):
            fwhm = columns.measured_in(
                u.km / u.s, f"{key}.fwhm_km_s", group.fwhm_km_s, group.missing
            )
        else:
            fwhm = np.full(columns.rows, float(group.fwhm_km_s))
        if group.fwhm_where_missing_km_s is not None:
            fwhm = np.where(np.isfinite(fwhm), fwhm, group.fwhm_where_missing_km_s)
        return redshift.tolist(), fwhm.tolist()

    def _line_fluxes(
        self, key: str, group: LineSpectrumGroup
    ) -> Callable[[int], list[tuple[str, float, float]]]:
        """A function that gives names, fluxes and errors of the lines in the row with an index."""

        def column(part: str, name: str | None, what: str | None = None) -> list[float]:
            if name is None:
                return [0.0] * self._columns.rows
            return _listed(
                self._columns.measured_in(
                    u.Jy * u.km / u.s, f"{key}.{part}", name, group.missing, what
                )
            )

        if group.lines is None:
            assert group.line is not None
            named = self._columns.texts(f"{key}.line", group.line)
            flux, error = column("flux", group.flux), column("error", group.error)

            def one_line(index: int) -> list[tuple[str, float, float]]:
                if not (math.isfinite(flux[index]) and math.isfinite(error[index])):
                    return []
                name = group.aliases.get(named[index], named[index])
                if name not in LINES_HZ:
                    known = ", ".join(LINES_HZ)
                    raise ValueError(f"{group.line} = {named[index]!r} is none of {known}")
                return [(name, flux[index], error[index])]

            return one_line

        wide = []
        for place, line in enumerate(group.lines):
            if line.name not in LINES_HZ:
                raise MappingError(
                    f"mapping {self._mapping.name}: {key}.lines[{place}].name = {line.name!r} "
                    f"is none of {', '.join(LINES_HZ)}"
                )
            flux = column(f"lines[{place}].flux", line.flux, f"{line.name} flux")
            error = column(f"lines[{place}].error", line.error, f"{line.name} error")
            wide.append((line.name, flux, error))

        def all_lines(index: int) -> list[tuple[str, float, float]]:
            return [
                (name, flux[index], error[index])
                for name, flux, error in wide
                if math.isfinite(flux[index]) and math.isfinite(error[index])
            ]

        return all_lines

    def _header(
        self,
        key: str,
        instrument: str,
        time: date | float | str | None,
        bibcode: str | None,
        acquisition: AcquisitionFields,
        suffix: str | None = None,
    ) -> Header:
        mapping = self._mapping
        mjd = self._times(key if time is not None else "", mapping.time if time is None else time)
        acquired = self._acquisitions(key, acquisition, bibcode)
        self._columns.origin("instrument", [instrument], "", MAPPING)

        def header(index: int) -> Observation:
            return Observation(
                observation_id=f"{mapping.name}/{self.identifiers[index]}/{suffix or instrument}",
                instrument=instrument,
                right_ascension_deg=self._right_ascension[index],
                declination_deg=self._declination[index],
                position_error_arcsec=self._error[index],
                time_mjd=mjd[index],
                time_scale=mapping.time_scale,
                simulated=mapping.simulated,
                acquisition=acquired(index),
            )

        return header

    def _times(self, key: str, time: date | float | str) -> list[float]:
        if isinstance(time, date):
            time = float(Time(time.isoformat(), scale="utc").mjd)
        column_key = f"{key}.time".removeprefix(".")
        if not isinstance(time, str):
            self._columns.origin(column_key, [time], f"{self._mapping.time_scale} (MJD)", MAPPING)
            return _listed(self._columns.constant_or_column(column_key, time))
        return _listed(times(self._columns, column_key, time, self._mapping.time_format))

    def _acquisitions(
        self, key: str, fields: AcquisitionFields, bibcode: str | None
    ) -> Callable[[int], Acquisition]:
        found: dict[str, tuple[str, Any]] = {}  # later ones take precedence
        for place, section in (("", self._mapping.acquisition), (f"{key}.", fields)):
            for name, value in section.model_dump(exclude_none=True).items():
                found[name] = (f"{place}acquisition.{name}", value)
        for place, value in (("", self._mapping.bibcode), (f"{key}.", bibcode)):
            if value is not None:
                found["bibcode"] = (f"{place}bibcode", value)
        constants = {name: value for name, (_, value) in found.items()}
        templates = {
            name: self._columns.template(full_key, value)
            for name, (full_key, value) in found.items()
            if isinstance(value, str) and "{" in value
        }
        if not templates:
            constant = Acquisition(**constants)
            return lambda _: constant
        return lambda index: Acquisition(
            **(constants | {name: fill(index) or None for name, fill in templates.items()})
        )


@dataclass(frozen=True, slots=True)
class _Band:
    """A band with its columns in Jy; NaN where a value is missing."""

    name: str
    frequency_hz: float
    flux: list[float]
    error: list[float]
    limit: list[float]

    @classmethod
    def read(cls, columns: Columns, key: str, band: Band, group: PhotometryGroup) -> _Band:
        flux = columns.numbers(f"{key}.flux", band.flux)
        error = _errors(columns, key, band, group)
        absent = columns.is_missing(flux, group.missing) | columns.is_missing(error, group.missing)
        _require_sentinels(columns, band.flux, np.where(absent, np.nan, flux), group)
        limit = np.full(columns.rows, np.nan)
        if band.limit is not None:
            limit = columns.measured(f"{key}.limit", band.limit, group.missing)
        if group.largest_error is not None:
            absent |= error > group.largest_error
        shown = np.where(absent, np.nan, flux)
        units = _units(columns, key, band, group)
        flux, error, limit = _in_jansky(columns, key, band, units, flux, error, limit)
        flux, error = np.where(absent, np.nan, flux), np.where(absent, np.nan, error)
        flux, limit = _flagged(columns, key, band, group, flux, limit)
        unmeasured = np.isnan(flux)
        if group.limit_sigma is not None:
            not_detected = unmeasured & np.isnan(limit)
            limit = np.where(not_detected, group.limit_sigma * error, limit)
        sigma = group.limit_sigma or DEFAULT_LIMIT_SIGMA
        error = np.where(unmeasured & np.isnan(error), limit / sigma, error)
        _tell_incomplete(columns, band, shown, flux, error)
        _keep_origins(columns, band, group, units, (flux, error, limit))
        return cls(band.name, band.frequency_hz, flux.tolist(), error.tolist(), limit.tolist())

    def measurement(self, index: int) -> BandMeasurement | None:
        """The measurement or upper limit in a row; None without either."""
        flux, error, limit = self.flux[index], self.error[index], self.limit[index]
        if not math.isfinite(error):
            return None
        if math.isfinite(flux):
            return BandMeasurement(self.name, self.frequency_hz, flux, error)
        if math.isfinite(limit):
            return BandMeasurement(self.name, self.frequency_hz, None, error, limit)
        return None


def _errors(columns: Columns, key: str, band: Band, group: PhotometryGroup) -> Numbers:
    """Errors as the table or the mapping has them; of an error up and one down the larger.

    A value of either that means *not observed* stays.
    """
    if isinstance(band.error, list):
        sides = [columns.numbers(f"{key}.error[{i}]", name) for i, name in enumerate(band.error)]
        larger: Numbers = np.maximum.reduce(np.abs(sides))
        for name, side in zip(band.error, sides, strict=True):
            missing = columns.is_missing(side, group.missing)
            larger = np.where(missing, side, larger)
            _require_sentinels(columns, name, np.where(missing, np.nan, side), group)
        return larger
    if isinstance(band.error, str):
        return columns.numbers(f"{key}.error", band.error)
    return np.full(columns.rows, np.nan if band.error is None else float(band.error))


class _Units(NamedTuple):
    """Units of the flux, the error and the limit of a band."""

    flux: u.UnitBase
    error: u.UnitBase
    limit: u.UnitBase


def _units(columns: Columns, key: str, band: Band, group: PhotometryGroup) -> _Units:
    said = band.unit or group.unit
    unit = columns.unit(f"{key}.unit", band.flux, said)
    if unit is None:
        raise columns.wrong(f"{key}.unit", f"is not set, and column {band.flux!r} states none")

    def unit_of(word: str, column: str | None, own: str | None) -> u.UnitBase:
        if own is None and (said is not None or column is None):
            return unit
        found = columns.unit(f"{key}.{word}", column or band.flux, own)
        return unit if found in (None, u.dimensionless_unscaled) else found

    first = band.error[0] if isinstance(band.error, list) else band.error
    if isinstance(band.error, list) and said is None:
        units = [columns.unit(f"{key}.error_unit", each, band.error_unit) for each in band.error]
        if any(each != units[0] for each in units):
            raise columns.wrong(f"{key}.error", f"= {band.error} states different units")
    error_unit = unit_of(
        "error_unit",
        first if isinstance(first, str) else None,
        band.error_unit or group.error_unit,
    )
    limit_unit = unit_of("limit_unit", band.limit, band.limit_unit or group.limit_unit)
    return _Units(unit, error_unit, limit_unit)


def _in_jansky(
    columns: Columns,
    key: str,
    band: Band,
    units: _Units,
    flux: Numbers,
    error: Numbers,
    limit: Numbers,
) -> tuple[Numbers, Numbers, Numbers]:
    """Fluxes, errors and limits in Jy, each from its own unit; errors where there were none."""
    hz = band.frequency_hz
    word, name, own = "unit", band.flux, units.flux
    try:
        flux = in_jansky(flux, units.flux, hz)
        word, name, own = "error_unit", str(band.error), units.error
        error = error_in_jansky(error, units.error, flux, hz)
        if band.error_where_missing is not None:
            constant = np.full(columns.rows, band.error_where_missing)
            error = np.where(
                np.isnan(error), error_in_jansky(constant, units.error, flux, hz), error
            )
        elif band.percent_where_missing is not None:
            constant = np.full(columns.rows, band.percent_where_missing)
            error = np.where(np.isnan(error), error_in_jansky(constant, PERCENT, flux, hz), error)
        word, name, own = "limit_unit", str(band.limit), units.limit
        limit = in_jansky(limit, units.limit, hz)
    except u.UnitConversionError as problem:
        raise columns.wrong(f"{key}.{word}", f"= {own} (column {name!r}): {problem}") from problem
    return flux, error, limit


def _keep_origins(
    columns: Columns,
    band: Band,
    group: PhotometryGroup,
    units: _Units,
    values: tuple[Numbers, Numbers, Numbers],
) -> None:
    """Keep where the flux, the error and the limit of a band are from."""
    said = band.unit or group.unit
    said_of_error = band.error_unit or group.error_unit or said
    said_of_limit = band.limit_unit or group.limit_unit or said
    errors = []
    for error in band.error if isinstance(band.error, list) else [band.error]:
        if isinstance(error, str):
            errors.append(columns.read_in(error, units.error, said_of_error, "as the flux"))
        elif error is not None:
            errors.append(f"{error:g} {units.error} ({MAPPING})")
    if band.error_where_missing is not None:
        errors.append(f"else {band.error_where_missing:g} {units.error} ({MAPPING})")
    if band.percent_where_missing is not None:
        errors.append(f"else {band.percent_where_missing:g} % ({MAPPING})")
    limits = []
    if band.limit is not None:
        limits.append(columns.read_in(band.limit, units.limit, said_of_limit, "as the flux"))
    if band.limit_flag is not None:
        limits.append(f"the flux, by column {band.limit_flag}")
    sources = ([columns.read_in(band.flux, units.flux, said)], errors, limits)
    for what, numbers, source in zip(("flux", "error", "limit"), values, sources, strict=True):
        if source:
            columns.origin(f"{band.name} {what}", numbers, "Jy", ", ".join(source))


def _flagged(
    columns: Columns,
    key: str,
    band: Band,
    group: PhotometryGroup,
    flux: Numbers,
    limit: Numbers,
) -> tuple[Numbers, Numbers]:
    """Take fluxes for limits where a flag says so; fluxes with other flags are told and left out.

    A column that CDS would name as the flag of the flux, ``l_FLUX``, is not ignored either.
    """
    before, _, last = band.flux.rpartition(".")
    usual = f"{before}.l_{last}" if before else f"l_{last}"
    name = band.limit_flag or (usual if usual in columns.names else None)
    if name is None:
        return flux, limit
    flags = columns.texts(f"{key}.limit_flag", name)
    flux, limit = flux.copy(), limit.copy()
    for index, flag in enumerate(flags):
        if flag in _BLANK_FLAGS or np.isnan(flux[index]):
            continue
        if band.limit_flag is not None and flag in group.limit_values:
            limit[index] = flux[index]
        else:
            columns.note(
                index,
                f"{name} = {flag!r} marks {band.flux}: say with limit_flag = {name!r} and "
                f"limit_values what it means; {group.limit_values} are upper limits",
            )
        flux[index] = np.nan
    return flux, limit


def _require_sentinels(columns: Columns, name: str, flux: Numbers, group: PhotometryGroup) -> None:
    """Ask what values such as -99 mean, if the mapping says nothing of missing values.

    Raises:
        MappingError: there is such a value.
    """
    if group.missing is not None or columns.says_missing:
        return
    for index in np.flatnonzero(flux <= -99.0):
        if _SENTINEL.fullmatch(str(flux[index])):
            raise columns.wrong(
                "missing",
                f"is not set, and {name} = {flux[index]:g} in row {index + 1} may mean that "
                f"nothing was observed: set missing = [{flux[index]:g}], or [] if it is a flux",
            )


def _tell_incomplete(
    columns: Columns, band: Band, shown: Numbers, flux: Numbers, error: Numbers
) -> None:
    """Note rows whose flux cannot be published as it stands, which nothing else tells."""
    with np.errstate(invalid="ignore"):
        without = np.isfinite(shown) & ~np.isnan(flux) & ~np.isfinite(error)
    for index in np.flatnonzero(np.isinf(shown)).tolist():
        columns.note(index, f"{band.flux} = {shown[index]} is not a finite number")
    for index in np.flatnonzero(without).tolist():
        columns.note(
            index,
            f"{band.flux} = {shown[index]} has no error in {band.error}: set "
            "error_where_missing or percent_where_missing",
        )


def _listed(numbers: Numbers) -> list[float]:
    listed: list[float] = numbers.tolist()
    return listed
