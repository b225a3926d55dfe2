"""Makes the list of features of a scored galaxy: lines and continuum of its fingerprint."""

from __future__ import annotations

from mmbroker.processors.redshift import spectral_lines
from mmbroker.processors.redshift.estimator import Estimated
from mmbroker.schemas.events import Feature, Fingerprint, RedshiftPosterior


def features_of(fingerprint: Fingerprint, estimated: Estimated) -> list[Feature]:
    """The features of a fingerprint: its significant lines, then its continuum."""
    found = _line_features(estimated.found, estimated.posterior)
    return [*found, *_continuum_features(fingerprint)]


def _line_features(
    found: list[spectral_lines.DetectedLine], posterior: RedshiftPosterior
) -> list[Feature]:
    named: dict[float, str] = {}
    if posterior.identifications:
        best = min(posterior.identifications, key=lambda mode: abs(mode.redshift - posterior.best))
        named = dict(zip(best.observed_frequencies_hz, best.lines, strict=True))
    return [
        Feature(
            kind="line",
            name=named.get(line.frequency_hz, "unidentified"),
            frequency_hz=line.frequency_hz,
            flux_density_jy=line.peak_jy,
            line_flux_jy_km_s=line.flux_jy_km_s,
            line_width_km_s=line.width_km_s,
            signal_to_noise=line.signal_to_noise,
        )
        for line in found
    ]


def _continuum_features(fingerprint: Fingerprint) -> list[Feature]:
    """One feature for each band and map."""
    found = [
        _continuum(band.band, band.frequency_hz, band.weight, band.weighted_flux)
        for band in fingerprint.bands
        if band.weight > 0
    ]
    for image in fingerprint.maps:
        if image.weight > 0:
            frequency = image.weighted_frequency / image.weight
            name = f"map at {frequency / 1e9:.1f} GHz"
            found.append(_continuum(name, frequency, image.weight, image.weighted_flux))
    return found


def _continuum(name: str, frequency_hz: float, weight: float, weighted_flux: float) -> Feature:
    return Feature(
        kind="continuum",
        name=name,
        frequency_hz=frequency_hz,
        flux_density_jy=weighted_flux / weight,
        signal_to_noise=weighted_flux / weight**0.5,
    )
