"""Prints the alerts of a stream.

    pip install confluent-kafka fastavro
    python subscribe_plain.py BOOTSTRAP TOPIC [--until-end]
    SASL_PASSWORD=... python subscribe_plain.py BOOTSTRAP TOPIC --user NAME --ca authority.pem

Nothing of mmbroker is needed: copy this file and make it yours.
"""

import argparse
import getpass
import io
import json
import logging
import os
import sys
import uuid
from collections.abc import Iterable, Iterator
from typing import Any

import fastavro
from confluent_kafka import Consumer, KafkaError, KafkaException

PATIENCE_S = 10.0
AVRO = b"Obj\x01"
"""The first bytes of an Avro file."""


def decode(headers: dict[str, bytes], value: bytes) -> Any:
    """Decode an alert, which is Avro with its schema in front, or JSON.

    The header ``_format`` says which; without it, the first bytes do.

    Raises:
        ValueError, EOFError, StopIteration: the bytes are neither.
    """
    kind = headers.get("_format", b"avro" if value.startswith(AVRO) else b"json")
    if kind == b"json":
        return json.loads(value)
    return next(fastavro.reader(io.BytesIO(value)))


def login(user: str | None, ca: str | None) -> dict[str, str]:
    """Return the settings that log a user in, with encryption; none for a Kafka without users.

    The password is that of the environment, or asked for: others can read a command line.
    """
    if user is None:
        return {}
    password = os.environ.get("SASL_PASSWORD") or getpass.getpass(f"password of {user}: ")
    secured = {
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "SCRAM-SHA-512",
        "sasl.username": user,
        "sasl.password": password,
    }
    return secured if ca is None else secured | {"ssl.ca.location": ca}


def alerts(bootstrap: str, topic: str, until_end: bool, secured: dict[str, str]) -> Iterator[Any]:
    """Read the alerts of a topic from its beginning.

    Args:
        bootstrap: host:port of a Kafka broker.
        topic: the topic.
        until_end: whether to stop at its end, and not wait for more.
        secured: settings of ``login``.

    Raises:
        KafkaException: no broker answers, the topic does not exist, or reading it is not allowed.
    """
    quiet = logging.getLogger("librdkafka")
    quiet.disabled = True  # it repeats every error again and again
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            # A fixed name would continue where it ended; users may have groups of their name alone.
            "group.id": f"{secured.get('sasl.username', 'plain')}-{uuid.uuid4()}",
            "auto.offset.reset": "earliest",
            "enable.partition.eof": until_end,
            "logger": quiet,
        }
        | secured
    )
    ended: set[int] = set()
    try:
        missing = consumer.list_topics(topic, timeout=PATIENCE_S).topics[topic].error
        if missing is not None:
            raise KafkaException(missing)
        consumer.subscribe([topic])
        while not ended or len(ended) < len(consumer.assignment()):
            message: Any = consumer.poll(1.0)
            if message is None:
                continue
            error = message.error()
            if error is None:
                try:
                    alert = decode(dict(message.headers() or []), message.value() or b"")
                except (ValueError, EOFError, StopIteration) as fault:
                    place = f"partition {message.partition()}, offset {message.offset()}"
                    print(f"{topic}, {place} is no alert: {fault}", file=sys.stderr)
                else:
                    yield alert
            elif error.code() == KafkaError._PARTITION_EOF:
                ended.add(message.partition())
            else:
                raise KafkaException(error)
    finally:
        consumer.close()


def main() -> None:
    """Read the command line and print the alerts."""
    parser = argparse.ArgumentParser(description="Print the alerts of a stream.")
    parser.add_argument("bootstrap", help="HOST:PORT of a Kafka broker")
    parser.add_argument("topic", help="the stream's topic, such as mm.alerts.confident.v1")
    parser.add_argument("--until-end", action="store_true", help="stop at the end of the topic")
    parser.add_argument("--user", help="log in (SCRAM over TLS); the password is SASL_PASSWORD")
    parser.add_argument("--ca", help="file of the authority that signed the broker's certificate")
    arguments = parser.parse_args()
    secured = login(arguments.user, arguments.ca)
    try:
        show(alerts(arguments.bootstrap, arguments.topic, arguments.until_end, secured))
    except KafkaException as error:
        sys.exit(f"{arguments.bootstrap}, topic {arguments.topic}: {error.args[0].str()}")


def show(received: Iterable[Any]) -> None:
    """Print one line for each alert that is not older than the last one of its galaxy."""
    newest: dict[str, int] = {}
    for alert in received:
        galaxy = alert["galaxy"]
        if galaxy["version"] < newest.get(galaxy["galaxy_id"], 0):
            continue  # sent again after a failure; a newer alert was printed already
        newest[galaxy["galaxy_id"]] = galaxy["version"]
        print(
            f"{alert['alert_type']:10} {galaxy['galaxy_id']}",
            f"{galaxy['right_ascension_deg']:9.5f} {galaxy['declination_deg']:+9.5f}",
            redshift_of(galaxy),
            "SIMULATED" if galaxy["simulated"] else "",
            flush=True,
        )


def redshift_of(galaxy: dict[str, Any]) -> str:
    """The redshift and its probability; a galaxy that left a stream may have none any more."""
    redshift = galaxy["redshift"]
    if redshift is None:
        return str(galaxy["redshift_reason"])
    interval = redshift["interval_68"]
    return (
        f"z = {redshift['best']:.4f}, 68 % in [{interval['lower']:.4f}, {interval['upper']:.4f}] "
        f"P = {galaxy['probability']:.3f}"
    )


if __name__ == "__main__":
    main()
