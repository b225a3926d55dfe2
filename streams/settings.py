"""The one settings object.

A value comes from, in this order: the environment (``MMBROKER_KAFKA__BOOTSTRAP_SERVERS``), the TOML
file that ``MMBROKER_CONFIG`` names (``mmbroker.toml`` by default), a local stack that runs in the
data directory, the default.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, Protocol, Self, TypeVar

from pydantic import (
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
"""What the variables of the environment begin with."""
CONFIG_VARIABLE = f"{PREFIX}CONFIG"
AS_GOOD_AS_OURS = 0.82
"""How like a setting a variable has to be to be one that is misspelt. Others are not ours: those of
the tests and the local stack, or of Kubernetes for a service of this name."""


S = TypeVar("S", bound=BaseModel)


class SettingsError(ValueError):
    """A setting is missing or wrong; the message names it."""


class LocalServers(Protocol):
    """Servers that run on this machine, of which the settings are told."""

    def addresses(self, directory: Path, user: str | None) -> dict[str, dict[str, Any]]:
        """The settings by which the servers of a directory are reached, by section.

        Args:
            directory: where they live.
            user: who is to log in to Kafka, if it asks; None for the broker itself.

        Returns:
            Empty when none run there.
        """
        ...

    def kafka_has_ended(self, directory: Path, address: str) -> bool:
        """Whether a Kafka had that address, and has ended while other servers still run."""
        ...


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class KafkaSettings(_Section):
    """How to reach Kafka."""

    bootstrap_servers: str = "127.0.0.1:9092"
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
    """How long messages may wait to be acknowledged before they are sent anew."""
    _local: tuple[LocalServers, Path] | None = PrivateAttr(default=None)
    """Who told of local servers, and the data directory in which they were looked for."""

    @property
    def absent_stack(self) -> str | None:
        """That a local stack should be there and is not, and what to do; None with another Kafka.

        It should if nobody has said where Kafka is, or if what else belongs to the stack runs.
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
        """The librdkafka configuration that these settings amount to."""
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
    """How to reach a schema registry; without a URL the ids are those of the manifest.

    To be decided before the first message: what is in Kafka and in the store keeps its meaning only
    as long as its ids come from the same place.
    """

    url: str | None = Field(default=None, pattern=r"^https?://[^@\s]+$")
    username: str | None = None
    password: SecretStr | None = None
    ssl_ca_location: Path | None = None
    subject_prefix: str = ""
    timeout_s: float = Field(default=10.0, gt=0)

    def client(self) -> dict[str, Any]:
        """The configuration of confluent-kafka's registry client that these settings amount to."""
        # Few and quick retries: who asks tries again, or shows at once that nobody answers.
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

    url: str = "127.0.0.1:8001"
    model_repository: Path | None = None
    """The folder that Triton reads its models from, for adding versions; None if it is not here."""
    critic: str = "critic"
    """Name of the model; empty for none, as for the two below."""
    parser: str = "parser"
    """Reads spectra."""
    map_parser: str = "map_parser"
    """Reads continuum maps."""
    refined_redshift: bool = True
    """Whether scored galaxies carry the refined redshift too, which is not the one in force."""
    deadline_s: float = Field(default=10.0, gt=0)
    retries: int = Field(default=3, ge=0)


class Workers(_Section):
    """Processes of each stage that ``mmbroker run`` runs."""

    build_fingerprints: int = Field(default=1, ge=1)
    score_galaxies: int = Field(default=1, ge=1)
    publish_alerts: int = Field(default=1, ge=1)

    def of(self, stage: str) -> int:
        """Processes of a stage, by its name."""
        return int(getattr(self, stage.replace("-", "_")))


class StageSettings(_Section):
    """How the stages run."""

    batch_events: int = Field(default=500, ge=1)
    batch_wait_s: float = Field(default=0.01, ge=0)
    fetch_bytes: int = Field(default=8 * 2**20, ge=2**16)
    session_timeout_s: float = Field(default=10.0, ge=6)
    give_up_after_s: float = Field(default=300.0, gt=0)
    workers: Workers = Workers()
    metrics_host: str = "127.0.0.1"
    metrics_port: int = Field(default=0, ge=0, le=65535)
    """Of the first process that ``mmbroker run`` starts; the others count up. 0: free ones."""

    @field_validator("workers", mode="before")
    @classmethod
    def _of_all_stages(cls, value: object) -> object:
        """One number is that of every stage."""
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
    """Everything that can be set."""

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
        """Environment before file; see the module's docstring."""
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
        """The same with the addresses of local servers, where no other was named."""
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
        """Where the store lives."""
        return self.data_directory / "store"

    @property
    def stack_directory(self) -> Path:
        """Where a local stack lives."""
        return stack_directory(self.data_directory)


def _completed(section: S, found: dict[str, Any], address: str) -> S:
    """A section with what was found where nothing is set.

    If it names another server, what was found means nothing to that: neither passwords nor
    folders.
    """
    given = section.model_dump(include=section.model_fields_set)
    if given.get(address, found.get(address)) != found.get(address):
        found = {}
    return section.model_validate({**found, **given})


def stack_directory(data_directory: Path) -> Path:
    """Where a local stack lives."""
    return data_directory / "stack"


def config_file() -> Path:
    """The TOML file with settings; need not exist."""
    return Path(os.environ.get(CONFIG_VARIABLE, "mmbroker.toml"))


def load(local: LocalServers | None = None) -> Settings:
    """The settings in force.

    Args:
        local: tells of servers that run on this machine; None for none.

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
    """Where a wrong setting stands: in the environment, in the file, or nobody knows."""
    place = problem["loc"]
    variable = PREFIX + "__".join(map(str, place)).upper()
    if variable in os.environ:
        return variable
    name = ".".join(map(str, place))
    if not config_file().is_file():
        return name
    found: Any = tomllib.loads(config_file().read_text())
    # Of a name that is missing, what it is missing in.
    inner = place[:-1] if problem["type"] == "missing" else place
    try:
        for key in inner:
            found = found[key]
    except (LookupError, TypeError):
        return name
    return f"{config_file()}: {name}" if found == problem["input"] else name


def _require_known_variables() -> None:
    """Refuse what looks like a variable of ours and would be passed over.

    Raises:
        SettingsError: a variable of the environment is called nearly as one that is read.
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
