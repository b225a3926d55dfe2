"""Reads what is in a Markdown page: its code, its links and what can be linked to."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html.parser import HTMLParser
from itertools import pairwise

from markdown_it import MarkdownIt
from markdown_it.token import Token

LANGUAGES = ("console", "python", "toml", "json", "text")
SHORTEST_REASON = 10  # characters
_NOT_RUN = re.compile(r"<!--\s*not run:\s*(.*?)\s*-->", re.DOTALL)
_PROMPT = re.compile(r"[$>%]\s")


@dataclass(frozen=True)
class Block:
    """A block of code.

    Attributes:
        line: of the page, the one that opens it; from 1.
        language: what it is said to be in; empty if nothing is said.
        content: what stands in it.
        not_run: why it is not run, as the comment above it says; None if it is.
        fenced: whether it stands between fences, and is not merely indented.
    """

    line: int
    language: str
    content: str
    not_run: str | None = None
    fenced: bool = True


@dataclass(frozen=True)
class Command:
    """What a user types at once, perhaps over several lines; ``line`` is its first in the page."""

    line: int
    text: str


@dataclass(frozen=True)
class Link:
    """Where a link or a picture leads, and the line of the page that its paragraph begins on."""

    line: int
    target: str


def blocks(page: str) -> list[Block]:
    """All blocks of code in a page."""
    found = []
    above: Token | None = None
    for token in _parsed(page):
        if token.type in ("fence", "code_block"):
            found.append(_block(token, above))
        above = token
    return found


def faults(block: Block) -> Iterator[str]:
    """What of the convention a block does not keep to."""
    if not block.fenced:
        yield "code is indented: put it between fences, and say its language"
        return
    if block.language not in LANGUAGES:
        said = f"has the language {block.language!r}" if block.language else "has no language"
        yield f"the block {said}: use {', '.join(LANGUAGES)}"
    if block.not_run is not None and len(block.not_run) < SHORTEST_REASON:
        yield f"{block.not_run!r} is no reason not to run it that helps a reader"
    if block.language == "console":
        for command in commands(block):
            if _PROMPT.match(command.text):
                yield f"line {command.line} begins with a prompt, which a reader cannot copy"


def commands(block: Block) -> list[Command]:
    """The commands of a block, one a line; a backslash continues one on the next line."""
    found: list[Command] = []
    goes_on = False
    for line, text in enumerate(block.content.splitlines(), start=block.line + 1):
        if goes_on:
            found[-1] = Command(found[-1].line, f"{found[-1].text}\n{text}")
        elif text.strip() and not text.lstrip().startswith("#"):
            found.append(Command(line, text.strip()))
        else:
            continue
        goes_on = text.endswith("\\")
    return found


def code_in_text(page: str) -> Iterator[Command]:
    """What stands between single backticks, line breaks as spaces."""
    for line, token in _inline(page):
        if token.type == "code_inline":
            yield Command(line, token.content)


def links(page: str) -> Iterator[Link]:
    """All links and pictures of a page, those in HTML too."""
    for line, token in _inline(page):
        target = token.attrs.get("href") or token.attrs.get("src")
        if target is not None:
            yield Link(line, str(target))
        elif token.type.startswith("html"):
            for name, value in _html_attributes(token.content):
                if name in ("href", "src"):
                    yield Link(line, value)


def anchors(page: str) -> set[str]:
    """What ``#...`` can follow the page's address, as GitHub makes it of headings."""
    found: set[str] = set()
    repeated = Counter[str]()
    tokens = _parsed(page)
    for token, heading in pairwise(tokens):
        if token.type == "heading_open":
            text = "".join(
                part.content for part in heading.children or () if part.type != "html_inline"
            )
            anchor = re.sub(r"[^\w\- ]", "", text.strip().lower()).replace(" ", "-")
            count = repeated[anchor]
            repeated[anchor] += 1
            found.add(f"{anchor}-{count}" if count else anchor)
    for _, token in _inline(page):
        if token.type.startswith("html"):
            attributes = _html_attributes(token.content)
            found.update(value for name, value in attributes if name in ("id", "name"))
    return found


def _parsed(page: str) -> Sequence[Token]:
    return MarkdownIt("commonmark").enable("table").parse(page)


def _inline(page: str) -> Iterator[tuple[int, Token]]:
    """What paragraphs, headings, tables and HTML are made of, and the lines they begin on."""
    for token in _parsed(page):
        line = token.map[0] + 1 if token.map else 0
        if token.type == "html_block":
            yield line, token
        for child in token.children or ():
            yield line, child


def _block(token: Token, above: Token | None) -> Block:
    assert token.map is not None
    reason = None
    if above is not None and above.type == "html_block":
        # The last comment before it; one of another kind may stand between.
        said = _NOT_RUN.search(above.content)
        reason = None if said is None else " ".join(said[1].split())
    fenced = token.type == "fence"
    return Block(token.map[0] + 1, token.info.strip(), token.content, reason, fenced)


def _html_attributes(text: str) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            found.extend((name, value) for name, value in attrs if value is not None)

    Reader().feed(text)
    return found
