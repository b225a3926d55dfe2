"""Each user tries each operation of Kafka; what works is what the operator's page says."""

from __future__ import annotations

import base64
import hashlib
import hmac
import logging
import re
import secrets
import socket
import ssl
import struct
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import (
    ConsumerGroupTopicPartitions,
    KafkaError,
    KafkaException,
    Producer,
    TopicPartition,
)
from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

from mmbroker.deploy.local import LocalStack

pytestmark = pytest.mark.slow  # servers of its own

PAGE = Path(__file__).parents[2] / "deploy" / "operating.md"
USERS = ("nobody", "reader", "mmbroker", "admin")
ALERTS, OTHER = "mm.alerts.tried.v1", "mm.tried.v1"
GROUP_OF_A_STAGE, GROUP_OF_A_READER = "score-galaxies-tried", "reader-tried"

SILENT = logging.getLogger(__name__)
SILENT.disabled = True

NOT_ALLOWED = {
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.GROUP_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
}
NOT_LET_IN = {
    KafkaError._AUTHENTICATION,
    KafkaError._ALL_BROKERS_DOWN,
    KafkaError._MSG_TIMED_OUT,
    KafkaError._TIMED_OUT,
    KafkaError._TRANSPORT,
}
SWITCHED_OFF = 61  # DELEGATION_TOKEN_AUTH_DISABLED


class RefusedError(Exception):
    """Kafka does not do it, or shows nothing, for want of a permission."""


@dataclass
class User:
    """Who tries; ``nobody`` has the name of a user and a wrong password."""

    name: str
    stack: LocalStack

    @property
    def timeout(self) -> float:
        return 1.5 if self.name == "nobody" else 30.0

    @cached_property
    def login(self) -> tuple[str, str]:
        assert self.stack.access is not None
        if self.name == "nobody":
            return "reader", "wrong"
        return self.name, self.stack.access.passwords[self.name]

    @cached_property
    def config(self) -> dict[str, Any]:
        assert self.stack.access is not None
        return {
            "bootstrap.servers": self.stack.bootstrap_servers,
            "security.protocol": "SASL_SSL",
            "sasl.mechanism": "SCRAM-SHA-512",
            "sasl.username": self.login[0],
            "sasl.password": self.login[1],
            "ssl.ca.location": str(self.stack.access.authority),
        }

    @cached_property
    def admin(self) -> AdminClient:
        return AdminClient(self.config, logger=SILENT)

    def ask(self, operation: str, *arguments: Any, **options: Any) -> Any:
        """The answer to an operation of the administration; raises what Kafka says against it."""
        asked = getattr(self.admin, operation)(*arguments, request_timeout=self.timeout, **options)
        futures = asked.values() if isinstance(asked, dict) else [asked]
        return [each.result(timeout=self.timeout + 10) for each in futures]

    def send(self, topic: str, **options: Any) -> None:
        told: list[KafkaError | None] = []
        limit = {"message.timeout.ms": int(1000 * self.timeout), **options}
        producer = Producer({**self.config, **limit}, logger=SILENT)
        producer.produce(topic, b"x", on_delivery=lambda error, _: told.append(error))
        producer.flush(self.timeout + 10)
        if told[0] is not None:
            raise KafkaException(told[0])

    def begin_transaction(self) -> None:
        options = {"transactional.id": f"tried-{self.name}", "transaction.timeout.ms": 10_000}
        Producer({**self.config, **options}, logger=SILENT).init_transactions(self.timeout)

    @contextmanager
    def connection(self) -> Iterator[Callable[..., bytes]]:
        """A connection for requests that librdkafka does not know: key, version, body."""
        assert self.stack.access is not None
        context = ssl.create_default_context(cafile=self.stack.access.authority)
        address = ("127.0.0.1", self.stack.kafka.port)
        with (
            socket.create_connection(address, timeout=self.timeout) as plain,
            context.wrap_socket(plain, server_hostname="localhost") as encrypted,
        ):
            ask = partial(_exchange, encrypted.makefile("rwb"))
            ask(17, 1, _text("SCRAM-SHA-512"))
            _log_in(ask, *self.login)
            yield ask


def _text(text: str) -> bytes:
    return struct.pack(">h", len(text)) + text.encode()


def _exchange(stream: Any, key: int, version: int, body: bytes, flexible: bool = False) -> bytes:
    """The body of the answer to a request; ``flexible`` headers end in tags."""
    header = struct.pack(">hhi", key, version, 1) + _text("tried") + b"\0" * flexible
    stream.write(struct.pack(">i", len(header + body)) + header + body)
    stream.flush()
    size = stream.read(4)
    if not size:
        raise RefusedError("Kafka closed the connection")
    answer: bytes = stream.read(struct.unpack(">i", size)[0])
    return answer[5 if flexible else 4 :]


def _log_in(ask: Callable[..., bytes], name: str, password: str) -> None:
    """SCRAM-SHA-512, RFC 5802."""

    def say(text: str) -> str:
        answer = ask(36, 0, struct.pack(">i", len(text)) + text.encode())
        if answer[:2] != b"\0\0":
            raise RefusedError("the password")
        (length,) = struct.unpack_from(">h", answer, 2)
        start = 4 + max(length, 0)
        return answer[start + 4 :].decode()

    first = f"n={name},r={secrets.token_hex(8)}"
    challenge = say(f"n,,{first}")
    part = dict(each.split("=", 1) for each in challenge.split(","))
    salted = hashlib.pbkdf2_hmac(
        "sha512", password.encode(), base64.b64decode(part["s"]), int(part["i"])
    )
    key = hmac.digest(salted, b"Client Key", "sha512")
    last = f"c=biws,r={part['r']}"
    signature = hmac.digest(
        hashlib.sha512(key).digest(), f"{first},{challenge},{last}".encode(), "sha512"
    )
    proof = bytes(one ^ other for one, other in zip(key, signature, strict=True))
    say(f"{last},p={base64.b64encode(proof).decode()}")


def _require(code: int) -> None:
    if code in NOT_ALLOWED or code == SWITCHED_OFF:
        raise RefusedError(f"error {code}")
    assert code == 0, code


# Operations ---------------------------------------------------------------------------------------


def offsets(group: str) -> list[ConsumerGroupTopicPartitions]:
    return [ConsumerGroupTopicPartitions(group, [TopicPartition(ALERTS, 0, 0)])]


def see_topic(user: User) -> None:
    if OTHER not in user.admin.list_topics(timeout=user.timeout).topics:
        raise RefusedError("not listed")


def see_group(user: User) -> None:
    (found,) = user.ask("list_consumer_groups")
    if GROUP_OF_A_STAGE not in {each.group_id for each in found.valid}:
        raise RefusedError("not listed")


def describe_group(user: User) -> None:
    user.ask("describe_consumer_groups", [GROUP_OF_A_STAGE])


def configure(user: User, kind: ResourceType, name: str, key: str, value: str) -> None:
    operation = AlterConfigOpType.SET
    entry = ConfigEntry(key, value, incremental_operation=operation)
    resource = ConfigResource(kind, name, incremental_configs=[entry])
    user.ask("incremental_alter_configs", [resource], validate_only=True)


def describe_configuration(user: User, kind: ResourceType, name: str) -> None:
    user.ask("describe_configs", [ConfigResource(kind, name)])


def delete_topic(user: User) -> None:
    user.ask("delete_topics", [f"mm.alerts.of-{user.name}.v1"])


def delete_group(user: User) -> None:
    user.ask("delete_consumer_groups", [f"reader-of-{user.name}"])


def grant(user: User) -> None:
    rule = AclBinding(
        ResourceType.TOPIC, "mm.granted", ResourcePatternType.LITERAL, "User:none", "*",
        AclOperation.READ, AclPermissionType.ALLOW,
    )  # fmt: skip
    user.ask("create_acls", [rule])


def take_back(user: User) -> None:
    rules = AclBindingFilter(
        ResourceType.ANY, None, ResourcePatternType.ANY, "User:none", None,
        AclOperation.ANY, AclPermissionType.ANY,
    )  # fmt: skip
    user.ask("delete_acls", [rules])


def set_password(user: User) -> None:
    info = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096)
    user.ask(
        "alter_user_scram_credentials", [UserScramCredentialUpsertion("tried", info, b"tried")]
    )


# librdkafka does not know these, tells no error of them, or, refused, ends the process.


def read(user: User, topic: str) -> None:
    limits = struct.pack(">iiiib", -1, 1000, 1, 10**6, 0)
    place = struct.pack(">i", 1) + _text(topic) + struct.pack(">iiqi", 1, 0, 0, 10**6)
    with user.connection() as ask:
        answer = ask(1, 4, limits + place)
    _require(struct.unpack_from(">h", answer, 4 + 4 + 2 + len(topic) + 4 + 4)[0])
    assert answer.endswith(b"x\0")  # the message is there


def see_permissions(user: User) -> None:
    every = struct.pack(">bhbhhbb", 1, -1, 1, -1, -1, 1, 1)
    with user.connection() as ask:
        answer = ask(29, 1, every)
    _require(struct.unpack_from(">h", answer, 4)[0])


def see_logins(user: User) -> None:
    with user.connection() as ask:
        answer = ask(50, 0, b"\2\7reader\0\0", flexible=True)
    _require(struct.unpack_from(">h", answer, 4)[0])


def elect_leaders(user: User) -> None:
    partitions = struct.pack(">bi", 0, 1) + _text(ALERTS) + struct.pack(">ii", 1, 0)
    with user.connection() as ask:
        answer = ask(43, 1, partitions + struct.pack(">i", 1000))
    _require(struct.unpack_from(">h", answer, 4)[0])


def set_quota(user: User) -> None:
    entity = struct.pack(">i", 1) + _text("user") + _text("tried")
    change = struct.pack(">i", 1) + _text("producer_byte_rate") + struct.pack(">d?", 1e9, False)
    with user.connection() as ask:
        answer = ask(49, 0, struct.pack(">i", 1) + entity + change + b"\1")
    _require(struct.unpack_from(">h", answer, 8)[0])


def reassign_partitions(user: User) -> None:
    with user.connection() as ask:
        answer = ask(45, 0, struct.pack(">i", 1000) + b"\1\0", flexible=True)
    _require(struct.unpack_from(">h", answer, 4)[0])


def see_log_directories(user: User) -> None:
    with user.connection() as ask:
        answer = ask(35, 1, struct.pack(">i", -1))
    if struct.unpack_from(">i", answer, 4) == (0,):
        raise RefusedError("none is shown")


def make_token(user: User) -> None:
    with user.connection() as ask:
        answer = ask(38, 1, struct.pack(">iq", 0, -1))
    _require(struct.unpack_from(">h", answer)[0])


OPERATIONS: dict[str, Callable[[User], object]] = {
    "log in, ask for the cluster's brokers": lambda user: user.ask("describe_cluster"),
    "read alerts": lambda user: read(user, ALERTS),
    "read other topics": lambda user: read(user, OTHER),
    "see that there are other topics": see_topic,
    "write alerts": lambda user: user.send(ALERTS),
    "write other topics": lambda user: user.send(OTHER),
    "write as an idempotent producer": lambda user: user.send(ALERTS, **{"enable.idempotence": 1}),
    "write in transactions": User.begin_transaction,
    "see the configuration of alert topics": lambda user: describe_configuration(
        user, ResourceType.TOPIC, ALERTS
    ),
    "create topics": lambda user: user.ask(
        "create_topics", [NewTopic("mm.alerts.new.v1", 1, 1)], validate_only=True
    ),
    "add partitions": lambda user: user.ask(
        "create_partitions", [NewPartitions(ALERTS, 2)], validate_only=True
    ),
    "change the configuration of topics": lambda user: configure(
        user, ResourceType.TOPIC, ALERTS, "retention.ms", "1"
    ),
    "delete topics": delete_topic,
    "delete records": lambda user: user.ask("delete_records", [TopicPartition(ALERTS, 0, 0)]),
    "commit and reset offsets of readers' groups": lambda user: user.ask(
        "alter_consumer_group_offsets", offsets(GROUP_OF_A_READER)
    ),
    "see offsets of readers' groups": lambda user: user.ask(
        "list_consumer_group_offsets", [ConsumerGroupTopicPartitions(GROUP_OF_A_READER)]
    ),
    "delete readers' groups": delete_group,
    "commit and reset offsets of other groups": lambda user: user.ask(
        "alter_consumer_group_offsets", offsets(GROUP_OF_A_STAGE)
    ),
    "see offsets of other groups": lambda user: user.ask(
        "list_consumer_group_offsets", [ConsumerGroupTopicPartitions(GROUP_OF_A_STAGE)]
    ),
    "see that there are other groups": see_group,
    "describe other groups": describe_group,
    "see permissions": see_permissions,
    "grant permissions": grant,
    "take permissions back": take_back,
    "see how users log in": see_logins,
    "make users, set passwords": set_password,
    "make delegation tokens (switched off)": make_token,
    "set quotas": set_quota,
    "see the configuration of the broker": lambda user: describe_configuration(
        user, ResourceType.BROKER, "1"
    ),
    "change the configuration of the broker": lambda user: configure(
        user, ResourceType.BROKER, "1", "log.cleaner.threads", "1"
    ),
    "elect leaders": elect_leaders,
    "reassign partitions": reassign_partitions,
    "see log directories": see_log_directories,
}


def works(user: User, operation: Callable[[User], object]) -> bool:
    """Whether an operation works; False if Kafka refuses it for want of a permission."""
    try:
        operation(user)
    except RefusedError:
        return False
    except KafkaException as error:
        if error.args[0].code() == KafkaError.GROUP_ID_NOT_FOUND:
            return True  # a request that was sent twice, because the answer was late
        refused = NOT_ALLOWED | (NOT_LET_IN if user.name == "nobody" else set())
        if error.args[0].code() not in refused:
            raise
        return False
    return True


def said() -> dict[str, dict[str, bool]]:
    """The table of the page: what each user may do, by operation and user."""
    _, _, below = PAGE.read_text().partition("| Operation of Kafka |")
    rows = re.findall(r"^\|(.*)\|$", below.partition("\n\n")[0], re.MULTILINE)
    header = re.findall(r"`?(\w+)`? \|", below.partition("\n")[0])
    assert tuple(header) == USERS
    table = {}
    for row in rows:
        name, *cells = (cell.strip() for cell in row.split("|"))
        if not name.startswith("---"):
            assert set(cells) <= {"yes", "no"}, row
            table[name] = {user: cell == "yes" for user, cell in zip(USERS, cells, strict=True)}
    return table


def test_each_user_may_do_what_the_operators_page_says_and_nothing_else(
    secured_stack: LocalStack,
) -> None:
    users = [User(name, secured_stack) for name in USERS]
    made = users[-1]
    names = [ALERTS, OTHER, *(f"mm.alerts.of-{name}.v1" for name in USERS)]
    made.ask("create_topics", [NewTopic(name, 1, 1) for name in names])
    made.send(ALERTS)
    made.send(OTHER)
    for group in (GROUP_OF_A_STAGE, GROUP_OF_A_READER, *(f"reader-of-{name}" for name in USERS)):
        made.ask("alter_consumer_group_offsets", offsets(group))
    pairs = [(name, user) for name in OPERATIONS for user in users]
    with ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(lambda pair: works(pair[1], OPERATIONS[pair[0]]), pairs))
    found: dict[str, dict[str, bool]] = {}
    for (name, user), worked in zip(pairs, outcomes, strict=True):
        found.setdefault(name, {})[user.name] = worked
    assert found == said()
