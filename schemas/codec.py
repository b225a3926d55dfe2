"""Encodes events as bytes and decodes bytes as events.

There are three framings:

- ``confluent``: a zero byte, the schema's id as four bytes big-endian, and the Avro record. It is
  compact, but the reader must know the id.
- ``container``: an Avro object container with one record. It holds its schema.
- ``json``: for people. Binary fields are left out, so JSON is written and never read back.

Bytes come from strangers, so the size of a message limits the time and the memory that decoding
takes. Messages above a maximum size are refused, also those with more items than any event has, and
a message is decoded only if its schema says that it belongs where it is. Only schemas of the
manifest are interpreted, and compressed containers are refused.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import io
import json
import math
import re
import struct
import sys
import typing
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Literal, TypeVar

import fastavro
from fastavro.schema import to_parsing_canonical_form

from mmbroker.schemas.events import (
    EVENT_TYPES,
    Alert,
    AlertHead,
    Event,
    Quarantine,
    Score,
    ScoredGalaxy,
)
from mmbroker.schemas.items import require_few_items
from mmbroker.schemas.records import Record, from_record, to_record, to_rows

Framing = Literal["confluent", "container", "json"]
E = TypeVar("E", bound=Event)
R = TypeVar("R")

MAX_EVENT_BYTES = 8 * 2**20
"""Larger messages are refused before they are read."""

_WITHOUT_TABLES = {"Fingerprint": 2, "ScoredGalaxy": 2, "Alert": 2}
"""The last version of each schema that has lists of records where newer versions have tables.

Avro's own rules would read such a list as an empty table. So this version and all older ones are
read with the schema of this version."""

COUNTED_FROM_BYTES = 2**16
"""The items of larger messages are counted before they are made."""

MOST_ITEMS = 2**14
"""Most items in all arrays of a larger message. The longest lists of any event, with the feature
trees of eight observations, have some 10,000."""

_MOST_ITEMS_OF = {"Observation": 2**10}
"""Types of which fewer are allowed, because strangers write them."""

MOST_METADATA = 16
"""Most entries in the header of a container."""

LONGEST_SCHEMA = 2**16
"""Most bytes of a container's schema, without documentation where it has more."""

_DOCUMENTATION = re.compile(rb'"doc"\s*:\s*"(?:[^"\\]++|\\.)*+"', re.DOTALL)

_REMEMBERED_SCHEMAS = 64
"""How many texts of containers' schemas are remembered, so that they need not be parsed again."""

_CONFLUENT_MAGIC = b"\x00"
_CONTAINER_MAGIC = b"Obj\x01"
_SYNC_MARKER = hashlib.blake2b(b"mmbroker", digest_size=16).digest()
"""The 16 bytes that end every block of a container.

Avro accepts any bytes here. With fixed ones, equal events have equal bytes."""

_SYNC_BYTES = len(_SYNC_MARKER)
_HEADER = struct.Struct(">bI")
_METADATA = '{"type": "map", "values": "bytes"}'


class MalformedEventError(ValueError):
    """Raised for bytes that are not an event; the message says why."""


@dataclass(frozen=True)
class SchemaVersion:
    """One version of one schema.

    Attributes:
        id: number of the schema in Confluent framing.
        name: name of the record and of its dataclass.
        version: number of the version, from 1.
        text: the schema as JSON text.
    """

    id: int
    name: str
    version: int
    text: str

    @property
    def definition(self) -> Any:
        """The schema as parsed by fastavro."""
        return _parsed(self.text)

    def __str__(self) -> str:
        return f"{self.name} v{self.version} (id {self.id})"


def manifest() -> list[SchemaVersion]:
    """Every version of every schema, with the ids that hold where no registry is configured."""
    folder = resources.files(__package__)
    entries = json.loads((folder / "manifest.json").read_text())
    return [
        SchemaVersion(
            entry["id"],
            entry["name"],
            entry["version"],
            (folder / "avro" / entry["file"]).read_text(),
        )
        for entry in entries
    ]


class Codec:
    """Encodes the newest version of every schema; decodes every version.

    Args:
        versions: the schema versions with their ids; by default those of the manifest.
    """

    def __init__(self, versions: Iterable[SchemaVersion] | None = None) -> None:
        self._by_id = {version.id: version for version in versions or manifest()}
        self._newest: dict[str, SchemaVersion] = {}
        self._without_tables: dict[str, SchemaVersion] = {}
        for version in sorted(self._by_id.values(), key=lambda each: each.version):
            self._newest[version.name] = version
            if version.version == _WITHOUT_TABLES.get(version.name):
                self._without_tables[version.name] = version
        self._by_canonical_form = {
            to_parsing_canonical_form(version.definition): version
            for version in self._by_id.values()
        }
        self._by_text: dict[bytes, SchemaVersion] = {}
        self._classes: dict[str, type[Event]] = {cls.__name__: cls for cls in EVENT_TYPES}

    def schema_id(self, event_type: type[Event]) -> int:
        """The id of the newest schema of an event type."""
        return self._newest[event_type.__name__].id

    def describe(self) -> list[str]:
        """One phrase for each newest schema, with its name, version and id."""
        return [str(each) for each in self._newest.values()]

    def described(self, schema_id: int) -> str:
        """A phrase for the schema with an id, which may be of another registry."""
        return str(self._by_id.get(schema_id, f"with id {schema_id}"))

    def encode(self, event: Event, framing: Framing = "confluent") -> bytes:
        """The bytes of an event.

        Raises:
            ValueError: a value does not fit the schema.
        """
        if framing == "json":
            return json.dumps(readable(event), ensure_ascii=False).encode()
        schema = self._newest[type(event).__name__]
        return _framed(schema, _written(schema.name, schema.definition, event), framing)

    def encode_alert(self, head: AlertHead, galaxy: bytes, framing: Framing) -> bytes:
        """The bytes of an alert about a galaxy that is encoded already.

        The galaxy is the last field of an alert, so its bytes are copied without decoding them.
        They are decoded only for JSON, or when they do not have the newest schema.

        Args:
            head: all of the alert but its galaxy.
            galaxy: the scored galaxy in a binary framing.
            framing: how the alert is framed.

        Raises:
            MalformedEventError: the bytes are not a scored galaxy.
            ValueError: a value does not fit the schema.
        """
        schema, newest = self._newest["Alert"], self._newest["ScoredGalaxy"]
        if framing == "json" or galaxy[: _HEADER.size] != _HEADER.pack(0, newest.id):
            decoded = self.decode_as(ScoredGalaxy, galaxy)
            values = {field.name: getattr(head, field.name) for field in dataclasses.fields(head)}
            return self.encode(Alert(**values, galaxy=decoded), framing)
        written = _written(schema.name, _without_last_field(schema.text), head)
        return _framed(schema, written + galaxy[_HEADER.size :], framing)

    def decode(self, data: bytes | None) -> Event:
        """Decode an event from bytes in either binary framing.

        Raises:
            MalformedEventError: the bytes are not an event of a known schema.
        """
        return self._decoded(data, None)

    def decode_as(self, event_type: type[E], data: bytes | None) -> E:
        """Decode an event that must be of the given type.

        An event of another type costs nothing: it is refused for its schema, unread.

        Raises:
            MalformedEventError: the bytes are not an event of that type.
        """
        return typing.cast(E, self._decoded(data, event_type.__name__))

    def decode_score(self, data: bytes | None) -> Score:
        """Decode only the part of a scored galaxy that decides on alerts.

        Raises:
            MalformedEventError: the bytes are not a scored galaxy.
        """
        newest = self._newest["ScoredGalaxy"]
        schema, ending, start = self._record(data, newest.name)
        record = _read(ending, start, schema, _part(newest.text, Score))
        return _guarded(schema.name, lambda: from_record(Score, record))

    def _decoded(self, data: bytes | None, wanted: str | None) -> Event:
        schema, ending, start = self._record(data, wanted)
        record = _read(ending, start, schema, self._read_as(schema).definition)
        cls = self._classes[schema.name]
        event: Event = _guarded(
            schema.name, lambda: from_record(cls, _completed(schema.name, record))
        )
        return event

    def _record(self, data: bytes | None, wanted: str | None) -> tuple[SchemaVersion, bytes, int]:
        """Find the record in a message, without reading it.

        Args:
            data: the message.
            wanted: name that the record's schema must have; None for any.

        Returns:
            The schema, bytes that end with the record, and the place where it begins in them.

        Raises:
            MalformedEventError: there is no record, or one of another schema.
        """
        if not data:
            raise MalformedEventError("the message is empty")
        if len(data) > MAX_EVENT_BYTES:
            raise MalformedEventError(
                f"the message has {len(data)} bytes, more than {MAX_EVENT_BYTES}"
            )
        if data[:1] == _CONFLUENT_MAGIC:
            found = self._confluent_schema(data), data, _HEADER.size
        elif data[:4] == _CONTAINER_MAGIC:
            found = self._contained(data)
        else:
            raise MalformedEventError(
                f"the message begins with {data[:4]!r}, "
                "neither Confluent framing nor an Avro container"
            )
        name = found[0].name
        if wanted is not None and name != wanted:
            raise MalformedEventError(f"the message holds {name} where {wanted} belongs")
        return found

    def _read_as(self, schema: SchemaVersion) -> SchemaVersion:
        """The version whose schema the records of a given version are read with."""
        if schema.version <= _WITHOUT_TABLES.get(schema.name, 0):
            return self._without_tables[schema.name]
        return self._newest[schema.name]

    def _confluent_schema(self, data: bytes) -> SchemaVersion:
        if len(data) < _HEADER.size:
            raise MalformedEventError("the message ends within its schema id")
        _, schema_id = _HEADER.unpack_from(data)
        schema = self._by_id.get(schema_id)
        if schema is None:
            raise MalformedEventError(f"schema id {schema_id} is unknown")
        return schema

    def _contained(self, data: bytes) -> tuple[SchemaVersion, bytes, int]:
        buffer = io.BytesIO(data)
        buffer.seek(len(_CONTAINER_MAGIC))
        metadata = _guarded("container header", lambda: _metadata(buffer, data))
        schema = self._container_schema(metadata)
        block = buffer.tell() + _SYNC_BYTES
        sync = data[buffer.tell() : block]
        buffer.seek(block)
        count, size = (_guarded("container block", lambda: _long(buffer)) for _ in range(2))
        start = buffer.tell()
        if count != 1:
            raise MalformedEventError(f"the container holds {count} events, not one")
        if size < 0 or data[start + size :] != sync:
            raise MalformedEventError("the container does not end after its first block")
        return schema, data[: start + size], start

    def _container_schema(self, metadata: dict[str, bytes]) -> SchemaVersion:
        compression = metadata.get("avro.codec", b"null")
        if compression != b"null":
            shown = compression[:20].decode(errors="replace")
            raise MalformedEventError(
                f"the container is compressed with {shown}; compress on the Kafka level"
            )
        text = metadata.get("avro.schema", b"")
        if len(text) > LONGEST_SCHEMA:
            text = _DOCUMENTATION.sub(b'"doc":""', text)
        if len(text) > LONGEST_SCHEMA:
            raise MalformedEventError(
                f"the container's schema has {len(text)} bytes, more than {LONGEST_SCHEMA}"
            )
        if text not in self._by_text:
            form = _guarded("container schema", lambda: to_parsing_canonical_form(json.loads(text)))
            if form not in self._by_canonical_form:
                raise MalformedEventError("the container's schema is unknown")
            if len(self._by_text) >= _REMEMBERED_SCHEMAS:
                self._by_text.clear()
            self._by_text[text] = self._by_canonical_form[form]
        return self._by_text[text]


def _completed(name: str, record: Record) -> Record:
    """Add the fields that versions without tables did not have to a record."""
    if name == "Alert":
        _completed("ScoredGalaxy", record["galaxy"])
    elif name == "ScoredGalaxy":
        record.setdefault("refined_redshift_reason", "")
    return record


def _read(data: bytes, start: int, written: SchemaVersion, wanted: Any) -> Record:
    """Decode the record that ends some bytes, converted to the wanted schema."""
    if len(data) >= COUNTED_FROM_BYTES:
        most = _MOST_ITEMS_OF.get(written.name, MOST_ITEMS)
        _guarded(written.name, lambda: require_few_items(written.text, data, start, most))
    buffer = io.BytesIO(data)
    buffer.seek(start)
    same = wanted is written.definition
    record: Any = _guarded(
        written.name,
        lambda: fastavro.schemaless_reader(buffer, written.definition, None if same else wanted),
    )
    if buffer.tell() != len(data):
        raise MalformedEventError(
            f"{len(data) - buffer.tell()} bytes follow the {written.name} record"
        )
    return typing.cast(Record, record)


def _metadata(buffer: io.BytesIO, data: bytes) -> dict[str, bytes]:
    """Read the header of a container."""
    require_few_items(_METADATA, data, buffer.tell(), MOST_METADATA)
    found: Any = fastavro.schemaless_reader(buffer, _parsed(_METADATA), None)
    return typing.cast(dict[str, bytes], found)


def _long(buffer: io.BytesIO) -> int:
    return typing.cast(int, fastavro.schemaless_reader(buffer, "long", None))


def _written(name: str, definition: Any, event: Any) -> bytes:
    buffer = io.BytesIO()
    try:
        fastavro.schemaless_writer(
            buffer, definition, to_record(event), disable_tuple_notation=True
        )
    except (AttributeError, KeyError, OverflowError, TypeError) as error:
        raise ValueError(f"{name} does not fit its schema: {error}") from error
    return buffer.getvalue()


def _framed(schema: SchemaVersion, record: bytes, framing: Framing) -> bytes:
    if framing == "confluent":
        return _HEADER.pack(0, schema.id) + record
    return _in_container(schema.text, record)


def _in_container(schema: str, record: bytes) -> bytes:
    """A container that holds one record.

    The schema comes from a cache: fastavro would write it again for each record, which takes longer
    than the record itself.
    """
    count_and_size = io.BytesIO()
    for number in (1, len(record)):
        fastavro.schemaless_writer(count_and_size, "long", number)
    return b"".join((_empty_container(schema), count_and_size.getvalue(), record, _SYNC_MARKER))


@cache
def _empty_container(schema: str) -> bytes:
    """A container with a schema and no record.

    The documentation is left out of the schema: it is 7 of the 18 kB that an alert would have.
    """
    buffer = io.BytesIO()
    bare = fastavro.parse_schema(_without_documentation(json.loads(schema)))
    fastavro.writer(buffer, bare, [], sync_marker=_SYNC_MARKER)
    return buffer.getvalue()


def _without_documentation(part: Any) -> Any:
    if isinstance(part, list):
        return [_without_documentation(each) for each in part]
    if isinstance(part, dict):
        return {key: _without_documentation(value) for key, value in part.items() if key != "doc"}
    return part


def readable(event: Event) -> Record:
    """An event as plain JSON values, without binary fields; numbers that are not finite are null.

    A ``Quarantine`` keeps the refused bytes, in base 64, so that their sender can look at them.
    """
    plain: Record = _readable(to_rows(event))
    if isinstance(event, Quarantine):
        plain["original_base64"] = base64.b64encode(event.original).decode()
    return plain


def _readable(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _readable(each) for key, each in value.items() if not isinstance(each, bytes)}
    if isinstance(value, list):
        return [_readable(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


@cache
def _parsed(text: str) -> Any:
    return _definition(json.loads(text))


def _definition(schema: Any) -> Any:
    """A schema as fastavro parses it, with its names interned as the names in classes are.

    Strings that are the same object need not be compared letter by letter.
    """
    return _interned(fastavro.parse_schema(schema))


def _interned(part: Any) -> Any:
    if isinstance(part, str):
        return sys.intern(part)
    if isinstance(part, list):
        return [_interned(each) for each in part]
    if isinstance(part, dict):
        return {sys.intern(key): _interned(value) for key, value in part.items()}
    return part


@cache
def _without_last_field(text: str) -> Any:
    schema = json.loads(text)
    return _definition({**schema, "fields": schema["fields"][:-1]})


@cache
def _part(text: str, cls: Any) -> Any:
    """A schema reduced to the fields that a dataclass has."""
    return _definition(_fields_of(json.loads(text), cls))


def _fields_of(schema: Any, cls: Any) -> Any:
    hints = typing.get_type_hints(cls)
    fields = [
        {**field, "type": _reduced(field["type"], hints[field["name"]])}
        for field in schema["fields"]
        if field["name"] in hints
    ]
    return {**schema, "fields": fields}


def _reduced(schema: Any, hint: Any) -> Any:
    """The schema of a field, a record of which is reduced to what the dataclass of it has."""
    options = [one for one in (hint, *typing.get_args(hint)) if dataclasses.is_dataclass(one)]
    if not options:
        return schema
    if isinstance(schema, list):
        return [each if each == "null" else _fields_of(each, options[0]) for each in schema]
    return _fields_of(schema, options[0])


def _guarded(what: str, read: Callable[[], R]) -> R:
    """Run a function that reads foreign bytes; any error in it becomes a MalformedEventError."""
    try:
        return read()
    except MalformedEventError:
        raise
    except Exception as error:
        reason = str(error) or type(error).__name__
        raise MalformedEventError(f"{what} cannot be read: {reason[:200]}") from error
