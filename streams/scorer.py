"""The scorer and the critic that the settings name, from the weights in the repository."""

from __future__ import annotations

from importlib import resources

from models.critic import Critic
from models.weak_lines import line_recovery_used, load_line_recovery
from processors.calibration import Calibration
from processors.redshift import ConventionalRedshift
from processors.scoring import Scorer

from .settings import Settings


def make_scorer(settings: Settings) -> Scorer:
    """The scorer in force."""
    return Scorer(
        ConventionalRedshift(),
        critic_calibration=_calibration("critic_calibration.json"),
        redshift_calibration=_calibration("redshift_calibration.json"),
        form=settings.scoring.hyperscore_form,
        line_recovery=(load_line_recovery(), line_recovery_used()),
    )


def make_critic(settings: Settings) -> Critic | None:
    """The critic on Triton; None when the settings name none."""
    triton = settings.triton
    if not triton.critic:
        return None
    return Critic(triton.url, triton.critic, deadline_s=triton.deadline_s, retries=triton.retries)


def _calibration(name: str) -> Calibration:
    return Calibration.from_json((resources.files("models") / "weights" / name).read_text())
