"""Build the model repository that Triton serves: models, each in several versions.

A model comes as NAME.onnx with its card NAME.json. A calibration, if it has one, is on the card or
in NAME_calibration.json beside. Each version keeps its card, with the calibration on it; all cards
stand in the model's configuration, where clients read the one of the version that they asked.

One configuration for both servers: the embedded one, whose Python backend runs onnxruntime, and the
official container with its ONNX backend.
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
"""How long Triton waits for more requests to run together."""


def parameter_of(version: int) -> str:
    """The parameter of the configuration that holds a version's card, as JSON."""
    return f"version_{version}"


def provide(
    directory: Path,
    flavour: Flavour,
    weights: Path = WEIGHTS,
    models: Sequence[str] = PACKAGED,
) -> None:
    """See to it that a repository has the packaged models; for a server that does not run.

    A model that is not there begins with version 1. A packaged network that is none of the versions
    there becomes the next one beside them, not in force until somebody says so; if it has other
    inputs or outputs, the former versions can no longer be asked, and it takes their place.

    Args:
        directory: the model repository; made if missing.
        flavour: which server it is for.
        weights: folder with the models.
        models: their names.

    Raises:
        FileNotFoundError: a network or a card is missing.
        ValueError: the flavour is unknown or another than the repository has, or a card is that of
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
    """The cards of a model's versions in a repository, ascending; none if it does not have it."""
    found = {
        int(path.parent.name): json.loads(path.read_text())
        for path in (directory / model).glob(f"*/{CARD}")
        if path.parent.name.isdecimal()
    }
    return dict(sorted(found.items()))


def add_version(directory: Path, model: str, source: Path, flavour: Flavour | None = None) -> int:
    """Write the next version of a model beside those that are there, which stay as they are.

    What is there already, network and calibration, is not written again.

    Args:
        directory: the model repository; made if missing.
        model: name under which it is served, and of its files.
        source: folder with the model's files.
        flavour: which server the repository is for; None for the one that it is for already.

    Returns:
        Number of the version.

    Raises:
        FileNotFoundError: there is no such network, card or calibration.
        ValueError: the card is that of another network or model, the inputs or outputs differ from
            those of the versions that are there, or the flavour is not that of the repository.
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
    # Written beside and then moved, so that a server that is looking never sees half of it. The
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
    """Take a version out of a repository; with the last one goes the model."""
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
    """The flavour of a repository, which has one or is empty."""
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
    """Write a model's configuration, if it changes: Triton loads anew what was written anew."""
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
    """The command line: sees to it that a directory has the packaged models."""
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
