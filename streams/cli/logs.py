"""What the commands log, and what they leave out."""

from __future__ import annotations

import logging
import sys

from rich.logging import RichHandler

from mmbroker.streams.cli.shared import errors

LIBRARIES = ("faust", "mode", "matplotlib")
REPEAT_AFTER_S = 60.0


def set_up_logging(verbose: bool) -> None:
    """Log to stderr: readably on a terminal, with time and place otherwise."""
    if sys.stderr.isatty():
        handler: logging.Handler = RichHandler(console=errors, show_path=False)
        text = "%(message)s"
    else:
        handler = logging.StreamHandler()
        text = "%(asctime)s %(levelname)s %(name)s: %(message)s"
    logging.basicConfig(level=logging.INFO, format=text, handlers=[handler], force=True)
    quiet = logging.DEBUG if verbose else logging.WARNING
    for handler in logging.getLogger().handlers:
        handler.addFilter(_News())
    for name in LIBRARIES:
        logging.getLogger(name).setLevel(quiet)


class _News(logging.Filter):
    """Passes what is worth a line.

    Not what every new broker answers its first idempotent producer, which tries again; nor the
    failures of a client's first connection, of which an error gives the reason once; nor what a
    library has said within the last minute, as a client does that tries again for ever.
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
