"""What specutils measures of lines that it found."""

from __future__ import annotations

import math

import numpy as np
import pytest

pytest.importorskip("onnxruntime")
pytest.importorskip("specutils")

from mmbroker.models.parser.judged.conventional_lines import specutils_lines, specutils_measured
from mmbroker.processors.features.patches import Patches, patches_of
from mmbroker.processors.relations import SPEED_OF_LIGHT_KM_S
from mmbroker.schemas.events import ParsedLine

CENTRE_HZ, WIDTH_KM_S, FLUX_JY_KM_S = 98.7e9, 300.0, 3.0
ERROR_JY = 4e-4


def spectrum(seed: int) -> Patches:
    """White noise with a Gaussian line."""
    frequency = np.linspace(95e9, 103e9, 600)
    velocity = SPEED_OF_LIGHT_KM_S * (1 - frequency / CENTRE_HZ)
    sigma = WIDTH_KM_S / math.sqrt(8 * math.log(2))
    line = FLUX_JY_KM_S / (sigma * math.sqrt(2 * math.pi)) * np.exp(-0.5 * (velocity / sigma) ** 2)
    noise = ERROR_JY * np.random.default_rng(seed).standard_normal(len(frequency))
    return patches_of(frequency, line + noise, np.full(len(frequency), ERROR_JY))


def brightest(patches: Patches) -> ParsedLine:
    return max(specutils_lines(patches, "threshold", 400.0, 5.0), key=lambda each: each[0])[1]


def test_a_gaussian_line_is_measured_within_its_errors() -> None:
    pulls = []
    for seed in range(30):
        patches = spectrum(seed)
        line = specutils_measured(patches, brightest(patches))
        pulls.append(
            [
                (line.frequency_hz - CENTRE_HZ) / line.frequency_error_hz,
                (line.width_km_s - WIDTH_KM_S) / line.width_error_km_s,
                (line.flux_jy_km_s - FLUX_JY_KM_S) / line.flux_error_jy_km_s,
            ]
        )
    assert np.abs(np.median(pulls, axis=0)).max() < 0.6
    scatter = np.std(pulls, axis=0)
    assert 0.6 < scatter.min() <= scatter.max() < 1.5


def test_where_in_a_line_the_fit_begins_does_not_matter() -> None:
    patches = spectrum(1)
    at = brightest(patches)
    beside = ParsedLine(
        at.frequency_hz * (1 + 100.0 / SPEED_OF_LIGHT_KM_S),
        *[math.nan] * 6,
        "gaussian",
        np.ones(1),
        [],
    )
    one, other = specutils_measured(patches, at), specutils_measured(patches, beside)
    assert other.frequency_hz == pytest.approx(one.frequency_hz, rel=1e-5)
    assert other.flux_jy_km_s == pytest.approx(one.flux_jy_km_s, rel=1e-2)


def test_where_too_little_was_observed_nothing_is_measured() -> None:
    patches = spectrum(2)
    outside = ParsedLine(120e9, *[math.nan] * 6, "gaussian", np.ones(1), [])
    line = specutils_measured(patches, outside)
    assert line.frequency_hz == 120e9
    assert math.isnan(line.width_km_s)
    assert math.isnan(line.flux_jy_km_s)
