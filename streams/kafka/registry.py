"""Schema ids from a schema registry, where one is configured.

Any registry with Confluent's REST interface serves. The schemas stand in it under the full names of
their records (``mmbroker.Observation``), so that a reader that knows the registry and nothing of
ours can decode every message in Confluent framing.

Only schemas of the manifest are ever interpreted, also when the registry knows others for the same
records: a schema decides what foreign bytes are read as and how long that takes, anybody who may
write to the registry could add one, and what no version of ours describes has no agreed meaning. A
message under such an id is refused like any other unknown one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from mmbroker.schemas.codec import Codec, SchemaVersion, manifest
from mmbroker.streams.errors import InfrastructureError
from mmbroker.streams.settings import RegistrySettings, Settings, SettingsError

if TYPE_CHECKING:
    from confluent_kafka.schema_registry import SchemaRegistryClient

R = TypeVar("R")

_NOT_FOUND = (40401, 40403)
"""Confluent's error codes for an unknown subject, and for a schema unknown under its subject."""
_LATER = (408, 429)
"""HTTP statuses below 500 after which the same request may succeed."""
_MESSAGE_CHARACTERS = 300


def make_codec(settings: Settings) -> Codec:
    """The codec with the ids of the configured registry, else with those of the manifest.

    Raises:
        SettingsError: as for ``registered_versions``.
        InfrastructureError: the registry cannot be reached.
    """
    if settings.registry.url is None:
        return Codec()
    return Codec(registered_versions(settings.registry))


def registered_versions(registry: RegistrySettings) -> list[SchemaVersion]:
    """Every schema version of the manifest with its id in the registry.

    What the registry has is looked up, which needs no permission to write; what it lacks is
    registered, which may be repeated, also by several processes at once.

    Raises:
        SettingsError: a setting is wrong, a package is missing, what answers is not a registry, or
            it refused a schema.
        InfrastructureError: the registry cannot be reached, or fails.
    """
    # Older versions first: a registry may check each for compatibility with those before it.
    versions = sorted(manifest(), key=lambda version: version.version)
    with _client(registry) as client:
        return [replace(each, id=_id_of(each, client, registry)) for each in versions]


def _client(registry: RegistrySettings) -> SchemaRegistryClient:
    # Imported when needed: brokers without a registry do without what it depends on.
    try:
        from confluent_kafka.schema_registry import SchemaRegistryClient
    except ImportError as error:
        raise SettingsError(
            f"registry.url = {registry.url} needs packages that are not installed ({error}): "
            "pip install 'mmbroker[registry]'"
        ) from error
    try:
        return SchemaRegistryClient(registry.client())
    except OSError as error:
        raise SettingsError(
            f"registry.ssl_ca_location = {registry.ssl_ca_location}: {error}"
        ) from error


def _id_of(version: SchemaVersion, client: SchemaRegistryClient, registry: RegistrySettings) -> int:
    from confluent_kafka.schema_registry import Schema, SchemaRegistryError

    subject = registry.subject_prefix + version.definition["name"]
    schema = Schema(version.text, "AVRO")

    def look_up() -> int | None:
        try:
            return client.lookup_schema(subject, schema).schema_id
        except SchemaRegistryError as error:
            if error.error_code in _NOT_FOUND:
                return None
            raise

    found = _answer(registry, f"to look up {subject}", look_up)
    if found is None:
        return _answer(
            registry,
            f"to register {subject} version {version.version}",
            lambda: client.register_schema(subject, schema),
        )
    return found


def _answer(registry: RegistrySettings, what: str, ask: Callable[[], R]) -> R:
    """The registry's answer; whatever else comes of asking, in one line."""
    from confluent_kafka.schema_registry import SchemaRegistryError
    from httpx2 import TransportError

    where = f"the schema registry {registry.url}"
    try:
        return ask()
    except TransportError as error:
        raise InfrastructureError(f"{where} cannot be reached: {error}") from error
    except SchemaRegistryError as error:
        status = error.http_status_code
        reason = " ".join(str(error.error_message).split())[:_MESSAGE_CHARACTERS]
        if status >= 500 or status in _LATER:
            raise InfrastructureError(f"{where} failed {what}: HTTP {status}, {reason}") from error
        if error.error_message is None or error.error_code == SchemaRegistryError.UNKNOWN:
            raise SettingsError(f"{_no_registry(registry)}: HTTP {status}") from error
        raise SettingsError(f"{where} refused {what}: {reason} (HTTP {status})") from error
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        # A page or another service's answer, which the client tries to read as a registry's.
        raise SettingsError(_no_registry(registry)) from error


def _no_registry(registry: RegistrySettings) -> str:
    return (
        f"registry.url = {registry.url}: what answers there does not speak Confluent's interface; "
        "some registries have it under a path such as /apis/ccompat/v7"
    )
