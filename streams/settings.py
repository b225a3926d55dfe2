"""All settings of the broker, in one object.

A value comes from the first of these that has it:

1. the environment, for example ``MMBROKER_KAFKA__BOOTSTRAP_SERVERS``;
2. the TOML file that ``MMBROKER_CONFIG`` names, by default ``mmbroker.toml``;
3. a local stack that runs in the data directory;
4. the default in this module.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol, Self, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    SecretStr,
    ValidationError,
    field_validator,
)
from pydantic_core import ErrorDetails
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)
from pydantic_settings import SettingsError as UnreadableError

from mmbroker.processors.alerts.decide import AlertStream
from mmbroker.processors.scoring.hyperscore import Form
from mmbroker.schemas.wording import fault, meant
from mmbroker.streams.topics import Topics

DATA_DIRECTORY = Path(".mmbroker")
PREFIX = "MMBROKER_"
"""Start of the names of our environment variables."""
CONFIG_VARIABLE = f"{PREFIX}CONFIG"
AS_GOOD_AS_OURS = 0.82
"""A variable whose name is this similar to a known one (1 is equal) is taken for misspelt.

Less similar variables that begin with the prefix belong to others: to the tests, to the local
stack, or to Kubernetes, which sets some for a service called mmbroker.
"""

S = TypeVar("S", bound=BaseModel)


def _without_user(address: str) -> str:
    if "@" in address:
        raise ValueError(
            "an address holds no user and no password; they have settings of their own"
        )
    return address


WithoutUser = Annotated[str, AfterValidator(_without_user)]
"""An address. It may stand in messages and logs, so it must not hold a password."""


class SettingsError(ValueError):
    """A setting is missing or wrong; the message names it."""


class LocalServers(Protocol):
    """Tells the settings which servers run on this machine."""

    def addresses(self, directory: Path, user: str | None) -> dict[str, dict[str, Any]]:
        """The settings with which the servers of a directory are reached, by section.

        Args:
            directory: where the servers keep their files.
            user: the user who logs in to Kafka, if Kafka has users; None for the broker's own.

        Returns:
            An empty dict when no server runs there.
        """
        ...

    def kafka_has_ended(self, directory: Path, address: str) -> bool:
        """Whether the Kafka with this address has ended while other servers still run."""
        ...


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class KafkaSettings(_Section):
    """How to reach Kafka."""

    bootstrap_servers: WithoutUser = "127.0.0.1:9092"
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "SCRAM-SHA-512"
    sasl_username: str | None = None
    sasl_password: SecretStr | None = None
    ssl_ca_location: Path | None = None
    ssl_certificate_location: Path | None = None
    ssl_key_location: Path | None = None
    topic_prefix: str = "mm"
    partitions: int = Field(default=4, ge=1)
    replication_factor: int = Field(default=1, ge=1)
    delivery_timeout_s: float = Field(default=30.0, ge=1)
    """Longest wait for the acknowledgement of messages; then their batch is tried again."""
    _local: tuple[LocalServers, Path] | None = PrivateAttr(default=None)
    """What tells about local servers, and the data directory in which it looked for them."""

    @property
    def absent_stack(self) -> str | None:
        """Says that a local stack is missing, and what to do; None if none is expected.

        One is expected if no setting says where Kafka is, or if its other servers still run.
        """
        if self._local is None:
            return None
        local, searched = self._local
        if "bootstrap_servers" not in self.model_fields_set:
            return (
                f"no local stack runs in {searched}: start one with mmbroker stack up, or "
                "set the address of another Kafka"
            )
        if not local.kafka_has_ended(stack_directory(searched), self.bootstrap_servers):
            return None
        return (
            f"Kafka of the local stack in {searched} has ended: start it again with "
            "mmbroker stack up"
        )

    def client(self) -> dict[str, Any]:
        """These settings as a configuration of librdkafka.

        Raises:
            SettingsError: a setting that is needed is missing, or a file does not exist.
        """
        config: dict[str, Any] = {
            "bootstrap.servers": self.bootstrap_servers,
            "security.protocol": self.security_protocol,
        }
        if self.security_protocol.startswith("SASL"):
            if not self.sasl_username or not self.sasl_password:
                raise SettingsError(
                    f"kafka.security_protocol = {self.security_protocol} needs "
                    "kafka.sasl_username and kafka.sasl_password"
                )
            config["sasl.mechanism"] = self.sasl_mechanism
            config["sasl.username"] = self.sasl_username
            config["sasl.password"] = self.sasl_password.get_secret_value()
        if not self.security_protocol.endswith("SSL"):
            return config
        if (self.ssl_certificate_location is None) != (self.ssl_key_location is None):
            raise SettingsError(
                "kafka.ssl_certificate_location and kafka.ssl_key_location need each other"
            )
        for name, path in (
            ("ssl.ca.location", self.ssl_ca_location),
            ("ssl.certificate.location", self.ssl_certificate_location),
            ("ssl.key.location", self.ssl_key_location),
        ):
            if path is not None:
                if not path.is_file():
                    setting = name.replace(".", "_")
                    raise SettingsError(f"kafka.{setting} = {path}: there is no such file")
                config[name] = str(path)
        return config


class RegistrySettings(_Section):
    """How to reach a schema registry; without a URL the schema ids are those of the manifest.

    Decide this before the first message. Messages in Kafka and in the store contain schema ids, and
    can be read only as long as the ids come from the same place.
    """

    url: Annotated[WithoutUser, Field(pattern=r"^https?://\S+$")] | None = None
    username: str | None = None
    password: SecretStr | None = None
    ssl_ca_location: Path | None = None
    subject_prefix: str = ""
    timeout_s: float = Field(default=10.0, gt=0)

    def client(self) -> dict[str, Any]:
        """These settings as a configuration of confluent-kafka's registry client.

        Raises:
            SettingsError: a user without a password, or the reverse.
        """
        # Few and quick retries: a stage tries again by itself, and a user wants to know at once.
        config: dict[str, Any] = {
            "url": self.url,
            "timeout": self.timeout_s,
            "max.retries": 2,
            "retries.wait.ms": 200,
        }
        if (self.username is None) != (self.password is None):
            raise SettingsError("registry.username and registry.password need each other")
        if self.username is not None and self.password is not None:
            secret = self.password.get_secret_value()
            config["basic.auth.user.info"] = f"{self.username}:{secret}"
        if self.ssl_ca_location is not None:
            config["ssl.ca.location"] = str(self.ssl_ca_location)
        return config


class TritonSettings(_Section):
    """How to reach Triton."""

    url: WithoutUser = "127.0.0.1:8001"
    model_repository: Path | None = None
    """Folder from which Triton reads its models; needed to add versions. None if not reachable."""
    repository_secret: SecretStr | None = None
    """Secret without which Triton loads no model: it is started with
    ``--grpc-restricted-protocol=model-repository:mmbroker=SECRET``. None if it has none."""
    critic: str = "critic"
    """Name of the critic; empty for no critic."""
    parser: str = "parser"
    """Name of the model that reads spectra; empty for none."""
    map_parser: str = "map_parser"
    """Name of the model that reads continuum maps; empty for none."""
    refined_redshift: bool = True
    """Whether scores also contain the refined redshift; the redshift in force stays another."""
    deadline_s: float = Field(default=10.0, gt=0)
    retries: int = Field(default=3, ge=0)

    def control(self) -> dict[str, Any]:
        """The address and the secret with which Triton is asked for its models, or told to load."""
        secret = self.repository_secret
        return {"url": self.url, "secret": None if secret is None else secret.get_secret_value()}


class Workers(_Section):
    """Number of processes of each stage that ``mmbroker run`` runs."""

    build_fingerprints: int = Field(default=1, ge=1)
    score_galaxies: int = Field(default=1, ge=1)
    publish_alerts: int = Field(default=1, ge=1)

    def of(self, stage: str) -> int:
        """Number of processes of a stage, by its name."""
        return int(getattr(self, stage.replace("-", "_")))


class StageSettings(_Section):
    """How the stages run."""

    batch_events: int = Field(default=500, ge=1)
    batch_wait_s: float = Field(default=0.01, ge=0)
    fetch_bytes: int = Field(default=8 * 2**20, ge=2**16)
    session_timeout_s: float = Field(default=10.0, ge=6)
    give_up_after_s: float = Field(default=300.0, gt=0)
    memory_headroom_mib: int = Field(default=2048, ge=512)
    """What a process may take beyond its memory at its start, on Linux. It ends where a message
    wants more."""
    workers: Workers = Workers()
    metrics_host: str = "127.0.0.1"
    metrics_port: int = Field(default=0, ge=0, le=65535)
    """Port of the first process of ``mmbroker run``; the next ones count up. 0: any free ports."""

    @field_validator("workers", mode="before")
    @classmethod
    def _of_all_stages(cls, value: object) -> object:
        """A single number applies to every stage."""
        if isinstance(value, int):
            return dict.fromkeys(Workers.model_fields, value)
        return value


class ScoringSettings(_Section):
    """How galaxies are scored."""

    hyperscore_form: Form = "plus-gamma"


DEFAULT_ALERT_STREAMS = (
    AlertStream(name="confident", minimum_probability=0.8),
    AlertStream(name="high-redshift", format="json", minimum_redshift=4.0, minimum_probability=0.3),
)


class Settings(BaseSettings):
    """All settings."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_nested_delimiter="__", extra="forbid", frozen=True
    )

    data_directory: Path = DATA_DIRECTORY
    kafka: KafkaSettings = Field(default_factory=KafkaSettings)
    registry: RegistrySettings = RegistrySettings()
    triton: TritonSettings = TritonSettings()
    stage: StageSettings = StageSettings()
    scoring: ScoringSettings = ScoringSettings()
    alert_streams: list[AlertStream] = Field(default_factory=lambda: list(DEFAULT_ALERT_STREAMS))

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment comes before the file; see the module's docstring."""
        file = TomlConfigSettingsSource(settings_cls, config_file())
        return init_settings, env_settings, file

    @field_validator("alert_streams")
    @classmethod
    def _names_are_topic_names(cls, streams: list[AlertStream]) -> list[AlertStream]:
        names = [stream.name for stream in streams]
        for name in names:
            if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,60}", name):
                raise ValueError(f"name {name!r}: use lower-case letters, digits and hyphens")
            if names.count(name) > 1:
                raise ValueError(f"name {name!r} is used twice")
        return streams

    def told_of(self, local: LocalServers) -> Self:
        """The same settings with the addresses of local servers, where they name no others."""
        given = self.kafka.model_dump(include=self.kafka.model_fields_set)
        user = None if "sasl_password" in given else given.get("sasl_username")
        found = local.addresses(self.stack_directory, user)
        kafka = _completed(self.kafka, found.get("kafka", {}), "bootstrap_servers")
        kafka._local = local, self.data_directory.resolve()
        triton = _completed(self.triton, found.get("triton", {}), "url")
        return self.model_copy(update={"kafka": kafka, "triton": triton})

    @property
    def topics(self) -> Topics:
        """The topics of these settings."""
        return Topics(self.kafka.topic_prefix, self.alert_streams)

    @property
    def store_directory(self) -> Path:
        """Directory of the store."""
        return self.data_directory / "store"

    @property
    def stack_directory(self) -> Path:
        """Directory of a local stack."""
        return stack_directory(self.data_directory)


def _completed(section: S, found: dict[str, Any], address: str) -> S:
    """A section, completed by what was found about a local server.

    If the section names another server, nothing is added: passwords and folders of the local server
    do not apply to it.
    """
    given = section.model_dump(include=section.model_fields_set)
    if given.get(address, found.get(address)) != found.get(address):
        found = {}
    return section.model_validate({**found, **given})


def stack_directory(data_directory: Path) -> Path:
    """Directory of a local stack."""
    return data_directory / "stack"


def config_file() -> Path:
    """Path of the TOML file with settings; the file need not exist."""
    return Path(os.environ.get(CONFIG_VARIABLE, "mmbroker.toml"))


def load(local: LocalServers | None = None) -> Settings:
    """The settings in force.

    Args:
        local: tells which servers run on this machine; None to look for none.

    Raises:
        SettingsError: a setting is wrong, or the file cannot be read.
    """
    if CONFIG_VARIABLE in os.environ and not config_file().is_file():
        raise SettingsError(f"{CONFIG_VARIABLE} = {config_file()}: there is no such file")
    _require_known_variables()
    try:
        settings = Settings()
        return settings if local is None else settings.told_of(local)
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{config_file()}: {error}") from error
    except ValidationError as error:
        problems = (fault(each, Settings, _place(each)) for each in error.errors())
        raise SettingsError("; ".join(problems)) from error
    except UnreadableError as error:
        raise SettingsError(f"environment: {error}: {error.__cause__}") from error


def _place(problem: ErrorDetails) -> str:
    """Where a wrong setting is: variable or file with its name; the bare name if not known."""
    place = problem["loc"]
    variable = PREFIX + "__".join(map(str, place)).upper()
    if variable in os.environ:
        return variable
    name = ".".join(map(str, place))
    if not config_file().is_file():
        return name
    found: Any = tomllib.loads(config_file().read_text())
    # If a name is missing, look for the section in which it is missing.
    inner = place[:-1] if problem["type"] == "missing" else place
    try:
        for key in inner:
            found = found[key]
    except (LookupError, TypeError):
        return name
    return f"{config_file()}: {name}" if found == problem["input"] else name


def _require_known_variables() -> None:
    """Refuse misspelt variables, which would be ignored.

    Raises:
        SettingsError: an environment variable is spelt nearly like one of the settings.
    """
    known = [CONFIG_VARIABLE, *_variables(Settings)]
    for variable in os.environ:
        section = variable.upper().removeprefix(PREFIX).partition("__")[0].lower()
        if variable.startswith(PREFIX) and section not in Settings.model_fields:
            guess = "" if variable in known else meant(variable, known, AS_GOOD_AS_OURS)
            if guess:
                raise SettingsError(f"{variable}: there is no such variable{guess}")


def _variables(section: type[BaseModel], start: str = PREFIX) -> Iterator[str]:
    """The names of the variables for a section."""
    for name, each in section.model_fields.items():
        yield start + name.upper()
        if isinstance(each.annotation, type) and issubclass(each.annotation, BaseModel):
            yield from _variables(each.annotation, f"{start}{name.upper()}__")
