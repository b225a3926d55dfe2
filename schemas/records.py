"""Dataclasses to Avro records and back.

A dataclass and its Avro record have the same field names. Only three kinds of field differ in
value: numeric arrays (``bytes`` on the wire), nested dataclasses and lists of them. What has to be
converted is worked out once per class, so that a conversion costs one pass over the fields.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar

import numpy as np

Record = dict[str, Any]
T = TypeVar("T")
Conversion = Callable[[Any], Any]


class Wire:
    """Marks a dataclass field, by ``Annotated``, as an array that travels as bytes.

    Args:
        dtype: numpy dtype on the wire, e.g. ``"<f4"``.
        tail: the lengths of all axes but the first, whose length follows from the bytes.
    """

    def __init__(self, dtype: str, *tail: int) -> None:
        self.dtype = np.dtype(dtype)
        self.shape = (-1, *tail)

    def to_wire(self, value: np.ndarray[Any, Any]) -> bytes:
        """The bytes of an array."""
        return np.ascontiguousarray(value, dtype=self.dtype).tobytes()

    def from_wire(self, value: bytes) -> np.ndarray[Any, Any]:
        """The array in some bytes, read-only.

        Raises:
            ValueError: the bytes are not a whole number of elements.
        """
        return np.frombuffer(value, dtype=self.dtype).reshape(self.shape)


def to_record(event: Any) -> Record:
    """The Avro record of an event dataclass."""
    cls: Any = type(event)
    record = {name: getattr(event, name) for name in _field_names(cls)}
    for name, to_wire, _ in _conversions(cls):
        if record[name] is not None:
            record[name] = to_wire(record[name])
    return record


def from_record(cls: type[T], record: Record) -> T:
    """The event dataclass of an Avro record; takes ownership of the record.

    Raises:
        ValueError: a field's bytes are not a whole number of array elements.
    """
    key: Any = cls
    for name, _, from_wire in _conversions(key):
        value = record.get(name)
        if value is not None:
            try:
                record[name] = from_wire(value)
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from error
    return cls(**record)


@cache
def _field_names(cls: Any) -> tuple[str, ...]:
    return tuple(field.name for field in dataclasses.fields(cls))


@cache
def _conversions(cls: Any) -> tuple[tuple[str, Conversion, Conversion], ...]:
    hints = typing.get_type_hints(cls, include_extras=True)
    found: list[tuple[str, Conversion, Conversion]] = []
    for name in _field_names(cls):
        hint = _without_none(hints[name])
        if typing.get_origin(hint) is typing.Annotated:
            wire = hint.__metadata__[0]
            found.append((name, wire.to_wire, wire.from_wire))
        elif dataclasses.is_dataclass(hint):
            found.append((name, to_record, _reader(hint)))
        elif typing.get_origin(hint) is list:
            (item,) = typing.get_args(hint)
            if dataclasses.is_dataclass(item):
                found.append((name, _list_writer, _list_reader(item)))
    return tuple(found)


def _without_none(hint: Any) -> Any:
    if typing.get_origin(hint) not in (types.UnionType, typing.Union):
        return hint
    return next(option for option in typing.get_args(hint) if option is not type(None))


def _reader(cls: Any) -> Conversion:
    return lambda record: from_record(cls, record)


def _list_reader(cls: Any) -> Conversion:
    return lambda records: [from_record(cls, record) for record in records]


def _list_writer(events: list[Any]) -> list[Record]:
    return [to_record(event) for event in events]
