"""Makes and sends the observations that flow while components are killed.

Among them are repeats, corrections, withdrawals and malformed events. There are also large spectra
for a backlog.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from mmbroker.models.simulation.observations import galaxy_number, simulate
from mmbroker.schemas.codec import Codec
from mmbroker.schemas.events import Observation, Spectrum
from mmbroker.streams.proving.embedded import Settled, ledger_now
from mmbroker.streams.publishing.publisher import Publisher
from mmbroker.streams.settings import Settings
from mmbroker.streams.topics import observation_key

REPEATED, CORRECTED, WITHDRAWN, MALFORMED = 0.1, 0.03, 0.02, 0.01
"""Shares of the observations that are sent again, corrected or withdrawn, and the number of
malformed messages as a share of the observations."""

GALAXIES_PER_SQUARE_ARCMIN = 0.05
"""So few that the galaxies fill a dozen sky cells, of which every partition has some."""

KEYED_OTHERWISE = 0.2
"""Share of the messages with another key than their sky cell, as if a publisher had chosen it.
Observations of one galaxy then come from different partitions."""

EVERYTHING = "everything"
EVERYTHING_CONFIG = f"""
[[alert_streams]]
name = "{EVERYTHING}"
update = {{redshift = 0.0, probability = 0.0, hyperscore = 0.0}}
"""
"""Settings with one alert stream, which sends an alert for every score."""

POLL_S = 0.1
RECOVERY_TIMEOUT_S = 120.0
SETTLE_TIMEOUT_S = 600.0


class Traffic:
    """Observations with repeats, corrections, withdrawals and malformed bytes, in a random order.

    A correction may come before the observation that it corrects.

    Args:
        count: number of distinct observations, without corrections and withdrawals.
        seed: seed of the observations and of their order.
    """

    def __init__(self, count: int, seed: int) -> None:
        chance = random.Random(seed)
        codec = Codec()
        galaxies = -(-count // 3)
        simulated = simulate(galaxies, seed, galaxies_per_square_arcmin=GALAXIES_PER_SQUARE_ARCMIN)
        first = list(itertools.islice(simulated, count))
        replacing = [
            _replacing(each, withdrawn)
            for share, withdrawn in ((CORRECTED, False), (WITHDRAWN, True))
            for each in chance.sample(first, round(share * count))
        ]
        self.distinct = {each.observation_id: each for each in (*first, *replacing)}
        self.malformed = [
            codec.encode(each)[: -1 - number]
            for number, each in enumerate(chance.sample(first, round(MALFORMED * count)))
        ]
        repeats = chance.sample(first, round(REPEATED * count))
        messages: list[Observation | bytes] = [*first, *replacing, *repeats, *self.malformed]
        chance.shuffle(messages)
        self._messages: Sequence[Observation | bytes] = messages
        self._chance = chance
        self.sent = 0
        """Number of messages that were sent so far."""

    @property
    def merged(self) -> set[str]:
        """Ids of the observations that are in a galaxy in the end."""
        replaced = {each.replaces for each in self.distinct.values()}
        withdrawals = {name for name, each in self.distinct.items() if each.is_withdrawal}
        return self.distinct.keys() - replaced - withdrawals

    def send(self, settings: Settings, rate: float, hurry: threading.Event) -> None:
        """Send everything at a rate, and then repeats until told to end.

        Args:
            settings: the settings.
            rate: messages/s.
            hurry: when this is set, the rest is sent as fast as possible, and no more repeats.
        """
        known = list(self.distinct.values())
        left = iter(self._messages)
        with Publisher(settings) as publisher:
            while True:
                message = next(left, None)
                if message is None:
                    if hurry.is_set():
                        return
                    message = self._chance.choice(known)
                if isinstance(message, bytes):
                    publisher.send_encoded(message)
                else:
                    publisher.send_unchecked(message, self._key(message))
                self.sent += 1
                hurry.wait(1 / rate)

    def _key(self, observation: Observation) -> bytes:
        if self._chance.random() < KEYED_OTHERWISE:
            return observation.observation_id.encode()
        return observation_key(observation)

    def galaxy(self, name: str) -> int:
        """The number of the true galaxy of an observation."""
        return galaxy_number(self.distinct[name].replaces or name)


def _replacing(observation: Observation, withdrawn: bool) -> Observation:
    """A correction or the withdrawal of an observation."""
    kind = "withdrawal" if withdrawn else "correction"
    nothing = dict.fromkeys(Observation.PAYLOADS) if withdrawn else {}
    return dataclasses.replace(
        observation,
        observation_id=f"{observation.observation_id}-{kind}",
        time_mjd=observation.time_mjd + 1.0,
        replaces=observation.observation_id,
        **nothing,  # type: ignore[arg-type]
    )


@contextlib.contextmanager
def flowing(traffic: Traffic, settings: Settings, rate: float) -> Iterator[None]:
    """Send traffic at a rate during the block; after it, send the rest and wait until all is done.

    The block begins when the first events have come through all stages.

    Args:
        traffic: the traffic.
        settings: the settings.
        rate: messages/s.

    Raises:
        PublishingError: some messages were not delivered.
        TimeoutError: the ledger does not close.
    """
    hurry = threading.Event()
    with ThreadPoolExecutor(max_workers=1) as pool:
        sending = pool.submit(traffic.send, settings, rate, hurry)
        try:
            # A kill before that would measure how stages start, not how they recover.
            until(
                lambda: sending.done() or ledger_now(settings)[-1].accounted > 0,
                RECOVERY_TIMEOUT_S,
                lambda: "nothing comes through the stages",
            )
            yield
        finally:
            hurry.set()
        sending.result()
    settled = Settled(settings, traffic.sent)
    until(settled, SETTLE_TIMEOUT_S, lambda: f"the ledger does not close: {ledger_now(settings)}")


def large_spectra(count: int, channels: int, seed: int) -> Iterator[Observation]:
    """Simulated spectra, each of another galaxy.

    Args:
        count: number of spectra.
        channels: number of channels of each; a channel takes 16 bytes.
        seed: seed of the simulation.
    """
    random_numbers = np.random.default_rng(seed)
    frequency = np.linspace(84e9, 115e9, channels)
    error = random_numbers.uniform(1e-3, 2e-3, channels).astype(np.float32)
    spectra = [
        Spectrum(frequency, "BARYCENTRIC", random_numbers.normal(0, error).astype("f4"), error)
        for _ in range(20)
    ]
    for number in range(count):
        right_ascension, declination = random_numbers.uniform(0, 20, 2).tolist()
        yield Observation(
            f"large-{seed}-{number}", "simulated", right_ascension, declination, 0.3, 59_000.0,
            simulated=True, spectrum=spectra[number % len(spectra)],
        )  # fmt: skip


def until(
    condition: Callable[[], bool], timeout_s: float, problem: Callable[[], str] = lambda: ""
) -> None:
    """Wait until a condition is true.

    Args:
        condition: is checked every ``POLL_S``.
        timeout_s: longest time to wait.
        problem: gives the text of the error.

    Raises:
        TimeoutError: the condition does not become true in time.
    """
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(problem())
        time.sleep(POLL_S)
