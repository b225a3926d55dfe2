"""Messages as the stages see them: bytes in, bytes out, no client library."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

Headers = dict[str, bytes]

OBSERVED_AT = "observed-at"
"""Header with the Kafka timestamp, in ms, of the observation that a message goes back to; of the
earliest of several, which has waited longest."""


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
        """When the observation arrived that this message goes back to, as header value."""
        return self.headers.get(OBSERVED_AT) or str(self.timestamp_ms).encode()


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message to send."""

    topic: str
    key: bytes
    value: bytes
    headers: Headers = field(default_factory=dict)


def note_observed(observed_at: dict[str, bytes], galaxy_id: str, event: Received) -> None:
    """Keep since when a galaxy has waited for what comes of it."""
    before = observed_at.get(galaxy_id, event.observed_at)
    # Times in decimal: the shorter number is the smaller one.
    observed_at[galaxy_id] = min(before, event.observed_at, key=lambda each: (len(each), each))


def nothing_more() -> list[Outgoing]:
    """The end of a batch: nothing is left to send."""
    return []


@dataclass(frozen=True, slots=True)
class Processed:
    """What came of a batch.

    Attributes:
        messages: to be sent before anything else happens.
        finish: called once they are durable; may return more to send, and is then called again.
    """

    messages: list[Outgoing]
    finish: Callable[[], list[Outgoing]] = nothing_more


def now_ms() -> int:
    """The broker's one clock: milliseconds since 1970 in UTC, as Kafka counts them."""
    return time.time_ns() // 1_000_000
