"""Which transition a single line is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmbroker.models.redshift.judged.one_line import spectra_of
from mmbroker.models.redshift.transitions.fit import PATH, FoundLines, fit
from mmbroker.processors.redshift import ConventionalRedshift
from mmbroker.processors.redshift.evidence_kind import EvidenceKind, evidence_kind
from mmbroker.processors.redshift.grids import FINE, FINE_POINTS
from mmbroker.processors.redshift.spectral_lines import DetectedLine
from mmbroker.processors.redshift.transitions import NAMES, Transitions, packaged_transitions
from mmbroker.processors.relations import LINES_HZ
from mmbroker.schemas.events import BandStatistics

CO32, CO43 = NAMES.index("CO(3-2)"), NAMES.index("CO(4-3)")


def lines(*each: tuple[int, float, float]) -> FoundLines:
    transition, redshift, flux = np.array(each, float).T
    names = np.array([str(number) for number in range(len(each))])
    return FoundLines(names, transition.astype(int), redshift, flux)


def detected(frequency_hz: float, signal_to_noise: float = 40.0) -> DetectedLine:
    return DetectedLine(0, frequency_hz, 2.0, 0.01, 400.0, signal_to_noise)


@pytest.mark.parametrize(("transition", "redshift"), [(CO32, 2.5), (CO43, 3.67)])
def test_a_line_is_what_lines_there_mostly_are(transition: int, redshift: float) -> None:
    """CO(3-2) at z = 2.5 and CO(4-3) at z = 3.67 are at one frequency."""
    found = fit(lines(*[(transition, redshift, 2.0)] * 30))
    frequency = LINES_HZ[NAMES[transition]] / (1 + redshift)
    place, share = found.shares(frequency, 2.0)
    assert share.argmax() == transition
    assert share[transition] > 0.9
    assert np.expm1(place[transition]) == pytest.approx(redshift)


def test_the_flux_of_a_line_tells_too() -> None:
    bright_or_faint = [(CO32, 2.5, 20.0)] * 30 + [(CO43, 3.67, 0.5)] * 30
    found = fit(lines(*bright_or_faint))
    frequency = LINES_HZ["CO(3-2)"] / 3.5
    assert found.shares(frequency, 20.0)[1].argmax() == CO32
    assert found.shares(frequency, 0.5)[1].argmax() == CO43


@given(st.floats(35e9, 1.9e12), st.floats(1e-4, 1e6))
def test_shares_are_probabilities_and_none_is_for_a_blueshift(
    frequency_hz: float, flux: float
) -> None:
    place, share = packaged_transitions().shares(frequency_hz, flux)
    assert share.sum() == pytest.approx(1.0)
    assert (share >= 0).all()
    assert (share[place < 0] == 0).all()


@given(st.integers(0, 1000), st.floats(90e9, 400e9), st.floats(5.0, 60.0))
def test_a_posterior_stays_one(seed: int, frequency_hz: float, signal_to_noise: float) -> None:
    random = np.random.default_rng(seed)
    probability, prior = (random.dirichlet(np.ones(FINE_POINTS)) for _ in range(2))
    line = detected(frequency_hz, signal_to_noise)
    result = packaged_transitions().applied(probability, prior, line)
    assert result.sum() == pytest.approx(1.0)
    assert (result >= 0).all()


def test_brighter_features_are_more_probably_lines() -> None:
    flat = np.full(FINE_POINTS, 1 / FINE_POINTS)
    at = packaged_transitions()
    place, _ = at.shares(100e9, 2.0)
    near = np.abs(FINE[:, None] - place).min(axis=1) < 5 * (FINE[1] - FINE[0])
    masses = [at.applied(flat, flat, detected(100e9, sn))[near].sum() for sn in (5, 15, 40)]
    assert masses == sorted(masses)
    assert masses[0] == pytest.approx(0.59, abs=0.01)
    assert masses[-1] == pytest.approx(0.99, abs=0.01)


def test_transitions_count_where_one_line_is_all_there_is() -> None:
    (alone,) = spectra_of(lines((CO32, 2.5, 2.0)))
    dust = BandStatistics("850 um", 3.5e11, 1e8, 1e8 * 5e-3, count=1)
    with_dust = replace(alone, bands=[dust])
    several = fit(lines(*[(CO43, 3.67, 2.0)] * 50))
    estimators = [ConventionalRedshift(), ConventionalRedshift(transitions=several)]
    before, after = (one.estimate([alone])[0] for one in estimators)
    assert after.best == pytest.approx(3.67, abs=0.02)
    assert evidence_kind(after) is EvidenceKind.ONE_LINE
    assert before.best != after.best
    same = [one.estimate([with_dust])[0] for one in estimators]
    assert (same[0].grid_probability == same[1].grid_probability).all()


def test_what_is_packaged_has_an_identity_of_its_own() -> None:
    found = packaged_transitions()
    assert found.density.shape[0] == len(NAMES)
    changed = found.density.copy()
    changed[0, 0, 0] += 1e-3
    assert Transitions(changed).identity != found.identity
    assert PATH.is_file()
