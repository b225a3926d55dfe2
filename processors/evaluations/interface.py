"""What an evaluation is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from mmbroker.schemas.events import Fingerprint, RedshiftPosterior


@dataclass(frozen=True, slots=True)
class Subject:
    """What an evaluation judges."""

    fingerprint: Fingerprint
    redshift: RedshiftPosterior


@dataclass(frozen=True, slots=True)
class Evaluated:
    """What an evaluation says of one subject.

    Attributes:
        score: in [0, 1]; None when it cannot be computed.
        evidence: the numbers behind it.
        reason: in words, what it rests on, or why it is absent.
    """

    score: float | None
    reason: str
    evidence: dict[str, float] = field(default_factory=dict)


class Evaluation(Protocol):
    """Judges a batch of galaxies."""

    @property
    def name(self) -> str:
        """Name under which the score is published."""
        ...

    def evaluate(self, subjects: Sequence[Subject]) -> list[Evaluated]:
        """One answer for each subject, in their order."""
        ...
