"""What is said of a scored galaxy, in words."""

import dataclasses

import pytest
from rich.console import Console

from mmbroker.schemas.codec import Codec
from mmbroker.schemas.events import Feature, Fingerprint, ScoredGalaxy
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


@pytest.mark.parametrize(
    ("frequency_hz", "why"),
    [(23.05e9, "a line at 23.05 GHz lies outside"), (124e9, "its score does not say")],
)
def test_of_an_unread_spectrum_it_is_said_which_condition_failed_if_that_is_known(
    scored: ScoredGalaxy, frequency_hz: float, why: str
) -> None:
    line = Feature("line", "CO(1-0)", frequency_hz=frequency_hz, signal_to_noise=6.4)
    redshift = dataclasses.replace(scored.redshift, inputs=["lines"])
    unread = dataclasses.replace(scored, redshift=redshift, parsed=[], features=[line])
    assert why in " ".join(said(unread).split())


def test_what_the_parser_did_not_find_is_told_as_what_it_read(scored: ScoredGalaxy) -> None:
    tree = next(each for each in scored.parsed if each.morphology is None)
    empty = dataclasses.replace(scored, parsed=[dataclasses.replace(tree, lines=[])])
    assert f"{tree.observation_id} as read by" in said(empty)
    assert "no line found" in said(empty)


def test_schemas_are_named_as_check_names_them(scored: ScoredGalaxy) -> None:
    ours = Codec().schema_id(Fingerprint)
    for number, name in ((ours, f"Fingerprint v3 (id {ours})"), (999, "with id 999")):
        provenance = dataclasses.replace(scored.provenance, schema_id=number)
        assert name in said(dataclasses.replace(scored, provenance=provenance))


def test_nothing_is_missing_where_a_spectrum_was_read(scored: ScoredGalaxy) -> None:
    assert any(tree.morphology is None for tree in scored.parsed)
    redshift = dataclasses.replace(scored.redshift, inputs=["lines"])
    assert "no spectrum was read" not in said(dataclasses.replace(scored, redshift=redshift))


def test_what_makes_the_probability_high_or_low_is_said_in_words(scored: ScoredGalaxy) -> None:
    text = said(scored)
    assert "higher since the colours agree with it" in text
    assert "lower since published intervals are wide" in text
    assert "× 2.12" in text  # exp(0.75), of the templates
    assert "published with far infrared or radio" in text


def test_modes_are_shown_where_there_are_several(scored: ScoredGalaxy) -> None:
    assert "68 % of the probability in [3.311, 3.524]" in said(scored)
    assert scored.redshift is not None
    one = dataclasses.replace(scored.redshift, modes=scored.redshift.modes[:1])
    assert "modes" not in said(dataclasses.replace(scored, redshift=one))


def test_a_galaxy_without_a_redshift_says_why(scored: ScoredGalaxy) -> None:
    why = "no redshift yet: no line of its spectrum was identified"
    without = dataclasses.replace(
        scored, redshift=None, probability=None, reliability=None, redshift_reason=why, rank=0
    )
    text = said(without)
    assert why in text
    assert "not ranked" in text
    assert "68 % in" not in text


def test_scores_of_earlier_versions_are_explained_without_what_they_lack(
    scored: ScoredGalaxy,
) -> None:
    earlier = dataclasses.replace(scored, reliability=None)
    assert earlier.redshift is not None
    bare = dataclasses.replace(earlier.redshift, modes=[], interval_68_pieces=[])
    text = said(dataclasses.replace(earlier, redshift=bare))
    assert "z = " in text
    assert "why:" not in text
