"""The galaxies that a batch changes, between the store and their new fingerprints.

Merging costs little. To leave out an observation that is corrected or withdrawn, its galaxy has to
be made again from all the others, once for all that a transaction leaves out. A galaxy may have
100,000 observations, and all others wait for a transaction that writes. So what takes long is read
outside of it: the transaction is undone, its galaxies are read, and it is repeated.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import partial

from mmbroker.processors.fingerprint import merge as fingerprints
from mmbroker.processors.fingerprint.contribution import Contribution
from mmbroker.processors.fingerprint.merge import Addition, Merging, Outline, Tally, outline
from mmbroker.processors.sky import Position
from mmbroker.schemas.codec import Codec
from mmbroker.schemas.events import Fingerprint, Observation, ParsedObservation, Source
from mmbroker.streams.stages.archive import (
    Parse,
    Rebuilding,
    archived_observation,
    decoded,
    require_archived,
    stored_event,
    with_older_trees,
)
from mmbroker.streams.store import Reading, Store, Writing

_OUTLINE_BYTES = 500
"""Memory for each observation of a galaxy of which one is left out."""

_STEP_S = 1.0
"""Time between two notes of progress while archived observations are read."""


class NotReadyError(Exception):
    """Something has to be got before the store can be written; nothing has changed."""


class ArchivedGalaxies:
    """What is read from the archive of the galaxies of which observations are left out.

    Args:
        store: has the archive.
        codec: bytes to events.
        progressed: is called now and then while ``catch_up`` reads.
    """

    def __init__(self, store: Store, codec: Codec, progressed: Callable[[], None]) -> None:
        self._store = store
        self._codec = codec
        self._progressed = progressed
        self._deadline = math.inf
        self._outlines: dict[bytes, Outline] = {}
        self._rebuildings: dict[str, Rebuilding] = {}
        self._wanted: list[Callable[[Reading], bool]] = []

    def begin(self, seconds: float) -> None:
        """Begin a transaction, in which archived observations may be read for some time."""
        self._deadline = time.monotonic() + seconds
        self._wanted.clear()

    def is_late(self) -> bool:
        """Whether the time of the transaction is over."""
        return time.monotonic() >= self._deadline

    def outlines(self, reading: Reading, hashes: Sequence[bytes]) -> dict[bytes, Outline]:
        """The outlines of observations, without those of which the archive has no content.

        Raises:
            NotReadyError: this takes long; ``catch_up`` does it.
        """
        if not self._read_outlines(hashes, reading):
            self._wanted.append(partial(self._read_outlines, hashes))
            raise NotReadyError
        return {hashed: self._outlines[hashed] for hashed in hashes if hashed in self._outlines}

    def rebuilding(
        self, reading: Reading, galaxy_id: str, hashes: Sequence[bytes]
    ) -> Rebuilding | None:
        """A galaxy made of archived observations; None if this takes long: ``catch_up`` does it."""
        if not self._rebuild(galaxy_id, hashes, reading):
            self._wanted.append(partial(self._rebuild, galaxy_id, hashes))
            return None
        return self._rebuildings[galaxy_id]

    def catch_up(self) -> None:
        """Read what took too long, in transactions that keep nobody waiting."""
        wanted, self._wanted = self._wanted, []
        for read in wanted:
            is_done = False
            while not is_done:
                self._deadline = time.monotonic() + _STEP_S
                with self._store.reading() as reading:
                    is_done = read(reading)
                self._progressed()

    @property
    def size_bytes(self) -> int:
        """About the memory for what was read."""
        return _OUTLINE_BYTES * len(self._outlines)

    def forget(self) -> None:
        """Free this memory."""
        self._outlines.clear()
        self._rebuildings.clear()

    def _read_outlines(self, hashes: Sequence[bytes], reading: Reading) -> bool:
        for hashed in hashes:
            if hashed in self._outlines:
                continue
            if self.is_late():
                return False
            archived = reading.archived(hashed)
            if archived is not None and archived.data:
                self._outlines[hashed] = outline(decoded(self._codec, archived))
        return True

    def _rebuild(self, galaxy_id: str, hashes: Sequence[bytes], reading: Reading) -> bool:
        known = self._rebuildings.get(galaxy_id)
        if known is None or not known.begins(hashes):
            known = self._rebuildings[galaxy_id] = Rebuilding(galaxy_id)
        return known.extend(reading, self._codec, hashes, lambda: not self.is_late())


class Galaxy:
    """A galaxy in a transaction.

    Args:
        stored: its fingerprint in the store, or ``empty``.
    """

    def __init__(self, stored: Fingerprint) -> None:
        self.stored = stored
        self.version = stored.version
        """The version grows by one with every change."""
        self._merging = Merging(stored)
        self._added: dict[bytes, tuple[Observation, Addition]] = {}
        self._left_out: set[bytes] = set()
        self._outlines: dict[bytes, Outline] | None = None  # of the stored ones, once asked for
        self._absent: set[bytes] = set()
        self._tally: Tally | None = None  # once an observation is left out
        self._place = fingerprints.position(stored)

    @property
    def position(self) -> Position | None:
        """Where it is; None if it has no observations."""
        return self._place if self._observations else None

    @property
    def _observations(self) -> int:
        return (self._tally or self._merging).observations

    def merge(self, observation: Observation, addition: Addition) -> None:
        """Merge an observation.

        Raises:
            FingerprintFullError: the fingerprint would be too large; nothing has changed.
        """
        hashed = addition.contribution.observation_hash
        if self._tally is None:
            self._merging.add(addition)
        else:
            self._tally.add(hashed, outline(observation))
        self._added[hashed] = observation, addition
        self._changed()

    def require_rebuildable(self, archive: ArchivedGalaxies, reading: Reading, but: bytes) -> None:
        """Make sure that it can be made again without an observation.

        Args:
            archive: reads the archive.
            reading: the store.
            but: hash of the observation.

        Raises:
            NotArchivedError: the content of other observations is not in the archive.
            NotReadyError: the archive has to be read first.
        """
        if self._outlines is None:
            hashes = fingerprints.observation_hashes(self.stored)
            self._outlines = archive.outlines(reading, hashes)
            self._absent = {*hashes} - self._outlines.keys()
        absent = len(self._absent - {but})
        require_archived(self.stored.galaxy_id, self._observations - 1, absent)

    def is_archived(self, hashed: bytes) -> None:
        """Note that the content of an observation came into the archive."""
        if hashed in self._absent:
            self._outlines = None  # to be asked for again

    def leave_out(self, hashed: bytes) -> None:
        """Leave out an observation, without which it ``require_rebuildable``."""
        self._left_out.add(hashed)
        self._absent.discard(hashed)
        if self._tally is None:
            outlines = dict(self._outlines or {})
            outlines |= {each: outline(added) for each, (added, _) in self._added.items()}
            outlines.pop(hashed, None)
            self._tally = Tally(outlines)
        else:
            self._tally.take_out(hashed)
        self._changed()

    def fingerprint(
        self, archive: ArchivedGalaxies, reading: Reading, codec: Codec, parse: Parse
    ) -> Fingerprint | None:
        """The fingerprint with all changes; None if the archive has to be read first."""
        if self._tally is None:
            return self._merging.fingerprint()
        if not self._observations:
            vacated = fingerprints.vacated(self.stored.galaxy_id, self._place)
            return dataclasses.replace(vacated, version=self.version)
        hashes = self._without_left_out(fingerprints.observation_hashes(self.stored))
        rebuilding = archive.rebuilding(reading, self.stored.galaxy_id, hashes)
        if rebuilding is None:
            return None
        merging = Merging(rebuilding.fingerprint())
        parseable = [*rebuilding.parseable]
        trees = {tree.observation_id: tree for tree in self.stored.parsed}
        for hashed in self._without_left_out(self._added):
            observation, addition = self._added[hashed]
            merging.add(addition)
            trees |= {tree.observation_id: tree for tree in addition.contribution.parsed}
            if observation.spectrum is not None or observation.continuum_map is not None:
                parseable.append((observation.time_mjd, observation.observation_id, hashed))
        parseable.sort(reverse=True)
        rebuilt = _with_trees(merging.fingerprint(), trees, parseable)
        rebuilt = with_older_trees(
            rebuilt,
            [each for each in parseable if each[1] not in trees],
            lambda hashed: archived_observation(reading, codec, hashed)[1],
            parse,
        )
        return dataclasses.replace(rebuilt, version=self.version)

    def _without_left_out(self, hashes: Iterable[bytes]) -> list[bytes]:
        return [hashed for hashed in hashes if hashed not in self._left_out]

    def _changed(self) -> None:
        self.version += 1
        if self._observations:
            self._place = (self._tally or self._merging).position


class Galaxies:
    """The galaxies that a transaction has read or changed, by their ids.

    Args:
        writing: the transaction.
        codec: events to bytes and back.
        archive: reads the archive.
        parse: makes feature trees.
    """

    def __init__(
        self, writing: Writing, codec: Codec, archive: ArchivedGalaxies, parse: Parse
    ) -> None:
        self._writing = writing
        self._codec = codec
        self._archive = archive
        self._parse = parse
        self._loaded: dict[str, Galaxy] = {}
        self.size_bytes = 0
        """About the memory for what was read."""

    def __getitem__(self, galaxy_id: str) -> Galaxy:
        if galaxy_id not in self._loaded:
            encoded = self._writing.fingerprint(galaxy_id)
            what = f"the fingerprint of {galaxy_id}"
            self._loaded[galaxy_id] = Galaxy(
                fingerprints.empty(galaxy_id)
                if encoded is None
                else stored_event(self._codec, Fingerprint, encoded, what)
            )
            self.size_bytes += len(encoded or b"")
        return self._loaded[galaxy_id]

    def merge(
        self,
        galaxy_id: str,
        observation: Observation,
        added: Contribution,
        source: Source,
        candidates: Sequence[str],
    ) -> None:
        """Merge an observation into a galaxy.

        Raises:
            FingerprintFullError: the fingerprint would be too large; nothing has changed.
        """
        galaxy = self[galaxy_id]
        before = galaxy.position
        galaxy.merge(observation, Addition(added, source, candidates))
        self._writing.put_position(galaxy_id, galaxy.position, before)

    def require_rebuildable(self, galaxy_id: str, but: bytes) -> None:
        """Make sure that an observation can be left out of a galaxy.

        Raises:
            NotArchivedError: the content of other observations is not in the archive.
            NotReadyError: the archive has to be read first.
        """
        self[galaxy_id].require_rebuildable(self._archive, self._writing, but)

    def leave_out(self, galaxy_id: str, hashed: bytes) -> None:
        """Leave an observation out of a galaxy; this has to be possible."""
        galaxy = self[galaxy_id]
        before = galaxy.position
        galaxy.leave_out(hashed)
        self._writing.put_position(galaxy_id, galaxy.position, before)

    def note_archived(self, galaxy_id: str, hashed: bytes) -> None:
        """Note that the content of an observation of a galaxy came into the archive."""
        if galaxy_id in self._loaded:
            self._loaded[galaxy_id].is_archived(hashed)

    def store(self, touched: Collection[str]) -> dict[str, tuple[int, bytes]] | None:
        """Store the fingerprints that changed.

        Args:
            touched: the galaxies to publish, by id; some may be unchanged.

        Returns:
            (version, encoded fingerprint) of every galaxy in ``touched``; None if the archive has
            to be read first.
        """
        made: dict[str, Fingerprint] = {}
        for galaxy_id in touched:
            fingerprint = self[galaxy_id].fingerprint(
                self._archive, self._writing, self._codec, self._parse
            )
            if fingerprint is not None:
                made[galaxy_id] = fingerprint
        if len(made) < len(touched):
            return None
        encoded = {}
        for galaxy_id, fingerprint in made.items():
            data = self._codec.encode(fingerprint)
            encoded[galaxy_id] = fingerprint.version, data
            if fingerprint is not self[galaxy_id].stored:
                self._writing.put_fingerprint(galaxy_id, fingerprint.version, data)
        return encoded


def _with_trees(
    fingerprint: Fingerprint,
    trees: dict[str, ParsedObservation],
    parseable: Sequence[tuple[float, str, bytes]],
) -> Fingerprint:
    """The fingerprint with the trees of its own observations among some."""
    names = [name for _, name, _ in parseable if name in trees]
    kept = [trees[name] for name in names[: fingerprints.MAX_PARSED]]
    return dataclasses.replace(fingerprint, parsed=kept[::-1])
