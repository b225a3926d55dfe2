"""The probability that a redshift is right, and the terms that make it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmbroker.models.packaged.reliability import load_reliability, save_reliability
from mmbroker.models.packaged.templates import load_templates
from mmbroker.processors.fingerprint.merge import empty
from mmbroker.processors.redshift import ConventionalRedshift
from mmbroker.processors.redshift.grids import COARSE
from mmbroker.processors.scoring.reliability import (
    CHECKS,
    Term,
    checks_of,
    mass_around,
    probability_of,
)
from mmbroker.schemas.events import BandStatistics, Fingerprint, PublishedRedshift

ESTIMATOR = ConventionalRedshift()
TEMPLATES = load_templates()
MODEL = load_reliability()


def band(um: float, mjy: float, sigmas: float = 20.0) -> BandStatistics:
    error = mjy * 1e-3 / sigmas
    return BandStatistics(f"{um:g} um", 2.998e14 / um, error**-2, mjy * 1e-3 * error**-2, count=1)


def published(redshift: float, method: str = "EAZY", width: float = 0.05) -> PublishedRedshift:
    return PublishedRedshift(method, 58000.0, method, redshift, redshift - width, redshift + width)


def galaxy(*stated: PublishedRedshift, far: bool = True, near: bool = True) -> Fingerprint:
    bands = [band(um, 3 * (um / 350) ** -1) for um in (250, 350, 500)] if far else []
    if near:
        bands += [band(um, 0.02) for um in (2.146, 3.55, 4.493, 5.731, 7.872, 23.68)]
    return replace(empty("galaxy"), bands=bands, photometric_redshifts=list(stated))


def rated(*galaxies: Fingerprint) -> list[float | None]:
    evidence = ESTIMATOR.evidence(galaxies)
    evidence = replace(evidence, templates=TEMPLATES.fitted(galaxies))
    estimated = ESTIMATOR.estimate_fully(galaxies, evidence)
    found = MODEL.rate(galaxies, estimated, evidence)
    return [None if one is None else probability_of(one) for one in found]


GALAXIES = [
    galaxy(published(1.0), published(1.02, "other")),
    galaxy(published(1.0), far=False),
    galaxy(),
    galaxy(near=False),
    galaxy(published(1.0), near=False, far=False),
]


@given(order=st.permutations(range(len(GALAXIES))))
def test_a_batch_equals_its_galaxies_one_by_one_to_the_bit(order: list[int]) -> None:
    alone = [rated(GALAXIES[row])[0] for row in order]
    assert rated(*(GALAXIES[row] for row in order)) == alone


def test_galaxies_without_a_redshift_have_no_probability() -> None:
    assert rated(empty("nothing"), galaxy(far=False), GALAXIES[0])[:2] == [None, None]


def test_published_redshifts_are_more_often_right_than_those_by_dust() -> None:
    with_published, _, by_dust, *_ = rated(*GALAXIES)
    assert with_published is not None
    assert by_dust is not None
    assert with_published > 0.5 > by_dust


def test_what_is_not_known_is_no_number() -> None:
    bare = galaxy(published(1.0), near=False, far=False)
    evidence = replace(ESTIMATOR.evidence([bare]), templates=TEMPLATES.fitted([bare]))
    checks = checks_of([bare], ESTIMATOR.estimate_fully([bare], evidence), evidence)
    assert set(checks) == set(CHECKS)
    unknown = {name for name, values in checks.items() if np.isnan(values[0])}
    assert unknown == {
        "published disagreement", "mass by continuum", "mass by templates", "magnitude at 2.2 um",
        "S/N at 24 um", "far-infrared S/N", "radio S/N",
    }  # fmt: skip


def test_templates_have_to_be_fitted_before() -> None:
    evidence = ESTIMATOR.evidence(GALAXIES)
    with pytest.raises(ValueError, match="fitted templates"):
        MODEL.rate(GALAXIES, ESTIMATOR.estimate_fully(GALAXIES, evidence), evidence)


@given(redshift=st.floats(0.0, 8.0), width=st.floats(0.01, 0.3))
def test_the_mass_around_a_redshift_is_that_within_five_per_cent(
    redshift: float, width: float
) -> None:
    probability = np.exp(-0.5 * np.square((COARSE - np.log1p(2.0)) / width))[None]
    fine = np.linspace(0.0, COARSE[-1], 400_001)
    density = np.interp(fine, COARSE, probability[0])
    within = np.abs(np.expm1(fine) - redshift) <= 0.05 * (1 + np.expm1(fine))
    expected = density[within].sum() / density.sum()
    assert mass_around(probability, np.array([redshift]))[0] == pytest.approx(expected, abs=0.03)


def test_a_term_is_linear_between_its_values_constant_beyond_and_its_own_where_not_known() -> None:
    term = Term("bands", (0.0, 1.0, 3.0), (-1.0, 0.0, 4.0), 0.25)
    at = term.at(np.array([-5.0, 0.5, 2.0, 9.0, np.nan]))
    assert at.tolist() == [-1.0, -0.5, 2.0, 4.0, 0.25]
    with pytest.raises(ValueError, match="do not ascend"):
        Term("bands", (1.0, 0.0), (0.0, 1.0), 0.0)


def test_a_changed_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "reliability.json"
    save_reliability(MODEL, {"note": "as it was"}, path)
    assert load_reliability(path).identity == MODEL.identity
    text = path.read_text()
    path.write_text(text.replace('"constant": ', '"constant": 1', 1))
    with pytest.raises(ValueError, match="is not that of its numbers"):
        load_reliability(path)
    path.write_text("{}")
    with pytest.raises(ValueError, match="is not a model of reliability"):
        load_reliability(path)
