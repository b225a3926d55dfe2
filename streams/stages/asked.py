"""Makes the scorers, and the clients of the models on Triton, that the settings name."""

from __future__ import annotations

from collections.abc import Sequence

from mmbroker.models.packaged.line_recovery import line_recovery_used, load_line_recovery
from mmbroker.models.packaged.networks import WEIGHTS
from mmbroker.models.packaged.scoring_code import code_version
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
from mmbroker.processors.scoring.calibration import Calibration
from mmbroker.processors.scoring.score import Scorer
from mmbroker.streams.settings import Settings


class Scorers:
    """The scorers, one for each calibration of the critic.

    Every version of the critic has its own calibration. All else is the same in all scorers.

    Args:
        settings: the settings.
        evaluations: the evaluations that the scorers use.
    """

    def __init__(self, settings: Settings, evaluations: Sequence[Evaluation] = EVALUATIONS) -> None:
        self.evaluations = evaluations
        self._form = settings.scoring.hyperscore_form
        self._without_critic = _packaged("critic_calibration.json")
        self._line_recovery = (load_line_recovery(), line_recovery_used())
        self._made: dict[str, Scorer] = {}
        self.redshift = ConventionalRedshift()
        """Estimates redshifts for all scorers."""
        self.redshift_calibration = _packaged("redshift_calibration.json")

    def calibrated(self, critic: Calibration | None) -> Scorer:
        """The scorer for a calibration of the critic; None for the one without a critic."""
        calibration = critic or self._without_critic
        scorer = self._made.get(calibration.calibration_id)
        if scorer is None:
            scorer = self._made[calibration.calibration_id] = Scorer(
                self.redshift,
                critic_calibration=calibration,
                redshift_calibration=self.redshift_calibration,
                code=code_version(),
                form=self._form,
                evaluations=self.evaluations,
                line_recovery=self._line_recovery,
            )
        return scorer


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


def _packaged(name: str) -> Calibration:
    return Calibration.from_json((WEIGHTS / name).read_text())


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
