"""A new model or calibration reaches the galaxies that are there."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from typing import Any

import pytest

from mmbroker.models.simulation.observations import simulate
from mmbroker.streams.proving.embedded import stages_running
from tests.conftest import Broker, wait_until

pytestmark = pytest.mark.slow


def scored_in(broker: Broker, form: str) -> set[str]:
    """Galaxies of which there is a score with a form of the HyperScore."""
    return {
        read.galaxy.galaxy_id
        for read in broker.read("scored")
        if read.galaxy is not None and read.galaxy.hyperscore_form == form
    }


def in_ledger(broker: Broker) -> list[dict[str, Any]]:
    """What the command line says of each stage."""
    found: list[dict[str, Any]] = json.loads(broker.command("ledger", "--json", check=False).stdout)
    return found


def test_every_galaxy_is_scored_again_when_asked(make_broker: Callable[..., Broker]) -> None:
    broker = make_broker()
    broker.publish(simulate(12, seed=61))
    before = broker.ledger()
    galaxies = scored_in(broker, "plus-gamma")
    assert galaxies

    refused = broker.command("rescore", check=False)
    assert refused.returncode == 1
    assert "the stages run in" in refused.stderr

    broker.process.terminate()
    broker.process.wait(60)
    assert "to be read again" not in broker.command("ledger").stdout
    assert "offsets again when it is started" in broker.command("rescore").stdout
    assert "to be read again" in broker.command("ledger", check=False).stdout
    assert [each["again"] for each in in_ledger(broker)] == [0, before[1].received, 0]
    environment = {**broker.environment, "MMBROKER_SCORING__HYPERSCORE_FORM": "centred"}
    log = broker.settings.data_directory / "again.log"
    with stages_running(broker.settings, log, environment) as process:
        again = dataclasses.replace(broker, process=process)
        wait_until(lambda: scored_in(again, "centred") == galaxies, "not all are scored again")
        assert [each.outcomes for each in again.ledger()[:2]] == [
            each.outcomes for each in before[:2]
        ]
        assert all(each.closes for each in again.ledger()[:2])
        wait_until(
            lambda: not any(each["again"] for each in in_ledger(again)),
            "what was read again is not acknowledged",
        )
    logged = log.read_text()
    assert "score-galaxies: ready" in logged
    assert "all stages have stopped" in logged
    assert "[^" not in logged, "what mode says of its services says nothing to an operator"
