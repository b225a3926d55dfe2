"""The broker on a Kafka with encryption, users and permissions; and what it says when refused."""

import os
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hop.auth import Auth
from hop.io import StartPosition, Stream

from mmbroker.deploy.local import LocalStack
from mmbroker.deploy.local.certificates import make_certificates
from mmbroker.models.simulation.observations import simulate
from mmbroker.streams.kafka.client import KafkaUnavailableError, existing_topics, require_group
from mmbroker.streams.kafka.refusal import refusal
from mmbroker.streams.local_stack import load_settings
from mmbroker.streams.publishing.publisher import Publisher, PublishingError
from mmbroker.streams.settings import KafkaSettings, Settings, SettingsError
from mmbroker.streams.subscribing.read import read
from tests.conftest import Broker

pytestmark = pytest.mark.slow  # servers of its own

STREAM = '[[alert_streams]]\nname = "anything"\n'
PREFIX = "MMBROKER_KAFKA__"
PLAIN = Path(__file__).parents[2] / "deploy" / "demo" / "subscribe_plain.py"


@pytest.fixture(scope="module")
def secured(make_broker: Callable[..., Broker], secured_stack: LocalStack) -> Iterator[Broker]:
    """A broker with some simulated galaxies, whose stages are users of a secured Kafka."""
    # The names of topics are those that the stack's reader may read.
    variables = {**secured_stack.environment(), f"{PREFIX}TOPIC_PREFIX": "mm"}
    broker = make_broker(STREAM, **variables)
    broker.publish(simulate(20, seed=8))
    yield broker
    broker.process.terminate()  # before its Kafka goes
    broker.process.wait(60)


def settings_of(broker: Broker, **variables: str) -> Settings:
    """The settings in the broker's environment with some variables changed."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**broker.environment, **variables}.items():
            patch.setenv(name, value)
        return load_settings()


def changed(broker: Broker, **settings: str) -> dict[str, str]:
    """The broker's environment with some Kafka settings changed."""
    return {**broker.environment, **{f"{PREFIX}{k.upper()}": v for k, v in settings.items()}}


def fail_together(commands: list[tuple[str, dict[str, str]]]) -> list[str]:
    """Run commands at the same time; each has to end with one line, which is returned."""
    running = [
        subprocess.Popen(
            [sys.executable, "-m", "mmbroker", *command.split()],
            env={**environment, "COLUMNS": "500"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for command, environment in commands
    ]
    said = []
    for (command, _), process in zip(commands, running, strict=True):
        output, errors = process.communicate(timeout=60)
        assert process.returncode == 1, (command, output, errors)
        lines = errors.splitlines() or [line for line in output.splitlines() if "kafka:" in line]
        assert len(lines) == 1, (command, output, errors)
        said.append(lines[0])
    return said


# What works ---------------------------------------------------------------------------------------


def test_observations_become_alerts_on_a_secured_kafka(secured: Broker) -> None:
    build, score, publish = secured.ledger()
    assert build.received >= 20
    assert all(entry.closes for entry in (build, score, publish))
    galaxies = {message.key for message in secured.read("scored")}
    assert {message.key for message in secured.read("anything")} == galaxies
    assert len(galaxies) >= 10
    assert "bad" not in secured.command("check").stdout
    secured.command("ledger")


def test_a_reader_subscribes_to_alerts_only(secured: Broker, secured_stack: LocalStack) -> None:
    reader = settings_of(secured, **secured_stack.environment("reader"))
    alerts = list(read(reader, "anything", until_end=True))
    assert [each.value for each in alerts] == [each.value for each in secured.read("anything")]
    refused = r"kafka\.sasl_username = reader has no permission for topic mm\.observations\.v1"
    with pytest.raises(KafkaUnavailableError, match=refused):
        next(read(reader, "observations", until_end=True))
    with pytest.raises(PublishingError, match=refused):
        Publisher(reader)
    require_group(reader.kafka, "reader-at-home")
    with pytest.raises(KafkaUnavailableError, match=r"no permission for consumer group mm\.some"):
        require_group(reader.kafka, "mm.some")


def test_hop_and_the_plain_program_log_in_as_a_reader(
    secured: Broker, secured_stack: LocalStack
) -> None:
    there = {message.key.decode() for message in secured.read("anything")}
    access = secured_stack.environment("reader")
    password, authority = access[f"{PREFIX}SASL_PASSWORD"], access[f"{PREFIX}SSL_CA_LOCATION"]
    server = secured.settings.kafka.bootstrap_servers
    topic = secured.settings.topics.alerts("anything")
    auth = Auth("reader", password, ssl_ca_location=authority)
    stream = Stream(auth=auth, start_at=StartPosition.EARLIEST, until_eos=True)
    with stream.open(f"kafka://{server}/{topic}", "r") as messages:
        assert {each.content["galaxy"]["galaxy_id"] for each in messages} == there
    plain = subprocess.run(
        [
            sys.executable,
            PLAIN,
            server,
            topic,
            "--until-end",
            "--user",
            "reader",
            "--ca",
            authority,
        ],
        env={**os.environ, "SASL_PASSWORD": password},
        capture_output=True,
        text=True,
        check=True,
    )
    assert {line.split()[1] for line in plain.stdout.splitlines()} == there


def test_what_a_reader_may_not_do_is_said_in_a_line(
    secured: Broker, secured_stack: LocalStack
) -> None:
    environment = {**secured.environment, **secured_stack.environment("reader")}
    commands = [
        "publish --simulated 1", "subscribe observations", "stage publish-alerts", "ledger",
    ]  # fmt: skip
    # A data directory of its own: the broker's is in use.
    environment["MMBROKER_DATA_DIRECTORY"] = str(secured.settings.data_directory / "reader")
    for line in fail_together([(command, environment) for command in commands]):
        assert "kafka.sasl_username = reader has no permission for" in line


def test_a_certificate_instead_of_a_password(secured: Broker, secured_stack: LocalStack) -> None:
    assert secured_stack.access is not None
    kafka = secured.settings.kafka.model_copy(
        update={
            "bootstrap_servers": secured_stack.kafka.certificate_address,
            "security_protocol": "SSL",
            "ssl_certificate_location": secured_stack.access.client,
            "ssl_key_location": secured_stack.access.client,
        }
    )
    assert "mm.observations.v1" in existing_topics(kafka)


# What is refused ----------------------------------------------------------------------------------


def test_a_wrong_password_is_said_in_a_line_by_every_command(secured: Broker) -> None:
    environment = changed(secured, sasl_password="wrong")
    environment["MMBROKER_DATA_DIRECTORY"] = str(secured.settings.data_directory / "refused")
    commands = [
        "check", "publish --simulated 1", "subscribe anything", "stage score-galaxies",
    ]  # fmt: skip
    for line in fail_together([(command, environment) for command in commands]):
        assert "kafka.sasl_username = mmbroker: Kafka at" in line
        assert "invalid credentials" in line
        assert line.endswith("check kafka.sasl_password")


@pytest.fixture(scope="module")
def other_authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("other")
    make_certificates(directory, ["node"], datetime.now(UTC) + timedelta(days=2))
    return directory / "authority.pem"


def test_an_unknown_authority_and_a_client_without_encryption_are_said_in_a_line(
    secured: Broker, other_authority: Path
) -> None:
    unknown = changed(secured, ssl_ca_location=str(other_authority))
    plain = changed(secured, security_protocol="PLAINTEXT")
    for environment in (unknown, plain):
        path = str(secured.settings.data_directory / "refused")
        environment["MMBROKER_DATA_DIRECTORY"] = path
    commands = ("publish --simulated 1", "subscribe anything", "stage build-fingerprints")
    for line in fail_together([(command, unknown) for command in commands]):
        assert f"kafka.ssl_ca_location = {other_authority}: the certificate of Kafka" in line
    for line in fail_together([(command, plain) for command in commands]):
        assert "kafka.security_protocol = PLAINTEXT: Kafka at" in line
        assert "expects encryption; set SASL_SSL" in line


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"sasl_username": "nobody"}, "kafka.sasl_username = nobody: .* refuses .*sasl_password$"),
        ({"sasl_mechanism": "PLAIN"}, "handshake failed: .* check kafka.sasl_mechanism$"),
        ({"security_protocol": "SASL_PLAINTEXT"}, "SASL_PLAINTEXT: .* expects encryption"),
        ({"security_protocol": "SSL"}, "SSL: .* answers nothing; if it expects a user, set SASL"),
        ({"ssl_ca_location": "/dev/null"}, "there is no such file"),
        ({"ssl_ca_location": __file__}, "not a PEM file of certificates"),
        ({"ssl_certificate_location": __file__}, "need each other"),
        ({"sasl_password": ""}, "SASL_SSL needs kafka.sasl_username and kafka.sasl_password"),
    ],
)
def test_a_wrong_setting_is_named(secured: Broker, wrong: dict[str, str], said: str) -> None:
    kafka = settings_of(secured, **changed(secured, **wrong)).kafka
    with pytest.raises((KafkaUnavailableError, SettingsError), match=said):
        existing_topics(kafka)


def test_a_missing_and_an_unknown_certificate_of_a_client(
    secured: Broker, secured_stack: LocalStack, other_authority: Path
) -> None:
    without = secured.settings.kafka.model_copy(
        update={
            "bootstrap_servers": secured_stack.kafka.certificate_address,
            "security_protocol": "SSL",
        }
    )
    assert "kafka.ssl_certificate_location = none" in str(refusal(without))
    forged = other_authority.with_name("node.pem")
    unknown = without.model_copy(
        update={"ssl_certificate_location": forged, "ssl_key_location": forged}
    )
    assert f"kafka.ssl_certificate_location = {forged}" in str(refusal(unknown))


def test_encryption_and_users_where_there_are_none(broker: Broker, secured: Broker) -> None:
    server = {"bootstrap_servers": broker.settings.kafka.bootstrap_servers}
    kafka = secured.settings.kafka.model_copy(update=server)
    assert f"{server['bootstrap_servers']} does not speak TLS; name its port" in str(refusal(kafka))
    user = kafka.model_copy(update={"security_protocol": "SASL_PLAINTEXT"})
    assert "kafka.sasl_username = mmbroker: Kafka at" in str(refusal(user))
    assert refusal(broker.settings.kafka) is None
    assert refusal(secured.settings.kafka) is None


@contextmanager
def tls_server(certificate: Path, host: str = "127.0.0.1") -> Iterator[str]:
    """A server that shows a certificate to whoever connects; its address."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with socket.create_server((host, 0)) as listening:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                try:
                    context.wrap_socket(connection, server_side=True).close()
                except OSError:
                    connection.close()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"{host}:{listening.getsockname()[1]}"
        listening.shutdown(socket.SHUT_RDWR)
    thread.join(10)


def test_an_expired_certificate_and_one_for_another_name(tmp_path: Path) -> None:
    make_certificates(tmp_path, ["node"], datetime.now(UTC) - timedelta(days=1))
    with tls_server(tmp_path / "node.pem") as address:
        kafka = KafkaSettings(
            bootstrap_servers=address,
            security_protocol="SSL",
            ssl_ca_location=tmp_path / "authority.pem",
        )
        with pytest.raises(KafkaUnavailableError, match=r"certificate has expired.* renew it"):
            existing_topics(kafka)
    make_certificates(tmp_path, ["node"], datetime.now(UTC) + timedelta(days=2))
    with tls_server(tmp_path / "node.pem", "127.0.0.2") as address:
        reason = refusal(kafka.model_copy(update={"bootstrap_servers": address}))
        assert "not valid for '127.0.0.2'; use a name that is in it" in str(reason)


def test_nobody_there_is_no_refusal() -> None:
    assert refusal(KafkaSettings(bootstrap_servers="127.0.0.1:1")) is None


# Settings -----------------------------------------------------------------------------------------


def test_a_secured_local_stack_is_found_with_its_users(
    secured_stack: LocalStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("data").mkdir()
    Path("data/stack").symlink_to(secured_stack.directory)
    monkeypatch.setenv("MMBROKER_DATA_DIRECTORY", "data")
    assert secured_stack.access is not None
    passwords = secured_stack.access.passwords

    def user() -> tuple[str | None, str | None]:
        kafka = load_settings().kafka
        password = kafka.sasl_password
        return kafka.sasl_username, password.get_secret_value() if password else None

    assert user() == ("mmbroker", passwords["mmbroker"])
    assert load_settings().kafka.security_protocol == "SASL_SSL"
    monkeypatch.setenv(f"{PREFIX}SASL_USERNAME", "reader")
    assert user() == ("reader", passwords["reader"])
    monkeypatch.setenv(f"{PREFIX}SASL_PASSWORD", "given")
    assert user() == ("reader", "given")
    monkeypatch.delenv(f"{PREFIX}SASL_USERNAME")
    monkeypatch.delenv(f"{PREFIX}SASL_PASSWORD")
    monkeypatch.setenv(f"{PREFIX}BOOTSTRAP_SERVERS", "elsewhere:9092")
    assert user() == (None, None)
    assert load_settings().kafka.security_protocol == "PLAINTEXT"


def test_the_stack_prints_its_variables_for_a_shell(
    secured: Broker, secured_stack: LocalStack, tmp_path: Path
) -> None:
    (tmp_path / "stack").symlink_to(secured_stack.directory)
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("MMBROKER_")}
    environment = {**inherited, "MMBROKER_DATA_DIRECTORY": str(tmp_path)}
    command = f"{sys.executable} -m mmbroker stack environment --user reader"
    script = f'eval "$({command})" && env'
    shown = subprocess.run(
        ["sh", "-c", script], env=environment, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    for name, value in secured_stack.environment("reader").items():
        assert f"{name}={value}" in shown
