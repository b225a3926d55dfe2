"""The refined redshift with its networks on Triton: fingerprints in, posteriors out."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from processors.redshift import ConventionalRedshift
from processors.redshift.grids import Array, Array32
from processors.redshift.refined import Known
from schemas.events import Fingerprint, ModelUsed, RedshiftPosterior

from .errors import ModelUnavailable
from .refined import COLOURS, GATE, REFINED_ROLE, load_refined, refined_used
from .repository import WEIGHTS
from .triton import Model

Asking = Callable[[str], AbstractContextManager[None]]
"""Makes a context in which a model is asked, by its name, to measure it."""


class RefinedNetwork(Model):
    """One of the networks on Triton.

    They belong to what is packaged beside them: how fluxes are scaled, how far the members may
    disagree, how much the mixture is sharpened. So the packaged network is the only one usable.
    """

    def require_usable(self, version: int) -> None:
        """Make sure that a version is the packaged network.

        Raises:
            ModelUnavailable: it is not, or the server does not answer.
        """
        found, wanted = self.version(version).sha256, packaged_sha256(self.model)
        if found != wanted:
            raise ModelUnavailable(
                f"version {version} of model {self.model!r} at {self.url} has SHA-256 {found} and "
                f"does not belong to the packaged weights of the refined redshift, {wanted} does: "
                f"mmbroker models add {self.model} {WEIGHTS}, mmbroker models use {self.model} N"
            )

    def answer(self, inputs: Mapping[str, Array32], version: int, output: str) -> Array:
        """One output of a version, float64. No galaxy is at fault if it refuses the inputs.

        Args:
            inputs: float32 arrays by name, with N rows.
            version: which version is asked.
            output: name of the output.

        Raises:
            ModelUnavailable: no answer within the deadline and retries, or another one.
        """
        try:
            found = self.infer(inputs, version)[output]
        except (LookupError, ValueError) as error:
            raise ModelUnavailable(f"model {self.model!r} at {self.url}: {error!r}") from error
        return found.astype(np.float64)


def refined_networks(
    url: str, *, deadline_s: float = 5.0, retries: int = 3
) -> list[RefinedNetwork]:
    """The colours and the gate on Triton.

    Args:
        url: host:port of the server's gRPC endpoint.
        deadline_s: how long a call may take, retries included.
        retries: how often a failed request is sent again.
    """
    return [
        RefinedNetwork(url, name, deadline_s=deadline_s, retries=retries)
        for name in (COLOURS, GATE)
    ]


class ServedRefined:
    """The refined redshift of the packaged weights, its networks asked on Triton.

    Args:
        networks: the colours and the gate.
        conventional: what it rests on; the packaged template fit is added to it.

    Raises:
        ValueError: the weights go with another conventional redshift.
    """

    def __init__(
        self, networks: Sequence[RefinedNetwork], conventional: ConventionalRedshift
    ) -> None:
        self.networks = networks
        self._refined = load_refined(conventional)

    def close(self) -> None:
        """Close the connections."""
        for network in self.networks:
            network.close()

    def refine(
        self,
        fingerprints: Sequence[Fingerprint],
        versions: Sequence[int],
        asking: Asking = lambda _: nullcontext(),
        known: Known | None = None,
    ) -> list[RedshiftPosterior | str]:
        """The refined posterior of each fingerprint, or why there is none.

        The same to the bit in whichever batch.

        Args:
            fingerprints: of any galaxies.
            versions: of the networks that are asked, which are usable.
            asking: entered while a network is asked.
            known: what was found out already about the galaxies; None for nothing.

        Raises:
            ModelUnavailable: no answer within the deadline and retries.
        """
        served = _Asked(self.networks, versions, asking)
        return self._refined.with_networks(served).refine(fingerprints, known)

    def used(self, versions: Sequence[int]) -> list[ModelUsed]:
        """The weights and the versions of the networks, as a score names what had a part in it.

        Raises:
            ModelUnavailable: the server does not answer, or does not serve them.
        """
        return [
            refined_used(),
            *(
                ModelUsed(REFINED_ROLE, network.model, str(number), network.version(number).sha256)
                for network, number in zip(self.networks, versions, strict=True)
            ),
        ]


class _Asked:
    """The networks in the versions asked; see ``refined_networks.Networks``."""

    def __init__(
        self, networks: Sequence[RefinedNetwork], versions: Sequence[int], asking: Asking
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


@lru_cache
def packaged_sha256(model: str) -> str:
    """SHA-256 of a packaged network."""
    return str(json.loads((WEIGHTS / f"{model}.json").read_text())["sha256"])
