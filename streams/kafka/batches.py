"""Asks Kafka where batches of messages begin and end, without unpacking them.

Kafka's client tells where a batch begins that it cannot unpack, and not where it ends. Kafka itself
gives the batch as it was sent, and its head says so (record batch, KIP-98). For that the client of
aiokafka sends the request, as confluent-kafka has no way to.

Within a batch the messages say their offsets themselves, and Kafka believes them unless the batch
is compressed. A message with a later offset than its own would stand in for the ones up to there,
as if they had been read. So offsets are compared with the heads of the batches.
"""

from __future__ import annotations

import asyncio
import ssl
import struct
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError, OffsetOutOfRangeError
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.structs import TopicPartition

from mmbroker.streams.kafka.client import METADATA_TIMEOUT_S, RETRY_PAUSE_S, KafkaUnavailableError
from mmbroker.streams.kafka.refusal import tls_context
from mmbroker.streams.settings import KafkaSettings

T = TypeVar("T")

_READ_UNCOMMITTED, _READ_COMMITTED = 0, 1

_HEAD = struct.Struct(">qi4xb4xhi16xq6xi")
"""First offset, size of what follows, format, attributes, last offset from the first one on,
producer and number of messages."""

_SIZE_END = 12
_FORMAT = 2
"""The format of Kafka since 0.11."""
_TRANSACTIONAL, _CONTROL = 0x10, 0x20

LISTED_BYTES = 2**20
"""So much of a partition, as Kafka holds it, is asked for at once."""


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch of messages.

    Attributes:
        offsets: the offsets that Kafka gave it.
        whole: whether every offset has a message that is delivered. Compaction leaves gaps; what
            belongs to an aborted transaction, and the markers of transactions, are not delivered.
    """

    offsets: range
    whole: bool


def batch_at(settings: KafkaSettings, topic: str, partition: int, offset: int) -> range:
    """The offsets of the batch of messages that an offset is in, or of the next one.

    Args:
        settings: how to reach Kafka.
        topic: name of the topic.
        partition: number of the partition.
        offset: of any message, or where none is any more.

    Returns:
        From the first to the last offset of the batch; empty where there is none.

    Raises:
        KafkaUnavailableError: Kafka does not answer.
    """

    async def asked(client: AIOKafkaClient, place: TopicPartition) -> range:
        answer = await _fetched(client, place, offset, 1, _READ_UNCOMMITTED)  # Kafka gives a batch
        batch = MemoryRecords(answer[-1] or b"").next_batch() if answer else None
        if batch is None:
            return range(offset, offset)
        return range(batch.base_offset, batch.next_offset)

    return asyncio.run(_until_answered(settings, TopicPartition(topic, partition), asked))


def batches_from(settings: KafkaSettings, topic: str, partition: int, offset: int) -> list[Batch]:
    """The batches of messages from an offset on, as far as ``LISTED_BYTES`` go.

    Arguments and errors are those of ``batch_at``. What stands behind the first open transaction is
    left out.
    """

    async def asked(client: AIOKafkaClient, place: TopicPartition) -> list[Batch]:
        answer = await _fetched(client, place, offset, LISTED_BYTES, _READ_COMMITTED)
        if not answer:
            return []
        aborted, raw = (answer[-3] or [], answer[-1] or b"")
        return list(_listed(raw, set(aborted)))

    return asyncio.run(_until_answered(settings, TopicPartition(topic, partition), asked))


def _listed(raw: bytes, aborted: set[tuple[int, int]]) -> Iterator[Batch]:
    """The batches whose heads are in some bytes.

    Args:
        raw: the bytes.
        aborted: producer and first offset of the transactions that were aborted. Those that end
            within the bytes are taken out.
    """
    start = 0
    while len(raw) - start >= _HEAD.size:
        first, size, form, attributes, last, producer, count = _HEAD.unpack_from(raw, start)
        start += _SIZE_END + size
        within = {each for each in aborted if each[0] == producer and each[1] <= first}
        if attributes & _CONTROL:
            aborted -= within
        undelivered = attributes & _CONTROL or (attributes & _TRANSACTIONAL and within)
        whole = form == _FORMAT and not undelivered and count == last + 1
        yield Batch(range(first, first + last + 1), whole)


class Layout:
    """Knows which offset the next message of a partition may have.

    Args:
        settings: how to reach Kafka.
        topic: name of the topic.
        partition: number of the partition.
    """

    def __init__(self, settings: KafkaSettings, topic: str, partition: int) -> None:
        self._place = settings, topic, partition
        self._known: list[Batch] = []

    def allows(self, expected: int, offset: int) -> bool:
        """Whether the next message, at ``expected`` or later, may have this offset.

        Raises:
            KafkaUnavailableError: Kafka does not answer.
        """
        if offset <= expected:
            return offset == expected
        while batches := self._from(expected):
            for batch in batches:
                if batch.whole:
                    return offset == max(batch.offsets.start, expected)
                if offset < batch.offsets.stop:
                    return offset >= batch.offsets.start
            expected = batches[-1].offsets.stop
        return False

    def _from(self, offset: int) -> list[Batch]:
        """Some batches, the first of which has the offset or a later one."""
        if not self._known or not (
            self._known[0].offsets.start <= offset < self._known[-1].offsets.stop
        ):
            self._known = batches_from(*self._place, offset)
        return [batch for batch in self._known if batch.offsets.stop > offset]


async def _until_answered(
    settings: KafkaSettings,
    place: TopicPartition,
    ask: Callable[[AIOKafkaClient, TopicPartition], Awaitable[T]],
) -> T:
    client = _client(settings)
    why = "no answer"
    try:
        async with asyncio.timeout(METADATA_TIMEOUT_S):
            await client.bootstrap()
            await client.set_topics([place.topic])
            while True:
                try:
                    return await ask(client, place)
                except KafkaError as error:  # as while a leader is elected
                    why = str(error) or type(error).__name__
                await asyncio.sleep(RETRY_PAUSE_S)
                await client.force_metadata_update()
    except (KafkaError, TimeoutError, OSError) as error:
        reason = why if isinstance(error, TimeoutError) else str(error)
        raise KafkaUnavailableError(f"topic {place.topic} [{place.partition}]: {reason}") from error
    finally:
        with suppress(KafkaError, OSError):
            await client.close()


async def _fetched(
    client: AIOKafkaClient, place: TopicPartition, offset: int, most_bytes: int, isolation: int
) -> tuple[Any, ...]:
    """What Kafka answers for the partition; empty for an offset that it does not have."""
    wanted = [(place.topic, [(place.partition, offset, most_bytes)])]
    leader = client.cluster.leader_for_partition(place)
    if leader is None or leader < 0:
        raise KafkaError(f"{place.topic} [{place.partition}] has no leader")
    answer = await client.send(leader, FetchRequest(100, 1, most_bytes, isolation, wanted))
    ((_, ((_, code, *rest),)),) = answer.topics
    if code == OffsetOutOfRangeError.errno:
        return ()
    if code:
        raise KafkaError(f"Kafka answers with error {code}")
    return tuple(rest)


def _client(settings: KafkaSettings) -> AIOKafkaClient:
    secured: ssl.SSLContext | None = None
    if settings.security_protocol.endswith("SSL"):
        secured = tls_context(settings)
    password = settings.sasl_password
    return AIOKafkaClient(
        bootstrap_servers=settings.bootstrap_servers,
        security_protocol=settings.security_protocol,
        ssl_context=secured,
        sasl_mechanism=settings.sasl_mechanism,
        sasl_plain_username=settings.sasl_username,
        sasl_plain_password=None if password is None else password.get_secret_value(),
        request_timeout_ms=int(METADATA_TIMEOUT_S * 1000),
    )
