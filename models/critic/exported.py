"""Runs the exported critic and generator on onnxruntime, without torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mmbroker.models.critic.examples import Examples
from mmbroker.models.packaged.networks import WEIGHTS
from mmbroker.models.packaged.silent_onnxruntime import onnxruntime
from mmbroker.processors.fingerprint.vector import Float32
from mmbroker.schemas.events import Floats

_BATCH = 1024


class ExportedNetworks:
    """The critic and the generator as they are served.

    Args:
        folder: the folder with critic.onnx and generator.onnx.

    Raises:
        FileNotFoundError: one of the files is missing.
    """

    def __init__(self, folder: Path = WEIGHTS) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        sessions = []
        for name in ("critic", "generator"):
            path = folder / f"{name}.onnx"
            if not path.exists():
                raise FileNotFoundError(
                    f"{path} is missing; train it: python -m mmbroker.models.critic.train"
                )
            sessions.append(
                onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
            )
        self._critic, self._generator = sessions
        self._noise = next(
            each.shape[1] for each in self._generator.get_inputs() if each.name == "noise"
        )

    def outputs(self, examples: Examples) -> Floats:
        """The critic's outputs for N examples, float64, shape (N,).

        Args:
            examples: the examples.
        """
        inputs = {
            "values": examples.vectors.values,
            "mask": examples.vectors.mask,
            "condition": examples.condition,
        }
        return np.asarray(_run(self._critic, inputs)[:, 0], np.float64)

    def generated(self, examples: Examples, seed: int, together: int | None = None) -> Examples:
        """Draw once for the mask and condition of each example.

        Args:
            examples: the examples.
            seed: the seed of the noise.
            together: the number of examples after which the same noise is used again; None for
                never.

        Returns:
            The same examples with drawn values.
        """
        random = np.random.default_rng(seed)
        size = (together or len(examples), self._noise)
        noise = random.standard_normal(size, dtype=np.float32)
        noise = np.resize(noise, (len(examples), self._noise))
        inputs = {
            "noise": noise,
            "mask": examples.vectors.mask,
            "condition": examples.condition,
        }
        return examples.with_values(_run(self._generator, inputs))


def _run(session: onnxruntime.InferenceSession, inputs: dict[str, Float32]) -> Float32:
    count = len(inputs["mask"])
    parts = [
        session.run(None, {name: array[start : start + _BATCH] for name, array in inputs.items()})
        for start in range(0, count, _BATCH)
    ]
    return np.concatenate([np.asarray(part[0], np.float32) for part in parts])
