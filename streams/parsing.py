"""Feature trees of observations from the parsers on Triton: when they come in, and made again.

A tree stays as it was read when a later version of its parser comes into force: observations that
come in from then on are read by that one.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial

from models import triton
from models.errors import ModelUnavailable
from models.served_parser import MapParser, Parser, SpectrumParser
from schemas.events import Observation, ParsedObservation

from .errors import InfrastructureError
from .in_force import require_served, version_in_force
from .metrics import StageMetrics
from .settings import Settings
from .store import Store, open_store


class Parsing:
    """Asks parsers, each in its version in force.

    Args:
        parsers: of the several kinds of observations.
        store: says which versions are in force.
        metrics: of the stage that asks.
    """

    def __init__(self, parsers: Sequence[Parser], store: Store, metrics: StageMetrics) -> None:
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


def make_parsers(settings: Settings) -> list[Parser]:
    """The parsers on Triton; without those that the settings do not name."""
    named = ((SpectrumParser, settings.triton.parser), (MapParser, settings.triton.map_parser))
    return [make_parser(settings, kind, name) for kind, name in named if name]


def make_parser(settings: Settings, kind: type[Parser], name: str) -> Parser:
    """A parser on Triton."""
    triton = settings.triton
    return kind(triton.url, name, deadline_s=triton.deadline_s, retries=triton.retries)


def parse_at_once(
    settings: Settings, observations: Sequence[Observation]
) -> dict[str, ParsedObservation]:
    """The feature trees of valid observations by their ids, by the versions in force.

    Raises:
        InfrastructureError: Triton does not answer, or does not serve a version in force.
    """
    with closing(open_store(settings)) as store:
        trees = Parsing(make_parsers(settings), store, StageMetrics("parse")).trees(observations)
    return {tree.observation_id: tree for found in trees for tree in found}


@dataclass(frozen=True)
class Again:
    """Feature trees made again.

    Attributes:
        trees: the trees, those that cannot be made again as they were.
        gone: the labels of parsers that Triton does not serve any more.
    """

    trees: list[ParsedObservation]
    gone: list[str]


def parsed_again(
    settings: Settings,
    trees: Sequence[ParsedObservation],
    observations: Sequence[Observation],
) -> Again:
    """Feature trees made again, each by the very version that made it.

    Args:
        settings: say where Triton is.
        trees: those made before.
        observations: of which they are, in the same order.

    Raises:
        ModelUnavailable: Triton does not answer.
    """
    made: list[ParsedObservation] = []
    gone: set[str] = set()
    served = triton.served(settings.triton.url) if trees else []
    for tree, observation in zip(trees, observations, strict=True):
        name, number, _ = tree.model.split(" ")
        kind = SpectrumParser if tree.morphology is None else MapParser
        with make_parser(settings, kind, name) as parser:
            version = int(number)
            if (
                name not in served
                or version not in parser.versions()
                or parser.label(version) != tree.model
            ):
                gone.add(tree.model)
                made.append(tree)
                continue
            made += [each for each in parser.parse([observation], version) if each is not None]
    return Again(made, sorted(gone))
