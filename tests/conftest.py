"""Fixtures: real servers, started once per session, and the real catalogues."""

from __future__ import annotations

import itertools
import os
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import hypothesis
import pytest

from mmbroker.deploy.local import LocalStack
from mmbroker.models.serving.repository import provide
from mmbroker.processors.fingerprint.merge import empty
from mmbroker.schemas.codec import Codec
from mmbroker.schemas.events import Fingerprint, Observation, ScoredGalaxy
from mmbroker.streams.local_stack import load_settings
from mmbroker.streams.operating.ledger import Entry
from mmbroker.streams.proving.embedded import Settled, ledger_now, stages_running
from mmbroker.streams.publishing.publisher import Publisher
from mmbroker.streams.settings import Settings, StageSettings
from mmbroker.streams.subscribing.read import Read, read
from tests.command import run_command

DATA_VARIABLE = "MMBROKER_DATA"
REPOSITORY = Path(__file__).parents[1]

# Some examples are the first that a compiled function sees, and none is a benchmark.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files of slow tests, so that none of them is left alone at the end."""
    slow = {each.path for each in items if each.get_closest_marker("slow")}
    items.sort(key=lambda each: each.path not in slow)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real catalogues; tests that need it skip where it is missing."""
    folder = Path(os.environ.get(DATA_VARIABLE, REPOSITORY.parent / "shared" / "data"))
    if not (folder / "goodsn.ecsv").is_file():
        pytest.skip(f"no real catalogues in {folder}; set {DATA_VARIABLE} to their folder")
    return folder


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    """A real Kafka and a real Triton that serves the critic."""
    directory = tmp_path_factory.mktemp("stack")
    provide(directory / "models", "embedded")
    with LocalStack(
        directory / "servers", model_repository=directory / "models", quiet=True
    ) as running:
        yield running


@pytest.fixture(scope="session")
def secured_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    """A real Kafka with encryption, users and permissions."""
    directory = tmp_path_factory.mktemp("secured")
    with LocalStack(directory, triton=False, secured=True, quiet=True) as running:
        yield running


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    """Servers that a test may kill, and leaves running."""
    directory = tmp_path_factory.mktemp("servers")
    provide(directory / "models", "embedded")
    with LocalStack(
        directory / "stack", model_repository=directory / "models", quiet=True
    ) as running:
        yield running


@pytest.fixture(scope="session")
def triton_url(stack: LocalStack) -> str:
    """Triton's address for gRPC."""
    return stack.triton_url


@pytest.fixture
def empty_fingerprint() -> Fingerprint:
    """A galaxy of which nothing is known."""
    return empty("mm-test")


@pytest.fixture
def scored() -> ScoredGalaxy:
    """A scored galaxy as it was once published."""
    data = (
        Path(__file__).parent / "schemas" / "samples" / "ScoredGalaxy.v4.confluent"
    ).read_bytes()
    return Codec().decode_as(ScoredGalaxy, data)


@dataclass
class Broker:
    """The three stages as processes, on topics and a store of their own."""

    settings: Settings
    environment: dict[str, str]
    process: subprocess.Popen[bytes]

    @cached_property
    def _publisher(self) -> Publisher:
        """Kept: a new one waits for half a second."""
        return Publisher(self.settings)

    def command(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run ``mmbroker`` with some arguments."""
        result = run_command(arguments, self.environment)
        assert not check or result.returncode == 0, result.stdout + result.stderr
        return result

    def ledger(self) -> list[Entry]:
        """The ledger as it is now."""
        return ledger_now(self.settings)

    def publish(self, observations: Iterable[Observation | bytes], settle: bool = True) -> int:
        """Publish observations, or bytes as they are, and wait until the ledger closes."""
        before = self.ledger()[0].received
        count = 0
        with self._publisher as publisher:
            for each in observations:
                if isinstance(each, bytes):
                    publisher.send_encoded(each)
                else:
                    publisher.send(each)
                count += 1
        if settle:
            self.settle(before + count)
        return count

    def settle(self, received: int, timeout_s: float = 120.0) -> None:
        """Wait until so many observations, and all that came of them, are accounted for."""
        settled = Settled(self.settings, received)
        wait_until(settled, f"the ledger does not close: {self.ledger()}", timeout_s)

    def read(self, stream: str) -> list[Read]:
        """All messages of a stream."""
        return list(read(self.settings, stream, until_end=True))


def wait_until(condition: Callable[[], bool], problem: str, timeout_s: float = 60.0) -> None:
    """Wait for a condition, or fail with what is wrong."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(problem)
        time.sleep(0.1)


SESSION_TIMEOUT = "MMBROKER_STAGE__SESSION_TIMEOUT_S"
AS_SHIPPED = {SESSION_TIMEOUT: str(StageSettings().session_timeout_s)}
"""For brokers in which processes die: as patient with each other as those of a user."""


def settings_on(
    stack: LocalStack, directory: Path, prefix: str, config: str = "", **variables: str
) -> tuple[Settings, dict[str, str]]:
    """Settings for some servers, and the environment that gives them.

    Args:
        stack: the servers.
        directory: for the data.
        prefix: of the topics.
        config: content of the settings file.
        variables: more of the environment.
    """
    file = directory / "mmbroker.toml"
    file.write_text(config)
    environment = {
        **os.environ,
        **stack.environment(),
        "MMBROKER_CONFIG": str(file),
        "MMBROKER_DATA_DIRECTORY": str(directory),
        "MMBROKER_KAFKA__TOPIC_PREFIX": prefix,
        SESSION_TIMEOUT: "6",  # what was stopped leaves its group sooner
        **variables,
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        return load_settings(), environment


@contextmanager
def broker_on(
    stack: LocalStack, directory: Path, prefix: str, config: str = "", **variables: str
) -> Iterator[Broker]:
    """Run the stages on some servers; arguments as for ``settings_on``."""
    settings, environment = settings_on(stack, directory, prefix, config, **variables)
    with stages_running(settings, directory / "stages.log", environment) as process:
        yield Broker(settings, environment, process)


PREFIXES = (f"test{number}" for number in itertools.count())


@pytest.fixture(scope="module")
def make_broker(
    stack: LocalStack, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., Broker]]:
    """Makes brokers on the session's servers; each has a topic prefix and a store of its own."""
    with ExitStack() as running:

        def make(config: str = "", **variables: str) -> Broker:
            directory = tmp_path_factory.mktemp("broker")
            broker = broker_on(stack, directory, next(PREFIXES), config, **variables)
            return running.enter_context(broker)

        yield make


@pytest.fixture(scope="session")
def broker(stack: LocalStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A broker with the default settings that tests share."""
    with broker_on(stack, tmp_path_factory.mktemp("broker"), next(PREFIXES)) as shared:
        yield shared
