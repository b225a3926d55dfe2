"""The interface of an evaluation, and what goes in and comes out of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from mmbroker.schemas.events import Fingerprint, ModelUsed, RedshiftPosterior

Arrays = Mapping[str, NDArray[Any]]
"""Arrays by name, with first axes of the same length."""


@dataclass(frozen=True, slots=True)
class Subject:
    """A galaxy that an evaluation judges: its fingerprint and its redshift."""

    fingerprint: Fingerprint
    redshift: RedshiftPosterior


@dataclass(frozen=True, slots=True)
class Evaluated:
    """The result of an evaluation for one subject.

    Attributes:
        score: score in [0, 1]; None when it cannot be computed.
        reason: what the score rests on, or why it is absent, in words.
        evidence: the numbers behind the score, by name.
    """

    score: float | None
    reason: str
    evidence: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer of a model on a server to an evaluation's question.

    Attributes:
        outputs: outputs of the model by name, with one row for each row of the question; None if
            the question had no rows, so that the model was not asked.
        used: name, version and hash of the model in force.
    """

    outputs: Arrays | None
    used: ModelUsed


class Evaluation(ABC):
    """Judges a batch of galaxies.

    An evaluation only computes. If it needs a model on a server, it returns a question for it, and
    the stage asks the server.
    """

    name: str
    """Name under which the score is published."""

    identity: str = ""
    """Hashes of what the scores rest on besides the galaxy, the answer and the code: tables, grids
    or a reference set. Scores with another identity are other scores."""

    model: str = ""
    """Name of the model on a server that the question is for; empty without a question."""

    def question(self, subjects: Sequence[Subject]) -> Arrays:
        """The question for ``model``: its inputs by name, with a row for each thing to ask.

        Args:
            subjects: the galaxies of a batch.
        """
        return {}

    @abstractmethod
    def evaluate(
        self, subjects: Sequence[Subject], answer: Arrays | None = None
    ) -> list[Evaluated]:
        """Judge the subjects: one result for each, in their order.

        A result must not depend on the other subjects of the batch.

        Args:
            subjects: the galaxies of a batch.
            answer: outputs of ``model`` by name, with one row for each row of the ``question`` for
                the same subjects; None if there was no question, or if it had no rows.
        """
