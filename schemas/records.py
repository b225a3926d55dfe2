"""Dataclasses to Avro records and back.

A dataclass and its Avro record have the same field names. Only three kinds of field differ in
value: numeric arrays (``bytes`` on the wire), nested dataclasses and lists of them. The conversion
is written out once for each class.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from abc import ABC, abstractmethod
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
    record: Record = _writer(type(event))(event)
    return record


def from_record(cls: type[T], record: Record) -> T:
    """The event dataclass of an Avro record.

    Raises:
        ValueError: a field's bytes are not a whole number of array elements.
    """
    event: T = _reader(cls)(record)
    return event


@cache
def _writer(cls: Any) -> Conversion:
    """``lambda event: {"name": event.name, ...}`` for the fields of a dataclass."""
    return _Writing().conversion(cls)


@cache
def _reader(cls: Any) -> Conversion:
    """``lambda record: cls(record["name"], ...)`` for the fields of a dataclass."""
    return _Reading().conversion(cls)


class _Conversions(ABC):
    """Writes the conversion of a dataclass out as source text, as ``dataclasses`` do methods.

    Decoding and encoding spend their time here: an event has dozens of small records, and loops
    over the names of their fields take twice as long.
    """

    def __init__(self) -> None:
        self._named: dict[str, Any] = {}

    def conversion(self, cls: Any) -> Conversion:
        """The conversion of a dataclass."""
        source = f"lambda whole: {self._whole(cls, 'whole')}"
        convert: Conversion = eval(source, self._named)
        return convert

    def _name(self, value: Any) -> str:
        """A name for an object in the source."""
        name = f"_{len(self._named)}"
        self._named[name] = value
        return name

    def _whole(self, cls: Any, variable: str, depth: int = 0) -> str:
        """Source of the conversion of what a variable holds."""
        hints = typing.get_type_hints(cls, include_extras=True)
        parts = {}
        for each in dataclasses.fields(cls):
            value = self._value(variable, each.name)
            hint = _without_none(hints[each.name])
            converted = self._part(each.name, hint, value, depth)
            if converted != value and hint is not hints[each.name]:
                converted = f"None if {value} is None else {converted}"
            parts[each.name] = converted
        return self._made(cls, parts)

    def _part(self, name: str, hint: Any, value: str, depth: int) -> str:
        if typing.get_origin(hint) is typing.Annotated:
            return f"{self._name(self._array(name, hint.__metadata__[0]))}({value})"
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
        """Source of a field of what a variable holds."""

    @abstractmethod
    def _made(self, cls: Any, parts: dict[str, str]) -> str:
        """Source of what is made of the sources of its parts."""

    @abstractmethod
    def _array(self, name: str, wire: Wire) -> Conversion:
        """The conversion of an array."""

    @abstractmethod
    def _other(self, cls: Any) -> Conversion:
        """The conversion of a dataclass in a field."""


class _Writing(_Conversions):
    """Dataclasses to records."""

    def _value(self, variable: str, name: str) -> str:
        return f"{variable}.{name}"

    def _made(self, cls: Any, parts: dict[str, str]) -> str:
        return "{" + ", ".join(f"{name!r}: {part}" for name, part in parts.items()) + "}"

    def _array(self, name: str, wire: Wire) -> Conversion:
        return wire.to_wire

    def _other(self, cls: Any) -> Conversion:
        return _writer(cls)


class _Reading(_Conversions):
    """Records to dataclasses."""

    def _value(self, variable: str, name: str) -> str:
        return f"{variable}[{name!r}]"

    def _made(self, cls: Any, parts: dict[str, str]) -> str:
        return f"{self._name(cls)}({', '.join(parts.values())})"

    def _array(self, name: str, wire: Wire) -> Conversion:
        def from_wire(value: bytes) -> np.ndarray[Any, Any]:
            try:
                return wire.from_wire(value)
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from error

        return from_wire

    def _other(self, cls: Any) -> Conversion:
        return _reader(cls)


def _without_none(hint: Any) -> Any:
    if typing.get_origin(hint) not in (types.UnionType, typing.Union):
        return hint
    return next(option for option in typing.get_args(hint) if option is not type(None))
