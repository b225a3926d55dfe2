"""Simulates spectra from published line fluxes.

The line fluxes are measurements; the channels and their noise are not. So these spectra are
published with ``simulated`` set.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mmbroker.processors.relations import FWHM_PER_SIGMA, SPEED_OF_LIGHT_KM_S
from mmbroker.processors.validation import MOST_CHANNELS
from mmbroker.schemas.events import Spectrum


@dataclass(frozen=True, slots=True)
class PublishedLine:
    """A Gaussian emission line.

    Attributes:
        frequency_hz: observed frequency of its centre.
        flux_jy_km_s: velocity-integrated flux density.
        error_jy_km_s: 1 sigma error of the flux.
        fwhm_km_s: full width at half maximum.
    """

    frequency_hz: float
    flux_jy_km_s: float
    error_jy_km_s: float
    fwhm_km_s: float

    @property
    def sigma_km_s(self) -> float:
        """Standard deviation of the profile in km/s."""
        return self.fwhm_km_s / FWHM_PER_SIGMA


def simulated_spectrum(
    lines: Sequence[PublishedLine],
    seed: str,
    channel_km_s: float,
    window_km_s: float,
    coverage_hz: tuple[float, float] | None = None,
    noise_jy: float | None = None,
) -> Spectrum | None:
    """Simulate a spectrum of Gaussian lines without continuum, with Gaussian noise.

    Channels are equal in ln(frequency). Without ``noise_jy`` the noise around a line is such that
    a fit of its profile recovers its published error: sigma_channel = error * sqrt(sum of the
    squares of the profile of unit flux), from weighting by the profile (Horne 1986, PASP 98 609).

    Args:
        lines: the lines; may be empty if ``coverage_hz`` is given.
        seed: text that determines the noise, so that a repeat gives the same spectrum.
        channel_km_s: width of a channel in km/s.
        window_km_s: range in km/s that is covered on each side of each line, if there is no
            ``coverage_hz``.
        coverage_hz: lowest and highest covered frequency in Hz.
        noise_jy: 1 sigma noise of a channel in Jy.

    Returns:
        The spectrum in the barycentric frame; None if fewer than two channels are covered.

    Raises:
        ValueError: it has more channels than a spectrum may have.
    """
    step = channel_km_s / SPEED_OF_LIGHT_KM_S
    centres = np.array([math.log(line.frequency_hz) for line in lines])
    if coverage_hz is not None:
        first, last = (math.log(edge) / step for edge in coverage_hz)
        _require_few(last - first)
        channels = np.arange(math.ceil(first), math.ceil(last))
    else:
        reach = window_km_s / channel_km_s
        _require_few(2.0 * reach)
        windows = [np.arange(round(c / step - reach), round(c / step + reach)) for c in centres]
        channels = np.unique(np.concatenate(windows)) if windows else np.arange(0)
    if len(channels) < 2:
        return None
    log_frequency = channels * step
    flux = np.zeros(len(channels))
    error = np.full(len(channels), noise_jy or np.inf)
    for line, centre in zip(lines, centres, strict=True):
        velocity = (log_frequency - centre) * SPEED_OF_LIGHT_KM_S
        sigma = line.sigma_km_s
        profile = np.exp(-0.5 * (velocity / sigma) ** 2) / (sigma * math.sqrt(2 * math.pi))
        flux += line.flux_jy_km_s * profile
        if noise_jy is None:
            # The sum of profile**2 over the channels, in closed form.
            concentration = 1.0 / (2.0 * math.sqrt(math.pi) * sigma * channel_km_s)
            near = np.abs(velocity) <= window_km_s + channel_km_s
            level = line.error_jy_km_s * math.sqrt(concentration)
            error[near] = np.minimum(error[near], level)
    noise = np.random.default_rng(_number(seed)).normal(size=len(channels)) * error
    return Spectrum(
        frequency_hz=np.exp(log_frequency),
        frame="BARYCENTRIC",
        flux_density_jy=(flux + noise).astype(np.float32),
        flux_error_jy=error.astype(np.float32),
    )


def _require_few(channels: float) -> None:
    if not channels <= MOST_CHANNELS:
        raise ValueError(f"a spectrum of {channels:.3g} channels: more than {MOST_CHANNELS:,}")


def _number(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")
