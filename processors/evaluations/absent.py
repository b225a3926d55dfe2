"""An evaluation that this version does not have: always absent, and it says so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mmbroker.processors.evaluations.interface import Answer, Evaluated, Evaluation, Subject


@dataclass(frozen=True)
class NotYetComputed(Evaluation):
    """Stands in the list of evaluations under its name."""

    name: str

    def evaluate(
        self, subjects: Sequence[Subject], answer: Answer | None = None
    ) -> list[Evaluated]:
        """Absent for every subject."""
        return [Evaluated(None, "absent: this version does not compute it") for _ in subjects]
