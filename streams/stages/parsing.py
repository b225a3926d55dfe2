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


class TreesWantedError(Exception):
    """Trees of archived observations are to be asked for before the store can be written."""


class ArchivedTrees:
    """Trees of observations out of the archive, asked for while the store is not written.

    Which ones are wanted is found out in a transaction, and no network is asked within one: the
    store's other writers would wait. So the transaction is undone, the parsers are asked, and it
    is made again. That is rare: where a corrected or withdrawn observation leaves a tree's place.

    Args:
        parsing: asks the parsers.
    """

    def __init__(self, parsing: Parsing) -> None:
        self._parsing = parsing
        self._known: dict[str, ParsedObservation | None] = {}
        self._wanted: dict[str, Observation] = {}

    def of(self, observations: Sequence[Observation]) -> list[ParsedObservation | None] | None:
        """The trees of valid observations; None as long as one of them is not known."""
        unknown = {
            each.observation_id: each
            for each in observations
            if each.observation_id not in self._known
        }
        if unknown:
            self._wanted |= unknown
            return None
        return [self._known[each.observation_id] for each in observations]

    def require_known(self) -> None:
        """Make sure that all were known that ``of`` was asked for.

        Raises:
            TreesWantedError: some were not.
        """
        if self._wanted:
            raise TreesWantedError

    def ask(self) -> None:
        """Ask for those that were not known.

        Raises:
            InfrastructureError: as for ``Parsing.trees``.
        """
        wanted, self._wanted = self._wanted, {}
        trees = self._parsing.trees(list(wanted.values()))
        for observation_id, found in zip(wanted, trees, strict=True):
            self._known[observation_id] = next(iter(found), None)
