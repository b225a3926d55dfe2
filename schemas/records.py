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
from operator import attrgetter, itemgetter
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
    return _shape(cls).to_record(event)


def from_record(cls: type[T], record: Record) -> T:
    """The event dataclass of an Avro record.

    Raises:
        ValueError: a field's bytes are not a whole number of array elements.
    """
    key: Any = cls
    event: T = _shape(key).from_record(record)
    return event


class _Shape:
    """The fields of a dataclass, and what has to be converted in some of them.

    This is what decoding and encoding spend their time in: fields are read and set all at once.
    """

    def __init__(self, cls: Any) -> None:
        names = [field.name for field in dataclasses.fields(cls)]
        conversions = _conversions(cls, names)
        self._cls = cls
        self._names = names
        self._attributes = _all_of(attrgetter, names)
        self._items = _all_of(itemgetter, names)
        self._writers = [(name, to_wire) for name, (to_wire, _) in conversions.items()]
        self._readers = [
            (names.index(name), from_wire) for name, (_, from_wire) in conversions.items()
        ]

    def to_record(self, event: Any) -> Record:
        record = dict(zip(self._names, self._attributes(event), strict=True))
        for name, to_wire in self._writers:
            value = record[name]
            if value is not None:
                record[name] = to_wire(value)
        return record

    def from_record(self, record: Record) -> Any:
        if not self._readers:
            return self._cls(*self._items(record))
        values = list(self._items(record))
        for place, from_wire in self._readers:
            value = values[place]
            if value is not None:
                try:
                    values[place] = from_wire(value)
                except ValueError as error:
                    raise ValueError(f"{self._names[place]}: {error}") from error
        return self._cls(*values)


@cache
def _shape(cls: Any) -> _Shape:
    return _Shape(cls)


def _conversions(cls: Any, names: list[str]) -> dict[str, tuple[Conversion, Conversion]]:
    hints = typing.get_type_hints(cls, include_extras=True)
    found: dict[str, tuple[Conversion, Conversion]] = {}
    for name in names:
        hint: Any = _without_none(hints[name])
        if typing.get_origin(hint) is typing.Annotated:
            wire = hint.__metadata__[0]
            found[name] = wire.to_wire, wire.from_wire
        elif dataclasses.is_dataclass(hint):
            found[name] = _both_ways(hint)
        elif typing.get_origin(hint) is list:
            (item,) = typing.get_args(hint)
            if dataclasses.is_dataclass(item):
                to_wire, from_wire = _both_ways(item)
                found[name] = _each(to_wire), _each(from_wire)
    return found


def _without_none(hint: Any) -> Any:
    if typing.get_origin(hint) not in (types.UnionType, typing.Union):
        return hint
    return next(option for option in typing.get_args(hint) if option is not type(None))


def _all_of(getter: Callable[..., Conversion], names: list[str]) -> Conversion:
    """Reads all names of something into a tuple; a getter of one name alone makes none."""
    get = getter(*names)
    return get if len(names) > 1 else lambda value: (get(value),)


def _both_ways(cls: Any) -> tuple[Conversion, Conversion]:
    shape = _shape(cls)
    return shape.to_record, shape.from_record


def _each(convert: Conversion) -> Conversion:
    return lambda values: [convert(value) for value in values]
