"""Keeps the file in a stack's directory from which any process can find the stack and end it."""

import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Self

from mmbroker.deploy.local.processes import ProcessRecord


@dataclass(frozen=True)
class Ports:
    """The ports of a stack on the loopback interface; 0 stands for any free one.

    Triton's clients use a socket and no port.

    Attributes:
        kafka: the port for Kafka's clients.
        kafka_controller: the port for Kafka's own controller.
        kafka_certificates: the port for Kafka's clients with a certificate, in a secured stack.
        triton_metrics: the port for Triton's metrics.
    """

    kafka: int = 0
    kafka_controller: int = 0
    kafka_certificates: int = 0
    triton_metrics: int = 0


@dataclass
class State:
    """A stack's processes and addresses.

    Attributes:
        owner: the process that the stack must not outlive; None for a detached stack.
        watchdog: the process that ends the stack when its owner is gone.
        ports: the ports of the stack.
        model_repository: the directory of Triton's models; None for an empty one in the stack's
            own.
        secured: whether Kafka asks its clients who they are.
        servers: the servers by name; None for one that was never started.
    """

    owner: ProcessRecord | None = None
    watchdog: ProcessRecord | None = None
    ports: Ports = Ports()
    model_repository: Path | None = None
    secured: bool = False
    servers: dict[str, ProcessRecord | None] = field(default_factory=dict)

    @classmethod
    def read(cls, file: Path) -> Self:
        """Read a state from a file; it is empty if the file is missing or cannot be understood."""
        try:
            raw = json.loads(file.read_text())
            repository = raw["model_repository"]
            return cls(
                _record(raw["owner"]),
                _record(raw["watchdog"]),
                Ports(**{each.name: raw["ports"].get(each.name, 0) for each in fields(Ports)}),
                Path(repository) if repository else None,
                bool(raw.get("secured", False)),
                {name: _record(server) for name, server in raw["servers"].items()},
            )
        except (FileNotFoundError, ValueError, AttributeError, KeyError, TypeError):
            return cls()

    def write(self, file: Path) -> None:
        """Write the state to a file, atomically."""
        partial = file.with_suffix(".partial")
        partial.write_text(json.dumps(asdict(self), indent=2, default=str) + "\n")
        partial.replace(file)


def _record(raw: dict[str, float] | None) -> ProcessRecord | None:
    return ProcessRecord(int(raw["pid"]), raw["started"]) if raw else None
