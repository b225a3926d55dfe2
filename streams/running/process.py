"""Runs one stage as a process, as a service of Faust.

Faust starts and stops the service and handles signals. Its own consumer, streams and agents are not
used: with a stage that does nothing they took 86 us of processor time per event, while
confluent-kafka's consumer took 2 us.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import threading

import faust
from mode import Worker

from mmbroker.streams.errors import InfrastructureError
from mmbroker.streams.kafka.client import (
    KafkaUnavailableError,
    admin,
    consumer_group,
    partitions_of,
    require_group,
)
from mmbroker.streams.kafka.guarded_child import bound_memory
from mmbroker.streams.kafka.offsets import committed_places, start_offsets
from mmbroker.streams.running.belonging import begin, compare
from mmbroker.streams.running.freshness import require_newest
from mmbroker.streams.running.health import Health, served
from mmbroker.streams.running.reader import Reader
from mmbroker.streams.running.starts import Starts
from mmbroker.streams.settings import Settings
from mmbroker.streams.stages.accounting import LogStart
from mmbroker.streams.stages.base import Stage

log = logging.getLogger(__name__)

_OF_MODE = logging.getLogger("mode")
"""Where a service logs its starts and stops. Without it mode takes the logger of this module, whose
words are those of a stage."""


def run_stage(stage: Stage, settings: Settings, instance: str) -> None:
    """Run a stage until SIGTERM or SIGINT.

    Args:
        stage: the stage.
        settings: the settings.
        instance: name of this process among those of the stage. Use the same name after a restart:
            then the process gets its partitions back at once.

    Raises:
        InfrastructureError: Kafka refuses, the store is older than what Kafka knows, or its topics
            are others now. If Kafka, the store or Triton is away for too long later, the process
            ends with status 1.
    """
    # Check for refusals before the consumer starts: it would try for ever and hardly say why.
    for source in stage.sources:
        partitions_of(settings.kafka, source)
    require_group(settings.kafka, consumer_group(settings.kafka, stage.name))
    for source in stage.sources:
        require_newest(settings, stage.name, source, stage.store)
    client = admin(settings.kafka)
    committed = {
        source: committed_places(settings.kafka, stage.name, source) for source in stage.sources
    }
    with stage.store.reading() as reading:
        compare(settings, reading, committed, client).require_well(stage.sources)
    begin(settings, stage.store, stage.sources, client)
    stage.log_start = _log_start(settings)
    collect_garbage_rarely()
    health = Health(stage.metrics)
    stage.progressed = health.progressed
    starts = Starts(settings.data_directory, instance)
    starts.begun(
        {(one.topic, one.partition): one.offset for many in committed.values() for one in many}
    )
    bound_memory(settings.stage.memory_headroom_mib * 2**20)
    reader = Reader(stage, settings, instance, health, starts)
    with served(stage, settings, instance, health):
        _Worker(_Reading(reader), redirect_stdouts=False, quiet=True).execute_from_commandline()


def _log_start(settings: Settings) -> LogStart:
    """Make a function that asks Kafka where a log begins; all its calls use one connection.

    The function raises KafkaUnavailableError if Kafka does not tell.
    """
    client = admin(settings.kafka)

    def log_start(topic: str, partition: int) -> int:
        start = start_offsets(settings, topic, client).get(partition)
        if start is None:  # not a fault of the events that were read there
            raise KafkaUnavailableError(
                f"Kafka does not tell where topic {topic} [{partition}] begins"
            )
        return start

    return log_start


class _Reading(faust.Service):
    """The reader as a service, in a thread of its own."""

    logger = _OF_MODE

    def __init__(self, reader: Reader) -> None:
        super().__init__()
        self._reader = reader
        self._stop = threading.Event()

    async def on_start(self) -> None:
        self._done = asyncio.ensure_future(asyncio.to_thread(self._reader.run, self._stop))
        self.add_future(self._watch())

    async def _watch(self) -> None:
        try:
            await asyncio.shield(self._done)
        except InfrastructureError as error:
            # The worker would log this several times with its traceback. So end at once, as if
            # killed.
            log.critical(
                "%s stops; nothing of its batch is acknowledged: %s", self._reader.stage.name, error
            )
            logging.shutdown()
            os._exit(1)
        except Exception as error:
            log.critical("%s", error)
            await self.crash(error)

    async def on_stop(self) -> None:
        self._stop.set()
        await asyncio.wait([self._done])


class _Worker(Worker):
    """A worker that does not change how the command line has set up the log."""

    logger = _OF_MODE

    def _setup_logging(self) -> None:
        pass


def collect_garbage_rarely() -> None:
    """Look for reference cycles less often: events have none, and looking costs time per batch."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 20, 20)
