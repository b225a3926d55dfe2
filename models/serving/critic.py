"""Asks the critic on Triton: fingerprint vectors in, outputs out."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from mmbroker.models.serving.errors import ModelUnavailable
from mmbroker.models.serving.triton import Model
from mmbroker.processors.fingerprint import vector
from mmbroker.processors.fingerprint.vector import FingerprintVectors, Float32
from mmbroker.processors.scoring.calibration import Calibration

INPUTS = {
    "values": ("FP32", [vector.LENGTH]),
    "mask": ("FP32", [vector.LENGTH]),
    "condition": ("FP32", [vector.REDSHIFT_CELLS]),
}


class CriticClient(Model):
    """A critic on Triton."""

    def score(self, vectors: FingerprintVectors, condition: Float32, version: int) -> Float32:
        """Ask the critic how much galaxies look like real ones.

        Args:
            vectors: the fingerprint vectors of N galaxies.
            condition: their redshifts, as ``vector.condition`` makes them, float32, shape
                (N, REDSHIFT_CELLS).
            version: the number of the version that is asked.

        Returns:
            The outputs, float32, shape (N,); a larger one means more like a real galaxy, see
            ``calibration``. An output is not finite where the network cannot say.

        Raises:
            ValueError: the shapes are not those of N galaxies, or the server refuses the request.
            ModelUnavailable: no answer comes within the deadline and retries, the answer has
                another shape, or the version is not a critic that this client can use.
        """
        count = len(vectors)
        shapes = (vectors.values.shape, vectors.mask.shape, condition.shape)
        if shapes != ((count, vector.LENGTH),) * 2 + ((count, vector.REDSHIFT_CELLS),):
            raise ValueError(
                f"values, mask and condition have shapes {shapes}, not those of {count} galaxies"
            )
        arrays = {"values": vectors.values, "mask": vectors.mask, "condition": condition}
        inputs = {name: np.asarray(array, np.float32) for name, array in arrays.items()}
        try:
            output = self.infer(inputs, version).get("critic")
        except ValueError:
            self.require_usable(version)
            raise
        if output is None or output.shape != (count, 1):
            shape = None if output is None else output.shape
            raise ModelUnavailable(
                f"model {self.model!r} at {self.url} answered with an output of shape {shape} for "
                f"{count} galaxies"
            )
        return np.asarray(output[:, 0], np.float32)

    def require_usable(self, version: int) -> None:
        """Make sure that a version is a calibrated critic of the fingerprint vectors of this code.

        Raises:
            ModelUnavailable: the version is not, or the server does not answer.
        """
        inputs = self.version(version).inputs
        if inputs != INPUTS:
            raise ModelUnavailable(
                f"version {version} of model {self.model!r} at {self.url} takes {inputs}, and is "
                f"asked with {INPUTS}"
            )
        self.calibration(version)

    def calibration(self, version: int) -> Calibration:
        """The calibration that converts the outputs of a version to probabilities.

        Raises:
            ModelUnavailable: the server does not answer, or the version has no valid calibration.
        """
        found = self.version(version).calibration
        if found is None:
            raise ModelUnavailable(
                f"version {version} of model {self.model!r} at {self.url} has no calibration"
            )
        try:
            return _calibration(found)
        except ValueError as error:
            raise ModelUnavailable(
                f"version {version} of model {self.model!r} at {self.url}: {error}"
            ) from error


@lru_cache(maxsize=8)
def _calibration(text: str) -> Calibration:
    return Calibration.from_json(text)
