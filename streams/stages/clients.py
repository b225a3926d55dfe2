"""Makes the clients of the models on Triton that the settings name."""

from __future__ import annotations

from collections.abc import Sequence

from mmbroker.models.packaged.refined import COLOURS, GATE
from mmbroker.models.serving.critic import CriticClient
from mmbroker.models.serving.parsers import MapParserClient, ParserClient, SpectrumParserClient
from mmbroker.models.serving.refined import (
    RefinedNetworkClient,
    RefinedRedshiftClient,
    refined_networks,
)
from mmbroker.models.serving.triton import Model
from mmbroker.processors.evaluations import EVALUATIONS, Evaluation
from mmbroker.processors.redshift import ConventionalRedshift
from mmbroker.streams.settings import Settings


def asked_models(settings: Settings) -> set[str]:
    """The names of the models that scores and feature trees come from, also if switched off."""
    triton = settings.triton
    evaluations = {each.model for each in EVALUATIONS}
    return {triton.critic, triton.parser, triton.map_parser, COLOURS, GATE, *evaluations} - {""}


def make_critic(settings: Settings) -> CriticClient | None:
    """The critic on Triton; None when the settings name none."""
    triton = settings.triton
    if not triton.critic:
        return None
    return CriticClient(
        triton.url, triton.critic, deadline_s=triton.deadline_s, retries=triton.retries
    )


def make_evaluation_models(
    settings: Settings, evaluations: Sequence[Evaluation]
) -> dict[str, Model]:
    """The models on Triton that evaluations ask, by name."""
    triton = settings.triton
    return {
        name: Model(triton.url, name, deadline_s=triton.deadline_s, retries=triton.retries)
        for name in sorted({each.model for each in evaluations} - {""})
    }


def make_refined(settings: Settings, conventional: ConventionalRedshift) -> RefinedRedshiftClient:
    """The client of the refined redshift, even if the settings switch it off.

    Args:
        settings: say where Triton is.
        conventional: the redshift on which the refined one is based.
    """
    return RefinedRedshiftClient(make_refined_networks(settings), conventional)


def make_refined_networks(settings: Settings) -> list[RefinedNetworkClient]:
    """The clients of the networks of the refined redshift on Triton."""
    triton = settings.triton
    return refined_networks(triton.url, deadline_s=triton.deadline_s, retries=triton.retries)


def make_parsers(settings: Settings) -> list[ParserClient]:
    """The clients of the parsers on Triton that the settings name."""
    named = (
        (SpectrumParserClient, settings.triton.parser),
        (MapParserClient, settings.triton.map_parser),
    )
    return [make_parser(settings, kind, name) for kind, name in named if name]


def make_parser(settings: Settings, kind: type[ParserClient], name: str) -> ParserClient:
    """The client of one parser on Triton."""
    triton = settings.triton
    return kind(triton.url, name, deadline_s=triton.deadline_s, retries=triton.retries)
