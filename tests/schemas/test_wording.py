"""Texts of strangers as they are shown."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmbroker.schemas.wording import shown, without_user

ANY = st.text(st.characters(categories=["Cc", "Cf", "Cs", "Zl", "Zp", "Zs", "L", "N", "P", "So"]))
"""Texts of all kinds of characters, with halves of surrogate pairs."""


@given(ANY)
def test_a_text_is_shown_on_one_line_without_commands(text: str) -> None:
    said = shown(text)
    said.encode()  # it can be written
    assert len(said.splitlines()) <= 1
    assert not any(ord(each) < 32 or 0x7F <= ord(each) < 0xA0 for each in said)
    assert shown(said) == said


@given(st.recursive(ANY | st.integers(), lambda inner: st.dictionaries(ANY, inner)))
def test_json_keeps_its_meaning(value: object) -> None:
    assert json.loads(shown(json.dumps(value, ensure_ascii=False))) == value


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("survey[/b]7 :smile: µ中\u0301", "survey[/b]7 :smile: µ中\u0301"),
        ("\x1b]52;c;\x07", "\\u001b]52;c;\\u0007"),
        ("a\u202eb\u2066", "a\\u202eb\\u2066"),
        ("\U000e0041\ud800", "\\udb40\\udc41\\ud800"),
        ("two\nlines", "two\\u000alines"),
    ],
)
def test_what_commands_is_escaped_and_all_else_stays(text: str, said: str) -> None:
    assert shown(text) == said


def test_lines_are_kept_where_they_are_ours() -> None:
    assert shown("two\nlines\x1b", lines=True) == "two\nlines\\u001b"


@pytest.mark.parametrize(
    "text",
    ["https://u:p/@ss@host/path", "see https://u:p@host", "u:p@host:9092", "p:9,u:p@host:9092"],
)
def test_users_of_addresses_are_left_out(text: str) -> None:
    said = without_user(text)
    assert "host" in said
    assert "u:p" not in said


@pytest.mark.parametrize("text", ["https://host/path", "host:9092", "someone@host"])
def test_addresses_without_a_password_stay(text: str) -> None:
    assert without_user(text) == text
