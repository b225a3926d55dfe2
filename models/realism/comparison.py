"""Hold the sources of one survey's real table beside simulated ones."""

from __future__ import annotations

from dataclasses import dataclass

from mmbroker.models.realism.two_sample import Sample
from mmbroker.models.simulation.catalogue_surveys import Survey


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """A real table, and the simulated one that imitates it.

    Attributes:
        survey: which.
        judged: real sources of the part that is judged.
        training: real sources that the classifier learns from.
        simulated: the first half of them teaches the classifier, the second is judged.
        former: the same by the first simulator.
        parts: which parts of the table are judged.
    """

    survey: Survey
    judged: Sample
    training: Sample
    simulated: Sample
    former: Sample
    parts: str
