"""A new model or calibration reaches the galaxies that are there."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest

from models.simulator import simulate
from streams.embedded import stages_running

from ..conftest import Broker, wait_until

pytestmark = pytest.mark.slow


def scored_in(broker: Broker, form: str) -> set[str]:
    """Galaxies of which there is a score with a form of the HyperScore."""
    return {
        read.galaxy.galaxy_id
        for read in broker.read("scored")
        if read.galaxy is not None and read.galaxy.hyperscore_form == form
    }


def test_every_galaxy_is_scored_again_when_asked(make_broker: Callable[..., Broker]) -> None:
    broker = make_broker()
    broker.publish(simulate(12, seed=61))
    before = broker.ledger()
    galaxies = scored_in(broker, "plus-gamma")
    assert galaxies

    refused = broker.command("rescore", check=False)
    assert refused.returncode == 1
    assert "score-galaxies runs" in refused.stderr

    broker.process.terminate()
    broker.process.wait(60)
    assert "fingerprints again" in broker.command("rescore").stdout
    environment = {**broker.environment, "MMBROKER_SCORING__HYPERSCORE_FORM": "centred"}
    log = broker.settings.data_directory / "again.log"
    with stages_running(broker.settings, log, environment) as process:
        again = dataclasses.replace(broker, process=process)
        wait_until(lambda: scored_in(again, "centred") == galaxies, "not all are scored again")
        assert [each.outcomes for each in again.ledger()[:2]] == [
            each.outcomes for each in before[:2]
        ]
        assert all(each.closes for each in again.ledger()[:2])
