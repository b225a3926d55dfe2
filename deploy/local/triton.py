"""Runs NVIDIA's Triton inference server in the stack, on CPU, with its Python backend.

Whoever may have Triton load a model runs code as Triton's user. So the server of a stack answers on
a socket in a folder of its owner, which nobody else can open, and not on a port of the machine.
"""

import hashlib
import os
import re
import stat
from contextlib import nullcontext, suppress
from pathlib import Path

from mmbroker.deploy.local.component import Changing, Component
from mmbroker.deploy.local.errors import StackError
from mmbroker.deploy.local.install import install_triton

_HOST = "127.0.0.1"
_SHARED_MEMORY = Path("/dev/shm")
_SOCKETS = Path("/tmp")  # the path of a socket has at most 107 bytes
_SUFFIX = 1  # Triton writes the number of a port behind the path
_CHATTER = re.compile(r"[+|]|I\d{4} (?!.*pb_stub)")


class Triton(Component):
    """The Triton server of a stack.

    Every model of the repository is loaded at the start; the start fails if one cannot be loaded.
    Other models and versions are loaded later on request, without a restart.

    Args:
        stack_directory: as for ``Component``.
        metrics_port: the port that Prometheus reads.
        model_repository: the directory of the models; by default an empty one in the stack's own.
        changing: as for ``Component``.
    """

    name = "triton"
    stop_timeout = 5.0

    def __init__(
        self,
        stack_directory: Path,
        metrics_port: int,
        model_repository: Path | None = None,
        changing: Changing = nullcontext,
    ) -> None:
        super().__init__(stack_directory, changing)
        self.metrics_port = metrics_port
        self.model_repository = model_repository or self.directory / "models"
        digest = hashlib.sha256(str(stack_directory).encode()).hexdigest()[:12]
        self.shared_memory_prefix = f"mmbroker-{digest}-"
        owner = stack_directory.stat().st_uid if stack_directory.exists() else os.getuid()
        self.socket = _SOCKETS / f"mmbroker-{owner}" / f"{digest}:{_SUFFIX}"

    @property
    def address(self) -> str:
        """The address for gRPC clients, ``unix:PATH``."""
        return f"unix:{self.socket}"

    @property
    def metrics_url(self) -> str:
        """The URL that Prometheus reads."""
        return f"http://{_HOST}:{self.metrics_port}/metrics"

    @property
    def ports(self) -> tuple[int, ...]:
        """The port of the metrics."""
        return (self.metrics_port,)

    def command(self) -> tuple[list[str | Path], dict[str, str]]:
        """Make the model repository if it is missing, and return the command line and variables.

        Raises:
            StackError: Triton cannot be installed.
        """
        runtime = install_triton()
        self.model_repository.mkdir(parents=True, exist_ok=True)
        _make_private(self.socket.parent)
        options = {
            "model-repository": self.model_repository,
            "model-control-mode": "explicit",
            "load-model": "*",
            "backend-directory": runtime.backends,
            "backend-config": f"python,shm-region-prefix-name={self.shared_memory_prefix}",
            "grpc-address": self.address.rpartition(":")[0],
            "grpc-port": _SUFFIX,
            "allow-http": "false",
            "metrics-address": _HOST,
            "metrics-port": self.metrics_port,
            "strict-readiness": "true",
            "exit-timeout-secs": 2,
            # There is no GPU to look for.
            "allow-gpu-metrics": "false",
            "pinned-memory-pool-byte-size": 0,
        }
        arguments = [f"--{name}={value}" for name, value in options.items()]
        # onnxruntime otherwise writes what it counts to the user's home, for Microsoft.
        return [runtime.server, *arguments], {**runtime.variables, "ORT_DISABLE_TELEMETRY": "1"}

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
        """Remove what a server leaves: shared memory, its socket, empty folders of its backend."""
        for region in _SHARED_MEMORY.glob(f"{self.shared_memory_prefix}*"):
            region.unlink(missing_ok=True)
        self.socket.unlink(missing_ok=True)
        for folder in Path("/tmp").glob("python_env_??????"):
            with suppress(OSError):  # it is in use, or another's
                folder.rmdir()

    def diagnosis(self) -> str:
        """Return the end of the log without its tables and informative lines."""
        lines = self.tail(100).splitlines()
        return "\n".join([line for line in lines if line and not _CHATTER.match(line)][-20:])


def _make_private(directory: Path) -> None:
    """Make a directory that its owner alone can open, in one where everybody can write.

    Raises:
        StackError: something is there that others made, or that others can open.
    """
    directory.mkdir(mode=0o700, exist_ok=True)
    found = directory.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise StackError(
            f"{directory} is not a directory that only you can open: remove it, or have it removed"
        )
