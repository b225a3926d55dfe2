"""Reads mapping files, which say what the columns of a table mean.

A mapping is a small TOML file. It says which table it is for, which columns have the position, the
time and the id of each row, which columns hold flux densities in which unit, and which values mean
*not observed*. The included ones in ``processors/ingest/mappings`` are examples to copy. A mapping
beside a table and with its name (``survey.fits``, ``survey.toml``) is found automatically.

A value that is text names a column; a number is a constant. Text with braces, such as
``"{field}/{id}"``, is a template filled from the columns of the row.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from datetime import date
from fnmatch import fnmatch
from functools import cached_property
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, Literal, Self

from astropy import units as u
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from mmbroker.schemas.events import Quality, TimeScale
from mmbroker.schemas.wording import fault, unit_problem

DEFAULT_LIMIT_SIGMA = 3.0
COMPRESSED = (".gz", ".bz2", ".xz", ".zip")


LARGEST_BYTES = 2**20
"""A mapping may have come with a table, from anywhere; a larger one is refused unread."""


class MappingError(ValueError):
    """Raised if a mapping is wrong or does not fit its table; the message names key and file."""


class NoMappingError(MappingError):
    """Raised if there is no mapping for a table, or no single one."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TableFormat(_Section):
    """How a table is read; by default its format follows from the suffix of the file.

    Attributes:
        format: a format of ``astropy.table.Table.read``, e.g. ``ascii.no_header``.
        columns: names of the columns of a table without a header.
        delimiter: character between the columns of a text table.
        comment: regular expression for the beginning of a line that is not data.
        hdu: number or name of the extension of a FITS file, or of the table in a VOTable; needed
            where there are several.
    """

    format: str | None = None
    columns: list[str] | None = None
    delimiter: str | None = None
    comment: str | None = None
    hdu: int | str | None = None


class Join(_Section):
    """Another table with more columns on the same galaxies.

    Attributes:
        name: prefix of its columns: ``flux = "d1.S_3mm"``.
        file: its path, relative to the first table.
        key: column in the first table by which rows are joined. Each value may occur only once in
            the other table.
        other_key: that column in the other table; by default ``key``.
        table: how the other table is read.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9_]+$")
    file: str
    key: str
    other_key: str | None = None
    table: TableFormat = TableFormat()


class Position(_Section):
    """Where the galaxy is: two columns, or a designation such as ``H-ATLASJ083051.0+013224``.

    Attributes:
        right_ascension, declination: a column each, of numbers or sexagesimal text; or the columns
            of hours, minutes and seconds, and those of sign (if it has one of its own), degrees,
            arcminutes and arcseconds: ``["RAh", "RAm", "RAs"]``, ``["DE-", "DEd", "DEm", "DEs"]``.
        right_ascension_unit, declination_unit: unit of numbers, or of the first of several columns
            or of sexagesimal text; by default the one that the table states, else degrees for
            numbers, and hours and degrees for the others.
        designation: columns with designations; the first that contains coordinates is used.
        error_arcsec: 1 sigma error on each axis, a constant in arcsec or a column. With a
            designation, the error due to its truncation is added in quadrature.
        error_unit: unit of that column; by default the one that the table states, else arcsec.
        frame: ``icrs``, ``fk5``, ``fk4``, ``galactic`` or another frame of ``astropy.coordinates``
            that does not depend on the observer; positions are converted to ICRS. By default
            ``icrs``; a table that states another frame is then refused.
        equinox: equinox of the frame, e.g. ``"B1950"``; by default that of the frame in astropy.
        epoch: time at which positions in ``fk4`` were observed; by default the equinox.
    """

    right_ascension: str | list[str] | None = None
    declination: str | list[str] | None = None
    right_ascension_unit: str | None = None
    declination_unit: str | None = None
    designation: list[str] | None = None
    error_arcsec: float | str
    error_unit: str | None = None
    frame: str | None = None
    equinox: str | None = None
    epoch: str | None = None

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        columns = self.right_ascension is not None and self.declination is not None
        if columns == (self.designation is not None):
            raise ValueError("set right_ascension and declination, or designation")
        if not columns and (self.right_ascension_unit or self.declination_unit):
            raise ValueError("a designation has no unit")
        if self.error_unit is not None and not isinstance(self.error_arcsec, str):
            raise ValueError("error_unit is that of a column; a constant is in arcsec")
        return self

    @property
    def columns(self) -> list[str]:
        """The columns that positions are read from, without that of their error."""
        axes = (self.right_ascension or [], self.declination or [], self.designation or [])
        return [name for axis in axes for name in ([axis] if isinstance(axis, str) else axis)]

    @property
    def parts(self) -> list[str]:
        """The columns that hold parts of a position, whose text may have the sign."""
        axes = (self.right_ascension, self.declination)
        return [name for axis in axes if isinstance(axis, list) for name in axis]


class AcquisitionFields(_Section):
    """How the data were taken; every text is a template."""

    project: str | None = None
    observing_unit: str | None = None
    quality: Quality | None = None
    calibration: str | None = None
    array: str | None = None
    integration_time_s: float | None = None
    data_url: str | None = None


class _Group(_Section):
    instrument: str
    bibcode: str | None = None
    time: date | float | str | None = None
    acquisition: AcquisitionFields = AcquisitionFields()


class _Units(_Section):
    unit: str | None = None
    error_unit: str | None = None
    limit_unit: str | None = None


class Band(_Units):
    """One band of a photometric table.

    Attributes:
        name: name of the band.
        flux: column with flux density or magnitude.
        error: column with its 1 sigma error, or a constant; or the columns of an error up and an
            error down, of which the larger is taken.
        error_where_missing: 1 sigma error where ``error`` is blank, or not set, in its unit.
        percent_where_missing: the same in per cent of the flux.
        wavelength, frequency: exactly one of them, e.g. ``"500 um"``, ``"1.4 GHz"``.
        limit: column with an upper limit, which is used where there is no flux.
        limit_flag: column that says by one of ``limit_values`` that the flux is an upper limit.
        unit, error_unit, limit_unit: as in the group, which they take precedence over.
    """

    name: str
    flux: str
    error: str | float | list[str] | None = None
    error_where_missing: float | None = Field(default=None, gt=0)
    percent_where_missing: float | None = Field(default=None, gt=0)
    wavelength: str | None = None
    frequency: str | None = None
    limit: str | None = None
    limit_flag: str | None = None

    @model_validator(mode="after")
    def _an_error(self) -> Self:
        fallbacks = [self.error_where_missing, self.percent_where_missing]
        if None not in fallbacks:
            raise ValueError("set error_where_missing or percent_where_missing, not both")
        if self.error in (None, []) and fallbacks == [None, None]:
            raise ValueError("set error, or error_where_missing or percent_where_missing")
        return self

    @property
    def columns(self) -> list[str]:
        """The columns that the band is read from."""
        errors = self.error if isinstance(self.error, list) else [self.error]
        named = (self.flux, *errors, self.limit, self.limit_flag)
        return [name for name in named if isinstance(name, str)]

    @model_validator(mode="after")
    def _one_axis(self) -> Self:
        if (self.wavelength is None) == (self.frequency is None):
            raise ValueError("set wavelength or frequency")
        if self.frequency_hz <= 0:
            raise ValueError(f"{self.wavelength or self.frequency} is not positive")
        return self

    @cached_property
    def frequency_hz(self) -> float:
        """Effective frequency in Hz."""
        text = self.wavelength or self.frequency
        try:
            return float(u.Quantity(text).to_value(u.Hz, u.spectral()))
        except (TypeError, u.UnitConversionError) as error:
            raise ValueError(f"{text!r} is neither a wavelength nor a frequency") from error
        except ValueError as error:
            raise ValueError(unit_problem(error)) from error


class PhotometryGroup(_Group, _Units):
    """The bands of one instrument, which make one observation for each row.

    Attributes:
        unit: unit of fluxes, errors and limits; ``ABmag`` for AB magnitudes. By default each
            column's own, as the table states it; an error or limit without one has that of the
            flux.
        error_unit, limit_unit: those of errors and limits where they differ; ``%`` for errors in
            per cent of the flux.
        missing: values of flux or error that mean *not observed*; by default those of the mapping.
            NaN and masked fluxes always do, but see ``limit_sigma``.
        largest_error: a larger error, in the unit of the column, means *not observed*, too.
        limit_sigma: set it if a flux of NaN with an error is a non-detection. Its upper limit is
            then this number of errors.
        limit_values: values of the columns ``limit_flag`` that mark an upper limit.
    """

    bands: list[Band] = Field(min_length=1)
    missing: list[float] | None = None
    largest_error: float | None = Field(default=None, gt=0)
    limit_sigma: float | None = Field(default=None, gt=0)
    limit_values: list[str] = ["<"]


class LineColumns(_Section):
    """One emission line of a wide table.

    Attributes:
        name: name of the line, e.g. ``CO(3-2)``.
        flux, error: columns with velocity-integrated flux and its 1 sigma error, in the unit that
            the table states, else in Jy km/s. The error may be left out if ``noise_mjy`` is set.
    """

    name: str
    flux: str
    error: str | None = None


class LineSpectrumGroup(_Group):
    """Spectra simulated from published line fluxes: never a measurement, always labelled simulated.

    Lines are Gaussian. Either ``lines`` names the columns of each line, with one row for each
    galaxy. Or ``line``, ``flux`` and ``error`` name the columns for a single line in each row.

    Attributes:
        redshift: columns with redshifts, of which the first that is not missing is used.
        fwhm_km_s: column with the full width at half maximum of the lines, in the unit that the
            table states, else in km/s; or a constant.
        fwhm_where_missing_km_s: width that is used where the value of that column is missing.
        aliases: names of lines in the table, each with the name that is used here.
        missing: values that mean *not observed*; by default those of the mapping.
        window_km_s: range that is covered on each side of a line, without ``coverage_ghz``.
        coverage_ghz: lowest and highest covered frequency.
        noise_mjy: 1 sigma noise of a channel; by default such that the published signal-to-noise
            ratio results.
        channel_km_s: width of a channel.
    """

    redshift: list[str] = Field(min_length=1)
    fwhm_km_s: float | str
    fwhm_where_missing_km_s: float | None = Field(default=None, gt=0)
    lines: list[LineColumns] | None = None
    line: str | None = None
    flux: str | None = None
    error: str | None = None
    aliases: dict[str, str] = {}
    missing: list[float] | None = None
    window_km_s: float = Field(default=1500.0, gt=0)
    coverage_ghz: tuple[float, float] | None = None
    noise_mjy: float | None = Field(default=None, gt=0)
    channel_km_s: float = Field(default=50.0, gt=0)

    @model_validator(mode="after")
    def _one_form(self) -> Self:
        if (self.line is not None and self.flux is not None) == (self.lines is not None):
            raise ValueError("set lines, or line and flux")
        errors = [self.error] if self.lines is None else [line.error for line in self.lines]
        if self.noise_mjy is None and None in errors:
            raise ValueError("set noise_mjy, or the error of every line")
        if self.coverage_ghz is not None and self.noise_mjy is None:
            raise ValueError("coverage_ghz needs noise_mjy")
        if self.coverage_ghz is not None and not 0 < self.coverage_ghz[0] < self.coverage_ghz[1]:
            raise ValueError("coverage_ghz must be two frequencies, the lower first")
        return self


class Published(_Section):
    """A published photometric redshift, which makes one observation for each row.

    An interval that does not contain the estimate is left out.

    Attributes:
        redshift: column with the estimate.
        method: code and template set; by default the name of the section.
        lower, upper: columns with the ends of the 68 % interval.
        error: column with a symmetric 1 sigma error, instead of the ends.
        instrument: instrument of the observation; by default the method.
    """

    redshift: str
    method: str | None = None
    lower: str | None = None
    upper: str | None = None
    error: str | None = None
    instrument: str | None = None
    bibcode: str | None = None
    time: date | float | str | None = None

    @model_validator(mode="after")
    def _both_ends(self) -> Self:
        if (self.lower is None) != (self.upper is None):
            raise ValueError("set lower and upper, or neither")
        if self.error is not None and self.lower is not None:
            raise ValueError("set error, or lower and upper")
        return self


class Truth(_Section):
    """The spectroscopic redshift, which is never published; estimates are compared with it.

    Attributes:
        redshift: column with the redshift.
    """

    redshift: str


class Mapping(_Section):
    """A mapping file.

    Attributes:
        name: name of the catalogue, with which the observation ids begin.
        files: patterns of the names of the files that it is for.
        id: template of the text that identifies a row within the table.
        time: time of the observations: a date, an MJD or a column with MJDs, times or ISO dates.
        time_format: what numbers in a column of times are, if not MJDs.
        missing: values that mean *not observed* in any column; ``[]`` says that there are none.
        simulated: whether the table is simulated data.
    """

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,60}$")
    description: str = ""
    files: list[str] = []
    table: TableFormat = TableFormat()
    join: list[Join] = []
    id: str
    position: Position
    time: date | float | str
    time_scale: TimeScale = "UTC"
    time_format: Literal["mjd", "jd", "decimalyear"] | None = None
    bibcode: str | None = None
    simulated: bool = False
    missing: list[float] | None = None
    acquisition: AcquisitionFields = AcquisitionFields()
    photometry: list[PhotometryGroup] = []
    line_spectrum: list[LineSpectrumGroup] = []
    published: dict[str, Published] = {}
    truth: Truth | None = None

    @field_validator("id")
    @classmethod
    def _id_varies(cls, template: str) -> str:
        if not re.search(r"{[^}]+}", template):
            raise ValueError("names no column: write it in braces, e.g. {id}")
        return template

    @model_validator(mode="after")
    def _instruments_are_distinct(self) -> Self:
        instruments = [group.instrument for group in (*self.photometry, *self.line_spectrum)]
        for instrument in instruments:
            if instruments.count(instrument) > 1:
                raise ValueError(f"instrument {instrument!r} has two sections: put them together")
        return self


def load_mapping(name_or_path: str | Path) -> Mapping:
    """Load the included mapping with a name, or the mapping in a file.

    Raises:
        MappingError: there is no such mapping, or the file is not a mapping; the message then names
            the key.
    """
    path = Path(name_or_path)
    if path.suffix == ".toml":
        if not path.is_file():
            raise MappingError(f"mapping {path}: there is no such file")
        return _parsed(path)
    for file in _included_files():
        if file.name == f"{name_or_path}.toml":
            return _parsed(file)
    raise MappingError(
        f"mapping {str(name_or_path)!r}: there is none; included are {', '.join(included())}; "
        "a path must end in .toml"
    )


def find_mapping(path: Path) -> Mapping:
    """Find the mapping for a table: the one beside it, else the included one for its file name.

    Raises:
        NoMappingError: there is no mapping, or more than one.
        MappingError: the file beside the table is not a mapping, or joins files of other folders.
    """
    beside = mapping_beside(path)
    if beside.is_file():
        return _within_its_folder(path, _parsed(beside))
    mappings = [_parsed(file) for file in _included_files()]
    fitting = [
        mapping
        for mapping in mappings
        if any(fnmatch(path.name, pattern) for pattern in mapping.files)
    ]
    if len(fitting) == 1:
        return _within_its_folder(path, fitting[0])
    for mapping in mappings:
        if path.name in (join.file for join in mapping.join):
            raise NoMappingError(
                f"{path}: mapping {mapping.name} reads this table together with "
                f"{', '.join(mapping.files)}: give that one"
            )
    named = ", ".join(mapping.name for mapping in fitting or mappings)
    said = "several mappings fit" if fitting else "no mapping fits this file name"
    kinds = "" if fitting else "; tables are ECSV, FITS, CSV or VOTable, spectra and maps are FITS"
    raise NoMappingError(
        f"{path}: {said} ({named}); name one (--mapping), or put {beside.name} beside the table"
        f"{kinds}"
    )


def mapping_beside(path: Path) -> Path:
    """Where a mapping for a table lies that is found by itself: ``survey.toml``."""
    whole = path.with_suffix(".toml")
    if path.suffix.lower() not in COMPRESSED or whole.is_file():
        return whole
    return path.with_suffix("").with_suffix(".toml")


def _within_its_folder(path: Path, mapping: Mapping) -> Mapping:
    """The mapping; nobody named it, so it may have come with the table, from anywhere.

    Raises:
        MappingError: it joins a file outside of the folder of the table.
    """
    folder = path.parent.resolve()
    for index, join in enumerate(mapping.join):
        inside = (folder / join.file).resolve().is_relative_to(folder)
        if not inside or Path(join.file).is_absolute() or ".." in Path(join.file).parts:
            raise MappingError(
                f"{path}, mapping {mapping.name}: join[{index}].file = {join.file!r} is not in the "
                "folder of the table; if it is to be read, name the mapping with --mapping"
            )
    return mapping


def included() -> list[str]:
    """Names of the included mappings."""
    return [file.name.removesuffix(".toml") for file in _included_files()]


def _included_files() -> Iterator[Traversable]:
    folder = resources.files("mmbroker.processors.ingest") / "mappings"
    yield from sorted(
        (file for file in folder.iterdir() if file.name.endswith(".toml")),
        key=lambda file: file.name,
    )


def _parsed(file: Traversable | Path) -> Mapping:
    with file.open("rb") as opened:
        text = opened.read(LARGEST_BYTES + 1)
    if len(text) > LARGEST_BYTES:
        raise MappingError(f"mapping {file}: it has more than {LARGEST_BYTES:,} bytes")
    try:
        content: dict[str, Any] = tomllib.loads(text.decode("utf-8"))
        return Mapping.model_validate(content)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MappingError(f"mapping {file}: {error}") from error
    except ValidationError as error:
        problems = "; ".join(
            fault(problem, Mapping, _key(problem["loc"])) for problem in error.errors()
        )
        raise MappingError(f"mapping {file}: {problems}") from error


def _key(location: tuple[int | str, ...]) -> str:
    """``photometry[0].bands[2].flux`` from the location of a validation error."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    return text.removeprefix(".") or "mapping"
