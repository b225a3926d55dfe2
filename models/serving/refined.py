"""Asks the refined redshift's networks on Triton: fingerprints in, posteriors out."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmbroker.models.packaged.networks import WEIGHTS
from mmbroker.models.packaged.refined import COLOURS, GATE, REFINED_ROLE, Beside, weights_beside
from mmbroker.models.packaged.templates import load_templates
from mmbroker.models.serving.errors import ModelUnavailable
from mmbroker.models.serving.triton import Model, Version
from mmbroker.processors.redshift import ConventionalRedshift
from mmbroker.processors.redshift.grids import Array, Array32
from mmbroker.processors.redshift.refined import Fallback, Fitting, Known, RefinedRedshift
from mmbroker.schemas.events import Fingerprint, ModelUsed, RedshiftPosterior

Asking = Callable[[str], AbstractContextManager[None]]
"""Takes a model's name and makes a context in which that model is asked, to measure the time."""


class RefinedNetworkClient(Model):
    """Asks one of the two networks on Triton.

    The arrays and numbers that a network is used with stand on its card, see ``Beside``.
    """

    _read: tuple[Version, Beside] | None = None
    """The card that was read last."""

    def require_usable(self, version: int) -> None:
        """Make sure that a version's card can be used with the conventional redshift of this code.

        Raises:
            ModelUnavailable: the card cannot be used, or the server does not answer.
        """
        found, wanted = self.beside(version).conventional, _packaged(self.model)[0].conventional
        if found != wanted:
            raise ModelUnavailable(
                f"version {version} of model {self.model!r} at {self.url} was trained with the "
                f"conventional redshift {found} and this is {wanted}: "
                f"mmbroker models add {self.model} {WEIGHTS}, mmbroker models use {self.model} N"
            )

    def beside(self, version: int) -> Beside:
        """The arrays and numbers that a version is used with.

        Raises:
            ModelUnavailable: the server does not answer, or a field of the card is missing or
                impossible.
        """
        asked = self.version(version)
        try:
            return self._beside(asked)
        except ValueError as error:
            raise ModelUnavailable(
                f"the card of version {version} of model {self.model!r} at {self.url} {error}"
            ) from error

    def _beside(self, asked: Version) -> Beside:
        with self._lock:
            if self._read is None or self._read[0] is not asked:
                packaged, sha256 = _packaged(self.model)
                if "calibration" not in asked.card and asked.sha256 == sha256:
                    return packaged  # served since before cards said it
                self._read = asked, Beside.read(self.model, asked.card)
            return self._read[1]

    def of_training(self, training: Mapping[str, Any]) -> list[int]:
        """The versions of one training, ascending, without those whose cards cannot be used.

        Args:
            training: the name, version and SHA-256 of the weights, as in ``Beside``.

        Raises:
            ModelUnavailable: the server does not answer.
        """
        found = []
        for number in self.versions():
            asked = self.version(number)
            with suppress(ValueError):
                if self._beside(asked).training == training:
                    found.append(number)
        return found

    def answer(self, inputs: Mapping[str, Array32], version: int, output: str) -> Array:
        """Ask a version for one of its outputs.

        If the server refuses the inputs, no galaxy is at fault: that is an unavailable model too.

        Args:
            inputs: float32 arrays by name, whose first axis is N galaxies.
            version: the number of the version.
            output: the name of the output.

        Returns:
            The output, float64, whose first axis is N galaxies.

        Raises:
            ModelUnavailable: no answer comes within the deadline and retries, the server refuses
                the inputs, or the answer has no such output.
        """
        try:
            found = self.infer(inputs, version)[output]
        except (LookupError, ValueError) as error:
            raise ModelUnavailable(f"model {self.model!r} at {self.url}: {error!r}") from error
        return found.astype(np.float64)


def refined_networks(
    url: str, *, deadline_s: float = 5.0, retries: int = 3
) -> list[RefinedNetworkClient]:
    """Make the clients of the two networks, the colours and the gate.

    Args:
        url: the server's gRPC endpoint, host:port.
        deadline_s: how long a call may take with its retries, in s.
        retries: how often a failed request is sent again.
    """
    return [
        RefinedNetworkClient(url, name, deadline_s=deadline_s, retries=retries)
        for name in (COLOURS, GATE)
    ]


class RefinedRedshiftClient:
    """Computes refined redshifts with networks on Triton, in the versions that a call names.

    Args:
        networks: the clients of the colours and of the gate.
        conventional: the conventional redshift that is refined; the packaged template fit is added.
    """

    def __init__(
        self, networks: Sequence[RefinedNetworkClient], conventional: ConventionalRedshift
    ) -> None:
        self.networks = networks
        self._conventional = conventional.with_templates(load_templates())

    def close(self) -> None:
        """Close the connections."""
        for network in self.networks:
            network.close()

    def require_together(self, versions: Sequence[int]) -> None:
        """Make sure that versions of the two networks belong together.

        Args:
            versions: the versions of the colours and of the gate, each usable by itself.

        Raises:
            ModelUnavailable: they are of two trainings, or the server does not answer.
        """
        trainings = [
            network.beside(version).training
            for network, version in zip(self.networks, versions, strict=True)
        ]
        if trainings[0] != trainings[1]:
            pairs = zip(self.networks, versions, trainings, strict=True)
            named = [f"{each.model} {number} of {_named(one)}" for each, number, one in pairs]
            raise ModelUnavailable(
                f"networks of two trainings are in force, {' and '.join(named)}: "
                "mmbroker models use puts both of one in force"
            )

    def refine(
        self,
        fingerprints: Sequence[Fingerprint],
        versions: Sequence[int],
        asking: Asking = lambda _: nullcontext(),
        known: Known | None = None,
        fitting: Fitting = nullcontext,
    ) -> list[RedshiftPosterior | Fallback]:
        """Refine the redshift of each fingerprint.

        A posterior is the same to the bit in whichever batch the galaxy is.

        Args:
            fingerprints: the fingerprints of N galaxies.
            versions: the versions of the colours and of the gate, usable and of one training.
            asking: makes the context in which a network is asked.
            known: what is known already about the galaxies, so that it is not computed again.
            fitting: makes the context in which templates are fitted.

        Returns:
            The refined posterior of each galaxy, in order, or the reason why there is none.

        Raises:
            ModelUnavailable: no answer comes within the deadline and retries, or a card cannot be
                used.
        """
        colours, gate = (
            network.beside(version)
            for network, version in zip(self.networks, versions, strict=True)
        )
        weights, served = weights_beside(colours, gate), _Asked(self.networks, versions, asking)
        refined = RefinedRedshift(weights, self._conventional, served)
        return refined.refine(fingerprints, known, fitting)

    def used(self, versions: Sequence[int]) -> list[ModelUsed]:
        """Name the weights and the networks' versions, as a score states which models it used.

        Args:
            versions: the versions of the colours and of the gate.

        Raises:
            ModelUnavailable: the server does not answer, or does not serve these versions.
        """
        training = self.networks[0].beside(versions[0]).training
        return [
            ModelUsed(REFINED_ROLE, training["name"], str(training["version"]), training["sha256"]),
            *(
                ModelUsed(REFINED_ROLE, network.model, str(number), network.version(number).sha256)
                for network, number in zip(self.networks, versions, strict=True)
            ),
        ]


class _Asked:
    """The two networks in chosen versions; see ``refined_networks.Networks``."""

    def __init__(
        self, networks: Sequence[RefinedNetworkClient], versions: Sequence[int], asking: Asking
    ) -> None:
        self._colours, self._gate = zip(networks, versions, strict=True)
        self._asking = asking

    def colours(self, fluxes: Array32) -> Array:
        network, version = self._colours
        with self._asking(network.model):
            mixture = network.answer({"fluxes": fluxes}, version, "mixture")
        # Laid out as the numpy networks' is: sums over members take the same order.
        return np.ascontiguousarray(mixture.transpose(1, 0, 2, 3))

    def gate(self, features: Array32, published: NDArray[np.bool_]) -> Array:
        network, version = self._gate
        inputs = {"features": features, "published": published[:, None].astype(np.float32)}
        with self._asking(network.model):
            return network.answer(inputs, version, "shares")


def _named(training: Mapping[str, Any]) -> str:
    return f"{training['name']} {training['version']} {training['sha256'][:12]}"


@lru_cache
def _packaged(model: str) -> tuple[Beside, str]:
    """The arrays and numbers that a packaged network is used with, and the network's SHA-256."""
    card = json.loads((WEIGHTS / f"{model}.json").read_text())
    return Beside.read(model, card), str(card["sha256"])
