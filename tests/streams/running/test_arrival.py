"""Batches with which Kafka's client stands still, and messages that claim other offsets."""

from __future__ import annotations

import gzip
import threading
from pathlib import Path

import pytest
from confluent_kafka import Producer

from mmbroker.deploy.local import LocalStack
from mmbroker.streams.kafka.batches import Layout
from mmbroker.streams.kafka.client import create_topics
from mmbroker.streams.kafka.guarded import BatchEndsReaderError, end_of_unreadable, guarded
from mmbroker.streams.kafka.offsets import committed_offsets, end_offsets
from mmbroker.streams.running import arrival
from mmbroker.streams.settings import Settings
from mmbroker.streams.stages.accounting import UNREADABLE
from mmbroker.streams.subscribing.read import read, read_all
from tests.conftest import settings_on, wait_until
from tests.record_batches import ENDS_THE_CLIENT, GZIP, batch, record, send
from tests.streams.running.test_reader import reader

pytestmark = pytest.mark.slow  # servers of its own

GOOD = record(0, b"anything")
STRANGE = {
    "two members of gzip": batch(
        gzip.compress(GOOD[:5]) + gzip.compress(GOOD[5:]), attributes=GZIP
    ),
    "a key of negative length": batch(record(0, b"x", key_length=-5)),
    "the offset of a later message": batch(record(7, b"x")),
    "an offset far ahead": batch(record(2**31 - 1, b"x")),
    "the offset of a former message": batch(record(-1, b"x")),
}
"""Kafka takes these, one message each."""

HALF_STRANGE = {
    "a key of negative length": batch(GOOD + record(1, b"x", key_length=-5), 2),
    "the offset of a later message": batch(GOOD + record(9, b"x"), 2),
}
"""The first of two messages is as it should be."""


def written(settings: Settings) -> str:
    """The topic of observations with all of them, among good messages."""
    topic = settings.topics.observations
    create_topics(settings.kafka, settings.topics.all())
    for one in (*STRANGE.values(), *HALF_STRANGE.values()):
        for each in (batch(GOOD), one, batch(GOOD)):
            send(settings.kafka, topic, each)
    return topic


LOST = [3 * number + 1 for number in range(len(STRANGE))]
LOST += [3 * len(STRANGE) + 4 * number + 2 for number in range(len(HALF_STRANGE))]
END = 3 * len(STRANGE) + 4 * len(HALF_STRANGE)


def test_a_stage_comes_past_them_and_gets_every_good_message_once(
    stack: LocalStack,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(arrival, "STANDS_STILL_S", 0.5)
    settings, _ = settings_on(stack, tmp_path, "arrival")
    topic = written(settings)
    stage, _, reading = reader(settings, "arrives", 0.02)
    stop = threading.Event()
    thread = threading.Thread(target=reading.run, args=[stop])
    try:
        thread.start()
        wait_until(
            lambda: committed_offsets(settings.kafka, "noting", topic).get(0) == END,
            f"it does not get on: {stage.given}",
        )
        send(settings.kafka, topic, STRANGE["a key of negative length"])
        send(settings.kafka, topic, batch(GOOD))
        wait_until(lambda: (0, END + 1) in stage.given, f"it does not get on: {stage.given}")
    finally:
        stop.set()
        thread.join()
    good = [offset for offset in range(END) if offset not in LOST]
    assert [offset for partition, offset in stage.given if not partition] == [*good, END + 1]
    with stage.store.reading() as stored:
        assert stored.counts()["noting", UNREADABLE] == len(LOST) + 1
    for why in ("is not delivered by Kafka's client", "does not say its own offsets"):
        assert f"are lost: their batch {why}" in caplog.text


def test_what_ends_the_client_in_an_assertion_ends_a_child_alone(
    stack: LocalStack, tmp_path: Path
) -> None:
    settings, _ = settings_on(stack, tmp_path, "assertion")
    topic = settings.topics.observations
    create_topics(settings.kafka, settings.topics.all())
    for each in (batch(GOOD), ENDS_THE_CLIENT, batch(GOOD)):
        send(settings.kafka, topic, each)
    with pytest.raises(BatchEndsReaderError, match="offset 1 cannot be unpacked"):
        list(guarded(settings.kafka, topic, 0, 1))
    assert end_of_unreadable(settings.kafka, topic, 0, 1) == 2
    assert end_of_unreadable(settings.kafka, topic, 0, 2) == 2
    shown = read(settings, "observations")
    assert [next(shown).offset, next(shown).plain["undecodable"], next(shown).offset] == [
        0, "offsets 1 to 1: their batch cannot be unpacked", 2,
    ]  # fmt: skip
    send(settings.kafka, topic, ENDS_THE_CLIENT)
    assert "offsets 3 to 3" in next(shown).plain["undecodable"]


def test_a_rebuild_reads_past_them(stack: LocalStack, tmp_path: Path) -> None:
    settings, _ = settings_on(stack, tmp_path, "rebuilding")
    written(settings)
    found = {each.offset: each.plain["undecodable"] for each in read_all(settings, "observations")}
    assert list(found) == list(range(END))
    told = [offset for offset, said in found.items() if f"offsets {offset} to {offset}: " in said]
    assert told == LOST


def test_messages_between_markers_and_aborted_ones_are_where_they_should_be(
    stack: LocalStack, tmp_path: Path
) -> None:
    settings, _ = settings_on(stack, tmp_path, "transactions")
    topic = settings.topics.observations
    create_topics(settings.kafka, settings.topics.all())
    producer = Producer({**settings.kafka.client(), "transactional.id": "layouts"})
    producer.init_transactions()
    for end in (
        producer.commit_transaction,
        producer.abort_transaction,
        producer.commit_transaction,
    ):
        producer.begin_transaction()
        for _ in range(2):
            producer.produce(topic, b"anything", partition=0)
        producer.flush()
        end()
    send(settings.kafka, topic, batch(GOOD))
    assert end_offsets(settings, topic)[0] == 10
    offsets = [each.offset for each in guarded(settings.kafka, topic, 0, 0)]
    assert offsets == [0, 1, 6, 7, 9]
    layout = Layout(settings.kafka, topic, 0)
    for expected, offset in ((0, 0), (1, 1), (2, 6), (3, 6), (7, 7), (8, 9)):
        assert layout.allows(expected, offset)
    for expected, offset in ((0, 1), (0, 6), (1, 6), (2, 7), (2, 9), (8, 10), (9, 8), (10, 11)):
        assert not layout.allows(expected, offset)
