"""The critic as a client sees it: vectors in, outputs out, by gRPC from Triton."""

from __future__ import annotations

import time
from types import TracebackType

import numpy as np
from tritonclient import grpc
from tritonclient.utils import InferenceServerException

from processors import vector
from processors.vector import FingerprintVectors, Float32

ROWS = 8
"""Requests are filled up to a multiple of so many rows: a server rounds single rows otherwise, and
an output shall not depend on the batch that it was asked for in."""

CHANNEL = [
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_reconnect_backoff_ms", 1000),
]
"""Of the connection: no limit beside the model's own, and after the server is back it is found
within a second; gRPC's own pause grows to two minutes."""


class CriticUnavailable(RuntimeError):  # noqa: N818 - reads better where it is caught
    """The server is away, not ready, too slow, or answers with something else than outputs."""


class Critic:
    """A critic on Triton: one call at a time, from whichever thread.

    Args:
        url: host:port of the server's gRPC endpoint.
        model: name of the model.
        deadline_s: how long a call may take, retries included.
        retries: how often a failed request is sent again.
        first_pause_s: pause before the first retry; it doubles each time.
        largest_batch: most galaxies in one request; the model's max_batch_size.
    """

    def __init__(
        self,
        url: str,
        model: str = "critic",
        *,
        deadline_s: float = 5.0,
        retries: int = 3,
        first_pause_s: float = 0.1,
        largest_batch: int = 1024,
    ) -> None:
        self.url = url
        self.model = model
        self.deadline_s = deadline_s
        self.retries = retries
        self.first_pause_s = first_pause_s
        self.largest_batch = largest_batch
        self._client = grpc.InferenceServerClient(url, channel_args=CHANNEL)
        self._version = ""
        self._parameters: dict[str, str] = {}

    def __enter__(self) -> Critic:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def ready(self) -> bool:
        """Whether the server serves the model now."""
        try:
            return bool(
                self._client.is_model_ready(self.model, client_timeout=min(self.deadline_s, 2.0))
            )
        except InferenceServerException:
            return False

    @property
    def model_hash(self) -> str:
        """SHA-256 of the network that answered last, as the server tells it.

        Raises:
            CriticUnavailable: the server does not answer, or no longer serves that version.
        """
        return self._known()["sha256"]

    @property
    def calibration_id(self) -> str:
        """Id of the calibration that belongs to the network.

        Raises:
            CriticUnavailable: the server does not answer.
        """
        return self._known()["calibration_id"]

    @property
    def model_version(self) -> str:
        """Version of the model that answered last; before the first answer, the newest served.

        Raises:
            CriticUnavailable: the server does not answer.
        """
        if self._version:
            return self._version
        try:
            metadata = self._client.get_model_metadata(self.model, client_timeout=self.deadline_s)
        except InferenceServerException as error:
            raise CriticUnavailable(f"model {self.model!r} at {self.url}: {error}") from error
        return str(max(metadata.versions, key=int))

    def score(self, vectors: FingerprintVectors, condition: Float32) -> Float32:
        """The critic's outputs.

        Args:
            vectors: of N galaxies.
            condition: float32, shape (N, REDSHIFT_CELLS).

        Returns:
            float32, shape (N,); larger looks more like a real galaxy, see ``calibration``. Not
            finite where the network cannot say.

        Raises:
            ValueError: the shapes are not those of N galaxies, or the server refuses the request.
            CriticUnavailable: no answer within the deadline and retries.
        """
        count = len(vectors)
        shapes = (vectors.values.shape, vectors.mask.shape, condition.shape)
        if shapes != ((count, vector.LENGTH),) * 2 + ((count, vector.REDSHIFT_CELLS),):
            raise ValueError(
                f"values, mask and condition have shapes {shapes}, not those of {count} galaxies"
            )
        arrays = {"values": vectors.values, "mask": vectors.mask, "condition": condition}
        give_up = time.monotonic() + self.deadline_s
        outputs = np.empty(count, np.float32)
        for start in range(0, count, self.largest_batch):
            part = slice(start, start + self.largest_batch)
            batch = {name: array[part] for name, array in arrays.items()}
            outputs[part] = self._request(batch, give_up)
        return outputs

    def _request(self, batch: dict[str, Float32], give_up: float) -> Float32:
        count = len(batch["values"])
        inputs = []
        for name, array in batch.items():
            filled = np.pad(array, ((0, -count % ROWS), (0, 0)))
            tensor = grpc.InferInput(name, list(filled.shape), "FP32")
            tensor.set_data_from_numpy(np.ascontiguousarray(filled, np.float32))
            inputs.append(tensor)
        pause = self.first_pause_s
        for attempt in range(self.retries + 1):
            remaining = give_up - time.monotonic()
            try:
                result = self._client.infer(self.model, inputs, client_timeout=max(remaining, 1e-3))
                break
            except InferenceServerException as error:
                self._parameters = {}  # another network may be served when it is back
                if _is_our_fault(error):
                    raise ValueError(
                        f"model {self.model!r} refuses the request: {error}"
                    ) from error
                if attempt == self.retries or time.monotonic() + pause >= give_up:
                    raise CriticUnavailable(
                        f"model {self.model!r} at {self.url} failed after {attempt + 1} attempts "
                        f"within {self.deadline_s} s: {error}"
                    ) from error
            time.sleep(pause)
            pause *= 2
        return self._checked(result, count)

    def _checked(self, result: grpc.InferResult, count: int) -> Float32:
        output = result.as_numpy("critic")
        rows = count + -count % ROWS
        if output is None or output.shape != (rows, 1):
            shape = None if output is None else output.shape
            raise CriticUnavailable(
                f"model {self.model!r} at {self.url} answered with an output of shape {shape} for "
                f"{count} galaxies"
            )
        version = str(result.get_response().model_version)
        if version != self._version:
            # Another version is served since: what is known of the former no longer holds.
            self._version, self._parameters = version, {}
        return np.asarray(output[:count, 0], np.float32)

    def _known(self) -> dict[str, str]:
        if not self._parameters:
            try:
                config = self._client.get_model_config(
                    self.model, self._version, client_timeout=self.deadline_s
                ).config
            except InferenceServerException as error:
                raise CriticUnavailable(
                    f"model {self.model!r} at {self.url} does not tell its configuration: {error}"
                ) from error
            self._parameters = {
                name: value.string_value for name, value in config.parameters.items()
            }
        return self._parameters


def _is_our_fault(error: InferenceServerException) -> bool:
    """Whether the server understood the request and refuses it: it would refuse it again."""
    return error.status() in ("StatusCode.INVALID_ARGUMENT", "StatusCode.UNIMPLEMENTED")
