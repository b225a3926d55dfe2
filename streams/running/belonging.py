"""Tells whether a store and a Kafka still belong together.

The store counts by the offsets of topics. So it keeps what the topics were in Kafka when a stage
first read them, and a stage refuses to read a topic that is another one now: it would take the
first events of it for repeats, and pass over them.

Two stores must not share the topics of one Kafka: each would get a part of the observations of a
galaxy. So a store has an id, and a stage leaves it in Kafka beside each offset that it
acknowledges. That is the place where the processes of another store find it: they read and write
the same offsets, need no further topic or permission for it, and Kafka deletes both together.
"""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from mmbroker.streams.errors import InfrastructureError
from mmbroker.streams.kafka.offsets import end_offsets
from mmbroker.streams.kafka.topic_identity import TopicIdentity, topic_identities
from mmbroker.streams.settings import Settings
from mmbroker.streams.stages.messages import now_ms
from mmbroker.streams.store import KnownTopic, Reading, Store, Writing
from mmbroker.streams.topics import flow

_MARK = "mmbroker store "


def mark(store_id: str) -> str:
    """What a stage leaves in Kafka beside the offsets that it acknowledges."""
    return _MARK + store_id


def store_ids(committed: Iterable[TopicPartition]) -> dict[int, str]:
    """The store with which a partition was last acknowledged; without a mark it is left out."""
    marks = {place.partition: place.metadata or "" for place in committed}
    return {
        partition: text.removeprefix(_MARK)
        for partition, text in marks.items()
        if text.startswith(_MARK)
    }


@dataclass
class Comparison:
    """What the store knows of topics, beside what is in Kafka.

    Attributes:
        remade: whether a topic was made anew, by topic.
        partitions: number of partitions, by topic.
        foreign: number of partitions that were acknowledged with another store.
        problems: what is wrong and what to do, by topic.
        added: what to know about topics that got more partitions, by topic.
    """

    remade: dict[str, bool] = field(default_factory=dict)
    partitions: dict[str, int] = field(default_factory=dict)
    foreign: int = 0
    problems: dict[str, list[str]] = field(default_factory=dict)
    added: dict[str, str] = field(default_factory=dict)

    def require_well(self, topics: Iterable[str]) -> None:
        """Make sure that nothing is wrong with some topics.

        Raises:
            InfrastructureError: something is; the message says what to do.
        """
        found = [problem for topic in topics for problem in self.problems.get(topic, [])]
        if found:
            raise InfrastructureError("; ".join(found))


def compare(
    settings: Settings,
    reading: Reading,
    committed: Mapping[str, Sequence[TopicPartition]],
    client: AdminClient,
) -> Comparison:
    """Compare the topics of the flow with what the store knows of them.

    Args:
        settings: the settings.
        reading: the store; it is read before Kafka is asked, and may be behind.
        committed: what was acknowledged of topics, by topic.
        client: asks Kafka.

    Raises:
        KafkaUnavailableError: Kafka does not tell.
    """
    found = Comparison()
    stages = {topic: stage for stage, topic in flow(settings.topics)}
    identities = topic_identities(settings.kafka, list(stages), client)
    own = reading.store_id()  # an empty one is new: whether it may begin is another question
    accepted = {own, *reading.replaced_ids()}
    for topic, now in identities.items():
        known = reading.known_topic(topic)
        found.remade[topic] = known is not None and is_another(known, now)
        found.partitions[topic] = now.partitions
        problems = found.problems.setdefault(topic, [])
        if topic in committed and not found.remade[topic]:
            problems += _shorter(settings, reading, stages[topic], topic, now, client)
        if known is not None and found.remade[topic]:
            problems.append(_remade(settings, topic, known, now))
        elif known is not None and (added := _added(settings, topic, known, now)):
            found.added[topic] = added
        others = {
            partition: other
            for partition, other in store_ids(committed.get(topic, ())).items()
            if other not in accepted and own
        }
        if others:
            found.foreign += len(others)
            problems.append(_foreign(settings, reading, topic, others))
    return found


def begin(settings: Settings, store: Store, topics: Iterable[str], client: AdminClient) -> None:
    """Give a new store its id, and keep what topics are in Kafka as far as it is new.

    Raises:
        KafkaUnavailableError: Kafka does not tell.
        StoreError: the store cannot be written.
    """
    identities = topic_identities(settings.kafka, list(topics), client)
    with store.reading() as reading:
        if reading.store_id() and not _news(reading, identities):
            return
    with store.writing() as writing:
        if not writing.store_id():
            identify_anew(writing)
        for topic, known in _news(writing, identities).items():
            writing.know_topic(topic, known)


def identify_anew(writing: Writing, replaced: Iterable[str] = ()) -> None:
    """Give a store an id of its own.

    Args:
        writing: the store.
        replaced: ids of the stores in whose place it was made.
    """
    writing.identify(uuid.uuid4().hex, replaced)


def is_another(known: KnownTopic, now: TopicIdentity) -> bool:
    """Whether a topic is not the one that the store knows."""
    return known.topic_id != now.topic_id


def _news(reading: Reading, identities: Mapping[str, TopicIdentity]) -> dict[str, KnownTopic]:
    news = {}
    for topic, now in identities.items():
        known = reading.known_topic(topic)
        before = () if known is None else known.partitions
        if not before or before[-1][1] != now.partitions:
            partitions = (*before, (now_ms(), now.partitions))
            news[topic] = KnownTopic(now.cluster_id, now.topic_id, partitions)
    return news


def _remade(settings: Settings, topic: str, known: KnownTopic, now: TopicIdentity) -> str:
    what = f"topic {topic} was made anew"
    if known.cluster_id != now.cluster_id:
        what = f"this is another Kafka ({now.cluster_id}, it was {known.cluster_id}): {what}"
    return (
        f"{what} after {_date(known.partitions[0][0])}, when the stages began to read it; the "
        f"offsets that the store in {settings.store_directory} counted are of the former one. "
        f"{_remedy(settings, topic)}"
    )


def _shorter(
    settings: Settings,
    reading: Reading,
    stage: str,
    topic: str,
    now: TopicIdentity,
    client: AdminClient,
) -> list[str]:
    # The store is read first: Kafka has, at any moment, all that was counted before.
    counted = {
        number: reading.next_offset(stage, topic, number) for number in range(now.partitions)
    }
    ends = end_offsets(settings, topic, client)
    short = [number for number, offset in counted.items() if offset > ends.get(number, offset)]
    return [
        f"topic {topic} [{number}] ends at {ends[number]:,}, and the store in "
        f"{settings.store_directory} has counted {counted[number]:,} events of it: it was made "
        f"anew, or Kafka lost its end. {BEGIN_ANEW}"
        for number in short
    ]


def _remedy(settings: Settings, topic: str) -> str:
    if topic == settings.topics.fingerprints:
        return f"It lacks galaxies that the store has. {BEGIN_ANEW}"
    directory = settings.store_directory
    rescore = "; then mmbroker rescore" if topic == settings.topics.scored else ""
    return (
        f"Stop the stages and run: mv {directory} {directory}.old; mmbroker rebuild --backup "
        f"{directory}.old{rescore}"
    )


BEGIN_ANEW = (
    "Begin anew: set another kafka.topic_prefix and another data_directory, and publish the "
    "observations again"
)


def _foreign(settings: Settings, reading: Reading, topic: str, others: Mapping[int, str]) -> str:
    partitions = ", ".join(map(str, sorted(others)))
    stores = ", ".join(sorted(set(others.values())))
    return (
        f"topic {topic} is read with two stores: the one in {settings.store_directory} has id "
        f"{reading.store_id()}, and partitions {partitions} were acknowledged with {stores}. If "
        "that is a rebuilt store, which took the place of this one, use it. Otherwise give one "
        "broker another kafka.topic_prefix; if both have read, each has a part: stop the stages "
        "of both and run mmbroker rebuild --replace for the one that goes on"
    )


def _added(settings: Settings, topic: str, known: KnownTopic, now: TopicIdentity) -> str:
    """Says since when a topic has more partitions, and what that means; empty if it has not."""
    steps = list(known.partitions)
    if steps[-1][1] != now.partitions:
        steps.append((now_ms(), now.partitions))
    if len(steps) == 1:
        return ""
    history = ", ".join(
        f"{number} until {_date(end)}" for (_, number), (end, _) in itertools.pairwise(steps)
    )
    meaning = (
        "observations of one galaxy may be in two of them, which changes nothing in the galaxy"
        if topic == settings.topics.observations
        else "an older message of a galaxy may stay in another one: the newest version counts"
    )
    return f"topic {topic} has {now.partitions} partitions ({history}): {meaning}"


def _date(time_ms: int) -> str:
    return f"{datetime.fromtimestamp(time_ms / 1000, UTC):%Y-%m-%d %H:%M UTC}"
