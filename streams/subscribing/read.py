"""Reads streams, for people and for programs.

from mmbroker import subscribe

for read in subscribe("confident", start="earliest", until_end=True):
    print(read.event)
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple

from confluent_kafka import (
    OFFSET_BEGINNING,
    OFFSET_END,
    Consumer,
    KafkaError,
    KafkaException,
    TopicPartition,
)

from mmbroker.schemas.codec import Codec, MalformedEventError, readable
from mmbroker.schemas.events import Alert, Event, ScoredGalaxy
from mmbroker.schemas.wording import meant
from mmbroker.streams.kafka.batches import batch_at
from mmbroker.streams.kafka.client import (
    METADATA_TIMEOUT_S,
    KafkaUnavailableError,
    consumer,
    partitions_of,
)
from mmbroker.streams.kafka.guarded import BatchEndsReaderError, end_of_unreadable, guarded
from mmbroker.streams.kafka.guarded_child import PlainMessage, plain
from mmbroker.streams.kafka.offsets import end_offsets, is_unreadable, start_offsets
from mmbroker.streams.kafka.refusal import complaint
from mmbroker.streams.kafka.registry import make_codec
from mmbroker.streams.local_stack import load_settings
from mmbroker.streams.settings import Settings, SettingsError
from mmbroker.streams.stages.messages import Headers
from mmbroker.streams.topics import NAMED

POLL_S = 0.5
END_WAIT_MS = 50
FOLLOW_WAIT_MS = 500
MAX_ROW = 200
"""Longest text, in characters, of a message without a galaxy."""

WIDE = 160
"""Terminals of so many columns hold the line of a galaxy with its reasons."""


@dataclass(frozen=True, slots=True)
class Read:
    """A message that was read.

    Attributes:
        topic: its topic.
        partition: its partition.
        offset: its offset.
        timestamp_ms: its Kafka timestamp, in ms since 1970 in UTC.
        key: its key.
        value: its bytes; if they cannot be decoded, JSON with the reason and their beginning; of a
            tombstone, which deletes what its key had, JSON that says so.
        event: the decoded event; None for a JSON message, or if it cannot be decoded.
        headers: its headers.
    """

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes
    value: bytes
    event: Event | None
    headers: Headers = field(default_factory=dict)

    @property
    def plain(self) -> dict[str, Any]:
        """The content as plain JSON values, without binary grids."""
        if self.event is None:
            content: dict[str, Any] = json.loads(self.value)
            return content
        return readable(self.event)

    @property
    def galaxy(self) -> ScoredGalaxy | None:
        """The scored galaxy in the event; None if it has none."""
        if isinstance(self.event, Alert):
            return self.event.galaxy
        return self.event if isinstance(self.event, ScoredGalaxy) else None


class _Line(NamedTuple):
    """The line of a scored galaxy or of an alert, in parts.

    Attributes:
        first: what matters most, 72 columns of an alert.
        more: interval and the rest.
        reasons: those of an alert; empty for a scored galaxy.
    """

    first: list[str]
    more: list[str]
    reasons: str


def row(message: Read) -> str:
    """A message on one line, for people.

    A ``*`` marks simulated data, and a ``?`` an ambiguous position.
    """
    line = _line(message)
    if line is None:
        return _fields(message)
    return "  ".join([*line.first, *line.more, line.reasons]).rstrip()


def rows(message: Read, columns: int) -> list[str]:
    """A message on a terminal: one line, or two where a galaxy's line is wider than the terminal.

    The second line begins with the reasons of an alert. Where something is cut stands ``…``.

    Args:
        message: the message.
        columns: width of the terminal. Lines of messages without a galaxy are not cut to it.
    """
    line = _line(message)
    if line is None:
        return [_fields(message)]
    if columns >= WIDE:
        return [_cut(row(message), columns)]
    more = "  ".join(filter(None, [line.reasons, *line.more]))
    return [_cut("  ".join(line.first), columns), _cut(f"    {more}", columns)]


def heading(message: Read) -> str:
    """A heading for the lines of messages like this one."""
    when = f"{'time, UTC':19}"
    if _line(message) is None:
        return f"{when}  fields of the message"
    alert = [f"{'alert':10}"] if "alert_type" in message.plain else []
    return "  ".join(
        [when, *alert, f"{'galaxy, * simulated':21}", f"{'redshift':7}", "probability"]
    )


def _line(message: Read) -> _Line | None:
    """The line of a galaxy; None if the message is not about one, whatever it is."""
    content = message.plain
    try:
        galaxy = content.get("galaxy", content)
        redshift, probability = galaxy["redshift"], galaxy["probability"]
        if redshift is None or probability is None:
            stated, within = ["z=none ", "P=none "], galaxy["redshift_reason"]
        else:
            interval = redshift["interval_68"]
            stated = [f"z={redshift['best']:.3f}", f"P={probability:.3f}"]
            within = f"68 % in [{interval['lower']:.3f}, {interval['upper']:.3f}]"
        marks = ("*" if galaxy["simulated"] else " ") + ("?" if galaxy["ambiguous"] else " ")
        rank = content.get("stream_rank", galaxy["rank"])
        count = content.get("stream_galaxies", galaxy["ranked_galaxies"])
        return _Line(
            [
                _when(message),
                *([f"{content['alert_type']:10}"] if "alert_type" in content else []),
                f"{galaxy['galaxy_id']}{marks}",
                *stated,
            ],
            [
                within,
                f"HyperScore={galaxy['hyperscore']:.2f}",
                f"v{galaxy['version']}",
                f"rank {rank} of {count}" if rank else "out",
            ],
            "; ".join(content.get("reasons", [])),
        )
    except (KeyError, TypeError, ValueError):
        return None


def _fields(message: Read) -> str:
    """The fields of a message that are numbers or texts, on one line."""
    plain = [
        f"{key}={round(each, 6) if isinstance(each, float) else each}"
        for key, each in message.plain.items()
        if isinstance(each, str | int | float)
    ]
    return f"{_when(message)}  {_cut(' '.join(plain), MAX_ROW)}"


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"


def _when(message: Read) -> str:
    try:
        return f"{datetime.fromtimestamp(message.timestamp_ms / 1000, UTC):%Y-%m-%d %H:%M:%S}"
    except (OSError, OverflowError, ValueError):
        return f"at {message.timestamp_ms:+d} ms"  # no date of our calendar


def topic_of(settings: Settings, stream: str) -> str:
    """The topic of an alert stream, or of ``scored``, ``fingerprints``, ``quarantine`` and so on.

    Raises:
        SettingsError: there is no such stream; the message lists those that exist.
    """
    topic = settings.topics.by_name(stream)
    if topic is None:
        alerts = [each.name for each in settings.alert_streams]
        named = {settings.topics.by_name(each): each for each in (*alerts, *NAMED)}
        hint = (
            f" (the stream of this topic is {named[stream]})"
            if stream in named
            else meant(stream, named.values())
        )
        raise SettingsError(
            f"there is no stream {stream!r}{hint}; there are {', '.join(alerts)}, and "
            f"{', '.join(NAMED)}"
        )
    return topic


def start_of(text: str) -> datetime | int:
    """Read the text that says where to start.

    Args:
        text: ``earliest``, ``latest``, or an ISO 8601 time; the time is in UTC if it has no zone.

    Returns:
        A time, or one of confluent-kafka's ``OFFSET_BEGINNING`` and ``OFFSET_END``.

    Raises:
        ValueError: the text is none of these.
    """
    if text in ("earliest", "latest"):
        return int(OFFSET_BEGINNING if text == "earliest" else OFFSET_END)
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(
            f"--from {text!r} is neither earliest, latest nor a time such as 2026-05-01T12:00"
        ) from None
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def subscribe(
    stream: str,
    start: str = "latest",
    until_end: bool = False,
    settings: Settings | None = None,
) -> Iterator[Read]:
    """Read a stream, for programs of subscribers.

    Args:
        stream: an alert stream; or ``scored``, ``fingerprints``, ``observations``, ``quarantine``.
        start: ``earliest``, ``latest``, or an ISO 8601 time, which is in UTC if it has no zone.
        until_end: stop when the end of the stream is reached; otherwise wait for more for ever.
        settings: the settings; by default those of ``load_settings``.

    Yields:
        Each message, with its event, its place and its bytes.

    Raises:
        SettingsError: there is no such stream, or a setting is wrong.
        KafkaUnavailableError: Kafka or the topic cannot be reached.
    """
    yield from read(settings or load_settings(), stream, start, until_end)


def read(
    settings: Settings,
    stream: str,
    start: str = "earliest",
    until_end: bool = False,
    stop: Callable[[], bool] = lambda: False,
    key: bytes | None = None,
) -> Iterator[Read]:
    """Read a stream, without joining a consumer group or committing offsets.

    Args:
        settings: the settings.
        stream: see ``topic_of``.
        start: see ``start_of``.
        until_end: stop when the end of every partition is reached.
        stop: is called between messages, and says whether to stop.
        key: skip messages with other keys without decoding them; None reads all.

    Yields:
        Each message. One that says so stands for a batch that cannot be read.

    Raises:
        SettingsError: there is no such stream.
        KafkaUnavailableError: Kafka or the topic cannot be reached.
        InfrastructureError: a schema registry is configured and cannot be reached.
    """
    topic = topic_of(settings, stream)
    codec = make_codec(settings)
    # Kafka reports the end of a partition only after it has waited this long for more messages.
    wait_ms = END_WAIT_MS if until_end else FOLLOW_WAIT_MS
    with closing(consumer(settings.kafka, fetch_wait_max_ms=wait_ms)) as reader:
        partitions = _positions(reader, settings, topic, start_of(start))
        if topic in (settings.topics.observations, settings.topics.outcomes):  # of strangers
            offsets = _offsets(settings, topic, partitions)
            found = _read_in_children(settings, topic, offsets, until_end, stop)
            yield from (each for each in found if key is None or each.key == key)
            return
        reader.assign(partitions)
        open_partitions = {each.partition for each in partitions}
        while open_partitions and not stop():
            message = reader.poll(POLL_S)
            if message is None:
                continue
            error = message.error()
            if error is None:
                if key is None or message.key() == key:
                    yield _read(topic, message.partition() or 0, plain(message), codec)
            elif error.code() == KafkaError._PARTITION_EOF:
                if until_end:
                    open_partitions.discard(message.partition())
            elif is_unreadable(error):
                place = message.partition() or 0, message.offset() or 0
                end = end_of_unreadable(settings.kafka, topic, *place)
                if end > place[1] and key is None:
                    yield _unreadable(topic, *place, end)
                reader.seek(TopicPartition(topic, place[0], end))
            elif not error.retriable():
                raise KafkaUnavailableError(complaint(settings.kafka, error, f"topic {topic}"))


def read_all(settings: Settings, stream: str) -> Iterator[Read]:
    """Read a stream from its beginning to its present end, one partition after the other.

    Child processes of bounded memory do it, so that no message ends this one.

    Args:
        settings: how to reach Kafka.
        stream: see ``topic_of``.

    Yields:
        Each message. One that says so stands for a batch that cannot be unpacked.

    Raises:
        SettingsError: there is no such stream.
        KafkaUnavailableError: Kafka or the topic cannot be reached.
        InfrastructureError: a schema registry is configured and cannot be reached.
    """
    topic = topic_of(settings, stream)
    partitions_of(settings.kafka, topic)  # says why, if there are none
    yield from _read_in_children(settings, topic, start_offsets(settings, topic), until_end=True)


def _read_in_children(
    settings: Settings,
    topic: str,
    following: dict[int, int],
    until_end: bool,
    stop: Callable[[], bool] = lambda: False,
) -> Iterator[Read]:
    """Read a topic in child processes; the offsets are those that are read next, by partition."""
    codec = make_codec(settings)
    seen: dict[int, int] = {}
    while not stop():
        ends = end_offsets(settings, topic)
        for partition in following:
            if ends[partition] in (following[partition], seen.get(partition)):
                continue
            for one, after in _read_partition(
                settings, topic, partition, following[partition], codec
            ):
                yield one
                following[partition] = after
                if stop():
                    return
        if until_end:
            return
        seen = ends
        time.sleep(POLL_S)


def _read_partition(
    settings: Settings, topic: str, partition: int, offset: int, codec: Codec
) -> Iterator[tuple[Read, int]]:
    """What is in a partition up to its present end, with the offset after it."""
    while True:
        try:
            with closing(guarded(settings.kafka, topic, partition, offset)) as messages:
                for message in messages:
                    offset = message.offset + 1
                    yield _read(topic, partition, message, codec), offset
            return
        except BatchEndsReaderError as error:
            lost = batch_at(settings.kafka, topic, partition, error.offset)
            start, offset = max(lost.start, error.offset), lost.stop
            yield _unreadable(topic, partition, start, offset, error.why), offset


def _unreadable(
    topic: str, partition: int, offset: int, end: int, why: str = "cannot be unpacked"
) -> Read:
    """Stands for a batch of messages that cannot be read."""
    said = f"offsets {offset} to {end - 1}: their batch {why}"
    return Read(topic, partition, offset, 0, b"", json.dumps({"undecodable": said}).encode(), None)


def _positions(
    reader: Consumer, settings: Settings, topic: str, start: datetime | int
) -> list[TopicPartition]:
    count = partitions_of(settings.kafka, topic, reader)
    if isinstance(start, int):
        return [TopicPartition(topic, number, start) for number in range(count)]
    time_ms = int(start.timestamp() * 1000)
    wanted = [TopicPartition(topic, number, time_ms) for number in range(count)]
    try:
        return list(reader.offsets_for_times(wanted, timeout=METADATA_TIMEOUT_S))
    except KafkaException as error:
        raise KafkaUnavailableError(f"{topic}: {error.args[0].str()}") from error


def _offsets(settings: Settings, topic: str, places: list[TopicPartition]) -> dict[int, int]:
    """Offsets in place of confluent-kafka's ``OFFSET_BEGINNING`` and ``OFFSET_END``."""
    first, last = start_offsets(settings, topic), end_offsets(settings, topic)
    named = {OFFSET_BEGINNING: first, OFFSET_END: last}
    return {
        each.partition: named[each.offset][each.partition] if each.offset in named else each.offset
        for each in places
    }


def _read(topic: str, partition: int, message: PlainMessage, codec: Codec) -> Read:
    value, event = message.value or b"", None
    if message.value is None:
        value = json.dumps({"deleted": repr(message.key)}).encode()  # a tombstone of compaction
    elif not _is_json_object(value):
        try:
            event = codec.decode(value)
        except MalformedEventError as error:
            value = json.dumps({"undecodable": str(error), "begins": repr(value[:200])}).encode()
    return Read(
        topic,
        partition,
        message.offset,
        message.timestamp_ms,
        message.key or b"",
        value,
        event,
        dict(message.headers),  # type: ignore[arg-type]
    )


def _is_json_object(value: bytes) -> bool:
    """Whether a value is a JSON object that can be read and written again."""
    try:
        return value[:1] == b"{" and bool(json.dumps(json.loads(value)))
    except (RecursionError, ValueError):
        return False
