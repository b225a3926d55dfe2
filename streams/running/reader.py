"""Reads the topics of one stage in its consumer group, batch after batch.

One thread does all of it: it reads a batch, processes it, makes the results durable, and then
commits the offsets. Partitions can be taken away only while it reads. Then the batch that it was
gathering is dropped, and the next reader of the partitions gets its messages. Processing it would
do no harm, but a commit could undo a later commit of the next reader. A thread of librdkafka tells
Kafka that this process lives, so that it keeps its partitions during a long batch.

A batch of Kafka that becomes gigabytes when it is unpacked ends the process. If the processes
before this one ended again and again at the same place, it first reads on in a child process.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from functools import partial
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from mmbroker.streams.errors import InfrastructureError
from mmbroker.streams.kafka.batches import batch_at
from mmbroker.streams.kafka.client import (
    METADATA_TIMEOUT_S,
    KafkaUnavailableError,
    admin,
    consumer,
    consumer_group,
    partitions_of,
)
from mmbroker.streams.kafka.guarded import BatchEndsReaderError, guarded
from mmbroker.streams.kafka.guarded_child import PlainMessage
from mmbroker.streams.kafka.offsets import is_unreadable
from mmbroker.streams.kafka.producer import DurableProducer
from mmbroker.streams.kafka.refusal import complaint
from mmbroker.streams.running.arrival import Arrival
from mmbroker.streams.running.belonging import compare, mark
from mmbroker.streams.running.health import Health
from mmbroker.streams.running.starts import Starts
from mmbroker.streams.settings import Settings, StageSettings
from mmbroker.streams.stages.accounting import UNREADABLE, Partition
from mmbroker.streams.stages.base import Stage
from mmbroker.streams.stages.messages import Outgoing, Received, known_headers
from mmbroker.streams.store import StoreBrokenError
from mmbroker.streams.topics import LARGEST_MESSAGE_BYTES

log = logging.getLogger(__name__)

POLL_S = 0.5
FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 2.0
"""Longest pause between tries. It is short, because a stage may wait this long although what it
needs is back."""

COMPARED_EVERY_S = 15.0
"""So often, and whenever it gets partitions, a process looks whether its store and Kafka still
belong together."""

FENCED_AGAIN_S = 30.0
"""A member that is fenced twice within this time has a double, which joins again and again too."""

LEFT_OUT_S = 5.0
LONGEST_LEFT_OUT_S = 60.0
"""After the loss of all partitions, a client normally gets some again within the shorter time. If
not, a new client replaces it: after Kafka hung, librdkafka was seen to join for minutes without an
end or an error. If the new client gets none either, Kafka may still be away. So every client is
given twice the time of the one before, up to the longer time."""

CAREFUL_AT_START = 3
"""A process that starts for so many times in a row at one place reads on in a child process."""

PASSING = (
    KafkaError._MAX_POLL_EXCEEDED,
    KafkaError._TRANSPORT,
    KafkaError._ALL_BROKERS_DOWN,
    KafkaError._TIMED_OUT,
)
"""Errors after which the client goes on by itself."""

FENCED = (KafkaError._FATAL, KafkaError.FENCED_INSTANCE_ID)
"""Errors after which a new client is needed; being fenced is the only fatal error of a consumer."""


MOST_REFUSED = 3
"""At most so many times ``stage.batch_events`` are added to a batch for what is refused."""


class BatchLimit:
    """Says when a batch is full: it has enough messages, or enough bytes.

    What is refused costs little, and a batch has costs of its own. So as many messages as were
    refused of the batch before are added to its limit: good observations keep more of their rate.

    Args:
        now: the settings of the stages.
    """

    def __init__(self, now: StageSettings) -> None:
        self._now = now
        self._added = 0

    def is_full(self, count: int, size_bytes: int) -> bool:
        """Whether a batch of so many messages and bytes is full."""
        return count >= self._now.batch_events + self._added or size_bytes >= self._now.fetch_bytes

    def refused(self, count: int) -> None:
        """Learn how many messages of a batch were refused."""
        self._added = min(count, MOST_REFUSED * self._now.batch_events)


class _FencedError(Exception):
    """Kafka takes this member of the group for replaced by another one of the same name.

    The other one need not be another process. If the session of a member ended while Kafka was
    away, the member joins again, and by that fences its own requests that were still under way.
    """


class Reader:
    """Reads messages for a stage and has it process them.

    Args:
        stage: the stage.
        settings: the settings.
        instance: name of this process among those of the stage, the same after a restart.
        health: is told how the reading goes.
        starts: the starts of this process that got no further, this one counted; by default it is
            taken for the first.
    """

    def __init__(
        self,
        stage: Stage,
        settings: Settings,
        instance: str,
        health: Health,
        starts: Starts | None = None,
    ) -> None:
        self.stage = stage
        self._settings = settings
        self._instance = instance
        self._health = health
        self._producer = DurableProducer(settings.kafka)
        self._admin = admin(settings.kafka)
        self._compare_at = 0.0
        """When to compare store and Kafka again, in s of ``time.monotonic``."""
        self._mark = ""
        self._following: dict[Partition, int] = {}
        """The offsets after the last acknowledged events, by partition of any process."""
        self._limit = BatchLimit(settings.stage)
        self._gathered: list[Received] = []
        self._arrival = Arrival(settings.kafka)
        self._doubtful: dict[Partition, int] = {}
        """From where on child processes read the partitions that the client cannot read on."""
        self._starts = starts
        self._careful = starts is not None and starts.count >= CAREFUL_AT_START
        """Whether to read in a child process for now; its own client gets no messages then."""
        self._lost_at: float | None = None
        self._patience_s = LEFT_OUT_S

    def run(self, stop: threading.Event) -> None:
        """Read until stopped; the present batch is finished, or left to the next reader.

        Args:
            stop: is set when the reading has to stop.

        Raises:
            InfrastructureError: Kafka, the store or Triton was away for too long, Kafka refuses, or
                another process has the name of this one.
        """
        fenced_at = -FENCED_AGAIN_S
        while not stop.is_set():
            try:
                self._read(stop)
            except _FencedError as error:
                if time.monotonic() - fenced_at < FENCED_AGAIN_S:
                    raise InfrastructureError(
                        f"another process reads as {self._instance}: {error}; end one, or give it "
                        "a name of its own with --instance"
                    ) from error
                fenced_at = self._lost_at = time.monotonic()
                log.warning("%s joins its group anew: %s", self.stage.name, error)
        if self._starts is not None:
            self._starts.ended()

    def _read(self, stop: threading.Event) -> None:
        reading = self._subscribed()
        try:
            while not stop.is_set() and not self._left_out():
                self._health.turned()
                batch = self._batch(reading)
                # After the poll, which may bring new partitions, and before anything is counted.
                if self._goes_back(batch):
                    self._compare_at = 0.0
                # Without partitions there is nothing to count, and Kafka may be away.
                due = self._health.assigned and time.monotonic() > self._compare_at
                if due and not self._until_done(partial(self._compare, reading), stop):
                    continue
                batch = self._arrival.in_order(batch, self._following, self._doubtful)
                if batch:
                    self.stage.metrics.came([each.timestamp_ms for each in batch])
                    if not self._until_done(partial(self._process, batch), stop):
                        continue
                    self._commit(reading, batch)
                following = {each: self._following.get(each, 0) for each in self._health.assigned}
                self._doubtful |= self._arrival.standing_still(reading, following, batch)
                if self._careful:
                    self._doubtful |= following
                if self._doubtful:
                    self._until_done(partial(self._read_ahead, reading, stop), stop)
        finally:
            reading.close()

    def _read_ahead(self, reading: Consumer, stop: threading.Event) -> None:
        """Have child processes read on where this one cannot, or has ended; read on after that.

        Raises:
            InfrastructureError: Kafka, the store or Triton was away for too long, or refuses.
        """
        if self._careful:
            log.warning(
                "%s ended %d times without getting further: a child process with bounded memory "
                "reads ahead of it", self.stage.name, CAREFUL_AT_START - 1,
            )  # fmt: skip
        assigned = [TopicPartition(*each) for each in self._health.assigned]
        reading.pause(assigned)
        for partition in sorted(self._doubtful):
            if not self._get_past(reading, partition, stop):
                return
        for (topic, number), offset in self._doubtful.items():
            self._read_on_at(reading, topic, number, offset)
        reading.resume(assigned)
        self._careful = False
        self._doubtful.clear()

    def _get_past(self, reading: Consumer, partition: Partition, stop: threading.Event) -> bool:
        """Process what a child can read of one partition, and step over what it cannot.

        Returns:
            Whether this is done: False if the reading was stopped, or the partition is gone.
        """
        kafka = self._settings.kafka
        fetched_bytes = self._settings.stage.fetch_bytes + LARGEST_MESSAGE_BYTES
        self._doubtful[partition] = max(self._doubtful[partition], self.stage.log_start(*partition))
        while not stop.is_set():
            start = self._doubtful[partition]
            log.info(
                "%s: a child process reads on %s [%d] from offset %d",
                self.stage.name, *partition, start,
            )  # fmt: skip
            try:
                with closing(guarded(kafka, *partition, start, fetched_bytes)) as messages:
                    for batch in self._batches(*partition, messages):
                        self.stage.metrics.came([each.timestamp_ms for each in batch])
                        if not self._until_done(partial(self._process, batch), stop):
                            return False
                        if not self._passed(reading, partition, batch[-1].offset + 1):
                            return False
                return True
            except BatchEndsReaderError as error:
                lost = batch_at(kafka, *partition, error.offset)
                self._lose(partition, max(lost.start, error.offset), lost.stop, error.why)
            if not self._passed(reading, partition, lost.stop):
                return False
        return False

    def _passed(self, reading: Consumer, partition: Partition, offset: int) -> bool:
        """Acknowledge what was read ahead of the client; whether the partition is still there."""
        self._doubtful[partition] = offset
        self._acknowledge(reading, {partition: offset})
        self._health.turned()
        message = reading.poll(0.0)  # what Kafka has to say of the group
        if message is not None:
            self._received(message)
        return partition in self._doubtful

    def _batches(
        self, topic: str, partition: int, messages: Iterator[PlainMessage]
    ) -> Iterator[list[Received]]:
        """Batches of the messages of a child; what it read before it ended is one too."""
        batch: list[Received] = []
        size_bytes = 0
        ended: BatchEndsReaderError | None = None
        while ended is None:
            self._health.turned()
            try:
                message = next(messages, None)
            except BatchEndsReaderError as error:
                message, ended = None, error
            if message is not None:
                batch.append(_of_child(topic, partition, message))
                size_bytes += len(message.value or b"")
            full = self._limit.is_full(len(batch), size_bytes)
            if batch and (message is None or full):
                yield batch
                batch, size_bytes = [], 0
            if message is None and ended is None:
                return
        raise ended

    def _left_out(self) -> bool:
        """Whether the partitions were lost so long ago that a new client has to join."""
        if self._lost_at is None or time.monotonic() - self._lost_at < self._patience_s:
            return False
        log.warning(
            "%s joins its group anew: no partitions for %g s", self.stage.name, self._patience_s
        )
        self._lost_at = time.monotonic()
        self._patience_s = min(2 * self._patience_s, LONGEST_LEFT_OUT_S)
        return True

    def _subscribed(self) -> Consumer:
        now = self._settings.stage
        session_ms = int(now.session_timeout_s * 1000)
        reading = consumer(
            self._settings.kafka,
            group=consumer_group(self._settings.kafka, self.stage.name),
            group_instance_id=self._instance,
            client_id=self._instance,
            session_timeout_ms=session_ms,
            heartbeat_interval_ms=session_ms // 10,
            max_poll_interval_ms=session_ms + int(2000 * now.give_up_after_s),
            enable_partition_eof=False,
            queued_max_messages_kbytes=now.fetch_bytes // 1024,
            fetch_max_bytes=min(max(now.fetch_bytes, 2**20), LARGEST_MESSAGE_BYTES),
            message_max_bytes=2**20,
        )
        reading.subscribe(
            list(self.stage.sources),
            on_assign=self._assigned,
            on_revoke=self._revoked,
            on_lost=self._lost,
        )
        return reading

    def _assigned(self, reading: Consumer, places: list[TopicPartition]) -> None:
        self._health.assigned = {(place.topic, place.partition) for place in places}
        if self._starts is not None:
            self._starts.assigned(self._health.assigned)
        if self._careful:
            reading.assign(places)
            reading.pause(places)
        self._following.clear()
        self._compare_at = 0.0
        self._lost_at, self._patience_s = None, LEFT_OUT_S

    def _revoked(self, reading: Consumer, places: list[TopicPartition]) -> None:
        self._health.assigned = frozenset()
        self._gathered.clear()
        self._doubtful.clear()

    def _lost(self, reading: Consumer, places: list[TopicPartition]) -> None:
        """Called when Kafka did not answer for a whole session, so that the partitions are lost."""
        self._revoked(reading, places)
        self._lost_at = time.monotonic()

    def _batch(self, reading: Consumer) -> list[Received]:
        """The next messages, limited in number and bytes; none if none came within ``POLL_S``.

        They are taken one by one: strangers choose their sizes, and only the last one may be beyond
        the limit.
        """
        self._gathered = batch = []  # emptied if partitions are taken away
        message = reading.poll(POLL_S)
        deadline = time.monotonic() + self._settings.stage.batch_wait_s
        size_bytes = 0
        while message is not None:
            received = self._received(message)
            if received is not None:
                batch.append(received)
                size_bytes += len(received.value or b"")
            if self._limit.is_full(len(batch), size_bytes):
                break
            message = reading.poll(max(deadline - time.monotonic(), 0.0))
        return batch

    def _received(self, message: Message) -> Received | None:
        """A message; None if it tells an error after which the client goes on by itself."""
        error = message.error()
        if error is None:
            return _as_received(message)
        if is_unreadable(error):
            partition = message.topic() or "", message.partition() or 0
            self._doubtful.setdefault(partition, message.offset() or 0)
            return None
        if error.code() in FENCED:
            raise _FencedError(error.str())
        if error.code() not in PASSING:
            raise InfrastructureError(
                complaint(self._settings.kafka, error, f"topic {message.topic()}")
            )
        log.warning("%s: %s", self.stage.name, error.str())
        return None

    def _goes_back(self, batch: Sequence[Received]) -> bool:
        """Whether a partition is read again from before: its topic may have been made anew."""
        known = self._following
        return any(each.offset < known.get((each.topic, each.partition), 0) for each in batch)

    def _compare(self, reading: Consumer) -> None:
        """Make sure that the store and Kafka still belong together.

        Raises:
            InfrastructureError: they do not, or Kafka does not tell.
        """
        stage, kafka = self.stage, self._settings.kafka
        committed: dict[str, list[TopicPartition]] = {}
        with stage.store.reading() as store:
            self._mark = mark(store.store_id())
            for topic in stage.sources:
                count = partitions_of(kafka, topic, self._admin)
                committed[topic] = self._committed(reading, topic, range(count))
                for place in committed[topic]:
                    self._following.setdefault((topic, place.partition), max(place.offset, 0))
            found = compare(self._settings, store, committed, self._admin)
        stage.metrics.belongs(found.remade, found.partitions, found.foreign)
        found.require_well(stage.sources)
        self._compare_at = time.monotonic() + COMPARED_EVERY_S

    def _committed(
        self, reading: Consumer, topic: str, partitions: Iterable[int]
    ) -> list[TopicPartition]:
        """What is acknowledged, below 0 where nothing is.

        Raises:
            KafkaUnavailableError: Kafka does not tell.
        """
        wanted = [TopicPartition(topic, number) for number in partitions]
        try:
            return reading.committed(wanted, timeout=METADATA_TIMEOUT_S)
        except KafkaException as error:
            reason = complaint(self._settings.kafka, error.args[0], f"topic {topic}")
            raise KafkaUnavailableError(reason) from error

    def _process(self, batch: Sequence[Received]) -> None:
        self._limit.refused(process_durably(self.stage, self._producer, batch))
        self._health.succeeded()

    def _read_on_at(self, reading: Consumer, topic: str, partition: int, offset: int) -> None:
        try:
            reading.seek(TopicPartition(topic, partition, offset))
        except KafkaException as error:  # the partition was taken away just now
            log.warning("%s could not step over: %s", self.stage.name, error.args[0].str())

    def _lose(self, partition: Partition, start: int, end: int, why: str) -> None:
        log.error(
            "%s: offsets %d to %d of %s [%d] are lost: their batch %s; what stood there has to be "
            "published again", self.stage.name, start, end - 1, *partition, why,
        )  # fmt: skip
        self.stage.pass_over(partition, start, end, UNREADABLE)

    def _until_done(self, act: Callable[[], None], stop: threading.Event) -> bool:
        """Do something; try again while the infrastructure is away.

        Returns:
            Whether it is done; False if the reading was stopped.

        Raises:
            InfrastructureError: it was away for too long, or trying again does not help.
        """
        stage = self.stage
        deadline = time.monotonic() + self._settings.stage.give_up_after_s
        pause = FIRST_PAUSE_S
        while True:
            try:
                act()
            except InfrastructureError as error:
                self._health.waits_for = str(error)
                self._health.turned()
                if isinstance(error, StoreBrokenError) or time.monotonic() > deadline:
                    raise
                log.warning("%s waits %.3g s: %s", stage.name, pause, error)
                stage.metrics.retries.inc()
                if stop.wait(pause):
                    return False
                pause = min(2 * pause, LONGEST_PAUSE_S)
            else:
                self._health.waits_for = None
                return True

    def _commit(self, reading: Consumer, batch: Sequence[Received]) -> None:
        """Acknowledge a batch. If this fails, it is read again, and its events are repeats then."""
        following = {(each.topic, each.partition): each.offset + 1 for each in batch}
        self._acknowledge(reading, following)

    def _acknowledge(self, reading: Consumer, following: Mapping[Partition, int]) -> None:
        self._following |= following
        try:
            reading.commit(
                offsets=[
                    TopicPartition(*partition, offset, self._mark)
                    for partition, offset in following.items()
                ],
                asynchronous=True,
            )
        except KafkaException as error:
            log.warning("%s could not commit: %s", self.stage.name, error.args[0].str())


def process_durably(stage: Stage, producer: DurableProducer, batch: Sequence[Received]) -> int:
    """Process a batch; all its results are durable when this returns.

    Returns:
        The number of messages that went to quarantine.

    Args:
        stage: the stage.
        producer: sends the results to Kafka.
        batch: the messages.

    Raises:
        InfrastructureError: Kafka, the store or Triton is away.
    """
    started = time.monotonic()
    sent = refused = 0
    for processed in stage.process_safely(batch):
        messages = processed.messages
        stage.progressed()
        _send(stage, producer, messages)
        sent += len(messages)
        refused += sum(1 for each in messages if each.topic == stage.topics.quarantine)
        while messages := processed.finish():
            _send(stage, producer, messages)
            sent += len(messages)
    seconds = time.monotonic() - started
    stage.metrics.batch(len(batch), seconds)
    log.info("%s: %d in, %d out, %.0f ms", stage.name, len(batch), sent, 1000 * seconds)
    return refused


def _send(stage: Stage, producer: DurableProducer, messages: Sequence[Outgoing]) -> None:
    """Send messages; those that Kafka does not take as they are go to quarantine, or are cut."""
    while messages:
        with stage.metrics.part("send"):
            unsendable = producer.send(messages)
        left = {id(each.message) for each in unsendable}
        stage.metrics.sent([each for each in messages if id(each) not in left])
        messages = [stage.instead_of(each.message, each.reason) for each in unsendable]


def _of_child(topic: str, partition: int, message: PlainMessage) -> Received:
    return Received(
        topic=topic,
        partition=partition,
        offset=message.offset,
        timestamp_ms=message.timestamp_ms,
        value=message.value,
        headers=known_headers(message.headers),
    )


def _as_received(message: Message) -> Received:
    headers: Any = message.headers() or []
    return Received(
        topic=message.topic() or "",
        partition=message.partition() or 0,
        offset=message.offset() or 0,
        timestamp_ms=message.timestamp()[1],
        value=message.value(),
        headers=known_headers(headers),
    )
