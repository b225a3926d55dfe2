"""What is kept only to be compared with."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmbroker.models.packaged import comparison
from mmbroker.models.realism.former import former_table
from mmbroker.models.redshift.baselines.eazy import eazy_estimates
from mmbroker.models.simulation.catalogue_surveys import SUPER_DEBLENDED


def test_an_installed_package_says_that_it_lacks_what_is_compared_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert eazy_estimates({}) == {}
    former_table(SUPER_DEBLENDED)
    monkeypatch.setattr(comparison, "COMPARISON", tmp_path)
    with pytest.raises(FileNotFoundError, match=r"former\.npz is missing: .* in a working copy"):
        former_table(SUPER_DEBLENDED)
    with pytest.raises(FileNotFoundError, match=r"eazy_reference\.npz is missing: .* working copy"):
        eazy_estimates({})
