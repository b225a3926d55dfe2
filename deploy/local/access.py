"""Gives a secured Kafka its users: how they prove who they are, and what they may do.

| User | Proves itself by | May |
|---|---|---|
| ``node`` | certificate | everything: Kafka talking to itself, and this module |
| ``admin`` | password | everything |
| ``mmbroker`` | password or certificate | use every topic and group, nothing else |
| ``reader`` | password | read the alert topics, in groups that begin with its name |
"""

import json
import secrets
import time
from collections.abc import Mapping
from functools import cached_property
from logging import Logger
from pathlib import Path

from mmbroker.deploy.local.certificates import AUTHORITY, ensure_certificates, write_private
from mmbroker.deploy.local.errors import StackError

NODE, ADMIN, BROKER, READER = "node", "admin", "mmbroker", "reader"
MECHANISM = "SCRAM-SHA-512"

ClientConfig = dict[str, str | int | float | bool]

_ITERATIONS = 8192  # of the hash; Kafka takes 4096 to 16384
_TIMEOUT = 20.0  # s


class Access:
    """The certificates and passwords of a secured stack, in a directory of their own.

    Args:
        directory: the directory in which they are kept; only the owner can read the private ones.
        alert_topics: how the names of the topics begin that the user ``reader`` may read.
    """

    def __init__(self, directory: Path, alert_topics: str) -> None:
        self.directory = directory
        self.alert_topics = alert_topics
        self.authority = directory / AUTHORITY
        self.node = directory / f"{NODE}.pem"
        self.client = directory / f"{BROKER}.pem"
        self._passwords_file = directory / "passwords.json"

    def prepare(self) -> None:
        """Make the certificates and passwords that are missing."""
        ensure_certificates(self.directory, (NODE, BROKER))
        if not self._passwords_file.exists():
            passwords = {user: secrets.token_urlsafe(24) for user in (ADMIN, BROKER, READER)}
            write_private(self._passwords_file, json.dumps(passwords, indent=2).encode() + b"\n")

    @cached_property
    def passwords(self) -> Mapping[str, str]:
        """The passwords by user.

        Raises:
            StackError: the passwords cannot be read.
        """
        try:
            passwords: dict[str, str] = json.loads(self._passwords_file.read_text())
        except (OSError, ValueError) as error:
            raise StackError(
                f"the passwords of the stack cannot be read from {self._passwords_file}: {error}"
            ) from error
        return passwords

    def environment(self, user: str) -> dict[str, str]:
        """Return the environment variables with which the broker's processes log in as ``user``.

        Raises:
            StackError: there is no such user, or the passwords cannot be read.
        """
        if user not in self.passwords:
            raise StackError(f"there is no user {user!r}; there are {', '.join(self.passwords)}")
        return {
            "MMBROKER_KAFKA__SECURITY_PROTOCOL": "SASL_SSL",
            "MMBROKER_KAFKA__SASL_MECHANISM": MECHANISM,
            "MMBROKER_KAFKA__SASL_USERNAME": user,
            "MMBROKER_KAFKA__SASL_PASSWORD": self.passwords[user],
            "MMBROKER_KAFKA__SSL_CA_LOCATION": str(self.authority),
        }

    def client_by_certificate(self, server: str, certificate: Path) -> ClientConfig:
        """Return the librdkafka configuration of a client with one of the certificates."""
        return {
            "bootstrap.servers": server,
            "security.protocol": "SSL",
            "ssl.ca.location": str(self.authority),
            "ssl.certificate.location": str(certificate),
            "ssl.key.location": str(certificate),
        }

    def server_properties(self) -> dict[str, object]:
        """Return Kafka's properties for listeners CLIENTS, CERTIFICATES and CONTROLLER."""
        scram = f"listener.name.clients.{MECHANISM.lower()}.sasl.jaas.config"
        return {
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": self.node,
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": self.authority,
            "listener.name.certificates.ssl.client.auth": "required",
            "listener.name.controller.ssl.client.auth": "required",
            "ssl.principal.mapping.rules": "RULE:^CN=([^,]+).*$/$1/",
            "sasl.enabled.mechanisms": MECHANISM,
            scram: "org.apache.kafka.common.security.scram.ScramLoginModule required;",
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "allow.everyone.if.no.acl.found": "false",
            "super.users": f"User:{NODE};User:{ADMIN}",
        }

    def grant(self, clients: str, certificates: str, logger: Logger) -> None:
        """Tell a running Kafka the users and their rights; repeating this is harmless.

        This goes through Kafka's own administration and not through the formatting of its storage.
        So no password is on a command line, and an open stack can become a secured one.

        Args:
            clients: the address of the listener for passwords, host:port.
            certificates: the address of the listener for certificates, host:port.
            logger: receives the messages of the client.

        Raises:
            StackError: Kafka refuses, or does not let the users in within 20 s, or the passwords
                cannot be read.
        """
        from confluent_kafka import KafkaException
        from confluent_kafka.admin import (
            AclBinding,
            AclOperation,
            AclPermissionType,
            AdminClient,
            ResourcePatternType,
            ResourceType,
            ScramCredentialInfo,
            ScramMechanism,
            UserScramCredentialAlteration,
            UserScramCredentialUpsertion,
        )

        def allow(
            user: str,
            operation: AclOperation,
            resource: ResourceType,
            name: str,
            pattern: ResourcePatternType,
        ) -> AclBinding:
            principal, host = f"User:{user}", "*"
            permission = AclPermissionType.ALLOW
            return AclBinding(resource, name, pattern, principal, host, operation, permission)

        every, prefixed = ResourcePatternType.LITERAL, ResourcePatternType.PREFIXED
        rules = [
            allow(BROKER, AclOperation.ALL, ResourceType.TOPIC, "*", every),
            allow(BROKER, AclOperation.ALL, ResourceType.GROUP, "*", every),
            allow(READER, AclOperation.READ, ResourceType.TOPIC, self.alert_topics, prefixed),
            allow(READER, AclOperation.READ, ResourceType.GROUP, READER, prefixed),
        ]
        info = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, _ITERATIONS)
        users: list[UserScramCredentialAlteration] = [
            UserScramCredentialUpsertion(user, info, password.encode())
            for user, password in self.passwords.items()
        ]
        try:
            node = self.client_by_certificate(certificates, self.node)
            admin = AdminClient(node, logger=logger)
            for done in admin.create_acls(rules, request_timeout=_TIMEOUT).values():
                done.result()
            # After the rules, so that the rules hold as soon as a user can log in.
            for known in admin.alter_user_scram_credentials(users).values():
                known.result()
            self._wait_until_known(clients, logger)
        except KafkaException as error:
            raise StackError(f"kafka's users cannot be set up: {error.args[0].str()}") from error

    def _wait_until_known(self, clients: str, logger: Logger) -> None:
        """Wait until Kafka lets the users in, which it does some time after it was told of them.

        Raises:
            KafkaException: it does not within 20 s.
        """
        from confluent_kafka import KafkaException
        from confluent_kafka.admin import AdminClient

        deadline = time.monotonic() + _TIMEOUT
        config: ClientConfig = {
            "bootstrap.servers": clients,
            "security.protocol": "SASL_SSL",
            "sasl.mechanism": MECHANISM,
            "sasl.username": BROKER,
            "sasl.password": self.passwords[BROKER],
            "ssl.ca.location": str(self.authority),
        }
        while True:
            try:
                AdminClient(config, logger=logger).list_topics(timeout=2)
            except KafkaException:
                if time.monotonic() > deadline:
                    raise
            else:
                return
