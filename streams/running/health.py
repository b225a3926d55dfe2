"""How a stage process is: ``/metrics``, ``/healthz`` and ``/readyz`` over HTTP.

It is healthy while it goes on reading, processing or trying again. It is ready while it has
partitions, the last batch, or the last probe of Kafka, the store and what else the stage needs,
succeeded, and no batch takes very long; when it is not, the answer says why in one line.
"""

from __future__ import annotations

import json
import logging
import shutil
import socket
import threading
import time
from collections.abc import Iterator, Set
from contextlib import contextmanager
from http.server import ThreadingHTTPServer
from pathlib import Path

from confluent_kafka.admin import AdminClient
from prometheus_client import MetricsHandler

from mmbroker.streams.errors import InfrastructureError
from mmbroker.streams.kafka.offsets import end_offsets
from mmbroker.streams.settings import Settings
from mmbroker.streams.stages.base import Stage
from mmbroker.streams.stages.metrics import StageMetrics

log = logging.getLogger(__name__)

PROBE_S = 5.0
SLOW_AFTER_S = 10.0
STUCK_AFTER_S = 120.0
"""No batch takes so long, and between tries of one that fails less time passes."""

DIRECTORY = "metrics"
"""Folder of the data directory in which every process says where it is to be scraped."""


class Health:
    """What is known of the health of a stage process.

    Args:
        metrics: those of the stage, which know what it is doing.
    """

    def __init__(self, metrics: StageMetrics) -> None:
        self._metrics = metrics
        self.assigned: Set[tuple[str, int]] = frozenset()
        """The (topic, partition) pairs that it reads now: none while the group rebalances."""
        self.waits_for: str | None = None
        """Why the batch in hand is tried again."""
        self.misses: str | None = "starting"
        """What the last probe found away, unless a batch has succeeded since."""

        self.last_turn = time.monotonic()
        """When it last went on, in s of ``time.monotonic``."""

    def turned(self) -> None:
        """Note that the process goes on."""
        self.last_turn = time.monotonic()

    def succeeded(self) -> None:
        """Note that a batch is durable: then nothing that it needed was away."""
        self.waits_for = self.misses = None

    @property
    def unready(self) -> str | None:
        """Why it is not ready, in one line; None when it is."""
        reason = self.waits_for or self.misses or self._blocked
        if reason is None and not self.assigned:
            reason = "no partitions: the group rebalances, or has more processes than partitions"
        return None if reason is None else " ".join(reason.split())

    @property
    def _blocked(self) -> str | None:
        """That the batch in hand takes too long: waiting for the store's writers has no end."""
        still = time.monotonic() - self.last_turn
        if still < SLOW_AFTER_S:
            return None
        return f"the batch in hand has taken {still:.0f} s so far, now in: {self._metrics.doing}"

    @property
    def unhealthy(self) -> str | None:
        """Why it does not live, in one line; None when it does."""
        still = time.monotonic() - self.last_turn
        return f"stuck for {still:.0f} s" if still > STUCK_AFTER_S else None


class Probe:
    """Looks at Kafka, the store and what else a stage needs, and measures how far it has come.

    Args:
        stage: the stage.
        settings: the settings.
        health: is told what is away.
    """

    def __init__(self, stage: Stage, settings: Settings, health: Health) -> None:
        self._stage = stage
        self._settings = settings
        self._health = health
        # What it would log, some lines a second while Kafka is away, stands in the answer.
        self._admin = AdminClient({**settings.kafka.client(), "log_level": 0})

    def run(self, stop: threading.Event) -> None:
        """Probe now and then until stopped; log when the stage becomes ready or unready."""
        said = self._health.unready
        while not stop.wait(PROBE_S if self._health.misses is None else PROBE_S / 5):
            try:
                self._measure()
                self._stage.probe()
                self._health.misses = None
            except InfrastructureError as error:
                self._health.misses = str(error)
            except Exception as error:
                log.exception("the probe failed")
                self._health.misses = f"{type(error).__name__}: {error}"
            reason = self._health.unready
            if (reason is None) != (said is None):
                level = logging.INFO if reason is None else logging.WARNING
                log.log(level, "%s: %s", self._stage.name, reason or "ready")
            said = reason

    def _measure(self) -> None:
        stage, metrics = self._stage, self._stage.metrics
        ends = {
            (topic, partition): end
            for topic in stage.sources
            for partition, end in end_offsets(self._settings, topic, self._admin).items()
        }
        with stage.store.reading() as reading:
            offsets = {place: reading.next_offset(stage.name, *place) for place in ends}
            counts = reading.counts()
            metrics.galaxies.set(reading.galaxies())
        accounted = sum(count for (owner, _), count in counts.items() if owner == stage.name)
        metrics.unaccounted.set(sum(offsets.values()) - accounted)
        metrics.lag(
            {
                place: max(ends[place] - offsets[place], 0)
                for place in self._health.assigned & ends.keys()
            }
        )
        metrics.store_bytes.set(stage.store.size_bytes())
        metrics.disk_free_bytes.set(shutil.disk_usage(self._settings.data_directory).free)


@contextmanager
def served(stage: Stage, settings: Settings, instance: str, health: Health) -> Iterator[None]:
    """Probe, and serve metrics and health, during the block.

    Where is said in the log and in ``metrics/INSTANCE.json`` of the data directory, in the format
    that Prometheus discovers targets by. A process that is killed leaves its file: Prometheus then
    shows it as down until it is started again.
    """
    stage.metrics.ready.set_function(lambda: health.unready is None)
    server = _server(settings, stage, health)
    host, port = settings.stage.metrics_host, server.server_port
    reachable = socket.gethostname() if host in ("", "0.0.0.0", "::") else host
    file = settings.data_directory / DIRECTORY / f"{instance}.json"
    _write(file, [{"targets": [f"{reachable}:{port}"], "labels": {"instance": instance}}])
    log.info("%s: http://%s:%d/metrics, /healthz, /readyz", instance, reachable, port)
    stop = threading.Event()
    probe = Probe(stage, settings, health)
    for name, target in (("metrics", server.serve_forever), ("probe", lambda: probe.run(stop))):
        threading.Thread(target=target, name=name, daemon=True).start()
    try:
        yield
    finally:
        stop.set()
        server.shutdown()
        server.server_close()
        file.unlink(missing_ok=True)


def _server(settings: Settings, stage: Stage, health: Health) -> ThreadingHTTPServer:
    class Handler(MetricsHandler):
        registry = stage.metrics.registry

        def do_GET(self) -> None:  # noqa: N802 - the standard library's name
            path = self.path.partition("?")[0]
            if path == "/metrics":
                super().do_GET()
            elif path == "/healthz":
                self._answer(health.unhealthy, "healthy")
            elif path == "/readyz":
                self._answer(health.unready, "ready")
            else:
                self.send_error(404, "there is /metrics, /healthz and /readyz")

        def _answer(self, problem: str | None, good: str) -> None:
            body = f"{problem or good}\n".encode()
            self.send_response(200 if problem is None else 503)
            self.send_header("Content-Type", "text/plain; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    host, port = settings.stage.metrics_host, settings.stage.metrics_port
    try:
        return ThreadingHTTPServer((host, port), Handler)
    except OSError as error:
        if not port:
            raise
        log.warning("stage.metrics_port = %d: %s; a free port serves instead", port, error)
        return ThreadingHTTPServer((host, 0), Handler)


def targets(settings: Settings, stage: str | None = None) -> list[str]:
    """host:port of every process that serves, or of those of a stage."""
    found = (settings.data_directory / DIRECTORY).glob("*.json")
    files = [file for file in found if stage is None or stage in file.stem]
    return [target for file in files for target in json.loads(file.read_text())[0]["targets"]]


def _write(file: Path, content: object) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    whole = file.with_suffix(".new")
    whole.write_text(json.dumps(content) + "\n")
    whole.replace(file)  # a reader never sees half of it
