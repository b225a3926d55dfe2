"""Serves the metrics and the health of a stage process over HTTP.

The paths are ``/metrics``, ``/healthz`` and ``/readyz``. A process is healthy while it goes on
reading, processing or trying again. It is ready if all of this holds:

- it has partitions;
- no batch is being tried again;
- the last probe of Kafka, of the store and of what else the stage needs succeeded, or a batch has
  succeeded since;
- the present batch has not taken very long.

Otherwise the answer says why, in one line.
"""

from __future__ import annotations

import errno
import json
import logging
import shutil
import socket
import sys
import threading
import time
from collections.abc import Iterator, Set
from contextlib import contextmanager, suppress
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

from confluent_kafka.admin import AdminClient
from prometheus_client import MetricsHandler

from mmbroker.streams.errors import InfrastructureError
from mmbroker.streams.kafka.offsets import end_offsets
from mmbroker.streams.settings import Settings, SettingsError
from mmbroker.streams.stages.accounting import SKIPPED
from mmbroker.streams.stages.base import Stage
from mmbroker.streams.stages.metrics import StageMetrics

log = logging.getLogger(__name__)

PROBE_S = 5.0
"""Time between probes; while something is missing, probes come five times as often."""

SLOW_AFTER_S = 10.0
"""A process whose batch takes longer is not ready."""

STUCK_AFTER_S = 120.0
"""A process that does not go on for so long is not healthy. No part of a batch takes this long, and
a batch that fails is tried again sooner."""

CLIENT_S = 5.0
"""A client of the metrics that neither sends nor takes anything for so long is left."""

MOST_CLIENTS = 32
"""Clients of the metrics that are served at once."""

DIRECTORY = "metrics"
"""Folder of the data directory in which every process writes the address of its metrics."""


class Health:
    """What is known of the health of a stage process.

    Args:
        metrics: metrics of the stage, which know what it is doing.
    """

    def __init__(self, metrics: StageMetrics) -> None:
        self._metrics = metrics
        self.assigned: Set[tuple[str, int]] = frozenset()
        """The (topic, partition) pairs that it reads now; empty while the group rebalances."""
        self.waits_for: str | None = None
        """Why the present batch is tried again; None if it is not."""
        self.misses: str | None = "starting"
        """What the last probe missed; None if nothing, or if a batch has succeeded since."""
        self.last_turn = self.last_progress = time.monotonic()
        """Times in s of ``time.monotonic``: when the process last took up a batch or tried again,
        and when it last went on, also within a batch."""

    def turned(self) -> None:
        """Note that the process takes up a batch, or tries again, now."""
        self.last_turn = self.last_progress = time.monotonic()

    def progressed(self) -> None:
        """Note that the process goes on within a batch."""
        self.last_progress = time.monotonic()
        self._metrics.progress.inc()

    def succeeded(self) -> None:
        """Note that a batch is durable, so that nothing that it needed was missing."""
        self.waits_for = self.misses = None

    @property
    def unready(self) -> str | None:
        """Why the process is not ready, in one line; None if it is ready."""
        reason = self.waits_for or self.misses or self._blocked
        if reason is None and not self.assigned:
            reason = "no partitions: the group rebalances, or has more processes than partitions"
        return None if reason is None else " ".join(reason.split())

    @property
    def _blocked(self) -> str | None:
        """Says that the present batch takes too long; None if it does not.

        This is needed because a wait for another writer of the store has no time limit.
        """
        still = time.monotonic() - self.last_turn
        if still < SLOW_AFTER_S:
            return None
        return f"the batch in hand has taken {still:.0f} s so far, now in: {self._metrics.doing}"

    @property
    def unhealthy(self) -> str | None:
        """Why the process is not healthy, in one line; None if it is healthy."""
        still = time.monotonic() - self.last_progress
        return f"stuck for {still:.0f} s" if still > STUCK_AFTER_S else None


class Probe:
    """Checks Kafka, the store and what else a stage needs, and measures how far the stage is.

    Args:
        stage: the stage.
        settings: the settings.
        health: is told what is missing.
    """

    def __init__(self, stage: Stage, settings: Settings, health: Health) -> None:
        self._stage = stage
        self._settings = settings
        self._health = health
        # The client logs nothing: /readyz tells its errors, and it would log several lines a second
        # while Kafka is away.
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
        metrics.skipped.set(counts.get((stage.name, SKIPPED), 0))
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

    The address is logged. It is also written to ``metrics/INSTANCE.json`` in the data directory, in
    the format in which Prometheus discovers targets. A process that is killed leaves its file, so
    that Prometheus shows it as down until it is started again.

    Args:
        stage: the stage.
        settings: the settings.
        instance: name of this process among those of the stage.
        health: the health to serve; the probe updates it.
    """
    stage.metrics.ready.set_function(lambda: health.unready is None)
    server = _server(settings, stage, health)
    host, port = settings.stage.metrics_host, server.server_port
    reachable = socket.gethostname() if host in ("", "0.0.0.0", "::") else host
    reachable = f"[{reachable}]" if ":" in reachable else reachable
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
        timeout = CLIENT_S

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
        return _Server(host, port, Handler)
    except OSError as error:
        if not port or error.errno != errno.EADDRINUSE:
            raise SettingsError(f"stage.metrics_host = {host!r}, port {port}: {error}") from error
        log.warning("stage.metrics_port = %d: %s; a free port serves instead", port, error)
        return _Server(host, 0, Handler)


class _Server(ThreadingHTTPServer):
    """A server that slow clients cannot fill: with too many, the one that came first has to go.

    Args:
        host: name or address; of IPv6 too, and ``::`` stands for all addresses of both kinds.
        port: the port, or 0 for a free one.
        handler: answers a request.
    """

    def __init__(self, host: str, port: int, handler: type[MetricsHandler]) -> None:
        self._open: dict[socket.socket, None] = {}
        self._opening = threading.Lock()
        found = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        self.address_family, address = found[0][0], found[0][4]
        super().__init__((str(address[0]), port), handler)

    def server_bind(self) -> None:
        if self.address_family == socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._opening:
            if len(self._open) >= MOST_CLIENTS:
                first = next(iter(self._open))
                del self._open[first]
                with suppress(OSError):
                    first.shutdown(socket.SHUT_RDWR)  # its thread ends
            self._open[request] = None
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._opening:
            self._open.pop(request, None)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        log.debug("a client of the metrics went: %s", sys.exception())


def targets(settings: Settings, stage: str | None = None) -> list[str]:
    """host:port of the metrics of every process, or of the processes of one stage."""
    found = (settings.data_directory / DIRECTORY).glob("*.json")
    files = [file for file in found if stage is None or stage in file.stem]
    return [target for file in files for target in json.loads(file.read_text())[0]["targets"]]


def _write(file: Path, content: object) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    whole = file.with_suffix(".new")
    whole.write_text(json.dumps(content) + "\n")
    whole.replace(file)  # so that a reader never sees half of the file
