"""Judging found lines: who matched what, and how pure and complete a list is."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import pytest

pytest.importorskip("onnxruntime")

from mmbroker.models.parser.judged.line_detections import (
    Judged,
    counts_by_spectrum,
    judge,
    purity_and_completeness,
    threshold_at_purity,
)
from mmbroker.processors.features.matched_filter import matched_filter_lines
from mmbroker.processors.features.patches import Patches
from mmbroker.schemas.events import ParsedLine

SPECTRA = 60


def matched(spectra: Sequence[Patches]) -> list[list[tuple[float, ParsedLine]]]:
    return [matched_filter_lines(one, 3.0) for one in spectra]


def blind(spectra: Sequence[Patches]) -> list[list[tuple[float, ParsedLine]]]:
    return [[] for _ in spectra]


@pytest.fixture(scope="module")
def judged() -> Judged:
    return judge({"matched": matched, "blind": blind}, SPECTRA, 5)


def test_no_true_line_is_found_twice(judged: Judged) -> None:
    which = judged.found["matched"].matched
    which = which[which >= 0]
    assert len(which) == len(set(which.tolist())) > 20
    found = judged.found["matched"]
    true = found.matched >= 0
    assert (judged.truth.spectrum[found.matched[true]] == found.spectrum[true]).all()


def test_a_higher_threshold_is_purer_and_finds_no_more(judged: Judged) -> None:
    spectra = np.arange(SPECTRA)
    results = [
        purity_and_completeness(judged, "matched", threshold, 4, 25, spectra)
        for threshold in (3.0, 6.0, 12.0)
    ]
    completeness = [complete for _, complete in results]
    assert completeness == sorted(completeness, reverse=True)
    assert results[1][0] > results[0][0]


def test_the_threshold_gives_the_purity_that_was_asked_for(judged: Judged) -> None:
    spectra = np.arange(SPECTRA)
    threshold = threshold_at_purity(judged.found["matched"], 0.8)
    assert purity_and_completeness(judged, "matched", threshold, 4, 25, spectra)[0] >= 0.8


def test_who_finds_nothing_is_not_complete_and_the_counts_add_up(judged: Judged) -> None:
    counts = counts_by_spectrum(judged, "blind", 0.0, 0.0, 1e3)
    assert counts.shape == (4, SPECTRA)
    assert counts[0].sum() == counts[3].sum() == 0
    assert counts[2].sum() == judged.truth.counted.sum()


def test_a_line_is_matched_where_it_was_found_however_it_is_measured(judged: Judged) -> None:
    def doubled(patches: Patches, line: ParsedLine) -> ParsedLine:
        return dataclasses.replace(line, frequency_hz=2 * line.frequency_hz, width_km_s=1.0)

    again = judge({"matched": matched, "other": matched}, SPECTRA, 5, {"matched": doubled})
    before, measured = judged.found["matched"], again.found["matched"]
    assert (measured.matched == before.matched).all()
    assert (measured.frequency_hz == 2 * before.frequency_hz).all()
    assert (measured.width_km_s == 1.0).all()
    assert (again.found["other"].frequency_hz == before.frequency_hz).all()


def test_fewer_spectra_of_a_seed_are_the_first_ones() -> None:
    few, more = judge({}, 30, 5), judge({}, 60, 5)
    assert (more.regime[:30] == few.regime).all()
    assert (more.truth.frequency_hz[more.truth.spectrum < 30] == few.truth.frequency_hz).all()
