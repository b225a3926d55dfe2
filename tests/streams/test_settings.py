"""Where settings come from, and how wrong ones are said."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

from mmbroker.deploy.local import LocalStack
from mmbroker.streams.kafka.client import KafkaUnavailableError, existing_topics
from mmbroker.streams.local_stack import load_settings
from mmbroker.streams.settings import SettingsError


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write(text: str) -> None:
    Path("mmbroker.toml").write_text(text)


def test_without_anything_the_defaults_hold() -> None:
    settings = load_settings()
    assert settings.kafka.bootstrap_servers == "127.0.0.1:9092"
    assert settings.topics.observations == "mm.observations.v1"
    assert [stream.name for stream in settings.alert_streams] == ["confident", "high-redshift"]


def test_the_environment_comes_before_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    write('[kafka]\nbootstrap_servers = "file:1"\npartitions = 7\n')
    monkeypatch.setenv("MMBROKER_KAFKA__BOOTSTRAP_SERVERS", "environment:1")
    kafka = load_settings().kafka
    assert (kafka.bootstrap_servers, kafka.partitions) == ("environment:1", 7)


def test_a_running_local_stack_is_found_unless_a_server_is_named(
    stack: LocalStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("data").mkdir()
    Path("data/stack").symlink_to(stack.directory)
    monkeypatch.setenv("MMBROKER_DATA_DIRECTORY", "data")
    assert load_settings().kafka.bootstrap_servers == stack.bootstrap_servers
    assert load_settings().triton.url == stack.triton_url
    write('[kafka]\nbootstrap_servers = "file:1"\n')
    assert load_settings().kafka.bootstrap_servers == "file:1"
    assert load_settings().triton.url == stack.triton_url
    assert load_settings().triton.model_repository == stack.triton.model_repository
    monkeypatch.setenv("MMBROKER_TRITON__URL", "environment:1")
    assert load_settings().triton.model_repository is None


def test_alert_streams_are_declared_without_code() -> None:
    write(
        '[[alert_streams]]\nname = "south"\nformat = "json"\nminimum_probability = 0.5\n'
        "region = {right_ascension_deg = 53.1, declination_deg = -27.8, radius_deg = 0.5}\n"
        "update = {redshift = 0.1}\n"
    )
    (stream,) = load_settings().alert_streams
    assert stream.region is not None
    assert (stream.format, stream.region.radius_deg, stream.update.redshift) == ("json", 0.5, 0.1)
    assert load_settings().topics.alerts("south") == "mm.alerts.south.v1"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[kafka]\npartitions = 0\n", r"kafka\.partitions = 0"),
        (
            "[kafka]\nbootstrap_server = 'x'\n",
            r"^mmbroker\.toml: kafka\.bootstrap_server: there is no such name "
            r"\(did you mean bootstrap_servers\?\)$",
        ),
        ("[kafak]\npartitions = 4\n", r"kafak: .*did you mean kafka\?"),
        ("[scoring]\nx = 1\n", r"scoring\.x: there is no such name; there are hyperscore_form"),
        ("[stage.workers]\nscore_galaxy = 2\n", r"did you mean score_galaxies\?"),
        (
            "[[alert_streams]]\nformat = 'json'\n",
            r"toml: alert_streams\.0\.name is missing",
        ),
        (
            "kafka = 'x'\n",
            "kafka = 'x': this is a section, not a value; it has bootstrap_servers, ",
        ),
        ("[[alert_streams]]\nname = 'No Name'\n", "lower-case letters, digits and hyphens"),
        ("[[alert_streams]]\nname = 'a'\n[[alert_streams]]\nname = 'a'\n", "is used twice"),
        ("[[alert_streams]]\nname = 'a'\nminimum_redshfit = 3\n", "minimum_redshfit"),
        ("kafka = [", "mmbroker.toml"),
        (
            "[[alert_streams]]\nname = 'a'\nminimum_probabilty = 0.5\n",
            r"^mmbroker\.toml: alert_streams\.0\.minimum_probabilty: .*minimum_probability",
        ),
    ],
)
def test_a_wrong_setting_is_named_with_its_value(text: str, said: str) -> None:
    write(text)
    with pytest.raises(SettingsError, match=said):
        load_settings()


def test_a_wrong_setting_in_the_environment_is_not_blamed_on_the_file(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write("[kafka]\npartitions = 7\n")
    monkeypatch.setenv("MMBROKER_KAFKA__PARTITIONS", "0")
    with pytest.raises(SettingsError, match=r"^MMBROKER_KAFKA__PARTITIONS = '0'"):
        load_settings()


@pytest.mark.parametrize(
    ("variable", "said"),
    [
        ("KAFKA__PARTITION", r"KAFKA__PARTITION: there is no such name \(did you mean part"),
        ("KAFKA_BOOTSTRAP_SERVERS", "did you mean MMBROKER_KAFKA__BOOTSTRAP_SERVERS"),
        ("DATA_DIR", "DATA_DIR: there is no such variable .did you mean MMBROKER_DATA_DIRECTORY"),
        ("CONFG", "did you mean MMBROKER_CONFIG"),
        ("KAFKA", 'environment: .*"kafka"'),
    ],
)
def test_a_misspelt_variable_is_refused(
    monkeypatch: pytest.MonkeyPatch, variable: str, said: str
) -> None:
    monkeypatch.setenv(f"MMBROKER_{variable}", "x")
    with pytest.raises(SettingsError, match=said):
        load_settings()


@pytest.mark.parametrize("variable", ["CACHE", "DATA", "SUPERVISOR", "SERVICE_HOST", "PORT_80_TCP"])
def test_variables_of_others_are_none_of_ours(
    monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(f"MMBROKER_{variable}", "x")
    assert load_settings() == load_settings()


class Absent(AdminClient):
    """Asks a Kafka that does not answer."""

    def __init__(self) -> None:
        super().__init__({"bootstrap.servers": "127.0.0.1:1", "log_level": 0})
        self.asked = 0

    def list_topics(self, *_: Any, **__: Any) -> Any:
        self.asked += 1
        raise KafkaException(KafkaError(KafkaError._TRANSPORT))


def test_of_an_absent_local_stack_it_is_told_at_once_how_there_is_one(tmp_path: Path) -> None:
    client = Absent()
    with pytest.raises(KafkaUnavailableError, match="9092: Kafka cannot be reached") as error:
        existing_topics(load_settings().kafka, client)
    advice = f"no local stack runs in {tmp_path / '.mmbroker'}: start one with mmbroker stack up"
    assert advice in str(error.value)
    assert client.asked == 1


@pytest.mark.slow
def test_of_a_local_stack_without_its_kafka_it_is_told_what_starts_that(
    servers: LocalStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("data").mkdir()
    Path("data/stack").symlink_to(servers.directory)
    monkeypatch.setenv("MMBROKER_DATA_DIRECTORY", "data")
    client = Absent()
    servers.kafka.kill()
    try:
        with pytest.raises(KafkaUnavailableError, match=r"has ended: start it .*mmbroker stack up"):
            existing_topics(load_settings().kafka, client)
    finally:
        servers.kafka.start()
    assert client.asked == 1


def test_another_kafka_is_waited_for_and_that_is_said(caplog: pytest.LogCaptureFixture) -> None:
    write('[kafka]\nbootstrap_servers = "127.0.0.1:9092"\n')
    client = Absent()
    with (
        caplog.at_level(logging.INFO, "mmbroker.streams.kafka.client"),
        pytest.raises(KafkaUnavailableError, match="9092: Kafka cannot be reached") as error,
    ):
        existing_topics(load_settings().kafka, client)
    assert "stack" not in str(error.value)
    assert client.asked == 2
    assert "kafka.bootstrap_servers = 127.0.0.1:9092: waiting for an answer" in caplog.messages


def test_a_named_file_must_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MMBROKER_CONFIG", "nowhere.toml")
    with pytest.raises(SettingsError, match=r"nowhere\.toml: there is no such file"):
        load_settings()


def test_sasl_and_tls_reach_the_client() -> None:
    Path("ca.pem").touch()
    write(
        '[kafka]\nsecurity_protocol = "SASL_SSL"\nsasl_username = "u"\nsasl_password = "p"\n'
        'ssl_ca_location = "ca.pem"\n'
    )
    client = load_settings().kafka.client()
    assert client["sasl.username"] == "u"
    assert client["sasl.password"] == "p"
    assert client["ssl.ca.location"] == "ca.pem"


def test_a_password_is_not_shown() -> None:
    write(
        '[kafka]\nsecurity_protocol = "SASL_SSL"\nsasl_username = "u"\nsasl_password = "geheim"\n'
    )
    assert "geheim" not in repr(load_settings())


def test_sasl_without_a_name_is_said() -> None:
    write('[kafka]\nsecurity_protocol = "SASL_SSL"\n')
    with pytest.raises(SettingsError, match=r"needs kafka\.sasl_username"):
        load_settings().kafka.client()


SECRET = "geheim-19540612"


@pytest.mark.parametrize(
    "text",
    [
        f'[kafka]\nsasl_pasword = "{SECRET}"\n',
        f'[kafka]\nsasl_password = ["{SECRET}"]\n',
        f'[kafka]\nsasl_password = {{a = "{SECRET}"}}\n',
        f'[kafka]\nbootstrap_servers = "user:{SECRET}@host:9092"\n',
        f'[registry]\nurl = "https://user:{SECRET}@registry.example"\n',
        f'[registry]\npasswd = "{SECRET}"\n',
        f'[triton]\nurl = "user:{SECRET}@host:8001"\n',
        f'sasl_password = "{SECRET}"\n',
        f'[kafka\nsasl_password = "{SECRET}"\n',
    ],
)
def test_no_error_tells_a_secret(text: str) -> None:
    write(text)
    with pytest.raises(SettingsError) as said:
        load_settings()
    assert SECRET not in str(said.value)


def test_a_number_as_a_password_is_not_told() -> None:
    write("[kafka]\nsasl_password = 19540612\n")
    with pytest.raises(SettingsError, match="sasl_password: ") as said:
        load_settings()
    assert "19540612" not in str(said.value)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("MMBROKER_KAFKA__SASL_PASWORD", SECRET),
        ("MMBROKER_KAFKA_SASL_PASSWORD", SECRET),
        ("MMBROKER_KAFKA", f'{{"sasl_password": "{SECRET}"'),
        ("MMBROKER_REGISTRY__URL", f"https://user:{SECRET}@host"),
    ],
)
def test_no_error_tells_a_secret_of_the_environment(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError) as said:
        load_settings()
    assert SECRET not in str(said.value)
