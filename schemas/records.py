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


def array_field(dtype: str, *tail: int, optional: bool = False) -> Any:
    """A dataclass field that holds a numpy array and travels as little-endian bytes.

    Args:
        dtype: numpy dtype on the wire, e.g. ``"<f4"``.
        tail: the lengths of all axes but the first, whose length follows from the bytes.
        optional: whether the field may be, and is by default, None.
    """
    metadata = {"dtype": np.dtype(dtype), "shape": (-1, *tail)}
    if optional:
        return dataclasses.field(default=None, metadata=metadata)
    return dataclasses.field(metadata=metadata)


def to_record(event: Any) -> Record:
    """The Avro record of an event dataclass."""
    record = {name: getattr(event, name) for name in _field_names(type(event))}
    for name, to_wire, _ in _conversions(type(event)):
        if record[name] is not None:
            record[name] = to_wire(record[name])
    return record


def from_record(cls: type[T], record: Record) -> T:
    """The event dataclass of an Avro record; takes ownership of the record.

    Raises:
        ValueError: a field's bytes are not a whole number of array elements.
    """
    for name, _, from_wire in _conversions(cls):
        value = record.get(name)
        if value is not None:
            try:
                record[name] = from_wire(value)
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from error
    return cls(**record)


@cache
def _field_names(cls: type) -> tuple[str, ...]:
    return tuple(field.name for field in dataclasses.fields(cls))


@cache
def _conversions(cls: type) -> tuple[tuple[str, Conversion, Conversion], ...]:
    hints = typing.get_type_hints(cls)
    found = []
    for field in dataclasses.fields(cls):
        if "dtype" in field.metadata:
            found.append((field.name, *_array_conversions(**field.metadata)))
            continue
        kind, nested = _nested_dataclass(hints[field.name])
        if kind == "one":
            found.append((field.name, to_record, _reader(nested)))
        elif kind == "many":
            found.append((field.name, _list_writer, _list_reader(nested)))
    return tuple(found)


def _array_conversions(dtype: np.dtype[Any], shape: tuple[int, ...]) -> tuple[Conversion, ...]:
    def to_wire(value: np.ndarray[Any, Any]) -> bytes:
        return np.ascontiguousarray(value, dtype=dtype).tobytes()

    def from_wire(value: bytes) -> np.ndarray[Any, Any]:
        return np.frombuffer(value, dtype=dtype).reshape(shape)

    return to_wire, from_wire


def _nested_dataclass(hint: Any) -> tuple[str, Any]:
    if isinstance(hint, types.UnionType):
        hint = next(option for option in typing.get_args(hint) if option is not type(None))
    if dataclasses.is_dataclass(hint):
        return "one", hint
    if typing.get_origin(hint) is list and dataclasses.is_dataclass(typing.get_args(hint)[0]):
        return "many", typing.get_args(hint)[0]
    return "plain", None


def _reader(cls: type) -> Conversion:
    return lambda record: from_record(cls, record)


def _list_reader(cls: type) -> Conversion:
    return lambda records: [from_record(cls, record) for record in records]


def _list_writer(events: list[Any]) -> list[Record]:
    return [to_record(event) for event in events]
