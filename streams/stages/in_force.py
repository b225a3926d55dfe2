"""The versions of models that the stages ask: the store says which, Triton serves them."""

from __future__ import annotations

from collections.abc import Sequence

from mmbroker.models.serving.triton import Model
from mmbroker.streams.errors import InfrastructureError
from mmbroker.streams.stages.metrics import StageMetrics
from mmbroker.streams.store import Store


def version_in_force(model: Model, store: Store) -> int:
    """Number of the version of a model that is asked now."""
    return versions_in_force([model], store)[0]


def versions_in_force(models: Sequence[Model], store: Store) -> list[int]:
    """The same of several models at one moment."""
    with store.reading() as reading:
        return [reading.model_version(model.model) for model in models]


def require_served(model: Model, store: Store, metrics: StageMetrics) -> None:
    """Make sure that the version of a model in force is there to be asked, and tell which it is.

    Raises:
        InfrastructureError: it is not.
    """
    version = version_in_force(model, store)
    if not model.ready(version):
        raise InfrastructureError(
            f"Triton at {model.url} does not serve version {version} of model {model.model!r}, "
            "which is in force; see: mmbroker models list"
        )
    metrics.model_in_force(model.model, version)
