"""A way past a message on which a stage ends, that loses nothing else and says what it did."""

from __future__ import annotations

import threading
from contextlib import closing
from pathlib import Path

import pytest

from mmbroker.deploy.local import LocalStack
from mmbroker.schemas.events import Quarantine
from mmbroker.streams.errors import InfrastructureError
from mmbroker.streams.kafka.client import consumer, consumer_group, create_topics
from mmbroker.streams.kafka.offsets import committed_offsets
from mmbroker.streams.kafka.producer import DurableProducer
from mmbroker.streams.names import BUILD_FINGERPRINTS
from mmbroker.streams.operating import check as checking
from mmbroker.streams.operating.ledger import ledger
from mmbroker.streams.operating.skip import MOST, Offsets, skip
from mmbroker.streams.running.freshness import require_newest
from mmbroker.streams.settings import Settings, SettingsError
from mmbroker.streams.stages.accounting import SKIPPED
from mmbroker.streams.stages.messages import Outgoing
from mmbroker.streams.store import open_store
from mmbroker.streams.subscribing.read import read
from mmbroker.streams.topics import Topic
from tests.command import run_command
from tests.conftest import settings_on

pytestmark = pytest.mark.slow

MESSAGES = 6


@pytest.fixture
def waiting(stack: LocalStack, tmp_path: Path) -> tuple[Settings, dict[str, str]]:
    """Settings of topics with a few observations in one partition; no stage runs."""
    settings, environment = settings_on(stack, tmp_path, f"skip-{tmp_path.name[-30:]}")
    create_topics(
        settings.kafka, [Topic(each.name, each.config, 1) for each in settings.topics.all()]
    )
    DurableProducer(settings.kafka).send(
        [
            Outgoing(settings.topics.observations, b"k", f"poison {number}".encode())
            for number in range(MESSAGES)
        ]
    )
    return settings, environment


def test_what_would_do_harm_is_refused(waiting: tuple[Settings, dict[str, str]]) -> None:
    settings, _ = waiting
    for offsets, partition, problem in (
        ("4-6", 0, "ends before 6"),
        ("1", 0, "reads offset 0 of .* next"),
        ("3-2", 0, "last one is before the first"),
        (f"0-{MOST}", 0, "at most 1,000"),
        ("0", 5, "has no partition 5; it has 1"),
    ):
        with pytest.raises(SettingsError, match=problem):
            skip(settings, BUILD_FINGERPRINTS, partition, Offsets.of(offsets), "for a test")


@pytest.mark.parametrize("text", ["", "-1", "1-", "1-2-3", "a", "1 - 2", "٣", "9" * 40])
def test_what_is_no_range_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="give one, as 17"):
        Offsets.of(text)


def test_what_is_skipped_is_counted_kept_and_not_read_again(
    waiting: tuple[Settings, dict[str, str]],
) -> None:
    settings, environment = waiting
    topic = settings.topics.observations
    said = run_command(["skip", BUILD_FINGERPRINTS, "0", "0-2", "--reason", "ends it"], environment)
    assert said.returncode == 0, said.stdout + said.stderr
    assert "passes over 3 offsets" in said.stdout
    assert f"{BUILD_FINGERPRINTS} skips {topic} [0] 0-2: ends it" in said.stderr
    held = [each.event for each in read(settings, "quarantine", until_end=True)]
    assert [
        (each.offset, each.original, each.reason, each.detail)
        for each in held
        if isinstance(each, Quarantine)
    ] == [(number, f"poison {number}".encode(), "skipped", "ends it") for number in range(3)]
    assert committed_offsets(settings.kafka, BUILD_FINGERPRINTS, topic) == {0: 3}
    with closing(open_store(settings)) as store:
        require_newest(settings, BUILD_FINGERPRINTS, topic, store)
        with store.reading() as reading:
            build = ledger(settings, reading)[0]
    assert build.outcomes == {SKIPPED: 3}
    assert build.waiting == MESSAGES - 3
    assert "skipped by an operator so far: 3" in checking._ledger(settings)

    with pytest.raises(SettingsError, match=r"accounted for .* before 3; it reads 3 next"):
        skip(settings, BUILD_FINGERPRINTS, 0, Offsets.of("2"), "again")
    done = skip(settings, BUILD_FINGERPRINTS, 0, Offsets.of("3"), "unread", with_bytes=False)
    assert done.kept == 0
    last = list(read(settings, "quarantine", until_end=True))[-1].event
    assert isinstance(last, Quarantine)
    assert (last.offset, last.original) == (3, b"")


def test_a_stage_that_runs_is_not_made_to_skip(waiting: tuple[Settings, dict[str, str]]) -> None:
    settings, _ = waiting
    group = consumer_group(settings.kafka, BUILD_FINGERPRINTS)
    assigned = threading.Event()
    with closing(consumer(settings.kafka, group=group, session_timeout_ms=6000)) as member:
        member.subscribe([settings.topics.observations], on_assign=lambda *_: assigned.set())
        while not assigned.is_set():
            member.poll(0.2)
        brief = settings.stage.model_copy(update={"session_timeout_s": -4.0})
        hurried = settings.model_copy(update={"stage": brief})
        with pytest.raises(InfrastructureError, match=r"runs .* stop it"):
            skip(hurried, BUILD_FINGERPRINTS, 0, Offsets.of("0"), "for a test")
    assert not list(read(settings, "quarantine", until_end=True))
