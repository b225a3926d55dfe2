"""What reliability is measured with: traffic of every kind, kills, and what is untrue afterwards.

Used by the tests and, for longer, by the benchmark. All observations are simulated.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import random
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any
from urllib.request import urlopen

import numpy as np
import psutil
from confluent_kafka.admin import AdminClient

from deploy.local import LocalStack
from deploy.local.component import Component
from models.simulator import galaxy_number, simulate
from processors import fingerprint as fingerprints
from processors.contribution import observation_hash
from processors.sky import separation_arcsec
from schemas.codec import Codec
from schemas.events import Alert, Fingerprint, Observation, Quarantine, Spectrum
from schemas.records import to_rows

from .embedded import Settled, ledger_now
from .errors import InfrastructureError
from .health import targets
from .kafka import DurableProducer, admin
from .messages import Outgoing
from .names import BUILD_FINGERPRINTS, SCORE_GALAXIES, STAGE_NAMES
from .parsing import parse_at_once
from .publish import Publisher
from .settings import Settings
from .store import open_store
from .subscribe import Read, read
from .topics import observation_key

COMPONENTS = (*STAGE_NAMES, "kafka", "triton")
REPEATED, CORRECTED, WITHDRAWN, MALFORMED = 0.1, 0.03, 0.02, 0.01
"""Shares of the observations that are sent again, are corrected or withdrawn, or are followed by
bytes that are no observation."""

GALAXIES_PER_SQUARE_ARCMIN = 0.05
"""Thin enough for a dozen sky cells, some in every partition."""

APART_ARCSEC = 30.0
"""Observations further from each other are of no one galaxy: all of one are within 2 arcsec."""

KEYED_OTHERWISE = 0.2
"""Share of the messages whose key is not their sky cell, as from a publisher who chose another:
observations of one galaxy then meet in the store from different partitions."""

SPLIT = 0.02
"""Share of the galaxies that may be found twice: under 1 % are, in whichever order, by positions
that err by more than association allows."""

EVERYTHING = "everything"
EVERYTHING_CONFIG = f"""
[[alert_streams]]
name = "{EVERYTHING}"
update = {{redshift = 0.0, probability = 0.0, hyperscore = 0.0}}
"""
"""Settings with one alert stream, which sends every score on."""

HANG_S = 12.0
"""Longer than a group waits for a silent member."""

POLL_S = 0.1
RECOVERY_TIMEOUT_S = 120.0
SETTLE_TIMEOUT_S = 600.0
NOT_COMPARED = {"recent_sources", "candidates", "version"}
"""Of a fingerprint, what depends on more than its observations: on where they were read, on what
else is near, and on what was replaced before. So does how many could belong elsewhere."""


class Traffic:
    """Observations with repeats, corrections, withdrawals and malformed bytes, in a random order.

    A correction may come before what it corrects.

    Args:
        count: of distinct observations, corrections and withdrawals not counted.
        seed: of the observations and of the order.
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
        """Messages sent so far."""

    @property
    def merged(self) -> set[str]:
        """Ids of the observations that belong into a galaxy in the end."""
        replaced = {each.replaces for each in self.distinct.values()}
        withdrawals = {name for name, each in self.distinct.items() if each.is_withdrawal}
        return self.distinct.keys() - replaced - withdrawals

    def send(self, settings: Settings, rate: float, hurry: threading.Event) -> None:
        """Send everything at a rate, and go on with repeats until told to hurry to the end.

        Args:
            settings: where to.
            rate: messages/s.
            hurry: from when it is set what is left is sent as fast as possible.
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
    """Send traffic at a rate during the block, and after it what is left, until all is settled.

    The block begins when something has come through all stages.

    Raises:
        PublishingError: some of it was not delivered.
        TimeoutError: the ledger does not close.
    """
    hurry = threading.Event()
    with ThreadPoolExecutor(max_workers=1) as pool:
        sending = pool.submit(traffic.send, settings, rate, hurry)
        try:
            # What is killed before anything has come through would show how stages start.
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


# Kills --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Recovery:
    """What became of the broker after a kill.

    Attributes:
        component: what was killed.
        away_s: from the kill until it was back: until the server answered, the process was started.
        seconds: from then until the stages that need it had gone on.
        stayed_ready: stages that need it and still said that they are ready, just before it came
            back; looked at only if it was kept away.
    """

    component: str
    away_s: float
    seconds: float
    stayed_ready: list[str] = field(default_factory=list)


@dataclass
class Killer:
    """Kills servers and stages with SIGKILL while observations flow.

    Args:
        settings: of the stages.
        stack: the servers; the killer starts them again.
        supervisor: process id of the supervisor, which starts the stages again.
    """

    settings: Settings
    stack: LocalStack
    supervisor: int

    def kill(self, component: str, away_s: float = 0.0) -> Recovery:
        """Kill one component and wait until the broker has recovered from it.

        Args:
            component: one of ``COMPONENTS``.
            away_s: how long a server stays away before it is started again.

        Raises:
            TimeoutError: it does not recover.
        """
        killed = time.monotonic()
        if component in STAGE_NAMES:
            before = stage_process(self.supervisor, component)
            before.kill()
            until(lambda: stage_process(self.supervisor, component) != before, RECOVERY_TIMEOUT_S)
            return self._recovered(component, killed, [component])
        server, needed_by = self._server(component)
        server.kill()
        time.sleep(away_s)
        stayed_ready = ready(self.settings, needed_by) if away_s else []
        server.start()
        return self._recovered(component, killed, needed_by, stayed_ready)

    def hang(self, component: str, away_s: float) -> Recovery:
        """Stop a server without ending it, so that nothing answers and no connection is closed.

        One that does not survive it is started again, as who runs it would: Triton may end, or end
        the process of a network that answers late, which it does not start again.

        Args:
            component: ``kafka`` or ``triton``.
            away_s: how long.

        Raises:
            TimeoutError: the broker does not recover.
        """
        stopped = time.monotonic()
        server, needed_by = self._server(component)
        process = psutil.Process(server.pid)
        processes = [process, *process.children(recursive=True)]
        for each in processes:
            each.suspend()
        try:
            time.sleep(away_s)
        finally:
            for each in reversed(processes):  # who is asked whether it is well goes on first
                each.resume()
        recovery = self._recovered(
            component, stopped, needed_by, in_vain=lambda: not _alive(processes)
        )
        if _alive(processes):
            return recovery
        server.kill()
        server.start()
        return self._recovered(component, stopped, needed_by)

    def lock_store(self, away_s: float) -> Recovery:
        """Keep the stages from writing to the store, as a process that hangs would.

        Raises:
            TimeoutError: they do not recover.
        """
        locked = time.monotonic()
        with closing(open_store(self.settings)) as store, store.writing():
            send_again(self.settings)  # who has nothing to write is ready, and right
            time.sleep(away_s)
            stayed_ready = ready(self.settings, STAGE_NAMES)
        return self._recovered("store", locked, STAGE_NAMES, stayed_ready)

    def _server(self, component: str) -> tuple[Component, Sequence[str]]:
        """A server, and the stages that need it."""
        if component == "kafka":
            return self.stack.kafka, STAGE_NAMES
        return self.stack.triton, asking_triton(self.settings)

    def _recovered(
        self,
        component: str,
        since: float,
        needed_by: Iterable[str],
        stayed_ready: Sequence[str] = (),
        in_vain: Callable[[], bool] = lambda: False,
    ) -> Recovery:
        """Wait until the stages that need a component go on, now that it is back, or in vain."""
        back = time.monotonic()
        # One for all questions, but none from before: that may wait for answers of who has died.
        client = admin(self.settings.kafka)
        before = self._progress(client)
        until(
            lambda: in_vain() or self._gone_on(before, needed_by, client),
            RECOVERY_TIMEOUT_S,
            lambda: f"nothing goes on after {component}; is all traffic through?",
        )
        return Recovery(component, back - since, time.monotonic() - back, list(stayed_ready))

    def _gone_on(
        self, before: Mapping[str, int], stages: Iterable[str], client: AdminClient
    ) -> bool:
        progress = self._progress(client)
        return all(progress[stage] > before[stage] for stage in stages)

    def _progress(self, client: AdminClient) -> dict[str, int]:
        """How many messages each stage has brought to its end."""
        deadline = time.monotonic() + RECOVERY_TIMEOUT_S
        while True:
            try:
                build, score, publish = ledger_now(self.settings, client)
            except InfrastructureError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(POLL_S)  # partitions may not have a leader yet
                continue
            names = (build.stage, score.stage, publish.stage)
            counts = (score.received, publish.received, publish.accounted)
            return dict(zip(names, counts, strict=True))


def send_again(settings: Settings) -> None:
    """Send the newest fingerprint of a galaxy once more, which changes nothing.

    score-galaxies and publish-alerts have something to do then: who gets nothing does not notice
    that it cannot write.
    """
    (newest,) = deque(read(settings, "fingerprints", until_end=True), maxlen=1)
    message = Outgoing(settings.topics.fingerprints, newest.key, newest.value)
    DurableProducer(settings.kafka).send([message])


def asking_triton(settings: Settings) -> list[str]:
    """The stages that need Triton: those that ask a model there."""
    triton = settings.triton
    asks = {
        BUILD_FINGERPRINTS: triton.parser or triton.map_parser,
        SCORE_GALAXIES: triton.critic or triton.refined_redshift,
    }
    return [stage for stage, model in asks.items() if model]


def _alive(processes: Iterable[psutil.Process]) -> bool:
    """Whether none of some processes has ended."""
    try:
        return all(each.status() != psutil.STATUS_ZOMBIE for each in processes)
    except psutil.NoSuchProcess:
        return False


def ready(settings: Settings, stages: Iterable[str]) -> list[str]:
    """Those of some stages of which a process says that it is ready."""
    found = []
    for stage in stages:
        for target in targets(settings, stage):
            # An answer of 503 is an error to urllib, and one that has gone gives none.
            with contextlib.suppress(OSError), urlopen(f"http://{target}/readyz", timeout=10):
                found.append(stage)
    return found


def stage_process(supervisor: int, stage: str) -> psutil.Process:
    """The process of a stage; waits for one to be there.

    Args:
        supervisor: process id of the supervisor.
        stage: the stage.

    Raises:
        TimeoutError: there is none.
    """
    found: list[psutil.Process] = []

    def there() -> bool:
        for each in psutil.Process(supervisor).children():
            with contextlib.suppress(psutil.Error):  # it has just ended
                if each.status() != psutil.STATUS_ZOMBIE and stage in each.cmdline():
                    found.append(each)
        return bool(found)

    until(there, RECOVERY_TIMEOUT_S, lambda: f"there is no process of {stage}")
    return found[0]


def memory_mb(process: psutil.Process) -> float:
    """Memory of a process without the store's pages, which all share and the system can drop."""
    memory = process.memory_info()
    return float(memory.rss - memory.shared) / 1e6


def peak_memory_mb(supervisor: int, done: Callable[[], bool], timeout_s: float) -> dict[str, float]:
    """The most memory that a process of each stage takes until something is done.

    Raises:
        TimeoutError: it is not done in time.
    """
    peak = dict.fromkeys(STAGE_NAMES, 0.0)

    def measured() -> bool:
        for stage in peak:
            peak[stage] = max(peak[stage], memory_mb(stage_process(supervisor, stage)))
        return next(checks)

    # Whether it is done costs more to find out than what memory it takes.
    checks = (number % 10 == 9 and done() for number in itertools.count())
    until(measured, timeout_s, lambda: "the stages do not catch up")
    return peak


def large_spectra(count: int, channels: int, seed: int) -> Iterator[Observation]:
    """Spectra of so many channels, 16 bytes each, every one of another galaxy; simulated."""
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


def schedule(kills: int, seed: int) -> Iterator[tuple[float, str]]:
    """Random pauses in s and components to kill after them, each component at least once."""
    chance = random.Random(seed)
    components = [*COMPONENTS, *chance.choices(COMPONENTS, k=kills - len(COMPONENTS))]
    chance.shuffle(components)
    for component in components:
        yield chance.uniform(0.0, 2.0), component


def until(
    condition: Callable[[], bool], timeout_s: float, problem: Callable[[], str] = lambda: ""
) -> None:
    """Wait for a condition.

    Raises:
        TimeoutError: it does not come true; with what the problem is.
    """
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(problem())
        time.sleep(POLL_S)


# Truth --------------------------------------------------------------------------------------------


@dataclass
class Untrue:
    """Where the broker's accounts differ from what was sent; nothing, if it does its work.

    Attributes:
        lost: ids of observations that are in no galaxy.
        doubled: ids of observations that are in several galaxies, or in one more than once.
        mixed: galaxies with observations of several true ones that are not near each other.
        split: numbers of true galaxies that were found more than once, if they are more than their
            positions explain.
        unwanted: hashes of observations in galaxies that should not be there.
        unlike_store: galaxies whose last message is not, byte for byte, what the store has.
        unlike_rebuild: galaxies whose fingerprint is not that of their observations in one batch.
        unlike_score: galaxies whose last score is not of their newest version.
        unlike_alert: galaxies whose last alert is not the one that the store remembers, by stream.
        alerts_astray: ids of alerts that say two things, or replace one that was never sent.
        not_quarantined: number of malformed messages that are not in the quarantine, or are there
            more than once.
        outcomes: number of events that the ledger of the first stage has too few or too many.
    """

    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    mixed: list[str] = field(default_factory=list)
    split: list[int] = field(default_factory=list)
    unwanted: list[str] = field(default_factory=list)
    unlike_store: list[str] = field(default_factory=list)
    unlike_rebuild: list[str] = field(default_factory=list)
    unlike_score: list[str] = field(default_factory=list)
    unlike_alert: list[str] = field(default_factory=list)
    alerts_astray: list[str] = field(default_factory=list)
    not_quarantined: int = 0
    outcomes: dict[str, int] = field(default_factory=dict)


def untrue(settings: Settings, traffic: Traffic) -> Untrue:
    """Compare topics and store with the traffic that was sent to an empty broker, and settled."""
    published = _newest(settings, "fingerprints")
    scored = _newest(settings, "scored")
    by_hash = {observation_hash(name): each for name, each in traffic.distinct.items()}
    trees = parse_at_once(settings, list(traffic.distinct.values()))
    members: Counter[bytes] = Counter()
    true_galaxies: Counter[int] = Counter()
    found = Untrue()
    for galaxy_id, message in published.items():
        fingerprint = message.event
        assert isinstance(fingerprint, Fingerprint)
        hashes = fingerprints.observation_hashes(fingerprint)
        members.update(hashes)
        known = [by_hash[each] for each in hashes if each in by_hash]
        numbers = {traffic.galaxy(each.observation_id) for each in known}
        true_galaxies.update(numbers)
        if len(numbers) > 1 and _extent_arcsec(known) > APART_ARCSEC:
            found.mixed.append(galaxy_id)
        if not _same(fingerprint, fingerprints.build(galaxy_id, known, trees)):
            found.unlike_rebuild.append(galaxy_id)
        score = scored.get(galaxy_id)
        galaxy = None if score is None else score.galaxy
        if galaxy is None or galaxy.version != fingerprint.version:
            found.unlike_score.append(galaxy_id)
    wanted = {observation_hash(name): name for name in traffic.merged}
    found.lost = sorted(wanted[each] for each in wanted.keys() - members.keys())
    found.unwanted = sorted(each.hex() for each in members.keys() - wanted.keys())
    found.doubled = sorted(wanted.get(each, each.hex()) for each, n in members.items() if n > 1)
    split = sorted(number for number, times in true_galaxies.items() if times > 1)
    found.split = split if len(split) > SPLIT * len(true_galaxies) else []
    found.unlike_store = _unlike_store(settings, published)
    for stream in settings.topics.alert_streams:
        _compare_alerts(settings, stream.name, found)
    kept = Counter(
        message.event.original
        for message in _newest(settings, "quarantine").values()
        if isinstance(message.event, Quarantine)
    )
    sent = Counter(traffic.malformed)
    found.not_quarantined = ((kept - sent) + (sent - kept)).total()
    found.outcomes = _unexpected_outcomes(settings, traffic)
    return found


def _extent_arcsec(observations: Sequence[Observation]) -> float:
    """The largest distance of an observation from the first."""
    places = [(each.right_ascension_deg, each.declination_deg) for each in observations]
    return max(separation_arcsec(*places[0], *place) for place in places)


def _newest(settings: Settings, stream: str) -> dict[str, Read]:
    """The last message of every key, as a compacted topic keeps it."""
    return {each.key.decode(): each for each in read(settings, stream, until_end=True)}


def _same(one: Fingerprint, other: Fingerprint) -> bool:
    if not one.observation_hashes:  # emptied: only its place is left, of which nothing is known
        return not other.observation_hashes
    return _compared(one) == _compared(other)


def _compared(fingerprint: Fingerprint) -> dict[str, Any]:
    """What depends on the observations alone."""
    record = {
        name: value for name, value in to_rows(fingerprint).items() if name not in NOT_COMPARED
    }
    return {**record, "acquisition": {**record["acquisition"], "ambiguous": 0}}


def _unlike_store(settings: Settings, published: dict[str, Read]) -> list[str]:
    with closing(open_store(settings)) as store, store.reading() as reading:
        stored = {each: reading.fingerprint(each) for each in reading.galaxy_ids()}
    return [
        galaxy_id
        for galaxy_id in sorted(stored.keys() | published.keys())
        if galaxy_id not in published or stored.get(galaxy_id) != published[galaxy_id].value
    ]


def _compare_alerts(settings: Settings, stream: str, found: Untrue) -> None:
    """What a stream sent against what the store remembers of it; ranks are those of their time."""
    contents: dict[str, dict[str, Any]] = {}
    last: dict[str, Alert] = {}
    for message in read(settings, stream, until_end=True):
        alert = message.event
        assert isinstance(alert, Alert)
        said = {**to_rows(alert), "stream_rank": 0, "stream_galaxies": 0}
        said["galaxy"] = {**said["galaxy"], "rank": 0, "ranked_galaxies": 0}
        if contents.setdefault(alert.alert_id, said) != said:
            found.alerts_astray.append(alert.alert_id)
        before = last.get(alert.galaxy.galaxy_id)
        if before is None or alert.galaxy.version >= before.galaxy.version:
            last[alert.galaxy.galaxy_id] = alert
    found.alerts_astray += [
        alert_id
        for alert_id, said in contents.items()
        if said["supersedes"] is not None and said["supersedes"] not in contents
    ]
    with closing(open_store(settings)) as store, store.reading() as reading:
        remembered = {name: each.alert_id for name, each in reading.last_alerts(stream)}
    sent = {name: alert.alert_id for name, alert in last.items()}
    found.unlike_alert += [
        f"{stream}: {name}"
        for name in sorted(sent.keys() | remembered.keys())
        if sent.get(name) != remembered.get(name)
    ]


def _unexpected_outcomes(settings: Settings, traffic: Traffic) -> dict[str, int]:
    """By outcome, how many events of the first stage are not as they should be."""
    counted = Counter(ledger_now(settings)[0].outcomes)
    taken_in = ("merged", "corrected", "withdrawn", "superseded")
    distinct = sum(counted.pop(outcome, 0) for outcome in taken_in)
    expected = Counter(
        {
            "taken in": len(traffic.distinct),
            "repeated": traffic.sent - len(traffic.distinct) - len(traffic.malformed),
            "quarantined: undecodable": len(traffic.malformed),
        }
    )
    counted["taken in"] = distinct
    counted.subtract(expected)
    return {outcome: number for outcome, number in counted.items() if number}
