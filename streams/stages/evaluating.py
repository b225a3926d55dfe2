"""Asks the models on Triton that evaluations need, in the versions in force."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mmbroker.models.serving.errors import ModelUnavailable
from mmbroker.models.serving.triton import Model
from mmbroker.processors.evaluations import Answer, Evaluation, Subject
from mmbroker.schemas.events import ModelUsed
from mmbroker.streams.errors import InfrastructureError
from mmbroker.streams.stages.in_force import require_served, versions_in_force
from mmbroker.streams.stages.metrics import StageMetrics
from mmbroker.streams.store import Store

ROLE = "evaluation: "
"""Start of the role of a model that answered an evaluation; the evaluation's name follows."""


class Evaluating:
    """Asks models on behalf of the evaluations, which only compute and use no network.

    Args:
        models: the models on Triton, by name.
        store: says which versions are in force.
        metrics: metrics of the stage that asks.
    """

    def __init__(self, models: Mapping[str, Model], store: Store, metrics: StageMetrics) -> None:
        self._models = models
        self._store = store
        self._metrics = metrics
        for name in models:
            metrics.uses(name)

    def probe(self) -> None:
        """Make sure that Triton serves the versions in force.

        Raises:
            InfrastructureError: Triton does not serve one of them.
        """
        for model in self._models.values():
            require_served(model, self._store, self._metrics)

    def answers(
        self,
        evaluations: Sequence[Evaluation],
        subjects: Sequence[Subject],
        versions: Mapping[str, int] | None = None,
    ) -> dict[str, Answer]:
        """Ask the models of the evaluations.

        Args:
            evaluations: the evaluations; some need no model.
            subjects: the galaxies of a batch.
            versions: the versions of models to ask, by name; for other models those in force.

        Returns:
            The answers, by the name of the evaluation. One that had nothing to ask has an answer
            without outputs, which names the version in force.

        Raises:
            InfrastructureError: Triton does not answer, or does not serve the version.
        """
        asking = [each for each in evaluations if each.model]
        models = [self._models[each.model] for each in asking]
        in_force = versions_in_force(models, self._store) if models else []
        return {
            each.name: self._answer(each, model, subjects, (versions or {}).get(each.model, number))
            for each, model, number in zip(asking, models, in_force, strict=True)
        }

    def _answer(
        self, evaluation: Evaluation, model: Model, subjects: Sequence[Subject], version: int
    ) -> Answer:
        inputs = evaluation.question(subjects)
        outputs = None
        try:
            if inputs and len(next(iter(inputs.values()))):
                with self._metrics.triton(model.model):
                    outputs = model.infer(inputs, version)
            used = model.version(version)
        except ModelUnavailable as error:
            self._metrics.triton_failed(model.model)
            raise InfrastructureError(str(error)) from error
        self._metrics.model_in_force(model.model, version)
        role = f"{ROLE}{evaluation.name}"
        return Answer(outputs, ModelUsed(role, model.model, str(version), used.sha256))
