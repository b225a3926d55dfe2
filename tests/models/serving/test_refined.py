"""The refined redshift with its networks on a real Triton."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
import pytest

from mmbroker.deploy.local import LocalStack
from mmbroker.models.packaged.networks import WEIGHTS
from mmbroker.models.packaged.refined import BESIDE, COLOURS, GATE, TRAINING, Beside, load_refined
from mmbroker.models.serving import triton
from mmbroker.models.serving.errors import ModelUnavailable
from mmbroker.models.serving.refined import (
    RefinedNetworkClient,
    RefinedRedshiftClient,
    refined_networks,
)
from mmbroker.models.serving.repository import add_version, remove_version
from mmbroker.models.simulation.observations import simulate
from mmbroker.processors.fingerprint.merge import build
from mmbroker.processors.redshift import ConventionalRedshift
from mmbroker.processors.redshift.refined import Fallback
from mmbroker.schemas.events import Fingerprint, RedshiftPosterior
from mmbroker.schemas.records import to_record
from tests.networks import documented

VERSIONS = (1, 1)


@pytest.fixture
def served(triton_url: str) -> Iterator[RefinedRedshiftClient]:
    """Made anew: a client remembers what the versions are that it asked."""
    networks = refined_networks(triton_url, deadline_s=20.0)
    with closing(RefinedRedshiftClient(networks, ConventionalRedshift())) as made:
        yield made


@pytest.fixture(scope="module")
def galaxies() -> list[Fingerprint]:
    """Simulated galaxies with one observation each."""
    return [build(each.observation_id, [each]) for each in simulate(300, seed=11)]


def records(found: list[RedshiftPosterior | Fallback]) -> list[object]:
    return [each if isinstance(each, Fallback) else to_record(each) for each in found]


def test_a_galaxy_is_refined_alike_beside_whatever_others(
    served: RefinedRedshiftClient, galaxies: list[Fingerprint]
) -> None:
    together = records(served.refine(galaxies, VERSIONS))
    asked = [row for row, each in enumerate(together) if not isinstance(each, Fallback)]
    assert len(asked) > 129  # more than are asked together
    assert records(served.refine(galaxies[::-1], VERSIONS))[::-1] == together
    for count in (2, 7, 9):
        some = [galaxies[row] for row in asked[:count]]
        assert records(served.refine(some, VERSIONS)) == [together[row] for row in asked[:count]]
    for row in asked[:40]:
        assert records(served.refine([galaxies[row]], VERSIONS)) == [together[row]]


def test_the_networks_on_triton_are_the_packaged_ones(
    served: RefinedRedshiftClient, galaxies: list[Fingerprint]
) -> None:
    expected = load_refined(ConventionalRedshift()).refine(galaxies)
    for one, other in zip(served.refine(galaxies, VERSIONS), expected, strict=True):
        if isinstance(one, Fallback) or isinstance(other, Fallback):
            assert one == other
            continue
        assert one.best == pytest.approx(other.best, abs=1e-3)
        assert one.grid_probability == pytest.approx(other.grid_probability, abs=1e-3)
        assert one.inputs == other.inputs
        assert np.isfinite(one.grid_probability).all()


def test_it_says_what_it_is_made_of(served: RefinedRedshiftClient) -> None:
    weights, *networks = served.used(VERSIONS)
    card = json.loads((WEIGHTS / "refined.json").read_text())
    assert (weights.name, weights.sha256) == (card["name"], card["sha256"])
    assert weights.version == str(card["version"])
    assert [(each.name, each.version) for each in networks] == [(COLOURS, "1"), (GATE, "1")]
    assert {each.role for each in (weights, *networks)} == {"refined-redshift"}


@contextmanager
def added(stack: LocalStack, folder: Path, model: str) -> Iterator[int]:
    """Another version of a model on Triton; its number."""
    repository = stack.triton.model_repository
    number = add_version(repository, model, folder)
    try:
        triton.load(stack.triton_url, model)
        yield number
    finally:
        remove_version(repository, model, number)
        triton.load(stack.triton_url, model)


def test_the_packaged_cards_say_what_belongs_beside_their_networks() -> None:
    card = json.loads((WEIGHTS / "refined.json").read_text())
    with np.load(WEIGHTS / "refined.npz") as weights:
        for model in (COLOURS, GATE):
            beside = json.loads((WEIGHTS / f"{model}.json").read_text())["calibration"]
            assert beside[TRAINING] == {name: card[name] for name in ("name", "version", "sha256")}
            assert beside["conventional"] == str(weights["conventional"])
            read = Beside.read(model, json.loads((WEIGHTS / f"{model}.json").read_text()))
            assert read.weights.keys() == BESIDE[model].keys()
            for name, array in read.weights.items():
                assert array.dtype == weights[name].dtype
                assert (array == weights[name]).all()


SEVEN = [1.0] * 7


@pytest.mark.parametrize(
    ("model", "name", "said"),
    [
        (COLOURS, "mean", "blue"),
        (COLOURS, "mean", ["1"] * 7),
        (COLOURS, "mean", [True] * 7),
        (COLOURS, "mean", [None, *SEVEN[1:]]),
        (COLOURS, "mean", SEVEN[1:]),
        (COLOURS, "mean", [SEVEN]),
        (COLOURS, "mean", [SEVEN, *SEVEN[1:]]),
        (COLOURS, "scatter", [0.0, *SEVEN[1:]]),
        (COLOURS, "lowest", [float("nan"), *SEVEN[1:]]),
        (COLOURS, "highest", [float("inf"), *SEVEN[1:]]),
        (COLOURS, "highest", [1e300, *SEVEN[1:]]),
        (COLOURS, "highest", [10**400, *SEVEN[1:]]),
        (COLOURS, "intervals", SEVEN),
        (COLOURS, "intervals", [22, 23, 24, 25, 26, 27, 38]),
        (COLOURS, "intervals", [-1, 23, 24, 25, 26, 27, 28]),
        (COLOURS, "intervals", [2**63, 23, 24, 25, 26, 27, 28]),
        (COLOURS, "fewest", 4.5),
        (COLOURS, "fewest", [4]),
        (COLOURS, "largest_disagreement", {}),
        (GATE, "sharpness", None),
        (GATE, "sharpness", [1.3]),
        (GATE, "sharpness", -1.3),
        (GATE, "sharpness", float("inf")),
        (GATE, "conventional", 105),
        (GATE, "training", "refined"),
        (GATE, "training", {"name": "refined", "version": 3}),
        (GATE, "training", {"name": "refined", "version": 3.5, "sha256": "0123"}),
        (GATE, "training", {"name": None, "version": 3, "sha256": "0123"}),
    ],
)
def test_a_card_that_says_what_cannot_be_is_refused_by_field_and_value(
    model: str, name: str, said: object
) -> None:
    card = json.loads((WEIGHTS / f"{model}.json").read_text())
    card["calibration"][name] = said
    with pytest.raises(ValueError, match=f"^says {name} = ") as refused:
        Beside.read(model, card)
    assert json.dumps(said)[:60] in str(refused.value)


@pytest.mark.parametrize("said", [None, [], "sharpness", {"sharpness": 1.3}])
def test_a_card_that_does_not_say_what_belongs_beside_its_network_is_refused(said: object) -> None:
    card = json.loads((WEIGHTS / f"{GATE}.json").read_text())
    card["calibration"] = said
    with pytest.raises(ValueError, match=r"does not say .*: training, conventional, sharpness"):
        Beside.read(GATE, card)


@pytest.mark.slow
def test_a_network_of_another_training_goes_with_its_own_settings_alone(
    stack: LocalStack, served: RefinedRedshiftClient, galaxies: list[Fingerprint], tmp_path: Path
) -> None:
    training = {"name": "refined", "version": 6, "sha256": "0123"}
    colours = documented(tmp_path, COLOURS, COLOURS, training=training)
    gate = documented(tmp_path, GATE, GATE, training=training, sharpness=4.0)
    with added(stack, colours, COLOURS) as one, added(stack, gate, GATE) as other:
        for network, number in zip(served.networks, (one, other), strict=True):
            network.require_usable(number)
            assert network.of_training(training) == [number]
        served.require_together((one, other))
        with pytest.raises(ModelUnavailable, match=r"two trainings .*refined 5 .*refined 6 0123"):
            served.require_together((1, other))
        assert served.used((one, other))[0].sha256 == "0123"
        before, after = (served.refine(galaxies[:60], each) for each in (VERSIONS, (one, other)))
    widths = [
        [
            each.interval_68.upper - each.interval_68.lower
            for each in found
            if not isinstance(each, Fallback)
        ]
        for found in (before, after)
    ]
    assert len(widths[0]) == len(widths[1]) > 10
    assert np.median(np.divide(widths[1], widths[0])) < 0.7  # sharpened more


def test_a_network_for_another_conventional_redshift_is_not_usable(
    stack: LocalStack, served: RefinedRedshiftClient, tmp_path: Path
) -> None:
    _, gate = served.networks
    folder = documented(tmp_path, GATE, GATE, conventional="4567")
    with (
        added(stack, folder, GATE) as number,
        pytest.raises(ModelUnavailable, match=f"version {number} .*{GATE}.* 4567 .*models add"),
    ):
        gate.require_usable(number)
    gate.require_usable(1)


def test_a_version_whose_card_cannot_be_used_is_unavailable(
    stack: LocalStack, served: RefinedRedshiftClient, galaxies: list[Fingerprint], tmp_path: Path
) -> None:
    _, gate = served.networks
    training = gate.beside(1).training
    folder = documented(tmp_path, GATE, GATE, sharpness=[1.3, 1.3])
    with added(stack, folder, GATE) as number:
        said = rf"version {number} .*{GATE}.* says sharpness = \[1.3, 1.3\], not one finite number"
        for asked in (
            lambda: gate.require_usable(number),
            lambda: served.require_together((1, number)),
            lambda: served.refine(galaxies[:3], (1, number)),
        ):
            with pytest.raises(ModelUnavailable, match=said):
                asked()
        assert gate.of_training(training) == [1]
        assert served.used(VERSIONS)


@pytest.mark.slow
def test_what_was_served_before_cards_said_it_is_the_packaged_network(
    stack: LocalStack, served: RefinedRedshiftClient, tmp_path: Path
) -> None:
    _, gate = served.networks
    for name in (f"{GATE}.onnx", f"{GATE}.json"):
        (tmp_path / name).write_bytes((WEIGHTS / name).read_bytes())
    card = json.loads((tmp_path / f"{GATE}.json").read_text())
    del card["calibration"]
    (tmp_path / f"{GATE}.json").write_text(json.dumps(card))
    with added(stack, tmp_path, GATE) as number:
        served.require_together((1, number))
        gate.require_usable(number)
    other = documented(tmp_path / "other", GATE, GATE)
    (other / f"{GATE}.json").write_text(
        json.dumps({**card, "sha256": json.loads((other / f"{GATE}.json").read_text())["sha256"]})
    )
    with (
        closing(RefinedNetworkClient(stack.triton_url, GATE)) as asking_anew,
        added(stack, other, GATE) as number,
        pytest.raises(ModelUnavailable, match=f"version {number} .* does not say .*sharpness"),
    ):
        asking_anew.require_usable(number)


def test_without_triton_it_says_so(galaxies: list[Fingerprint]) -> None:
    away = RefinedRedshiftClient(
        refined_networks("127.0.0.1:9", deadline_s=0.5, retries=0), ConventionalRedshift()
    )
    with (
        closing(away),
        pytest.raises(ModelUnavailable, match=COLOURS),
    ):
        away.refine(galaxies, VERSIONS)
