"""Gets schema ids from a schema registry, if one is configured.

Any registry with Confluent's REST interface works. The schemas are registered under the full names
of their records (``mmbroker.Observation``). So a reader that knows the registry, and has none of
our code, can decode every message in Confluent framing.

The broker uses only schemas of its manifest, also when the registry has other schemas for the same
records. A schema decides how foreign bytes are read and how long that takes, and everybody who may
write to the registry could add one. A message with the id of such a schema is refused like one with
any other unknown id.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from threading import Thread
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
"""HTTP statuses below 500 after which the same request may succeed later."""
_MESSAGE_CHARACTERS = 300
_TIMEOUTS = 4
"""How many times ``registry.timeout_s`` an answer may take, with the client's retries."""


def make_codec(settings: Settings) -> Codec:
    """The codec, with the ids of the registry if one is configured, else with the manifest's.

    Raises:
        SettingsError: see ``registered_versions``.
        InfrastructureError: the registry cannot be reached.
    """
    if settings.registry.url is None:
        return Codec()
    return Codec(registered_versions(settings.registry))


def registered_versions(registry: RegistrySettings) -> list[SchemaVersion]:
    """Every schema version of the manifest with its id in the registry.

    Each schema is first looked up, which needs no permission to write. It is registered if the
    registry lacks it. Several processes may do this at once.

    Raises:
        SettingsError: a setting is wrong, a package is missing, the server that answers is no
            registry, or the registry refused a schema.
        InfrastructureError: the registry cannot be reached, or fails.
    """
    # Older versions first: a registry may check each for compatibility with those before it.
    versions = sorted(manifest(), key=lambda version: version.version)
    with _client(registry) as client:
        return [replace(each, id=_id_of(each, client, registry)) for each in versions]


def _client(registry: RegistrySettings) -> SchemaRegistryClient:
    # Imported only when needed: without a registry its dependencies need not be installed.
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
    """The registry's answer to a request.

    Args:
        registry: the settings, for messages.
        what: what is asked, for messages; e.g. ``to look up mmbroker.Observation``.
        ask: makes the request.

    Raises:
        SettingsError: the server is no registry, or refused.
        InfrastructureError: the registry cannot be reached, or fails.
    """
    from confluent_kafka.schema_registry import SchemaRegistryError
    from httpx2 import TransportError

    where = f"the schema registry {registry.url}"
    longest = _TIMEOUTS * registry.timeout_s
    try:
        return _within(longest, ask)
    except TransportError as error:
        raise InfrastructureError(f"{where} cannot be reached: {error}") from error
    except TimeoutError as error:
        raise InfrastructureError(
            f"{where} did not finish its answer {what} within {longest:g} s"
        ) from error
    except SchemaRegistryError as error:
        status = error.http_status_code
        reason = " ".join(str(error.error_message).split())[:_MESSAGE_CHARACTERS]
        if status >= 500 or status in _LATER:
            raise InfrastructureError(f"{where} failed {what}: HTTP {status}, {reason}") from error
        if error.error_message is None or error.error_code == SchemaRegistryError.UNKNOWN:
            raise SettingsError(f"{_no_registry(registry)}: HTTP {status}") from error
        raise SettingsError(f"{where} refused {what}: {reason} (HTTP {status})") from error
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        # Another service answered, and the client could not read it as a registry's answer.
        raise SettingsError(_no_registry(registry)) from error


def _within(seconds: float, ask: Callable[[], R]) -> R:
    """The result of a call; the client's own timeout begins anew with every byte that comes.

    Raises:
        TimeoutError: it takes longer.
    """
    future: Future[R] = Future()

    def run() -> None:
        try:
            future.set_result(ask())
        except Exception as error:
            future.set_exception(error)

    Thread(target=run, daemon=True).start()
    return future.result(seconds)


def _no_registry(registry: RegistrySettings) -> str:
    return (
        f"registry.url = {registry.url}: what answers there does not speak Confluent's interface; "
        "some registries have it under a path such as /apis/ccompat/v7"
    )
