"""Converts event dataclasses to Avro records and back.

A dataclass and its Avro record have the same field names, except for tables. Four kinds of field
differ in value: numeric arrays (``bytes`` on the wire), nested dataclasses, lists of them, and
tables, which are columns on the wire. The conversion of a class is generated once, as source code.
"""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import cache
from itertools import starmap
from operator import attrgetter
from typing import Any, TypeVar

import numpy as np

Record = dict[str, Any]
T = TypeVar("T")
Conversion = Callable[[Any], Any]
Field = dataclasses.Field[Any]


class Wire:
    """Marks a dataclass field, through ``Annotated``, as an array that travels as bytes.

    Args:
        dtype: numpy dtype on the wire, e.g. ``"<f4"``.
        tail: lengths of all axes but the first; the length of the first follows from the bytes.
    """

    def __init__(self, dtype: str, *tail: int) -> None:
        self.dtype = np.dtype(dtype)
        self.shape = (-1, *tail) if tail else None

    def to_wire(self, value: np.ndarray[Any, Any]) -> bytes:
        """The bytes of an array."""
        return np.ascontiguousarray(value, dtype=self.dtype).tobytes()

    def from_wire(self, value: bytes) -> np.ndarray[Any, Any]:
        """A read-only array from its bytes.

        Raises:
            ValueError: the bytes are not a whole number of elements.
        """
        flat: np.ndarray[Any, Any] = np.frombuffer(value, self.dtype)
        return flat if self.shape is None else flat.reshape(self.shape)


class Table:
    """Marks a list of small dataclasses, through ``Annotated``, as one that travels as columns.

    This takes half the time of one record for each row. None is NaN on the wire, so only numbers
    may be missing. The field has another name on the wire, see ``table_name``: under the plain
    name, earlier versions of a schema have a list of records, which can be read too.

    Args:
        row: class of the rows, a dataclass.
    """

    def __init__(self, row: Any) -> None:
        hints = typing.get_type_hints(row)
        self._row = row
        self._names = [each.name for each in dataclasses.fields(row)]
        self._columns = [
            (name, attrgetter(name), _without_none(hints[name]) is not hints[name])
            for name in self._names
        ]
        """Name and getter of each column, and whether its values may be missing."""

    def to_wire(self, rows: list[Any]) -> Record:
        """The columns, by name, of a list of rows."""
        columns: Record = {}
        for name, value_of, may_be_missing in self._columns:
            column = [*map(value_of, rows)]
            if may_be_missing:
                column = [_MISSING if value is None else value for value in column]
            columns[name] = column
        return columns

    def from_wire(self, columns: Record) -> list[Any]:
        """The rows that the columns hold.

        Raises:
            ValueError: the columns differ in length.
        """
        found = []
        for name, _, may_be_missing in self._columns:
            column = columns[name]
            if may_be_missing:
                column = [None if value != value else value for value in column]
            found.append(column)
        return [*starmap(self._row, zip(*found, strict=True))]

    def from_records(self, records: list[Record]) -> list[Any]:
        """The rows of a list of records."""
        return [self._row(*map(each.__getitem__, self._names)) for each in records]


def table_name(name: str) -> str:
    """The name on the wire of a field that is a table."""
    return f"{name}_table"


_MISSING = math.nan


def to_record(event: Any) -> Record:
    """The Avro record of an event dataclass."""
    cls: Any = type(event)
    record: Record = _writer(cls)(event)
    return record


def to_rows(event: Any) -> Record:
    """As ``to_record``, but a table is a list of records, one for each row, for people to read."""
    cls: Any = type(event)
    record: Record = _row_writer(cls)(event)
    return record


def from_record(cls: type[T], record: Record) -> T:
    """The event dataclass of an Avro record.

    Raises:
        ValueError: the bytes of an array are not a whole number of elements, or the columns of a
            table differ in length; the message begins with the name of the field.
    """
    key: Any = cls
    event: T = _reader(key)(record)
    return event


@cache
def _writer(cls: Any) -> Conversion:
    """``lambda event: {"name": event.name, ...}`` for the fields of a dataclass."""
    return _Writing().conversion(cls)


@cache
def _row_writer(cls: Any) -> Conversion:
    return _WritingRows().conversion(cls)


@cache
def _reader(cls: Any) -> Conversion:
    """``lambda record: cls(record["name"], ...)`` for the fields of a dataclass."""
    return _Reading().conversion(cls)


class _Conversions(ABC):
    """Generates the conversion of a dataclass as source text, as ``dataclasses`` generates methods.

    Most of the time of encoding and decoding is spent in the conversions: an event has dozens of
    small records, and loops over the names of their fields would take twice as long.
    """

    def __init__(self) -> None:
        self._named: dict[str, Any] = {}

    def conversion(self, cls: Any) -> Conversion:
        """The conversion of a dataclass."""
        source = f"lambda whole: {self._whole(cls, 'whole')}"
        convert: Conversion = eval(source, self._named)
        return convert

    def _name(self, value: Any) -> str:
        """Give an object a name that the source can use."""
        name = f"_{len(self._named)}"
        self._named[name] = value
        return name

    def _whole(self, cls: Any, variable: str, depth: int = 0) -> str:
        """Source of the conversion of the object in a variable."""
        hints = typing.get_type_hints(cls, include_extras=True)
        parts = {}
        for each in dataclasses.fields(cls):
            hint = _without_none(hints[each.name])
            mark = hint.__metadata__[0] if typing.get_origin(hint) is typing.Annotated else None
            if isinstance(mark, Table):
                name, part = self._table(each, mark, variable)
                parts[name] = part
                continue
            value = self._value(variable, each.name)
            if isinstance(mark, Wire):
                converted = f"{self._name(self._array(each.name, mark))}({value})"
            else:
                converted = self._part(hint, value, depth)
            if converted != value and hint is not hints[each.name]:
                converted = f"None if {value} is None else {converted}"
            parts[each.name] = self._or_default(each, variable, converted)
        return self._made(cls, parts)

    def _or_default(self, field: Field, variable: str, converted: str) -> str:
        """The source of a field's value where the field may be missing."""
        return converted

    def _part(self, hint: Any, value: str, depth: int) -> str:
        if dataclasses.is_dataclass(hint):
            return f"{self._name(self._other(hint))}({value})"
        if typing.get_origin(hint) is list:
            (item,) = typing.get_args(hint)
            if dataclasses.is_dataclass(item):
                one = f"each{depth}"
                return f"[{self._whole(item, one, depth + 1)} for {one} in {value}]"
        return value

    @abstractmethod
    def _value(self, variable: str, name: str) -> str:
        """Source that reads a field of the object in a variable."""

    @abstractmethod
    def _made(self, cls: Any, parts: dict[str, str]) -> str:
        """Source of the whole, from the sources of its parts by name."""

    @abstractmethod
    def _array(self, name: str, wire: Wire) -> Conversion:
        """The conversion of an array."""

    @abstractmethod
    def _table(self, field: Field, table: Table, variable: str) -> tuple[str, str]:
        """Name of the part for a table of the object in a variable, and its source."""

    @abstractmethod
    def _other(self, cls: Any) -> Conversion:
        """The conversion of a dataclass that is the value of a field."""


class _Writing(_Conversions):
    """Generates conversions of dataclasses to records."""

    def _value(self, variable: str, name: str) -> str:
        return f"{variable}.{name}"

    def _made(self, cls: Any, parts: dict[str, str]) -> str:
        return "{" + ", ".join(f"{name!r}: {part}" for name, part in parts.items()) + "}"

    def _array(self, name: str, wire: Wire) -> Conversion:
        return wire.to_wire

    def _table(self, field: Field, table: Table, variable: str) -> tuple[str, str]:
        return table_name(field.name), f"{self._name(table.to_wire)}({variable}.{field.name})"

    def _other(self, cls: Any) -> Conversion:
        return _writer(cls)


class _WritingRows(_Writing):
    """Generates conversions of dataclasses to records in which tables are lists of records."""

    def _table(self, field: Field, table: Table, variable: str) -> tuple[str, str]:
        return field.name, f"[*map({self._name(to_rows)}, {variable}.{field.name})]"

    def _other(self, cls: Any) -> Conversion:
        return _row_writer(cls)


class _Reading(_Conversions):
    """Generates conversions of records to dataclasses."""

    def _value(self, variable: str, name: str) -> str:
        return f"{variable}[{name!r}]"

    def _made(self, cls: Any, parts: dict[str, str]) -> str:
        return f"{self._name(cls)}({', '.join(parts.values())})"

    def _array(self, name: str, wire: Wire) -> Conversion:
        return _naming(name, wire.from_wire)

    def _table(self, field: Field, table: Table, variable: str) -> tuple[str, str]:
        name, columns = field.name, table_name(field.name)
        from_wire = self._name(_naming(columns, table.from_wire))
        from_records = self._name(table.from_records)
        records = self._or_default(field, variable, f"{from_records}({variable}[{name!r}])")
        return name, (
            f"{from_wire}({variable}[{columns!r}]) if {columns!r} in {variable} else {records}"
        )

    def _or_default(self, field: Field, variable: str, converted: str) -> str:
        """Versions from before there were tables lack the fields that came after these."""
        if field.default is not dataclasses.MISSING:
            missing = self._name(field.default)
        elif field.default_factory is not dataclasses.MISSING:
            missing = f"{self._name(field.default_factory)}()"
        else:
            return converted
        return f"(({converted}) if {field.name!r} in {variable} else {missing})"

    def _other(self, cls: Any) -> Conversion:
        return _reader(cls)


def _naming(name: str, from_wire: Conversion) -> Conversion:
    """A conversion whose errors begin with the name of the field."""

    def convert(value: Any) -> Any:
        try:
            return from_wire(value)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error

    return convert


def _without_none(hint: Any) -> Any:
    if typing.get_origin(hint) not in (types.UnionType, typing.Union):
        return hint
    return next(option for option in typing.get_args(hint) if option is not type(None))
