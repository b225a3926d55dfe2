"""Asks the parsers on Triton: observations in, feature trees out."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np

from mmbroker.models.packaged.networks import Card, tensors_of
from mmbroker.models.serving.errors import ModelUnavailable
from mmbroker.models.serving.triton import Array, Model
from mmbroker.processors.features import maps
from mmbroker.processors.features.inputs import source_in_map, spectrum_input
from mmbroker.processors.features.lines import OUTPUTS, LineCalibration
from mmbroker.processors.features.maps import MapCalibration
from mmbroker.processors.features.outputs import map_tree, spectrum_tree
from mmbroker.processors.features.patches import CHANNEL_INPUTS, PATCH, PATCH_INPUTS, Patches, batch
from mmbroker.schemas.events import Observation, ParsedObservation

Asking = Callable[[], AbstractContextManager[None]]
"""Makes a context in which the server is asked, to measure the time."""

SPECTRA_TOGETHER = 16
"""The most spectra in one request. More run slower: activations leave the processor's cache."""

LAID_OUT_TOGETHER = 8192
"""How many patches are held at once, before those of the last spectrum are added.

Patches take six times the memory of their spectra, and this limits it.
"""

LONGEST = 256
"""The most patches that the network sees at once, twice those of its longest training spectrum."""

OVERLAP = 8
"""How many more patches it sees on either side of a piece: they are wider than any line."""

MAPS_TOGETHER = 64

_STEPS = ((64, 8), (128, 16), (256, 32))
"""Pairs: a spectrum of up to so many patches is filled up to a multiple of so many."""


def _of(shape: list[int], probe: list[int] | None = None) -> Card:
    """Describe a tensor of varying shape as a card does."""
    tried = {} if probe is None else {"probe": probe}
    return {"shape": shape, "dtype": "FP32", **tried}


class ParserClient(Model, ABC):
    """Asks a parser on Triton; what it reads in an observation depends on no other, to the bit.

    Args:
        url: the server's gRPC endpoint, host:port.
        model: the name of the model.
        deadline_s: how long a call may take with its retries, in s.
        retries: how often a failed request is sent again.
    """

    tensors: ClassVar[dict[str, Any]]
    """The inputs, the outputs and the largest batch of every version, as its card states them."""

    def __init__(self, url: str, model: str, *, deadline_s: float = 5.0, retries: int = 3) -> None:
        most = self.tensors["max_batch_size"]
        super().__init__(url, model, deadline_s=deadline_s, retries=retries, largest_batch=most)

    @abstractmethod
    def parse(
        self, observations: Sequence[Observation], version: int, asking: Asking = nullcontext
    ) -> list[ParsedObservation | None]:
        """Read observations.

        Args:
            observations: valid observations of any kind.
            version: the number of the version that is asked.
            asking: makes the context in which the server is asked.

        Returns:
            The feature tree of each observation, in order; None where there is nothing that the
            parser can read.

        Raises:
            ModelUnavailable: no answer comes within the deadline and retries, or the version is
                none of this parser.
        """

    def label(self, version: int) -> str:
        """The name, the version and the hash, as a feature tree states which parser made it.

        Raises:
            ModelUnavailable: the server does not answer, or does not serve that version.
        """
        return f"{self.model} {version} {self.version(version).sha256}"

    def require_usable(self, version: int) -> None:
        """Make sure that a version is a calibrated network with this parser's inputs and outputs.

        Raises:
            ModelUnavailable: the version is not, or the server does not answer.
        """
        wanted = tensors_of(self.tensors)
        found = tensors_of(self.version(version).card)
        if found != wanted:
            raise ModelUnavailable(
                f"version {version} of model {self.model!r} at {self.url} takes and gives {found}, "
                f"and is asked for {wanted}"
            )
        self._require_calibration(version)

    @abstractmethod
    def _require_calibration(self, version: int) -> object:
        """The calibration of a version."""

    def _calibration(self, version: int) -> str:
        found = self.version(version).calibration
        if found is None:
            raise ModelUnavailable(
                f"version {version} of model {self.model!r} at {self.url} has no calibration"
            )
        return found

    def _uncalibrated(self, version: int, error: Exception) -> ModelUnavailable:
        return ModelUnavailable(
            f"version {version} of model {self.model!r} at {self.url} has a calibration that is "
            f"none of a {type(self).__name__}: {error!r}"
        )

    def _answers(self, inputs: Mapping[str, Array], version: int) -> dict[str, Array]:
        """Ask a version; if it refuses the inputs, no observation is at fault but the model."""
        try:
            outputs = self.infer(inputs, version)
        except ValueError as error:
            self.require_usable(version)
            raise ModelUnavailable(str(error)) from error
        missing = self.tensors["outputs"].keys() - outputs.keys()
        if missing:
            raise ModelUnavailable(f"model {self.model!r} at {self.url} gives no {missing}")
        return outputs


class SpectrumParserClient(ParserClient):
    """Reads spectra.

    The network sees only the patches of the same row, and a row has at least 8. So no output
    depends on the number of rows, and batches need not be filled up.
    """

    rows = 1
    tensors: ClassVar[dict[str, Any]] = {
        "inputs": {
            "channels": _of([-1, CHANNEL_INPUTS], [8 * PATCH, CHANNEL_INPUTS]),
            "patches": _of([-1, PATCH_INPUTS], [8, PATCH_INPUTS]),
            "present": _of([-1], [8]),
        },
        "outputs": {"lines": _of([-1, OUTPUTS])},
        "max_batch_size": SPECTRA_TOGETHER,
    }

    def parse(
        self, observations: Sequence[Observation], version: int, asking: Asking = nullcontext
    ) -> list[ParsedObservation | None]:
        """See ``ParserClient``."""
        trees: list[ParsedObservation | None] = [None] * len(observations)
        readable = (
            (row, found)
            for row, each in enumerate(observations)
            if (found := spectrum_input(each)) is not None
        )
        while inputs := _some(readable):
            with asking():
                outputs = self._outputs(list(inputs.values()), version)
            calibration, label = self._require_calibration(version), self.label(version)
            for (row, patches), output in zip(inputs.items(), outputs, strict=True):
                if np.isfinite(output).all():
                    read = observations[row], patches, output
                    trees[row] = spectrum_tree(*read, calibration, label)
        return trees

    def _outputs(self, spectra: Sequence[Patches], version: int) -> list[Array]:
        """The network's outputs for each spectrum, float32, shape (channels, OUTPUTS)."""
        pieces = [(row, *each) for row, one in enumerate(spectra) for each in pieces_of(one)]
        seen = [piece for _, piece, _ in pieces]
        results: list[list[Array]] = [[] for _ in spectra]
        for (row, _, kept), output in zip(pieces, self._of_pieces(seen, version), strict=True):
            results[row].append(output[kept])
        return [each[0] if len(each) == 1 else np.concatenate(each) for each in results]

    def _of_pieces(self, spectra: Sequence[Patches], version: int) -> list[Array]:
        """The outputs for spectra that are short enough for the network to see them at once."""
        results: list[Array] = [np.empty(0)] * len(spectra)
        lengths = np.array([padded(len(each)) for each in spectra])
        for length in np.unique(lengths).tolist():
            rows = np.flatnonzero(lengths == length).tolist()
            for start in range(0, len(rows), SPECTRA_TOGETHER):
                chosen = rows[start : start + SPECTRA_TOGETHER]
                arrays = batch([spectra[row] for row in chosen], length)
                inputs = dict(zip(self.tensors["inputs"], arrays, strict=True))
                output = self._answers(inputs, version)["lines"]
                for place, row in enumerate(chosen):
                    results[row] = output[place, : len(spectra[row]) * PATCH]
        return results

    def _require_calibration(self, version: int) -> LineCalibration:
        try:
            return _line_calibration(self._calibration(version))
        except (LookupError, TypeError, ValueError) as error:
            raise self._uncalibrated(version, error) from error


class MapParserClient(ParserClient):
    """Reads continuum maps."""

    tensors: ClassVar[dict[str, Any]] = {
        "inputs": {
            "pixels": [maps.SIDE, maps.SIDE],
            "beam": [maps.MAP_INPUTS],
        },
        "outputs": {
            "morphology": [len(maps.MORPHOLOGIES)],
            "cells": [maps.CELL_GRID, maps.CELL_GRID, maps.CELL_OUTPUTS],
        },
        "max_batch_size": MAPS_TOGETHER,
    }

    def parse(
        self, observations: Sequence[Observation], version: int, asking: Asking = nullcontext
    ) -> list[ParsedObservation | None]:
        """See ``ParserClient``."""
        trees: list[ParsedObservation | None] = [None] * len(observations)
        sources = {
            row: found
            for row, each in enumerate(observations)
            if (found := source_in_map(each)) is not None
        }
        if not sources:
            return trees
        inputs = {
            "pixels": np.array([each.input.pixels for each in sources.values()]),
            "beam": np.array([each.input.beam for each in sources.values()]),
        }
        with asking():
            outputs = self._answers(inputs, version)
        calibration, label = self._require_calibration(version), self.label(version)
        for place, (row, source) in enumerate(sources.items()):
            said = outputs["morphology"][place], outputs["cells"][place]
            if all(np.isfinite(each).all() for each in said):
                trees[row] = map_tree(observations[row], source, *said, calibration, label)
        return trees

    def _require_calibration(self, version: int) -> MapCalibration:
        try:
            return _map_calibration(self._calibration(version))
        except (LookupError, TypeError, ValueError) as error:
            raise self._uncalibrated(version, error) from error


def _some(readable: Iterator[tuple[int, Patches]]) -> dict[int, Patches]:
    """Take the next spectra, as many as are held at once, by their row."""
    found: dict[int, Patches] = {}
    total = 0
    for row, patches in readable:
        found[row] = patches
        total += len(patches)
        if total >= LAID_OUT_TOGETHER:
            break
    return found


def pieces_of(spectrum: Patches) -> list[tuple[Patches, slice]]:
    """Cut a spectrum into overlapping pieces that the network can see at once.

    Args:
        spectrum: the spectrum.

    Returns:
        Each piece, and which of its channels count. Each channel of the spectrum counts once.
    """
    length = len(spectrum)
    if length <= LONGEST:
        return [(spectrum, slice(0, length * PATCH))]
    count = -(-length // (LONGEST - 2 * OVERLAP))
    edges = np.linspace(0, length, count + 1).round().astype(int).tolist()
    pieces = []
    for start, stop in pairwise(edges):
        first = max(start - OVERLAP, 0)
        piece = spectrum.between(first, min(stop + OVERLAP, length))
        pieces.append((piece, slice((start - first) * PATCH, (stop - first) * PATCH)))
    return pieces


def padded(patches: int) -> int:
    """The number of patches that a spectrum is filled up to.

    There are only a few such numbers, so that spectra of similar length share a request. The number
    depends on nothing but the spectrum's own length.

    Args:
        patches: how many patches the spectrum has, at most ``LONGEST``.
    """
    step = next((step for most, step in _STEPS if patches <= most), _STEPS[-1][1])
    return -(-patches // step) * step


@lru_cache(maxsize=8)
def _line_calibration(text: str) -> LineCalibration:
    return LineCalibration.from_card(json.loads(text))


@lru_cache(maxsize=8)
def _map_calibration(text: str) -> MapCalibration:
    return MapCalibration.from_card(json.loads(text))
