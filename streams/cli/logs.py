"""Sets up the log of the commands and leaves out messages that say nothing new."""

from __future__ import annotations

import logging
import sys
from typing import Any

from rich.logging import RichHandler

from mmbroker.schemas.wording import shown
from mmbroker.streams.cli.shared import errors

LIBRARIES = ("faust", "mode", "matplotlib")
REPEAT_AFTER_S = 60.0


def set_up_logging(verbose: bool) -> None:
    """Log to standard error: in colours on a terminal, otherwise with time and module.

    Args:
        verbose: also log what the libraries say below the level of a warning.
    """
    if sys.stderr.isatty():
        handler: logging.Handler = RichHandler(console=errors, show_path=False)
        text = "%(message)s"
    else:
        handler = logging.StreamHandler()
        text = "%(asctime)s %(levelname)s %(name)s: %(message)s"
    handler.setFormatter(_Plain(text))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    quiet = logging.DEBUG if verbose else logging.WARNING
    for handler in logging.getLogger().handlers:
        handler.addFilter(_News())
    for name in LIBRARIES:
        logging.getLogger(name).setLevel(quiet)


class _Plain(logging.Formatter):
    """Shows messages, which may hold words of strangers, on one line; see ``wording.shown``."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        record.message = shown(record.message)
        return super().formatMessage(record)

    def formatException(self, ei: Any) -> str:  # noqa: N802 - logging's name
        return shown(super().formatException(ei), lines=True)


class _News(logging.Filter):
    """Drops messages that do not help.

    - A new Kafka says "Coordinator load in progress" to its first idempotent producer, which then
      tries again by itself.
    - A client reports each failure of its first connection; an error tells the reason once.
    - A library that tries again for ever repeats itself: the same text is logged once a minute.
    """

    def __init__(self) -> None:
        super().__init__()
        self._said: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        message = record.getMessage()
        if "Coordinator load in progress" in message or "/bootstrap]: " in message:
            return False
        if record.name.partition(".")[0] not in LIBRARIES:
            return True
        since = record.created - REPEAT_AFTER_S
        self._said = {text: said for text, said in self._said.items() if said > since}
        new = message not in self._said
        if new:
            self._said[message] = record.created
        return new
