"""Builds the model repository that Triton serves: models, each in several versions.

A model is NAME.onnx with its card NAME.json. A calibration, if it has one, is on the card or in
NAME_calibration.json beside them. Each version keeps its card, with the calibration on it. The
model's configuration holds all cards, and clients read there the card of the version that they ask.

The repository is for one of two servers: the embedded one, whose Python backend runs onnxruntime,
or the official container with its ONNX backend.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from mmbroker.models.packaged.networks import (
    PACKAGED,
    WEIGHTS,
    Card,
    Tensors,
    identity,
    most_rows,
    read_model,
    tensors_of,
)

Flavour = Literal["embedded", "container"]


BACKENDS: dict[Flavour, str] = {"embedded": "python", "container": "onnxruntime"}

NETWORK = "model.onnx"
CARD = "card.json"
BACKEND = "model.py"
CONFIGURATION = "config.pbtxt"


MAX_QUEUE_DELAY_US = 500
"""How long Triton waits for more requests that it can compute together."""


def parameter_of(version: int) -> str:
    """The name of the configuration's parameter that holds a version's card as JSON."""
    return f"version_{version}"


def provide(
    directory: Path,
    flavour: Flavour,
    weights: Path = WEIGHTS,
    models: Sequence[str] = PACKAGED,
) -> None:
    """Make sure that a repository has the packaged models; its server must not run.

    A model that is missing begins with version 1. A packaged network that is none of the versions
    there becomes the next version beside them, which is not in force until somebody says so. If it
    has other inputs or outputs, this code can no longer ask the former versions; they are removed,
    and it is version 1 again.

    Args:
        directory: the model repository; made if it is missing.
        flavour: the kind of server.
        weights: the folder with the models.
        models: their names.

    Raises:
        FileNotFoundError: a network or a card is missing.
        ValueError: the flavour is unknown or not that of the repository, or a card belongs to
            another network.
    """
    for model in models:
        _, card = read_model(weights, model)
        served = versions(directory, model)
        if not served or tensors_of(card) != tensors_of(served[max(served)]):
            shutil.rmtree(directory / model, ignore_errors=True)
        add_version(directory, model, weights, flavour)
        for number in versions(directory, model) if flavour == "embedded" else ():
            _copy_backend(directory / model / str(number))


def versions(directory: Path, model: str) -> dict[int, Card]:
    """The cards of a model's versions in a repository, by ascending number.

    It is empty if the repository does not have the model.
    """
    found = {
        int(path.parent.name): json.loads(path.read_text())
        for path in (directory / model).glob(f"*/{CARD}")
        if path.parent.name.isdecimal()
    }
    return dict(sorted(found.items()))


def add_version(directory: Path, model: str, source: Path, flavour: Flavour | None = None) -> int:
    """Write the next version of a model beside the former ones, which stay as they are.

    If a version has the same network and calibration, none is written, and its number is returned.

    Args:
        directory: the model repository; made if it is missing.
        model: the name of the model and of its files.
        source: the folder with the model's files.
        flavour: the kind of server; None for the one that the repository is for already.

    Returns:
        The number of the version.

    Raises:
        FileNotFoundError: the network, its card or its calibration is missing.
        ValueError: the card belongs to another network or model, the inputs or outputs differ from
            those of the former versions, or the flavour is not that of the repository.
    """
    network, card = read_model(source, model)
    flavour = _flavour(directory, flavour)
    served = versions(directory, model)
    for number, other in served.items():
        if identity(other) == identity(card):
            _configure(directory / model, flavour, served)
            return number
        if tensors_of(other) != tensors_of(card):
            raise ValueError(
                f"{source / model}.json: inputs and outputs {_shown(tensors_of(card))} are not "
                f"those of version {number} of model {model!r}: {_shown(tensors_of(other))}"
            )
    number = max(served, default=0) + 1
    # It is written beside and then moved, so that a server that looks never sees half of it. The
    # configuration comes first: a card without its version does no harm.
    target = directory / model
    partial = target / f".{number}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    shutil.copyfile(network, partial / NETWORK)
    (partial / CARD).write_text(json.dumps(card))
    if flavour == "embedded":
        _copy_backend(partial)
    _configure(target, flavour, {**served, number: card})
    partial.rename(target / str(number))
    return number


def _copy_backend(folder: Path) -> None:
    shutil.copyfile(Path(__file__).with_name("embedded_backend.py"), folder / BACKEND)


def remove_version(directory: Path, model: str, version: int) -> None:
    """Remove a version from a repository, and the model with its last version.

    Raises:
        FileNotFoundError: the repository has no such version.
        ValueError: the repository is empty or mixed.
    """
    flavour = _flavour(directory, None)
    shutil.rmtree(directory / model / str(version))
    left = versions(directory, model)
    if left:
        _configure(directory / model, flavour, left)
    else:
        shutil.rmtree(directory / model)


def _shown(tensors: dict[str, Tensors]) -> str:
    each = (
        f"{name} {dtype}{shape}"
        for direction in tensors.values()
        for name, (dtype, shape) in direction.items()
    )
    return ", ".join(each)


def _flavour(directory: Path, wanted: Flavour | None) -> Flavour:
    """The flavour of a repository, or the wanted one if the repository is empty."""
    if wanted is not None and wanted not in BACKENDS:
        raise ValueError(f"flavour {wanted!r} is none of {', '.join(BACKENDS)}")
    found: set[Flavour] = {
        "embedded" if (path.parent / BACKEND).is_file() else "container"
        for path in directory.glob(f"*/*/{NETWORK}")
    }
    if not found and wanted is not None:
        return wanted
    if len(found) != 1 or wanted not in (None, *found):
        has = " and ".join(sorted(found)) or "empty"
        raise ValueError(f"the model repository {directory} is {has}, not {wanted or 'of a kind'}")
    return found.pop()


def _configure(target: Path, flavour: Flavour, cards: dict[int, Card]) -> None:
    """Write a model's configuration if it changes, because Triton loads it again when written."""
    text = _configuration(target.name, flavour, cards)
    path = target / CONFIGURATION
    if path.is_file() and path.read_text() == text:
        return
    partial = target / f".{CONFIGURATION}.partial"
    partial.write_text(text)
    partial.replace(path)


def _configuration(model: str, flavour: Flavour, cards: dict[int, Card]) -> str:
    parameters = {
        **{parameter_of(number): json.dumps(card) for number, card in cards.items()},
        # Both backends read it; more threads would take turns with the stages on the same cores.
        "intra_op_thread_count": "1",
    }
    tensors = tensors_of(cards[max(cards)])
    sections = [
        f'name: "{model}"',
        f'backend: "{BACKENDS[flavour]}"',
        f"max_batch_size: {min(map(most_rows, cards.values()))}",
        *(
            f'{direction} [ {{ name: "{name}" data_type: TYPE_{dtype} dims: {shape} }} ]'
            for direction in ("input", "output")
            for name, (dtype, shape) in tensors[f"{direction}s"].items()
        ),
        "version_policy { all { } }",
        f"dynamic_batching {{ max_queue_delay_microseconds: {MAX_QUEUE_DELAY_US} }}",
        "instance_group [ { kind: KIND_CPU count: 1 } ]",
        *(
            f"parameters {{ key: {json.dumps(key)} value {{ string_value: {json.dumps(value)} }} }}"
            for key, value in parameters.items()
        ),
    ]
    return "\n".join(sections) + "\n"


def main(arguments: list[str] | None = None) -> None:
    """Read the command line, and write the packaged models to a repository."""
    parser = argparse.ArgumentParser(
        prog="python -m mmbroker.models.serving.repository", description=__doc__
    )
    parser.add_argument("directory", type=Path)
    parser.add_argument("--flavour", choices=list(BACKENDS), default="container")
    options = parser.parse_args(arguments)
    provide(options.directory, options.flavour)
    for model in PACKAGED:
        numbers = ", ".join(map(str, versions(options.directory, model)))
        print(f"{options.directory / model}: version {numbers}")


if __name__ == "__main__":
    main()
