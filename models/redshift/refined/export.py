"""Exports the networks of the refined redshift to ONNX, as Triton serves them, with cards.

They are two models, because ``processors.redshift.refined`` makes the gate's features from what the
colours' networks say. Needs torch, onnx and onnxruntime.

    python -m mmbroker.models.redshift.refined.export --output FOLDER
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mmbroker.models.packaged import onnx_export
from mmbroker.models.packaged.cards import about
from mmbroker.models.packaged.networks import WEIGHTS
from mmbroker.models.packaged.refined import COLOURS, GATE, beside
from mmbroker.processors.redshift.refined import FEATURES
from mmbroker.processors.redshift.refined_networks import COMPONENTS, WITH_PUBLISHED
from mmbroker.schemas import __version__

_ABSENT = -1e9


class _Members(nn.Module):
    """The layers of all members of an ensemble, along the first axis."""

    def __init__(self, weights: Mapping[str, NDArray[Any]], names: tuple[str, ...]) -> None:
        super().__init__()
        parts = [(weights[f"{name}.weight"], weights[f"{name}.bias"]) for name in names]
        self.weights = nn.ParameterList(
            [torch.from_numpy(weight.transpose(0, 2, 1).copy()) for weight, _ in parts]
        )
        self.biases = nn.ParameterList([torch.from_numpy(bias[:, None]) for _, bias in parts])


class Colours(_Members):
    """The networks of the colours: fluxes in, each member's mixture of Gaussians out.

    Args:
        weights: the arrays of the refined redshift, by name.
    """

    def __init__(self, weights: Mapping[str, NDArray[Any]]) -> None:
        super().__init__(weights, ("colours.0", "colours.1", "colours.2"))

    def forward(self, fluxes: Tensor) -> Tensor:
        """Compute the mixtures.

        Args:
            fluxes: fluxes as ``refined.scaled`` gives them, float32, shape (N, intervals).

        Returns:
            The ln of the shares, the means and the ln of the widths in ln(1 + z), float32, shape
            (N, members, 3, Gaussians).
        """
        layer = fluxes.unsqueeze(0)
        for weight, bias in zip(self.weights[:2], self.biases[:2], strict=True):
            layer = nn.functional.silu(layer @ weight + bias)
        share, mean, width = (layer @ self.weights[2] + self.biases[2]).chunk(3, dim=2)
        parts = [share.log_softmax(dim=2), 0.7 + 0.4 * mean, width.clamp(-2.5, 2.0) - 2.0]
        return torch.stack(parts, dim=2).transpose(0, 1)


class Gate(_Members):
    """The gate: features in, shares of the components out.

    Args:
        weights: the arrays of the refined redshift, by name.
    """

    def __init__(self, weights: Mapping[str, NDArray[Any]]) -> None:
        super().__init__(weights, ("gate.0", "gate.1"))
        self.mean = nn.Parameter(torch.from_numpy(weights["features.mean"]))
        self.scatter = nn.Parameter(torch.from_numpy(weights["features.scatter"]))
        needs = torch.arange(len(COMPONENTS)) < WITH_PUBLISHED.stop
        self.absent = nn.Parameter(_ABSENT * needs.float())

    def forward(self, features: Tensor, published: Tensor) -> Tensor:
        """Compute the shares.

        Args:
            features: features as ``refined.features`` gives them, float32, shape (N, FEATURES).
            published: 1 where there is a published redshift, else 0; float32, shape (N, 1).

        Returns:
            Shares that sum to 1, float32, shape (N, COMPONENTS).
        """
        layer = ((features - self.mean) / self.scatter).unsqueeze(0)
        layer = torch.tanh(layer @ self.weights[0] + self.biases[0])
        raw = layer @ self.weights[1] + self.biases[1] + (1 - published) * self.absent
        return raw.softmax(dim=2).mean(dim=0)


def export(weights: Mapping[str, NDArray[Any]], stated: Mapping[str, Any], folder: Path) -> None:
    """Write both networks and their cards.

    Args:
        weights: the arrays of the refined redshift, by name.
        stated: their card.
        folder: the folder to write to; made if it is missing.

    Raises:
        RuntimeError: a network in ONNX differs from the one in torch.
    """
    folder.mkdir(parents=True, exist_ok=True)
    intervals = len(weights["intervals"])
    gaussians = weights["colours.2.bias"].shape[1] // 3
    members = len(weights["colours.2.bias"])
    given = torch.randn(5, intervals)
    told = (torch.randn(5, FEATURES), torch.tensor([[1.0], [0.0], [1.0], [0.0], [1.0]]))
    mixture = {"mixture": [members, 3, gaussians]}
    settings = dict(beside(COLOURS, weights, stated))
    _write(folder, COLOURS, Colours(weights), {"fluxes": given}, mixture, settings)
    inputs = {"features": told[0], "published": told[1]}
    shares = {"shares": [len(COMPONENTS)]}
    _write(folder, GATE, Gate(weights), inputs, shares, dict(beside(GATE, weights, stated)))


def _write(
    folder: Path,
    name: str,
    network: nn.Module,
    inputs: dict[str, Tensor],
    outputs: dict[str, list[int]],
    calibration: dict[str, Any],
) -> None:
    sha256 = onnx_export.export(network, inputs, [*outputs], folder / f"{name}.onnx")
    card = {
        "name": name,
        "sha256": sha256,
        "calibration_id": "",
        "code_version": __version__,
        "trained_on": "GOODS-N (Liu et al. 2018), training part; see refined.json",
        "inputs": {key: list(each.shape[1:]) for key, each in inputs.items()},
        "outputs": outputs,
        **about(name),
        "calibration": calibration,
    }
    (folder / f"{name}.json").write_text(json.dumps(card, indent=1) + "\n")


def main(arguments: list[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m mmbroker.models.redshift.refined.export", description=__doc__
    )
    parser.add_argument("--output", type=Path, default=WEIGHTS)
    options = parser.parse_args(arguments)
    with np.load(WEIGHTS / "refined.npz") as arrays:
        card = json.loads((WEIGHTS / "refined.json").read_text())
        export(dict(arrays), card, options.output)


if __name__ == "__main__":
    main()
