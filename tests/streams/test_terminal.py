"""What strangers wrote is shown, and commands nothing."""

from __future__ import annotations

import io

import pytest
from rich.table import Table
from rich.text import Text

from mmbroker.streams.terminal import Terminal

NAMES = ["survey[/b]7", "[link=http://elsewhere.example/]ours[/link]", "[red]", ":smile:", "a\\"]


def printed(what: object) -> str:
    file = io.StringIO()
    Terminal(file=file, width=100, force_terminal=True, color_system=None).print(what)
    return file.getvalue()


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_shown_as_it_is_everywhere_in_a_table(name: str) -> None:
    table = Table(name, title=f"{name} title", caption=f"{name} caption")
    table.add_row(name)
    assert printed(table).count(name) == 4
    assert name in printed(name)


def test_nothing_within_a_text_commands_the_terminal() -> None:
    hostile = "\x1b[2J\x9b2J\x1b]52;c;\x07\u202e"
    table = Table(hostile, title=hostile)
    table.add_row(Text(hostile))
    for what in (table, hostile, Text(f"one\n{hostile}")):
        said = printed(what)
        assert not {"\x1b", "\x9b", "\x07", "\u202e"} & set(said)
        assert "\\u001b[2J" in said
