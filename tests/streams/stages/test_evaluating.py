"""An evaluation may rest on a model on a real Triton, which the stage asks for it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from prometheus_client import generate_latest

from mmbroker.deploy.local import LocalStack
from mmbroker.models.serving import triton
from mmbroker.models.serving.repository import add_version, remove_version
from mmbroker.models.simulation.observations import galaxy_number, simulate
from mmbroker.processors.evaluations import Evaluated, Evaluation, Subject
from mmbroker.processors.evaluations.interface import Arrays
from mmbroker.processors.evaluations.reproducibility import Reproducibility
from mmbroker.processors.fingerprint.merge import build, empty
from mmbroker.processors.fingerprint.vector import condition, vectors
from mmbroker.schemas.codec import Codec
from mmbroker.schemas.events import Fingerprint, ModelUsed, Observation, ScoredGalaxy
from mmbroker.streams.errors import InfrastructureError
from mmbroker.streams.operating.verify import Comparison, verify_score
from mmbroker.streams.settings import Settings, TritonSettings
from mmbroker.streams.stages.clients import (
    make_evaluation_models,
)
from mmbroker.streams.stages.evaluating import ROLE
from mmbroker.streams.stages.score_galaxies import ScoreGalaxies
from mmbroker.streams.stages.scorers import Scorers
from mmbroker.streams.store import LMDBStore
from mmbroker.streams.topics import Topics
from tests.endpoint import by_label, samples
from tests.networks import SHIFT, shifted_critic, withdrawn

codec = Codec()


class Realism(Evaluation):
    """How real the critic finds a galaxy; asks only of those of which something was observed."""

    name = "realism"

    def __init__(self, identity: str = "table 1", model: str = "critic") -> None:
        self.identity = identity
        self.model = model

    def question(self, subjects: Sequence[Subject]) -> Arrays:
        seen = vectors([each.fingerprint for each in subjects])
        rows = np.flatnonzero(seen.observed)
        given = condition([subjects[row].redshift for row in rows])
        return {"values": seen.values[rows], "mask": seen.mask[rows], "condition": given}

    def evaluate(
        self, subjects: Sequence[Subject], answer: Arrays | None = None
    ) -> list[Evaluated]:
        seen = vectors([each.fingerprint for each in subjects]).observed
        outputs = iter([] if answer is None else answer["critic"][:, 0].tolist())
        return [
            Evaluated(1 / (1 + float(np.exp(-next(outputs)))), "asked")
            if there
            else Evaluated(None, "absent: nothing was observed")
            for there in seen
        ]


@pytest.fixture(scope="module")
def galaxies() -> list[tuple[Fingerprint, bytes]]:
    observations: dict[int, list[Observation]] = defaultdict(list)
    for each in simulate(12, seed=4):
        observations[galaxy_number(each.observation_id)].append(each)
    made = [build(f"mm-{number}", several) for number, several in observations.items()]
    return [(each, codec.encode(each)) for each in (empty("mm-empty"), *made)]


@pytest.fixture
def make_stage(triton_url: str, tmp_path: Path) -> Iterator[Callable[..., ScoreGalaxies]]:
    settings = Settings(triton=TritonSettings(url=triton_url, retries=0))
    stores: list[LMDBStore] = []

    def make(*evaluations: Evaluation) -> ScoreGalaxies:
        stores.append(LMDBStore(tmp_path / str(len(stores))))
        models = make_evaluation_models(settings, evaluations)
        scorers = Scorers(settings, evaluations)
        return ScoreGalaxies(stores[-1], Topics(), codec, scorers, critic=None, models=models)

    yield make
    for store in stores:
        store.close()


def of(galaxy: ScoredGalaxy, name: str) -> float | None:
    return next(each.score for each in galaxy.evaluations if each.name == name)


def answering(galaxy: ScoredGalaxy) -> list[ModelUsed]:
    """The models that answer the evaluations of a galaxy."""
    return [each for each in galaxy.models if each.role.startswith(ROLE)]


def test_the_stage_asks_for_it_and_says_which_model_answered(
    make_stage: Callable[..., ScoreGalaxies], galaxies: list[tuple[Fingerprint, bytes]]
) -> None:
    stage = make_stage(Realism(), Reproducibility())
    stage.probe()
    nothing, *seen = stage.score(galaxies)
    assert of(nothing, "realism") is None
    assert len({of(each, "realism") for each in seen}) == len(seen) > 3
    (used,) = answering(seen[0])
    assert (used.role, used.name, used.version, len(used.sha256)) == (
        "evaluation: realism",
        "critic",
        "1",
        64,
    )
    assert all(each.weight == pytest.approx(0.5) for each in seen[0].evaluations)


def test_a_score_is_the_same_to_the_bit_whatever_the_batch(
    make_stage: Callable[..., ScoreGalaxies], galaxies: list[tuple[Fingerprint, bytes]]
) -> None:
    stage = make_stage(Realism(), Reproducibility())
    together = [codec.encode(each) for each in stage.score(galaxies)]
    alone = [codec.encode(stage.score([each])[0]) for each in galaxies]
    assert alone == together


def test_nothing_is_asked_where_no_row_is_and_the_model_in_force_is_named(
    make_stage: Callable[..., ScoreGalaxies], galaxies: list[tuple[Fingerprint, bytes]]
) -> None:
    stage = make_stage(Realism())
    (nothing,) = stage.score(galaxies[:1])
    scrape = samples(generate_latest(stage.metrics.registry).decode())
    assert by_label(scrape, "mmbroker_triton_request_seconds_count", "model") == {"critic": 0}
    assert of(nothing, "realism") is None
    assert [each.version for each in answering(nothing)] == ["1"]


def test_another_identity_is_another_score(
    make_stage: Callable[..., ScoreGalaxies], galaxies: list[tuple[Fingerprint, bytes]]
) -> None:
    one, again, other = (
        make_stage(Realism(table)).score(galaxies[1:2])[0]
        for table in ("table 1", "table 1", "table 2")
    )
    assert of(one, "realism") == of(other, "realism")
    assert one.provenance.scorer_hash == again.provenance.scorer_hash
    assert one.provenance.scorer_hash != other.provenance.scorer_hash


def test_a_model_that_is_not_served_is_waited_for_and_named(
    make_stage: Callable[..., ScoreGalaxies], galaxies: list[tuple[Fingerprint, bytes]]
) -> None:
    stage = make_stage(Realism(model="nobody"))
    with pytest.raises(InfrastructureError, match="does not serve version 1 of model 'nobody'"):
        stage.probe()
    with pytest.raises(InfrastructureError, match="'nobody'"):
        stage.score(galaxies[1:2])


# Verifying ----------------------------------------------------------------------------------------


@pytest.fixture
def judge(stack: LocalStack, tmp_path: Path) -> Iterator[str]:
    """A model of its own with versions 1 and 2, which tests may remove."""
    name = "judge_of_evaluations"
    for number in (1, 2):
        folder = shifted_critic(tmp_path / f"version {number}", number * SHIFT, name)
        assert add_version(stack.triton.model_repository, name, folder) == number
    triton.load(stack.triton_url, name)
    yield name
    withdrawn(stack, name)


def test_a_score_verifies_while_the_version_that_answered_is_served(
    make_stage: Callable[..., ScoreGalaxies],
    galaxies: list[tuple[Fingerprint, bytes]],
    stack: LocalStack,
    judge: str,
) -> None:
    evaluations = [Realism(model=judge), Reproducibility()]
    stage = make_stage(*evaluations)
    use(stage, judge, 2)
    taken = galaxies[:2]  # nothing was observed of the first
    scores = stage.score(taken)
    use(stage, judge, 1)
    settings = Settings(triton=TritonSettings(url=stack.triton_url, critic=""))

    def verified() -> list[Comparison]:
        return [
            verify_score(settings, stage.store, codec, score, encoded, evaluations)
            for score, (_, encoded) in zip(scores, taken, strict=True)
        ]

    assert all(each.same for each in verified())
    remove_version(stack.triton.model_repository, judge, 2)
    triton.load(stack.triton_url, judge)
    gone = answering(scores[0])[0].sha256
    for each in verified():
        assert not each.same
        assert f"(model {gone} is not)" in each.detail


def use(stage: ScoreGalaxies, model: str, version: int) -> None:
    with stage.store.writing() as writing:
        writing.use_model(model, version)
