"""Finds out why Kafka refuses a client, and says it in one line with the setting and the remedy.

librdkafka never gives up after a refusal. It tries again until a timeout, and the timeout does not
tell the reason. So, after a failure, this module makes connections of its own to find the reason.
"""

from __future__ import annotations

import logging
import re
import socket
import ssl
import time
from collections.abc import Iterator
from typing import Any

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

from mmbroker.streams.settings import KafkaSettings, SettingsError

CONNECT_TIMEOUT_S = 2.0
LOGIN_TIMEOUT_S = 8.0
ALERT_WAIT_S = 0.5
"""A server may refuse a client's certificate only after the handshake."""

NOT_ALLOWED = (
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
)
"""Errors that mean that the user lacks a permission."""

# OpenSSL's X509_V_ERR_CERT_NOT_YET_VALID and _HAS_EXPIRED; _HOSTNAME_ and _IP_ADDRESS_MISMATCH
_OUT_OF_DATE = (9, 10)
_OTHER_NAME = (62, 64)
# What OpenSSL reports when the answer is not TLS, or when there is no answer
_NOT_TLS = ("WRONG_VERSION_NUMBER", "UNEXPECTED_EOF_WHILE_READING", None)

_SILENT = logging.getLogger(f"{__name__}.silent")
_SILENT.disabled = True


def refusal(settings: KafkaSettings) -> str | None:
    """Why Kafka refuses these settings, and which setting to change.

    A wrong password or certificate is found within a second or two; a Kafka that accepts the
    connection and says nothing, within ten.

    Returns:
        None if Kafka does not refuse them, or if no server takes a connection.
    """
    for host, port in _servers(settings):
        try:
            connection = socket.create_connection((host, port), timeout=CONNECT_TIMEOUT_S)
        except OSError:
            continue
        with connection:
            reason = _refused_transport(settings, connection, host, f"{host}:{port}")
        return reason or _refused_login(settings, f"{host}:{port}")
    return None


def nobody_listens(settings: KafkaSettings) -> bool:
    """Whether none of the servers takes a connection."""
    for address in _servers(settings):
        try:
            socket.create_connection(address, timeout=CONNECT_TIMEOUT_S).close()
        except OSError:
            continue
        return False
    return True


def complaint(settings: KafkaSettings, error: KafkaError, subject: str) -> str:
    """The message for an error about a subject, with the remedy if a permission is missing."""
    if error.code() == KafkaError.GROUP_AUTHORIZATION_FAILED:
        return not_allowed(settings, "its consumer group")
    if error.code() in NOT_ALLOWED:
        return not_allowed(settings, subject)
    return f"{subject}: {error.str()}"


def not_allowed(settings: KafkaSettings, subject: str) -> str:
    """The message for a user who lacks a permission for a topic or another subject."""
    return (
        f"{_who(settings)} has no permission for {subject}: have it granted by those who run "
        f"Kafka at {settings.bootstrap_servers}, or set another user"
    )


def tls_context(settings: KafkaSettings) -> ssl.SSLContext:
    """The certificates of these settings, loaded by Python's own TLS.

    Raises:
        SettingsError: a file is missing or cannot be read.
    """
    settings.client()  # checks that the files exist
    try:
        context = ssl.create_default_context(cafile=settings.ssl_ca_location)
    except ssl.SSLError as error:
        raise SettingsError(
            f"kafka.ssl_ca_location = {settings.ssl_ca_location}: not a PEM file of certificates "
            f"({error.reason or error})"
        ) from error
    if settings.ssl_certificate_location is not None:
        try:
            context.load_cert_chain(settings.ssl_certificate_location, settings.ssl_key_location)
        except ssl.SSLError as error:
            raise SettingsError(
                f"kafka.ssl_certificate_location = {settings.ssl_certificate_location}, "
                f"kafka.ssl_key_location = {settings.ssl_key_location}: not PEM files of a "
                f"certificate and its private key ({error.reason or error})"
            ) from error
    return context


def _refused_transport(
    settings: KafkaSettings, connection: socket.socket, host: str, server: str
) -> str | None:
    """Why encryption fails: one side does not use TLS, or does not trust the other's certificate.

    Returns:
        None if it does not fail, or if Kafka does not answer in time.
    """
    protocol = settings.security_protocol
    if not protocol.endswith("SSL"):
        if not _speaks_tls(connection, host):
            return None
        return (
            f"kafka.security_protocol = {protocol}: Kafka at {server} expects encryption; set "
            "SASL_SSL (with kafka.sasl_username and kafka.sasl_password) or SSL, and "
            "kafka.ssl_ca_location"
        )
    try:
        with tls_context(settings).wrap_socket(connection, server_hostname=host) as encrypted:
            return _refused_certificate(settings, encrypted, server)
    except ssl.SSLCertVerificationError as error:
        reason = error.verify_message.rstrip(".")
        if error.verify_code in _OUT_OF_DATE:
            return (
                f"kafka.bootstrap_servers = {server}: Kafka's certificate cannot be trusted: "
                f"{reason}; those who run it have to renew it (or this machine's clock is wrong)"
            )
        if error.verify_code in _OTHER_NAME:
            return (
                f"kafka.bootstrap_servers = {server}: Kafka's certificate cannot be trusted: "
                f"{reason}; use a name that is in it"
            )
        authority = settings.ssl_ca_location or "the authorities of this machine"
        return (
            f"kafka.ssl_ca_location = {authority}: the certificate of Kafka at {server} cannot be "
            f"trusted: {reason}; set the PEM file of the authority that signed it"
        )
    except (ssl.SSLError, ConnectionError) as error:
        if isinstance(error, ssl.SSLError) and error.reason not in _NOT_TLS:
            return _certificate_refused(settings, server, error.reason)
        return (
            f"kafka.security_protocol = {protocol}: Kafka at {server} does not speak TLS; name its "
            "port for TLS in kafka.bootstrap_servers or, if it has none and the network is "
            "trusted, set PLAINTEXT or SASL_PLAINTEXT"
        )
    except TimeoutError:
        return None


def _speaks_tls(connection: socket.socket, host: str) -> bool:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # no data are sent, so trust does not matter here
    try:
        context.wrap_socket(connection, server_hostname=host).close()
    except OSError:
        return False
    return True


def _refused_certificate(
    settings: KafkaSettings, encrypted: ssl.SSLSocket, server: str
) -> str | None:
    encrypted.settimeout(ALERT_WAIT_S)
    try:
        encrypted.recv(1)
    except TimeoutError:
        return None
    except ssl.SSLError as error:
        return _certificate_refused(settings, server, error.reason)
    except OSError:
        pass
    return None


def _certificate_refused(settings: KafkaSettings, server: str, reason: str) -> str:
    shown = settings.ssl_certificate_location or "none"
    return (
        f"kafka.ssl_certificate_location = {shown}: Kafka at {server} refuses the client's "
        f"certificate ({reason}); set one that it knows, with kafka.ssl_key_location"
    )


def _refused_login(settings: KafkaSettings, server: str) -> str | None:
    """Why the login fails, which librdkafka tells a callback only; None if no reason is found."""
    refused: list[str] = []

    def listen(error: KafkaError) -> None:
        if error.code() == KafkaError._AUTHENTICATION:
            # Keep the reason; drop the address before it and the timing after it.
            refused.append(re.sub(r"^\S+://\S+: | \(after .*\)$", "", error.str()))

    config: dict[str, Any] = {**settings.client(), "error_cb": listen}
    client = AdminClient(config, logger=_SILENT)
    deadline = time.monotonic() + LOGIN_TIMEOUT_S
    while not refused and time.monotonic() < deadline:
        try:
            client.list_topics(timeout=0.5)
        except KafkaException:
            client.poll(0)
        else:
            return None
    if refused:
        setting = "sasl_mechanism" if "mechanism handshake" in refused[0] else "sasl_password"
        return (
            f"{_who(settings)}: Kafka at {server} refuses to let this user in: {refused[0]}; "
            f"check kafka.{setting}"
        )
    if settings.security_protocol.startswith("SASL"):
        return None
    return (
        f"kafka.security_protocol = {settings.security_protocol}: Kafka at {server} accepts the "
        "connection and answers nothing; if it expects a user, set SASL_SSL or SASL_PLAINTEXT, "
        "with kafka.sasl_username and kafka.sasl_password; if not, it hangs: start it again "
        "(mmbroker stack up, for a local stack)"
    )


def _who(settings: KafkaSettings) -> str:
    if settings.security_protocol.startswith("SASL"):
        return f"kafka.sasl_username = {settings.sasl_username}"
    if settings.ssl_certificate_location is not None:
        return f"kafka.ssl_certificate_location = {settings.ssl_certificate_location}"
    return "a client without kafka.sasl_username"


def _servers(settings: KafkaSettings) -> Iterator[tuple[str, int]]:
    for server in settings.bootstrap_servers.split(","):
        host, _, port = server.strip().rpartition(":")
        if host and port.isdigit():
            yield host.strip("[]"), int(port)
