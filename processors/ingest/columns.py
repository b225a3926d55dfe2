"""Reads the columns of a table, and of tables joined to it, as numbers, texts and templates."""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from astropy import units as u
from astropy.table import Column, MaskedColumn
from numpy.typing import NDArray

from mmbroker.processors.ingest.designations import MINUS_SIGNS
from mmbroker.processors.ingest.headers import Origin
from mmbroker.processors.ingest.mapping import Join, Mapping, MappingError
from mmbroker.processors.ingest.table_files import NO_NUMBER, read_columns
from mmbroker.processors.ingest.units import Numbers, unit_from
from mmbroker.schemas.wording import meant

__all__ = ["MAPPING", "Columns", "Flags", "Numbers"]

Flags = NDArray[np.bool_]

MAPPING = "mapping"
"""What says a value or a unit, where it is not the table."""

_TOO_WIDE = re.compile(r"\d{4}")
_FORTRAN_EXPONENT = re.compile(r"(?<=[\d.])[dD](?=[-+]?\d+$)")


class Columns:
    """The columns of a table and of the tables joined to it.

    Args:
        path: the first table.
        mapping: the meaning of its columns, and the tables to join.

    Attributes:
        rows: number of rows of the first table.
        problems: reasons why cells cannot be read, by index of the row.
        origins: what was read, and from where, with the first value that there is.
        said: what the file says of the first table as a whole, such as keywords of its header.

    Raises:
        MappingError: a table cannot be read, it has no column for the key of a join, or the key is
            not unique.
    """

    def __init__(self, path: Path, mapping: Mapping) -> None:
        self._path = path
        self._mapping = mapping
        self.numbers = cache(self._numbers)
        self.texts = cache(self._texts)
        self.problems: dict[int, list[str]] = {}
        self.origins: list[Origin] = []
        self._columns, self.said, self.rows = read_columns(
            path, mapping.table, mapping.name, mapping.time_scale, mapping.position.parts
        )
        for index, join in enumerate(mapping.join):
            self._join(f"join[{index}]", join)

    @property
    def names(self) -> list[str]:
        """Names of all columns; those of joined tables have their prefix."""
        return list(self._columns)

    @property
    def says_missing(self) -> bool:
        """Whether the mapping says which values mean *not observed*, or that none do."""
        return self._mapping.missing is not None

    @property
    def time_scale(self) -> str:
        """Scale of times, in which columns of times are given as MJDs."""
        return self._mapping.time_scale

    def _join(self, key: str, join: Join) -> None:
        path = self._path.parent / join.file
        other, _, _ = read_columns(
            path, join.table, self._mapping.name, self._mapping.time_scale, []
        )
        other_key = join.other_key or join.key
        if other_key not in other:
            raise self._no_column(f"{key}.other_key", other_key, path, list(other))
        names = [_text(cell) for cell in other[other_key]]
        places = {name: place for place, name in enumerate(names)}
        if len(places) != len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise self.wrong(key, f"{path} has {other_key} = {twice!r} twice")
        rows = [places.get(name, -1) for name in self.texts(f"{key}.key", join.key)]
        found = np.array(rows, dtype=int)
        for name, column in other.items():
            if not isinstance(column, Column) or not len(column):
                continue
            joined = MaskedColumn(column[found])
            joined.mask = joined.mask | (found < 0).reshape((-1,) + (1,) * (joined.ndim - 1))
            self._columns[f"{join.name}.{name}"] = joined

    def _numbers(self, key: str, column: str) -> Numbers:
        """A column as float64, shape (rows,); NaN where masked, empty or not a number.

        Raises:
            MappingError: there is no such column, or it cannot hold numbers.
        """
        cells = self.column(key, column)
        if cells.dtype.kind in "fiub" and cells.ndim == 1:
            return np.ma.filled(np.ma.asarray(cells, dtype=np.float64), np.nan)
        if cells.dtype.kind not in "USO" or cells.ndim != 1:
            shape = f"{cells.dtype}, shape {cells.shape}"
            raise self.wrong(key, f"= {column!r} is a column of {shape}, not of numbers")
        numbers = np.full(self.rows, np.nan)
        for index, cell in enumerate(cells):
            text = _text(cell).translate(MINUS_SIGNS)
            if text.lower() in NO_NUMBER:
                continue
            try:
                numbers[index] = _number(text)
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
        for value in (self._mapping.missing if missing is None else missing) or ():
            flags |= np.isclose(numbers, value, rtol=1e-6, atol=0.0)
        return flags

    def constant_or_column(self, key: str, value: float | str) -> Numbers:
        """A constant, repeated for each row, or the column with the given name."""
        if isinstance(value, str):
            return self.measured(key, value)
        return np.full(self.rows, float(value))

    def _texts(self, key: str, column: str) -> list[str]:
        """A column as text, empty where masked."""
        return [_text(cell) for cell in self.column(key, column)]

    def is_text(self, key: str, column: str) -> bool:
        """Whether a column holds text."""
        return self.column(key, column).dtype.kind in "USO"

    def unit(self, key: str, column: str, said: str | None = None) -> u.UnitBase | None:
        """The unit of a column: the one that the mapping says, else the one that the table states.

        Args:
            key: key of the mapping that says it, or would.
            column: name of the column.
            said: what the mapping says.

        Returns:
            The unit; None if none is stated.

        Raises:
            MappingError: there is no such column, or what is said or stated is no unit.
        """
        stated = self.unit_text(key, column)
        if said is None and stated is None:
            return None
        try:
            return unit_from(said if said is not None else stated or "")
        except ValueError as error:
            if said is not None:
                raise self.wrong(key, f"= {said!r} {error}") from error
            raise self.wrong(
                key, f"is not set: column {column!r} states {stated!r}, which {error}"
            ) from error

    def read_in(
        self, column: str, unit: u.UnitBase, said: str | None = None, default: str = "default"
    ) -> str:
        """In words: a column is read in a unit, and who says so: the mapping, the table, nobody."""
        stated = self.unit_text("", column) is not None
        by = MAPPING if said is not None else "table" if stated else default
        return f"column {column} in {unit} ({by})"

    def origin(self, what: str, values: Sequence[Any] | Numbers, unit: str, source: str) -> None:
        """Keep what was read, and from where, with the first value that there is."""
        known = (place for place, value in enumerate(values) if value == value and value != "")
        place = next(known, None)
        value = "none" if place is None else f"{_shown(values[place])} {unit}".strip()
        row = f" (row {place + 1})" if place else ""
        if (found := Origin(what, value + row, source)) not in self.origins:
            self.origins.append(found)

    def unit_text(self, key: str, column: str) -> str | None:
        """The unit that the table states for a column, as text; None if it states none."""
        unit = self.column(key, column).unit
        return None if unit is None else (str(unit).strip() or None)

    def measured_in(
        self,
        target: u.UnitBase,
        key: str,
        column: str,
        missing: Sequence[float] | None = None,
        what: str | None = None,
    ) -> Numbers:
        """As ``measured``, in the target unit; a column that states no unit has it already.

        Args:
            target: the unit.
            key: key of the mapping that names the column.
            column: name of the column.
            missing: values that mean *not observed*; by default those of the mapping.
            what: what it is, in words; by default the key within its section.

        Raises:
            MappingError: the table states a unit that cannot be converted.
        """
        numbers = self.measured(key, column, missing)
        unit = self.unit(key, column)
        if unit is not None and unit != target:
            try:
                numbers = numbers * float(unit.to(target))
            except u.UnitConversionError as error:
                raise self.wrong(
                    key, f"= {column!r} states the unit {unit}, not {target or 'a pure number'}"
                ) from error
        pure = target == u.dimensionless_unscaled
        source = f"column {column}" if pure else self.read_in(column, unit or target)
        self.origin(what or key.partition(".")[2], numbers, str(target), source)
        return numbers

    def template(self, key: str, template: str) -> Callable[[int], str]:
        """A function that fills a template from the columns of the row with a given index."""
        parts = []
        try:
            parsed = list(string.Formatter().parse(template))
        except ValueError as error:
            raise self.wrong(key, f"= {template!r}: {error}") from error
        for literal, column, form, _ in parsed:
            if _TOO_WIDE.search(form or ""):
                raise self.wrong(key, f"= {template!r}: {form!r} makes texts of 1,000 and more")
            cells = None if column is None else self.column(key, column)
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

    def column(self, key: str, column: str) -> Column:
        """A column with what the table says of it.

        Raises:
            MappingError: there is no such column, or it can be neither numbers nor text.
        """
        if column not in self._columns:
            raise self._no_column(key, column, self._path, list(self._columns))
        cells = self._columns[column]
        if isinstance(cells, Column):
            return cells
        parts = [name for name in self._columns if name.startswith(f"{column}.")]
        named = f"; name {' or '.join(parts)}" if parts else ""
        kind = type(cells).__name__
        raise self.wrong(key, f"= {column!r} is a column of {kind}, not of numbers or text{named}")

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


def _number(text: str) -> float:
    """A number as tables write it, also with Fortran's exponent: ``1.5D-3``.

    Raises:
        ValueError: it is none; ``1_000`` is one for Python alone.
    """
    if "_" in text:
        raise ValueError(text)
    return float(_FORTRAN_EXPONENT.sub("e", text))


def _shown(value: Any) -> str:
    return f"{value:.10g}" if isinstance(value, float) else str(value)


def _text(cell: Any) -> str:
    if cell is np.ma.masked:
        return ""
    return (cell.decode("utf-8", "replace") if isinstance(cell, bytes) else str(cell)).strip()


def _formatted(cell: Any, form: str) -> str:
    if cell is np.ma.masked:
        return ""
    return format(cell, form) if form else _text(cell)
