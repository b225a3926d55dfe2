"""Gets the feature trees of observations from the parsers on Triton.

The trees of new observations are made when these come in, and the trees of archived ones when they
are needed again. A tree stays as it is when another version of its parser is put in force: that
version reads only observations that come in later.
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
    """Asks the parsers, each in its version in force.

    Args:
        parsers: the parsers, one for each kind of observation.
        store: says which versions are in force.
        metrics: metrics of the stage that asks.
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
        """Make sure that Triton serves the versions of the parsers in force.

        Raises:
            InfrastructureError: Triton does not serve one of them.
        """
        for parser in self._parsers:
            require_served(parser, self._store, self._metrics)

    def trees(self, observations: Sequence[Observation]) -> list[list[ParsedObservation]]:
        """The tree of each valid observation; an empty list if no parser can read it.

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


_MOST_WANTED_BYTES = 16 * 2**20
"""The parsers are asked about observations of this size at a time."""


class ArchivedTrees:
    """Feature trees of archived observations; parsers are asked only outside of transactions.

    Which trees are needed is known only within a transaction that writes. But no network may be
    used within it, because the store's other writers would wait. So the transaction is undone, the
    parsers are asked, and the transaction is repeated. This is rare: it happens when a corrected or
    withdrawn observation makes room for another tree.

    Args:
        parsing: asks the parsers.
    """

    def __init__(self, parsing: Parsing) -> None:
        self._parsing = parsing
        self._known: dict[str, ParsedObservation | None] = {}
        self._wanted: dict[str, Observation] = {}

    def of(self, observations: Sequence[Observation]) -> list[ParsedObservation | None] | None:
        """The trees of valid observations; None as long as one of them is not known.

        Trees that are not known are noted, and ``ask`` gets them.
        """
        unknown = {
            each.observation_id: each
            for each in observations
            if each.observation_id not in self._known
        }
        if unknown:
            if sum(map(_size_bytes, self._wanted.values())) < _MOST_WANTED_BYTES:
                self._wanted |= unknown
            return None
        return [self._known[each.observation_id] for each in observations]

    @property
    def wants(self) -> bool:
        """Whether trees were noted for which ``of`` was called."""
        return bool(self._wanted)

    def ask(self) -> None:
        """Get the trees that were not known from the parsers.

        Raises:
            InfrastructureError: see ``Parsing.trees``.
        """
        wanted, self._wanted = self._wanted, {}
        if not wanted:
            return
        trees = self._parsing.trees(list(wanted.values()))
        for observation_id, found in zip(wanted, trees, strict=True):
            self._known[observation_id] = next(iter(found), None)


def _size_bytes(observation: Observation) -> int:
    """Size of a spectrum and of a map in memory."""
    spectrum, continuum_map = observation.spectrum, observation.continuum_map
    return (0 if spectrum is None else 16 * spectrum.frequency_hz.size) + (
        0 if continuum_map is None else continuum_map.image_jy_per_beam.nbytes
    )
