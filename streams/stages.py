"""The stages by name, made from the settings."""

from __future__ import annotations

from collections.abc import Callable

from . import build_fingerprints, publish_alerts, score_galaxies
from .build_fingerprints import BuildFingerprints
from .publish_alerts import PublishAlerts
from .registry import make_codec
from .score_galaxies import ScoreGalaxies
from .scorer import Scorers, make_critic, make_parsers
from .settings import Settings
from .stage import Stage
from .store import LMDBStore


def _build_fingerprints(settings: Settings) -> Stage:
    return BuildFingerprints(
        LMDBStore(settings.store_directory),
        settings.topics,
        make_codec(settings),
        make_parsers(settings),
    )


def _score_galaxies(settings: Settings) -> Stage:
    return ScoreGalaxies(
        LMDBStore(settings.store_directory),
        settings.topics,
        make_codec(settings),
        Scorers(settings),
        make_critic(settings),
    )


def _publish_alerts(settings: Settings) -> Stage:
    return PublishAlerts(LMDBStore(settings.store_directory), settings.topics, make_codec(settings))


STAGES: dict[str, Callable[[Settings], Stage]] = {
    build_fingerprints.NAME: _build_fingerprints,
    score_galaxies.NAME: _score_galaxies,
    publish_alerts.NAME: _publish_alerts,
}
"""In the order of the flow."""
