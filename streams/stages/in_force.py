"""Finds which versions of models are in force, and checks that Triton serves them."""

from __future__ import annotations

from collections.abc import Sequence

from mmbroker.models.serving.triton import Model
from mmbroker.streams.errors import InfrastructureError
from mmbroker.streams.stages.metrics import StageMetrics
from mmbroker.streams.store import Store


def version_in_force(model: Model, store: Store) -> int:
    """The version of a model that is in force now."""
    return versions_in_force([model], store)[0]


def versions_in_force(models: Sequence[Model], store: Store) -> list[int]:
    """The versions of several models that are in force, all at the same moment."""
    with store.reading() as reading:
        return [reading.model_version(model.model) for model in models]


def require_served(model: Model, store: Store, metrics: StageMetrics) -> None:
    """Make sure that Triton serves the version of a model in force, and note it in the metrics.

    Raises:
        InfrastructureError: Triton does not serve it.
    """
    version = version_in_force(model, store)
    if not model.ready(version):
        raise InfrastructureError(
            f"Triton at {model.url} does not serve version {version} of model {model.model!r}, "
            "which is in force; see: mmbroker models list"
        )
    metrics.model_in_force(model.model, version)
