"""The terminal as all commands use it: what strangers wrote cannot command it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from mmbroker.schemas.wording import shown


class Terminal(Console):
    """A console that shows names and texts as they are.

    Brackets in a text are no markup, and words between colons are no emoji. To style a text, print
    a ``rich.text.Text``. Characters that could command the terminal are written as escapes, see
    ``schemas.wording.shown``.

    Args:
        options: those of ``rich.console.Console``.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, **options)

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """See ``rich.console.Console.render``."""
        for segment in super().render(renderable, options):
            if segment.control or segment.text.isprintable():
                yield segment
            else:
                yield segment._replace(text=shown(segment.text, lines=True))
