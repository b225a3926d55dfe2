"""The five evaluations of a galaxy, each a score in [0, 1] with evidence, or absent.

To add one: write its module with a class that has a ``name`` and an ``evaluate``, and put it in
``EVALUATIONS``.
"""

from mmbroker.processors.evaluations.absent import NotYetComputed
from mmbroker.processors.evaluations.interface import Evaluated, Evaluation, Subject
from mmbroker.processors.evaluations.reproducibility import Reproducibility

EVALUATIONS: tuple[Evaluation, ...] = (
    NotYetComputed("logic"),
    NotYetComputed("simulation"),
    NotYetComputed("novelty"),
    NotYetComputed("impact"),
    Reproducibility(),
)
"""All evaluations, in the order in which they are published."""

EQUAL_WEIGHTS = {evaluation.name: 1.0 / len(EVALUATIONS) for evaluation in EVALUATIONS}
"""Weights until Shapley values have been learned from outcomes: all the same."""

__all__ = ["EQUAL_WEIGHTS", "EVALUATIONS", "Evaluated", "Evaluation", "Subject"]
