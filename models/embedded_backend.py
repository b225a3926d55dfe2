"""Triton's Python backend for a network in ONNX: copied to the model repository as model.py.

It runs inside the embedded server, which has no ONNX backend, in an environment with numpy and
onnxruntime alone. A file that is not the one named in the configuration is not served.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import triton_python_backend_utils as triton  # type: ignore[import-not-found]


class TritonPythonModel:
    """The network behind one instance of the model."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the network, if it is the one that the configuration names."""
        config = json.loads(args["model_config"])
        path = Path(args["model_repository"]) / args["model_version"] / "model.onnx"
        content = path.read_bytes()
        stated = config["parameters"]["sha256"]["string_value"]
        found = hashlib.sha256(content).hexdigest()
        if found != stated:
            raise triton.TritonModelException(
                f"SHA-256 of {path} is {found}, the configuration says {stated}"
            )
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = int(
            config["parameters"]["intra_op_thread_count"]["string_value"]
        )
        self.session = onnxruntime.InferenceSession(
            content, options, providers=["CPUExecutionProvider"]
        )
        self.inputs = [each["name"] for each in config["input"]]
        self.outputs = [each["name"] for each in config["output"]]

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer requests; those that were batched together run as one."""
        parts = [
            [triton.get_input_tensor_by_name(request, name).as_numpy() for request in requests]
            for name in self.inputs
        ]
        batch = {name: np.concatenate(part) for name, part in zip(self.inputs, parts, strict=True)}
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
