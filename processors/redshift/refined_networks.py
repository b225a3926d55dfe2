"""The networks of the refined redshift: their interface, and their computation in numpy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mmbroker.processors.redshift.grids import Array, Array32

COMPONENTS = (
    "published, narrow",
    "published",
    "published x colours",
    "published x colours x templates",
    "published, wide x colours",
    "published, wide x colours x templates",
    "colours",
    "colours x templates",
    "colours x continuum",
    "continuum",
    "photometry",
    "conventional",
)
WITH_PUBLISHED = slice(0, 6)
"""The components that need a published redshift."""

_NEEDS_PUBLISHED = np.arange(len(COMPONENTS)) < WITH_PUBLISHED.stop


class Networks(Protocol):
    """The interface of both ensembles of networks."""

    def colours(self, fluxes: Array32) -> Array:
        """Parameters of each member's mixture of Gaussians in ln(1 + z).

        Args:
            fluxes: output of ``refined.scaled``, float32, shape (N, intervals).

        Returns:
            ln of the shares, means, and ln of the widths, shape (members, N, 3, Gaussians).
        """

    def gate(self, features: Array32, published: NDArray[np.bool_]) -> Array:
        """Shares of the components, which sum to 1, shape (N, COMPONENTS).

        Args:
            features: see ``refined.features``, float32, shape (N, FEATURES).
            published: whether each galaxy has a published redshift, shape (N,).
        """


class NumpyNetworks:
    """Both ensembles, computed with numpy.

    Args:
        weights: weights of the members' layers by name, as ``models.redshift.refined.train`` writes
            them.
    """

    def __init__(self, weights: Mapping[str, NDArray[Any]]) -> None:
        self._weights = weights

    def colours(self, fluxes: Array32) -> Array:
        """See ``Networks``."""
        layer = fluxes
        for name in ("colours.0", "colours.1"):
            layer = _silu(self._linear(name, layer))
        raw = self._linear("colours.2", layer).astype(np.float64)
        raw = raw.reshape(*raw.shape[:2], 3, -1)
        share = raw[..., 0, :] - np.logaddexp.reduce(raw[..., 0, :], axis=-1)[..., None]
        width = np.clip(raw[..., 2, :], -2.5, 2.0) - 2.0
        return np.stack([share, 0.7 + 0.4 * raw[..., 1, :], width], axis=-2)

    def gate(self, features: Array32, published: NDArray[np.bool_]) -> Array:
        """See ``Networks``."""
        weights = self._weights
        layer = (features - weights["features.mean"]) / weights["features.scatter"]
        raw = self._linear("gate.1", np.tanh(self._linear("gate.0", layer)))
        raw = np.where(published[:, None] | ~_NEEDS_PUBLISHED, raw.astype(np.float64), -np.inf)
        shares = np.exp(raw - raw.max(axis=2, keepdims=True))
        return np.asarray((shares / shares.sum(axis=2, keepdims=True)).mean(axis=0))

    def _linear(self, name: str, layer: Array32) -> Array32:
        """Apply one linear layer of every member; shape (members, N, outputs)."""
        weight, bias = self._weights[f"{name}.weight"], self._weights[f"{name}.bias"]
        return np.asarray(layer @ weight.transpose(0, 2, 1) + bias[:, None, :])


def _silu(layer: Array32) -> Array32:
    return np.asarray(layer / (1 + np.exp(-layer)))
