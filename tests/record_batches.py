"""Writes batches of records byte by byte, as strangers can, and sends them to Kafka as they are."""

from __future__ import annotations

import asyncio
import gzip
import struct
import time

from aiokafka.client import AIOKafkaClient
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.record.util import calc_crc32c, encode_varint_py
from aiokafka.structs import TopicPartition

from mmbroker.streams.settings import KafkaSettings

GZIP = 1
"""The codec, as the attributes of a batch have it."""

NO_LEADER = (3, 5, 6)
"""Codes of errors of a topic that was only just made."""


def _varint(number: int) -> bytes:
    written = bytearray()
    encode_varint_py(number, written.append)
    return bytes(written)


def record(number: int, value: bytes, key_length: int = -1) -> bytes:
    """A record without a key.

    Args:
        number: the offset that it claims, from the first one of its batch on.
        value: its value.
        key_length: -1 says that there is no key, and less says nothing.
    """
    inner = b"\0\0" + _varint(number) + _varint(key_length) + _varint(len(value)) + value + b"\0"
    return _varint(len(inner)) + inner


def batch(packed: bytes, count: int = 1, attributes: int = 0) -> bytes:
    """A batch of records in the format of Kafka since 0.11, with a right checksum.

    Args:
        packed: its records.
        count: how many it says that there are.
        attributes: how they are packed, such as ``GZIP``.
    """
    now_ms = int(1000 * time.time())
    checked = struct.pack(">hiqqqhii", attributes, count - 1, now_ms, now_ms, -1, -1, -1, count)
    checked += packed
    head = struct.pack(">ibI", 0, 2, calc_crc32c(checked))
    return struct.pack(">qi", 0, len(head) + len(checked)) + head + checked


ENDS_THE_CLIENT = batch(gzip.compress(b"") + gzip.compress(record(0, b"x")), attributes=GZIP)
"""Kafka takes it, and librdkafka ends its process with an assertion."""


def send(settings: KafkaSettings, topic: str, sent: bytes, partition: int = 0) -> None:
    """Send a batch as it is.

    Raises:
        AssertionError: Kafka refuses it.
    """

    async def run() -> int:
        client = AIOKafkaClient(bootstrap_servers=settings.bootstrap_servers)
        await client.bootstrap()
        try:
            await client.set_topics([topic])
            leader = client.cluster.leader_for_partition(TopicPartition(topic, partition))
            request = ProduceRequest(None, -1, 30_000, [(topic, [(partition, sent)])])
            answer = await client.send(leader, request)
            return int(answer.topics[0][1][0][1])
        finally:
            await client.close()

    while (code := asyncio.run(run())) in NO_LEADER:
        time.sleep(0.1)
    assert code == 0, code
