"""The model repository that Triton serves."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest
from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig

from models.repository import BACKENDS, WEIGHTS, Flavour, write_repository
from processors import vector
from processors.calibration import Calibration


def configuration(model: Path) -> ModelConfig:
    return text_format.Parse((model / "config.pbtxt").read_text(), ModelConfig())


@pytest.mark.parametrize("flavour", list(BACKENDS))
def test_the_configuration_is_that_of_triton(tmp_path: Path, flavour: Flavour) -> None:
    model = write_repository(tmp_path, flavour)
    config = configuration(model)
    assert config.backend == BACKENDS[flavour]
    assert config.max_batch_size >= 512
    assert config.HasField("dynamic_batching")
    assert {each.name: list(each.dims) for each in config.input} == {
        "values": [vector.LENGTH],
        "mask": [vector.LENGTH],
        "condition": [vector.REDSHIFT_CELLS],
    }
    assert [(each.name, list(each.dims)) for each in config.output] == [("critic", [1])]


@pytest.mark.parametrize("flavour", list(BACKENDS))
def test_the_hash_in_the_configuration_is_that_of_the_network(
    tmp_path: Path, flavour: Flavour
) -> None:
    model = write_repository(tmp_path, flavour, version=3)
    network = (model / "3" / "model.onnx").read_bytes()
    stated = configuration(model).parameters["sha256"].string_value
    assert stated == hashlib.sha256(network).hexdigest()
    assert (model / "3" / "model.py").exists() == (flavour == "embedded")


def test_both_flavours_differ_in_the_backend_alone(tmp_path: Path) -> None:
    configs = [configuration(write_repository(tmp_path / each, each)) for each in BACKENDS]
    for config in configs:
        config.backend = ""
    assert configs[0] == configs[1]


def test_writing_again_replaces_the_model(tmp_path: Path) -> None:
    write_repository(tmp_path, "embedded", version=1)
    write_repository(tmp_path, "container", version=2)
    assert sorted(str(each.relative_to(tmp_path)) for each in tmp_path.rglob("*.*")) == [
        "critic/2/model.onnx",
        "critic/config.pbtxt",
    ]


def test_a_network_that_is_not_that_of_the_card_is_refused(tmp_path: Path) -> None:
    weights = tmp_path / "weights"
    shutil.copytree(WEIGHTS, weights)
    network = weights / "critic.onnx"
    network.write_bytes(network.read_bytes() + b"\0")
    with pytest.raises(ValueError, match="its card says"):
        write_repository(tmp_path / "models", "embedded", weights=weights)


def test_a_missing_network_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"critic\.onnx is missing; train it"):
        write_repository(tmp_path / "models", "embedded", weights=tmp_path)


def test_an_unknown_flavour_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="none of embedded, container"):
        write_repository(tmp_path, "cloud")  # type: ignore[arg-type]


def test_the_calibration_is_the_one_of_the_card() -> None:
    card = json.loads((WEIGHTS / "critic.json").read_text())
    calibration = Calibration.from_json((WEIGHTS / "critic_calibration.json").read_text())
    assert card["calibration_id"] == calibration.calibration_id


def test_the_network_is_small() -> None:
    assert (WEIGHTS / "critic.onnx").stat().st_size < 2_000_000
