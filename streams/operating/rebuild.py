"""Makes the store again from what Kafka holds, and from a backup for what Kafka no longer holds.

- The newest fingerprint of every galaxy comes from the compacted topic of fingerprints. It contains
  the hashes of its observations. This is the state of the system.
- The archive comes from the topic of observations, as far as Kafka still has them. Observations
  that were refused are left out; the topic of quarantined events tells which.
- Ranks come from the scored galaxies, and the last alerts from the alert streams.
- The versions of models in force come from the backup. Without a backup, version 1 of each is in
  force.
- The offsets up to which the stages have counted are those that they have acknowledged, or those of
  the backup if they are later. What became of single events after the backup is lost; the ledger
  counts them under an outcome that says so.

A stage gets everything again that it had not acknowledged. So this module need not care about it.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from confluent_kafka import TopicPartition
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from mmbroker.processors.alerts.decide import LastAlert
from mmbroker.processors.fingerprint import merge
from mmbroker.processors.fingerprint.contribution import observation_hash
from mmbroker.processors.scoring import ranking
from mmbroker.schemas.codec import Codec
from mmbroker.schemas.events import Fingerprint, Observation, Quarantine, ScoredGalaxy, Source
from mmbroker.streams.kafka.client import admin
from mmbroker.streams.kafka.offsets import (
    committed_offsets,
    committed_places,
    end_offsets,
    move_committed,
    start_offsets,
)
from mmbroker.streams.kafka.registry import make_codec
from mmbroker.streams.kafka.topic_identity import topic_identities
from mmbroker.streams.names import BUILD_FINGERPRINTS, PUBLISH_ALERTS
from mmbroker.streams.operating.rebuilt import Rebuilt
from mmbroker.streams.running.belonging import (
    BEGIN_ANEW,
    identify_anew,
    is_another,
    store_ids,
)
from mmbroker.streams.running.supervise import only_one
from mmbroker.streams.settings import Settings, SettingsError
from mmbroker.streams.stages import publish_alerts, score_galaxies
from mmbroker.streams.stages.accounting import REBUILT
from mmbroker.streams.stages.messages import now_ms
from mmbroker.streams.store import (
    FILE,
    Archived,
    Reading,
    Status,
    Store,
    StoreDamagedError,
    Writing,
    damage,
    exclusive,
    open_store_in,
)
from mmbroker.streams.subscribing.read import Read, read_all, topic_of
from mmbroker.streams.terminal import Terminal
from mmbroker.streams.topics import flow

CHUNK = 500
UNFINISHED = "store.unfinished"

T = TypeVar("T")
Offsets = dict[int, int]


def rebuild(
    settings: Settings, replace: bool = False, backup: Path | None = None, progress: bool = True
) -> Rebuilt:
    """Make the store again.

    The new store is made beside the former one, and takes its place when it is whole. The former
    one is moved aside and never deleted.

    Args:
        settings: the settings.
        replace: replace also a store that is whole and not empty.
        backup: a backup or a former store; None for none.
        progress: show a progress bar on standard error.

    Returns:
        What was restored and what could not be.

    Raises:
        SettingsError: the store is whole and not empty and ``replace`` is False, there is nothing
            from which to rebuild, or the backup belongs to another Kafka.
        InfrastructureError: the stages run, or Kafka, the schema registry or the disk fails.
    """
    directory = settings.store_directory
    with ExitStack() as stack:
        stack.enter_context(only_one(settings, "stop them to rebuild their store"))
        directory.mkdir(parents=True, exist_ok=True)
        stack.enter_context(_exclusive(directory, replace))
        former = None
        if backup is not None:
            former = _opened(backup, directory)
            stack.callback(former.close)
        unfinished = directory.with_name(UNFINISHED)
        shutil.rmtree(unfinished, ignore_errors=True)  # left by an interrupted rebuild
        store = open_store_in(unfinished)
        try:
            with _progress_bar(progress) as bar:
                rebuilt = _Rebuild(settings, store, former, bar).run()
        except BaseException:
            store.close()
            shutil.rmtree(unfinished, ignore_errors=True)
            raise
        store.close()
        rebuilt.backup = backup
        if any(directory.iterdir()):
            rebuilt.aside = directory.with_name(f"store.{_timestamp()}")
            directory.rename(rebuilt.aside)
        else:
            directory.rmdir()
        unfinished.rename(directory)
    return rebuilt


def _progress_bar(visible: bool) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    console = Terminal(stderr=True)
    return Progress(*columns, TimeElapsedColumn(), console=console, disable=not visible)


def _opened(backup: Path, directory: Path) -> Store:
    if not (backup / FILE).is_file():
        raise SettingsError(f"--backup {backup}: there is no backup, it has no file {FILE}")
    if backup.resolve() == directory.resolve():
        raise SettingsError(f"--backup {backup} is the store itself: move it aside first")
    return open_store_in(backup)


@contextmanager
def _exclusive(directory: Path, replace: bool) -> Iterator[None]:
    """Keep other processes from opening the store during the block, if it may be replaced.

    Raises:
        SettingsError: it may not be replaced.
        StoreError: another process has it open.
    """
    with exclusive(directory):
        pass
    if not replace and (directory / FILE).is_file():
        galaxies = _galaxies_if_whole(directory)
        if galaxies:
            raise SettingsError(
                f"the store in {directory} is whole, with {galaxies:,} galaxies: --replace moves "
                "it aside and makes it again"
            )
    with exclusive(directory):
        yield


def _galaxies_if_whole(directory: Path) -> int:
    """Number of galaxies in a store; 0 if it is damaged."""
    try:
        with closing(open_store_in(directory)) as store, store.reading() as reading:
            galaxies = reading.galaxies()
    except StoreDamagedError:
        return 0
    return 0 if damage(directory) else galaxies


def _timestamp() -> str:
    return f"{datetime.fromtimestamp(now_ms() / 1000, UTC):%Y%m%dT%H%M%SZ}"


class _Rebuild:
    """One rebuild.

    Args:
        settings: the settings.
        store: an empty store.
        backup: a backup, for what Kafka no longer holds; None for none.
        bar: shows the progress.
    """

    def __init__(
        self, settings: Settings, store: Store, backup: Store | None, bar: Progress
    ) -> None:
        self._settings = settings
        self._topics = settings.topics
        self._codec: Codec = make_codec(settings)
        self._store = store
        self._backup = backup
        self._bar = bar
        self._rebuilt = Rebuilt(settings.store_directory)
        self._acknowledged: Offsets = {}
        self._ambiguous_galaxies: list[str] = []
        self._remade: frozenset[str] = frozenset()
        """The topics that were made anew since the backup: its offsets are not of them."""

    def run(self) -> Rebuilt:
        """Fill the store; see ``rebuild``."""
        self._belonging()
        self._accounts()
        self._models()
        self._fingerprints()
        self._members()
        self._archive_of_backup()
        self._ambiguous()
        self._archive_of_kafka()
        self._ranks()
        self._alerts()
        self._summarise()
        return self._rebuilt

    def _belonging(self) -> None:
        """Give the store an id, and find out of which topics the backup is.

        Raises:
            SettingsError: the backup has galaxies that Kafka cannot have.
        """
        replaced = {
            store_id
            for stage, topic in flow(self._topics)
            for store_id in store_ids(committed_places(self._settings.kafka, stage, topic)).values()
        }
        with self._store.writing() as writing:
            identify_anew(writing, replaced)
        names = [topic for _, topic in flow(self._topics)]
        identities = topic_identities(self._settings.kafka, names, admin(self._settings.kafka))
        with self._backed_up() as backup:
            known = {} if backup is None else {name: backup.known_topic(name) for name in names}
        self._remade = frozenset(
            name
            for name, now in identities.items()
            if (before := known.get(name)) is not None and is_another(before, now)
        )
        if self._topics.fingerprints in self._remade:
            raise SettingsError(
                f"topic {self._topics.fingerprints} was made anew since the backup, and lacks "
                f"galaxies that the backup has. {BEGIN_ANEW}"
            )

    def _accounts(self) -> None:
        """Store up to which offsets the stages have counted, and the outcomes that are known."""
        offsets = [
            (
                stage,
                topic,
                end_offsets(self._settings, topic),
                start_offsets(self._settings, topic),
                committed_offsets(self._settings.kafka, stage, topic),
            )
            for stage, topic in flow(self._topics)
        ]
        for stage, topic, _, starts, acknowledged in offsets:
            if topic in self._remade and acknowledged:
                # A stage may have passed over the first events of it: all are read again.
                places = [TopicPartition(topic, number, starts[number]) for number in acknowledged]
                move_committed(self._settings, stage, places)
                acknowledged.clear()
        with self._store.writing() as writing, self._backed_up() as backup:
            remade = {stage for stage, topic in flow(self._topics) if topic in self._remade}
            for (stage, outcome), count in ({} if backup is None else backup.counts()).items():
                if stage not in remade:
                    writing.account(stage, {}, {outcome: count})
            for stage, topic, ends, starts, acknowledged in offsets:
                if stage == BUILD_FINGERPRINTS:
                    self._acknowledged = acknowledged
                told: dict[tuple[str, int], int] = {}
                untold = 0
                for partition, end in ends.items():
                    before = 0
                    if backup is not None and topic not in self._remade:
                        before = backup.next_offset(stage, topic, partition)
                    if before > end:
                        raise SettingsError(
                            f"the backup has accounted for {before:,} events of {topic} "
                            f"[{partition}], which has {end:,}: it is of another Kafka"
                        )
                    # Without an acknowledgement a stage reads all that is still there.
                    up_to = max(before, acknowledged.get(partition, starts[partition]))
                    told[topic, partition] = up_to
                    untold += up_to - before
                writing.account(stage, told, {REBUILT: untold} if untold else {})
                self._rebuilt.waiting[stage] = sum(ends.values()) - sum(told.values())

    def _models(self) -> None:
        """Store the versions of the models in force."""
        with self._store.writing() as writing, self._backed_up() as backup:
            self._rebuilt.models = {} if backup is None else backup.model_versions()
            for model, version in self._rebuilt.models.items():
                writing.use_model(model, version)

    def _fingerprints(self) -> None:
        """Store the newest fingerprint of every galaxy."""
        for chunk in self._chunks("fingerprints"):
            with self._store.writing() as writing:
                for message in chunk:
                    event = message.event
                    if not isinstance(event, Fingerprint):
                        self._unreadable(message)
                    elif event.version >= writing.version(event.galaxy_id):
                        writing.put_fingerprint(event.galaxy_id, event.version, message.value)
        with self._store.reading() as reading:
            self._rebuilt.galaxies = reading.galaxies()
        if not self._rebuilt.galaxies:
            raise SettingsError(
                f"{self._topics.fingerprints} holds no fingerprint: there is nothing to rebuild "
                "the store from"
            )

    def _members(self) -> None:
        """Store the positions of the galaxies, and which observations are in them."""
        for galaxy_ids in self._galaxy_chunks("galaxies"):
            with self._store.writing() as writing:
                for galaxy_id in galaxy_ids:
                    fingerprint = self._fingerprint(writing, galaxy_id)
                    if fingerprint.acquisition.observations:
                        writing.put_position(galaxy_id, merge.position(fingerprint))
                    if fingerprint.acquisition.ambiguous:
                        self._ambiguous_galaxies.append(galaxy_id)
                    sources = {
                        observation_hash(each.observation_id): each
                        for each in fingerprint.recent_sources
                    }
                    for hashed in merge.observation_hashes(fingerprint):
                        source = sources.get(hashed, _NO_SOURCE)
                        writing.archive(hashed, Archived("merged", galaxy_id, source))

    def _archive_of_backup(self) -> None:
        """Store what the backup knows about observations.

        The status of an observation is taken from the fingerprints in Kafka, which are newer.
        """
        with self._backed_up() as backup:
            if backup is None:
                return
            for chunk in _chunked(self._tracked("backup", backup.observations())):
                with self._store.writing() as writing:
                    for hashed, before in chunk:
                        known = writing.archived(hashed)
                        if known is not None:
                            filled = dataclasses.replace(
                                known,
                                source=before.source if before.source.topic else known.source,
                                candidates=before.candidates,
                                data=before.data,
                            )
                            writing.archive(hashed, filled)
                        elif (
                            before.status == "awaited"
                            or before.source.topic in self._remade
                            or self._is_acknowledged(before.source)
                        ):
                            status: Status = "replaced"
                            if before.status == "awaited":
                                status = "awaited"
                            writing.archive(hashed, dataclasses.replace(before, status=status))

    def _ambiguous(self) -> None:
        """Give the candidates of a galaxy to as many of its observations as had any.

        The backup knows which ones had; otherwise this is not known. It makes no difference to the
        fingerprint.
        """
        for galaxy_ids in _chunked(self._ambiguous_galaxies):
            with self._store.writing() as writing:
                for galaxy_id in galaxy_ids:
                    self._spread_candidates(writing, self._fingerprint(writing, galaxy_id))

    def _spread_candidates(self, writing: Writing, fingerprint: Fingerprint) -> None:
        missing = fingerprint.acquisition.ambiguous
        unknown = []
        for hashed in merge.observation_hashes(fingerprint):
            archived = writing.archived(hashed)
            if archived is None:
                continue
            missing -= bool(archived.candidates)
            if not archived.data:
                unknown.append((hashed, archived))
        if missing > 0:
            self._rebuilt.ambiguous += 1
            for hashed, archived in unknown[-missing:]:
                filled = dataclasses.replace(archived, candidates=fingerprint.candidates)
                writing.archive(hashed, filled)

    def _archive_of_kafka(self) -> None:
        """Store the observations that Kafka still has."""
        refused = self._refused()
        replaced: set[bytes] = set()
        awaited: set[bytes] = set()
        loose: dict[bytes, Archived] = {}
        for chunk in self._chunks("observations"):
            with self._store.writing() as writing:
                for message in chunk:
                    place = message.partition, message.offset
                    if not isinstance(message.event, Observation) or place in refused:
                        continue
                    hashed = observation_hash(message.event.observation_id)
                    known = self._archive(writing, message, message.event, hashed)
                    acknowledged = self._is_acknowledged(_source(message, message.event))
                    if known is None and acknowledged and hashed not in loose:
                        source = _source(message, message.event)
                        loose[hashed] = Archived("replaced", source=source, data=message.value)
                    if message.event.replaces is not None:
                        other = observation_hash(message.event.replaces)
                        replaced.add(other)
                        taken_in = known is not None and known.status == "merged"
                        if acknowledged or taken_in:
                            awaited.add(other)
        with self._store.writing() as writing:
            for hashed, archived in loose.items():
                if hashed in replaced:
                    writing.archive(hashed, archived)
                else:
                    self._rebuilt.unexplained.append(archived.source.observation_id)
            for hashed in awaited:
                if writing.archived(hashed) is None:
                    writing.archive(hashed, Archived("awaited"))

    def _archive(
        self, writing: Writing, message: Read, observation: Observation, hashed: bytes
    ) -> Archived | None:
        """Archive an observation if it is clear what became of it.

        Args:
            writing: the store.
            message: the message with the observation.
            observation: the observation.
            hashed: hash of its id.

        Returns:
            The entry of the observation in the archive that was found or made; None if there is
            none.
        """
        known = writing.archived(hashed)
        source = _source(message, observation)
        if known is None and observation.is_withdrawal and self._is_acknowledged(source):
            known = Archived("replaced", source=source, data=message.value)
            writing.archive(hashed, known)
        elif known is not None and known.status == "merged" and not known.data:
            place = known.source if known.source.topic else source
            writing.archive(hashed, dataclasses.replace(known, source=place, data=message.value))
        elif known is not None and known.status == "awaited" and self._is_acknowledged(source):
            known = Archived("replaced", source=source, data=message.value)
            writing.archive(hashed, known)
        return known

    def _refused(self) -> set[tuple[int, int]]:
        """(partition, offset) of the observations that the first stage refused."""
        places = set()
        for chunk in self._chunks("quarantine"):
            for message in chunk:
                event = message.event
                if isinstance(event, Quarantine) and event.topic == self._topics.observations:
                    places.add((event.partition, event.offset))
        return places

    def _ranks(self) -> None:
        for chunk in self._chunks("scored"):
            scored = []
            for message in chunk:
                if isinstance(message.event, ScoredGalaxy):
                    scored.append(message.event)
                else:
                    self._unreadable(message)
            with self._store.writing() as writing:
                scored.sort(key=lambda galaxy: galaxy.version)  # stable: the last one counts
                writing.rank(score_galaxies.RANKING, score_galaxies.places_of(scored))
        with self._store.reading() as reading:
            self._rebuilt.scores = int(reading.ranking(score_galaxies.RANKING).sum())

    def _alerts(self) -> None:
        """Store what the alert streams last said about the galaxies."""
        for stream in (each.name for each in self._topics.alert_streams):
            with self._backed_up() as backup:
                said = [] if backup is None else list(backup.last_alerts(stream))
            with self._store.writing() as writing:
                _put_alerts(writing, stream, said)
            ends = end_offsets(self._settings, self._topics.alerts(stream))
            if ends:
                for chunk in self._chunks(stream):
                    with self._store.writing() as writing:
                        _put_alerts(writing, stream, self._last_alerts(chunk))
            owner = f"{PUBLISH_ALERTS}/{stream}"
            with self._store.writing() as writing:
                counts = writing.counts()
                counted = sum(count for (each, _), count in counts.items() if each == owner)
                untold = sum(ends.values()) - counted
                if untold > 0:
                    writing.account(owner, {}, {REBUILT: untold})
                self._rebuilt.alerts[stream] = sum(1 for _ in writing.last_alerts(stream))

    def _last_alerts(self, chunk: Iterable[Read]) -> Iterator[tuple[str, LastAlert]]:
        for message in chunk:
            try:
                yield _last_alert(message)
            except (LookupError, TypeError):
                self._unreadable(message)

    def _unreadable(self, message: Read) -> None:
        place = f"{message.topic} [{message.partition}] offset {message.offset}"
        self._rebuilt.unreadable.append(place)

    def _summarise(self) -> None:
        incomplete = set()
        rebuilt = self._rebuilt
        with self._store.reading() as reading:
            for _, archived in reading.observations():
                if archived.status == "merged":
                    rebuilt.merged += 1
                    if not archived.data:
                        rebuilt.missing += 1
                        incomplete.add(archived.galaxy_id)
                elif archived.data:
                    rebuilt.replaced += 1
        rebuilt.incomplete = len(incomplete)

    def _is_acknowledged(self, source: Source) -> bool:
        """Whether the first stage has acknowledged an observation and will not get it again."""
        return source.offset < self._acknowledged.get(source.partition, 0)

    def _fingerprint(self, reading: Reading, galaxy_id: str) -> Fingerprint:
        return self._codec.decode_as(Fingerprint, reading.fingerprint(galaxy_id))

    @contextmanager
    def _backed_up(self) -> Iterator[Reading | None]:
        if self._backup is None:
            yield None
            return
        with self._backup.reading() as reading:
            yield reading

    def _chunks(self, stream: str) -> Iterator[list[Read]]:
        """All messages of a topic, ``CHUNK`` at a time."""
        topic = topic_of(self._settings, stream)
        starts = start_offsets(self._settings, topic)
        total = sum(end_offsets(self._settings, topic).values()) - sum(starts.values())
        messages = read_all(self._settings, stream)
        yield from _chunked(self._tracked(stream, messages, total))

    def _galaxy_chunks(self, what: str) -> Iterator[list[str]]:
        """The ids of all galaxies, ``CHUNK`` at a time; the store may be changed in between."""
        with self._store.reading() as reading:
            galaxy_ids = list(reading.galaxy_ids())
        yield from _chunked(self._tracked(what, galaxy_ids, len(galaxy_ids)))

    def _tracked(self, what: str, items: Iterable[T], total: int | None = None) -> Iterator[T]:
        task = self._bar.add_task(what, total=total)
        done = 0
        for done, item in enumerate(items, 1):
            yield item
            self._bar.update(task, completed=done)
        self._bar.update(task, completed=done, total=done)  # compaction leaves gaps


_NO_SOURCE = Source("", "", 0, 0)


def _source(message: Read, observation: Observation) -> Source:
    return Source(observation.observation_id, message.topic, message.partition, message.offset)


def _last_alert(message: Read) -> tuple[str, LastAlert]:
    """The id of a galaxy and the alert about it, from a message in any format.

    Raises:
        LookupError, TypeError: the message is no alert.
    """
    alert = message.plain
    galaxy = alert["galaxy"]
    redshift = galaxy["redshift"]  # None in the retraction of a galaxy that has none any more
    return galaxy["galaxy_id"], LastAlert(
        alert_id=alert["alert_id"],
        version=galaxy["version"],
        active=alert["alert_type"] != "RETRACTION",
        redshift=0.0 if redshift is None else redshift["best"],
        probability=galaxy["probability"] or 0.0,
        hyperscore=galaxy["hyperscore"],
    )


def _put_alerts(writing: Writing, stream: str, said: Iterable[tuple[str, LastAlert]]) -> None:
    """Keep alerts; for each galaxy, the last one of its newest version counts."""
    last = dict(sorted(said, key=lambda each: each[1].version))
    for galaxy_id, alert in last.items():
        writing.put_alert(stream, galaxy_id, alert)
    places = {
        galaxy_id: (alert.version, ranking.bin_of(alert.probability) if alert.active else None)
        for galaxy_id, alert in last.items()
    }
    writing.rank(publish_alerts.ranking_name(stream), places)


def _chunked(items: Iterable[T]) -> Iterator[list[T]]:
    chunk: list[T] = []
    for item in items:
        chunk.append(item)
        if len(chunk) == CHUNK:
            yield chunk
            chunk = []
    if chunk:
        yield chunk
