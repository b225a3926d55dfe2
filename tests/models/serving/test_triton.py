"""Models on a real Triton: several, in several versions, one added while another is asked."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from mmbroker.deploy.local import LocalStack
from mmbroker.deploy.local.processes import free_ports
from mmbroker.deploy.local.triton import Triton
from mmbroker.models.packaged.networks import PACKAGED, WEIGHTS, read_model, tensors_of
from mmbroker.models.packaged.refined import GATE
from mmbroker.models.serving import triton
from mmbroker.models.serving.errors import ModelUnavailable
from mmbroker.models.serving.refined import RefinedNetworkClient
from mmbroker.models.serving.repository import add_version, provide, remove_version
from mmbroker.models.serving.triton import Model
from mmbroker.streams.operating.model_versions import LOCK
from tests.networks import ANOTHER_DOCUMENTATION, SHIFT, shifted_critic, withdrawn

NAME = "successive"

# y = x + w over float32 rows of four, as an ONNX model whose w is in the file secret.bin
READS_A_FILE = base64.b64decode(
    "CAgSADp9Cg4KAXgKAXcSAXkiA0FkZBIBZyo8CAQQAUIBd2oWCghsb2NhdGlvbhIKc2VjcmV0LmJpbmoLCgZvZmZz"
    "ZXQSATBqDAoGbGVuZ3RoEgIxNnABWhQKAXgSDwoNCAESCQoDEgFuCgIIBGIUCgF5Eg8KDQgBEgkKAxIBbgoCCARCBAoAEBE="
)


@pytest.fixture
def model(stack: LocalStack, tmp_path: Path) -> Iterator[Model]:
    """A model with one version, served beside the packaged ones."""
    add(stack, shifted_critic(tmp_path / "first", 0.0, NAME))
    with Model(stack.triton_url, NAME, deadline_s=20.0, retries=0) as client:
        yield client
    withdrawn(stack, NAME)


def add(stack: LocalStack, source: Path) -> int:
    number = add_version(stack.triton.model_repository, NAME, source)
    triton.load(stack.triton_url, NAME)
    return number


class Asking(threading.Thread):
    """Asks a version without a pause until the end of the block."""

    def __init__(self, url: str, version: int) -> None:
        super().__init__()
        self.answers: list[bytes] = []
        self.errors: list[Exception] = []
        self._ends = threading.Event()
        self._url, self._version = url, version

    def run(self) -> None:
        with Model(self._url, NAME, deadline_s=20.0, retries=0) as client:
            while not self._ends.is_set():
                try:
                    self.answers.append(client.probe(self._version)["critic"].tobytes())
                except Exception as error:  # all that is wrong is told by the test
                    self.errors.append(error)

    def __enter__(self) -> Asking:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.set()
        self.join()


def test_the_packaged_models_are_served_and_answer(triton_url: str) -> None:
    assert set(PACKAGED) <= set(triton.served(triton_url))
    for name in PACKAGED:
        _, card = read_model(WEIGHTS, name)
        with Model(triton_url, name, deadline_s=20.0) as client:
            assert client.version(1).card == card
            shapes = {each: array.shape[1:] for each, array in client.probe(1).items()}
            stated = {each: shape for each, (_, shape) in tensors_of(card)["outputs"].items()}
            assert shapes.keys() == stated.keys()
            for each, shape in stated.items():
                sizes = zip(shape, shapes[each], strict=True)
                assert all(size in (-1, answered) for size, answered in sizes)


def test_inputs_with_different_rows_are_named(model: Model) -> None:
    with pytest.raises(ValueError, match="different rows"):
        model.infer({"values": np.zeros((2, 3)), "mask": np.zeros((3, 3))}, 1)


def test_a_request_that_does_not_fit_is_refused(model: Model) -> None:
    with pytest.raises(ValueError, match="refuses the request"):
        model.infer({"values": np.zeros((2, 3), np.float32)}, 1)


def test_a_version_is_added_beside_one_that_goes_on_answering(
    stack: LocalStack, model: Model, tmp_path: Path
) -> None:
    before = model.probe(1)["critic"]
    first = model.version(1)
    with Asking(stack.triton_url, 1) as asking:
        assert add(stack, shifted_critic(tmp_path / "second", SHIFT, NAME)) == 2
        assert model.versions() == [1, 2]
        after = model.probe(2)["critic"]
    assert asking.errors == []
    assert set(asking.answers) == {before.tobytes()}
    np.testing.assert_allclose(after, before + SHIFT, rtol=1e-5)
    assert model.version(1) == first
    second = model.version(2)
    stated = json.loads((tmp_path / "second" / f"{NAME}.json").read_text())
    assert (second.sha256, second.calibration_id) == (stated["sha256"], stated["calibration_id"])
    assert second.sha256 != first.sha256
    assert second.calibration_id != first.calibration_id


@pytest.mark.slow
def test_a_model_repository_with_a_secret_opens_with_it_alone(tmp_path: Path) -> None:
    class Restricted(Triton):
        def command(self) -> tuple[list[str | Path], dict[str, str]]:
            command, variables = super().command()
            restriction = f"--grpc-restricted-protocol=model-repository:{triton.RESTRICTED_BY}=xyz"
            return [*command, restriction], variables

    provide(tmp_path / "models", "embedded", models=["critic"])
    server = Restricted(tmp_path, *free_ports(1), tmp_path / "models")
    server.start()
    try:
        for secret in (None, "wrong"):
            with pytest.raises(ModelUnavailable, match=r"set triton\.repository_secret"):
                triton.served(server.address, secret=secret)
            with pytest.raises(ModelUnavailable, match="restricted"):
                triton.load(server.address, "critic", secret=secret)
        assert triton.served(server.address, secret="xyz") == ["critic"]
        triton.load(server.address, "critic", secret="xyz")
        with Model(server.address, "critic", deadline_s=20.0) as client:
            client.probe(1)  # whoever reaches it may ask
    finally:
        server.stop()


def test_a_network_reads_no_file_of_the_server(stack: LocalStack, tmp_path: Path) -> None:
    """ONNX lets a network keep arrays in other files, also in the server's working directory."""
    (stack.directory / "secret.bin").write_bytes(np.arange(4, dtype="<f4").tobytes())
    source = with_network(shifted_critic(tmp_path, SHIFT, NAME), READS_A_FILE)
    path = source / f"{NAME}.json"
    card = json.loads(path.read_text()) | {"inputs": {"x": [4]}, "outputs": {"y": [4]}}
    path.write_text(json.dumps(card))
    with pytest.raises(ModelUnavailable, match="External data"):
        add(stack, source)
    shutil.rmtree(stack.triton.model_repository / NAME)


@pytest.mark.slow
def test_all_versions_are_there_after_a_restart(servers: LocalStack, tmp_path: Path) -> None:
    source = shifted_critic(tmp_path, SHIFT)
    try:
        add_version(servers.triton.model_repository, "critic", source)
        (servers.triton.model_repository / LOCK).touch()  # no model, and taken for none
        servers.triton.kill()
        servers.triton.start()
        with Model(servers.triton_url, "critic", deadline_s=20.0) as client:
            assert client.versions() == [1, 2]
            client.probe(1)
            client.probe(2)
    finally:
        remove_version(servers.triton.model_repository, "critic", 2)
        triton.load(servers.triton_url, "critic")


def corrupted(folder: Path) -> Path:
    """A network that changed after it was added: done by the test."""
    return shifted_critic(folder, SHIFT, NAME)


def no_network(folder: Path) -> Path:
    """A card that goes with a file that is no network."""
    return with_network(shifted_critic(folder, SHIFT, NAME), b"no network")


def other_network(folder: Path) -> Path:
    """A card that promises other inputs than the network has."""
    network = (WEIGHTS / "generator.onnx").read_bytes()
    return with_network(shifted_critic(folder, SHIFT, NAME), network)


def with_network(folder: Path, network: bytes) -> Path:
    (folder / f"{NAME}.onnx").write_bytes(network)
    path = folder / f"{NAME}.json"
    card = {**json.loads(path.read_text()), "sha256": hashlib.sha256(network).hexdigest()}
    path.write_text(json.dumps(card))
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "problem"),
    [(corrupted, "SHA-256"), (no_network, "version 2"), (other_network, "noise")],
)
def test_a_version_that_cannot_be_loaded_leaves_the_others_as_they_are(
    stack: LocalStack, model: Model, tmp_path: Path, make: Callable[[Path], Path], problem: str
) -> None:
    before = model.probe(1)["critic"].tobytes()
    repository = stack.triton.model_repository
    add_version(repository, NAME, make(tmp_path / "bad"))
    if make is corrupted:
        network = repository / NAME / "2" / "model.onnx"
        network.write_bytes(network.read_bytes() + ANOTHER_DOCUMENTATION)
    with Asking(stack.triton_url, 1) as asking:
        with pytest.raises(ModelUnavailable, match=problem):
            triton.load(stack.triton_url, NAME)
        remove_version(repository, NAME, 2)
        assert model.versions() == [1]
        with pytest.raises(ModelUnavailable, match="version 2"):
            model.probe(2)
        assert add(stack, shifted_critic(tmp_path / "good", SHIFT, NAME)) == 2
        model.probe(2)
    assert asking.errors == []
    assert set(asking.answers) == {before}


def test_of_a_server_that_is_away_it_is_said_where_and_what_to_do() -> None:
    there = "127.0.0.1:9"
    with Model(there, NAME) as client:
        for ask, what in (
            (lambda: client.probe(1), f"model {NAME!r} at {there} does not tell"),
            (client.versions, f"model {NAME!r} at {there}: "),
            (lambda: triton.served(there), f"Triton at {there}: "),
            (lambda: triton.load(there, "critic"), f"Triton at {there} cannot load 'critic': "),
        ):
            with pytest.raises(ModelUnavailable) as told:
                ask()
            assert str(told.value).startswith(what)
            assert "nobody answers there; start Triton (mmbroker stack up" in str(told.value)
            assert "StatusCode" not in str(told.value)


def test_a_server_that_is_silent_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        there = f"127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(ModelUnavailable, match=f"Triton at {there}: no answer in time"):
            triton.served(there, timeout_s=0.5)


def test_a_server_tells_how_long_each_model_has_computed(model: Model) -> None:
    before = triton.inference_seconds(model.url)
    model.probe(1)
    after = triton.inference_seconds(model.url)
    assert after[NAME] > before[NAME]
    assert after.keys() >= set(PACKAGED)


CALLS: dict[str, Callable[[RefinedNetworkClient], object]] = {
    "ready": lambda client: client.ready(1),
    "versions": lambda client: client.versions(),
    "version": lambda client: client.version(1),
    "probe": lambda client: client.probe(1),
    "beside": lambda client: client.beside(1),
    "usable": lambda client: client.require_usable(1),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_thread_that_works_and_one_that_probes_ask_one_after_the_other(
    triton_url: str, name: str
) -> None:
    """The client library is for one thread at a time."""
    meeting = threading.Barrier(2)
    met: list[bool] = []

    def ask(request: object) -> None:
        with contextlib.suppress(threading.BrokenBarrierError):
            meeting.wait(1.0)  # until another thread asks, too, before this one has its answer
            met.append(True)

    with RefinedNetworkClient(triton_url, GATE, deadline_s=20.0, retries=0) as client:
        client._client.register_plugin(ask)
        with ThreadPoolExecutor(2) as pool:
            answers = [pool.submit(CALLS[each], client) for each in (name, "ready")]
            for each in answers:
                each.result()
    assert meeting.broken
    assert met == []


def test_a_version_that_is_no_longer_asked_is_looked_up_again(
    stack: LocalStack, model: Model, tmp_path: Path
) -> None:
    """Meanwhile it may have gone, and another come under its number."""
    number = add(stack, shifted_critic(tmp_path / "second", SHIFT, NAME))
    former = model.version(number)
    assert model.ready(number)
    assert model.version(number) is former
    assert model.ready(1)  # it is in force again, which who only probes gets to know
    remove_version(stack.triton.model_repository, NAME, number)
    triton.load(stack.triton_url, NAME)
    assert add(stack, shifted_critic(tmp_path / "third", 2 * SHIFT, NAME)) == number
    assert model.version(number).sha256 != former.sha256
