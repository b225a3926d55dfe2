"""The five evaluations of a galaxy, each a score in [0, 1] with evidence, or absent.

To add one: write its module with a class that derives from ``Evaluation``, and put it in
``EVALUATIONS``.
"""

from mmbroker.processors.evaluations.absent import NotYetComputed
from mmbroker.processors.evaluations.interface import (
    Answer,
    Arrays,
    Evaluated,
    Evaluation,
    Subject,
)
from mmbroker.processors.evaluations.reproducibility import Reproducibility

EVALUATIONS: tuple[Evaluation, ...] = (
    NotYetComputed("logic"),
    NotYetComputed("simulation"),
    NotYetComputed("novelty"),
    NotYetComputed("impact"),
    Reproducibility(),
)
"""All evaluations, in the order in which they are published."""

__all__ = ["EVALUATIONS", "Answer", "Arrays", "Evaluated", "Evaluation", "Subject"]
