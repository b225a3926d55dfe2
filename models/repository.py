"""Writes the model repository that Triton serves, from the exported network and its card.

One configuration for both servers: the embedded one, whose Python backend runs onnxruntime, and the
official container with its ONNX backend. The hash of the network stands in the configuration, where
clients read it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
from pathlib import Path
from typing import Any, Literal

Flavour = Literal["embedded", "container"]

WEIGHTS = Path(__file__).with_name("weights")
BACKENDS: dict[Flavour, str] = {"embedded": "python", "container": "onnxruntime"}

MAX_BATCH_SIZE = 1024
MAX_QUEUE_DELAY_US = 500
"""How long Triton waits for more requests to run together."""


def write_repository(
    directory: Path,
    flavour: Flavour,
    *,
    model: str = "critic",
    version: int = 1,
    weights: Path = WEIGHTS,
) -> Path:
    """Write ``directory/model``, replacing one that is there.

    Args:
        directory: the model repository; made if missing.
        flavour: which server it is for.
        model: name under which it is served, and of its files in ``weights``.
        version: number of the version.
        weights: folder with MODEL.onnx and its card MODEL.json.

    Returns:
        The model's directory.

    Raises:
        FileNotFoundError: there is no such network, or no card.
        ValueError: the flavour is unknown, or the card is that of another network.
    """
    if flavour not in BACKENDS:
        raise ValueError(f"flavour {flavour!r} is none of {', '.join(BACKENDS)}")
    network, card = _network_and_card(weights, model)
    target = directory / model
    # Written beside and then moved, so that a server that is looking never sees half of it.
    partial = directory / f".{model}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    (partial / str(version)).mkdir(parents=True)
    (partial / "config.pbtxt").write_text(_configuration(model, flavour, card))
    shutil.copyfile(network, partial / str(version) / "model.onnx")
    if flavour == "embedded":
        backend = Path(__file__).with_name("embedded_backend.py")
        shutil.copyfile(backend, partial / str(version) / "model.py")
    shutil.rmtree(target, ignore_errors=True)
    partial.rename(target)
    return target


def _network_and_card(weights: Path, model: str) -> tuple[Path, dict[str, Any]]:
    network, card_path = weights / f"{model}.onnx", weights / f"{model}.json"
    for path in (network, card_path):
        if not path.exists():
            raise FileNotFoundError(f"{path} is missing; train it: python -m models.train_critic")
    card: dict[str, Any] = json.loads(card_path.read_text())
    found = hashlib.sha256(network.read_bytes()).hexdigest()
    if card["sha256"] != found:
        raise ValueError(f"SHA-256 of {network} is {found}, its card says {card['sha256']}")
    return network, card


def _configuration(model: str, flavour: Flavour, card: dict[str, Any]) -> str:
    parameters = {
        "sha256": card["sha256"],
        "calibration_id": card["calibration_id"],
        "code_version": card["code_version"],
        "trained_on": card["trained_on"],
        # Both backends read it; more threads would take turns with the stages on the same cores.
        "intra_op_thread_count": "1",
    }
    sections = [
        f'name: "{model}"',
        f'backend: "{BACKENDS[flavour]}"',
        f"max_batch_size: {MAX_BATCH_SIZE}",
        *(_tensor("input", name, shape) for name, shape in card["inputs"].items()),
        *(_tensor("output", name, shape) for name, shape in card["outputs"].items()),
        f"dynamic_batching {{ max_queue_delay_microseconds: {MAX_QUEUE_DELAY_US} }}",
        "instance_group [ { kind: KIND_CPU count: 1 } ]",
        *(
            f"parameters {{ key: {json.dumps(key)} value {{ string_value: {json.dumps(value)} }} }}"
            for key, value in parameters.items()
        ),
    ]
    return "\n".join(sections) + "\n"


def _tensor(direction: str, name: str, shape: list[int]) -> str:
    return f'{direction} [ {{ name: "{name}" data_type: TYPE_FP32 dims: {shape} }} ]'


def main(arguments: list[str] | None = None) -> None:
    """The command line: writes the repository of a flavour to a directory."""
    parser = argparse.ArgumentParser(prog="python -m models.repository", description=__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--flavour", choices=list(BACKENDS), default="container")
    parser.add_argument("--version", type=int, default=1)
    options = parser.parse_args(arguments)
    print(write_repository(options.directory, options.flavour, version=options.version))


if __name__ == "__main__":
    main()
