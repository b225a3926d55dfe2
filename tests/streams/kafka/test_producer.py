"""Messages up to the largest one go the whole way, through every limit that there is on it."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from mmbroker.deploy.local import LocalStack
from mmbroker.deploy.local.kafka import MESSAGE_BYTES
from mmbroker.streams.kafka.client import KafkaUnavailableError, create_topics, topic_config
from mmbroker.streams.kafka.producer import DurableProducer
from mmbroker.streams.publishing.publisher import Publisher
from mmbroker.streams.stages.messages import Outgoing
from mmbroker.streams.subscribing.read import read
from mmbroker.streams.topics import LARGEST_MESSAGE_BYTES
from tests.conftest import settings_on

FRAMING_BYTES = 2**17
"""Of a message and its batch; what does not compress becomes somewhat larger."""


def test_the_local_kafka_takes_what_the_broker_may_send() -> None:
    assert MESSAGE_BYTES == LARGEST_MESSAGE_BYTES


@pytest.mark.slow
def test_the_largest_message_goes_through_and_a_larger_one_is_refused(
    stack: LocalStack, tmp_path: Path
) -> None:
    settings, _ = settings_on(stack, tmp_path, "large")
    create_topics(settings.kafka, settings.topics.all())
    for topic in settings.topics.all():
        size = topic_config(settings.kafka, topic.name)["max.message.bytes"]
        assert int(size) == LARGEST_MESSAGE_BYTES
    largest = random.Random(1).randbytes(LARGEST_MESSAGE_BYTES - FRAMING_BYTES)
    producer = DurableProducer(settings.kafka)
    producer.send([Outgoing(settings.topics.observations, b"stage", largest)])
    with Publisher(settings) as publisher:
        publisher.send_encoded(largest, b"publisher")
    found = {each.key: each.value for each in read(settings, "observations", until_end=True)}
    assert found.keys() == {b"stage", b"publisher"}
    for told in found.values():  # it is no event
        assert f"the message has {len(largest)} bytes" in told.decode()
    larger = largest + bytes(2 * FRAMING_BYTES)
    with pytest.raises(KafkaUnavailableError, match="too large"):
        producer.send([Outgoing(settings.topics.observations, b"stage", larger)])
