from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mmbroker.models.packaged.line_recovery import load_line_recovery
from mmbroker.processors.fingerprint.merge import empty
from mmbroker.processors.lines.recover import recovered_lines
from mmbroker.processors.redshift import ConventionalRedshift
from mmbroker.schemas.events import Fingerprint, RecoveredLines
from mmbroker.schemas.records import to_record
from tests.processors.redshift.test_redshift import band, published, spectrum


def recovered(fingerprints: list[Fingerprint]) -> list[RecoveredLines | None]:
    estimated = ConventionalRedshift().estimate_fully(fingerprints)
    return recovered_lines(load_line_recovery(), "weak_lines 1 hash", estimated)


BRIGHT = spectrum(2.5, 11.0, [(84, 115), (129, 138)])
DUSTY = replace(
    empty("dusty"),
    bands=[band(250, 0.02, 0.002), band(500, 0.02, 0.002), band(850, 0.01, 0.001)],
    photometric_redshifts=[published(2.0)],
)


def test_a_measured_line_is_recovered_as_measured() -> None:
    (found,) = recovered([BRIGHT])
    assert found is not None
    place = found.lines.index("CO(3-2)")
    ratio = found.log_luminosity[place] - found.log_luminosity[found.lines.index("CO(1-0)")]
    assert found.log_luminosity[place] == pytest.approx(10.8, abs=0.15)
    assert -0.8 < ratio < 0.1
    assert found.half_width_68[place] < found.half_width_68.max() / 2
    assert (found.half_width_95 > found.half_width_68).all()


def test_dust_alone_says_something_and_less() -> None:
    with_lines, dust_alone = recovered([BRIGHT, DUSTY])
    assert with_lines is not None
    assert dust_alone is not None
    assert np.isfinite(dust_alone.flux_jy_km_s).all()
    assert dust_alone.half_width_68.min() > with_lines.half_width_68.min()


def test_of_nothing_nothing_is_recovered() -> None:
    assert recovered([empty("nothing")]) == [None]
    assert recovered([replace(empty("published"), photometric_redshifts=[published(2.0)])]) == [
        None
    ]


def test_a_batch_equals_its_galaxies_one_by_one_to_the_bit() -> None:
    galaxies = [BRIGHT, DUSTY, spectrum(1.2, 10.5, [(97, 112)]), empty("nothing")]
    together = recovered(galaxies)
    for galaxy, batched in zip(galaxies, together, strict=True):
        (alone,) = recovered([galaxy])
        assert (alone is None) == (batched is None)
        if alone is not None:
            assert to_record(alone) == to_record(batched)
