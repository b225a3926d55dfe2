"""Runs a network in ONNX in Triton's Python backend; each version in a repository has a copy.

The copy, ``model.py``, runs inside the embedded server, which has no ONNX backend, in an
environment with only numpy and onnxruntime. It refuses a network whose SHA-256, inputs or outputs
are not those in the configuration.
"""

import hashlib
import json
import os
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import triton_python_backend_utils as triton  # type: ignore[import-not-found]

LOOKED_AFTER_S = 2.0


class TritonPythonModel:
    """The network behind one instance of one version of the model."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the network, if it is the one that the configuration names for the version.

        Raises:
            TritonModelException: the SHA-256, the inputs or the outputs are other ones.
        """
        config = json.loads(args["model_config"])
        version = args["model_version"]
        path = Path(args["model_repository"]) / version / "model.onnx"
        content = path.read_bytes()
        card = json.loads(config["parameters"][f"version_{version}"]["string_value"])
        found = hashlib.sha256(content).hexdigest()
        if found != card["sha256"]:
            raise triton.TritonModelException(
                f"SHA-256 of {path} is {found}, the configuration says {card['sha256']}"
            )
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = int(
            config["parameters"]["intra_op_thread_count"]["string_value"]
        )
        # A network may keep its arrays in other files of the working directory. This one has none.
        os.chdir(path.parent)
        self.session = onnxruntime.InferenceSession(
            content, options, providers=["CPUExecutionProvider"]
        )
        self.inputs = [each["name"] for each in config["input"]]
        self.outputs = [each["name"] for each in config["output"]]
        for stated, has in (
            (config["input"], self.session.get_inputs()),
            (config["output"], self.session.get_outputs()),
        ):
            _require_same(path, {each["name"]: each["dims"] for each in stated}, has)
        threading.Thread(target=_end_without, args=(path,), daemon=True).start()

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer requests, which are computed together as one batch."""
        parts = [
            [triton.get_input_tensor_by_name(request, name).as_numpy() for request in requests]
            for name in self.inputs
        ]
        batch = {name: _together(part) for name, part in zip(self.inputs, parts, strict=True)}
        results = self.session.run(self.outputs, batch)
        responses, start = [], 0
        for part in parts[0]:
            stop = start + len(part)
            tensors = [
                triton.Tensor(name, result[start:stop])
                for name, result in zip(self.outputs, results, strict=True)
            ]
            responses.append(triton.InferenceResponse(output_tensors=tensors))
            start = stop
        return responses


def _end_without(path: Path) -> None:
    """End this process when its network is no more in the repository.

    The server lets a network that it does not serve any more finish what it computes, which one
    that runs in circles never does.
    """
    missing = 0
    while missing < 2:
        time.sleep(LOOKED_AFTER_S)
        missing = 0 if path.exists() else missing + 1
    os._exit(1)


def _together(arrays: list[Any]) -> Any:
    """Join arrays; a single one is not copied, because copies of large arrays take long."""
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


def _require_same(path: Path, stated: dict[str, list[Any]], tensors: list[Any]) -> None:
    """Refuse a network whose inputs or outputs do not fit those of the configuration.

    A dimension that varies is -1 in the configuration, and has a name or nothing in the network.
    The network may also leave open a dimension that the configuration fixes.
    """
    wanted = {name: [int(size) for size in dims] for name, dims in stated.items()}
    has = {each.name: list(each.shape)[1:] for each in tensors}
    for name, dims in has.items():
        if len(dims) == len(wanted.get(name, ())):
            pairs = zip(dims, wanted[name], strict=True)
            has[name] = [size if isinstance(size, int) else other for size, other in pairs]
    if has != wanted:
        raise triton.TritonModelException(
            f"{path} has {has}, the configuration says {wanted}, -1 for what varies"
        )
