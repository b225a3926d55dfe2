"""EAZY's redshifts are packaged, and are those of the fluxes that are judged."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mmbroker.models.packaged.templates import load_templates
from mmbroker.models.redshift.baselines.eazy import (
    LEAST_BANDS,
    Part,
    eazy_estimates,
    unfitted_parts,
)


@pytest.fixture(scope="module")
def given(shared_data: Path) -> dict[str, Part]:
    return unfitted_parts(shared_data, load_templates().templates)


def test_every_galaxy_has_an_estimate_from_the_same_fluxes(given: dict[str, Part]) -> None:
    assert len(given) == 4
    for name, estimate in eazy_estimates(given).items():
        part = given[name]
        assert part.measured.count.min() >= LEAST_BANDS
        assert len(estimate.redshift) == len(part.truth) > 100
        assert np.isfinite(estimate.redshift).all()
        assert np.median(np.abs(estimate.redshift - part.truth) / (1 + part.truth)) < 0.05


def test_estimates_from_other_fluxes_are_refused(given: dict[str, Part]) -> None:
    name, part = next(iter(given.items()))
    brighter = replace(part.measured, flux=1.01 * part.measured.flux)
    with pytest.raises(ValueError, match="made of other fluxes"):
        eazy_estimates({name: replace(part, measured=brighter)})
