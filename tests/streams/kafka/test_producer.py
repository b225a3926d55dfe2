"""Messages up to the largest one go the whole way, through every limit that there is on it."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from confluent_kafka import KafkaException, Producer

from mmbroker.deploy.local import LocalStack
from mmbroker.deploy.local.kafka import MESSAGE_BYTES
from mmbroker.streams.kafka.client import KafkaUnavailableError, create_topics, topic_config
from mmbroker.streams.kafka.producer import DurableProducer
from mmbroker.streams.publishing.publisher import Publisher
from mmbroker.streams.stages.messages import Outgoing
from mmbroker.streams.subscribing.read import read
from mmbroker.streams.topics import LARGEST_MESSAGE_BYTES, Topic
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
    told = producer.send([Outgoing(settings.topics.observations, b"stage", larger)])
    assert ["too large" in each.reason for each in told] == [True]


@pytest.mark.slow
def test_no_transaction_holds_readers_up_for_longer_than_a_minute(stack: LocalStack) -> None:
    client = {"bootstrap.servers": stack.bootstrap_servers, "transactional.id": "long"}
    long = Producer({**client, "transaction.timeout.ms": 61_000})
    with pytest.raises(KafkaException, match="INVALID_TRANSACTION_TIMEOUT"):
        long.init_transactions(20)


@pytest.mark.slow
def test_one_message_that_kafka_does_not_take_keeps_no_other_back(
    stack: LocalStack, tmp_path: Path
) -> None:
    settings, _ = settings_on(stack, tmp_path, "unsendable")
    few = Topic(settings.topics.observations, {"max.message.bytes": "20000"}, 1)
    keyed = Topic(settings.topics.fingerprints, {"cleanup.policy": "compact"}, 1)
    create_topics(settings.kafka, [few, keyed])
    noise = random.Random(2).randbytes(LARGEST_MESSAGE_BYTES + 1)
    bad = [
        Outgoing(few.name, b"value", noise[:30_000]),
        Outgoing(few.name, noise[:30_000], b"key"),
        Outgoing(few.name, b"header", b"", {"h": noise[:30_000]}),
        Outgoing(few.name, b"client", noise),
    ]
    good = [Outgoing(few.name, str(number).encode(), noise[:1000]) for number in range(60)]
    messages = [*good[:30], *bad, *good[30:], Outgoing(keyed.name, b"galaxy", b"")]
    producer = DurableProducer(settings.kafka)
    told = producer.send(messages)
    assert [each.message for each in told] == bad
    found = [each.key for each in read(settings, "observations", until_end=True)]
    assert set(found) == {each.key for each in good}
    assert len(list(read(settings, "fingerprints", until_end=True))) == 1
    assert not producer.send(good)

    impatient = settings.kafka.model_copy(update={"delivery_timeout_s": 1.0})
    with pytest.raises(KafkaUnavailableError, match="missing"):
        DurableProducer(impatient).send([Outgoing("there-is-none", b"", b"")])
