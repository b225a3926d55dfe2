"""Makes the stages from the settings, by name.

Each imports what it needs only when it is made, so that a process loads the code of one stage.
"""

from __future__ import annotations

from collections.abc import Callable

from mmbroker.streams.kafka.registry import make_codec
from mmbroker.streams.names import STAGE_NAMES
from mmbroker.streams.settings import Settings
from mmbroker.streams.stages.base import Stage
from mmbroker.streams.store import open_store


def _build_fingerprints(settings: Settings) -> Stage:
    from mmbroker.streams.stages.build_fingerprints import BuildFingerprints
    from mmbroker.streams.stages.clients import (
        make_parsers,
    )

    return BuildFingerprints(
        open_store(settings),
        settings.topics,
        make_codec(settings),
        make_parsers(settings),
    )


def _score_galaxies(settings: Settings) -> Stage:
    from mmbroker.streams.stages.clients import (
        make_critic,
        make_evaluation_models,
        make_refined,
    )
    from mmbroker.streams.stages.score_galaxies import ScoreGalaxies
    from mmbroker.streams.stages.scorers import Scorers

    scorers = Scorers(settings)
    refined = settings.triton.refined_redshift
    return ScoreGalaxies(
        open_store(settings),
        settings.topics,
        make_codec(settings),
        scorers,
        make_critic(settings),
        make_refined(settings, scorers.redshift) if refined else None,
        make_evaluation_models(settings, scorers.evaluations),
    )


def _publish_alerts(settings: Settings) -> Stage:
    from mmbroker.streams.stages.publish_alerts import PublishAlerts

    return PublishAlerts(open_store(settings), settings.topics, make_codec(settings))


STAGES: dict[str, Callable[[Settings], Stage]] = dict(
    zip(STAGE_NAMES, (_build_fingerprints, _score_galaxies, _publish_alerts), strict=True)
)
"""Functions that make the stages, by name, in the order of the flow."""
