"""Runs NVIDIA's Triton inference server in the stack, on the CPU, with its Python backend."""

import hashlib
import re
from contextlib import nullcontext
from pathlib import Path

from mmbroker.deploy.local.component import Changing, Component
from mmbroker.deploy.local.install import install_triton

_HOST = "127.0.0.1"
_SHARED_MEMORY = Path("/dev/shm")
_CHATTER = re.compile(r"[+|]|I\d{4} (?!.*pb_stub)")


class Triton(Component):
    """The Triton server of a stack.

    Every model of the repository is loaded at the start; the start fails if one cannot be loaded.
    Other models and versions are loaded later on request, without a restart.

    Args:
        stack_directory: as for ``Component``.
        port: the port that gRPC clients connect to.
        http_port: the port that HTTP clients connect to.
        metrics_port: the port that Prometheus reads.
        model_repository: the directory of the models; by default an empty one in the stack's own.
        changing: as for ``Component``.
    """

    name = "triton"
    stop_timeout = 5.0

    def __init__(
        self,
        stack_directory: Path,
        port: int,
        http_port: int,
        metrics_port: int,
        model_repository: Path | None = None,
        changing: Changing = nullcontext,
    ) -> None:
        super().__init__(stack_directory, changing)
        self.port = port
        self.http_port = http_port
        self.metrics_port = metrics_port
        self.model_repository = model_repository or self.directory / "models"
        digest = hashlib.sha256(str(stack_directory).encode()).hexdigest()[:12]
        self.shared_memory_prefix = f"mmbroker-{digest}-"

    @property
    def address(self) -> str:
        """The address for gRPC clients, host:port."""
        return f"{_HOST}:{self.port}"

    @property
    def metrics_url(self) -> str:
        """The URL that Prometheus reads."""
        return f"http://{_HOST}:{self.metrics_port}/metrics"

    @property
    def ports(self) -> tuple[int, ...]:
        """The ports of gRPC, HTTP and metrics."""
        return self.port, self.http_port, self.metrics_port

    def command(self) -> tuple[list[str | Path], dict[str, str]]:
        """Make the model repository if it is missing, and return the command line and variables.

        Raises:
            StackError: Triton cannot be installed.
        """
        runtime = install_triton()
        self.model_repository.mkdir(parents=True, exist_ok=True)
        options = {
            "model-repository": self.model_repository,
            "model-control-mode": "explicit",
            "load-model": "*",
            "backend-directory": runtime.backends,
            "backend-config": f"python,shm-region-prefix-name={self.shared_memory_prefix}",
            "grpc-address": _HOST,
            "grpc-port": self.port,
            "http-address": _HOST,
            "http-port": self.http_port,
            "metrics-address": _HOST,
            "metrics-port": self.metrics_port,
            "strict-readiness": "true",
            "exit-timeout-secs": 2,
            # There is no GPU to look for.
            "allow-gpu-metrics": "false",
            "pinned-memory-pool-byte-size": 0,
        }
        arguments = [f"--{name}={value}" for name, value in options.items()]
        return [runtime.server, *arguments], runtime.variables

    def is_ready(self) -> bool:
        """Ask the server whether it is ready, which it is when all its models are."""
        # Imported late: the import takes longer than everything else here.
        from tritonclient.grpc import InferenceServerClient
        from tritonclient.utils import InferenceServerException

        with InferenceServerClient(self.address) as client:
            try:
                return bool(client.is_server_ready(client_timeout=2))
            except InferenceServerException:
                return False

    def clean(self) -> None:
        """Remove the shared memory that a killed server leaves, before it fills the machine's."""
        for region in _SHARED_MEMORY.glob(f"{self.shared_memory_prefix}*"):
            region.unlink(missing_ok=True)

    def diagnosis(self) -> str:
        """Return the end of the log without its tables and informative lines."""
        lines = self.tail(100).splitlines()
        return "\n".join([line for line in lines if line and not _CHATTER.match(line)][-20:])
