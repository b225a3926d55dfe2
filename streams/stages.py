"""The stages by name, made from the settings. Each imports what it needs when it is made."""

from __future__ import annotations

from collections.abc import Callable

from .names import STAGE_NAMES
from .registry import make_codec
from .settings import Settings
from .stage import Stage
from .store import open_store


def _build_fingerprints(settings: Settings) -> Stage:
    from .build_fingerprints import BuildFingerprints
    from .parsing import make_parsers

    return BuildFingerprints(
        open_store(settings),
        settings.topics,
        make_codec(settings),
        make_parsers(settings),
    )


def _score_galaxies(settings: Settings) -> Stage:
    from .score_galaxies import ScoreGalaxies
    from .scorer import Scorers, make_critic, make_refined

    scorers = Scorers(settings)
    refined = settings.triton.refined_redshift
    return ScoreGalaxies(
        open_store(settings),
        settings.topics,
        make_codec(settings),
        scorers,
        make_critic(settings),
        make_refined(settings, scorers.redshift) if refined else None,
    )


def _publish_alerts(settings: Settings) -> Stage:
    from .publish_alerts import PublishAlerts

    return PublishAlerts(open_store(settings), settings.topics, make_codec(settings))


STAGES: dict[str, Callable[[Settings], Stage]] = dict(
    zip(STAGE_NAMES, (_build_fingerprints, _score_galaxies, _publish_alerts), strict=True)
)
"""In the order of the flow."""
