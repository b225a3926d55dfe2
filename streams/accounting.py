"""Counting what became of every event, exactly, however often it is delivered.

Offsets tell the events apart: an event below the offset up to which a stage has accounted is a
redelivery and was counted before. Counts and offsets are stored together.
"""

from __future__ import annotations

from collections import Counter

from .messages import Received
from .store import Reading, Writing


class Account:
    """The counts of one batch.

    Args:
        stage: the stage that counts.
        reading: the store as it was before the batch.
    """

    def __init__(self, stage: str, reading: Reading) -> None:
        self._stage = stage
        self._reading = reading
        self._known: dict[tuple[str, int], int] = {}
        self._next: dict[tuple[str, int], int] = {}
        self._outcomes: Counter[str] = Counter()

    def add(self, event: Received, outcome: str) -> None:
        """Count an event under what became of it, unless it was counted before."""
        place = (event.topic, event.partition)
        if place not in self._known:
            self._known[place] = self._reading.next_offset(self._stage, *place)
        if event.offset >= max(self._known[place], self._next.get(place, 0)):
            self._outcomes[outcome] += 1
            self._next[place] = event.offset + 1

    def store(self, writing: Writing) -> None:
        """Make the counts durable, with the offsets that they go with."""
        writing.account(self._stage, self._next, self._outcomes)
