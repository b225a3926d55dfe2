"""Schema ids from a real registry; the registry here already holds schemas of other people."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import uuid4

import fastavro
import pytest
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient

from mmbroker.deploy.local import LocalStack
from mmbroker.deploy.local.processes import free_ports
from mmbroker.schemas.codec import Codec, MalformedEventError, manifest
from mmbroker.schemas.events import BandMeasurement, Observation, Photometry
from mmbroker.streams.errors import InfrastructureError
from mmbroker.streams.kafka.client import KafkaUnavailableError
from mmbroker.streams.kafka.registry import make_codec, registered_versions
from mmbroker.streams.operating.check import check
from mmbroker.streams.settings import KafkaSettings, RegistrySettings, Settings, SettingsError
from tests.conftest import Broker, wait_until
from tests.registry_server import RegistryServer

pytestmark = pytest.mark.slow  # servers of its own

OBSERVATION = Observation(
    observation_id="survey/1",
    instrument="SCUBA-2",
    right_ascension_deg=150.0,
    declination_deg=2.0,
    position_error_arcsec=1.0,
    time_mjd=59_000.0,
    photometry=Photometry([BandMeasurement("SCUBA2-850", 3.5e11, 5e-3, 1e-3)]),
)
MANIFEST_IDS = {version.id for version in manifest()}


def foreign_schema(number: int) -> Schema:
    fields = [{"name": f"field{number}", "type": "string"}]
    text = {"type": "record", "name": "Observation", "namespace": "mmbroker", "fields": fields}
    return Schema(json.dumps(text), "AVRO")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryServer]:
    """A registry in which the ids of the manifest are taken by other schemas."""
    (port,) = free_ports(1)
    running = RegistryServer(tmp_path_factory.mktemp("registry"), port)
    running.start()
    try:
        client = SchemaRegistryClient({"url": running.url})
        taken = {client.register_schema(f"theirs-{n}", foreign_schema(n)) for n in MANIFEST_IDS}
        assert taken >= MANIFEST_IDS
        yield running
    finally:
        running.stop()


@pytest.fixture
def client(server: RegistryServer) -> SchemaRegistryClient:
    return SchemaRegistryClient({"url": server.url})


@pytest.fixture
def registry(server: RegistryServer) -> RegistrySettings:
    """Subjects of this test's own."""
    return RegistrySettings(url=server.url, subject_prefix=f"{uuid4().hex}.")


def ids(registry: RegistrySettings) -> dict[tuple[str, int], int]:
    return {(each.name, each.version): each.id for each in registered_versions(registry)}


def test_a_registry_that_wants_compatible_versions_takes_them_all(
    registry: RegistrySettings, client: SchemaRegistryClient
) -> None:
    client.set_compatibility(level="BACKWARD")
    try:
        assert ids(registry).keys() == {(each.name, each.version) for each in manifest()}
    finally:
        client.set_compatibility(level="NONE")


def schema_id(message: bytes) -> int:
    magic, number = struct.unpack_from(">bI", message)
    assert magic == 0
    return int(number)


def test_without_a_registry_the_ids_are_those_of_the_manifest() -> None:
    codec = make_codec(Settings(registry=RegistrySettings()))
    assert schema_id(codec.encode(OBSERVATION)) == Codec().schema_id(Observation)


def test_every_schema_is_registered_as_its_file_says(
    registry: RegistrySettings, client: SchemaRegistryClient
) -> None:
    given = ids(registry)
    assert given.keys() == {(each.name, each.version) for each in manifest()}
    for version in manifest():
        held = client.get_schema(given[version.name, version.version]).schema_str
        assert held is not None
        assert json.loads(held) == json.loads(version.text)


def test_subjects_are_the_full_names_of_the_records(
    server: RegistryServer, client: SchemaRegistryClient
) -> None:
    registered_versions(RegistrySettings(url=server.url))
    assert {f"mmbroker.{version.name}" for version in manifest()} <= set(client.get_subjects())


def test_registering_again_gives_the_same_ids_and_adds_nothing(
    registry: RegistrySettings, client: SchemaRegistryClient
) -> None:
    first = ids(registry)
    subject = f"{registry.subject_prefix}mmbroker.Observation"
    versions = client.get_versions(subject)
    assert ids(registry) == first
    assert client.get_versions(subject) == versions


def test_processes_that_start_at_once_get_the_same_ids(registry: RegistrySettings) -> None:
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(ids, [registry] * 4))
    assert found == found[:1] * 4


def test_a_message_carries_the_registry_s_id_and_is_read_by_it_alone(
    registry: RegistrySettings,
) -> None:
    settings = Settings(registry=registry)
    message = make_codec(settings).encode(OBSERVATION)
    number = schema_id(message)
    assert number not in MANIFEST_IDS
    decoded = make_codec(settings).decode(message)
    assert Codec().encode(decoded) == Codec().encode(OBSERVATION)
    with pytest.raises(MalformedEventError, match=f"schema id {number} is unknown"):
        Codec().decode(message)


def test_a_reader_that_knows_only_the_registry_decodes(
    registry: RegistrySettings, client: SchemaRegistryClient, tmp_path: Path
) -> None:
    message = make_codec(Settings(registry=registry)).encode(OBSERVATION)
    held = client.get_schema(schema_id(message)).schema_str
    assert held is not None
    file = tmp_path / "message"
    file.write_bytes(message[5:])
    with file.open("rb") as body:
        record = fastavro.schemaless_reader(body, json.loads(held), None)
    assert isinstance(record, dict)
    assert record["observation_id"] == "survey/1"


def test_a_schema_that_only_the_registry_knows_is_refused(
    registry: RegistrySettings, client: SchemaRegistryClient
) -> None:
    foreign = client.register_schema(f"{uuid4().hex}.mmbroker.Observation", foreign_schema(99))
    message = struct.pack(">bI", 0, foreign) + b"\x02x"
    with pytest.raises(MalformedEventError, match=f"schema id {foreign} is unknown"):
        make_codec(Settings(registry=registry)).decode(message)


def test_what_is_registered_needs_no_permission_to_write_and_what_is_not_is_refused(
    registry: RegistrySettings, server: RegistryServer
) -> None:
    first = ids(registry)
    unregistered = registry.model_copy(update={"subject_prefix": f"{uuid4().hex}."})
    server.set_read_only(True)
    try:
        assert ids(registry) == first
        with pytest.raises(
            SettingsError, match=r"refused to register .*mmbroker\.Observation.*read-only"
        ):
            ids(unregistered)
    finally:
        server.set_read_only(False)


def test_an_incompatible_schema_in_the_way_is_named(
    registry: RegistrySettings, client: SchemaRegistryClient
) -> None:
    subject = f"{registry.subject_prefix}mmbroker.Observation"
    client.register_schema(subject, foreign_schema(0))
    client.set_compatibility(subject, "BACKWARD")
    with pytest.raises(SettingsError, match=r"refused to register .*Incompatible") as refused:
        registered_versions(registry)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "http://nowhere.invalid", "https://"])
def test_an_unreachable_registry_is_one_clear_line(url: str, server: RegistryServer) -> None:
    # The last: TLS to a server that does not speak it.
    url = f"https://{server.address}" if url == "https://" else url
    with pytest.raises(
        InfrastructureError, match=f"^the schema registry {url} cannot be reached: "
    ) as unreachable:
        registered_versions(RegistrySettings(url=url))
    assert "\n" not in str(unreachable.value)


@pytest.mark.parametrize("every_s", [60.0, 0.1])
def test_a_registry_that_never_finishes_its_answer_is_not_waited_for(every_s: float) -> None:
    ended = threading.Event()

    def drip(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            connection.recv(65536)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n{")
            while not ended.wait(every_s):
                connection.sendall(b" ")

    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listening.accept()
                    threading.Thread(target=drip, args=(connection,), daemon=True).start()

        threading.Thread(target=serve, daemon=True).start()
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        try:
            with pytest.raises(InfrastructureError, match=r"cannot be reached|within 1\.2 s"):
                registered_versions(RegistrySettings(url=url, timeout_s=0.3))
        finally:
            ended.set()


@pytest.mark.parametrize("path", ["", "/apis/registry/v3", "/health"])
def test_an_address_without_confluent_s_interface_is_told(
    path: str, server: RegistryServer
) -> None:
    url = f"http://{server.address}{path}"
    with pytest.raises(SettingsError, match=f"registry.url = {url}: .*/apis/ccompat/v7"):
        registered_versions(RegistrySettings(url=url))


def test_a_certificate_that_is_not_there_is_named(server: RegistryServer) -> None:
    settings = RegistrySettings(url=server.url, ssl_ca_location=Path("nowhere.pem"))
    with pytest.raises(SettingsError, match=r"registry\.ssl_ca_location = nowhere\.pem"):
        registered_versions(settings)


def test_a_name_without_a_password_is_told(server: RegistryServer) -> None:
    with pytest.raises(SettingsError, match="need each other"):
        registered_versions(RegistrySettings(url=server.url, username="somebody"))


def test_check_reports_the_registry(registry: RegistrySettings, stack: LocalStack) -> None:
    kafka = KafkaSettings(bootstrap_servers=stack.bootstrap_servers)
    away = RegistrySettings(url="http://127.0.0.1:1")
    for each, expected in ((registry, True), (away, False)):
        findings = check(Settings(registry=each, kafka=kafka))
        finding = next(found for found in findings if found.subject == "schemas")
        assert finding.good is expected
        assert f"registry {each.url}" in finding.detail


def has_leaders(broker: Broker) -> bool:
    """Whether all partitions can be asked for offsets; new topics are listed before they can."""
    try:
        broker.ledger()
    except KafkaUnavailableError:
        return False
    return True


def test_the_whole_broker_writes_and_reads_the_registry_s_ids(
    make_broker: Callable[..., Broker], registry: RegistrySettings
) -> None:
    broker = make_broker(
        MMBROKER_REGISTRY__URL=str(registry.url),
        MMBROKER_REGISTRY__SUBJECT_PREFIX=registry.subject_prefix,
    )
    wait_until(lambda: has_leaders(broker), "partitions without a leader")
    broker.publish([OBSERVATION])
    given = ids(registry)
    for stream, name in (
        ("observations", "Observation"),
        ("fingerprints", "Fingerprint"),
        ("scored", "ScoredGalaxy"),
    ):
        (message,) = broker.read(stream)
        assert type(message.event).__name__ == name
        newest = max(version for known, version in given if known == name)
        assert schema_id(message.value) == given[name, newest]
    galaxy = broker.read("scored")[0].galaxy
    assert galaxy is not None
    broker.command("verify", galaxy.galaxy_id)
