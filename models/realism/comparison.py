"""Keeps the sources of one survey's real table beside simulated ones."""

from __future__ import annotations

from dataclasses import dataclass

from mmbroker.models.realism.two_sample import Sample
from mmbroker.models.simulation.catalogue_surveys import Survey


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """A real table, and the simulated one that imitates it.

    Attributes:
        survey: the survey.
        judged: real sources of the part that is judged.
        training: real sources that the classifier learns from.
        simulated: simulated sources. The classifier learns from their first half, and the second
            half is judged.
        former: sources by the first simulator, used in the same way.
        parts: the parts of the table that are judged, in words.
    """

    survey: Survey
    judged: Sample
    training: Sample
    simulated: Sample
    former: Sample
    parts: str
