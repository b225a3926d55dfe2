"""However much waits for the stages, they take no more memory than a bound."""

from __future__ import annotations

import dataclasses

import numpy as np
import psutil
import pytest

from mmbroker.deploy.local import LocalStack
from mmbroker.processors.fingerprint import merge as fingerprints
from mmbroker.schemas.codec import Codec
from mmbroker.schemas.events import Fingerprint, Observation, Spectrum
from mmbroker.streams.kafka.client import create_topics
from mmbroker.streams.kafka.producer import DurableProducer
from mmbroker.streams.names import SCORE_GALAXIES
from mmbroker.streams.proving.embedded import Settled, ledger_now, stage_running
from mmbroker.streams.proving.kill import memory_mb, peak_memory_mb
from mmbroker.streams.proving.traffic import large_spectra, until
from mmbroker.streams.publishing.publisher import Publisher
from mmbroker.streams.stages.messages import Outgoing
from tests.conftest import broker_on, settings_on
from tests.endpoint import Endpoint

pytestmark = pytest.mark.slow
SPECTRA = 400
CHANNELS = 65_000
"""A megabyte each: 400 MB, less than the stages read ahead if only events were counted."""

FINGERPRINTS = 6000
"""50 kB each: 300 MB."""

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


def wide_fingerprint() -> Fingerprint:
    """A galaxy with a spectrum from 84 GHz to 1 THz: simulated noise."""
    frequency = np.geomspace(84e9, 1e12, 20_000)
    error = np.full(frequency.size, 1e-3, np.float32)
    flux = np.random.default_rng(41).normal(0, error).astype(np.float32)
    spectrum = Spectrum(frequency, "BARYCENTRIC", flux, error)
    observation = Observation(
        "wide", "simulated", 10.0, 10.0, 0.3, 59_000.0, simulated=True, spectrum=spectrum
    )
    return fingerprints.build("wide", [observation])


def test_memory_of_scoring_stays_bounded_too(
    stack: LocalStack, tmp_path_factory: pytest.TempPathFactory
) -> None:
    directory = tmp_path_factory.mktemp("unscored")
    settings, environment = settings_on(stack, directory, "unscored")
    create_topics(settings.kafka, settings.topics.all())
    fingerprint, codec = wide_fingerprint(), Codec()
    names = [f"wide-{number}" for number in range(FINGERPRINTS)]
    encoded = (codec.encode(dataclasses.replace(fingerprint, galaxy_id=name)) for name in names)
    messages = [
        Outgoing(settings.topics.fingerprints, name.encode(), data)
        for name, data in zip(names, encoded, strict=True)
    ]
    log = directory / "scoring.log"
    with stage_running(SCORE_GALAXIES, "unscored", log, environment) as process:
        # A stage does not start on a store without the galaxies that its topic has.
        Endpoint(settings, SCORE_GALAXIES, "unscored").wait(200)
        DurableProducer(settings.kafka).send(messages)
        scoring = psutil.Process(process.pid)
        peak = 0.0

        def scored() -> bool:
            nonlocal peak
            peak = max(peak, memory_mb(scoring))
            return ledger_now(settings)[1].accounted == FINGERPRINTS

        until(scored, 120, lambda: str(ledger_now(settings)[1]))
    assert peak < BOUND_MB
