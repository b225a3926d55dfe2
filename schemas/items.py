"""Counts the items of an encoded Avro record before any of them is made.

Some bytes of a message can become an object of hundreds of bytes: an empty document has four. So
the number of items in arrays and maps is what decides how much memory and time a message takes.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from typing import Any

_LONGEST_NUMBER = 10
"""Most bytes of an Avro int or long."""

_FIXED_BYTES = {"null": 0, "boolean": 1, "float": 4, "double": 8}


class TooManyItemsError(ValueError):
    """Raised for a record with more items than allowed."""


class _Walk:
    """A place in some bytes, and how many items may still follow."""

    __slots__ = ("at", "data", "left")

    def __init__(self, data: bytes, at: int, most: int) -> None:
        self.data = data
        self.at = at
        self.left = most

    def number(self) -> int:
        """Read an int or a long."""
        found = 0
        for shift in range(0, 7 * _LONGEST_NUMBER, 7):
            byte = self.data[self.at]
            self.at += 1
            found |= (byte & 0x7F) << shift
            if byte < 0x80:
                return (found >> 1) ^ -(found & 1)
        raise ValueError(f"a number has more than {_LONGEST_NUMBER} bytes")

    def skip(self, count: int) -> None:
        """Leave out some bytes."""
        if not 0 <= count <= len(self.data) - self.at:
            raise ValueError(f"{count} bytes are claimed where {len(self.data) - self.at} are left")
        self.at += count


_Step = Callable[[_Walk], None]


def require_few_items(schema: str, data: bytes, start: int, most: int) -> None:
    """Make sure that a record has no more than so many items in all its arrays and maps.

    Args:
        schema: the schema that the record was written with, as JSON text.
        data: bytes that hold the record.
        start: where in them it begins.
        most: how many items it may have.

    Raises:
        TooManyItemsError: it has more.
        ValueError, IndexError: the bytes are no record of the schema.
    """
    _steps(schema)(_Walk(data, start, most))


@cache
def _steps(schema: str) -> _Step:
    return _step(json.loads(schema), {})


def _step(schema: Any, named: dict[str, _Step]) -> _Step:
    """What walks over one value of a schema; named types are noted by their names."""
    if isinstance(schema, list):
        return _union([_step(each, named) for each in schema])
    kind = schema["type"] if isinstance(schema, dict) else schema
    if isinstance(kind, dict):
        return _step(kind, named)
    if kind in named:
        return named[kind]
    if kind in _FIXED_BYTES or kind == "fixed":
        size = _FIXED_BYTES[kind] if kind in _FIXED_BYTES else schema["size"]
        step: _Step = lambda walk: walk.skip(size)  # noqa: E731
    elif kind in ("int", "long", "enum"):
        step = _Walk.number  # type: ignore[assignment]
    elif kind in ("bytes", "string"):
        step = lambda walk: walk.skip(walk.number())  # noqa: E731
    elif kind == "array":
        step = _blocks(schema["items"], _step(schema["items"], named))
    elif kind == "map":
        entry = _record([_step("string", named), _step(schema["values"], named)])
        step = _blocks(None, entry)
    else:
        step = _record([_step(field["type"], named) for field in schema["fields"]])
    if isinstance(schema, dict) and "name" in schema:
        named[schema["name"]] = step
    return step


def _union(options: list[_Step]) -> _Step:
    def step(walk: _Walk) -> None:
        chosen = walk.number()
        if not 0 <= chosen < len(options):
            raise ValueError(f"a union has no option {chosen}")
        options[chosen](walk)

    return step


def _record(fields: list[_Step]) -> _Step:
    def step(walk: _Walk) -> None:
        for each in fields:
            each(walk)

    return step


def _blocks(items: Any, item: _Step) -> _Step:
    """What walks over the blocks of an array or a map."""
    size = _FIXED_BYTES.get(items) if isinstance(items, str) else None

    def step(walk: _Walk) -> None:
        while count := walk.number():
            if count < 0:  # the size of the block in bytes follows
                count = -count
                walk.number()
            walk.left -= count
            if walk.left < 0:
                raise TooManyItemsError("there are more items than may be")
            if size is None:
                for _ in range(count):
                    item(walk)
            else:
                walk.skip(count * size)

    return step
