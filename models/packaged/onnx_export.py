"""Exports a trained network to ONNX, and checks that the file gives the same. Needs torch."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from mmbroker.models.packaged.silent_onnxruntime import onnxruntime

_OPSET = 17
_LARGEST_DIFFERENCE = 1e-4
_SHARE_AT_AN_EDGE = 1e-5
"""The share of outputs that may differ by more.

The network decides what is detected, and rounding can turn a decision at the edge.
"""


def export(
    network: nn.Module,
    inputs: Mapping[str, Tensor],
    outputs: Sequence[str],
    path: Path,
    free_axes: Mapping[str, Mapping[int, str]] | None = None,
) -> str:
    """Write a network to ONNX, and compare its outputs in both forms.

    Args:
        network: the network; it is moved to the processor and set to evaluation mode.
        inputs: examples by name, in the order of the network's arguments; the first axis is the
            batch.
        outputs: the names of the network's outputs.
        path: the file to write.
        free_axes: the names of the axes that may have any length, by input or output and by the
            number of the axis; the first axis of each by default.

    Returns:
        The SHA-256 of the file.

    Raises:
        RuntimeError: the outputs of the file differ from those of the network.
    """
    network.to("cpu").eval()
    torch.onnx.export(
        network,
        tuple(each[:2] for each in inputs.values()),
        str(path),
        input_names=list(inputs),
        output_names=list(outputs),
        dynamic_axes=free_axes or {each: {0: "batch"} for each in (*inputs, *outputs)},
        opset_version=_OPSET,
        # The newer exporter needs another package for nothing that these networks have.
        dynamo=False,
    )
    with torch.no_grad():
        said = network(*inputs.values())
    expected = said if isinstance(said, tuple) else (said,)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    found = session.run(None, {name: each.numpy() for name, each in inputs.items()})
    for output, one, other in zip(outputs, found, expected, strict=True):
        close = np.isclose(one, other.numpy(), rtol=1e-4, atol=_LARGEST_DIFFERENCE)
        if np.mean(~close) > _SHARE_AT_AN_EDGE:
            difference = np.abs(one - other.numpy()).max()
            raise RuntimeError(
                f"{output} of {path.name} differs from the trained network's by {difference}"
            )
    return hashlib.sha256(path.read_bytes()).hexdigest()
