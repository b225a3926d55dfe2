"""The critic on a real Triton."""

from __future__ import annotations

import hashlib
import socket
from collections import defaultdict
from collections.abc import Iterator

import numpy as np
import pytest

from mmbroker.models.packaged.networks import WEIGHTS
from mmbroker.models.serving.critic import CriticClient
from mmbroker.models.serving.errors import ModelUnavailable
from mmbroker.models.simulation.observations import galaxy_number, simulate
from mmbroker.processors.fingerprint import vector
from mmbroker.processors.fingerprint.merge import build
from mmbroker.processors.fingerprint.vector import FingerprintVectors, Float32
from mmbroker.processors.redshift import ConventionalRedshift
from mmbroker.processors.scoring.calibration import Calibration
from mmbroker.schemas.events import Observation

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
def critic(triton_url: str) -> Iterator[CriticClient]:
    with CriticClient(triton_url, "critic", deadline_s=20.0) as client:
        yield client


def test_it_is_ready(critic: CriticClient) -> None:
    assert critic.ready(1)


def test_every_galaxy_gets_an_output(critic: CriticClient, galaxies: Galaxies) -> None:
    outputs = critic.score(*galaxies, 1)
    assert outputs.shape == (100,)
    assert outputs.dtype == np.float32
    assert np.isfinite(outputs).all()
    assert np.ptp(outputs) > 0


@pytest.mark.parametrize("size", [1, 2, 7, 8, 33])
def test_an_output_is_the_same_to_the_bit_in_every_batch(
    critic: CriticClient, galaxies: Galaxies, size: int
) -> None:
    vectors, condition = galaxies
    together = critic.score(vectors, condition, 1)
    parts = []
    for start in range(0, len(vectors), size):
        part = slice(start, start + size)
        some = FingerprintVectors(vectors.values[part], vectors.mask[part])
        parts.append(critic.score(some, condition[part], 1))
    assert np.array_equal(np.concatenate(parts), together)


def test_more_galaxies_than_one_request_holds_are_split(
    triton_url: str, critic: CriticClient, galaxies: Galaxies
) -> None:
    with CriticClient(triton_url, "critic", largest_batch=30, deadline_s=20.0) as small:
        assert np.array_equal(small.score(*galaxies, 1), critic.score(*galaxies, 1))


def test_no_galaxies_get_no_outputs(critic: CriticClient) -> None:
    none = FingerprintVectors(*np.zeros((2, 0, vector.LENGTH), np.float32))
    assert critic.score(none, np.zeros((0, vector.REDSHIFT_CELLS), np.float32), 1).shape == (0,)


def test_what_is_served_is_what_was_trained(critic: CriticClient) -> None:
    network = (WEIGHTS / "critic.onnx").read_bytes()
    assert critic.version(1).sha256 == hashlib.sha256(network).hexdigest()
    calibration = Calibration.from_json((WEIGHTS / "critic_calibration.json").read_text())
    assert critic.calibration(1).calibration_id == calibration.calibration_id
    assert critic.version(1).calibration_id == calibration.calibration_id


def test_the_server_agrees_with_onnxruntime(critic: CriticClient, galaxies: Galaxies) -> None:
    onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime comes with [train]")
    vectors, condition = galaxies
    session = onnxruntime.InferenceSession(WEIGHTS / "critic.onnx")
    inputs = {"values": vectors.values, "mask": vectors.mask, "condition": condition}
    expected = session.run(["critic"], inputs)[0][:, 0]
    assert critic.score(vectors, condition, 1) == pytest.approx(expected, abs=1e-4)


def test_wrong_shapes_are_named(critic: CriticClient, galaxies: Galaxies) -> None:
    vectors, condition = galaxies
    with pytest.raises(ValueError, match="not those of 100 galaxies"):
        critic.score(vectors, condition[:50], 1)


def test_an_unknown_model_is_unavailable(triton_url: str, galaxies: Galaxies) -> None:
    with CriticClient(triton_url, "nobody", retries=0) as client:
        assert not client.ready(1)
        with pytest.raises(ModelUnavailable, match="'nobody'"):
            client.score(*galaxies, 1)
        with pytest.raises(ModelUnavailable, match="'nobody'"):
            client.version(1)


def test_a_server_that_is_away_is_given_up_within_the_deadline(galaxies: Galaxies) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"127.0.0.1:{unused.getsockname()[1]}"
    with CriticClient(url, "critic", deadline_s=1.0, retries=50) as client:
        assert not client.ready(1)
        with pytest.raises(ModelUnavailable, match=r"failed after [2-5] attempts within 1.0 s"):
            client.score(*galaxies, 1)


def test_a_model_of_other_inputs_is_no_critic(triton_url: str, galaxies: Galaxies) -> None:
    with CriticClient(triton_url, "generator", deadline_s=20.0) as client:
        for ask in (client.require_usable, lambda version: client.score(*galaxies, version)):
            with pytest.raises(ModelUnavailable, match=r"'generator' .* takes .*noise"):
                ask(1)
