"""What ``mmbroker check`` and ``mmbroker stack up`` see of servers that run and do not work."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from mmbroker.deploy.local import LocalStack
from mmbroker.models.serving import triton
from tests.command import run_command
from tests.conftest import wait_until
from tests.networks import SHIFT, shifted_critic

pytestmark = pytest.mark.slow  # servers of its own


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A data directory with a detached stack."""
    directory = tmp_path_factory.mktemp("data")
    assert run_command(["stack", "up"], in_directory(directory)).returncode == 0
    yield directory
    LocalStack(directory / "stack", quiet=True).down()


def in_directory(data: Path) -> dict[str, str]:
    """The environment of commands on a data directory."""
    inherited = {name: value for name, value in os.environ.items() if name[:9] != "MMBROKER_"}
    return {**inherited, "MMBROKER_DATA_DIRECTORY": str(data), "COLUMNS": "500"}


def networks(stack: LocalStack) -> dict[str, psutil.Process]:
    """The processes of the networks by name."""
    found = {}
    for each in psutil.Process(stack.triton.pid).children():
        if each.status() != psutil.STATUS_ZOMBIE:
            found[Path(each.cmdline()[1]).parts[-3]] = each
    return found


def of_triton(data: Path) -> str:
    """What ``mmbroker check`` says of Triton."""
    said = run_command(["check"], in_directory(data)).stdout.splitlines()
    return next(line for line in said if line[5:].startswith("triton"))


def test_a_network_that_dies_is_found_and_started_again(data: Path) -> None:
    stack = LocalStack.attach(data / "stack", quiet=True)
    kafka, server = stack.kafka.pid, stack.triton.pid
    networks(stack)["critic"].kill()
    assert stack.status().ready  # Triton itself does not notice
    found = of_triton(data)
    assert found.startswith("bad  triton: model 'critic' version 1 at")
    assert found.endswith("start Triton again (mmbroker stack up, for a local stack)")

    up = run_command(["stack", "up"], in_directory(data))
    assert up.returncode == 0
    assert "model 'critic' version 1 at" in up.stdout
    assert "starting again what does not work: triton" in up.stderr
    assert of_triton(data).startswith("good")
    again = LocalStack.attach(data / "stack", quiet=True)
    assert again.kafka.pid == kafka
    assert again.triton.pid != server
    refused = run_command(["stack", "up"], in_directory(data))
    assert refused.returncode == 1
    assert "already (kafka, triton)" in refused.stderr


def test_version_1_of_a_model_that_nothing_asks_can_be_removed(data: Path, tmp_path: Path) -> None:
    other = shifted_critic(tmp_path, SHIFT, "other")
    added = run_command(["models", "add", "other", str(other)], in_directory(data))
    assert "not in force until: mmbroker models use other 1" in added.stdout
    assert run_command(["models", "remove", "other", "1"], in_directory(data)).returncode == 0
    refused = run_command(["models", "remove", "critic", "1"], in_directory(data))
    assert "critic version 1 is in force" in refused.stderr


def test_a_network_that_is_taken_from_the_repository_ends_whatever_triton_does(
    data: Path, tmp_path: Path
) -> None:
    stack = LocalStack.attach(data / "stack", quiet=True)
    other = shifted_critic(tmp_path, SHIFT, "other")
    assert run_command(["models", "add", "other", str(other)], in_directory(data)).returncode == 0
    assert "other" in networks(stack)
    shutil.rmtree(stack.triton.model_repository / "other")
    wait_until(lambda: "other" not in networks(stack), "its process stays", 20)
    assert set(networks(stack)) >= {"critic", "parser"}
    triton.unload(stack.triton_url, "other")
