"""Conventional line finders, on the same spectra and with the same continuum taken off."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence

import numpy as np

from processors.features.matched_filter import matched_filter_lines
from processors.features.patches import Patches
from processors.features.tree import SHAPES, SpectralLine

from .line_detections import Finder

SMOOTHINGS_KM_S = (200.0, 400.0)
THRESHOLDS = tuple(np.arange(2.75, 9.1, 0.25).tolist())
LEAST_RATIO = 2.8

FILTERS: dict[str, Finder] = {
    "matched filter": lambda spectra: [matched_filter_lines(one, LEAST_RATIO) for one in spectra],
    "matched filter, own noise": lambda spectra: [
        matched_filter_lines(one, LEAST_RATIO, own_noise=True) for one in spectra
    ],
}


def specutils_finders() -> dict[str, Finder]:
    """Both line finders of ``specutils``, by smoothing and threshold; none where it is missing."""
    try:
        import specutils  # noqa: F401
    except ImportError:
        return {}
    return {
        specutils_name(method, smoothing, threshold): _specutils(method, smoothing, threshold)
        for method in ("threshold", "derivative")
        for smoothing in SMOOTHINGS_KM_S
        for threshold in THRESHOLDS
    }


def specutils_name(method: str, smoothing_km_s: float, threshold: float) -> str:
    """Of one of its settings."""
    return f"specutils {method}, {smoothing_km_s:.0f} km/s, {threshold:.2f} sigma"


def _specutils(method: str, smoothing_km_s: float, threshold: float) -> Finder:
    def find(spectra: Sequence[Patches]) -> list[list[tuple[float, SpectralLine]]]:
        return [specutils_lines(one, method, smoothing_km_s, threshold) for one in spectra]

    return find


def specutils_lines(
    patches: Patches, method: str, smoothing_km_s: float, threshold: float
) -> list[tuple[float, SpectralLine]]:
    """Emission lines of ``specutils`` in a smoothed signal-to-noise spectrum.

    The noise after smoothing is measured on the spectrum itself, robustly. They tell where lines
    are, not how wide or bright: these are not numbers.
    """
    from astropy import units
    from astropy.nddata import StdDevUncertainty
    from scipy.ndimage import gaussian_filter1d
    from specutils import Spectrum
    from specutils.fitting import find_lines_derivative, find_lines_threshold

    seen = patches.weight > 0
    frequency = patches.frequency_hz[seen]
    order = np.argsort(frequency)
    frequency = frequency[order]
    ratio = (patches.flux_jy * np.sqrt(patches.weight))[seen][order]
    sigma = smoothing_km_s / 2.355 / float(np.median(patches.width_km_s[seen]))
    smooth = gaussian_filter1d(ratio, sigma)
    smooth = smooth / max(1.4826 * float(np.median(np.abs(smooth - np.median(smooth)))), 1e-9)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        spectrum = Spectrum(
            spectral_axis=frequency * units.Hz,
            flux=smooth * units.one,
            uncertainty=StdDevUncertainty(np.ones(len(smooth))),
        )
        if method == "threshold":
            table = find_lines_threshold(spectrum, noise_factor=threshold)
        else:
            table = find_lines_derivative(spectrum, flux_threshold=threshold)
    at = [int(row["line_center_index"]) for row in table if row["line_type"] == "emission"]
    return [(float(smooth[index]), _line_at(float(frequency[index]))) for index in at]


def _line_at(frequency_hz: float) -> SpectralLine:
    return SpectralLine(
        frequency_hz, math.nan, math.nan, math.nan, math.nan, math.nan, math.nan, SHAPES[0],
        (1.0, 0.0, 0.0),
    )  # fmt: skip
