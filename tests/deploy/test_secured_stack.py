"""A secured stack: who comes in, with what, and what each may do."""

import ipaddress
import logging
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from stat import S_IMODE
from typing import Any

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    NewTopic,
    ResourcePatternType,
    ResourceType,
)
from cryptography import x509
from cryptography.x509 import verification

from mmbroker.deploy.local import LocalStack, StackError
from mmbroker.deploy.local.access import Access, ClientConfig
from mmbroker.deploy.local.certificates import ensure_certificates, make_certificates

pytestmark = pytest.mark.slow  # servers of its own

SILENT = logging.getLogger(__name__)
SILENT.disabled = True

PREFIX = "MMBROKER_KAFKA__"


def client(stack: LocalStack, user: str | None = None, **changed: str) -> ClientConfig:
    """The librdkafka configuration that a user's variables amount to."""
    config = {
        name.removeprefix(PREFIX).lower(): value
        for name, value in stack.environment(user).items()
        if name.startswith(PREFIX)
    }
    return {name.replace("_", "."): value for name, value in {**config, **changed}.items()}


WITHOUT_REASON = (KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN)


def access_of(stack: LocalStack) -> Access:
    assert stack.access is not None
    return stack.access


def error_of(config: ClientConfig, timeout: float = 20) -> int | None:
    """What a client that asks for the metadata is told; None if it gets them."""
    told: list[int] = []
    watched: dict[str, Any] = {**config, "error_cb": lambda error: told.append(error.code())}
    admin = AdminClient(watched, logger=SILENT)
    deadline = time.monotonic() + timeout
    while True:
        try:
            admin.list_topics(timeout=0.5)
        except KafkaException as error:
            admin.poll(0)
            # That a connection was closed, and no other is left, may be all that shows at first.
            reasons = [code for code in told if code not in WITHOUT_REASON]
            if reasons or time.monotonic() > deadline:
                return [*reasons, *told, error.args[0].code()][0]
        else:
            return None


def delivery_error(config: ClientConfig, topic: str) -> int | None:
    codes: list[int | None] = []
    producer = Producer(config, logger=SILENT)
    producer.produce(
        topic, b"x", on_delivery=lambda error, _: codes.append(error.code() if error else None)
    )
    assert producer.flush(20) == 0
    return codes[0]


def first_message(config: ClientConfig, topic: str) -> bytes | None:
    """The value of a topic's first message."""
    settings = {**config, "group.id": f"{config['sasl.username']}-test"}
    consumer = Consumer(settings, logger=SILENT)
    try:
        consumer.assign([TopicPartition(topic, 0, 0)])
        message = consumer.poll(20)
        assert message is not None
        assert message.error() is None
        return message.value()
    finally:
        consumer.close()


@pytest.fixture(scope="module")
def topics(secured_stack: LocalStack) -> tuple[str, str]:
    """A topic of alerts and another."""
    names = ("mm.alerts.some.v1", "mm.some.v1")
    admin = AdminClient(client(secured_stack), logger=SILENT)
    for created in admin.create_topics([NewTopic(name, 1, 1) for name in names]).values():
        created.result(timeout=20)
    return names


def test_the_variables_are_all_that_a_process_needs(secured_stack: LocalStack) -> None:
    variables = secured_stack.environment()
    assert variables == {
        f"{PREFIX}BOOTSTRAP_SERVERS": secured_stack.bootstrap_servers,
        f"{PREFIX}SECURITY_PROTOCOL": "SASL_SSL",
        f"{PREFIX}SASL_MECHANISM": "SCRAM-SHA-512",
        f"{PREFIX}SASL_USERNAME": "mmbroker",
        f"{PREFIX}SASL_PASSWORD": access_of(secured_stack).passwords["mmbroker"],
        f"{PREFIX}SSL_CA_LOCATION": str(access_of(secured_stack).authority),
    }
    attached = LocalStack.attach(secured_stack.directory)
    assert attached.environment() == variables
    assert attached.status().secured
    reader = secured_stack.environment("reader")
    assert reader[f"{PREFIX}SASL_USERNAME"] == "reader"
    assert not any(name.startswith("MMBROKER_TRITON__") for name in reader)
    with pytest.raises(StackError, match="no user 'nobody'; there are admin, mmbroker, reader"):
        secured_stack.environment("nobody")


def test_secrets_are_readable_by_the_owner_alone_and_stand_nowhere_else(
    secured_stack: LocalStack,
) -> None:
    access = access_of(secured_stack)
    assert S_IMODE(access.directory.stat().st_mode) == 0o700
    modes = {file.name: S_IMODE(file.stat().st_mode) for file in access.directory.iterdir()}
    assert modes.pop("authority.pem") == 0o644
    assert set(modes) == {"node.pem", "mmbroker.pem", "passwords.json"}
    assert set(modes.values()) == {0o600}
    assert b"PRIVATE KEY" not in access.authority.read_bytes()
    elsewhere = [
        file.read_bytes()
        for folder in (secured_stack.directory, secured_stack.directory / "kafka")
        for file in folder.iterdir()
        if file.is_file()
    ]
    assert len(elsewhere) >= 3
    for password in access.passwords.values():
        assert not any(password.encode() in content for content in elsewhere)


@pytest.mark.parametrize("user", ["admin", "mmbroker", "reader"])
def test_users_come_in_with_their_password(secured_stack: LocalStack, user: str) -> None:
    assert error_of(client(secured_stack, user)) is None


def test_others_do_not(secured_stack: LocalStack, tmp_path: Path) -> None:
    make_certificates(tmp_path, ["node"], datetime.now(UTC) + timedelta(days=2))
    other = str(tmp_path / "authority.pem")
    refused = KafkaError._AUTHENTICATION
    assert error_of(client(secured_stack, sasl_password="wrong")) == refused
    assert error_of(client(secured_stack, sasl_username="node")) == refused
    assert error_of(client(secured_stack, sasl_mechanism="PLAIN")) == refused
    assert error_of(client(secured_stack, ssl_ca_location=other)) == KafkaError._SSL
    plain: ClientConfig = {"bootstrap.servers": secured_stack.bootstrap_servers}
    assert error_of(plain, timeout=2) is not None


def test_a_certificate_stands_for_its_user(secured_stack: LocalStack, tmp_path: Path) -> None:
    access, server = access_of(secured_stack), secured_stack.kafka.certificate_address
    assert error_of(access.client_by_certificate(server, access.client)) is None
    make_certificates(tmp_path, ["mmbroker"], datetime.now(UTC) + timedelta(days=2))
    forged = access.client_by_certificate(server, tmp_path / "mmbroker.pem")
    assert error_of(forged, timeout=2) is not None
    controller = f"127.0.0.1:{secured_stack.kafka.controller_port}"
    not_of_clients = access.client_by_certificate(controller, tmp_path / "mmbroker.pem")
    assert error_of(not_of_clients, timeout=2) is not None


def test_a_reader_reads_alerts_and_nothing_else(
    secured_stack: LocalStack, topics: tuple[str, str]
) -> None:
    broker, reader = client(secured_stack), client(secured_stack, "reader")
    alerts, other = topics
    assert delivery_error(broker, alerts) is None
    assert delivery_error(broker, other) is None
    assert first_message(reader, alerts) == b"x"
    assert first_message(broker, other) == b"x"
    not_allowed = KafkaError.TOPIC_AUTHORIZATION_FAILED
    asked = AdminClient(reader, logger=SILENT).list_topics(other, timeout=20).topics[other].error
    assert asked is not None
    assert asked.code() == not_allowed
    assert delivery_error(reader, alerts) == not_allowed
    visible = AdminClient(reader, logger=SILENT).list_topics(timeout=20).topics
    assert set(visible) == {name for name in visible if name.startswith("mm.alerts.")} >= {alerts}
    admin = AdminClient(reader, logger=SILENT)
    with pytest.raises(KafkaException, match="authorization failed"):
        admin.delete_topics([alerts])[alerts].result(timeout=20)


@pytest.mark.parametrize(
    ("user", "granted"), [("admin", True), ("mmbroker", False), ("reader", False)]
)
def test_only_the_administrator_grants(secured_stack: LocalStack, user: str, granted: bool) -> None:
    rule = AclBinding(
        ResourceType.TOPIC, "mm.granted", ResourcePatternType.LITERAL, "User:nobody", "*",
        AclOperation.READ, AclPermissionType.ALLOW,
    )  # fmt: skip
    admin = AdminClient(client(secured_stack, user), logger=SILENT)
    error = admin.create_acls([rule])[rule].exception(timeout=20)
    if granted:
        assert error is None
    else:
        assert isinstance(error, KafkaException)
        assert error.args[0].code() == KafkaError.CLUSTER_AUTHORIZATION_FAILED


def test_users_and_permissions_survive_a_killed_kafka(
    secured_stack: LocalStack, topics: tuple[str, str]
) -> None:
    secured_stack.kafka.kill()
    secured_stack.kafka.start()
    assert error_of(client(secured_stack)) is None
    reader = client(secured_stack, "reader")
    assert delivery_error(reader, topics[0]) == KafkaError.TOPIC_AUTHORIZATION_FAILED


def test_a_stack_that_was_open_can_become_secured_and_keeps_its_data(tmp_path: Path) -> None:
    with LocalStack(tmp_path, triton=False, quiet=True) as stack:
        admin = AdminClient({"bootstrap.servers": stack.bootstrap_servers})
        admin.create_topics([NewTopic("before", 1, 1)])["before"].result(timeout=20)
    with LocalStack(tmp_path, triton=False, quiet=True, secured=True) as stack:
        admin = AdminClient(client(stack), logger=SILENT)
        assert "before" in admin.list_topics(timeout=20).topics
        assert error_of({"bootstrap.servers": stack.bootstrap_servers}, timeout=2) is not None
    with LocalStack(tmp_path, triton=False, quiet=True) as stack:  # and stays so
        assert error_of(client(stack, "reader")) is None


# Certificates -------------------------------------------------------------------------------------


def contents(directory: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in directory.iterdir()}


def test_certificates_are_kept_while_they_last_and_then_made_again(tmp_path: Path) -> None:
    make_certificates(tmp_path, ["node"], datetime.now(UTC) + timedelta(days=20))
    short = contents(tmp_path)
    ensure_certificates(tmp_path, ["node"])
    lasting = contents(tmp_path)
    assert not set(short.values()) & set(lasting.values())
    ensure_certificates(tmp_path, ["node"])
    assert contents(tmp_path) == lasting
    (tmp_path / "authority.pem").write_text("damaged")
    ensure_certificates(tmp_path, ["node"])
    assert not set(contents(tmp_path).values()) & set(lasting.values())


def test_certificates_stand_up_to_strict_verification(tmp_path: Path) -> None:
    make_certificates(tmp_path, ["node"], datetime.now(UTC) + timedelta(days=2))
    authority = tmp_path / "authority.pem"
    node = x509.load_pem_x509_certificate((tmp_path / "node.pem").read_bytes())
    store = verification.Store(x509.load_pem_x509_certificates(authority.read_bytes()))
    for name in (x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))):
        verifier = verification.PolicyBuilder().store(store).build_server_verifier(name)
        assert verifier.verify(node, [])[0] == node
