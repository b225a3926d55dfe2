"""Generated observations: valid ones of every kind."""

from __future__ import annotations

import numpy as np
from astropy.wcs import WCS
from hypothesis import strategies as st

from mmbroker.processors.fingerprint.merge import observation_hashes
from mmbroker.schemas.events import (
    Acquisition,
    BandMeasurement,
    ContinuumMap,
    Document,
    Fingerprint,
    Observation,
    PhotometricRedshift,
    Photometry,
    Spectrum,
)


def members(fingerprint: Fingerprint) -> set[bytes]:
    """Hashes of the observations merged in a fingerprint."""
    return set(observation_hashes(fingerprint))


BANDS = {"SPIRE-250": 1.199e12, "SPIRE-500": 5.996e11, "SCUBA2-850": 3.527e11, "VLA-1.4": 1.4e9}

fluxes = st.floats(-0.05, 0.5)
errors = st.floats(1e-4, 0.05)
names = st.text("abcdefgh-0123456789", min_size=1, max_size=12)


@st.composite
def measurements(draw: st.DrawFn) -> BandMeasurement:
    band = draw(st.sampled_from(sorted(BANDS)))
    if draw(st.booleans()):
        return BandMeasurement(band, BANDS[band], draw(fluxes), draw(errors))
    error = draw(errors)
    return BandMeasurement(band, BANDS[band], None, error, 3 * error)


photometry = st.lists(measurements(), min_size=1, max_size=4, unique_by=lambda each: each.band).map(
    Photometry
)


@st.composite
def spectra(draw: st.DrawFn) -> Spectrum:
    channels = draw(st.integers(2, 60))
    start = draw(st.floats(84e9, 300e9))
    step = draw(st.floats(5e6, 500e6))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    frequency = start + step * np.arange(channels)
    return Spectrum(
        frequency_hz=frequency if draw(st.booleans()) else frequency[::-1].copy(),
        frame=draw(st.sampled_from(["BARYCENTRIC", "LSRK", "TOPOCENTRIC"])),
        flux_density_jy=random.normal(0, 1e-3, channels).astype(np.float32),
        flux_error_jy=random.uniform(5e-4, 2e-3, channels).astype(np.float32),
    )


def continuum_map(
    right_ascension_deg: float, declination_deg: float, flux_jy: float = 5e-3, seed: int = 0
) -> ContinuumMap:
    """A point source with 1e-4 Jy/beam noise in a 0.6 arcsec beam, at the centre of 48 x 48."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---SIN", "DEC--SIN"]
    wcs.wcs.crval = [right_ascension_deg, declination_deg]
    wcs.wcs.crpix = [24.5, 24.5]
    wcs.wcs.cdelt = [-0.1 / 3600, 0.1 / 3600]
    y, x = np.indices((48, 48)) - 23.5
    beam = np.exp(-4 * np.log(2) * (x**2 + y**2) / 6.0**2)
    noise = np.random.default_rng(seed).normal(0, 1e-4, (48, 48))
    return ContinuumMap(
        image_jy_per_beam=(flux_jy * beam + noise).astype(np.float32).ravel(),
        height=48,
        width=48,
        wcs_header=wcs.to_header_string(),
        frequency_hz=343.5e9,
        beam_major_arcsec=0.6,
        beam_minor_arcsec=0.6,
    )


photometric_redshifts = st.builds(
    PhotometricRedshift,
    method=st.sampled_from(["EAZY", "LePhare"]),
    redshift=st.floats(0.1, 6.0),
)
documents = st.builds(
    Document,
    url=names.map(lambda name: f"https://example.org/{name}.pdf"),
    media_type=st.just("application/pdf"),
)


@st.composite
def observations(
    draw: st.DrawFn,
    right_ascension_deg: float = 150.0,
    declination_deg: float = 2.0,
    scatter_arcsec: float = 0.1,
) -> Observation:
    """An observation near a position."""
    offset = st.floats(-scatter_arcsec, scatter_arcsec)
    payload = draw(
        st.sampled_from(
            ["photometry", "spectrum", "photometric_redshift", "document", "continuum_map"]
        )
    )
    right_ascension = right_ascension_deg + draw(offset) / 3600
    declination = declination_deg + draw(offset) / 3600
    content = {
        "photometry": photometry,
        "spectrum": spectra(),
        "photometric_redshift": photometric_redshifts,
        "document": documents,
        "continuum_map": st.integers(0, 99).map(
            lambda seed: continuum_map(right_ascension_deg, declination_deg, seed=seed)
        ),
    }[payload]
    return Observation(
        observation_id=draw(st.uuids()).hex,
        instrument=draw(st.sampled_from(["ALMA", "SPIRE", "VLA"])),
        right_ascension_deg=right_ascension % 360.0,
        declination_deg=declination,
        position_error_arcsec=draw(st.floats(0.1, 1.0)),
        time_mjd=draw(st.floats(56000.0, 61000.0)),
        acquisition=Acquisition(
            project=draw(st.none() | names),
            quality=draw(st.sampled_from(["PASS", "SEMIPASS", "FAIL", "UNKNOWN"])),
            integration_time_s=draw(st.none() | st.floats(1.0, 1e4)),
        ),
        **{payload: draw(content)},  # type: ignore[arg-type]
    )
