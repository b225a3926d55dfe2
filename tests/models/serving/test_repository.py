"""The model repository that Triton serves."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import TYPE_FP32, TYPE_INT64, ModelConfig

from mmbroker.models.packaged.networks import (
    MAX_BATCH_SIZE,
    PACKAGED,
    WEIGHTS,
    Card,
    identity,
    probe_shapes,
    read_model,
)
from mmbroker.models.serving.repository import (
    BACKENDS,
    Flavour,
    add_version,
    parameter_of,
    provide,
    remove_version,
    versions,
)
from mmbroker.processors.features.patches import PATCH
from mmbroker.processors.fingerprint import vector
from mmbroker.processors.scoring.calibration import Calibration
from tests.networks import SHIFT, documented, shifted_critic


def configuration(model: Path) -> ModelConfig:
    return text_format.Parse((model / "config.pbtxt").read_text(), ModelConfig())


def card_of(config: ModelConfig, version: int) -> Card:
    card: Card = json.loads(config.parameters[parameter_of(version)].string_value)
    return card


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    provide(tmp_path / "models", "embedded")
    return tmp_path / "models"


@pytest.mark.parametrize("flavour", list(BACKENDS))
def test_the_configuration_is_that_of_triton(tmp_path: Path, flavour: Flavour) -> None:
    provide(tmp_path, flavour)
    config = configuration(tmp_path / "critic")
    assert config.backend == BACKENDS[flavour]
    assert config.max_batch_size >= 512
    assert config.HasField("dynamic_batching")
    assert config.version_policy.HasField("all")
    assert {each.name: list(each.dims) for each in config.input} == {
        "values": [vector.LENGTH],
        "mask": [vector.LENGTH],
        "condition": [vector.REDSHIFT_CELLS],
    }
    assert [(each.name, list(each.dims)) for each in config.output] == [("critic", [1])]


@pytest.mark.parametrize("flavour", list(BACKENDS))
def test_every_packaged_model_is_there_with_its_card(tmp_path: Path, flavour: Flavour) -> None:
    provide(tmp_path, flavour)
    for name in PACKAGED:
        network = (tmp_path / name / "1" / "model.onnx").read_bytes()
        card = card_of(configuration(tmp_path / name), 1)
        assert card["sha256"] == hashlib.sha256(network).hexdigest()
        assert card == read_model(WEIGHTS, name)[1]
        assert (tmp_path / name / "1" / "model.py").exists() == (flavour == "embedded")


def test_both_flavours_differ_in_the_backend_alone(tmp_path: Path) -> None:
    configs = []
    for each in BACKENDS:
        provide(tmp_path / each, each)
        configs.append(configuration(tmp_path / each / "critic"))
        configs[-1].backend = ""
    assert configs[0] == configs[1]


def test_shapes_that_vary_and_other_data_types_come_from_the_card(tmp_path: Path) -> None:
    folder = shifted_critic(tmp_path / "new", 0.0, "parser")
    path = folder / "parser.json"
    card = json.loads(path.read_text())
    card["inputs"] = {"tokens": {"shape": [-1], "dtype": "INT64"}, "spectrum": [-1, 2]}
    path.write_text(json.dumps(card))
    add_version(tmp_path / "models", "parser", folder, "container")
    config = configuration(tmp_path / "models" / "parser")
    assert [(each.name, each.data_type, list(each.dims)) for each in config.input] == [
        ("tokens", TYPE_INT64, [-1]),
        ("spectrum", TYPE_FP32, [-1, 2]),
    ]


def test_a_version_is_written_beside_the_others(repository: Path, tmp_path: Path) -> None:
    before = contents(repository / "critic" / "1")
    source = shifted_critic(tmp_path / "new", SHIFT)
    assert add_version(repository, "critic", source) == 2
    assert contents(repository / "critic" / "1") == before
    config = configuration(repository / "critic")
    cards = versions(repository, "critic")
    assert {number: card_of(config, number) for number in (1, 2)} == cards
    assert len(set(map(identity, cards.values()))) == 2
    calibration = Calibration.from_json((source / "critic_calibration.json").read_text())
    assert identity(cards[2])[1] == calibration.calibration_id


def test_what_is_there_is_not_added_again(repository: Path, tmp_path: Path) -> None:
    source = shifted_critic(tmp_path / "new", SHIFT)
    assert add_version(repository, "critic", source) == 2
    before = contents(repository)
    assert add_version(repository, "critic", source) == 2
    assert add_version(repository, "critic", WEIGHTS) == 1
    provide(repository, "embedded")
    assert contents(repository) == before


def test_a_version_that_is_removed_leaves_nothing(repository: Path, tmp_path: Path) -> None:
    before = contents(repository)
    remove_version(
        repository, "critic", add_version(repository, "critic", shifted_critic(tmp_path, SHIFT))
    )
    assert contents(repository) == before
    source = shifted_critic(tmp_path / "other", SHIFT, "other")
    remove_version(repository, "other", add_version(repository, "other", source))
    assert contents(repository) == before


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(each.relative_to(folder)): each.read_bytes()
        for each in folder.rglob("*")
        if each.is_file()
    }


def test_new_packaged_weights_become_the_next_version(repository: Path, tmp_path: Path) -> None:
    weights = shifted_critic(tmp_path / "weights", SHIFT)
    provide(repository, "embedded", weights, ["critic"])
    assert list(versions(repository, "critic")) == [1, 2]


def test_packaged_weights_with_other_inputs_take_the_place_of_the_former(
    repository: Path, tmp_path: Path
) -> None:
    weights = other_inputs(shifted_critic(tmp_path / "weights", SHIFT))
    provide(repository, "embedded", weights, ["critic"])
    (card,) = versions(repository, "critic").values()
    assert card == read_model(weights, "critic")[1]


def appended(folder: Path) -> Path:
    path = folder / "critic.onnx"
    path.write_bytes(path.read_bytes() + b"\0")
    return folder


def without(name: str) -> Callable[[Path], Path]:
    def remove(folder: Path) -> Path:
        (folder / name).unlink()
        return folder

    return remove


def changed(**entries: object) -> Callable[[Path], Path]:
    def change(folder: Path) -> Path:
        path = folder / "critic.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **entries}))
        return folder

    return change


def linked(name: str) -> Callable[[Path], Path]:
    def link(folder: Path) -> Path:
        (folder / name).rename(folder / "elsewhere")
        (folder / name).symlink_to(folder / "elsewhere")
        return folder

    return link


def deep(folder: Path) -> Path:
    (folder / "critic.json").write_text("[" * 100_000)
    return folder


def other_inputs(folder: Path) -> Path:
    return changed(inputs={"values": [584], "mask": [584], "condition": [33]})(folder)


def other_calibration(folder: Path) -> Path:
    shutil.copyfile(WEIGHTS / "critic_calibration.json", folder / "critic_calibration.json")
    return folder


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (without("critic.onnx"), r"critic\.onnx is missing"),
        (without("critic.json"), r"critic\.json is missing"),
        (without("critic_calibration.json"), r"critic_calibration\.json is missing"),
        (appended, "its card says"),
        (other_inputs, r"condition FP32\[33\].* are not those of version 1 .*FP32\[32\]"),
        (other_calibration, "is calibration [0-9a-f]{16}, the card names"),
        (changed(name="generator"), "the card of model 'generator', not of 'critic'"),
        (changed(inputs={"values": [0]}), r"shape of 'values': \[0\]"),
        (changed(inputs={"values": {"shape": [1], "dtype": "FP8"}}), "'FP8' of 'values'"),
        (changed(inputs=None), "not the card of a model"),
        (changed(inputs={}), "0 inputs"),
        (changed(inputs={f"x{number}": [1] for number in range(99)}), "99 inputs"),
        (changed(inputs={'x" dims: [1] } ] #': [4]}), "use letters, digits"),
        (changed(outputs={"y\nz": [4]}), "use letters, digits"),
        (changed(outputs={"y": [2**40]}), "from 1 to 1,048,576"),
        (changed(outputs={"y": [True]}), "not of numbers"),
        (changed(inputs={"x": {"shape": [-1], "dtype": "FP32", "probe": [10**9]}}), "probe of 'x'"),
        (changed(max_batch_size="1 } #"), "max_batch_size '1 } #'"),
        (changed(max_batch_size=10**9), "max_batch_size 1000000000"),
        (changed(trained_on="x" * 2**21), "bytes, more than"),
        (deep, "not the card of a model"),
        (linked("critic.onnx"), r"critic\.onnx is a link"),
        (linked("critic.json"), r"critic\.json is a link"),
        (linked("critic_calibration.json"), r"critic_calibration\.json is a link"),
    ],
)
def test_what_does_not_belong_together_is_refused_and_changes_nothing(
    repository: Path, tmp_path: Path, spoil: Callable[[Path], Path], problem: str
) -> None:
    before = contents(repository)
    source = spoil(shifted_critic(tmp_path / "new", SHIFT))
    with pytest.raises((ValueError, FileNotFoundError), match=problem):
        add_version(repository, "critic", source)
    assert contents(repository) == before


def test_a_model_has_the_name_of_a_folder(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="lower-case letters"):
        add_version(tmp_path, "../critic", WEIGHTS, "embedded")


def test_a_repository_is_of_one_flavour(repository: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is embedded, not container"):
        provide(repository, "container")
    with pytest.raises(ValueError, match="none of embedded, container"):
        provide(tmp_path, "cloud")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="is empty"):
        add_version(tmp_path / "nothing", "critic", WEIGHTS)


def test_the_networks_are_small() -> None:
    assert all((WEIGHTS / f"{name}.onnx").stat().st_size < 2_000_000 for name in PACKAGED)


def test_a_parser_is_tried_with_lengths_that_go_together(repository: Path) -> None:
    _, card = read_model(WEIGHTS, "parser")
    shapes = probe_shapes(card)
    assert shapes["channels"][0] == PATCH * shapes["patches"][0] == PATCH * shapes["present"][0]
    assert probe_shapes(read_model(WEIGHTS, "critic")[1])["values"] == [vector.LENGTH]
    config = configuration(repository / "parser")
    assert {each.name: each.dims[0] for each in config.input} == dict.fromkeys(shapes, -1)
    assert config.HasField("dynamic_batching")
    assert config.max_batch_size == card["max_batch_size"] < MAX_BATCH_SIZE


@pytest.mark.parametrize("said", [None, ["a"], "a"])
def test_a_calibration_on_the_card_is_an_object(tmp_path: Path, said: object) -> None:
    folder = documented(tmp_path, "parser")
    card = json.loads((folder / "parser.json").read_text())
    (folder / "parser.json").write_text(json.dumps({**card, "calibration": said}))
    with pytest.raises(
        ValueError, match=r"parser\.json is not the card .*calibration .* no object"
    ):
        read_model(folder, "parser")


def test_a_calibration_on_the_card_makes_a_version_of_its_own(tmp_path: Path) -> None:
    repository = tmp_path / "models"
    first = documented(tmp_path / "first", "reader")
    second = documented(tmp_path / "second", "reader", detection_logit=3.0)
    assert add_version(repository, "reader", first, "container") == 1
    assert add_version(repository, "reader", second) == 2
    assert add_version(repository, "reader", first) == 1
    cards = versions(repository, "reader")
    assert cards[1]["sha256"] == cards[2]["sha256"]
    assert identity(cards[1]) != identity(cards[2])
    assert cards[2]["calibration"]["detection_logit"] == 3.0
