"""Gets refined redshifts, whose networks are on Triton.

Scores contain them beside the redshifts that are in force.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

from mmbroker.models.packaged.refined import GATE
from mmbroker.models.serving.errors import ModelUnavailable
from mmbroker.models.serving.refined import RefinedRedshiftClient
from mmbroker.processors.redshift.refined import Fallback, Known
from mmbroker.processors.scoring.score import RefinedRedshifts
from mmbroker.schemas.events import Fingerprint
from mmbroker.streams.errors import InfrastructureError
from mmbroker.streams.stages.in_force import require_served, versions_in_force
from mmbroker.streams.stages.metrics import StageMetrics
from mmbroker.streams.store import Store


class Refining:
    """Asks the networks of the refined redshift, in the versions in force.

    Args:
        refined: the client of the refined redshift.
        store: says which versions are in force.
        metrics: metrics of the stage that asks.
    """

    def __init__(self, refined: RefinedRedshiftClient, store: Store, metrics: StageMetrics) -> None:
        self._refined = refined
        self._store = store
        self._metrics = metrics
        for network in refined.networks:
            metrics.uses(network.model)

    def probe(self) -> None:
        """Make sure that Triton serves the networks in force, and that they fit together.

        Raises:
            InfrastructureError: a network is not served or not usable, or they do not fit together.
        """
        networks = self._refined.networks
        for network in networks:
            require_served(network, self._store, self._metrics)
        self._require_usable(versions_in_force(networks, self._store))

    def refine(
        self,
        fingerprints: Sequence[Fingerprint],
        known: Known | None = None,
        versions: Sequence[int] | None = None,
    ) -> RefinedRedshifts:
        """The refined redshifts of fingerprints.

        Args:
            fingerprints: fingerprints of any galaxies.
            known: what was computed about them before; None for nothing.
            versions: versions of the networks; None for those in force.

        Raises:
            InfrastructureError: Triton does not answer or does not serve these versions, or they
                are not usable or do not fit together.
        """
        networks = self._refined.networks
        if versions is None:
            versions = versions_in_force(networks, self._store)
        self._require_usable(versions)
        for network, version in zip(networks, versions, strict=True):
            self._metrics.model_in_force(network.model, version)
        fitting = partial(self._metrics.part, "templates")
        found = self._refined.refine(fingerprints, versions, self._asking, known, fitting)
        return RefinedRedshifts(
            [None if isinstance(each, Fallback) else each for each in found],
            self._refined.used(versions),
            [each.published if isinstance(each, Fallback) else "" for each in found],
        )

    def _require_usable(self, versions: Sequence[int]) -> None:
        for network, version in zip(self._refined.networks, versions, strict=True):
            with self._available(network.model):
                network.require_usable(version)
        with self._available(GATE):
            self._refined.require_together(versions)

    @contextmanager
    def _asking(self, model: str) -> Iterator[None]:
        with self._available(model), self._metrics.triton(model):
            yield

    @contextmanager
    def _available(self, model: str) -> Iterator[None]:
        try:
            yield
        except ModelUnavailable as error:
            self._metrics.triton_failed(model)
            raise InfrastructureError(str(error)) from error
