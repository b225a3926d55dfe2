"""Other networks than the packaged ones, for tests that need a second version of a model."""

from __future__ import annotations

import hashlib
import json
import shutil
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from mmbroker.deploy.local import LocalStack
from mmbroker.models.packaged.networks import WEIGHTS
from mmbroker.models.serving import triton
from mmbroker.processors.scoring.calibration import Calibration

# Numbers of fields in the messages of onnx.proto that lead to the weights.
MODEL_GRAPH, GRAPH_INITIALIZER, TENSOR_NAME, TENSOR_RAW_DATA = 7, 5, 8, 9
OUTPUT_BIAS = b"last.bias"

SHIFT = 0.5

ANOTHER_DOCUMENTATION = b"\x32\x01x"
"""The field doc_string of an ONNX model: another file, the same network."""


def shifted_critic(folder: Path, shift: float, model: str = "critic") -> Path:
    """A folder with a critic whose outputs are larger by ``shift``, its calibration and its card.

    The calibration is shifted by half as much: it is another, and so are its probabilities.
    """
    folder.mkdir(parents=True, exist_ok=True)
    network = bytearray((WEIGHTS / "critic.onnx").read_bytes())
    place = raw_data(bytes(network), OUTPUT_BIAS)
    (bias,) = struct.unpack_from("<f", network, place.start)
    struct.pack_into("<f", network, place.start, bias + shift)
    former = Calibration.from_json((WEIGHTS / "critic_calibration.json").read_text())
    calibration = Calibration(former.outputs + np.float64(shift) / 2, former.probabilities)
    card = json.loads((WEIGHTS / "critic.json").read_text())
    card["name"] = model
    card["sha256"] = hashlib.sha256(network).hexdigest()
    card["calibration_id"] = calibration.calibration_id
    card["trained_on"] = f"nothing: the packaged critic, shifted by {shift}"
    (folder / f"{model}.onnx").write_bytes(network)
    (folder / f"{model}.json").write_text(json.dumps(card))
    (folder / f"{model}_calibration.json").write_text(calibration.to_json())
    return folder


def documented(folder: Path, model: str, packaged: str = "parser", **calibration: Any) -> Path:
    """A folder with a network of the same weights under another hash, and its card.

    Args:
        folder: made if missing.
        model: name of the model.
        packaged: name of the packaged one.
        calibration: what is different in its calibration.
    """
    folder.mkdir(parents=True, exist_ok=True)
    network = (WEIGHTS / f"{packaged}.onnx").read_bytes() + ANOTHER_DOCUMENTATION
    card = json.loads((WEIGHTS / f"{packaged}.json").read_text())
    card["name"] = model
    card["sha256"] = hashlib.sha256(network).hexdigest()
    if calibration:
        card["calibration"] |= calibration
    (folder / f"{model}.onnx").write_bytes(network)
    (folder / f"{model}.json").write_text(json.dumps(card))
    return folder


def withdrawn(stack: LocalStack, model: str) -> None:
    """Take a model from Triton and its repository."""
    triton.unload(stack.triton_url, model)
    shutil.rmtree(stack.triton.model_repository / model)


def raw_data(network: bytes, name: bytes) -> slice:
    """Where the weights of a name lie in an ONNX file."""
    for graph in fields(network, slice(0, len(network)), MODEL_GRAPH):
        for tensor in fields(network, graph, GRAPH_INITIALIZER):
            if name in [network[each] for each in fields(network, tensor, TENSOR_NAME)]:
                return next(fields(network, tensor, TENSOR_RAW_DATA))
    raise LookupError(f"no weights named {name!r}")


def fields(message: bytes, within: slice, wanted: int) -> Iterator[slice]:
    """Where the fields of a number lie in a protobuf message."""
    position = within.start
    while position < within.stop:
        key, position = varint(message, position)
        number, kind = key >> 3, key & 7
        if kind == 2:
            length, position = varint(message, position)
        elif kind == 0:
            length = varint(message, position)[1] - position
        else:
            length = {1: 8, 5: 4}[kind]
        if number == wanted:
            yield slice(position, position + length)
        position += length


def varint(message: bytes, position: int) -> tuple[int, int]:
    """A number in protobuf's encoding, and where it ends."""
    value = shift = 0
    while True:
        byte = message[position]
        position += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, position
