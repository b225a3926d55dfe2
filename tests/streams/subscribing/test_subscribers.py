"""Subscribers on a real Kafka: those who have none of our code, and our command line."""

from __future__ import annotations

import ast
import dataclasses
import io
import json
import os
import shlex
import shutil
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

import click
import confluent_kafka
import fastavro
import numpy as np
import pytest
import typer
from hop.io import StartPosition, Stream
from typer.testing import CliRunner

from mmbroker.models.simulation.observations import simulate
from mmbroker.schemas.codec import readable
from mmbroker.schemas.events import Alert, BandMeasurement, Observation, Photometry
from mmbroker.streams.cli.main import app
from mmbroker.streams.kafka.client import KafkaUnavailableError, create_topics
from mmbroker.streams.stages.messages import OBSERVED_AT
from mmbroker.streams.topics import Topic
from tests.conftest import REPOSITORY, Broker, wait_until

pytestmark = pytest.mark.slow

PLAIN = REPOSITORY / "deploy" / "demo" / "subscribe_plain.py"
OURS = {"schemas", "processors", "models", "streams", "deploy"}
STREAMS = """
[[alert_streams]]
name = "anything"

[[alert_streams]]
name = "readable"
format = "json"

[[alert_streams]]
name = "nothing"
minimum_redshift = 1000
"""


def bright(name: str, right_ascension_deg: float) -> Observation:
    measured = BandMeasurement("SCUBA2-850", 352.7e9, 0.02, 1e-4)
    return Observation(
        name, "SCUBA-2", right_ascension_deg, -5.0, 0.5, 59000.0, photometry=Photometry([measured])
    )


@dataclass
class Filled:
    """A broker after two batches of galaxies, with the time between them."""

    broker: Broker
    between: datetime
    first: set[str]
    """Ids of the alerts of the first batch."""

    @property
    def bootstrap(self) -> str:
        return self.broker.settings.kafka.bootstrap_servers

    def topic(self, stream: str) -> str:
        return self.broker.settings.topics.alerts(stream)

    def alerts(self, stream: str = "anything") -> list[Alert]:
        """The alerts of a stream as our own reader has them."""
        return [read.event for read in self.broker.read(stream) if isinstance(read.event, Alert)]

    def at_width(self, columns: int) -> Broker:
        """The broker with a terminal of so many columns."""
        environment = {**self.broker.environment, "COLUMNS": str(columns)}
        return dataclasses.replace(self.broker, environment=environment)


@pytest.fixture(scope="module")
def filled(make_broker: Callable[..., Broker]) -> Filled:
    broker = make_broker(STREAMS)
    wait_until(lambda: answers(broker), "the new topics have no leaders")
    broker.publish(simulate(30, seed=5))
    first = {str(read.plain["alert_id"]) for read in broker.read("anything")}
    between = datetime.now(UTC)
    broker.publish([bright("second/1", 34.0), bright("second/2", 35.0)])
    return Filled(broker, between, first)


def answers(broker: Broker) -> bool:
    """Whether every partition has a leader; one just made has none for a moment."""
    try:
        return bool(broker.ledger())
    except KafkaUnavailableError:
        return False


def run(*command: str | Path, **environment: str) -> str:
    """The output of a program."""
    result = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, **environment},
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


# Subscribers who have none of our code ------------------------------------------------------------


def test_hop_decodes_every_alert_of_a_container_stream(filled: Filled) -> None:
    stream = Stream(auth=False, until_eos=True, start_at=StartPosition.EARLIEST)
    with stream.open(f"kafka://{filled.bootstrap}/{filled.topic('anything')}", "r") as messages:
        decoded = [message.content for message in messages]
    expected = filled.alerts()
    assert [each["alert_id"] for each in decoded] == [each.alert_id for each in expected]
    for content, alert in zip(decoded, expected, strict=True):
        assert content["alert_type"] == alert.alert_type
        assert content["galaxy"]["galaxy_id"] == alert.galaxy.galaxy_id
        assert content["galaxy"]["redshift"]["best"] == alert.galaxy.redshift.best
        probability = np.frombuffer(content["galaxy"]["redshift"]["grid_probability"], "<f4")
        np.testing.assert_array_equal(probability, alert.galaxy.redshift.grid_probability)


def test_hop_subscribe_prints_a_json_stream_readably(filled: Filled, tmp_path: Path) -> None:
    hop = shutil.which("hop", path=str(Path(sys.executable).parent))
    assert hop is not None
    url = f"kafka://{filled.bootstrap}/{filled.topic('readable')}"
    output = run(
        hop, "subscribe", "--no-auth", "-q", "-e", "-s", "EARLIEST", url, HOME=str(tmp_path)
    )
    printed = [json.loads(line) for line in output.splitlines()]
    assert [each["galaxy"]["galaxy_id"] for each in printed] == [
        each.galaxy.galaxy_id for each in filled.alerts()
    ]


@pytest.mark.parametrize("stream", ["anything", "readable"])
def test_a_copied_script_with_kafka_and_avro_libraries_alone_decodes_alerts(
    filled: Filled, stream: str, tmp_path: Path
) -> None:
    script = shutil.copy(PLAIN, tmp_path / "mine.py")
    output = run(sys.executable, script, filled.bootstrap, filled.topic(stream), "--until-end")
    printed = output.splitlines()
    alerts = filled.alerts()
    assert len(printed) == len(alerts)
    for line, alert in zip(printed, alerts, strict=True):
        assert line.startswith(f"{alert.alert_type:10} {alert.galaxy.galaxy_id} ")
        assert f"z = {alert.galaxy.redshift.best:.4f}" in line
        assert ("SIMULATED" in line) == alert.galaxy.simulated


def test_that_script_ends_with_a_line_where_there_is_no_such_topic_or_broker(
    filled: Filled,
) -> None:
    for bootstrap, said in ((filled.bootstrap, "Unknown topic"), ("127.0.0.1:1", "Failed to get")):
        result = subprocess.run(
            [sys.executable, PLAIN, bootstrap, "mm.alerts.nosuch.v1"],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert (result.returncode, result.stdout) == (1, "")
        (line,) = result.stderr.splitlines()
        assert line.startswith(f"{bootstrap}, topic mm.alerts.nosuch.v1: ")
        assert said in line


def test_that_script_reads_alerts_without_headers_and_tells_what_is_none(filled: Filled) -> None:
    topic = filled.topic("readable") + "-bare"
    create_topics(filled.broker.settings.kafka, [Topic(topic, partitions=1)])
    producer = confluent_kafka.Producer({"bootstrap.servers": filled.bootstrap})
    for stream in ("anything", "readable"):
        consumer = confluent_kafka.Consumer(
            {"bootstrap.servers": filled.bootstrap, "group.id": "bare"}
        )
        consumer.assign([confluent_kafka.TopicPartition(filled.topic(stream), 0, 0)])
        message = consumer.poll(30)
        consumer.close()
        assert message is not None
        producer.produce(topic, message.value())
    for broken in (b"no alert", b"Obj\x01", b""):
        producer.produce(topic, broken)
    producer.flush(30)
    result = subprocess.run(
        [sys.executable, PLAIN, filled.bootstrap, topic, "--until-end"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert len(result.stdout.splitlines()) == 2
    assert result.stderr.count("is no alert") == 3


def test_that_script_imports_nothing_of_ours() -> None:
    imported: set[str] = set()
    for node in ast.walk(ast.parse(PLAIN.read_text())):
        if isinstance(node, ast.Import):
            imported.update(name.name.partition(".")[0] for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            imported.add(str(node.module).partition(".")[0])
    assert {"confluent_kafka", "fastavro"} <= imported
    assert not imported & OURS
    assert imported - {"confluent_kafka", "fastavro"} <= sys.stdlib_module_names


def test_scored_galaxies_can_be_read_with_the_schema_files_alone(filled: Filled) -> None:
    schemas = {
        entry["id"]: fastavro.schema.load_schema(REPOSITORY / "schemas" / "avro" / entry["file"])
        for entry in json.loads((REPOSITORY / "schemas" / "manifest.json").read_text())
    }
    decoded = []
    for value in messages(filled.bootstrap, filled.broker.settings.topics.scored):
        magic, schema_id = struct.unpack(">bI", value[:5])
        assert magic == 0
        assert schemas[schema_id]["name"] == "mmbroker.ScoredGalaxy"
        decoded.append(fastavro.schemaless_reader(io.BytesIO(value[5:]), schemas[schema_id]))
    expected = [read.galaxy for read in filled.broker.read("scored")]
    assert {(each["galaxy_id"], each["version"], each["hyperscore"]) for each in decoded} == {
        (each.galaxy_id, each.version, each.hyperscore) for each in expected if each is not None
    }


def messages(bootstrap: str, topic: str) -> Iterator[bytes]:
    """All values in a topic, by the client library alone."""
    consumer = confluent_kafka.Consumer(
        {"bootstrap.servers": bootstrap, "group.id": "plain", "enable.partition.eof": True}
    )
    count = len(consumer.list_topics(topic, timeout=10).topics[topic].partitions)
    start = confluent_kafka.OFFSET_BEGINNING
    consumer.assign([confluent_kafka.TopicPartition(topic, each, start) for each in range(count)])
    while count:
        message: Any = consumer.poll(10)
        assert message is not None, f"{topic} says nothing"
        if message.error() is None:
            yield message.value()
        else:
            assert message.error().code() == confluent_kafka.KafkaError._PARTITION_EOF
            count -= 1
    consumer.close()


@pytest.fixture
def kcat() -> str:
    found = shutil.which("kcat")
    if found is None:
        pytest.skip("kcat is not installed; Debian has it as the package kcat")
    return found


def test_kcat_lists_keys_and_headers(filled: Filled, kcat: str) -> None:
    output = run(
        kcat, "-b", filled.bootstrap, "-t", filled.topic("anything"),
        "-C", "-e", "-q", "-o", "beginning", "-f", "%k %h %S\n",
    )  # fmt: skip
    listed = [line.split(" ") for line in output.splitlines()]
    assert [key for key, *_ in listed] == [each.galaxy.galaxy_id for each in filled.alerts()]
    for _, headers, size in listed:
        named = dict(header.split("=") for header in headers.split(","))
        assert named.keys() == {"_format", OBSERVED_AT}
        assert named["_format"] == "avro"
        assert int(size) > 0


def test_kcat_prints_a_json_stream(filled: Filled, kcat: str) -> None:
    output = run(kcat, "-b", filled.bootstrap, "-t", filled.topic("readable"), "-C", "-e", "-q")
    printed = [json.loads(line) for line in output.splitlines()]
    assert [each["galaxy"]["galaxy_id"] for each in printed] == [
        each.galaxy.galaxy_id for each in filled.alerts()
    ]


# mmbroker subscribe -------------------------------------------------------------------------------


def subscribe(filled: Filled, *arguments: str) -> list[str]:
    return filled.broker.command("subscribe", *arguments, "--until-end").stdout.splitlines()


def ids(lines: list[str]) -> set[str]:
    return {str(json.loads(line)["alert_id"]) for line in lines}


@pytest.mark.parametrize("stream", ["anything", "readable"])
def test_json_lines_are_the_alerts_without_binary_grids(filled: Filled, stream: str) -> None:
    printed = [json.loads(line) for line in subscribe(filled, stream, "--from", "earliest")]
    for content, alert in zip(printed, filled.alerts(), strict=True):
        assert content["galaxy"] == readable(alert.galaxy)
        assert content["stream"] == stream


def test_a_table_has_a_row_an_alert_with_what_matters_within_80_columns(filled: Filled) -> None:
    rows = subscribe(filled, "anything", "--from", "earliest", "--table")
    for row, alert in zip(rows, filled.alerts(), strict=True):
        galaxy = alert.galaxy
        visible = row[:80]
        assert alert.alert_type in visible
        assert galaxy.galaxy_id + ("*" if galaxy.simulated else " ") in visible
        assert f"z={galaxy.redshift.best:.3f}" in visible
        assert f"P={galaxy.probability:.3f}" in visible
        assert alert.reasons[0] in row


def test_a_time_selects_what_came_after_it(filled: Filled) -> None:
    everything = ids(subscribe(filled, "anything", "--from", "earliest"))
    later = ids(subscribe(filled, "anything", "--from", filled.between.isoformat()))
    assert filled.first
    assert later
    assert later == everything - filled.first
    naive = filled.between.replace(tzinfo=None).isoformat()
    assert ids(subscribe(filled, "anything", "--from", naive)) == later


@pytest.mark.parametrize("start", ["latest", "2100-01-01"])
def test_at_the_end_there_is_nothing_to_print_until_the_end(filled: Filled, start: str) -> None:
    assert subscribe(filled, "anything", "--from", start) == []


def test_an_empty_stream_has_an_end(filled: Filled) -> None:
    assert subscribe(filled, "nothing", "--from", "earliest") == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nosuch"], ["'nosuch'", "anything, readable, nothing"]),
        (["[/red]"], ["'[/red]'"]),
        (["anything", "--from", "yesterday"], ["'yesterday'", "earliest", "2026-05-01T12:00"]),
        (["anything", "--json", "--table"], ["--json", "--table"]),
    ],
)
def test_a_mistake_costs_one_clear_line(
    filled: Filled, arguments: list[str], said: list[str]
) -> None:
    result = filled.broker.command("subscribe", *arguments, "--until-end", check=False)
    assert result.returncode == 1
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("mmbroker: ")
    assert all(each in line for each in said)


def test_a_reader_that_has_had_enough_is_no_error(filled: Filled) -> None:
    mmbroker = shlex.join([sys.executable, "-m", "mmbroker"])
    pipe = f"{mmbroker} subscribe anything --from earliest --until-end | head -1"
    result = subprocess.run(
        ["bash", "-o", "pipefail", "-c", pipe],
        env=filled.broker.environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert json.loads(result.stdout)["galaxy"]


def test_latest_prints_what_arrives_from_then_on(filled: Filled) -> None:
    known = {alert.alert_id for alert in filled.alerts()}
    process = subprocess.Popen(
        [sys.executable, "-m", "mmbroker", "subscribe", "anything", "--json"],
        env=filled.broker.environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    lines: SimpleQueue[str] = SimpleQueue()
    assert process.stdout is not None
    threading.Thread(
        target=lambda out: [lines.put(line) for line in out], args=[process.stdout], daemon=True
    ).start()
    sent = 0

    def arrived() -> bool:
        nonlocal sent
        filled.broker.publish([bright(f"late/{sent}", 50.0 + sent)])
        sent += 1
        return not lines.empty()

    try:
        wait_until(arrived, "nothing arrives")
    finally:
        process.terminate()
        process.wait(20)
    printed = []
    while True:
        try:
            printed.append(lines.get(timeout=1))
        except Empty:
            break
    alerts = [alert.alert_id for alert in filled.alerts() if alert.alert_id not in known]
    assert [json.loads(line)["alert_id"] for line in printed] == alerts[-len(printed) :]


def test_what_is_not_an_event_does_not_end_a_subscription(filled: Filled) -> None:
    filled.broker.publish([b"{nonsense", b"[1]", b"\xff\xfe"])
    printed = [json.loads(line) for line in subscribe(filled, "observations", "--from", "earliest")]
    assert {each["begins"] for each in printed if "undecodable" in each} == {
        repr(b"{nonsense"), repr(b"[1]"), repr(b"\xff\xfe"),
    }  # fmt: skip
    assert sum("observation_id" in each for each in printed) == len(printed) - 3


# Terminals ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("columns", [80, 110])
def test_the_ranked_table_fits_the_terminal_with_a_line_a_galaxy(
    filled: Filled, columns: int
) -> None:
    lines = filled.at_width(columns).command("top", "--rows", "3").stdout.splitlines()
    assert max(map(len, lines)) <= columns
    rows = [line.split() for line in lines if line.lstrip()[:1].isdigit() and "mm-" in line]
    assert [row[0] for row in rows] == ["1", "2", "3"]
    scores = {
        read.galaxy.galaxy_id: read.galaxy
        for read in filled.broker.read("scored")
        if read.galaxy is not None
    }
    for row in rows:
        galaxy = scores[row[1]]
        assert (row[2] == "*") == galaxy.simulated
        assert f"{galaxy.redshift.best:.3f}" in row
        assert row[-2:] == [f"{galaxy.hyperscore:.2f}", f"{galaxy.probability:.3f}"]
        assert (f"{galaxy.right_ascension_deg:.4f}" in row) == (columns >= 110)


def test_an_explanation_fits_80_columns(filled: Filled) -> None:
    galaxy = filled.broker.read("scored")[-1].galaxy
    assert galaxy is not None
    page = filled.at_width(80).command("explain", galaxy.galaxy_id).stdout
    assert max(map(len, page.splitlines())) <= 80
    for said in (
        f"version {galaxy.version}", f"z = {galaxy.redshift.best:.4f}",
        f"HyperScore (plus-gamma) = {galaxy.hyperscore:.2f}", galaxy.provenance.scorer_hash,
    ):  # fmt: skip
        assert said in page


# Help ---------------------------------------------------------------------------------------------


def commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    yield path, command
    for name, each in getattr(command, "commands", {}).items():
        yield from commands(each, (*path, name))


COMMANDS = dict(commands(typer.main.get_command(app)))


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_command_says_what_it_does_and_what_each_argument_means(path: tuple[str]) -> None:
    result = CliRunner().invoke(app, [*path, "--help"])
    assert result.exit_code == 0
    assert COMMANDS[path].help
    for parameter in COMMANDS[path].params:
        assert getattr(parameter, "help", None), f"{parameter.name} is not explained"
        if isinstance(parameter, click.Option):
            assert parameter.opts[0] in result.output
