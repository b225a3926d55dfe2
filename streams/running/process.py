"""Runs one stage as a process: a service under Faust's worker.

Faust starts and stops the service and hears the signals. Its own consumer, streams and agents are
not used: under a stage that does nothing they took 86 us of processor time per event, and
confluent-kafka's consumer 2.
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
from mmbroker.streams.kafka.offsets import start_offsets
from mmbroker.streams.running.freshness import require_newest
from mmbroker.streams.running.health import Health, served
from mmbroker.streams.running.reader import Reader
from mmbroker.streams.settings import Settings
from mmbroker.streams.stages.accounting import LogStart
from mmbroker.streams.stages.base import Stage

log = logging.getLogger(__name__)


def run_stage(stage: Stage, settings: Settings, instance: str) -> None:
    """Run a stage until SIGTERM or SIGINT.

    Args:
        stage: the stage.
        settings: the settings.
        instance: names this process among those of the stage, the same after a restart, so that
            it gets its partitions back at once.

    Raises:
        InfrastructureError: Kafka, the store or Triton stayed away for too long, or Kafka refuses.
    """
    # Refusals are told here: once the client runs, it would try for ever and say little of them.
    for source in stage.sources:
        partitions_of(settings.kafka, source)
    require_group(settings.kafka, consumer_group(settings.kafka, stage.name))
    for source in stage.sources:
        require_newest(settings, stage.name, source, stage.store)
    stage.log_start = _log_start(settings)
    _collect_garbage_rarely()
    health = Health(stage.metrics)
    reader = Reader(stage, settings, instance, health)
    with served(stage, settings, instance, health):
        _Worker(_Reading(reader), redirect_stdouts=False, quiet=True).execute_from_commandline()


def _log_start(settings: Settings) -> LogStart:
    """Asks Kafka where a log begins, over one connection."""
    client = admin(settings.kafka)

    def log_start(topic: str, partition: int) -> int:
        start = start_offsets(settings, topic, client).get(partition)
        if start is None:  # no fault of the events that were read there
            raise KafkaUnavailableError(
                f"Kafka does not tell where topic {topic} [{partition}] begins"
            )
        return start

    return log_start


class _Reading(faust.Service):
    """The reader as a service, in a thread of its own."""

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
            # The worker would say this with its traceback, several times: end as if killed instead.
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
    """A worker that leaves logging as the command line has set it up."""

    def _setup_logging(self) -> None:
        pass


def _collect_garbage_rarely() -> None:
    """Events hold no reference cycles: looking for some again and again in every batch is waste."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 20, 20)
