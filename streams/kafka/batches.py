"""Asks Kafka where a batch of messages begins and ends, without unpacking it.

Kafka's client tells where a batch begins that it cannot unpack, and not where it ends. Kafka itself
gives the batch as it was sent, and its head says so (record batch, KIP-98). For that the client of
aiokafka sends the request, as confluent-kafka has no way to.
"""

from __future__ import annotations

import asyncio
import ssl
from contextlib import suppress

from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError, OffsetOutOfRangeError
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.structs import TopicPartition

from mmbroker.streams.kafka.client import METADATA_TIMEOUT_S, RETRY_PAUSE_S, KafkaUnavailableError
from mmbroker.streams.kafka.refusal import tls_context
from mmbroker.streams.settings import KafkaSettings

_READ_UNCOMMITTED = 0


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
    return asyncio.run(_batch_at(settings, TopicPartition(topic, partition), offset))


async def _batch_at(settings: KafkaSettings, place: TopicPartition, offset: int) -> range:
    client = _client(settings)
    why = "no answer"
    try:
        async with asyncio.timeout(METADATA_TIMEOUT_S):
            await client.bootstrap()
            await client.set_topics([place.topic])
            while True:
                try:
                    return await _asked(client, place, offset)
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


async def _asked(client: AIOKafkaClient, place: TopicPartition, offset: int) -> range:
    wanted = [(place.topic, [(place.partition, offset, 1)])]  # of 1 byte, Kafka gives a batch
    leader = client.cluster.leader_for_partition(place)
    if leader is None or leader < 0:
        raise KafkaError(f"{place.topic} [{place.partition}] has no leader")
    answer = await client.send(leader, FetchRequest(100, 1, 1, _READ_UNCOMMITTED, wanted))
    ((_, ((_, code, *_, raw),)),) = answer.topics
    if code == OffsetOutOfRangeError.errno:
        return range(offset, offset)
    if code:
        raise KafkaError(f"Kafka answers with error {code}")
    batch = MemoryRecords(raw or b"").next_batch()
    if batch is None:
        return range(offset, offset)
    return range(batch.base_offset, batch.next_offset)


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
