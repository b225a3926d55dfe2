"""Entry point of the command line: puts the groups of commands together and reports errors."""

from __future__ import annotations

import os

# One thread for linear algebra: the stages scale by processes, and a result must not depend on how
# many cores share a sum. The variables have to be set before numpy is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import sys
from io import TextIOWrapper
from typing import Annotated

import typer
from rich.text import Text

from mmbroker.schemas import __version__
from mmbroker.streams.cli import data, evaluate, models, run, stack
from mmbroker.streams.cli.logs import set_up_logging
from mmbroker.streams.cli.shared import EXPECTED_ERRORS, app, console, errors

COMMANDS = (data, run)
"""Modules that add their commands to ``app`` when they are imported."""

app.add_typer(stack.stack_app, name="stack")
app.add_typer(models.models_app, name="models")
app.add_typer(evaluate.evaluate_app, name="evaluate")


def main() -> None:
    """Entry point."""
    _prepare_streams()
    try:
        app()
    except EXPECTED_ERRORS as error:
        errors.print(Text.assemble(("mmbroker:", "red"), f" {error}"), soft_wrap=True)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


def _prepare_streams() -> None:
    """Let output fail for no character, and go nowhere where a stream is closed."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115 - until the process ends
        elif isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


@app.callback(invoke_without_command=True)
def common(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log more.")] = False,
) -> None:
    """Settings come from the environment (MMBROKER_...) and from mmbroker.toml."""
    if version:
        console.print(f"mmbroker {__version__}")
        raise typer.Exit
    set_up_logging(verbose)


if __name__ == "__main__":
    main()
