"""Measures what a stage process does, for Prometheus.

``deploy/prometheus/README.md`` lists all metrics and says what to do about each. The metrics are
updated once per batch, so that they cost almost nothing per event. Counters start at zero when the
process starts.
"""

from __future__ import annotations

import threading
import time
from collections import Counter as Tally
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
from numpy.typing import ArrayLike, NDArray
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Info,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.metrics_core import HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from mmbroker.schemas import __version__
from mmbroker.schemas.events import ScoredGalaxy
from mmbroker.streams.stages.messages import OBSERVED_AT, Outgoing, is_time, now_ms

disable_created_metrics()  # type: ignore[no-untyped-call]

LATENCY_BOUNDS_S = (
    0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2, 3, 5, 7.5, 10, 15,
    20, 30, 45, 60,
)  # fmt: skip
BATCH_BOUNDS_S = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)
BATCH_BOUNDS_EVENTS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
TRITON_BOUNDS_S = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)
PROBABILITY_BOUNDS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
HYPERSCORE_BOUNDS = (100.01, 100.1, 100.2, 100.5, 101, 102, 105, 110, 115, 120, 135, 160, 200)


class Histogram(Collector):
    """A histogram that takes many values at once; the client library's takes one at a time.

    Args:
        name: name of the metric.
        documentation: what is measured.
        stage: value of the label ``stage``.
        bounds: upper bounds of the buckets, ascending.
        registry: the registry to which the metric is added.
        label: name of a second label; None for none.
    """

    def __init__(
        self,
        name: str,
        documentation: str,
        stage: str,
        bounds: Sequence[float],
        registry: CollectorRegistry,
        label: str | None = None,
    ) -> None:
        self._name = name
        self._documentation = documentation
        self._stage = stage
        self._bounds = np.array(bounds, float)
        self._label = label
        self._counts: dict[str, NDArray[np.int64]] = {}
        self._sums: dict[str, float] = {}
        self._lock = threading.Lock()
        if label is None:
            self.observe([])
        registry.register(self)

    def observe(self, values: ArrayLike, label: str = "") -> None:
        """Count one value or many.

        Args:
            values: the values; those that are not finite are ignored.
            label: value of the second label, if there is one.
        """
        each = np.atleast_1d(np.asarray(values, float))
        each = each[np.isfinite(each)]
        buckets = np.bincount(np.searchsorted(self._bounds, each), minlength=self._bounds.size + 1)
        with self._lock:
            self._counts[label] = self._counts.get(label, 0) + buckets
            self._sums[label] = self._sums.get(label, 0.0) + float(each.sum())

    def collect(self) -> Iterator[HistogramMetricFamily]:
        """The histogram in the form that the client library exposes."""
        names = ["stage"] if self._label is None else ["stage", self._label]
        bounds = [*map(floatToGoString, self._bounds), "+Inf"]
        family = HistogramMetricFamily(self._name, self._documentation, labels=names)
        with self._lock:
            for label, each in self._counts.items():
                counts = np.cumsum(each).tolist()
                values = [self._stage, label][: len(names)]
                family.add_metric(values, list(zip(bounds, counts, strict=True)), self._sums[label])
        yield family


class StageMetrics:
    """The metrics of one stage in one process.

    Args:
        stage: name of the stage.
    """

    def __init__(self, stage: str) -> None:
        self.registry = registry = CollectorRegistry()
        self._stage = stage
        ProcessCollector(registry=registry)
        Info("mmbroker_build", "What runs.", registry=registry).info({"version": __version__})

        def counter(name: str, documentation: str, *labels: str) -> Counter:
            return Counter(f"mmbroker_{name}", documentation, ("stage", *labels), registry=registry)

        def gauge(name: str, documentation: str, *labels: str) -> Gauge:
            return Gauge(f"mmbroker_{name}", documentation, ("stage", *labels), registry=registry)

        def histogram(
            name: str, documentation: str, bounds: Sequence[float], label: str | None = None
        ) -> Histogram:
            return Histogram(f"mmbroker_{name}", documentation, stage, bounds, registry, label)

        self.ready = gauge("ready", "1 while /readyz says yes.").labels(stage)
        self.retries = counter(
            "retries", "Batches tried again because the infrastructure was away."
        ).labels(stage)
        self.progress = counter(
            "progress", "Times that the process went on within a batch, or finished one."
        ).labels(stage)
        self.clock_lead = gauge(
            "clock_lead_seconds", "Largest lead of an event's timestamp over this machine's clock."
        ).labels(stage)
        self.received = counter(
            "events_received", "Events delivered to the process, redeliveries included."
        ).labels(stage)
        self._accounted = counter(
            "events_accounted",
            "Events by what became of them, as the ledger counts.",
            "outcome",
            "reason",
        )
        self._alerts = counter(
            "alerts", "Alerts by stream and type, as the ledger counts.", "stream", "type"
        )
        self._sent = counter(
            "messages_sent", "Messages that Kafka holds durably, repeats included.", "topic"
        )
        self._unsendable = counter(
            "messages_unsendable",
            "Messages that Kafka refuses for what they are; they are in quarantine.",
            "topic",
        )
        self._latency = histogram(
            "latency_seconds",
            "Time from an observation's Kafka timestamp until what came of it was durable.",
            LATENCY_BOUNDS_S,
        )
        self._batch_events = histogram("batch_events", "Events in a batch.", BATCH_BOUNDS_EVENTS)
        self._batch_seconds = histogram(
            "batch_seconds", "Time that a batch took until it was durable.", BATCH_BOUNDS_S
        )
        self._parts = counter("batch_part_seconds", "Time spent in the parts of a batch.", "part")
        self._triton_seconds = histogram(
            "triton_request_seconds",
            "Time until a model on Triton had answered for a batch.",
            TRITON_BOUNDS_S,
            "model",
        )
        self._triton_errors = counter(
            "triton_errors", "Batches for which Triton did not answer, after its retries.", "model"
        )
        self._model_version = gauge(
            "model_version", "Version of a model that the process asks.", "model"
        )
        self._probability = histogram(
            "score_probability", "Calibrated probabilities published.", PROBABILITY_BOUNDS
        )
        self._hyperscore = histogram(
            "score_hyperscore", "HyperScores published.", HYPERSCORE_BOUNDS
        )
        self._without_redshift = counter(
            "scores_without_redshift", "Scores published without a redshift in force."
        ).labels(stage)
        self._lag = gauge(
            "lag_events", "Events in Kafka not yet accounted for.", "topic", "partition"
        )
        self.unaccounted = gauge(
            "unaccounted_events", "Events passed in Kafka without an outcome in the ledger."
        ).labels(stage)
        self.skipped = gauge(
            "skipped_events", "Events that operators had the stage skip, as the ledger counts."
        ).labels(stage)
        self._remade = gauge(
            "topic_remade", "1 if a topic is not the one that the store knows.", "topic"
        )
        self._partitions = gauge("topic_partitions", "Partitions of a topic.", "topic")
        self._foreign = gauge(
            "foreign_partitions", "Partitions that were acknowledged with another store."
        ).labels(stage)
        self.store_bytes = gauge("store_bytes", "Space in use by the store.").labels(stage)
        self.disk_free_bytes = gauge(
            "disk_free_bytes", "Space left on the disk of the data directory."
        ).labels(stage)
        self.galaxies = gauge("galaxies", "Galaxies in the store.").labels(stage)
        self.doing = ""
        """The part of the batch that is being done now; see ``part``."""
        self._within = 0.0
        self._clock_lead_s = 0.0
        self._lagging: set[tuple[str, int]] = set()

    def accounted(self, outcomes: Mapping[str, int]) -> None:
        """Count outcomes that are durable now; the text after a colon is the reason."""
        for text, count in outcomes.items():
            outcome, _, reason = text.partition(": ")
            self._accounted.labels(self._stage, outcome, reason).inc(count)

    def came(self, timestamps_ms: Sequence[int]) -> None:
        """Count events that came in, and how far the clocks that timed them are ahead.

        Args:
            timestamps_ms: the timestamps in Kafka, Unix times in ms.
        """
        self.received.inc(len(timestamps_ms))
        lead_s = (max(timestamps_ms) - now_ms()) / 1000
        self._clock_lead_s = max(self._clock_lead_s, lead_s)
        self.clock_lead.set(self._clock_lead_s)

    def alerted(self, stream: str, types: Mapping[str, int]) -> None:
        """Count alerts of a stream that are durable now, by type."""
        for alert_type, count in types.items():
            self._alerts.labels(self._stage, stream, alert_type).inc(count)

    def sent(self, messages: Sequence[Outgoing]) -> None:
        """Count messages that are durable now, and their latency."""
        for topic, count in Tally(message.topic for message in messages).items():
            self._sent.labels(self._stage, topic).inc(count)
            self._unsendable.labels(self._stage, topic)  # so that it starts at zero
        headers = [message.headers.get(OBSERVED_AT) or b"" for message in messages]
        # A publisher may have set the header: to anything, or from a clock that is ahead.
        times = [int(each) for each in headers if is_time(each)]
        self._latency.observe(np.maximum(now_ms() - np.array(times, float), 0.0) / 1000)

    def unsendable(self, topic: str) -> None:
        """Count a message that Kafka refuses for what it is."""
        self._unsendable.labels(self._stage, topic).inc()

    def batch(self, events: int, seconds: float) -> None:
        """Count a batch whose results are durable now."""
        self._batch_events.observe(events)
        self._batch_seconds.observe(seconds)

    def scored(self, galaxies: Sequence[ScoredGalaxy]) -> None:
        """Count scores that are durable now."""
        stated = [galaxy.probability for galaxy in galaxies if galaxy.probability is not None]
        self._probability.observe(stated)
        self._without_redshift.inc(len(galaxies) - len(stated))
        self._hyperscore.observe([galaxy.hyperscore for galaxy in galaxies])

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Measure the time of one part of a batch, without the parts within it."""
        started = time.perf_counter()
        before, self.doing = self.doing, name
        around, self._within = self._within, 0.0
        try:
            yield
        finally:
            taken = time.perf_counter() - started
            self.doing = before
            self._parts.labels(self._stage, name).inc(max(taken - self._within, 0.0))
            self._within = around + taken

    def uses(self, model: str) -> None:
        """Make the counters of a model on Triton, so that they start at zero."""
        self._triton_errors.labels(self._stage, model)
        self._triton_seconds.observe([], model)

    @contextmanager
    def triton(self, model: str) -> Iterator[None]:
        """Measure the time that a model on Triton takes; it is also a part of the batch."""
        started = time.perf_counter()
        with self.part("triton"):
            yield
        self._triton_seconds.observe(time.perf_counter() - started, model)

    def triton_failed(self, model: str) -> None:
        """Count a batch for which a model on Triton did not answer."""
        self._triton_errors.labels(self._stage, model).inc()

    def model_in_force(self, model: str, version: int) -> None:
        """Set the version of a model that the process asks."""
        self._model_version.labels(self._stage, model).set(version)

    def belongs(
        self, remade: Mapping[str, bool], partitions: Mapping[str, int], foreign: int
    ) -> None:
        """Set what is known of topics, and how many partitions belong to another store.

        Args:
            remade: whether a topic is not the one that the store knows, by topic.
            partitions: number of partitions, by topic.
            foreign: number of partitions that were acknowledged with another store.
        """
        for topic, number in partitions.items():
            self._partitions.labels(self._stage, topic).set(number)
            self._remade.labels(self._stage, topic).set(remade[topic])
        self._foreign.set(foreign)

    def lag(self, waiting: Mapping[tuple[str, int], int]) -> None:
        """Set how many events wait, by (topic, partition), for the partitions of this process."""
        for topic, partition in self._lagging - waiting.keys():
            self._lag.remove(self._stage, topic, str(partition))
        for (topic, partition), events in waiting.items():
            self._lag.labels(self._stage, topic, str(partition)).set(events)
        self._lagging = set(waiting)
