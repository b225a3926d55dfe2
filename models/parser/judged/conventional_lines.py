"""Finds lines conventionally, in the same spectra minus the same continuum, for comparison."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence

import numpy as np

from mmbroker.models.parser.judged.line_detections import Finder
from mmbroker.processors.features.lines import SHAPES
from mmbroker.processors.features.matched_filter import matched_filter_lines
from mmbroker.processors.features.patches import Patches
from mmbroker.processors.relations import FWHM_PER_SIGMA, SPEED_OF_LIGHT_KM_S
from mmbroker.schemas.events import Floats, ParsedLine

SMOOTHINGS_KM_S = (200.0, 400.0)
THRESHOLDS = tuple(np.arange(2.75, 9.1, 0.25).tolist())
LEAST_RATIO = 2.8
FIT_WINDOW_KM_S = 800.0
"""The reach of the fit to each side of a line that ``specutils`` measures."""

FIRST_WIDTH_KM_S = 300.0
"""The full width at half maximum with which its fits begin."""

_GAUSSIAN = np.array([1.0, 0.0, 0.0], np.float32)
_NARROWEST_SIGMA_KM_S = 20.0
_LEAST_CHANNELS = 6

FILTERS: dict[str, Finder] = {
    "matched filter": lambda spectra: [matched_filter_lines(one, LEAST_RATIO) for one in spectra],
    "matched filter, own noise": lambda spectra: [
        matched_filter_lines(one, LEAST_RATIO, own_noise=True) for one in spectra
    ],
}


def specutils_finders() -> dict[str, Finder]:
    """Make both line finders of ``specutils`` with all settings, by their name.

    There are none if it is not installed.
    """
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
    """The name of a finder of ``specutils`` with its settings.

    Args:
        method: ``threshold`` or ``derivative``.
        smoothing_km_s: the width of the smoothing in km/s.
        threshold: the threshold in sigma.
    """
    return f"specutils {method}, {smoothing_km_s:.0f} km/s, {threshold:.2f} sigma"


def _specutils(method: str, smoothing_km_s: float, threshold: float) -> Finder:
    def find(spectra: Sequence[Patches]) -> list[list[tuple[float, ParsedLine]]]:
        return [specutils_lines(one, method, smoothing_km_s, threshold) for one in spectra]

    return find


def specutils_lines(
    patches: Patches, method: str, smoothing_km_s: float, threshold: float
) -> list[tuple[float, ParsedLine]]:
    """Find emission lines with ``specutils`` in a smoothed signal-to-noise spectrum.

    The noise after smoothing is measured on the spectrum itself, robustly.

    Args:
        patches: the spectrum.
        method: ``threshold`` or ``derivative``.
        smoothing_km_s: the full width at half maximum of the smoothing in km/s.
        threshold: the threshold in sigma.

    Returns:
        The signal-to-noise ratio and the line, for each. A line has a frequency, and NaN for width
        and flux, see ``specutils_measured``.
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


def specutils_measured(patches: Patches, line: ParsedLine) -> ParsedLine:
    """Measure a line that ``specutils`` found with its ``fit_lines``.

    A Gaussian is fitted over velocities around the line, weighted by the stated errors. Errors are
    those of the fit's covariance, which astropy scales by the scatter of the residuals.

    Args:
        patches: the spectrum.
        line: the line.

    Returns:
        The line as measured; NaN where too few channels were observed.
    """
    from astropy import units
    from astropy.modeling.models import Gaussian1D
    from astropy.nddata import StdDevUncertainty
    from specutils import Spectrum
    from specutils.fitting import fit_lines

    velocity = SPEED_OF_LIGHT_KM_S * (1 - patches.frequency_hz / line.frequency_hz)
    near = np.flatnonzero((patches.weight > 0) & (np.abs(velocity) < FIT_WINDOW_KM_S))
    if len(near) < _LEAST_CHANNELS:
        return _line_at(line.frequency_hz)
    near = near[np.argsort(velocity[near])]
    velocity, flux_mjy = velocity[near], patches.flux_jy[near] * 1e3
    error_mjy = 1e3 / np.sqrt(patches.weight[near])
    first = Gaussian1D(
        amplitude=max(flux_mjy[np.abs(velocity).argmin()], error_mjy.min()),
        mean=0.0,
        stddev=FIRST_WIDTH_KM_S / FWHM_PER_SIGMA,
        bounds={
            "amplitude": (0.0, None),
            "mean": (-FIT_WINDOW_KM_S, FIT_WINDOW_KM_S),
            "stddev": (_NARROWEST_SIGMA_KM_S, FIT_WINDOW_KM_S),
        },
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        spectrum = Spectrum(
            spectral_axis=velocity * units.km / units.s,
            flux=flux_mjy * units.mJy,
            uncertainty=StdDevUncertainty(error_mjy),
        )
        fitted = fit_lines(spectrum, first, weights="unc")
    covariance = np.full((3, 3), math.nan)
    if fitted.cov_matrix is not None:
        covariance = np.asarray(fitted.cov_matrix.cov_matrix)
    return _fitted_line(line.frequency_hz, np.asarray(fitted.parameters), covariance)


def _fitted_line(frequency_hz: float, parameters: Floats, covariance: Floats) -> ParsedLine:
    """Convert a Gaussian over velocity to a line.

    Args:
        frequency_hz: the frequency at velocity 0, in Hz.
        parameters: amplitude in mJy, mean and standard deviation in km/s, shape (3,).
        covariance: the covariance of the parameters, shape (3, 3).
    """
    amplitude, mean, sigma = parameters.tolist()
    area = math.sqrt(2 * math.pi) / 1e3  # of a Gaussian, mJy to Jy
    slope = area * np.array([sigma, 0.0, amplitude])
    variance = np.append(np.diag(covariance)[1:], slope @ covariance @ slope)
    error = np.sqrt(np.where(variance > 0, variance, math.nan)).tolist()
    return ParsedLine(
        frequency_hz=frequency_hz * (1 - mean / SPEED_OF_LIGHT_KM_S),
        frequency_error_hz=error[0] / SPEED_OF_LIGHT_KM_S * frequency_hz,
        width_km_s=sigma * FWHM_PER_SIGMA,
        width_error_km_s=error[1] * FWHM_PER_SIGMA,
        flux_jy_km_s=area * amplitude * sigma,
        flux_error_jy_km_s=error[2],
        probability=math.nan,
        shape=SHAPES[0],
        shape_probabilities=_GAUSSIAN,
        identifications=[],
    )


def _line_at(frequency_hz: float) -> ParsedLine:
    return ParsedLine(
        frequency_hz, math.nan, math.nan, math.nan, math.nan, math.nan, math.nan, SHAPES[0],
        _GAUSSIAN, [],
    )  # fmt: skip
