"""What is said of a scored galaxy, in words."""

import dataclasses

import pytest
from rich.console import Console

from mmbroker.schemas.events import ScoredGalaxy
from mmbroker.streams.subscribing.explain import explain


def said(galaxy: ScoredGalaxy) -> str:
    console = Console(width=200)
    with console.capture() as capture:
        console.print(explain(galaxy))
    return capture.get()


@pytest.mark.parametrize("inputs", [["dust", "lines"], ["dust"]])
def test_it_is_said_why_a_spectrum_has_no_feature_tree(
    scored: ScoredGalaxy, inputs: list[str]
) -> None:
    redshift = dataclasses.replace(scored.redshift, inputs=inputs)
    unread = dataclasses.replace(scored, redshift=redshift, parsed=[])
    assert ("no spectrum was read by a parser" in said(unread)) == ("lines" in inputs)


def test_nothing_is_missing_where_a_spectrum_was_read(scored: ScoredGalaxy) -> None:
    assert any(tree.morphology is None for tree in scored.parsed)
    redshift = dataclasses.replace(scored.redshift, inputs=["lines"])
    assert "no spectrum was read" not in said(dataclasses.replace(scored, redshift=redshift))
