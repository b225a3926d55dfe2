"""The lines that transitions are learned from, and how redshifts by one line do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mmbroker.models.real_data.line_tables import read_lines
from mmbroker.models.redshift.judged import one_line
from mmbroker.models.redshift.transitions.fit import fit, found_lines
from mmbroker.processors.redshift.transitions import packaged_transitions


def test_what_is_packaged_is_fitted_to_the_published_lines(shared_data: Path) -> None:
    again = fit(found_lines(read_lines(shared_data)))
    assert again.density == pytest.approx(packaged_transitions().density, rel=1e-4)


@pytest.mark.slow
def test_intervals_by_one_line_hold_what_they_say_in_galaxies_left_out(shared_data: Path) -> None:
    found = one_line.judged(shared_data)
    ours = found["by transitions of other galaxies"]
    assert ours["n"] > 500
    assert 0.63 <= ours["held68"] <= 0.73
    assert 0.92 <= ours["held95"] <= 0.98
    alike = found["every transition alike"]
    assert ours["right"][0] > alike["right"][0] + 0.2


def test_a_mode_that_is_cut_by_the_middle_counts_in_part() -> None:
    below, at = np.array([0.0, 0.4, 0.9]), np.array([0.32, 0.2, 0.1])
    assert one_line._part_within(below, at, 0.68).tolist() == pytest.approx([0.5, 1.0, 0.0])
