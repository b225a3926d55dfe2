"""Refined redshifts, their networks on Triton: they stand in scores beside those in force."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from models.errors import ModelUnavailable
from models.served_refined import ServedRefined
from processors.redshift.refined import Known
from processors.scoring import Refinement
from schemas.events import Fingerprint

from .errors import InfrastructureError
from .in_force import require_served, version_in_force
from .metrics import StageMetrics
from .store import Store


class Refining:
    """Asks the networks in their versions in force.

    Args:
        refined: the refined redshift.
        store: says which versions are in force.
        metrics: of the stage that asks.
    """

    def __init__(self, refined: ServedRefined, store: Store, metrics: StageMetrics) -> None:
        self._refined = refined
        self._store = store
        self._metrics = metrics
        for network in refined.networks:
            metrics.uses(network.model)

    def probe(self) -> None:
        """Make sure that the networks are there, and the packaged ones.

        Raises:
            InfrastructureError: one is not.
        """
        for network in self._refined.networks:
            require_served(network, self._store, self._metrics)
            with self._available(network.model):
                network.require_usable(version_in_force(network, self._store))

    def refine(
        self,
        fingerprints: Sequence[Fingerprint],
        known: Known | None = None,
        versions: Sequence[int] | None = None,
    ) -> Refinement:
        """The refined redshifts of fingerprints.

        Args:
            fingerprints: of any galaxies.
            known: what was found out already about them; None for nothing.
            versions: of the networks; None for those in force.

        Raises:
            InfrastructureError: Triton does not answer, or does not serve those versions, or they
                are not the packaged networks.
        """
        networks = self._refined.networks
        if versions is None:
            versions = [version_in_force(network, self._store) for network in networks]
        for network, version in zip(networks, versions, strict=True):
            with self._available(network.model):
                network.require_usable(version)
            self._metrics.model_in_force(network.model, version)
        found = self._refined.refine(fingerprints, versions, self._asking, known)
        return Refinement(
            [None if isinstance(each, str) else each for each in found],
            self._refined.used(versions),
            [each if isinstance(each, str) else "" for each in found],
        )

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
