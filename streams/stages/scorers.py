"""Makes the scorers that the settings name."""

from __future__ import annotations

from collections.abc import Sequence

from mmbroker.models.packaged.line_recovery import line_recovery_used, load_line_recovery
from mmbroker.models.packaged.networks import WEIGHTS
from mmbroker.models.packaged.reliability import load_reliability
from mmbroker.models.packaged.scoring_code import code_version
from mmbroker.models.packaged.templates import load_templates
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
        self.templates = load_templates()
        """Templates that redshifts are compared with."""
        self.reliability = load_reliability()
        """Says how probably a redshift is right."""

    def calibrated(self, critic: Calibration | None) -> Scorer:
        """The scorer for a calibration of the critic; None for the one without a critic."""
        calibration = critic or self._without_critic
        scorer = self._made.get(calibration.calibration_id)
        if scorer is None:
            scorer = self._made[calibration.calibration_id] = Scorer(
                self.redshift,
                critic_calibration=calibration,
                reliability=self.reliability,
                templates=self.templates.identity,
                code=code_version(),
                form=self._form,
                evaluations=self.evaluations,
                line_recovery=self._line_recovery,
            )
        return scorer


def _packaged(name: str) -> Calibration:
    return Calibration.from_json((WEIGHTS / name).read_text())
