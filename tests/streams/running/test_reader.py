"""What a reader does while its group shares out the partitions anew."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil
import pytest

from mmbroker.deploy.local import LocalStack
from mmbroker.schemas.codec import Codec
from mmbroker.streams.kafka.client import create_topics
from mmbroker.streams.kafka.offsets import committed_offsets, end_offsets
from mmbroker.streams.kafka.producer import DurableProducer
from mmbroker.streams.running import reader as reader_module
from mmbroker.streams.running.health import Health
from mmbroker.streams.running.reader import Reader
from mmbroker.streams.settings import Settings
from mmbroker.streams.stages.base import Stage
from mmbroker.streams.stages.messages import Outgoing, Processed, Received
from mmbroker.streams.store import LMDBStore
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
