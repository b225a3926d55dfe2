"""Runs Apache Kafka as a server of the stack: one KRaft node, both broker and controller."""

import base64
import logging
import shutil
import subprocess
import uuid
from contextlib import nullcontext
from pathlib import Path

from mmbroker.deploy.local.access import Access, ClientConfig
from mmbroker.deploy.local.component import Changing, Component
from mmbroker.deploy.local.errors import StackError
from mmbroker.deploy.local.install import install_kafka

MESSAGE_BYTES = 16 * 2**20
"""The largest message that Kafka takes. A test makes sure that mmbroker's limit is the same."""

_HOST = "127.0.0.1"

_JVM = (
    "-Xmx512m",
    "-XX:+UseSerialGC",
    # In the minutes that a demo, a test or a benchmark lasts, the optimising compiler takes more
    # processor time than what it compiles saves.
    "-XX:TieredStopAtLevel=1",
    "-XX:+ExitOnOutOfMemoryError",
    "-XX:-UsePerfData",  # it leaves files in /tmp
    "-Djava.awt.headless=true",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSSZ",
)

_INTERNAL_TOPICS: dict[str, object] = {
    "offsets.topic.replication.factor": 1,
    "offsets.topic.num.partitions": 4,
    "transaction.state.log.replication.factor": 1,
    "transaction.state.log.min.isr": 1,
    "transaction.state.log.num.partitions": 2,
    "share.coordinator.state.topic.replication.factor": 1,
    "share.coordinator.state.topic.min.isr": 1,
    "share.coordinator.state.topic.num.partitions": 2,
    # A group of one reader should not wait for others to join.
    "group.initial.rebalance.delay.ms": 0,
}

# Refused connections are expected while waiting, and a client would print every one of them.
_SILENT = logging.getLogger("mmbroker.deploy.local.kafka.waiting")
_SILENT.disabled = True


class Kafka(Component):
    """The Kafka server of a stack.

    Args:
        stack_directory: as for ``Component``.
        port: the port that clients connect to.
        controller_port: the port at which the node talks to its own controller.
        changing: as for ``Component``.
        access: the users and their rights; without it everybody may do everything.
        certificate_port: with ``access``, the port for clients with a certificate.
    """

    name = "kafka"

    def __init__(
        self,
        stack_directory: Path,
        port: int,
        controller_port: int,
        changing: Changing = nullcontext,
        access: Access | None = None,
        certificate_port: int = 0,
    ) -> None:
        super().__init__(stack_directory, changing)
        self.port = port
        self.controller_port = controller_port
        self.access = access
        self.certificate_port = certificate_port

    @property
    def address(self) -> str:
        """The bootstrap server, host:port."""
        return f"{_HOST}:{self.port}"

    @property
    def certificate_address(self) -> str:
        """The bootstrap server of a secured stack for clients with a certificate, host:port."""
        return f"{_HOST}:{self.certificate_port}"

    @property
    def ports(self) -> tuple[int, ...]:
        """The ports for clients, for the controller and, if secured, for certificates."""
        secured = (self.certificate_port,) if self.access else ()
        return self.port, self.controller_port, *secured

    def command(self) -> tuple[list[str | Path], dict[str, str]]:
        """Write the properties, format the log directory once, and return the command line.

        Raises:
            StackError: Kafka cannot be installed, or its log directory cannot be formatted.
        """
        runtime = install_kafka()
        if self.access:
            self.access.prepare()
        properties = self.directory / "server.properties"
        lines = {**self._listeners(), **self._storage(), **_INTERNAL_TOPICS}
        properties.write_text("".join(f"{name}={value}\n" for name, value in lines.items()))
        java: list[str | Path] = [runtime.java, *_JVM, "-cp", runtime.classpath]
        java.insert(1, f"-XX:ErrorFile={self.directory}/jvm-crash.log")
        self._format(java, properties)
        return [*java, "kafka.Kafka", properties], {}

    def is_ready(self) -> bool:
        """Ask for the cluster's metadata, and return whether a broker is in it."""
        # Imported late: most users of this package, such as its watchdog, do not need it.
        from confluent_kafka import KafkaException
        from confluent_kafka.admin import AdminClient

        try:
            admin = AdminClient(self._own_client(), logger=_SILENT)
            return bool(admin.list_topics(timeout=2).brokers)
        except KafkaException:
            return False

    def grant(self) -> None:
        """Tell the running server the users of a secured stack; do nothing for an open one.

        Raises:
            StackError: Kafka refuses, or does not let the users in in time.
        """
        if self.access:
            self.access.grant(self.address, self.certificate_address, _SILENT)

    def _own_client(self) -> ClientConfig:
        if self.access:
            return self.access.client_by_certificate(self.certificate_address, self.access.node)
        return {"bootstrap.servers": self.address}

    def _listeners(self) -> dict[str, object]:
        """The properties for how clients, the broker and the controller talk to each other."""
        controller = f"{_HOST}:{self.controller_port}"
        if self.access:
            # The node talks to itself with its certificate, so its properties hold no password.
            clients = {"CLIENTS": self.address, "CERTIFICATES": self.certificate_address}
            protocols = "CLIENTS:SASL_SSL,CERTIFICATES:SSL,CONTROLLER:SSL"
            own, security = "CERTIFICATES", self.access.server_properties()
        else:
            clients = {"CLIENTS": self.address}
            protocols = "CLIENTS:PLAINTEXT,CONTROLLER:PLAINTEXT"
            own, security = "CLIENTS", {}
        advertised = ",".join(f"{name}://{address}" for name, address in clients.items())
        return {
            "listeners": f"{advertised},CONTROLLER://{controller}",
            "advertised.listeners": advertised,
            "listener.security.protocol.map": protocols,
            "inter.broker.listener.name": own,
            "controller.listener.names": "CONTROLLER",
            "controller.quorum.bootstrap.servers": controller,
            **security,
        }

    def _storage(self) -> dict[str, object]:
        return {
            "process.roles": "broker,controller",
            "node.id": 1,
            # A killed broker may not register again until its session has expired.
            "broker.session.timeout.ms": 3000,
            "broker.heartbeat.interval.ms": 500,
            "log.dirs": self._data,
            # Nothing is synced to disk per message: the page cache survives a killed process.
            "message.max.bytes": MESSAGE_BYTES,
            "replica.fetch.max.bytes": MESSAGE_BYTES,
            # A Kafka that unpacks what it is sent, to compress it in its own way, ends with an
            # OutOfMemoryError at a batch of 7 kB that becomes 150 MB.
            "compression.type": "producer",
            # Nobody is read after a transaction that is open.
            "transaction.max.timeout.ms": 60_000,
            "auto.create.topics.enable": "false",
            "num.partitions": 1,
            "log.retention.hours": 168,
            "log.segment.bytes": 128 * 1024 * 1024,
            # The default would take a quarter of this heap at once.
            "log.cleaner.dedupe.buffer.size": 32 * 1024 * 1024,
        }

    @property
    def _data(self) -> Path:
        return self.directory / "data"

    def _format(self, java: list[str | Path], properties: Path) -> None:
        done = self.directory / "formatted"
        if done.exists() and (self._data / "meta.properties").exists():
            return
        # The last formatting was interrupted. Kafka refuses such a directory, and it holds no data.
        shutil.rmtree(self._data, ignore_errors=True)
        cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        if cluster.startswith("-"):
            cluster = "A" + cluster[1:]  # a leading hyphen would make it an option
        tool = ["kafka.tools.StorageTool", "format", "-t", cluster, "--standalone"]
        result = subprocess.run(
            [*java, *tool, "-c", properties], capture_output=True, text=True, check=False
        )
        if result.returncode != 0:
            tail = "\n".join((result.stdout + result.stderr).strip().splitlines()[-10:])
            raise StackError(f"kafka's log directory {self._data} cannot be formatted:\n{tail}")
        done.touch()
