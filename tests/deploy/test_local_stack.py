"""The local stack: real servers come up, serve, survive what they should and leave nothing."""

import base64
import json
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient, NewTopic
from tritonclient.grpc import InferenceServerClient, InferInput

from mmbroker.deploy.local import LocalStack, Ports, StackError, install, processes
from mmbroker.deploy.local import stack as local_stack
from mmbroker.deploy.local.kafka import Kafka

pytestmark = pytest.mark.slow  # servers of its own

ROOT = Path(__file__).parents[2]

# y = x + x over float32 rows of three, as an ONNX model
DOUBLE_ONNX = base64.b64decode(
    "CAgSADo5Cg4KAXgKAXgSAXkiA0FkZBIBZ1oRCgF4EgwKCggBEgYKAAoCCANiEQoBeRIMCgoIARIGCgAKAggDQgQKABAN"
)
DOUBLE_CONFIG = """
backend: "python"
max_batch_size: 64
input [{ name: "x" data_type: TYPE_FP32 dims: [ 3 ] }]
output [{ name: "y" data_type: TYPE_FP32 dims: [ 3 ] }]
instance_group [{ kind: KIND_CPU }]
"""
DOUBLE_MODEL = """
import pathlib

import onnxruntime
import triton_python_backend_utils as utils


class TritonPythonModel:
    def initialize(self, args):
        self.session = onnxruntime.InferenceSession(str(pathlib.Path(__file__).parent / "d.onnx"))

    def execute(self, requests):
        rows = [utils.get_input_tensor_by_name(request, "x").as_numpy() for request in requests]
        return [
            utils.InferenceResponse([utils.Tensor("y", self.session.run(None, {"x": x})[0])])
            for x in rows
        ]
"""


def write_model(repository: Path, name: str) -> None:
    version = repository / name / "1"
    version.mkdir(parents=True)
    (version / "d.onnx").write_bytes(DOUBLE_ONNX)
    (version / "model.py").write_text(DOUBLE_MODEL)
    (version.parent / "config.pbtxt").write_text(DOUBLE_CONFIG)


def infer(url: str, model: str) -> np.ndarray:
    rows = InferInput("x", [2, 3], "FP32")
    rows.set_data_from_numpy(np.arange(6, dtype=np.float32).reshape(2, 3))
    return InferenceServerClient(url).infer(model, [rows]).as_numpy("y")


def create_topic(servers: str, topic: str) -> None:
    admin = AdminClient({"bootstrap.servers": servers})
    admin.create_topics([NewTopic(topic, 1, 1)])[topic].result(timeout=20)


def topics(servers: str) -> set[str]:
    return set(AdminClient({"bootstrap.servers": servers}).list_topics(timeout=10).topics)


def produce(servers: str, topic: str, value: bytes) -> None:
    producer = Producer({"bootstrap.servers": servers, "message.max.bytes": 15_000_000})
    failures: list[object] = []
    producer.produce(topic, value, on_delivery=lambda error, _: failures.append(error))
    assert producer.flush(30) == 0
    assert failures == [None]


def consume(servers: str, topic: str) -> bytes:
    consumer = Consumer(
        {"bootstrap.servers": servers, "group.id": topic, "auto.offset.reset": "earliest"}
    )
    try:
        consumer.subscribe([topic])
        message = consumer.poll(30)
        assert message is not None
        assert message.error() is None
        value = message.value()
        assert value is not None
        return value
    finally:
        consumer.close()


def eventually(condition: Callable[[], bool], timeout: float = 10) -> bool:
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def kafka_only(directory: Path, ports: Ports | None = None) -> LocalStack:
    return LocalStack(directory, triton=False, ports=ports or Ports(), quiet=True)


def pids(stack: LocalStack) -> set[int]:
    return {one.pid for one in stack.status().components if one.pid is not None}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    directory = tmp_path_factory.mktemp("stack")
    write_model(directory / "models", "double")
    with LocalStack(directory / "run", model_repository=directory / "models", quiet=True) as stack:
        yield stack


def test_comes_up_ready_and_says_where(stack: LocalStack) -> None:
    status = stack.status()
    assert status.ready
    assert not status.detached
    assert not status.secured
    assert [component.name for component in status.components] == ["kafka", "triton"]
    assert all(component.memory_bytes > 1e6 for component in status.components)
    assert stack.environment() == {
        "MMBROKER_KAFKA__BOOTSTRAP_SERVERS": stack.bootstrap_servers,
        "MMBROKER_TRITON__URL": stack.triton_url,
        "MMBROKER_TRITON__MODEL_REPOSITORY": str(stack.triton.model_repository),
    }
    assert "double" in stack.logs("triton")
    with pytest.raises(StackError, match="open, it has no users such as 'reader'"):
        stack.environment("reader")
    with pytest.raises(StackError, match="it has kafka and triton"):
        stack.logs("zookeeper")


def test_kafka_carries_messages_up_to_its_limit(stack: LocalStack) -> None:
    value = os.urandom(10_000_000)
    create_topic(stack.bootstrap_servers, "large")
    produce(stack.bootstrap_servers, "large", value)
    assert consume(stack.bootstrap_servers, "large") == value


def test_topics_are_not_created_by_mistake(stack: LocalStack) -> None:
    admin = AdminClient({"bootstrap.servers": stack.bootstrap_servers})
    assert admin.list_topics("mistyped", timeout=10).topics["mistyped"].error is not None


def test_triton_answers_inferences_and_counts_them(stack: LocalStack) -> None:
    expected = 2 * np.arange(6, dtype=np.float32).reshape(2, 3)
    np.testing.assert_array_equal(infer(stack.triton_url, "double"), expected)
    with urllib.request.urlopen(stack.triton_metrics_url, timeout=10) as answer:
        assert 'nv_inference_request_success{model="double"' in answer.read().decode()


def test_triton_loads_another_model_without_restart(stack: LocalStack) -> None:
    write_model(stack.triton.model_repository, "later")
    InferenceServerClient(stack.triton_url).load_model("later")
    assert infer(stack.triton_url, "later").shape == (2, 3)


def test_killed_servers_start_again_on_their_ports_with_their_data(stack: LocalStack) -> None:
    servers, url = stack.bootstrap_servers, stack.triton_url
    create_topic(servers, "kept")
    produce(servers, "kept", b"kept")
    for component in (stack.kafka, stack.triton):
        before = component.pid
        component.kill()
        assert not component.running
        component.start()
        assert component.pid not in (None, before)
    assert (stack.bootstrap_servers, stack.triton_url) == (servers, url)
    assert consume(servers, "kept") == b"kept"
    assert infer(url, "double").shape == (2, 3)
    regions = [one.name for one in Path("/dev/shm").glob(stack.triton.shared_memory_prefix + "*")]
    assert len(regions) <= 2, "a killed server's shared memory is left"


def test_an_attached_stack_sees_a_restart_by_its_owner(stack: LocalStack) -> None:
    attached = LocalStack.attach(stack.directory, quiet=True)
    stack.triton.kill()
    stack.triton.start()
    assert pids(attached) == pids(stack)
    assert attached.status().ready


def test_a_second_stack_in_the_directory_is_refused(stack: LocalStack) -> None:
    with pytest.raises(StackError, match=r"already .kafka, triton.; stop it with: mmbroker"):
        kafka_only(stack.directory).up()
    assert stack.status().ready


def test_triton_answers_its_owner_alone(stack: LocalStack) -> None:
    """Whoever reaches it can have it run code, so it listens where others cannot knock."""
    process = psutil.Process(stack.triton.pid)
    listening = [each.laddr for each in process.net_connections("tcp") if each.status == "LISTEN"]
    assert [(each.ip, each.port) for each in listening] == [
        ("127.0.0.1", stack.triton.metrics_port)
    ]
    folder = stack.triton.socket.parent
    assert stack.triton.socket.is_socket()
    assert folder.stat().st_mode & 0o077 == 0
    for path in ("v2/models/double/infer", "v2/repository/models/double/load"):
        url = f"http://127.0.0.1:{stack.triton.metrics_port}/{path}"
        with pytest.raises(urllib.error.HTTPError, match=r"40[45]"):
            urllib.request.urlopen(urllib.request.Request(url, b"{}", method="POST"))


def test_a_folder_of_sockets_that_others_can_open_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mmbroker.deploy.local.triton._SOCKETS", tmp_path)
    (tmp_path / f"mmbroker-{os.getuid()}").mkdir(mode=0o755)
    with pytest.raises(StackError, match="not a directory that only you can open"):
        LocalStack(tmp_path / "run", quiet=True).up()


def test_a_network_that_runs_leaves_nothing_in_the_home(
    stack: LocalStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MMBROKER_CACHE", str(install.cache_directory()))
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    write_model(tmp_path / "models", "double")
    server = type(stack.triton)(
        tmp_path / "run", *processes.free_ports(1), model_repository=tmp_path / "models"
    )
    server.start()
    try:
        assert infer(server.address, "double").shape == (2, 3)
    finally:
        server.stop()
    assert list((tmp_path / "home").rglob("*")) == []


def test_a_broken_model_is_reported_with_its_reason(stack: LocalStack, tmp_path: Path) -> None:
    write_model(tmp_path / "models", "broken")
    (tmp_path / "models/broken/1/model.py").write_text("raise RuntimeError('no weights here')")
    broken = type(stack.triton)(
        tmp_path, *processes.free_ports(1), model_repository=tmp_path / "models"
    )
    with pytest.raises(StackError, match=r"(?s)ended while starting.*no weights here") as failure:
        broken.start()
    assert len(str(failure.value).splitlines()) < 20


def test_stacks_run_side_by_side_and_a_taken_port_is_refused(
    stack: LocalStack, tmp_path: Path
) -> None:
    with kafka_only(tmp_path / "other") as other:
        create_topic(other.bootstrap_servers, "here")
        assert "here" not in topics(stack.bootstrap_servers)
        with pytest.raises(StackError, match=rf"port {other.kafka.port}: something else does"):
            kafka_only(tmp_path / "third", Ports(kafka=other.kafka.port)).up()
        with pytest.raises(StackError, match="has no triton; it has kafka"):
            _ = other.triton_url
    assert not other.status().running
    assert stack.status().ready


@pytest.fixture
def detached(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    LocalStack(tmp_path, quiet=True).down()


def test_a_killed_server_waits_until_its_port_is_let_go(tmp_path: Path) -> None:
    with kafka_only(tmp_path) as stack:
        stack.kafka.kill()
        held = socket.socket()  # as by threads of the killed process that have not ended yet
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", stack.kafka.ports[0]))
        held.listen()
        threading.Timer(0.5, held.close).start()
        stack.kafka.start()
        assert stack.kafka.running


def test_detached_stack_outlives_its_starter_and_a_crash_is_cleaned_up(detached: Path) -> None:
    with pytest.raises(StackError, match="start one with: mmbroker stack up"):
        LocalStack.attach(detached)
    # What a crash while formatting and an unfinished write leave.
    (detached / "kafka/data").mkdir(parents=True)
    (detached / "kafka/data/bootstrap.checkpoint.tmp").touch()
    (detached / "stack.json").write_text('{"owner": ')

    with run_python(f"LocalStack(Path({str(detached)!r}), triton=False).up()"):
        pass
    attached = LocalStack.attach(detached, quiet=True)
    assert attached.status().ready
    assert attached.status().detached
    port = attached.kafka.port
    create_topic(attached.bootstrap_servers, "kept")

    # A server whose start was never noted, and a pid that another process has now.
    state = json.loads((detached / "stack.json").read_text())
    (orphan,) = pids(attached)
    state["servers"]["kafka"] = {"pid": os.getpid(), "started": 1.0}
    (detached / "stack.json").write_text(json.dumps(state))
    attached = kafka_only(detached).up()
    assert orphan not in (one.pid for one in psutil.process_iter() if one.status() != "zombie")
    assert attached.kafka.port == port, "ports are taken up again"
    assert "kept" in topics(attached.bootstrap_servers)

    assert LocalStack(detached).down()
    assert not attached.status().running
    assert not LocalStack(detached).down()


def test_of_a_detached_stack_what_has_ended_is_started_again(detached: Path) -> None:
    stack = LocalStack(detached, quiet=True).up()
    (kafka, triton), address = (stack.kafka.pid, stack.triton.pid), stack.bootstrap_servers
    create_topic(address, "kept")
    stack.kafka.kill()
    with pytest.raises(StackError, match=r"already .triton.; stop it with: mmbroker"):
        LocalStack(detached, secured=True, quiet=True).up()
    again = LocalStack(detached, quiet=True).up()
    assert again.status().ready
    assert again.triton.pid == triton
    assert again.kafka.pid != kafka
    assert again.bootstrap_servers == address
    assert "kept" in topics(address)
    with pytest.raises(StackError, match=r"already .kafka, triton."):
        LocalStack(detached, quiet=True).up()


def test_of_a_detached_stack_what_does_not_answer_is_started_again(
    detached: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_stack, "_PATIENCE", 1.0)
    monkeypatch.setattr(Kafka, "stop_timeout", 1.0)
    stack = LocalStack(detached, quiet=True).up()
    (kafka, triton), address = (stack.kafka.pid, stack.triton.pid), stack.bootstrap_servers
    create_topic(address, "kept")
    psutil.Process(kafka).suspend()
    status = stack.status()
    assert [(each.name, each.running, each.ready) for each in status.components] == [
        ("kafka", True, False), ("triton", True, True),
    ]  # fmt: skip
    again = LocalStack(detached).up()
    assert "starting again what does not work: kafka\n" in capsys.readouterr().err
    assert again.kafka.pid != kafka
    assert again.triton.pid == triton
    assert "kept" in topics(address)
    LocalStack(detached).up(["triton"])
    assert "starting again what does not work: triton\n" in capsys.readouterr().err
    assert LocalStack.attach(detached).triton.pid != triton


def test_a_server_that_ends_leaves_nothing_of_its_session(tmp_path: Path) -> None:
    log = tmp_path / "log"
    command = ["/bin/sh", "-c", "sleep 60 & echo $!; exec sleep 60"]
    record = processes.spawn(command, tmp_path, log, {"PATH": os.defpath})
    assert eventually(lambda: log.exists() and log.read_text().endswith("\n"))
    left = psutil.Process(int(log.read_text()))
    processes.terminate(record, 5)
    assert eventually(lambda: not left.is_running() or left.status() == psutil.STATUS_ZOMBIE)


def test_an_address_that_moves_is_said(detached: Path, capsys: pytest.CaptureFixture[str]) -> None:
    port = kafka_only(detached).up().kafka.port
    LocalStack(detached, quiet=True).down()
    with socket.create_server(("127.0.0.1", port)):
        moved = LocalStack(detached, triton=False).up()
        said = capsys.readouterr().err
        assert (
            f"something else uses port {port}, where kafka was: kafka is at {moved.kafka.address}"
            in said
        )
        moved.down()
    (port,) = {moved.kafka.port}
    assert LocalStack(detached, triton=False).up().kafka.port == port
    assert "something else" not in capsys.readouterr().err


def test_stack_ends_when_its_owner_is_killed(tmp_path: Path) -> None:
    body = f"with LocalStack(Path({str(tmp_path)!r})): print('up', flush=True); time.sleep(60)"
    with run_python(body) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == "up\n"
        running = pids(LocalStack.attach(tmp_path, quiet=True))
        assert len(running) == 2
        owner.kill()
    assert eventually(lambda: not pids(kafka_only(tmp_path)))


def run_python(body: str) -> subprocess.Popen[str]:
    imports = (
        "import time\nfrom pathlib import Path\nfrom mmbroker.deploy.local import LocalStack\n"
    )
    return subprocess.Popen(
        [sys.executable, "-c", imports + body],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_what_cannot_be_installed_is_said_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MMBROKER_CACHE", str(tmp_path))
    monkeypatch.setattr(install.os, "geteuid", lambda: 1000)
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    with monkeypatch.context() as patch:
        unshared = install._Python(Path(sys.executable), version, tmp_path / "absent")
        patch.setattr(install, "_inspect", lambda _: unshared)
        with pytest.raises(StackError, match=rf"apt-get install libpython{version}"):
            install.install_triton()
    with monkeypatch.context() as patch:
        patch.setattr(install, "PYTHON_VERSIONS", ("3.99",))
        with pytest.raises(StackError, match=r"needs Python 3.99 and none is on PATH"):
            install.install_triton()
    with monkeypatch.context() as patch:
        patch.setattr(install.platform, "machine", lambda: "riscv64")
        with pytest.raises(StackError, match="x86-64 or arm64, this is linux on riscv64"):
            install.install_triton()
    with monkeypatch.context() as patch:
        patch.setattr(install, "_KAFKA_BYTES", 10**18)
        with pytest.raises(StackError, match="MB are needed; make room or set MMBROKER_CACHE"):
            install.install_kafka()
    (tmp_path / "file").touch()
    monkeypatch.setenv("MMBROKER_CACHE", str(tmp_path / "file"))
    with pytest.raises(StackError, match="set MMBROKER_CACHE to a place that works"):
        install.install_kafka()


def test_free_ports_are_out_of_reach_of_outgoing_connections() -> None:
    first, _ = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()
    ports = processes.free_ports(20)
    assert len(set(ports)) == 20
    assert max(ports) < int(first)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", ports[0]))
        assert not processes.is_free(ports[0])
