"""The tests of the pages read Markdown as its readers do."""

from __future__ import annotations

import pytest

from tests.markdown import (
    Block,
    Command,
    Link,
    anchors,
    blocks,
    code_in_text,
    commands,
    faults,
    links,
)

PAGE = """\
# A page

```console
mmbroker check  # is it well?
```

<!-- not run: it takes half an hour,
     and needs the real tables -->
```python
train()
```

1. In a list:

   ```toml
   partitions = 12
   ```

<!-- something else -->
~~~
nothing
~~~

    indented
"""


def test_blocks_have_a_line_a_language_and_a_reason_not_to_be_run() -> None:
    assert blocks(PAGE) == [
        Block(3, "console", "mmbroker check  # is it well?\n"),
        Block(9, "python", "train()\n", "it takes half an hour, and needs the real tables"),
        Block(15, "toml", "partitions = 12\n"),
        Block(20, "", "nothing\n"),
        Block(24, "", "indented\n", fenced=False),
    ]


def test_a_reason_counts_for_the_block_right_below_it_alone() -> None:
    reason = "<!-- not run: it needs a cluster of three machines -->"
    block = "```console\nmmbroker run\n```\n"
    for page in (f"{reason}\n{block}", f"{reason}\n\n{block}"):
        assert [each.not_run is None for each in blocks(page)] == [False]
    for page in (f"{reason}\n\nText.\n\n{block}", f"{block}{reason}\n"):
        assert [each.not_run is None for each in blocks(page)] == [True]


@pytest.mark.parametrize(
    ("block", "said"),
    [
        (Block(1, "", "x"), "has no language"),
        (Block(1, "bash", "x"), "'bash'"),
        (Block(1, "console extra", "x"), "'console extra'"),
        (Block(1, "", "x", fenced=False), "indented"),
        (Block(1, "python", "x", "too long"), "'too long' is no reason"),
        (Block(1, "python", "x", ""), "'' is no reason"),
        (Block(4, "console", "a\n$ mmbroker run\n"), "line 6 begins with a prompt"),
    ],
)
def test_a_block_against_the_convention_is_told(block: Block, said: str) -> None:
    (fault,) = faults(block)
    assert said in fault


@pytest.mark.parametrize("language", ["console", "python", "toml", "json", "text"])
def test_a_block_by_the_convention_has_no_fault(language: str) -> None:
    assert list(faults(Block(1, language, "x"))) == []
    assert list(faults(Block(1, language, "x", "it needs a Kubernetes cluster"))) == []


def test_commands_are_lines_without_comments_joined_by_backslashes() -> None:
    content = "# first\nmmbroker run\n\n  a \\\n  --b \\\n# no comment here\nc | d # end\n"
    assert commands(Block(10, "console", content)) == [
        Command(12, "mmbroker run"),
        Command(14, "a \\\n  --b \\\n# no comment here"),
        Command(17, "c | d # end"),
    ]


def test_links_are_found_in_text_tables_pictures_references_and_html() -> None:
    page = (
        "[a](a.md) and ![b](b.svg)\n\n| x |\n|---|\n| [c](c.md#d) |\n\n[e][f]\n\n[f]: f.md\n\n"
        '<img src="g.png"/>\n\nIn <a href="h.md">text</a>, not in `[i](i.md)`.\n\n'
        "```text\n[j](j.md)\n```\n"
    )
    assert [each.target for each in links(page)] == [
        "a.md", "b.svg", "c.md#d", "f.md", "g.png", "h.md",
    ]  # fmt: skip
    assert next(links("text\n\n[a](a.md)\n")) == Link(3, "a.md")


@pytest.mark.parametrize(
    ("heading", "anchor"),
    [
        ("# What is measured, and how", "what-is-measured-and-how"),
        ("## `mmbroker top` & more", "mmbroker-top--more"),
        ("### Redshifts, version 2: the protocol", "redshifts-version-2-the-protocol"),
        ("# A [link](x.md) with *stress*", "a-link-with-stress"),
        ("# Snake_case, 5 % – so", "snake_case-5---so"),
        ("# Größe µm", "größe-µm"),
        ('# <a id="short"></a>Long', "long"),
        ("Underlined\n==========", "underlined"),
    ],
)  # fmt: skip
def test_anchors_are_those_of_github(heading: str, anchor: str) -> None:
    assert anchor in anchors(heading + "\n")


def test_anchors_of_equal_headings_count_up_and_html_has_its_own() -> None:
    page = '# One\n\n## One\n\n<a name="here"></a>\n\n```text\n# None\n```\n\n# One\n'
    assert anchors(page) == {"one", "one-1", "one-2", "here"}
    assert "short" in anchors('# <a id="short"></a>Long\n')


def test_code_within_text_is_found() -> None:
    page = "Use `mmbroker top\n--watch` or\n\n| `make test` |\n|---|\n\n```text\n`no`\n```\n"
    assert [each.text for each in code_in_text(page)] == ["mmbroker top --watch", "make test"]
