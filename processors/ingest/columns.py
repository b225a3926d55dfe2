"""Reads the columns of a table, and of tables joined to it, as numbers, texts and templates."""

from __future__ import annotations

import string
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from astropy import units as u
from astropy.table import Column, MaskedColumn, Table
from numpy.typing import NDArray

from mmbroker.processors.ingest.mapping import Join, Mapping, MappingError, TableFormat
from mmbroker.schemas.wording import meant

Numbers = NDArray[np.float64]
Flags = NDArray[np.bool_]

_FORMATS = {
    ".ecsv": "ascii.ecsv",
    ".csv": "ascii.csv",
    ".fits": "fits",
    ".fit": "fits",
    ".vot": "votable",
    ".votable": "votable",
    ".xml": "votable",
}
MINUS_SIGNS = str.maketrans({"−": "-", "–": "-"})
_NO_NUMBER = frozenset({"", "-", "--", "---", "...", "nan", "null", "none", "n/a"})


class Columns:
    """The columns of a table and of the tables joined to it.

    Args:
        path: the first table.
        mapping: the meaning of its columns, and the tables to join.

    Attributes:
        rows: number of rows of the first table.
        problems: reasons why cells cannot be read, by index of the row.

    Raises:
        MappingError: a table cannot be read, it has no column for the key of a join, or the key is
            not unique.
    """

    def __init__(self, path: Path, mapping: Mapping) -> None:
        self._path = path
        self._mapping = mapping
        table = _read(path, mapping.table, mapping.name)
        self.numbers = cache(self._numbers)
        self.texts = cache(self._texts)
        self.rows = len(table)
        self.problems: dict[int, list[str]] = {}
        self._columns: dict[str, Any] = {name: table[name] for name in table.colnames}
        for index, join in enumerate(mapping.join):
            self._join(f"join[{index}]", join)

    @property
    def names(self) -> list[str]:
        """Names of all columns; those of joined tables have their prefix."""
        return list(self._columns)

    def _join(self, key: str, join: Join) -> None:
        path = self._path.parent / join.file
        other = _read(path, join.table, self._mapping.name)
        other_key = join.other_key or join.key
        if other_key not in other.colnames:
            raise self._no_column(f"{key}.other_key", other_key, path, other.colnames)
        names = [_text(cell) for cell in other[other_key]]
        places = {name: place for place, name in enumerate(names)}
        if len(places) != len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise self.wrong(key, f"{path} has {other_key} = {twice!r} twice")
        found = np.array([places.get(name, -1) for name in self.texts(f"{key}.key", join.key)])
        for column in other.colnames:
            joined = MaskedColumn(other[column][found])
            joined.mask = joined.mask | (found < 0)
            self._columns[f"{join.name}.{column}"] = joined

    def _numbers(self, key: str, column: str) -> Numbers:
        """A column as float64, shape (rows,); NaN where masked, empty or not a number.

        Raises:
            MappingError: there is no such column, or it cannot hold numbers.
        """
        cells = self._column(key, column)
        if cells.dtype.kind in "fiub" and cells.ndim == 1:
            return np.ma.filled(np.ma.asarray(cells, dtype=np.float64), np.nan)
        if cells.dtype.kind not in "USO" or cells.ndim != 1:
            shape = f"{cells.dtype}, shape {cells.shape}"
            raise self.wrong(key, f"= {column!r} is a column of {shape}, not of numbers")
        numbers = np.full(self.rows, np.nan)
        for index, cell in enumerate(cells):
            text = _text(cell).translate(MINUS_SIGNS)
            if text.lower() in _NO_NUMBER:
                continue
            try:
                numbers[index] = float(text)
            except ValueError:
                self.note(index, f"{column} = {text!r} is not a number")
        return numbers

    def measured(self, key: str, column: str, missing: Sequence[float] | None = None) -> Numbers:
        """As ``numbers``, but also NaN where the value means *not observed*."""
        numbers: Numbers = self.numbers(key, column).copy()
        numbers[self.is_missing(numbers, missing)] = np.nan
        return numbers

    def is_missing(self, numbers: Numbers, missing: Sequence[float] | None = None) -> Flags:
        """Whether each number is one of the values that mean *not observed*; False for NaN."""
        flags: Flags = np.zeros(len(numbers), dtype=bool)
        for value in self._mapping.missing if missing is None else missing:
            flags |= np.isclose(numbers, value, rtol=1e-6, atol=0.0)
        return flags

    def constant_or_column(self, key: str, value: float | str) -> Numbers:
        """A constant, repeated for each row, or the column with the given name."""
        if isinstance(value, str):
            return self.measured(key, value)
        return np.full(self.rows, float(value))

    def _texts(self, key: str, column: str) -> list[str]:
        """A column as text, empty where masked."""
        return [_text(cell) for cell in self._column(key, column)]

    def is_text(self, key: str, column: str) -> bool:
        """Whether a column holds text."""
        return self._column(key, column).dtype.kind in "USO"

    def unit(self, key: str, column: str) -> u.UnitBase | None:
        """The unit that the table states for a column; None if it states none."""
        unit = self._column(key, column).unit
        return None if unit is None or isinstance(unit, u.UnrecognizedUnit) else unit

    def template(self, key: str, template: str) -> Callable[[int], str]:
        """A function that fills a template from the columns of the row with a given index."""
        parts = []
        try:
            parsed = list(string.Formatter().parse(template))
        except ValueError as error:
            raise self.wrong(key, f"= {template!r}: {error}") from error
        for literal, column, form, _ in parsed:
            cells = None if column is None else self._column(key, column)
            parts.append((literal, cells, form or ""))
        if all(cells is None for _, cells, _ in parts):
            constant = "".join(literal for literal, _, _ in parts)
            return lambda _: constant

        def fill(index: int) -> str:
            try:
                return "".join(
                    literal + ("" if cells is None else _formatted(cells[index], form))
                    for literal, cells, form in parts
                ).strip()
            except ValueError as error:
                raise self.wrong(key, f"= {template!r}, row {index + 1}: {error}") from error

        return fill

    def _column(self, key: str, column: str) -> Column:
        if column not in self._columns:
            raise self._no_column(key, column, self._path, list(self._columns))
        return self._columns[column]

    def note(self, index: int, problem: str) -> None:
        """Keep a problem of a row."""
        self.problems.setdefault(index, []).append(problem)

    def wrong(self, key: str, reason: str) -> MappingError:
        """Make an error that says what is wrong with a key of the mapping."""
        return MappingError(f"{self._path}, mapping {self._mapping.name}: {key} {reason}")

    def _no_column(self, key: str, column: str, path: Path, there: list[str]) -> MappingError:
        return self.wrong(
            key,
            f"= {column!r}: {path} has no such column{meant(column, there)}; its columns are "
            f"{', '.join(there)}",
        )


def _read(path: Path, form: TableFormat, mapping: str) -> Table:
    if not path.is_file():
        raise MappingError(f"mapping {mapping}: {path}: there is no such file")
    suffix = path.with_suffix("").suffix if path.suffix == ".gz" else path.suffix
    options: dict[str, Any] = {"format": form.format or _FORMATS.get(suffix.lower(), "ascii")}
    if options["format"].startswith("ascii"):
        options |= {"names": form.columns} if form.columns else {}
        options |= {"delimiter": form.delimiter} if form.delimiter else {}
        options |= {"comment": form.comment} if form.comment else {}
        if options["format"] != "ascii.ecsv":
            options |= {"guess": options["format"] == "ascii", "encoding": "utf-8-sig"}
    elif form.hdu is not None:
        options["hdu"] = form.hdu
    try:
        return Table.read(path, **options)
    except Exception as error:  # astropy's readers raise errors of every kind
        raise MappingError(f"mapping {mapping}: {path} cannot be read: {error}") from error


def _text(cell: Any) -> str:
    if cell is np.ma.masked:
        return ""
    return (cell.decode("utf-8", "replace") if isinstance(cell, bytes) else str(cell)).strip()


def _formatted(cell: Any, form: str) -> str:
    if cell is np.ma.masked:
        return ""
    return format(cell, form) if form else _text(cell)
