"""Runs the benchmark: ``make bench``, or ``make bench QUICK=1`` for a smaller run.

The benchmark starts a Kafka and a Triton of its own. Rates are compared with a floor that is
measured in the same run: a loop that only consumes, decodes, encodes and produces. All observations
are simulated.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import itertools
import json
import logging
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, NamedTuple
from urllib.request import urlopen

import numpy as np
import psutil
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console

from mmbroker.deploy.local import LocalStack
from mmbroker.models.serving.repository import provide
from mmbroker.models.serving.triton import inference_seconds
from mmbroker.models.simulation.observations import simulate
from mmbroker.processors.alerts.decide import LastAlert
from mmbroker.processors.fingerprint import merge
from mmbroker.processors.scoring import ranking
from mmbroker.processors.sky import Position
from mmbroker.schemas.codec import Codec
from mmbroker.schemas.events import (
    Observation,
    Source,
)
from mmbroker.streams.kafka.client import consumer, create_topics
from mmbroker.streams.kafka.offsets import end_offsets, newest_timestamp
from mmbroker.streams.kafka.producer import DurableProducer
from mmbroker.streams.local_stack import load_settings
from mmbroker.streams.names import STAGE_NAMES
from mmbroker.streams.proving import strangers
from mmbroker.streams.proving.embedded import (
    Settled,
    counts_now,
    ledger_now,
    stage_running,
    stages_running,
)
from mmbroker.streams.proving.fuzz import ENTRIES, fuzz
from mmbroker.streams.proving.kill import HANG_S, Killer, memory_mb, peak_memory_mb, schedule
from mmbroker.streams.proving.load import (
    SHARE_OF_EXISTING,
    galaxy_templates,
    moved_copy,
    of_one_galaxy,
)
from mmbroker.streams.proving.report import (
    CPU_RATIOS,
    END_TO_END_PROCESSES,
    FLOORS,
    QUICK,
    Report,
    Sending,
    Sizes,
    plot,
    render,
    strangers_wrong,
    what_is_wrong,
)
from mmbroker.streams.proving.traffic import (
    EVERYTHING,
    EVERYTHING_CONFIG,
    Traffic,
    flowing,
    large_spectra,
)
from mmbroker.streams.proving.truth import untrue
from mmbroker.streams.publishing.publisher import Publisher
from mmbroker.streams.running.health import targets
from mmbroker.streams.settings import Settings, Workers
from mmbroker.streams.stages.build_fingerprints import BuildFingerprints
from mmbroker.streams.stages.messages import OBSERVED_AT, Outgoing, Received
from mmbroker.streams.stages.publish_alerts import ranking_name
from mmbroker.streams.stages.score_galaxies import RANKING
from mmbroker.streams.store import Archived, open_store, open_store_in
from mmbroker.streams.subscribing.read import read
from mmbroker.streams.terminal import Terminal
from mmbroker.streams.topics import Topics, flow, observation_key

PARTS = "mmbroker_batch_part_seconds_total"
"""Name of the metric with the time of the parts of a batch."""

ONE_OF_EACH = Workers()
"""One process of each stage."""

FLOOR_PASSES = 3
"""The floor is the median of so many passes before, and as many after, what is compared with it.
One pass takes a second or two, and scatters."""

HISTORY_LENGTHS = (1, 10, 100, 1000)
"""Numbers of observations that a galaxy has before the cost of one more is measured."""

UPDATE_REPEATS = 25
SETTLE_TIMEOUT_S = 900.0
SETTLE_POLL_S = 0.5
"""Pause between checks whether all is done. Checks are rare because they take processor time from
what is measured. They do not change the result: it ends at the timestamp of the last alert."""

STREAM_RATE = 45.0
"""Observations/s while things are killed: the stages always have work, and time to catch up."""


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a smaller run, under five minutes")
    parser.add_argument("--fuzz", action="store_true", help="nothing but the fuzz, two minutes")
    parser.add_argument(
        "--strangers", action="store_true", help="nothing but what bad messages cost, two minutes"
    )
    parser.add_argument("--output", type=Path, default=Path(".mmbroker/bench"))
    arguments = parser.parse_args()
    console = Terminal()
    if arguments.fuzz:
        fuzzed = fuzz_all(Sizes().fuzz_s, console)
        sys.exit(1 if any(each["wrong"] for each in fuzzed.values()) else 0)
    # Things are killed on purpose, so their warnings and errors are not shown.
    logging.getLogger("mmbroker.streams").setLevel(logging.CRITICAL)
    arguments.output.mkdir(parents=True, exist_ok=True)
    if arguments.strangers:
        with _bench(Sizes(), console, arguments.output) as bench:
            bench.strangers()
        wrong = "; ".join(strangers_wrong(bench.report.reliability["strangers"]))
        sys.exit(f"the broker does not hold: {wrong}" if wrong else 0)
    report = run(QUICK if arguments.quick else Sizes(), console, arguments.output)
    file = arguments.output / "report.json"
    file.write_text(json.dumps(report.as_json(), indent=2) + "\n")
    plot(report, arguments.output / "report.png")
    console.print(render(report))
    console.print(f"written: {file} and {arguments.output / 'report.png'}")
    if wrong := what_is_wrong(report):
        sys.exit(f"the broker does not hold: {wrong}")


def run(sizes: Sizes, console: Console, output: Path) -> Report:
    """Measure everything.

    Args:
        sizes: how much is measured.
        console: where to show the progress.
        output: directory to which the logs of the stages are copied.
    """
    with _bench(sizes, console, output) as bench:
        bench.floor()
        bench.each_stage_alone()
        for existing in sizes.existing:
            bench.end_to_end(existing)
        bench.update_cost()
        bench.processes_of_scoring()
        if sizes.kills[0]:
            bench.kills()
        if sizes.backlog[0]:
            bench.backlog()
        if sizes.strangers:
            bench.strangers()
    if sizes.fuzz_s:
        bench.report.reliability["fuzz"] = fuzz_all(sizes.fuzz_s, console)
    return bench.report


@contextlib.contextmanager
def _bench(sizes: Sizes, console: Console, output: Path) -> Iterator[_Bench]:
    """The measurements, with a stack of their own; logs are copied at the end of the block."""
    directory = Path(tempfile.mkdtemp(prefix="mmbroker-bench-"))
    try:
        provide(directory / "models", "embedded")
        with LocalStack(directory / "stack", model_repository=directory / "models") as stack:
            yield _Bench(directory, stack, sizes, Report(machine=_machine(sizes)), console)
    finally:
        for log in directory.glob("*.log"):
            shutil.copy(log, output)
        shutil.rmtree(directory, ignore_errors=True)


def fuzz_all(seconds: float, console: Console) -> dict[str, dict[str, Any]]:
    """Fuzz everything that reads what strangers wrote, with inputs that are new each time.

    Args:
        seconds: how long each entry is fuzzed.
        console: where to show the results.

    Returns:
        By entry, the fields of ``Fuzzed`` with ``wrong`` and the seed.
    """
    found = {}
    for name in ENTRIES:
        seed = time.time_ns() % 2**32
        result = fuzz(name, seed, seconds)
        found[name] = {**dataclasses.asdict(result), "wrong": result.wrong, "seed": seed}
        console.print(f"fuzz of {name}: {found[name]}")
    return found


def _machine(sizes: Sizes) -> dict[str, Any]:
    return {
        "cores": os.cpu_count(),
        "load_before": os.getloadavg()[0],
        "sizes": dataclasses.asdict(sizes),
    }


class _Bench:
    """The measurements. All use one stack, and each has its own topics and store."""

    def __init__(
        self, directory: Path, stack: LocalStack, sizes: Sizes, report: Report, console: Console
    ) -> None:
        self._directory = directory
        self._stack = stack
        self._sizes = sizes
        self.report = report
        self._say = console.print
        self._codec = Codec()
        self._numbers = itertools.count()

    # Measurements ---------------------------------------------------------------------------------

    def floor(self) -> None:
        """Measure the raw loop, consume, decode, encode, produce, with nothing before or after."""
        self._figure("floor_rate", statistics.median(rate for rate, _ in self._raw_loops()))

    def _raw_loops(self) -> list[tuple[float, float]]:
        """Events/s, and processor time per event in ms, of passes of the raw loop."""
        now, _ = self._settings()
        create_topics(now.kafka, now.topics.all())
        events = self._events(now, self._sizes.events, [], seed=1)
        self._send(now, events)
        return [self._raw_loop(now, len(events), number) for number in range(FLOOR_PASSES)]

    def _raw_loop(self, now: Settings, count: int, number: int) -> tuple[float, float]:
        """One pass over a full topic: events/s, and processor time per event in ms.

        The processor time is that of the loop and of Kafka together.
        """
        reader = consumer(now.kafka, group=f"floor-{number}", enable_partition_eof=False)
        producer = DurableProducer(now.kafka)
        done, started, cpu_before = 0, 0.0, 0.0
        with closing(reader):
            reader.subscribe([now.topics.observations])
            while done < count:
                batch = reader.consume(now.stage.batch_events, timeout=1.0)
                if not started:
                    started, cpu_before = time.monotonic(), self._floor_cpu_seconds()
                messages = [
                    Outgoing(
                        now.topics.followup,
                        message.key() or b"",
                        self._codec.encode(self._codec.decode(message.value())),
                    )
                    for message in batch
                    if message.error() is None
                ]
                producer.send(messages)
                done += len(messages)
            taken, used = time.monotonic() - started, self._floor_cpu_seconds() - cpu_before
        return done / taken, 1000 * used / done

    def each_stage_alone(self) -> None:
        """Measure each stage by itself, on a topic that is full when the stage starts."""
        now, environment = self._settings()
        create_topics(now.kafka, now.topics.all())
        self._send(now, self._events(now, self._sizes.events, [], seed=2))
        for number, stage in enumerate(STAGE_NAMES):
            with stage_running(stage, f"{stage}-0", self._directory / "alone.log", environment):
                rate = _drain(now, number)
            self.report.stages[stage] = rate
            self._say(f"{stage} alone: {rate:.0f} events/s")

    def end_to_end(self, existing: int) -> None:
        """Measure all stages at full load, from the first observation until the last alert.

        The floor is measured again, just before and just after, because the speed of the machine
        may change meanwhile. With the largest number of galaxies, also latencies, processor time
        and memory are measured.

        Args:
            existing: number of galaxies in the store at the start.
        """
        now, environment = self._settings(END_TO_END_PROCESSES)
        places = self._fill(now, existing)
        name = {0: "rate_0", 10_000: "rate_10k", 100_000: "rate_100k"}[existing]
        loops = self._raw_loops()
        with stages_running(now, self._directory / f"{name}.log", environment) as supervisor:
            producer = DurableProducer(now.kafka)
            warm = self._events(now, 500, places, seed=3)
            producer.send(warm)
            self._settle(now, len(warm))
            events = self._events(now, self._sizes.events, places, seed=4)
            memory = _Memory(self._processes(supervisor.pid))
            cpu_before = self._cpu_seconds(supervisor.pid)
            parts_before = _part_seconds(now)
            models_before = inference_seconds(now.triton.url)
            started = time.time()
            producer.send(events)
            self._settle(now, len(warm) + len(events), memory.look)
            last_alert = newest_timestamp(now, now.topics.alerts("everything"))
            self._figure(name, len(events) / (last_alert - started))
            cpu_ms = _ms_per(len(events), cpu_before, self._cpu_seconds(supervisor.pid))
            parts_ms = _ms_per(len(events), parts_before, _part_seconds(now))
            models_ms = _ms_per(len(events), models_before, inference_seconds(now.triton.url))
            loops += self._raw_loops()  # the stages are idle now, and take next to no time
            self._figure(FLOORS[name], statistics.median(rate for rate, _ in loops))
            floor_cpu_ms = statistics.median(cpu_ms for _, cpu_ms in loops)
            self._figure(CPU_RATIOS[name], sum(cpu_ms.values()) / floor_cpu_ms)
            if existing == max(self._sizes.existing):
                self.report.cpu_ms_per_observation = cpu_ms
                self.report.cpu_ms_per_raw_event = floor_cpu_ms
                self.report.parts_ms_per_observation = parts_ms
                self.report.models_ms_per_observation = models_ms
                self.report.memory_mb = memory.peak_mb
                self._latencies(now, places, len(warm) + len(events))

    def _latencies(self, now: Settings, places: Sequence[Position], sent: int) -> None:
        steady = self._events(now, int(100 * self._sizes.steady_s), places, seed=5)
        latencies = self._paced("100 observations/s", now, steady, self._sizes.steady_s, sent)
        self._figure("latency_p50_ms", float(np.percentile(latencies, 50)))
        self._figure("latency_p99_ms", float(np.percentile(latencies, 99)))
        count, seconds = self._sizes.burst
        burst = self._events(now, count, places, seed=6)
        name = f"burst of {count:,} in {seconds:g} s"
        latencies = self._paced(name, now, burst, seconds, sent + len(steady))
        self._figure("burst_p99_s", float(np.percentile(latencies, 99)) / 1000)

    def _paced(
        self, name: str, now: Settings, events: Sequence[Outgoing], seconds: float, before: int
    ) -> list[float]:
        """Send events evenly over a time.

        Args:
            name: name of the measurement.
            now: the settings.
            events: the encoded observations.
            seconds: time over which they are sent, in s.
            before: number of observations that were sent before.

        Returns:
            Time in ms from each observation to its alert.
        """
        topic = now.topics.alerts("everything")
        start_ms = time.time_ns() // 1_000_000
        producer = DurableProducer(now.kafka)
        started = time.monotonic()
        step = max(1, round(len(events) / seconds * 0.02))  # every 20 ms
        for first in range(0, len(events), step):
            producer.send(events[first : first + step])
            due = started + seconds * min(first + step, len(events)) / len(events)
            time.sleep(max(0.0, due - time.monotonic()))
        taken = time.monotonic() - started
        self._settle(now, before + len(events))
        latencies = [
            float(message.timestamp_ms - int(message.headers[OBSERVED_AT]))
            for message in read(now, EVERYTHING, until_end=True)
            if message.topic == topic and int(message.headers[OBSERVED_AT]) >= start_ms
        ]
        self.report.latencies_ms[name] = latencies
        self.report.sending[name] = Sending(len(events), taken, seconds, len(latencies))
        self._say(f"{name}: {self.report.sending[name]}")
        return latencies

    def update_cost(self) -> None:
        """Measure the time to merge one more observation, by the length of a galaxy's history."""
        store = open_store_in(self._directory / "update-store")
        stage = BuildFingerprints(store, Topics(), self._codec)
        offsets = itertools.count()

        def take_in(observations: Sequence[Observation]) -> float:
            batch = [
                Received("observations", 0, next(offsets), 0, self._codec.encode(each))
                for each in observations
            ]
            started = time.perf_counter()
            for processed in stage.process_safely(batch):
                processed.finish()
            return time.perf_counter() - started

        galaxies = {
            length: [
                list(of_one_galaxy(f"{length}-{number}", length + UPDATE_REPEATS, number))
                for number in range(self._sizes.updates)
            ]
            for length in HISTORY_LENGTHS
        }
        # All histories come first, so that the store has the same size for all measurements.
        for length, members in galaxies.items():
            for observations in members:
                take_in(observations[:length])
        times: dict[int, list[float]] = {length: [] for length in HISTORY_LENGTHS}
        for repeat in range(UPDATE_REPEATS):
            for length, members in galaxies.items():
                # One more observation of every galaxy in one batch, as they come in a stream.
                seconds = take_in([observations[length + repeat] for observations in members])
                times[length].append(1000 * seconds / len(members))
        self.report.update_ms = {
            str(length): statistics.median(each) for length, each in times.items()
        }
        store.close()
        # A ratio for each repeat, because the speed of the machine changes over time.
        ratios = np.divide(times[HISTORY_LENGTHS[-1]], times[HISTORY_LENGTHS[0]])
        self._figure("update_cost_ratio", float(np.median(ratios)))

    def processes_of_scoring(self) -> None:
        """Measure the scoring stage with one process and with two, on a topic that is full."""
        for processes in (1, 2):
            now, environment = self._settings()
            create_topics(now.kafka, now.topics.all())
            self._send(now, self._events(now, self._sizes.events, [], seed=7))
            log = self._directory / "processes.log"
            first, second, _ = STAGE_NAMES
            with stage_running(first, first, log, environment):
                _drain(now, 0)
            with ExitStack() as running:
                for number in range(processes):
                    instance = f"{second}-{number}"
                    running.enter_context(stage_running(second, instance, log, environment))
                rate = _drain(now, 1)
            self.report.reliability[f"scoring_rate_{processes}"] = rate
            self._say(f"scoring with {processes} processes: {rate:.0f} events/s")

    def kills(self) -> None:
        """Kill all components, and keep servers and store away, while observations stream."""
        count, kills, away_s = self._sizes.kills
        now, environment = self._settings()
        traffic = Traffic(count, seed=8)
        with stages_running(now, self._directory / "kills.log", environment) as supervisor:
            killer = Killer(now, self._stack, supervisor.pid)
            with flowing(traffic, now, STREAM_RATE):
                away = [killer.kill("kafka", away_s), killer.kill("triton", away_s)]
                away.append(killer.lock_store(away_s))
                recoveries = []
                for pause_s, component in schedule(kills, seed=9):
                    time.sleep(pause_s)
                    recoveries.append(killer.kill(component, pause_s))
                    self._say(str(recoveries[-1]))
                hung = [killer.hang(server, HANG_S) for server in ("kafka", "triton")]
        found = untrue(now, traffic)
        seconds: dict[str, list[float]] = {}
        for each in recoveries:
            seconds.setdefault(each.component, []).append(each.seconds)
        self.report.reliability |= {
            "messages": traffic.sent,
            "kills": {component: len(each) for component, each in seconds.items()},
            "recovery_s": seconds,
            "slowest_recovery_s": max(each.seconds for each in (*recoveries, *away, *hung)),
            "hung": {each.component: dataclasses.asdict(each) for each in hung},
            "away": {each.component: dataclasses.asdict(each) for each in away},
            "lost": len(found.lost),
            "doubled": len(found.doubled),
            "untrue": dataclasses.asdict(found),
        }

    def backlog(self) -> None:
        """Measure the memory of the stages while they catch up with large spectra."""
        count, channels = self._sizes.backlog
        now, environment = self._settings()
        create_topics(now.kafka, now.topics.all())
        size = 0
        with Publisher(now) as publisher:
            for observation in large_spectra(count, channels, seed=10):
                encoded = self._codec.encode(observation)
                size += len(encoded)
                publisher.send_encoded(encoded, observation_key(observation))
        with stages_running(now, self._directory / "backlog.log", environment) as supervisor:
            peak = peak_memory_mb(supervisor.pid, Settled(now, count), SETTLE_TIMEOUT_S)
        self.report.reliability["backlog"] = {"megabytes": size / 1e6, "memory_peak_mb": peak}

    def strangers(self) -> None:
        """Measure what bad messages cost: time of the first stage, memory of all."""
        found: dict[str, Any] = {"costs": {}}
        for name in strangers.SMALL:
            _, environment = self._settings()
            cost = strangers.measured(name, environment)
            found["costs"][name] = {**dataclasses.asdict(cost), "wrong": cost.wrong}
            self._say(f"bad messages, {name}: {found['costs'][name]}")
        now, environment = self._settings()
        create_topics(now.kafka, now.topics.all())
        good = [each.value for each in self._events(now, 500, [], seed=11)]
        messages = [*good, *strangers.large_messages(), *good]
        with Publisher(now) as publisher:
            for message in messages:
                publisher.send_encoded(message)
        with stages_running(now, self._directory / "strangers.log", environment) as supervisor:
            peak = peak_memory_mb(supervisor.pid, Settled(now, len(messages)), SETTLE_TIMEOUT_S)
        found["memory_peak_mb"] = peak
        self._say(f"memory with large bad messages: {peak}")
        self.report.reliability["strangers"] = found

    # Helpers --------------------------------------------------------------------------------------

    def _figure(self, name: str, value: float) -> None:
        self.report.figures[name] = value
        self._say(f"{name}: {value:.4g}")

    def _settings(self, processes: Workers = ONE_OF_EACH) -> tuple[Settings, dict[str, str]]:
        """Settings with new topics and a new store, and the environment that gives them."""
        prefix = f"bench{next(self._numbers)}"
        directory = self._directory / prefix
        directory.mkdir()
        config = directory / "mmbroker.toml"
        config.write_text(EVERYTHING_CONFIG)
        variables = {
            **self._stack.environment(),
            "MMBROKER_CONFIG": str(config),
            "MMBROKER_DATA_DIRECTORY": str(directory),
            "MMBROKER_KAFKA__TOPIC_PREFIX": prefix,
            "MMBROKER_STAGE__WORKERS": processes.model_dump_json(),
        }
        os.environ.update(variables)
        return load_settings(), dict(os.environ)

    def _events(
        self, now: Settings, count: int, places: Sequence[Position], seed: int
    ) -> list[Outgoing]:
        """Encoded observations; if there are places of galaxies, most are moved to one of them."""
        topic = now.topics.observations
        random = np.random.default_rng(seed)
        observations = itertools.islice(simulate(count, seed), count)
        messages = []
        for each in observations:
            # A map belongs to its own piece of sky and cannot be moved.
            if places and each.continuum_map is None and random.random() < SHARE_OF_EXISTING:
                place = places[int(random.integers(len(places)))]
                each = dataclasses.replace(
                    each,
                    right_ascension_deg=place.right_ascension_deg,
                    declination_deg=place.declination_deg,
                )
            messages.append(Outgoing(topic, observation_key(each), self._codec.encode(each)))
        return messages

    def _send(self, now: Settings, events: Sequence[Outgoing]) -> None:
        DurableProducer(now.kafka).send(events)

    def _settle(
        self, now: Settings, received: int, meanwhile: Callable[[], None] = lambda: None
    ) -> None:
        settled = Settled(now, received)
        deadline = time.monotonic() + SETTLE_TIMEOUT_S
        while not settled():
            if time.monotonic() > deadline:
                raise TimeoutError(f"the ledger does not close: {ledger_now(now)}")
            meanwhile()
            time.sleep(SETTLE_POLL_S)

    def _fill(self, now: Settings, count: int) -> list[Position]:
        """Put galaxies into the store: copies of some templates, at other positions.

        They have all that the stages keep of galaxies: feature trees, observations, ranks and last
        alerts.

        Returns:
            Their positions.
        """
        templates = galaxy_templates(now, self._codec) if count else []
        random = np.random.default_rng(0)
        store = open_store(now)
        places = []
        for first in range(0, count, 5000):
            ranked: dict[str, tuple[int, int | None]] = {}
            with store.writing() as writing:
                for number in range(first, min(first + 5000, count)):
                    template = templates[number % len(templates)]
                    copy, hashes = moved_copy(template.fingerprint, number, random)
                    place = merge.position(copy)
                    name = copy.galaxy_id
                    writing.put_fingerprint(name, copy.version, self._codec.encode(copy))
                    writing.put_position(name, place)
                    for hashed, data in zip(hashes, template.observations, strict=True):
                        source = Source("existing", now.topics.observations, 0, number)
                        writing.archive(hashed, Archived("merged", name, source, data=data))
                    probability = float(random.random())
                    ranked[name] = copy.version, ranking.bin_of(probability)
                    said = LastAlert(name, copy.version, True, 1.0, probability, 100.0)
                    writing.put_alert(EVERYTHING, name, said)
                    places.append(place)
                for ranks in (RANKING, ranking_name(EVERYTHING)):
                    writing.rank(ranks, ranked)
        store.close()
        return places

    def _processes(self, supervisor: int) -> Iterator[_Process]:
        yield _Process("kafka", "kafka", psutil.Process(self._stack.kafka.pid))
        triton = psutil.Process(self._stack.triton.pid)
        for each in (triton, *triton.children(recursive=True)):
            yield _Process("triton", "triton", each)
        for each in psutil.Process(supervisor).children(recursive=True):
            try:
                command = each.cmdline()
            except psutil.NoSuchProcess:  # it has just ended
                continue
            for stage in set(command) & set(STAGE_NAMES):
                yield _Process(stage, _instance(command, stage), each)

    def _floor_cpu_seconds(self) -> float:
        """Processor time in s that this process and Kafka have taken so far."""
        kafka = psutil.Process(self._stack.kafka.pid).cpu_times()
        return time.process_time() + float(kafka.user + kafka.system)

    def _cpu_seconds(self, supervisor: int) -> dict[str, float]:
        used: dict[str, float] = {}
        for component, _, process in self._processes(supervisor):
            times = process.cpu_times()
            used[component] = used.get(component, 0.0) + times.user + times.system
        return used


class _Process(NamedTuple):
    """A process of a server or of a stage; a component may have several."""

    component: str
    instance: str
    process: psutil.Process


def _instance(command: Sequence[str], stage: str) -> str:
    """The instance in the command of a stage's process, without the prefix of the topics."""
    instance = command[command.index("--instance") + 1]
    return instance[instance.index(stage) :]


class _Memory:
    """The largest memory that instances were seen to take.

    Args:
        processes: the processes; they are found only once, because finding them takes long.
    """

    def __init__(self, processes: Iterable[_Process]) -> None:
        self._processes = list(processes)
        self.peak_mb: dict[str, float] = {}

    def look(self) -> None:
        """Look at the memory that they take now."""
        taken: dict[str, float] = {}
        for _, instance, process in self._processes:
            with contextlib.suppress(psutil.NoSuchProcess):  # it has ended
                taken[instance] = taken.get(instance, 0.0) + memory_mb(process)
        for instance, megabytes in taken.items():
            self.peak_mb[instance] = max(self.peak_mb.get(instance, 0.0), megabytes)


def _part_seconds(now: Settings) -> dict[str, float]:
    """Seconds that the parts of batches have taken so far, by stage and part."""
    found: dict[str, float] = {}
    for target in targets(now):
        with urlopen(f"http://{target}/metrics") as answer:
            text = answer.read().decode()
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if sample.name == PARTS:
                    part = f"{sample.labels['stage']}: {sample.labels['part']}"
                    found[part] = found.get(part, 0.0) + sample.value
    return found


def _ms_per(
    events: int, before: Mapping[str, float], after: Mapping[str, float]
) -> dict[str, float]:
    return {
        name: 1000 * (seconds - before.get(name, 0.0)) / events for name, seconds in after.items()
    }


def _drain(now: Settings, number: int) -> float:
    """Rate of a stage in events/s, from its first counted events until none is left.

    Args:
        now: the settings.
        number: place of the stage in the flow.
    """
    stage, topic = flow(now.topics)[number]
    expected = sum(end_offsets(now, topic).values())
    samples: list[tuple[float, int]] = []
    deadline = time.monotonic() + SETTLE_TIMEOUT_S
    accounted = 0
    while time.monotonic() < deadline:
        counts = counts_now(now)
        accounted = sum(count for (owner, _), count in counts.items() if owner == stage)
        if accounted:
            samples.append((time.monotonic(), accounted))
        if accounted >= expected:
            (first, before), (last, after) = samples[0], samples[-1]
            return (after - before) / max(last - first, 1e-3)
        time.sleep(0.1)
    raise TimeoutError(f"{stage} does not come to an end: {accounted} of {expected} events")


if __name__ == "__main__":
    main()
