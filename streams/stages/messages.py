"""Messages as the stages see them, independent of the client library of Kafka."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

Headers = dict[str, bytes]

OBSERVED_AT = "observed-at"
"""Header with the Kafka timestamp, in ms, of the observation from which a message came; if it came
from several, of the earliest, which has waited longest."""

LONGEST_TIME = 16
"""A header with this many digits, or more, is not taken for a time in ms."""

UNKNOWN_PLACE = -1
"""Partition and offset of a message that Kafka does not have."""


@dataclass(frozen=True, slots=True)
class Received:
    """A message read from Kafka."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    value: bytes | None
    headers: Headers = field(default_factory=dict)

    @property
    def observed_at(self) -> bytes:
        """Time in ms at which the observation behind this message arrived, as header value.

        It is a number of few digits, whatever a stranger put into the header.
        """
        return self.headers.get(OBSERVED_AT) or _digits(self.timestamp_ms)


def known_headers(given: Iterable[tuple[str, object]]) -> Headers:
    """Those of a stranger's headers that mean something here; all others are dropped."""
    return {
        name: value
        for name, value in given
        if name == OBSERVED_AT and isinstance(value, bytes) and is_time(value)
    }


def is_time(value: bytes) -> bool:
    """Whether a header's value is a time in ms."""
    return value.isdigit() and len(value) < LONGEST_TIME


def _digits(timestamp_ms: int) -> bytes:
    """A Kafka timestamp, which is -1 where there is none, and may be any number."""
    return str(min(max(timestamp_ms, 0), 10 ** (LONGEST_TIME - 1) - 1)).encode()


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message to send."""

    topic: str
    key: bytes
    value: bytes
    headers: Headers = field(default_factory=dict)


def note_observed(observed_at: dict[str, bytes], galaxy_id: str, event: Received) -> None:
    """Keep the earliest time at which an observation of a galaxy arrived.

    Args:
        observed_at: times by galaxy id, as header values; it is changed.
        galaxy_id: the galaxy.
        event: a message about it.
    """
    before = observed_at.get(galaxy_id, event.observed_at)
    # The times are decimal digits: the shorter number is the smaller one.
    observed_at[galaxy_id] = min(before, event.observed_at, key=lambda each: (len(each), each))


def nothing_more() -> list[Outgoing]:
    """A ``Processed.finish`` that sends nothing."""
    return []


@dataclass(frozen=True, slots=True)
class Processed:
    """The result of a batch.

    Attributes:
        messages: messages to send before anything else happens.
        finish: to be called when the messages are durable. It may return more messages to send; it
            is then called again, until it returns none.
    """

    messages: list[Outgoing]
    finish: Callable[[], list[Outgoing]] = nothing_more


def now_ms() -> int:
    """The broker's one clock: milliseconds since 1970 in UTC, as Kafka counts them."""
    return time.time_ns() // 1_000_000
