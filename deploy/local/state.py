"""What a stack writes down in its directory so that any process can find and end it."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Self

from mmbroker.deploy.local.processes import ProcessRecord


@dataclass(frozen=True)
class Ports:
    """The ports of a stack on the loopback interface; 0 takes a free one."""

    kafka: int = 0
    kafka_controller: int = 0
    kafka_certificates: int = 0
    triton: int = 0
    triton_http: int = 0
    triton_metrics: int = 0


@dataclass
class State:
    """A stack's processes and addresses.

    Attributes:
        owner: The process it must not outlive, if any.
        watchdog: The process that sees to that.
        ports: Its ports.
        model_repository: Triton's models, if not an empty directory of the stack's own.
        secured: Whether Kafka asks its clients who they are.
        servers: Its servers by name.
    """

    owner: ProcessRecord | None = None
    watchdog: ProcessRecord | None = None
    ports: Ports = Ports()
    model_repository: Path | None = None
    secured: bool = False
    servers: dict[str, ProcessRecord | None] = field(default_factory=dict)

    @classmethod
    def read(cls, file: Path) -> Self:
        """Read a state; an empty one where there is none that can be read."""
        try:
            raw = json.loads(file.read_text())
            repository = raw["model_repository"]
            return cls(
                _record(raw["owner"]),
                _record(raw["watchdog"]),
                Ports(**raw["ports"]),
                Path(repository) if repository else None,
                bool(raw.get("secured", False)),
                {name: _record(server) for name, server in raw["servers"].items()},
            )
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return cls()

    def write(self, file: Path) -> None:
        """Write the state, atomically."""
        partial = file.with_suffix(".partial")
        partial.write_text(json.dumps(asdict(self), indent=2, default=str) + "\n")
        partial.replace(file)


def _record(raw: dict[str, float] | None) -> ProcessRecord | None:
    return ProcessRecord(int(raw["pid"]), raw["started"]) if raw else None
