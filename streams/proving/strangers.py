"""Measures what it costs when strangers send what cannot be used: ``make bench STRANGERS=1``.

The first stage takes in good observations alone, and then as many among bad messages. What is
stated is the share of their rate that is left, by processor time. Each kind of bad message has a
process of its own: ``python -m mmbroker.streams.proving.strangers KIND``.
"""

from __future__ import annotations

import argparse
import dataclasses
import io
import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random

import fastavro

from mmbroker.models.simulation.observations import simulate
from mmbroker.schemas.codec import Codec, manifest
from mmbroker.schemas.events import Observation, Quarantine
from mmbroker.streams.kafka.client import create_topics
from mmbroker.streams.kafka.producer import DurableProducer
from mmbroker.streams.local_stack import load_settings
from mmbroker.streams.names import BUILD_FINGERPRINTS
from mmbroker.streams.running.process import collect_garbage_rarely
from mmbroker.streams.running.reader import BatchLimit, process_durably
from mmbroker.streams.running.stages import STAGES
from mmbroker.streams.settings import Settings
from mmbroker.streams.stages.base import Stage
from mmbroker.streams.stages.messages import Received, now_ms

BAD_FOR_EACH_GOOD = 4
GOOD = 1_000
"""Number of good observations, alone and among bad ones."""

NOISE_BYTES = 3_000
LARGE_BYTES = 8 * 2**20 - 100_000
"""About the size of the largest event."""

FEW = 30
"""Number of large bad messages of each kind."""

LEAST_SHARE = 0.5
"""Good observations keep at least this share of their rate."""

Make = Callable[[Random, Sequence[Observation]], bytes]
"""Makes a bad message, from random numbers and good observations."""


@dataclass(frozen=True)
class Cost:
    """What the bad messages of one kind cost.

    Attributes:
        share: rate of good observations among them, over that of the same number alone.
        bad_us: processor time of a bad message, in us.
        good_us: processor time of a good observation alone, in us.
    """

    share: float
    bad_us: float
    good_us: float

    @property
    def wrong(self) -> str:
        """What does not hold; empty if all does."""
        if self.share >= LEAST_SHARE:
            return ""
        return f"good ones keep {self.share:.2f} of their rate, not {LEAST_SHARE:g}"


def _noise(random: Random, good: Sequence[Observation]) -> bytes:
    return random.randbytes(NOISE_BYTES)


def _cut_off(random: Random, good: Sequence[Observation]) -> bytes:
    data = Codec().encode(random.choice(good))
    return data[: len(data) // 2]


def _impossible(random: Random, good: Sequence[Observation]) -> bytes:
    return Codec().encode(dataclasses.replace(random.choice(good), time_mjd=1.0))


def _of_another_type(random: Random, good: Sequence[Observation]) -> bytes:
    return Codec().encode(Quarantine("a", "b", "c", "d", 0, 0, random.randbytes(NOISE_BYTES)))


def _large_noise(random: Random, good: Sequence[Observation]) -> bytes:
    return random.randbytes(LARGE_BYTES)


def _large_of_another_type(random: Random, good: Sequence[Observation]) -> bytes:
    return Codec().encode(Quarantine("a", "b", "c", "d", 0, 0, random.randbytes(LARGE_BYTES)))


def _large_header(random: Random, good: Sequence[Observation]) -> bytes:
    """A container whose schema is nearly all documentation."""
    schema = json.loads(next(each.text for each in manifest() if each.name == "Observation"))
    schema["doc"] = f"{random.random()} \U0001f30c{'x' * LARGE_BYTES}"
    metadata = {"avro.schema": json.dumps(schema, ensure_ascii=False).encode()}
    out = io.BytesIO(b"Obj\x01")
    out.seek(0, os.SEEK_END)
    fastavro.schemaless_writer(out, {"type": "map", "values": "bytes"}, metadata)
    return out.getvalue() + random.randbytes(64)


SMALL: dict[str, Make] = {
    "noise": _noise,
    "cut off": _cut_off,
    "one impossible value": _impossible,
    "of another type": _of_another_type,
}
"""Kinds of bad messages that cost time, by name."""

LARGE: dict[str, Make] = {
    "noise of 8 MiB": _large_noise,
    "8 MiB of another type": _large_of_another_type,
    "a container with a header of 8 MiB": _large_header,
}
"""Kinds of bad messages that cost memory, by name."""


def measure(settings: Settings, make: Make) -> Cost:
    """Take in good observations alone, and among bad messages.

    Args:
        settings: of a broker whose topics and store are empty.
        make: makes a bad message.
    """
    create_topics(settings.kafka, settings.topics.all())
    stage = STAGES[BUILD_FINGERPRINTS](settings)
    stage.log_start = lambda topic, partition: 0
    send = _Sending(stage, settings)
    random = Random(1)
    good = [each for each, _ in zip(simulate(2 * GOOD, seed=5), range(GOOD), strict=False)]
    bad = [make(random, good) for _ in range(BAD_FOR_EACH_GOOD * GOOD)]
    collect_garbage_rarely()
    for name in ("first", "second"):  # what is loaded late, and the galaxies, which the others find
        send(_named(good, name))
    alone = send(_named(good, "alone"))
    among = send(_among(random, _named(good, "among"), bad))
    return Cost(alone / among, 1e6 * send(bad) / len(bad), 1e6 * alone / GOOD)


def large_messages() -> list[bytes]:
    """Bad messages of all kinds that cost memory, ``FEW`` of each."""
    random = Random(2)
    return [make(random, []) for make in LARGE.values() for _ in range(FEW)]


def _named(good: Sequence[Observation], suffix: str) -> list[bytes]:
    """Good observations under other ids."""
    codec = Codec()
    return [
        codec.encode(dataclasses.replace(each, observation_id=f"{each.observation_id} {suffix}"))
        for each in good
    ]


def _among(random: Random, good: Sequence[bytes], bad: Sequence[bytes]) -> list[bytes]:
    """Good messages in their order, and bad ones anywhere between."""
    places = sorted(random.sample(range(len(good) + len(bad)), len(good)))
    mixed = list(bad)
    for place, each in zip(places, good, strict=True):
        mixed.insert(place, each)
    return mixed


class _Sending:
    """Gives messages to a stage, in batches as the reader makes them."""

    def __init__(self, stage: Stage, settings: Settings) -> None:
        self._stage = stage
        self._topic = settings.topics.observations
        self._limit = BatchLimit(settings.stage)
        self._producer = DurableProducer(settings.kafka)
        self._offset = 0

    def __call__(self, values: Sequence[bytes]) -> float:
        """Processor time of this process, in s."""
        before = time.process_time()
        for batch in self._batches(values):
            self._limit.refused(process_durably(self._stage, self._producer, batch))
        return time.process_time() - before

    def _batches(self, values: Sequence[bytes]) -> Iterator[list[Received]]:
        batch: list[Received] = []
        size_bytes = 0
        for value in values:
            batch.append(Received(self._topic, 0, self._offset, now_ms(), value))
            self._offset += 1
            size_bytes += len(value)
            if self._limit.is_full(len(batch), size_bytes):
                yield batch
                batch, size_bytes = [], 0
        if batch:
            yield batch


def measured(name: str, environment: Mapping[str, str]) -> Cost:
    """What the bad messages of one kind cost, measured in a process of its own.

    Args:
        name: of the kind, one of ``SMALL``.
        environment: with the settings of a broker whose topics and store are empty.

    Raises:
        RuntimeError: the process failed; the message has its last words.
    """
    command = [sys.executable, "-m", __name__, name]
    ran = subprocess.run(command, env=dict(environment), capture_output=True, check=False)
    if ran.returncode:
        raise RuntimeError(f"{name}: {ran.stderr[-1000:].decode()}")
    return Cost(**json.loads(ran.stdout))


def main() -> None:
    """Measure one kind, with the settings of the environment, and print the cost as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=SMALL)
    arguments = parser.parse_args()
    logging.disable(logging.ERROR)
    sys.stdout.write(
        json.dumps(dataclasses.asdict(measure(load_settings(), SMALL[arguments.kind])))
    )


if __name__ == "__main__":
    main()
