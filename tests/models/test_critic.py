"""The critic on a real Triton."""

from __future__ import annotations

import hashlib
import json
import shutil
import socket
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tritonclient import grpc
from tritonclient.utils import InferenceServerException

from deploy.local import LocalStack
from models.critic import Critic, CriticUnavailable
from models.repository import WEIGHTS, write_repository
from models.simulator import galaxy_number, simulate
from processors import vector
from processors.fingerprint import build
from processors.redshift import ConventionalRedshift
from processors.vector import FingerprintVectors, Float32
from schemas.events import Observation

# The field doc_string of an ONNX model: another file, the same network.
ANOTHER_DOCUMENTATION = b"\x32\x01x"

Galaxies = tuple[FingerprintVectors, Float32]


@pytest.fixture(scope="module")
def galaxies() -> Galaxies:
    """Vectors and conditions of simulated galaxies."""
    observations: dict[int, list[Observation]] = defaultdict(list)
    for each in simulate(100, 5):
        observations[galaxy_number(each.observation_id)].append(each)
    fingerprints = [build(str(number), each) for number, each in observations.items()]
    posteriors = ConventionalRedshift().estimate(fingerprints)
    return vector.vectors(fingerprints), vector.condition(posteriors)


@pytest.fixture(scope="module")
def critic(triton_url: str) -> Iterator[Critic]:
    with Critic(triton_url, deadline_s=20.0) as client:
        yield client


def test_it_is_ready(critic: Critic) -> None:
    assert critic.ready()


def test_every_galaxy_gets_an_output(critic: Critic, galaxies: Galaxies) -> None:
    outputs = critic.score(*galaxies)
    assert outputs.shape == (100,)
    assert outputs.dtype == np.float32
    assert np.isfinite(outputs).all()
    assert np.ptp(outputs) > 0


@pytest.mark.parametrize("size", [1, 2, 7, 8, 33])
def test_an_output_is_the_same_to_the_bit_in_every_batch(
    critic: Critic, galaxies: Galaxies, size: int
) -> None:
    vectors, condition = galaxies
    together = critic.score(vectors, condition)
    parts = []
    for start in range(0, len(vectors), size):
        part = slice(start, start + size)
        some = FingerprintVectors(vectors.values[part], vectors.mask[part])
        parts.append(critic.score(some, condition[part]))
    assert np.array_equal(np.concatenate(parts), together)


def test_more_galaxies_than_one_request_holds_are_split(
    triton_url: str, critic: Critic, galaxies: Galaxies
) -> None:
    with Critic(triton_url, largest_batch=30, deadline_s=20.0) as small:
        assert np.array_equal(small.score(*galaxies), critic.score(*galaxies))


def test_no_galaxies_get_no_outputs(critic: Critic) -> None:
    none = FingerprintVectors(*np.zeros((2, 0, vector.LENGTH), np.float32))
    assert critic.score(none, np.zeros((0, vector.REDSHIFT_CELLS), np.float32)).shape == (0,)


def test_what_is_served_is_what_was_trained(critic: Critic, galaxies: Galaxies) -> None:
    critic.score(*galaxies)
    network = (WEIGHTS / "critic.onnx").read_bytes()
    assert critic.model_hash == hashlib.sha256(network).hexdigest()
    assert critic.model_version == "1"
    assert critic.calibration_id in (WEIGHTS / "critic_calibration.json").read_text()


def test_the_server_agrees_with_onnxruntime(critic: Critic, galaxies: Galaxies) -> None:
    onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime comes with [train]")
    vectors, condition = galaxies
    session = onnxruntime.InferenceSession(WEIGHTS / "critic.onnx")
    inputs = {"values": vectors.values, "mask": vectors.mask, "condition": condition}
    expected = session.run(["critic"], inputs)[0][:, 0]
    assert critic.score(vectors, condition) == pytest.approx(expected, abs=1e-4)


def test_wrong_shapes_are_named(critic: Critic, galaxies: Galaxies) -> None:
    vectors, condition = galaxies
    with pytest.raises(ValueError, match="not those of 100 galaxies"):
        critic.score(vectors, condition[:50])


def test_an_unknown_model_is_unavailable(triton_url: str, galaxies: Galaxies) -> None:
    with Critic(triton_url, "nobody", retries=0) as client:
        assert not client.ready()
        with pytest.raises(CriticUnavailable, match="'nobody'"):
            client.score(*galaxies)
        with pytest.raises(CriticUnavailable, match="'nobody'"):
            _ = client.model_hash


def test_a_server_that_is_away_is_given_up_within_the_deadline(galaxies: Galaxies) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"127.0.0.1:{unused.getsockname()[1]}"
    with Critic(url, deadline_s=1.0, retries=50) as client:
        assert not client.ready()
        with pytest.raises(CriticUnavailable, match=r"failed after [2-5] attempts within 1.0 s"):
            client.score(*galaxies)


def test_a_network_that_is_not_the_configured_one_is_not_served(
    stack: LocalStack, tmp_path: Path
) -> None:
    repository = stack.triton.model_repository
    model = write_repository(
        repository, "embedded", model="impostor", weights=renamed(tmp_path, "impostor")
    )
    network = model / "1" / "model.onnx"
    network.write_bytes(network.read_bytes() + ANOTHER_DOCUMENTATION)
    client = grpc.InferenceServerClient(stack.triton_url)
    try:
        with pytest.raises(InferenceServerException, match="SHA-256"):
            client.load_model("impostor")
    finally:
        client.close()
        shutil.rmtree(model)


def test_a_new_version_brings_its_own_hash(
    stack: LocalStack, tmp_path: Path, galaxies: Galaxies
) -> None:
    repository = stack.triton.model_repository
    client = grpc.InferenceServerClient(stack.triton_url)
    try:
        hashes = []
        with Critic(stack.triton_url, "successor", deadline_s=20.0) as critic:
            for version, addition in ((1, b""), (2, ANOTHER_DOCUMENTATION)):
                weights = renamed(tmp_path / str(version), "successor", addition)
                model = write_repository(
                    repository, "embedded", model="successor", version=version, weights=weights
                )
                client.load_model("successor")
                critic.score(*galaxies)
                assert critic.model_version == str(version)
                hashes.append(critic.model_hash)
                stated = json.loads((weights / "successor.json").read_text())["sha256"]
                assert critic.model_hash == stated
        assert len(set(hashes)) == 2
        client.unload_model("successor")
    finally:
        client.close()
        shutil.rmtree(model)


def renamed(folder: Path, model: str, addition: bytes = b"") -> Path:
    """A folder with the critic's network, longer by some bytes, and card under another name."""
    folder.mkdir(exist_ok=True)
    network = (WEIGHTS / "critic.onnx").read_bytes() + addition
    (folder / f"{model}.onnx").write_bytes(network)
    card = json.loads((WEIGHTS / "critic.json").read_text())
    card["sha256"] = hashlib.sha256(network).hexdigest()
    (folder / f"{model}.json").write_text(json.dumps(card))
    return folder
