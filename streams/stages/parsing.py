"""Feature trees of observations from the parsers on Triton: when they come in, and made again.

A tree stays as it was read when a later version of its parser comes into force: observations that
come in from then on are read by that one.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from mmbroker.models.serving.errors import ModelUnavailable
from mmbroker.models.serving.parsers import ParserClient
from mmbroker.schemas.events import Observation, ParsedObservation
from mmbroker.streams.errors import InfrastructureError
from mmbroker.streams.stages.in_force import require_served, version_in_force
from mmbroker.streams.stages.metrics import StageMetrics
from mmbroker.streams.store import Store


class Parsing:
    """Asks parsers, each in its version in force.

    Args:
        parsers: of the several kinds of observations.
        store: says which versions are in force.
        metrics: of the stage that asks.
    """

    def __init__(
        self, parsers: Sequence[ParserClient], store: Store, metrics: StageMetrics
    ) -> None:
        self._parsers = parsers
        self._store = store
        self._metrics = metrics
        for parser in parsers:
            metrics.uses(parser.model)

    def probe(self) -> None:
        """Make sure that the parsers are there.

        Raises:
            InfrastructureError: one is not.
        """
        for parser in self._parsers:
            require_served(parser, self._store, self._metrics)

    def tree(self, observation: Observation) -> ParsedObservation | None:
        """The tree of one; see ``trees``."""
        return next(iter(self.trees([observation])[0]), None)

    def trees(self, observations: Sequence[Observation]) -> list[list[ParsedObservation]]:
        """The tree of each valid observation; none of one that no parser can read.

        Raises:
            InfrastructureError: Triton does not answer, or does not serve a version in force.
        """
        trees: list[list[ParsedObservation]] = [[] for _ in observations]
        for parser in self._parsers:
            version = version_in_force(parser, self._store)
            try:
                found = parser.parse(
                    observations, version, partial(self._metrics.triton, parser.model)
                )
            except ModelUnavailable as error:
                self._metrics.triton_failed(parser.model)
                raise InfrastructureError(str(error)) from error
            self._metrics.model_in_force(parser.model, version)
            for mine, tree in zip(trees, found, strict=True):
                mine += [] if tree is None else [tree]
        return trees
