"""Asks one version of a model on Triton: named arrays in, named arrays out.

The server itself gives the card of a version, with its hash and its calibration. So what is said
of an answer always belongs to the network that gave it.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from tritonclient import grpc
from tritonclient.utils import (
    InferenceServerException,
    np_to_triton_dtype,
    triton_to_np_dtype,
)

from mmbroker.models.packaged.networks import (
    MAX_BATCH_SIZE,
    Card,
    Tensors,
    identity,
    probe_shapes,
    tensors_of,
)
from mmbroker.models.serving.errors import ModelUnavailable
from mmbroker.models.serving.repository import parameter_of

Array = NDArray[Any]

ROWS = 8
"""Requests are filled up to a multiple of so many rows.

A server rounds single rows in another way, and an output must not depend on its batch.
"""

CHANNEL = [
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_reconnect_backoff_ms", 1000),
]
"""Options of the connection.

Messages have no limit but the model's own. A server that comes back is found within a second; with
gRPC's own options the pause grows to two minutes.
"""

RESTRICTED_BY = "mmbroker"
"""Key with which a server restricts its model repository: it is started with
``--grpc-restricted-protocol=model-repository:mmbroker=SECRET``."""

LOAD_TIMEOUT_S = 120.0
CLEARING_S = 1.0  # after a failure to load, before a server is asked again


@dataclass(frozen=True)
class Version:
    """One version of a model.

    Attributes:
        number: its number.
        card: its card.
    """

    number: int
    card: Card

    @property
    def sha256(self) -> str:
        """The SHA-256 of the network."""
        return identity(self.card)[0]

    @property
    def calibration_id(self) -> str:
        """The id of its calibration; empty if it has none."""
        return identity(self.card)[1]

    @property
    def calibration(self) -> str | None:
        """The calibration as JSON; None if it has none."""
        found = self.card.get("calibration")
        return None if found is None else json.dumps(found)

    @property
    def trained_on(self) -> str:
        """What it was trained on."""
        return str(self.card["trained_on"])

    @property
    def code_version(self) -> str:
        """The version of mmbroker that trained it."""
        return str(self.card["code_version"])

    @property
    def inputs(self) -> Tensors:
        """Its inputs."""
        return tensors_of(self.card)["inputs"]

    @property
    def outputs(self) -> Tensors:
        """Its outputs."""
        return tensors_of(self.card)["outputs"]


class Model:
    """Asks a model on Triton; several threads can share it, and their calls take turns.

    A stage asks from the thread that works and from the one that probes. Calls take turns because
    Triton's client library is for one thread at a time, and because the version that is kept must
    not change during a call.

    Args:
        url: address of the server's gRPC endpoint, host:port or unix:PATH.
        model: the name of the model.
        deadline_s: how long a call may take, with its retries, in s.
        retries: how often a failed request is sent again.
        first_pause_s: the pause before the first retry, in s; it doubles each time.
        largest_batch: the most rows in one request, at most the model's max_batch_size.
    """

    rows: ClassVar[int] = ROWS
    """Requests are filled up to a multiple of so many rows."""

    def __init__(
        self,
        url: str,
        model: str,
        *,
        deadline_s: float = 5.0,
        retries: int = 3,
        first_pause_s: float = 0.1,
        largest_batch: int = MAX_BATCH_SIZE,
    ) -> None:
        self.url = url
        self.model = model
        self.deadline_s = deadline_s
        self.retries = retries
        self.first_pause_s = first_pause_s
        self.largest_batch = largest_batch
        self._client = grpc.InferenceServerClient(url, channel_args=CHANNEL)
        self._known: Version | None = None
        self._lock = threading.RLock()
        """Every call holds it, and so do subclasses where they keep something of a version."""

    def __enter__(self) -> Self:
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
        with self._lock:
            self._client.close()

    def ready(self, version: int) -> bool:
        """Whether the server serves a version of the model now."""
        timeout = min(self.deadline_s, 2.0)
        with self._lock:
            if self._known is not None and self._known.number != version:
                self._known = None  # see ``version``
            try:
                if self._client.is_model_ready(self.model, str(version), client_timeout=timeout):
                    return True
            except InferenceServerException:
                pass
            self._known = None
            return False

    def versions(self) -> list[int]:
        """The versions that the server serves, ascending.

        Raises:
            ModelUnavailable: the server does not answer, or serves none.
        """
        try:
            with self._lock:
                metadata = self._client.get_model_metadata(
                    self.model, client_timeout=self.deadline_s
                )
        except InferenceServerException as error:
            raise ModelUnavailable(
                f"model {self.model!r} at {self.url}: {_reason(error)}"
            ) from error
        return sorted(map(int, metadata.versions))

    def version(self, number: int) -> Version:
        """What a version is, as the server tells it.

        Raises:
            ModelUnavailable: the server does not answer, or does not serve that version.
        """
        with self._lock:
            known = self._known
            if known is None or known.number != number:
                # Only the last version is kept. Nobody would notice that a version which is not
                # asked was removed and another one came under its number.
                known = self._known = self._asked(number)
            return known

    def infer(self, inputs: Mapping[str, Array], version: int) -> dict[str, Array]:
        """Ask a version for its outputs.

        Args:
            inputs: arrays by name, whose first axis has the same N rows; their dtypes and further
                axes are those of the version's inputs.
            version: the number of the version.

        Returns:
            Arrays by name, with N rows and the dtypes of the version's outputs; they may be
            read-only.

        Raises:
            ValueError: the arrays differ in their rows, or the server refuses the request.
            ModelUnavailable: no answer with N rows comes within the deadline and retries.
        """
        counts = {len(array) for array in inputs.values()}
        if len(counts) != 1:
            raise ValueError(f"inputs of model {self.model!r} have different rows: {counts}")
        (count,) = counts
        parts = []
        with self._lock:
            give_up = time.monotonic() + self.deadline_s
            for start in range(0, max(count, 1), self.largest_batch):
                batch = {
                    name: array[start : start + self.largest_batch]
                    for name, array in inputs.items()
                }
                parts.append(self._request(batch, version, give_up))
        if len(parts) == 1:
            return parts[0]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def probe(self, version: int) -> dict[str, Array]:
        """Ask a version about zeros, to see whether it answers at all.

        Returns:
            Its outputs by name, with ``rows`` rows.

        Raises:
            ModelUnavailable: it does not answer.
        """
        known = self.version(version)
        shapes = probe_shapes(known.card)
        zeros = {
            name: np.zeros([self.rows, *shapes[name]], triton_to_np_dtype(dtype))
            for name, (dtype, _) in known.inputs.items()
        }
        try:
            return self.infer(zeros, version)
        except ValueError as error:
            raise ModelUnavailable(str(error)) from error

    def require_usable(self, version: int) -> None:
        """Make sure that a version is one that the client can use.

        Raises:
            ModelUnavailable: it is not, or the server does not answer.
        """

    def _request(
        self, batch: Mapping[str, Array], version: int, give_up: float
    ) -> dict[str, Array]:
        inputs = []
        count = 0
        for name, array in batch.items():
            count = len(array)
            missing = -count % self.rows if count else self.rows
            if missing:
                array = np.pad(array, ((0, missing), *[(0, 0)] * (array.ndim - 1)))
            tensor = grpc.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
            tensor.set_data_from_numpy(array)
            inputs.append(tensor)
        pause = self.first_pause_s
        for attempt in range(self.retries + 1):
            remaining = give_up - time.monotonic()
            try:
                result = self._client.infer(
                    self.model, inputs, str(version), client_timeout=max(remaining, 1e-3)
                )
                break
            except InferenceServerException as error:
                self._known = None  # other networks may be served when it is back
                if _is_our_fault(error):
                    raise ValueError(
                        f"model {self.model!r} refuses the request: {error}"
                    ) from error
                if attempt == self.retries or time.monotonic() + pause >= give_up:
                    raise ModelUnavailable(
                        f"model {self.model!r} version {version} at {self.url} failed after "
                        f"{attempt + 1} attempts within {self.deadline_s} s: "
                        f"{_reason(error)}"
                    ) from error
            time.sleep(pause)
            pause *= 2
        return self._checked(result, count)

    def _checked(self, result: grpc.InferResult, count: int) -> dict[str, Array]:
        outputs = {each.name: result.as_numpy(each.name) for each in result.get_response().outputs}
        for name, output in outputs.items():
            if output is None or len(output) < count:
                shape = None if output is None else output.shape
                raise ModelUnavailable(
                    f"model {self.model!r} at {self.url} answered with {name!r} of shape {shape} "
                    f"for {count} rows"
                )
        return {name: output[:count] for name, output in outputs.items()}

    def _asked(self, number: int) -> Version:
        try:
            config = self._client.get_model_config(
                self.model, str(number), client_timeout=self.deadline_s
            ).config
            card = json.loads(config.parameters[parameter_of(number)].string_value)
        except InferenceServerException as error:
            raise ModelUnavailable(
                f"model {self.model!r} at {self.url} does not tell what its version {number} is: "
                f"{_reason(error)}"
            ) from error
        except ValueError as error:
            raise ModelUnavailable(
                f"model {self.model!r} at {self.url} has no card of version {number}: write its "
                "model repository again and load it"
            ) from error
        return Version(number, card)


def served(url: str, timeout_s: float = 5.0, secret: str | None = None) -> list[str]:
    """The names of the models that a server serves, sorted.

    Args:
        url: address of the server's gRPC endpoint.
        timeout_s: how long to wait for an answer.
        secret: secret of its model repository, see ``RESTRICTED_BY``; None if it has none.

    Raises:
        ModelUnavailable: the server does not answer.
    """
    index = _index(url, timeout_s, secret)
    return sorted({each.name for each in index if each.state == "READY"})


def _index(url: str, timeout_s: float, secret: str | None) -> Sequence[Any]:
    """The versions of all models of a server, each with its state."""
    with grpc.InferenceServerClient(url, channel_args=CHANNEL) as client:
        try:
            index = client.get_model_repository_index(_headers(secret), client_timeout=timeout_s)
        except InferenceServerException as error:
            raise ModelUnavailable(f"Triton at {url}: {_reason(error)}") from error
    versions: Sequence[Any] = index.models
    return versions


def failing(url: str, timeout_s: float = 5.0, secret: str | None = None) -> list[str]:
    """Which models of a server do not work, though the server says that it is ready, and why.

    Every version that it serves is asked.

    Args:
        url: address of the server's gRPC endpoint.
        timeout_s: how long each answer may take.
        secret: see ``served``.

    Raises:
        ModelUnavailable: the server does not answer.
    """
    found = []
    for each in _index(url, timeout_s, secret):
        if each.state == "READY":
            with Model(url, each.name, deadline_s=timeout_s, retries=0) as model:
                try:
                    model.probe(int(each.version))
                except ModelUnavailable as error:
                    found.append(str(error))
    return found


def inference_seconds(url: str, timeout_s: float = 5.0) -> dict[str, float]:
    """How long each model of a server has computed since the server started, by name, in s.

    It is the elapsed time of all versions together, without the time that requests wait.

    Raises:
        ModelUnavailable: the server does not answer.
    """
    found: dict[str, float] = {}
    with grpc.InferenceServerClient(url, channel_args=CHANNEL) as client:
        try:
            answer = client.get_inference_statistics(client_timeout=timeout_s)
        except InferenceServerException as error:
            raise ModelUnavailable(f"Triton at {url}: {_reason(error)}") from error
    for each in answer.model_stats:
        seconds = each.inference_stats.compute_infer.ns / 1e9
        found[each.name] = found.get(each.name, 0.0) + seconds
    return found


def load(
    url: str, model: str, timeout_s: float = LOAD_TIMEOUT_S, secret: str | None = None
) -> None:
    """Let a server load the new versions of a model; those that it serves keep answering.

    Args:
        url: address of the server's gRPC endpoint.
        model: name of the model.
        timeout_s: how long to wait until it is loaded.
        secret: see ``served``.

    Raises:
        ModelUnavailable: the server does not answer, or cannot load them; the message says why.
    """
    with grpc.InferenceServerClient(url, channel_args=CHANNEL) as client:
        try:
            client.load_model(model, _headers(secret), client_timeout=timeout_s)
        except InferenceServerException as error:
            # A server that is asked again too soon, while it still removes what could not be
            # loaded, may end with a segmentation fault: this was seen after a tenth of a second.
            time.sleep(CLEARING_S)
            raise ModelUnavailable(
                f"Triton at {url} cannot load {model!r}: {_reason(error)}"
            ) from error


def unload(
    url: str, model: str, timeout_s: float = LOAD_TIMEOUT_S, secret: str | None = None
) -> None:
    """Let a server stop serving a model; the arguments are those of ``load``.

    Raises:
        ModelUnavailable: the server does not answer.
    """
    with grpc.InferenceServerClient(url, channel_args=CHANNEL) as client:
        try:
            client.unload_model(model, _headers(secret), client_timeout=timeout_s)
        except InferenceServerException as error:
            raise ModelUnavailable(
                f"Triton at {url} cannot unload {model!r}: {_reason(error)}"
            ) from error


def _headers(secret: str | None) -> dict[str, str] | None:
    return None if secret is None else {f"triton-grpc-protocol-{RESTRICTED_BY}": secret}


def _reason(error: InferenceServerException) -> str:
    """Why there is no answer, and what to do if no server is there to give one."""
    said = error.message()
    if "restricted" in said:
        return f"{said}: set triton.repository_secret to the secret that Triton was started with"
    if error.status() == "StatusCode.UNAVAILABLE" and "connect" in said.lower():
        return (
            "nobody answers there; start Triton (mmbroker stack up, for a local stack), or set "
            "triton.url to where it is"
        )
    if error.status() == "StatusCode.DEADLINE_EXCEEDED":
        return "no answer in time (DEADLINE_EXCEEDED)"
    if "is not healthy" in said:
        return (
            f"{said} Its process has ended or hangs: start Triton again (mmbroker stack up, for a "
            "local stack)"
        )
    return str(said)


def _is_our_fault(error: InferenceServerException) -> bool:
    """Whether the server understood the request and refuses it, so that a retry cannot help."""
    return error.status() in ("StatusCode.INVALID_ARGUMENT", "StatusCode.UNIMPLEMENTED")
