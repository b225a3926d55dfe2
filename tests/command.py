"""The command line in processes of their own, without their imports, which take most of the time.

A server that has imported everything and done nothing yet is forked for each command.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from subprocess import CompletedProcess
from typing import IO

_FORKING = multiprocessing.get_context("forkserver")
_FORKING.set_forkserver_preload(
    [
        "mmbroker.streams.cli.main",
        "mmbroker.streams.subscribing.explain",
        "mmbroker.streams.operating.rebuild",
        "mmbroker.streams.operating.check",
        "mmbroker.streams.operating.model_versions",
    ]
)


def run_command(
    arguments: Sequence[str], environment: Mapping[str, str], timeout_s: float = 120.0
) -> CompletedProcess[str]:
    """Run ``mmbroker`` with some arguments.

    Raises:
        TimeoutError: it does not end.
    """
    with tempfile.TemporaryDirectory() as directory:
        said = [Path(directory) / name for name in ("stdout", "stderr")]
        process = _FORKING.Process(target=_run, args=(list(arguments), dict(environment), said))
        process.start()
        process.join(timeout_s)
        if process.exitcode is None:
            process.kill()
            raise TimeoutError(f"mmbroker {' '.join(arguments)} does not end")
        stdout, stderr = (each.read_text() for each in said)
        return CompletedProcess(list(arguments), process.exitcode, stdout, stderr)


def _run(arguments: list[str], environment: dict[str, str], said: list[Path]) -> None:
    os.environ.clear()
    os.environ.update(environment)
    for number, file in enumerate(said, start=1):
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT)
        os.dup2(descriptor, number)
        os.close(descriptor)
    sys.stdout, sys.stderr = _stream(1), _stream(2)
    sys.argv = ["mmbroker", *arguments]
    for name in [each for each in sys.modules if each.startswith("mmbroker.streams.cli")]:
        del sys.modules[name]  # their console asks the environment how wide it is
    importlib.import_module("mmbroker.streams.cli.main").main()


def _stream(descriptor: int) -> IO[str]:
    return open(descriptor, "w", closefd=False)
