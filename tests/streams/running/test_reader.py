"""What a reader does while its group shares out the partitions anew."""

from __future__ import annotations

import random
import re
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil
import pytest
from confluent_kafka import Producer

from mmbroker.deploy.local import LocalStack
from mmbroker.schemas.codec import Codec
from mmbroker.schemas.events import Quarantine
from mmbroker.streams.kafka.client import UNPACKED_BYTES, create_topics
from mmbroker.streams.kafka.offsets import committed_offsets, end_offsets
from mmbroker.streams.kafka.producer import DurableProducer
from mmbroker.streams.running import reader as reader_module
from mmbroker.streams.running.health import Health
from mmbroker.streams.running.reader import Reader, process_durably
from mmbroker.streams.settings import Settings
from mmbroker.streams.stages.accounting import GAP, UNREADABLE, unsendable_of
from mmbroker.streams.stages.base import UNSENDABLE, RefusedError, Stage
from mmbroker.streams.stages.messages import Outgoing, Processed, Received
from mmbroker.streams.store import LMDBStore
from mmbroker.streams.subscribing.read import read
from mmbroker.streams.topics import Topic
from tests.conftest import settings_on, wait_until

pytestmark = pytest.mark.slow  # servers of its own

MESSAGES = 40
LONG_S = 8.0
"""How long the first reader gathers: the second joins the group meanwhile."""


class Noting(Stage):
    """Notes which events it is given, and publishes nothing."""

    name = "noting"
    given: Sequence[tuple[int, int]] = ()

    @property
    def sources(self) -> Sequence[str]:
        return [self.topics.observations]

    def process(self, batch: Sequence[Received]) -> Iterator[Processed]:
        self.given = [*self.given, *((each.partition, each.offset) for each in batch)]
        yield Processed([])


def reader(settings: Settings, name: str, batch_wait_s: float) -> tuple[Noting, Health, Reader]:
    stage = settings.stage.model_copy(update={"batch_wait_s": batch_wait_s})
    noting = Noting(LMDBStore(settings.store_directory / name), settings.topics, Codec())
    mine = settings.model_copy(update={"stage": stage})
    health = Health(noting.metrics)
    return noting, health, Reader(noting, mine, name, health)


def publish(settings: Settings) -> None:
    topic = settings.topics.observations
    DurableProducer(settings.kafka).send(
        [Outgoing(topic, str(number).encode(), b"anything") for number in range(MESSAGES)]
    )


def test_what_is_gathered_when_partitions_go_is_left_to_who_gets_them(
    stack: LocalStack, tmp_path: Path
) -> None:
    settings, _ = settings_on(stack, tmp_path, "gathering")
    topic = settings.topics.observations
    create_topics(settings.kafka, settings.topics.all())
    publish(settings)
    slow, health, gathering = reader(settings, "slow", LONG_S)
    quick, _, joining = reader(settings, "quick", 0.02)
    stop = threading.Event()
    threads = [threading.Thread(target=each.run, args=[stop]) for each in (gathering, joining)]
    try:
        threads[0].start()
        wait_until(lambda: bool(health.assigned), "the first reader gets nothing")
        threads[1].start()
        wait_until(lambda: bool(quick.given), "the second reader gets nothing")
        assert not slow.given  # it still gathers
        publish(settings)
        wait_until(
            lambda: len(slow.given) + len(quick.given) >= 2 * MESSAGES, "some are not processed"
        )
        wait_until(
            lambda: (
                committed_offsets(settings.kafka, "noting", topic)
                == {place: end for place, end in end_offsets(settings, topic).items() if end}
            ),
            "what is committed is not what was read",
        )
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert slow.given
    assert len(set(slow.given) | set(quick.given)) == len(slow.given) + len(quick.given)


def test_what_cannot_be_unpacked_is_stepped_over_and_counted(
    stack: LocalStack, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings, _ = settings_on(stack, tmp_path, "unreadable")
    topic = settings.topics.observations
    create_topics(settings.kafka, settings.topics.all())

    def bomb(messages: int, size: int) -> None:
        """One batch, of a few kB in Kafka, that is too large unpacked."""
        producer = Producer(
            {
                **settings.kafka.client(),
                "compression.type": "zstd",
                "linger.ms": 1000,
                "message.max.bytes": 10**9,
                "batch.size": 10**9,
            }
        )
        for _ in range(messages):
            producer.produce(topic, bytes(size), partition=0)
        assert not producer.flush(30)

    one = Outgoing(topic, b"0", b"anything")
    producer = Producer(settings.kafka.client())
    wanted = []
    for messages, size in ((1, 2 * UNPACKED_BYTES), (70, 2**20)):
        before = end_offsets(settings, topic)[0]
        producer.produce(topic, one.value, partition=0)
        producer.flush()
        bomb(messages, size)
        wanted.append(before)
    producer.produce(topic, one.value, partition=0)
    producer.flush()
    end = end_offsets(settings, topic)[0]
    wanted.append(end - 1)
    lost = end - len(wanted)
    assert lost == 71

    stage, _, reading = reader(settings, "steps", 0.02)
    Path("/proc/self/clear_refs").write_text("5")  # forgets the peak of other tests
    before_mb = memory_mb("VmRSS")
    stop = threading.Event()
    thread = threading.Thread(target=reading.run, args=[stop])
    try:
        thread.start()
        wait_until(lambda: (0, wanted[-1]) in stage.given, f"it does not get on: {stage.given}")
        wait_until(
            lambda: committed_offsets(settings.kafka, "noting", topic).get(0) == end,
            "it does not acknowledge what it stepped over",
        )
    finally:
        stop.set()
        thread.join()
    assert [offset for partition, offset in stage.given if partition == 0] == wanted
    with stage.store.reading() as stored:
        assert stored.counts() == {("noting", UNREADABLE): lost, ("noting", GAP): 2}
    assert f"offsets {wanted[1] + 1} to {end - 2} of {topic} [0] are lost" in caplog.text
    assert memory_mb("VmHWM") - before_mb < 450

    shown = list(read(settings, "observations", until_end=True))
    assert [each.offset for each in shown] == [0, 1, 2, 3, end - 1]
    assert "cannot be unpacked" in shown[1].plain["undecodable"]
    assert f"offsets 3 to {end - 2}: " in shown[3].plain["undecodable"]


def memory_mb(kind: str) -> float:
    """Memory of this process: what it has (``VmRSS``), or had at most (``VmHWM``)."""
    (found,) = re.findall(rf"^{kind}:\s+(\d+) kB$", Path("/proc/self/status").read_text(), re.M)
    return int(found) / 1024


def test_a_message_that_kafka_does_not_take_goes_to_quarantine_cut(
    stack: LocalStack, tmp_path: Path
) -> None:
    settings, _ = settings_on(stack, tmp_path, "cut")
    create_topics(
        settings.kafka,
        [
            Topic(topic.name, {"max.message.bytes": "20000"}, 1)
            for topic in settings.topics.all()
            if topic.name in (settings.topics.quarantine, settings.topics.fingerprints)
        ],
    )
    large = random.Random(3).randbytes(2**20)
    event = Received(settings.topics.observations, 0, 7, 0, large)

    class Sending(Noting):
        def process(self, batch: Sequence[Received]) -> Iterator[Processed]:
            fingerprint = Outgoing(self.topics.fingerprints, b"mm-large", large)
            small = Outgoing(self.topics.fingerprints, b"mm-small", b"small")
            refused = self.quarantined(batch[0], RefusedError("invalid", "for a test"))
            yield Processed([fingerprint, refused, small])

    stage = Sending(LMDBStore(settings.store_directory), settings.topics, Codec())
    process_durably(stage, DurableProducer(settings.kafka), [event])
    assert [each.key for each in read(settings, "fingerprints", until_end=True)] == [b"mm-small"]
    held = {}
    for each in read(settings, "quarantine", until_end=True):
        assert isinstance(each.event, Quarantine)
        held[each.event.reason] = each.event
        assert large.startswith(each.event.original)
        assert len(each.event.original) == 2**10
    assert held["invalid"].offset == 7
    assert "mm-large" in held[UNSENDABLE].detail
    assert settings.topics.fingerprints in held[UNSENDABLE].detail
    with stage.store.reading() as stored:
        assert stored.counts() == {(unsendable_of("noting"), settings.topics.fingerprints): 1}


def test_who_lost_its_partitions_and_gets_none_reads_on_with_a_new_client(
    servers: LocalStack,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(reader_module, "LEFT_OUT_S", 0.5)
    settings, _ = settings_on(servers, tmp_path, "left-out")
    create_topics(settings.kafka, settings.topics.all())
    publish(settings)
    stage, health, reading = reader(settings, "only", 0.02)
    stop = threading.Event()
    thread = threading.Thread(target=reading.run, args=[stop])
    kafka = psutil.Process(servers.kafka.pid)
    try:
        thread.start()
        wait_until(lambda: len(stage.given) == MESSAGES, "nothing is read at first")
        kafka.suspend()  # silence for longer than a session: the client gives its partitions up
        wait_until(lambda: not health.assigned, "the partitions are not lost")
        wait_until(
            lambda: caplog.text.count("no partitions for") >= 2, "the client is kept, or the next"
        )
        kafka.resume()
        publish(settings)
        wait_until(lambda: len(set(stage.given)) == 2 * MESSAGES, "nothing is read afterwards")
    finally:
        kafka.resume()
        stop.set()
        thread.join()
