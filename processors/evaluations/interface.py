"""What an evaluation is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from mmbroker.schemas.events import Fingerprint, ModelUsed, RedshiftPosterior

Arrays = Mapping[str, NDArray[Any]]
"""Arrays by name, whose first axes are equally long."""


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


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model on a server answered to an evaluation's question.

    Attributes:
        outputs: by name, with as many rows as were asked.
        used: the model that answered: name, version, hash.
    """

    outputs: Arrays
    used: ModelUsed


class Evaluation(ABC):
    """Judges a batch of galaxies.

    It computes, and asks nobody itself: what it needs from a model on a server it puts as a
    question, which the stage asks on its behalf.
    """

    name: str
    """Name under which the score is published."""

    identity: str = ""
    """Names what the scores rest on besides the galaxy, the answer and the code: the hashes of
    tables, grids or a reference set. Scores of another identity are other scores."""

    model: str = ""
    """Name of the model on the server that it asks; empty for none."""

    def question(self, subjects: Sequence[Subject]) -> Arrays:
        """What ``model`` is asked: its inputs by name, with a row for whatever is to be asked.

        Args:
            subjects: the galaxies of a batch.
        """
        return {}

    @abstractmethod
    def evaluate(
        self, subjects: Sequence[Subject], answer: Answer | None = None
    ) -> list[Evaluated]:
        """One result for each subject, in their order, whatever else is in the batch.

        Args:
            subjects: the galaxies of a batch.
            answer: to ``question`` of the same subjects; None where it asks nothing, or no row.
        """
