"""Stands for evaluations that this version does not compute."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mmbroker.processors.evaluations.interface import Arrays, Evaluated, Evaluation, Subject


@dataclass(frozen=True)
class NotYetComputed(Evaluation):
    """An evaluation that is always absent, with a reason that says so.

    Attributes:
        name: name under which it is published.
    """

    name: str

    def evaluate(
        self, subjects: Sequence[Subject], answer: Arrays | None = None
    ) -> list[Evaluated]:
        """An absent score for every subject."""
        return [Evaluated(None, "absent: this version does not compute it") for _ in subjects]
