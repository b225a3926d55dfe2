"""The application object, the consoles and the settings that all commands share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import typer
from rich.text import Text

from mmbroker.deploy.local import StackError
from mmbroker.models.serving.errors import ModelUnavailable
from mmbroker.streams.errors import InfrastructureError
from mmbroker.streams.local_stack import load_settings
from mmbroker.streams.settings import Settings
from mmbroker.streams.terminal import Terminal

app = typer.Typer(
    name="mmbroker",
    help="An event-driven alert broker for millimetre-wave galaxies.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)
console = Terminal()
errors = Terminal(stderr=True, highlight=False)

EXPECTED_ERRORS = (
    InfrastructureError,
    ModelUnavailable,
    StackError,
    OSError,
    ValueError,
)
"""Errors that a user can mend; they are shown in one line. All others are faults of this program
and are shown with their traceback."""


def current_settings() -> Settings:
    """The settings in force."""
    return load_settings()


@contextmanager
def reading_store() -> Iterator[tuple[Settings, Any]]:
    """The settings in force, and the store as it is when the block begins."""
    from mmbroker.streams.store import read_store

    settings = current_settings()
    with closing(read_store(settings)) as store, store.reading() as reading:
        yield settings, reading


def finding(mark: tuple[str, str], subject: str, detail: str) -> None:
    """Print what was found out about a subject.

    Args:
        mark: a word such as ``good``, and its style.
        subject: what it is about.
        detail: what was found.
    """
    line = Text.assemble(mark, " ", (subject, "bold"), f": {detail}")
    console.print(line, soft_wrap=not console.is_terminal)
