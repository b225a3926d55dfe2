"""What the stages tell of themselves is what they did, and says what is wrong."""

from __future__ import annotations

import re
import socket
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import prometheus_client
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from mmbroker.deploy.local import LocalStack, StackError
from mmbroker.deploy.local.install import install_promtool
from mmbroker.deploy.local.processes import free_ports, is_free
from mmbroker.models.simulation.observations import simulate
from mmbroker.schemas.codec import Codec
from mmbroker.streams.proving.embedded import Settled
from mmbroker.streams.publishing.publisher import Publisher
from mmbroker.streams.running.health import DIRECTORY, MOST_CLIENTS, Health, served, targets
from mmbroker.streams.settings import Settings, SettingsError, StageSettings
from mmbroker.streams.stages.build_fingerprints import BuildFingerprints
from mmbroker.streams.stages.messages import OBSERVED_AT, Outgoing, Received, now_ms
from mmbroker.streams.stages.metrics import Histogram, StageMetrics
from mmbroker.streams.store import LMDBStore
from mmbroker.streams.topics import Topics
from tests.conftest import REPOSITORY, Broker, broker_on, wait_until
from tests.endpoint import Endpoint, Samples, by_label, samples

PROMETHEUS = REPOSITORY / "deploy" / "prometheus"
STAGES = ("build-fingerprints", "score-galaxies", "publish-alerts")


@dataclass(frozen=True)
class Metric:
    """What a metric says of itself."""

    kind: str
    labels: frozenset[str]


def families(text: str) -> dict[str, Metric]:
    """The metrics of a scrape, without those of the process."""
    found = {}
    for family in text_string_to_metric_families(text):
        name = family.name + ("_total" if family.type == "counter" else "")
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        if name.startswith("mmbroker_"):
            found[name] = Metric(family.type, frozenset(labels))
    return found


def as_the_ledger_says(scrape: Samples) -> dict[str, float]:
    """The accounted events of a scrape by outcome, with its reason where there is one."""
    found = {}
    for (name, labels), value in scrape.items():
        if name == "mmbroker_events_accounted_total":
            outcome, reason = dict(labels)["outcome"], dict(labels)["reason"]
            found[f"{outcome}: {reason}" if reason else outcome] = value
    return found


def everywhere(settings: Settings) -> dict[str, Endpoint]:
    return {stage: Endpoint(settings, stage) for stage in STAGES}


# Without servers --------------------------------------------------------------------------------

values = st.lists(st.floats(-2, 12) | st.sampled_from([0.5, 1.0, 5.0]), max_size=30)


@given(st.lists(values, max_size=4))
def test_many_values_at_once_make_the_histogram_that_one_after_another_make(
    batches: list[list[float]],
) -> None:
    bounds = (0.5, 1, 5)
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    bulk = Histogram("h", "A histogram.", "s", bounds, ours)
    single = prometheus_client.Histogram(
        "h", "A histogram.", ["stage"], buckets=bounds, registry=theirs
    ).labels("s")
    for batch in batches:
        bulk.observe(batch)
        for value in batch:
            single.observe(value)
    one, other = (samples(generate_latest(each).decode()) for each in (ours, theirs))
    assert one == pytest.approx(other)


def test_no_time_counts_for_two_parts_of_a_batch() -> None:
    metrics = StageMetrics("s")
    started = time.perf_counter()
    with metrics.part("parse"):
        for model in ("parser", "map_parser"):
            with metrics.triton(model):
                time.sleep(0.02)
    taken = time.perf_counter() - started
    scrape = samples(generate_latest(metrics.registry).decode())
    name = "mmbroker_batch_part_seconds_total"
    spent = {dict(each)["part"]: value for (found, each), value in scrape.items() if found == name}
    assert spent.keys() == {"parse", "triton"}
    assert spent["triton"] >= 0.04
    assert sum(spent.values()) <= taken


def test_what_triton_takes_is_told_for_each_model() -> None:
    metrics = StageMetrics("s")
    for model in ("critic", "parser"):
        metrics.uses(model)
    before = samples(generate_latest(metrics.registry).decode())
    assert by_label(before, "mmbroker_triton_errors_total", "model") == {"critic": 0, "parser": 0}
    count = "mmbroker_triton_request_seconds_count"
    assert by_label(before, count, "model") == {"critic": 0, "parser": 0}
    for model, times in (("critic", 3), ("parser", 1)):
        for _ in range(times):
            with metrics.triton(model):
                pass
    metrics.triton_failed("parser")
    after = samples(generate_latest(metrics.registry).decode())
    assert by_label(after, count, "model") == {"critic": 3, "parser": 1}
    assert by_label(after, "mmbroker_triton_errors_total", "model") == {"critic": 0, "parser": 1}


@pytest.mark.parametrize("header", [b"", b"yesterday", b"-1", b"9" * 400, None])
def test_whatever_time_a_publisher_claims_the_message_counts(header: bytes | None) -> None:
    metrics = StageMetrics("s")
    metrics.sent([Outgoing("t", b"", b"", {OBSERVED_AT: header})])  # type: ignore[dict-item]
    metrics.sent([Outgoing("t", b"", b"", {OBSERVED_AT: str(now_ms() + 10**6).encode()})])
    scrape = samples(generate_latest(metrics.registry).decode())
    assert by_label(scrape, "mmbroker_messages_sent_total", "topic") == {"t": 2}
    assert by_label(scrape, "mmbroker_latency_seconds_bucket", "le")["0.01"] == 1


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[BuildFingerprints]:
    store = LMDBStore(tmp_path / "store")
    yield BuildFingerprints(store, Topics(), Codec())
    store.close()


def test_a_redelivered_event_is_counted_once_as_in_the_ledger(stage: BuildFingerprints) -> None:
    data = [Codec().encode(each) for each in simulate(5, seed=1)] + [b"nonsense"]
    batch = [
        Received(stage.topics.observations, 0, offset, 0, each) for offset, each in enumerate(data)
    ]
    for delivered in (batch[:4], batch, batch):
        for processed in stage.process_safely(delivered):
            assert processed.finish() == []
    scrape = samples(generate_latest(stage.metrics.registry).decode())
    with stage.store.reading() as reading:
        ledger = {outcome: count for (_, outcome), count in reading.counts().items()}
    assert as_the_ledger_says(scrape) == ledger
    assert by_label(scrape, "mmbroker_events_accounted_total", "outcome")["quarantined"] == 1
    assert by_label(scrape, "mmbroker_events_accounted_total", "reason")["undecodable"] == 1
    assert sum(ledger.values()) == len(batch)


def test_it_is_ready_only_when_neither_batch_nor_probe_misses_anything() -> None:
    health = Health(StageMetrics("s"))
    assert health.unready == "starting"
    health.misses = None
    assert health.unready is not None
    assert "no partitions" in health.unready
    health.assigned = {("observations", 0)}
    assert health.unready is None
    health.waits_for = "the disk is\nfull"
    assert health.unready == "the disk is full"
    health.misses = "Kafka"  # a probe that finds everything again does not end the batch's wait
    health.misses = None
    assert health.unready == "the disk is full"
    health.succeeded()
    assert health.unready is None
    health.last_turn -= 60  # blocked since then
    assert health.unready is not None
    assert "60 s" in health.unready
    assert health.unhealthy is None
    health.turned()
    assert health.unready is None


def free_row(length: int) -> int:
    """The first of so many ports next to each other that nobody uses."""
    while True:
        (first,) = free_ports(1)
        if all(is_free(first + number) for number in range(1, length)):
            return first


def test_a_port_that_is_taken_does_not_stop_a_stage(
    stage: BuildFingerprints, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (port,) = free_ports(1)
    settings = Settings(data_directory=tmp_path, stage=StageSettings(metrics_port=port))
    endpoint = Endpoint(settings, stage.name)
    with served(stage, settings, "mm-other-0", Health(stage.metrics)):
        with served(stage, settings, f"mm-{stage.name}-0", Health(stage.metrics)):
            assert endpoint.address != f"127.0.0.1:{port}"
            assert f"metrics_port = {port}" in caplog.text
            assert endpoint.says("/readyz", 503, "starting")
            assert endpoint.says("/nothing", 404)
            assert targets(settings, stage.name) == [endpoint.address]
            assert len(targets(settings)) == 2
        assert [each.name for each in (tmp_path / DIRECTORY).iterdir()] == ["mm-other-0.json"]


@pytest.mark.slow
def test_clients_that_never_finish_their_request_keep_nobody_out(
    stage: BuildFingerprints, tmp_path: Path
) -> None:
    settings = Settings(data_directory=tmp_path)
    endpoint = Endpoint(settings, stage.name)
    before = threading.active_count()
    with served(stage, settings, f"mm-{stage.name}-0", Health(stage.metrics)):
        host, port = endpoint.address.rsplit(":", 1)
        slow = []
        for _ in range(5 * MOST_CLIENTS):
            slow.append(socket.create_connection((host, int(port)), timeout=5))
            slow[-1].sendall(b"GET /metrics HTTP/1.1\r\nX: ")
        assert endpoint.says("/healthz", 200)
        assert threading.active_count() - before <= MOST_CLIENTS + 8
        for each in slow:
            each.close()


@pytest.mark.parametrize(("host", "reached"), [("::1", "[::1]"), ("::", "127.0.0.1")])
def test_metrics_are_served_on_ipv6(
    stage: BuildFingerprints, tmp_path: Path, host: str, reached: str
) -> None:
    settings = Settings(data_directory=tmp_path, stage=StageSettings(metrics_host=host))
    with served(stage, settings, "mm-six-0", Health(stage.metrics)):
        (target,) = targets(settings)
        url = f"http://{reached}:{target.rsplit(':', 1)[1]}/healthz"
        assert urllib.request.urlopen(url, timeout=5).read() == b"healthy\n"


def test_an_address_that_is_none_is_said(stage: BuildFingerprints, tmp_path: Path) -> None:
    settings = Settings(data_directory=tmp_path, stage=StageSettings(metrics_host="no.invalid"))
    with (
        pytest.raises(SettingsError, match=r"metrics_host = 'no\.invalid'"),
        served(stage, settings, "mm-no-0", Health(stage.metrics)),
    ):
        pass


# A whole broker ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def endpoints(broker: Broker) -> dict[str, Endpoint]:
    """Of a broker at rest that has seen new, repeated and malformed observations."""
    observations = list(simulate(40, seed=41))
    malformed = [b"nonsense", Codec().encode(observations[0])[:-1]]
    broker.publish([*observations, *observations[:10], *malformed])
    found = everywhere(broker.settings)
    for endpoint in found.values():
        endpoint.wait(200)
    return found


@pytest.mark.slow
def test_at_rest_the_metrics_are_the_ledger(broker: Broker, endpoints: dict[str, Endpoint]) -> None:
    for entry in broker.ledger():
        scrape = endpoints[entry.stage].scrape()
        assert as_the_ledger_says(scrape) == entry.outcomes
        received = by_label(scrape, "mmbroker_events_received_total", "stage")
        assert received == {entry.stage: entry.received}
        alerts = {
            f"{dict(labels)['stream']}: {dict(labels)['type']}": value
            for (name, labels), value in scrape.items()
            if name == "mmbroker_alerts_total"
        }
        assert alerts == entry.sent
        sizes = by_label(scrape, "mmbroker_batch_events_sum", "stage")
        assert sizes == {entry.stage: entry.received}


@pytest.mark.slow
def test_at_rest_no_partition_lags(endpoints: dict[str, Endpoint]) -> None:
    for stage, endpoint in endpoints.items():
        wait_until(partial(has_read_all, endpoint), f"{stage} lags")
        scrape = endpoint.scrape()
        assert by_label(scrape, "mmbroker_unaccounted_events", "stage") == {stage: 0}


def has_read_all(endpoint: Endpoint) -> bool:
    """Whether the last probe found nothing left to read in any of the four partitions."""
    lag = by_label(endpoint.scrape(), "mmbroker_lag_events", "partition")
    return lag == dict.fromkeys("0123", 0)


@pytest.mark.slow
def test_every_alert_message_has_its_latency(endpoints: dict[str, Endpoint]) -> None:
    scrape = endpoints["publish-alerts"].scrape()
    sent = by_label(scrape, "mmbroker_messages_sent_total", "topic")
    (latencies,) = by_label(scrape, "mmbroker_latency_seconds_count", "stage").values()
    assert latencies == sum(sent.values()) > 0


@pytest.mark.slow
def test_the_scores_counted_are_those_published(endpoints: dict[str, Endpoint]) -> None:
    scrape = endpoints["score-galaxies"].scrape()
    outcomes = by_label(scrape, "mmbroker_events_accounted_total", "outcome")
    probabilities, hyperscores, without = (
        by_label(scrape, f"mmbroker_{name}", "stage")["score-galaxies"]
        for name in (
            "score_probability_count", "score_hyperscore_count", "scores_without_redshift_total",
        )
    )  # fmt: skip
    assert hyperscores == probabilities + without == outcomes["scored"]


def documented() -> dict[str, Metric]:
    """The metrics of the table in the README."""
    row = re.compile(r"^\| `(mmbroker_\w+)` \| (\w+) \| ([^|]*) \|", re.MULTILINE)
    return {
        name: Metric(kind, frozenset(re.findall(r"`(\w+)`", labels)))
        for name, kind, labels in row.findall((PROMETHEUS / "README.md").read_text())
    }


@pytest.mark.slow
def test_the_table_of_metrics_is_what_is_served(endpoints: dict[str, Endpoint]) -> None:
    served: dict[str, Metric] = {}
    for endpoint in endpoints.values():
        for name, metric in families(endpoint.get("/metrics")[1]).items():
            if name not in served or metric.labels:
                served[name] = metric
    assert served == documented()


@pytest.mark.slow
def test_the_table_names_every_part_of_a_batch(endpoints: dict[str, Endpoint]) -> None:
    counted, table = "mmbroker_batch_part_seconds_total", (PROMETHEUS / "README.md").read_text()
    (row,) = (line for line in table.splitlines() if line.startswith(f"| `{counted}`"))
    named = {each.partition(" (")[0].strip() for each in re.split("[:,|]", row)}
    for endpoint in endpoints.values():
        assert by_label(endpoint.scrape(), counted, "part").keys() <= named


# When servers are away --------------------------------------------------------------------------


def send(settings: Settings, galaxies: int, seed: int, readable: bool | None = None) -> None:
    """Publish observations; on request those alone that a parser reads, or the others."""
    with Publisher(settings) as publisher:
        for each in simulate(galaxies, seed=seed):
            if readable in (None, each.spectrum is not None or each.continuum_map is not None):
                publisher.send(each)


@pytest.mark.slow
def test_a_stage_says_what_is_away_and_is_ready_again_when_it_is_back(
    servers: LocalStack, tmp_path: Path
) -> None:
    first = free_row(3)
    port = {"MMBROKER_STAGE__METRICS_PORT": str(first)}
    with broker_on(servers, tmp_path, tmp_path.name, **port) as broker:
        settings = broker.settings
        endpoints = everywhere(settings)
        build, score, publish = endpoints.values()
        for each in endpoints.values():
            each.wait(200)
        addresses = [each.address for each in endpoints.values()]
        assert addresses == [f"127.0.0.1:{first + number}" for number in range(3)]
        started = {each.stage: start_time(each) for each in endpoints.values()}

        servers.triton.kill()
        score.wait(503, "Triton")  # found by the probe: there is no batch
        build.wait(503, "Triton")
        send(settings, galaxies=3, seed=2, readable=False)
        score.wait(503, "failed after")  # found by a batch, which the first stage has let through
        send(settings, galaxies=9, seed=2, readable=True)
        build.wait(503, "failed after")
        assert all(each.says("/healthz", 200, "healthy") for each in endpoints.values())
        assert publish.says("/readyz", 200)
        servers.triton.start()
        for each in (build, score):
            each.wait(200)
        wait_until(Settled(settings), "the ledger does not close after Triton was away")
        for each in (build, score):
            scrape = each.scrape()
            assert sum(by_label(scrape, "mmbroker_triton_errors_total", "model").values()) > 0
            assert by_label(scrape, "mmbroker_retries_total", "stage")[each.stage] > 0
            assert set(by_label(scrape, "mmbroker_model_version", "model").values()) == {1}

        servers.kafka.kill()
        for each in endpoints.values():
            each.wait(503, "Kafka")
        assert all(each.says("/healthz", 200, "healthy") for each in endpoints.values())
        servers.kafka.start()
        for each in endpoints.values():
            each.wait(200)
        send(settings, galaxies=3, seed=3)
        wait_until(Settled(settings), "the ledger does not close after Kafka was away")
        assert {each.stage: start_time(each) for each in endpoints.values()} == started


@pytest.mark.slow
def test_a_stage_that_gives_up_acknowledges_nothing(servers: LocalStack, tmp_path: Path) -> None:
    patience = {"MMBROKER_STAGE__GIVE_UP_AFTER_S": "1"}
    with broker_on(servers, tmp_path, tmp_path.name, **patience) as broker:
        settings = broker.settings
        score = everywhere(settings)["score-galaxies"]
        score.wait(200)
        started = start_time(score)
        servers.triton.kill()
        send(settings, galaxies=3, seed=4, readable=False)
        score.wait(503, "failed after")
        score.wait(0)
        servers.triton.start()
        score.wait(200)
        assert start_time(score) > started
        wait_until(Settled(settings), "the ledger does not close after a stage has given up")
        outcomes = by_label(score.scrape(), "mmbroker_events_accounted_total", "outcome")
        assert outcomes.keys() <= {"scored", "superseded"}
        assert outcomes


def start_time(endpoint: Endpoint) -> float:
    """When the process began."""
    return endpoint.scrape()["process_start_time_seconds", frozenset()]


# Prometheus -------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def promtool() -> Path:
    """Prometheus's own checker; tests that need it skip where it cannot be had."""
    try:
        return install_promtool()
    except StackError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize(
    ("answer", "remedy"),
    [
        (None, "there is no apt-get to download it; install Prometheus"),
        ("Unable to locate package prometheus", "which needs root: sudo apt-get update"),
    ],
)
def test_where_promtool_cannot_be_had_the_remedy_is_said(
    answer: str | None, remedy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if answer is not None:
        (tmp_path / "apt-get").write_text(f"#!/bin/sh\necho '{answer}' >&2\nexit 100\n")
        (tmp_path / "apt-get").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("MMBROKER_CACHE", str(tmp_path / "cache"))
    with pytest.raises(StackError, match=remedy) as raised:
        install_promtool()
    assert answer is None or answer in str(raised.value)


def test_the_alert_rules_use_metrics_that_exist() -> None:
    rules = (PROMETHEUS / "alerts.yml").read_text()
    named = set(re.findall(r"mmbroker_\w+", rules))
    assert named
    assert {re.sub(r"_(bucket|count|sum)$", "", name) for name in named} <= documented().keys()


def test_every_alert_rule_says_why_and_what_to_do_and_is_tested() -> None:
    _, *rules = (PROMETHEUS / "alerts.yml").read_text().split("- alert: ")
    tests = (PROMETHEUS / "alerts_test.yml").read_text()
    for rule in rules:
        name = rule.split()[0]
        assert all(f"{part}:" in rule for part in ("summary", "description", "runbook")), name
        assert name in tests


def test_the_page_for_whoever_is_on_duty_has_a_row_for_every_alert() -> None:
    rules = (PROMETHEUS / "alerts.yml").read_text()
    _, _, section = (PROMETHEUS.parent / "operating.md").read_text().partition("When it is red")
    seen = re.findall(r"^\| ([^|]*) \|", section.partition("\n## ")[0], re.MULTILINE)
    alerts = re.findall(r"- alert: (\w+)", rules)
    assert alerts
    assert {name for cell in seen for name in re.split(r"\W+", cell)} >= set(alerts)


@pytest.mark.parametrize(
    "arguments",
    [
        ("check", "config", "prometheus.yml"),
        ("check", "rules", "alerts.yml"),
        ("test", "rules", "alerts_test.yml"),
    ],
)
def test_prometheus_accepts_the_configuration_and_the_rules_fire(
    promtool: Path, arguments: tuple[str, ...]
) -> None:
    result = subprocess.run(
        [promtool, *arguments], cwd=PROMETHEUS, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.slow
def test_prometheus_takes_what_is_served(promtool: Path, endpoints: dict[str, Endpoint]) -> None:
    for endpoint in endpoints.values():
        result = subprocess.run(
            [promtool, "check", "metrics"],
            input=endpoint.get("/metrics")[1],
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.returncode == 0, result.stdout + result.stderr
