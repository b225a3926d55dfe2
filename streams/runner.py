"""Runs one stage on Faust.

Faust brings the consumer group, its rebalances and the acknowledgement of what was processed; it
keeps no state. One batch at a time is processed in a worker thread, so that heartbeats go on
meanwhile, and is acknowledged after what came of it is durable.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Sequence
from typing import Any

import faust

from .errors import InfrastructureError
from .health import Health, served
from .kafka import DurableProducer, partitions_of, require_group
from .messages import Outgoing, Received
from .refusal import tls_context
from .settings import KafkaSettings, Settings
from .stage import Stage

log = logging.getLogger(__name__)

FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 10.0


def run_stage(stage: Stage, settings: Settings, instance: str) -> None:
    """Run a stage until SIGTERM or SIGINT.

    Args:
        stage: the stage.
        settings: the settings.
        instance: names this process among those of the stage, the same after a restart, so that
            it gets its partitions back at once.
    """
    # What Kafka refuses, Faust would try for ever and say little of.
    for source in stage.sources:
        partitions_of(settings.kafka, source)
    require_group(settings.kafka, _group(stage, settings.kafka))
    app = _application(stage, settings, instance)
    health = Health()
    producer = DurableProducer(settings.kafka)
    topic = app.topic(*stage.sources, key_serializer="raw", value_serializer="raw")

    @app.on_partitions_assigned.connect
    def assigned(_: Any, /, *arguments: Any, signal: Any, **__: Any) -> None:
        (partitions,) = arguments
        health.assigned = {(place.topic, place.partition) for place in partitions}

    @app.on_partitions_revoked.connect
    def revoked(_: Any, /, *__: Any, signal: Any, **___: Any) -> None:
        health.assigned = set()

    @app.agent(topic, name=stage.name, concurrency=1)
    async def agent(stream: Any) -> None:
        async for events in stream.take_events(
            settings.stage.batch_events, within=settings.stage.batch_wait_s
        ):
            try:
                batch = [_received(event.message) for event in events]
                stage.metrics.received.inc(len(batch))
                await _until_done(stage, producer, batch, settings.stage.give_up_after_s, health)
            except Exception:
                # However an agent ends, Faust acknowledges its batch: end the process instead, as
                # if it were killed.
                log.critical("%s gives up", stage.name, exc_info=True)
                logging.shutdown()
                os._exit(1)

    worker = _Worker(app, redirect_stdouts=False, quiet=True)
    health.loop = worker.loop
    with served(stage, settings, instance, health):
        worker.execute_from_commandline()


class _Worker(faust.Worker):
    """A worker that leaves logging as the command line has set it up."""

    def _setup_logging(self) -> None:
        pass


async def _until_done(
    stage: Stage,
    producer: DurableProducer,
    batch: Sequence[Received],
    give_up_after_s: float,
    health: Health,
) -> None:
    """Process a batch, again and again while the infrastructure is away.

    Raises:
        InfrastructureError: it stayed away for too long.
    """
    deadline = time.monotonic() + give_up_after_s
    pause = FIRST_PAUSE_S
    while True:
        try:
            await asyncio.to_thread(process_durably, stage, producer, batch)
        except InfrastructureError as error:
            health.waits_for = str(error)
            if time.monotonic() > deadline:
                raise
            log.warning("%s waits %.3g s: %s", stage.name, pause, error)
            stage.metrics.retries.inc()
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_S)
        else:
            health.succeeded()
            return


def process_durably(stage: Stage, producer: DurableProducer, batch: Sequence[Received]) -> None:
    """Process a batch; everything that came of it is durable when this returns.

    Raises:
        InfrastructureError: Kafka, the store or Triton is away.
    """
    started = time.monotonic()
    sent = 0
    for processed in stage.process_safely(batch):
        messages = processed.messages
        _send(stage, producer, messages)
        sent += len(messages)
        while messages := processed.finish():
            _send(stage, producer, messages)
            sent += len(messages)
    seconds = time.monotonic() - started
    stage.metrics.batch(len(batch), seconds)
    log.info("%s: %d in, %d out, %.0f ms", stage.name, len(batch), sent, 1000 * seconds)


def _send(stage: Stage, producer: DurableProducer, messages: Sequence[Outgoing]) -> None:
    with stage.metrics.part("send"):
        producer.send(messages)
    stage.metrics.sent(messages)


def _application(stage: Stage, settings: Settings, instance: str) -> faust.App:
    kafka = settings.kafka
    directory = settings.data_directory / "faust" / instance
    directory.mkdir(parents=True, exist_ok=True)
    return faust.App(
        _group(stage, kafka),
        broker=[f"kafka://{server.strip()}" for server in kafka.bootstrap_servers.split(",")],
        broker_credentials=credentials(kafka),
        broker_client_id=instance,
        broker_commit_interval=1.0,
        broker_session_timeout=settings.stage.session_timeout_s,
        broker_heartbeat_interval=settings.stage.session_timeout_s / 10,
        broker_rebalance_timeout=60.0,
        broker_max_poll_records=settings.stage.batch_events,
        consumer_auto_offset_reset="earliest",
        consumer_group_instance_id=instance,
        consumer_max_fetch_size=settings.stage.fetch_bytes,
        stream_buffer_maxsize=settings.stage.batch_events,
        stream_wait_empty=True,
        key_serializer="raw",
        value_serializer="raw",
        store="memory://",
        topic_disable_leader=True,
        topic_allow_declare=False,
        table_standby_replicas=0,
        web_enabled=False,
        datadir=str(directory),
    )


def _group(stage: Stage, kafka: KafkaSettings) -> str:
    return f"{kafka.topic_prefix}.{stage.name}"


def credentials(kafka: KafkaSettings) -> Any:
    """The same way into Kafka as ``KafkaSettings.client``, in Faust's terms."""
    if kafka.security_protocol == "PLAINTEXT":
        return None
    context = tls_context(kafka) if kafka.security_protocol.endswith("SSL") else None
    if kafka.security_protocol == "SSL":
        return faust.SSLCredentials(context)
    client = kafka.client()
    return faust.SASLCredentials(
        username=client["sasl.username"],
        password=client["sasl.password"],
        ssl_context=context,
        mechanism=kafka.sasl_mechanism,
    )


def _received(message: Any) -> Received:
    return Received(
        topic=message.topic,
        partition=message.partition,
        offset=message.offset,
        timestamp_ms=int(message.timestamp * 1000),
        value=message.value,
        headers=dict(message.headers or {}),
    )
