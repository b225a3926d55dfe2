"""However much waits for the stages, they take no more memory than a bound."""

from __future__ import annotations

import pytest

from deploy.local import LocalStack
from streams.embedded import Settled
from streams.kafka import create_topics
from streams.publish import Publisher
from streams.reliability import large_spectra, peak_memory_mb

from ..conftest import broker_on, settings_on

pytestmark = pytest.mark.slow
SPECTRA = 400
CHANNELS = 65_000
"""A megabyte each: 400 MB, less than the stages read ahead if only events were counted."""

BOUND_MB = 350.0


def test_memory_stays_bounded_while_the_stages_catch_up(
    stack: LocalStack, tmp_path_factory: pytest.TempPathFactory
) -> None:
    directory = tmp_path_factory.mktemp("backlog")
    settings, _ = settings_on(stack, directory, "backlog")
    create_topics(settings.kafka, settings.topics.all())
    with Publisher(settings) as publisher:
        for observation in large_spectra(SPECTRA, CHANNELS, seed=37):
            publisher.send(observation)
    with broker_on(stack, directory, "backlog") as broker:
        settled = Settled(settings, SPECTRA)
        peak = peak_memory_mb(broker.process.pid, settled, timeout_s=120)
        assert broker.ledger()[0].outcomes == {"merged": SPECTRA}
    assert {stage: mb for stage, mb in peak.items() if mb > BOUND_MB} == {}, peak
