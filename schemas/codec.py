"""Encodes events as bytes and decodes bytes as events.

There are three framings:

- ``confluent``: a zero byte, the schema's id as four bytes big-endian, and the Avro record. It is
  compact, but the reader must know the id.
- ``container``: an Avro object container with one record. It holds its schema.
- ``json``: for people. Binary fields are left out, so JSON is written and never read back.

Bytes come from strangers, so the size of a message limits the time and the memory that decoding
takes. Messages above a maximum size are refused, only schemas of the manifest are interpreted, and
compressed containers are refused.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import io
import json
import math
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

_REMEMBERED_HEADERS = 64
"""How many texts of container headers are remembered, so that they need not be parsed again."""

_CONFLUENT_MAGIC = b"\x00"
_CONTAINER_MAGIC = b"Obj\x01"
_SYNC_MARKER = hashlib.blake2b(b"mmbroker", digest_size=16).digest()
"""The 16 bytes that end every block of a container.

Avro accepts any bytes here. With fixed ones, equal events have equal bytes."""

_HEADER = struct.Struct(">bI")


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
        self._by_header: dict[str, SchemaVersion] = {}
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
        if not data:
            raise MalformedEventError("the message is empty")
        if len(data) > MAX_EVENT_BYTES:
            raise MalformedEventError(
                f"the message has {len(data)} bytes, more than {MAX_EVENT_BYTES}"
            )
        if data[:1] == _CONFLUENT_MAGIC:
            return self._decode_confluent(data)
        if data[:4] == _CONTAINER_MAGIC:
            return self._decode_container(data)
        raise MalformedEventError(
            f"the message begins with {data[:4]!r}, neither Confluent framing nor an Avro container"
        )

    def decode_as(self, event_type: type[E], data: bytes | None) -> E:
        """Decode an event that must be of the given type.

        Raises:
            MalformedEventError: the bytes are not an event of that type.
        """
        event = self.decode(data)
        if not isinstance(event, event_type):
            raise _misplaced(type(event).__name__, event_type.__name__)
        return event

    def decode_score(self, data: bytes | None) -> Score:
        """Decode only the part of a scored galaxy that decides on alerts.

        Raises:
            MalformedEventError: the bytes are not a scored galaxy.
        """
        newest = self._newest["ScoredGalaxy"]
        if data is None or not data.startswith(_CONFLUENT_MAGIC) or len(data) > MAX_EVENT_BYTES:
            return from_record(Score, to_record(self.decode_as(ScoredGalaxy, data)))
        schema = self._confluent_schema(data)
        if schema.name != newest.name:
            raise _misplaced(schema.name, newest.name)
        record = _read(data, schema, _part(newest.text, Score))
        return _guarded(schema.name, lambda: from_record(Score, record))

    def _decode_confluent(self, data: bytes) -> Event:
        schema = self._confluent_schema(data)
        return self._event(schema.name, _read(data, schema, self._read_as(schema).definition))

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

    def _decode_container(self, data: bytes) -> Event:
        reader = _guarded("container header", lambda: fastavro.reader(io.BytesIO(data)))
        schema = self._container_schema(reader)
        wanted = self._read_as(schema).definition
        if wanted is not schema.definition:
            reader = fastavro.reader(io.BytesIO(data), reader_schema=wanted)
        records = _guarded(schema.name, lambda: [next(reader), next(reader, None)])
        if records[1] is not None:
            raise MalformedEventError("the container holds more than one event")
        return self._event(schema.name, records[0])

    def _container_schema(self, reader: Any) -> SchemaVersion:
        compression = reader.metadata.get("avro.codec", "null")
        if compression != "null":
            raise MalformedEventError(
                f"the container is compressed with {compression}; compress on the Kafka level"
            )
        header = reader.metadata["avro.schema"]
        if header not in self._by_header:
            form = _guarded(
                "container schema", lambda: to_parsing_canonical_form(json.loads(header))
            )
            if form not in self._by_canonical_form:
                raise MalformedEventError("the container's schema is unknown")
            if len(self._by_header) >= _REMEMBERED_HEADERS:
                self._by_header.clear()
            self._by_header[header] = self._by_canonical_form[form]
        return self._by_header[header]

    def _event(self, name: str, record: Any) -> Event:
        cls = self._classes[name]
        event: Event = _guarded(name, lambda: from_record(cls, _completed(name, record)))
        return event


def _completed(name: str, record: Record) -> Record:
    """Add the fields that versions without tables did not have to a record."""
    if name == "Alert":
        _completed("ScoredGalaxy", record["galaxy"])
    elif name == "ScoredGalaxy":
        record.setdefault("refined_redshift_reason", "")
    return record


def _misplaced(found: str, expected: str) -> MalformedEventError:
    return MalformedEventError(f"the message holds {found} where {expected} belongs")


def _read(data: bytes, written: SchemaVersion, wanted: Any) -> Record:
    """Decode the record after the Confluent header, converted to the wanted schema."""
    buffer = io.BytesIO(data)
    buffer.seek(_HEADER.size)
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
        {**field, "type": _fields_of(field["type"], hints[field["name"]])}
        if dataclasses.is_dataclass(hints[field["name"]])
        else field
        for field in schema["fields"]
        if field["name"] in hints
    ]
    return {**schema, "fields": fields}


def _guarded(what: str, read: Callable[[], R]) -> R:
    """Run a function that reads foreign bytes; any error in it becomes a MalformedEventError."""
    try:
        return read()
    except MalformedEventError:
        raise
    except Exception as error:
        reason = str(error) or type(error).__name__
        raise MalformedEventError(f"{what} cannot be read: {reason[:200]}") from error
