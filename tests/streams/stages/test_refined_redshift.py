"""Scored galaxies carry the refined redshift beside the one in force."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from prometheus_client import generate_latest

from mmbroker.deploy.local import LocalStack
from mmbroker.models.packaged.refined import COLOURS, GATE
from mmbroker.models.serving import repository, triton
from mmbroker.models.serving.refined import RefinedRedshiftClient, refined_networks
from mmbroker.models.serving.repository import add_version, remove_version
from mmbroker.models.simulation.observations import simulate
from mmbroker.processors.fingerprint.merge import build
from mmbroker.processors.redshift import ConventionalRedshift
from mmbroker.schemas.events import ScoredGalaxy
from mmbroker.streams.errors import InfrastructureError
from mmbroker.streams.names import SCORE_GALAXIES
from mmbroker.streams.settings import Settings
from mmbroker.streams.stages.metrics import StageMetrics
from mmbroker.streams.stages.refining import Refining
from mmbroker.streams.store import LMDBStore, open_store
from tests.conftest import Broker, wait_until
from tests.endpoint import Endpoint, by_label, samples
from tests.networks import documented


@pytest.fixture(scope="module")
def refining(make_broker: Callable[..., Broker]) -> Broker:
    """A broker that has scored some galaxies."""
    broker = make_broker()
    broker.publish(simulate(60, seed=91))
    return broker


@pytest.fixture(scope="module")
def galaxies(refining: Broker) -> list[ScoredGalaxy]:
    """The newest score of each galaxy."""
    newest = {each.key: each.galaxy for each in refining.read("scored") if each.galaxy}
    return list(newest.values())


def one_refined(galaxies: list[ScoredGalaxy]) -> ScoredGalaxy:
    return next(each for each in galaxies if each.refined_redshift is not None)


def one_not_refined(galaxies: list[ScoredGalaxy]) -> ScoredGalaxy:
    return next(each for each in galaxies if each.refined_redshift is None)


@pytest.mark.slow
def test_galaxies_carry_both_redshifts(galaxies: list[ScoredGalaxy]) -> None:
    for galaxy in (one_refined(galaxies), one_not_refined(galaxies)):
        assert galaxy.redshift is None or "refined" not in galaxy.redshift.inputs
        used = [each for each in galaxy.models if each.role == "refined-redshift"]
        assert [each.name for each in used] == ["refined", COLOURS, GATE]
        assert used[0].version == "5"
    assert one_refined(galaxies).refined_redshift_reason == ""
    assert one_not_refined(galaxies).refined_redshift_reason.startswith("conventional: ")
    refined = one_refined(galaxies).refined_redshift
    assert refined is not None
    assert refined.inputs[-1] == "refined"
    assert refined.grid_probability.sum() == pytest.approx(1, abs=1e-3)


@pytest.mark.slow
def test_galaxies_verify_with_and_without_a_refined_redshift(
    refining: Broker, galaxies: list[ScoredGalaxy]
) -> None:
    for galaxy in (one_refined(galaxies), one_not_refined(galaxies)):
        assert refining.command("verify", galaxy.galaxy_id).stdout.count("identical") == 2


@pytest.mark.slow
def test_what_was_refined_verifies_after_it_is_switched_off(
    refining: Broker, galaxies: list[ScoredGalaxy]
) -> None:
    environment = {**refining.environment, "MMBROKER_TRITON__REFINED_REDSHIFT": "false"}
    off = Broker(refining.settings, environment, refining.process)
    assert off.command("verify", one_refined(galaxies).galaxy_id).stdout.count("identical") == 2


@pytest.mark.slow
def test_both_networks_are_switched_together_without_a_restart(
    refining: Broker, stack: LocalStack, tmp_path: Path
) -> None:
    endpoint = Endpoint(refining.settings, "score-galaxies")
    started = endpoint.scrape()["process_start_time_seconds", frozenset()]
    training = {"name": "refined", "version": 5, "sha256": "0123"}
    folder = documented(tmp_path, COLOURS, COLOURS, training=training)
    documented(tmp_path, GATE, GATE, training=training, sharpness=4.0)
    try:
        refining.command("models", "add", GATE, str(folder))
        refused = refining.command("models", "use", GATE, "2", check=False)
        assert refused.returncode == 1
        assert f"serves no {COLOURS} of it" in " ".join(refused.stderr.split())
        refining.command("models", "add", COLOURS, str(folder))
        said = refining.command("models", "use", GATE, "2").stdout
        assert f"{GATE} version 2 is in force, it was 1" in said
        assert f"{COLOURS} version 2 is in force, it was 1" in said
        before = {each.key for each in refining.read("scored")}
        refining.publish(simulate(60, seed=92))
        new = [each for each in refining.read("scored") if each.key not in before]
        found = [each.galaxy for each in new if each.galaxy is not None]
        for galaxy in (one_refined(found), one_not_refined(found)):
            used = [each for each in galaxy.models if each.role == "refined-redshift"]
            assert [each.version for each in used] == ["5", "2", "2"]
        assert (
            refining.command("verify", one_refined(found).galaxy_id).stdout.count("identical") == 2
        )
        scrape = endpoint.scrape()
        assert scrape["process_start_time_seconds", frozenset()] == started
        versions = by_label(scrape, "mmbroker_model_version", "model")
        assert (versions[COLOURS], versions[GATE]) == (2, 2)
        said = refining.command("models", "use", COLOURS, "1").stdout
        assert f"{GATE} version 1 is in force, it was 2" in said
    finally:
        for name in (COLOURS, GATE):
            for number in versions_beyond_the_first(stack, name):
                remove_version(stack.triton.model_repository, name, number)
            triton.load(stack.triton_url, name)


def versions_beyond_the_first(stack: LocalStack, name: str) -> list[int]:
    return [each for each in repository.versions(stack.triton.model_repository, name) if each > 1]


@pytest.mark.slow
def test_the_refined_redshift_is_shown_as_not_in_force(
    refining: Broker, galaxies: list[ScoredGalaxy]
) -> None:
    galaxy = one_refined(galaxies)
    assert galaxy.refined_redshift is not None
    said = " ".join(refining.command("explain", galaxy.galaxy_id).stdout.split())
    assert f"refined, not in force: z = {galaxy.refined_redshift.best:.4f}" in said
    assert f"{COLOURS} 1," in said
    said = refining.command("explain", one_not_refined(galaxies).galaxy_id).stdout
    assert "refined: none, it would be conventional: " in said


@pytest.mark.slow
def test_check_and_metrics_tell_of_the_networks(refining: Broker) -> None:
    said = " ".join(refining.command("check").stdout.split())
    for model in (COLOURS, GATE):
        assert f"model {model} version 1 in force" in said
    endpoint = Endpoint(refining.settings, "score-galaxies")

    def both_are_the_first() -> bool:
        versions = by_label(endpoint.scrape(), "mmbroker_model_version", "model")
        return (versions[COLOURS], versions[GATE]) == (1, 1)

    # A stage looks every few seconds, and with every batch.
    wait_until(both_are_the_first, "another version is said to be in force")
    scrape = endpoint.scrape()
    asked = by_label(scrape, "mmbroker_triton_request_seconds_count", "model")
    assert min(asked[COLOURS], asked[GATE]) > 0
    parts = by_label(scrape, "mmbroker_batch_part_seconds_total", "part")
    assert {"templates", "refined-redshift"} < parts.keys()


@pytest.mark.slow
def test_networks_whose_cards_cannot_be_used_are_refused(
    refining: Broker, stack: LocalStack, tmp_path: Path
) -> None:
    before = repository.versions(stack.triton.model_repository, GATE)
    for said, shown in ((["sharp"], '["sharp"]'), (float("nan"), "NaN")):
        folder = documented(tmp_path, GATE, GATE, sharpness=said)
        refused = refining.command("models", "add", GATE, str(folder), check=False)
        assert refused.returncode == 1
        assert f"says sharpness = {shown}, not" in " ".join(refused.stderr.split())
        assert "Traceback" not in refused.stderr
        assert repository.versions(stack.triton.model_repository, GATE) == before


@pytest.mark.slow
def test_a_network_in_force_whose_card_cannot_be_used_is_waited_for(
    refining: Broker, stack: LocalStack, tmp_path: Path
) -> None:
    """It was added by other means than the command, which would have refused it."""
    directory, endpoint = stack.triton.model_repository, Endpoint(refining.settings, SCORE_GALAXIES)
    folder = documented(tmp_path, COLOURS, COLOURS, mean=["blue"] * 7)
    number = add_version(directory, COLOURS, folder)
    try:
        triton.load(stack.triton_url, COLOURS)
        refused = refining.command("models", "use", COLOURS, str(number), check=False)
        assert refused.returncode == 1
        assert "says mean = " in refused.stderr
        use_unasked(refining.settings, COLOURS, number)
        endpoint.wait(503, "says mean = ")
        received = refining.ledger()[0].received
        observations = list(simulate(5, seed=93))
        refining.publish(observations, settle=False)
        use_unasked(refining.settings, COLOURS, 1)
        endpoint.wait(200)
        refining.settle(received + len(observations))
    finally:
        remove_version(directory, COLOURS, number)
        triton.load(stack.triton_url, COLOURS)


def use_unasked(settings: Settings, model: str, version: int) -> None:
    """Put a version in force without a look at it."""
    with closing(open_store(settings)) as store, store.writing() as writing:
        writing.use_model(model, version)


def test_without_its_networks_nothing_is_refined_and_it_is_counted(tmp_path: Path) -> None:
    metrics, store = StageMetrics("s"), LMDBStore(tmp_path)
    galaxies = [build(each.observation_id, [each]) for each in simulate(3, seed=1)]
    away = RefinedRedshiftClient(
        refined_networks("127.0.0.1:9", deadline_s=0.5, retries=0), ConventionalRedshift()
    )
    with closing(away):
        refining = Refining(away, store, metrics)
        with pytest.raises(InfrastructureError, match=COLOURS):
            refining.probe()
        with pytest.raises(InfrastructureError, match=COLOURS):
            refining.refine(galaxies)
    store.close()
    scrape = samples(generate_latest(metrics.registry).decode())
    errors = by_label(scrape, "mmbroker_triton_errors_total", "model")
    assert errors == {COLOURS: 1, GATE: 0}
