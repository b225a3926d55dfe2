"""First stage: takes observations and publishes the new fingerprints of their galaxies.

It is the only stage that keeps the state of galaxies. First, models on Triton parse the spectra and
maps of a batch. Then, in one transaction of the store, the observations are associated with
galaxies, merged, archived and counted. At last the new fingerprints are published. After a crash
between the last two steps, Kafka delivers the observations again. They are repeats then, and a
repeat publishes its galaxy again.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count

from mmbroker.models.serving.parsers import ParserClient
from mmbroker.processors.fingerprint import merge as fingerprints
from mmbroker.processors.fingerprint.contribution import (
    Contribution,
    contribution,
    observation_hash,
)
from mmbroker.processors.fingerprint.errors import UnusableError
from mmbroker.processors.fingerprint.merge import FingerprintFullError
from mmbroker.processors.sky import associate
from mmbroker.processors.validation import problems
from mmbroker.schemas.codec import Codec, MalformedEventError
from mmbroker.schemas.events import Observation, Source
from mmbroker.schemas.records import to_record
from mmbroker.streams.names import BUILD_FINGERPRINTS
from mmbroker.streams.stages.accounting import Account, Partition
from mmbroker.streams.stages.archive import NotArchivedError
from mmbroker.streams.stages.base import RefusedError, Stage
from mmbroker.streams.stages.galaxies import ArchivedGalaxies, Galaxies, NotReadyError
from mmbroker.streams.stages.messages import (
    OBSERVED_AT,
    Outgoing,
    Processed,
    Received,
    note_observed,
)
from mmbroker.streams.stages.parsing import ArchivedTrees, Parsing
from mmbroker.streams.store import Archived, Reading, Store, Writing
from mmbroker.streams.topics import Topics

PART_S = 2.0
PART_BYTES = 32 * 2**20
"""A transaction takes no more events when it has taken this long, or has read this much. The rest
of the batch comes into the next one."""

LAST_ATTEMPT = 4
"""Number of tries after which a transaction waits for nothing outside of it."""


@dataclass(frozen=True)
class Prepared:
    """A valid observation with its contribution, which is None for a withdrawal."""

    observation: Observation
    contribution: Contribution | None


@dataclass(frozen=True)
class _Refused:
    """An event that is refused whatever the store holds: its outcome and its quarantine message."""

    outcome: str
    message: Outgoing


@dataclass(frozen=True)
class _TakenIn:
    """The result of one transaction in the store.

    Attributes:
        events: number of the events, which are the first of the batch.
        refused: quarantine messages of the events that were refused.
        encoded: (version, encoded fingerprint) of every galaxy to publish, by galaxy id.
        observed_at: earliest time of an observation, by galaxy id; see ``messages.OBSERVED_AT``.
        outcomes: number of events by outcome.
    """

    events: int
    refused: list[Outgoing]
    encoded: dict[str, tuple[int, bytes]]
    observed_at: dict[str, bytes]
    outcomes: Mapping[str, int]


class _UndoneError(Exception):
    """Something has to be got before the store can be written; nothing has changed.

    Args:
        events: number of events that the transaction had, which is to be repeated.
    """

    def __init__(self, events: int) -> None:
        super().__init__()
        self.events = events


class BuildFingerprints(Stage):
    """The stage.

    Args:
        store: galaxy state and counts.
        topics: names of the topics.
        codec: events to bytes and back.
        parsers: read spectra and maps; without them there are no feature trees.
    """

    name = BUILD_FINGERPRINTS

    def __init__(
        self, store: Store, topics: Topics, codec: Codec, parsers: Sequence[ParserClient] = ()
    ) -> None:
        super().__init__(store, topics, codec)
        self._parsing = Parsing(parsers, store, self.metrics)

    @property
    def sources(self) -> Sequence[str]:
        """The observations."""
        return [self.topics.observations]

    def process(self, batch: Sequence[Received]) -> Iterator[Processed]:
        """Merge a batch of observations; see ``stages.base.Stage``."""
        with self.metrics.part("prepare"):
            prepared = [self._prepared(event) for event in batch]
        with self.metrics.part("parse"):
            self._parse(prepared)
        log_starts = self.log_starts(batch)
        archive = ArchivedGalaxies(self.store, self.codec, self.progressed)
        while batch:
            taken_in = self._part(batch, prepared, log_starts, archive)
            batch, prepared = batch[taken_in.events :], prepared[taken_in.events :]
            self.metrics.accounted(taken_in.outcomes)
            yield self._processed(taken_in)

    def _processed(self, taken_in: _TakenIn) -> Processed:
        observed_at = taken_in.observed_at
        published = {galaxy_id: version for galaxy_id, (version, _) in taken_in.encoded.items()}
        messages = [
            self._message(galaxy_id, data, observed_at[galaxy_id])
            for galaxy_id, (_, data) in taken_in.encoded.items()
        ]
        return Processed(
            taken_in.refused + messages, lambda: self._moved_on(published, observed_at)
        )

    def _part(
        self,
        batch: Sequence[Received],
        prepared: Sequence[Prepared | _Refused],
        log_starts: Mapping[Partition, int],
        archive: ArchivedGalaxies,
    ) -> _TakenIn:
        """Merge and count the first events of a batch, as many as a transaction should have.

        What takes long is got outside of the transaction, which is then repeated.
        """
        if archive.size_bytes > PART_BYTES:
            archive.forget()
        trees = ArchivedTrees(self._parsing)
        events = len(batch)
        for attempt in count(1):
            # In the end it waits no more, because others may change the same galaxies all the time.
            archive.begin(PART_S if attempt < LAST_ATTEMPT else math.inf)
            try:
                with self.metrics.part("store"):
                    return self._take_in(
                        batch[:events], prepared[:events], log_starts, archive, trees
                    )
            except _UndoneError as undone:
                events = undone.events
                with self.metrics.part("rebuild"):
                    archive.catch_up()
                with self.metrics.part("parse"):
                    trees.ask()
                self.progressed()
        raise AssertionError  # it returns

    def _prepared(self, event: Received) -> Prepared | _Refused:
        """An observation with its contribution, or the reason why it is refused.

        The quarantine message is made here, to keep the transaction of the store short.
        """
        prepared = prepare(self.codec, event.value)
        if isinstance(prepared, RefusedError):
            return _Refused(prepared.outcome, self.quarantined(event, prepared))
        return prepared

    def _take_in(
        self,
        batch: Sequence[Received],
        prepared: Sequence[Prepared | _Refused],
        log_starts: Mapping[Partition, int],
        archive: ArchivedGalaxies,
        trees: ArchivedTrees,
    ) -> _TakenIn:
        """Merge and count the first events of a batch in one transaction.

        Raises:
            _UndoneError: something has to be got first; nothing has changed.
        """
        refused: list[Outgoing] = []
        observed_at: dict[str, bytes] = {}
        events = 0
        with self.store.writing() as writing:
            account = Account(BUILD_FINGERPRINTS, writing, log_starts)
            galaxies = Galaxies(writing, self.codec, archive, trees.of)
            for event, each in zip(batch, prepared, strict=True):
                if isinstance(each, _Refused):
                    outcome = each.outcome
                    refused.append(each.message)
                else:
                    try:
                        outcome, touched = _take_in(event, each, galaxies, writing, self.codec)
                        for galaxy_id in touched:
                            note_observed(observed_at, galaxy_id, event)
                    except RefusedError as error:
                        outcome = error.outcome
                        refused.append(self.quarantined(event, error))
                    except NotReadyError:
                        if not events:
                            raise _UndoneError(1) from None
                        break
                account.add(event, outcome)
                events += 1
                if archive.is_late() or galaxies.size_bytes + archive.size_bytes > PART_BYTES:
                    break
            encoded = galaxies.store(observed_at)
            if encoded is None or trees.wants:
                raise _UndoneError(events)
            account.store(writing)
        return _TakenIn(events, refused, encoded, observed_at, account.outcomes)

    def probe(self) -> None:
        """Check the parsers; see ``stages.base.Stage``."""
        self._parsing.probe()

    def _parse(self, prepared: list[Prepared | _Refused]) -> None:
        """Add the feature trees to the contributions of observations."""
        valid = [
            (place, each.observation, each.contribution)
            for place, each in enumerate(prepared)
            if isinstance(each, Prepared) and each.contribution is not None
        ]
        trees = self._parsing.trees([observation for _, observation, _ in valid])
        for (place, observation, added), parsed in zip(valid, trees, strict=True):
            if parsed:
                prepared[place] = Prepared(observation, dataclasses.replace(added, parsed=parsed))

    def _message(self, galaxy_id: str, encoded: bytes, observed_at: bytes) -> Outgoing:
        headers = {OBSERVED_AT: observed_at}
        return Outgoing(self.topics.fingerprints, galaxy_id.encode(), encoded, headers)

    def _moved_on(self, published: dict[str, int], observed_at: dict[str, bytes]) -> list[Outgoing]:
        """Messages with fingerprints that another process changed while this one published.

        Every process checks this after it has published. So the last message of a galaxy has its
        newest state, in whichever order the messages of two processes arrive.
        """
        messages = []
        with self.store.reading() as reading:
            for galaxy_id, version in published.items():
                newest = reading.version(galaxy_id)
                if newest <= version:
                    continue
                encoded = reading.fingerprint(galaxy_id)
                if encoded is not None:
                    published[galaxy_id] = newest
                    messages.append(self._message(galaxy_id, encoded, observed_at[galaxy_id]))
        return messages


def prepare(codec: Codec, data: bytes | None) -> Prepared | RefusedError:
    """Decode and check an observation and compute its contribution, or say why it is refused."""
    try:
        observation = codec.decode_as(Observation, data)
    except MalformedEventError as error:
        return RefusedError("undecodable", str(error))
    wrong = problems(observation)
    if wrong:
        sender = f"{observation.observation_id[:80]!r} of {observation.instrument[:80]!r}"
        return RefusedError("invalid", f"{sender}: {'; '.join(wrong)}")
    if observation.is_withdrawal:
        return Prepared(observation, None)
    try:
        return Prepared(observation, contribution(observation))
    except UnusableError as error:
        return RefusedError("unusable", str(error))


def _take_in(
    event: Received, prepared: Prepared, galaxies: Galaxies, writing: Writing, codec: Codec
) -> tuple[str, list[str]]:
    """Merge one observation.

    Returns:
        The outcome, and the ids of the galaxies to publish.

    Raises:
        RefusedError: it cannot be merged; nothing has changed.
        NotReadyError: the archive has to be read first; nothing has changed.
    """
    observation = prepared.observation
    hashed = observation_hash(observation.observation_id)
    known = writing.archived(hashed)
    if known is None or known.status == "awaited":
        _require_rebuildable(observation, galaxies, writing)
    if known is not None and known.status == "awaited":
        replaced = dataclasses.replace(known, status="replaced", data=event.value or b"")
        writing.archive(hashed, replaced)
        # It was replaced before it arrived. If it replaces another, that one is replaced as well.
        return "superseded", _replace(observation.replaces, galaxies, writing)
    if known is not None:
        if known.data:
            _refuse_other_content(observation, known, event, codec)
        else:
            writing.archive(hashed, dataclasses.replace(known, data=event.value or b""))
            galaxies.note_archived(known.galaxy_id, hashed)
        return "repeated", _galaxies_of(observation, known, writing)

    source = Source(observation.observation_id, event.topic, event.partition, event.offset)
    touched: list[str] = []
    if prepared.contribution is None:
        archived = Archived("replaced", source=source, data=event.value or b"")
    else:
        archived = _merge(event, prepared.contribution, source, galaxies, writing, observation)
        touched.append(archived.galaxy_id)
    writing.archive(hashed, archived)
    if observation.replaces is None:
        return "merged", touched
    touched += _replace(observation.replaces, galaxies, writing)
    return "withdrawn" if observation.is_withdrawal else "corrected", touched


def _require_rebuildable(observation: Observation, galaxies: Galaxies, reading: Reading) -> None:
    """Make sure that a galaxy can be made again without the observation that is replaced.

    Args:
        observation: the one that replaces another; any other passes.
        galaxies: the fingerprints.
        reading: the store.

    Raises:
        RefusedError: the galaxy cannot be made again.
        NotReadyError: the archive has to be read first.
    """
    if observation.replaces is None:
        return
    hashed = observation_hash(observation.replaces)
    replaced = reading.archived(hashed)
    if replaced is None or replaced.status != "merged":
        return
    try:
        galaxies.require_rebuildable(replaced.galaxy_id, but=hashed)
    except NotArchivedError as error:
        raise RefusedError("not-archived", f"{error}; then publish this one again") from error


def _galaxies_of(observation: Observation, known: Archived, reading: Reading) -> list[str]:
    """The galaxies that an observation changed when it first arrived.

    These are its own galaxy, and the galaxy of the observation that it replaces.
    """
    galaxy_ids = [known.galaxy_id]
    if observation.replaces is not None:
        replaced = reading.archived(observation_hash(observation.replaces))
        galaxy_ids.append("" if replaced is None else replaced.galaxy_id)
    return [galaxy_id for galaxy_id in galaxy_ids if galaxy_id]


def _refuse_other_content(
    observation: Observation, known: Archived, event: Received, codec: Codec
) -> None:
    """Refuse other content under an id that is known; a repeat has the same content.

    Raises:
        RefusedError: the content is another.
    """
    if known.data == event.value:
        return
    before = codec.decode_as(Observation, known.data)
    if to_record(before) != to_record(observation):
        raise RefusedError(
            "conflicting",
            f"observation_id = {observation.observation_id!r} was taken in with other content; "
            "a correction needs an id of its own and names this one in replaces (of a table: "
            "mmbroker publish --correct)",
        )


def _merge(
    event: Received,
    added: Contribution,
    source: Source,
    galaxies: Galaxies,
    writing: Writing,
    observation: Observation,
) -> Archived:
    association = associate(added.position, writing.neighbours(added.position))
    galaxy_id = association.galaxy_id or fingerprints.galaxy_id(observation.observation_id)
    try:
        galaxies.merge(galaxy_id, observation, added, source, association.candidates)
    except FingerprintFullError as error:
        raise RefusedError("fingerprint-full", f"{galaxy_id}: {error}") from error
    return Archived("merged", galaxy_id, source, association.candidates, event.value or b"")


def _replace(observation_id: str | None, galaxies: Galaxies, writing: Writing) -> list[str]:
    """Take a corrected or withdrawn observation out of its galaxy.

    Args:
        observation_id: id of the observation that is replaced; None for none.
        galaxies: the fingerprints.
        writing: the store.

    Returns:
        The ids of the galaxies that changed: one or none.
    """
    if observation_id is None:
        return []
    hashed = observation_hash(observation_id)
    replaced = writing.archived(hashed)
    if replaced is None:
        writing.archive(hashed, Archived("awaited"))
        return []
    if replaced.status != "merged":
        return []
    writing.archive(hashed, dataclasses.replace(replaced, status="replaced"))
    galaxies.leave_out(replaced.galaxy_id, hashed)
    return [replaced.galaxy_id]
