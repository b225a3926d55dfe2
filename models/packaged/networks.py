"""Reads a packaged network with its card, and says which version of which model it is."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

from mmbroker.processors.scoring.calibration import Calibration

Card = dict[str, Any]
Tensors = dict[str, tuple[str, list[int]]]
"""The tensors by name, each with its data type in Triton's words and its shape.

The axis of the batch is left out of a shape, and an axis of any length is -1.
"""

WEIGHTS = Path(__file__).parents[1] / "weights"
PACKAGED = ("critic", "generator", "parser", "map_parser", "refined_colours", "refined_gate")
"""The models of ``WEIGHTS`` that Triton serves."""

CALIBRATION_ID = "calibration_id"

MAX_BATCH_SIZE = 1024
"""The most rows in one batch, unless ``max_batch_size`` on the card says another number."""

PROBE_SIZE = 8

LARGEST_CARD_BYTES = 2**20
"""A larger card or calibration is refused before it is read."""

_TENSOR_NAME = re.compile(r"[A-Za-z0-9_.:/-]{1,128}")
"""Names of inputs and outputs. They stand in Triton's configuration, so nothing of a card may be
more there than a name."""

_MOST_TENSORS = 32
_LARGEST_SIZE = 2**20

DATA_TYPES = (
    "BOOL", "UINT8", "INT8", "INT16", "INT32", "INT64", "FP16", "FP32", "FP64",
)  # fmt: skip


def identity(card: Card) -> tuple[str, str]:
    """The SHA-256 of the network and the id of its calibration, or ``""``; they make a version."""
    return card["sha256"], str(card.get("calibration", {}).get(CALIBRATION_ID, ""))


def probe_shapes(card: Card) -> dict[str, list[int]]:
    """The shape of each input, without the batch, in a request that tries a version.

    An input whose shape varies can state a ``probe``: a shape that fits those of the other inputs.
    Without it, each axis of any length has 8 elements.
    """
    return {
        name: _sizes(f"probe of {name!r}", given["probe"])
        if isinstance(given, dict) and "probe" in given
        else [PROBE_SIZE if size < 0 else size for size in _tensor(name, given)[1]]
        for name, given in card["inputs"].items()
    }


def read_model(folder: Path, model: str) -> tuple[Path, Card]:
    """Read the card of a network, and make sure that both belong together.

    Args:
        folder: the folder with NAME.onnx, its card NAME.json and perhaps NAME_calibration.json.
        model: the name.

    Returns:
        The path of the network, and its card with the calibration on it.

    Raises:
        FileNotFoundError: one of the files is missing.
        ValueError: the name is not one of a model, the card is not one of a network, or the files
            do not belong together.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_]*", model):
        raise ValueError(f"model {model!r}: use lower-case letters, digits and underscores")
    network, path = folder / f"{model}.onnx", folder / f"{model}.json"
    for each in (network, path):
        if not each.is_file():
            raise FileNotFoundError(
                f"{each} is missing: a model is NAME.onnx and its card NAME.json"
            )
    if network.is_symlink():
        raise ValueError(f"{network} is a link: a model comes with its files")
    try:
        card: Card = json.loads(_text(path))
        stated, name = card["sha256"], card["name"]
        missing = {"code_version", "trained_on"} - card.keys()
        tensors_of(card)
        probe_shapes(card)
        most_rows(card)
        if not isinstance(card.get("calibration", {}), dict):
            raise TypeError(f"calibration {card['calibration']!r} is no object")
    except (LookupError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise ValueError(f"{path} is not the card of a model: {error!r}") from error
    if missing:
        raise ValueError(f"{path} is not the card of a model: {', '.join(sorted(missing))} missing")
    if name != model:
        raise ValueError(f"{path} is the card of model {name!r}, not of {model!r}")
    found = hashlib.sha256(network.read_bytes()).hexdigest()
    if stated != found:
        raise ValueError(f"SHA-256 of {network} is {found}, its card says {stated}")
    return network, _with_calibration(folder, model, card)


def _with_calibration(folder: Path, model: str, card: Card) -> Card:
    path = folder / f"{model}_calibration.json"
    if path.is_file():
        text = _text(path)
        Calibration.from_json(text)
        card = {**card, "calibration": json.loads(text)}
    elif CALIBRATION_ID not in card.get("calibration", {CALIBRATION_ID: ""}):
        # One on the card has its content for an id: calibrated anew it is another version.
        content = json.dumps(card["calibration"], sort_keys=True).encode()
        digest = hashlib.blake2b(content, digest_size=8).hexdigest()
        card = {**card, "calibration": {**card["calibration"], CALIBRATION_ID: digest}}
    stated = card.get(CALIBRATION_ID) or None
    found = card.get("calibration", {}).get(CALIBRATION_ID)
    if stated is not None and found is None:
        raise FileNotFoundError(f"{path} is missing: the card names calibration {stated}")
    if stated not in (None, found):
        raise ValueError(f"{path} is calibration {found}, the card names {stated}")
    return card


def _text(path: Path) -> str:
    """The text of a file that came from another person.

    Raises:
        ValueError: it is a link, or too large.
    """
    if path.is_symlink():
        raise ValueError(f"{path} is a link: a model comes with its files")
    size = path.stat().st_size
    if size > LARGEST_CARD_BYTES:
        raise ValueError(f"{path} has {size:,} bytes, more than {LARGEST_CARD_BYTES:,}")
    return path.read_text()


def tensors_of(card: Card) -> dict[str, Tensors]:
    """The ``inputs`` and the ``outputs`` that a card states.

    On the card, a tensor is its shape without the batch, and then it is FP32; or it is an object
    with ``shape``, ``dtype`` and perhaps ``probe``, see ``probe_shapes``.

    Raises:
        LookupError, TypeError, AttributeError, ValueError: the card does not state them so.
    """
    for direction in ("inputs", "outputs"):
        if not 0 < len(card[direction]) <= _MOST_TENSORS:
            raise ValueError(f"{len(card[direction])} {direction}, not 1 to {_MOST_TENSORS}")
    return {
        direction: {name: _tensor(name, given) for name, given in card[direction].items()}
        for direction in ("inputs", "outputs")
    }


def most_rows(card: Card) -> int:
    """Most rows of a request.

    Raises:
        ValueError: the card says no number from 1 to ``MAX_BATCH_SIZE``.
    """
    stated = card.get("max_batch_size", MAX_BATCH_SIZE)
    if not isinstance(stated, int) or not 1 <= stated <= MAX_BATCH_SIZE:
        raise ValueError(f"max_batch_size {stated!r} is no number from 1 to {MAX_BATCH_SIZE}")
    return stated


def _tensor(name: str, given: Any) -> tuple[str, list[int]]:
    if not _TENSOR_NAME.fullmatch(name):
        raise ValueError(f"name {name!r} of an input or output: use letters, digits and _ . : / -")
    shape, dtype = (given["shape"], given["dtype"]) if isinstance(given, dict) else (given, "FP32")
    if dtype not in DATA_TYPES:
        raise ValueError(f"data type {dtype!r} of {name!r} is none of {', '.join(DATA_TYPES)}")
    return dtype, _sizes(f"shape of {name!r}", shape, varies=True)


def _sizes(what: str, given: Any, varies: bool = False) -> list[int]:
    """Sizes of a shape on a card; -1 is one where the size ``varies``."""
    if (
        not isinstance(given, list)
        or not given
        or not all(
            type(size) is int and (0 < size <= _LARGEST_SIZE or (varies and size == -1))
            for size in given
        )
    ):
        also = " and -1" if varies else ""
        raise ValueError(f"{what}: {given!r} is not of numbers from 1 to {_LARGEST_SIZE:,}{also}")
    return given
