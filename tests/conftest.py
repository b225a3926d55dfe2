"""Fixtures: real servers, started once per session, and the real catalogues."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.local import LocalStack
from processors.fingerprint import empty
from schemas.codec import Codec
from schemas.events import Fingerprint, ScoredGalaxy

DATA_VARIABLE = "MMBROKER_DATA"
REPOSITORY = Path(__file__).parents[1]


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
    from models.repository import write_repository

    directory = tmp_path_factory.mktemp("stack")
    write_repository(directory / "models", "embedded")
    with LocalStack(
        directory / "servers", model_repository=directory / "models", quiet=True
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
        Path(__file__).parent / "schemas" / "samples" / "ScoredGalaxy.v1.confluent"
    ).read_bytes()
    return Codec().decode_as(ScoredGalaxy, data)
