"""The refined redshift with its networks on a real Triton."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from deploy.local import LocalStack
from models import triton
from models.errors import ModelUnavailable
from models.refined import COLOURS, GATE, load_refined, refined_used
from models.repository import add_version, remove_version
from models.served_refined import ServedRefined, refined_networks
from models.simulator import simulate
from processors.fingerprint import build
from processors.redshift import ConventionalRedshift
from schemas.events import Fingerprint, RedshiftPosterior
from schemas.records import to_record

from ..networks import documented

VERSIONS = (1, 1)


@pytest.fixture(scope="module")
def served(triton_url: str) -> Iterator[ServedRefined]:
    networks = refined_networks(triton_url, deadline_s=20.0)
    with closing(ServedRefined(networks, ConventionalRedshift())) as made:
        yield made


@pytest.fixture(scope="module")
def galaxies() -> list[Fingerprint]:
    """Simulated galaxies with one observation each."""
    return [build(each.observation_id, [each]) for each in simulate(300, seed=11)]


def records(found: list[RedshiftPosterior | str]) -> list[object]:
    return [each if isinstance(each, str) else to_record(each) for each in found]


def test_a_galaxy_is_refined_alike_beside_whatever_others(
    served: ServedRefined, galaxies: list[Fingerprint]
) -> None:
    together = records(served.refine(galaxies, VERSIONS))
    asked = [row for row, each in enumerate(together) if not isinstance(each, str)]
    assert len(asked) > 129  # more than are asked together
    assert records(served.refine(galaxies[::-1], VERSIONS))[::-1] == together
    for count in (2, 7, 9):
        some = [galaxies[row] for row in asked[:count]]
        assert records(served.refine(some, VERSIONS)) == [together[row] for row in asked[:count]]
    for row in asked[:40]:
        assert records(served.refine([galaxies[row]], VERSIONS)) == [together[row]]


def test_the_networks_on_triton_are_the_packaged_ones(
    served: ServedRefined, galaxies: list[Fingerprint]
) -> None:
    expected = load_refined(ConventionalRedshift()).refine(galaxies)
    for one, other in zip(served.refine(galaxies, VERSIONS), expected, strict=True):
        if isinstance(one, str) or isinstance(other, str):
            assert one == other
            continue
        assert one.best == pytest.approx(other.best, abs=1e-3)
        assert one.grid_probability == pytest.approx(other.grid_probability, abs=1e-3)
        assert one.inputs == other.inputs
        assert np.isfinite(one.grid_probability).all()


def test_it_says_what_it_is_made_of(served: ServedRefined) -> None:
    weights, *networks = served.used(VERSIONS)
    assert weights == refined_used()
    assert [(each.name, each.version) for each in networks] == [(COLOURS, "1"), (GATE, "1")]
    assert {each.role for each in (weights, *networks)} == {"refined-redshift"}


def test_another_network_does_not_go_with_the_packaged_weights(
    stack: LocalStack, served: ServedRefined, tmp_path: Path
) -> None:
    repository = stack.triton.model_repository
    _, gate = served.networks
    number = add_version(repository, GATE, documented(tmp_path, GATE, GATE))
    try:
        triton.load(stack.triton_url, GATE)
        with pytest.raises(ModelUnavailable, match=f"{number} .*{GATE}.* does not belong .*add"):
            gate.require_usable(number)
        gate.require_usable(1)
    finally:
        remove_version(repository, GATE, number)
        triton.load(stack.triton_url, GATE)


def test_without_triton_it_says_so(galaxies: list[Fingerprint]) -> None:
    away = ServedRefined(
        refined_networks("127.0.0.1:9", deadline_s=0.5, retries=0), ConventionalRedshift()
    )
    with (
        closing(away),
        pytest.raises(ModelUnavailable, match=COLOURS),
    ):
        away.refine(galaxies, VERSIONS)
