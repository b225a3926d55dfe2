"""Computes what one observation adds to a fingerprint.

All work that takes time is done here, once for each observation and without its galaxy: the
spectrum is put on the grid, and the map is measured. Merging is then a few additions.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, field

import numpy as np
from astropy.coordinates import get_body_barycentric_posvel
from astropy.time import Time
from numba import njit
from numpy.typing import NDArray

from mmbroker.processors.fingerprint.errors import UnusableError
from mmbroker.processors.fingerprint.map_photometry import measure
from mmbroker.processors.frequency_grid import EDGES_HZ
from mmbroker.processors.relations import (
    LSRK_APEX_DECLINATION_DEG,
    LSRK_APEX_RIGHT_ASCENSION_DEG,
    LSRK_SOLAR_SPEED_KM_S,
    SPEED_OF_LIGHT_KM_S,
)
from mmbroker.processors.sky import Position, unit_vector
from mmbroker.schemas.events import (
    CHUNK_BINS,
    AcquisitionStatistics,
    BandMeasurement,
    BandStatistics,
    Document,
    Floats,
    MapStatistics,
    Observation,
    ParsedObservation,
    PhotometricRedshift,
    PublishedRedshift,
    Spectrum,
)

_NO_CHUNKS = (
    np.zeros(0, np.int32),
    np.zeros((0, CHUNK_BINS)),
    np.zeros((0, CHUNK_BINS)),
)


@dataclass(frozen=True, slots=True, eq=False)
class Contribution:
    """The contribution of one observation; fields as in ``schemas.events.Fingerprint``.

    Attributes:
        observation_hash: BLAKE2b-128 of the observation's id, 16 bytes.
        position: position of the observation.
        position_sums: float64, shape (4,).
        chunk_index: int32, shape (chunks,).
        chunk_weight: float64, shape (chunks, 64), Jy**-2.
        chunk_weighted_flux: float64, shape (chunks, 64), Jy**-1.
        bands: photometry, with one entry for each band.
        maps: at most one map.
        photometric_redshifts: at most one redshift.
        documents: at most one document.
        acquisition: counts of the one observation.
        instruments: its one instrument.
        parsed: the feature tree of its spectrum or map; empty if there is none.
    """

    observation_hash: bytes
    position: Position
    position_sums: Floats
    chunk_index: NDArray[np.int32]
    chunk_weight: Floats
    chunk_weighted_flux: Floats
    bands: list[BandStatistics]
    maps: list[MapStatistics]
    photometric_redshifts: list[PublishedRedshift]
    documents: list[Document]
    acquisition: AcquisitionStatistics
    instruments: list[str]
    parsed: list[ParsedObservation] = field(default_factory=list)


def observation_hash(observation_id: str) -> bytes:
    """BLAKE2b-128 of an observation's id, 16 bytes."""
    return hashlib.blake2b(observation_id.encode(), digest_size=16).digest()


def contribution(observation: Observation) -> Contribution:
    """What a valid observation adds to its galaxy's fingerprint.

    Raises:
        UnusableError: the payload cannot be used; the message says why.
    """
    try:
        return _contribution(observation)
    except UnusableError:
        raise
    except (
        ArithmeticError,
        ValueError,
    ) as error:  # numpy, astropy and numba on a stranger's numbers
        payload = ", ".join(observation.payloads)
        raise UnusableError(
            f"{payload} has numbers that cannot be used: {type(error).__name__}: {error}"
        ) from error


def _contribution(observation: Observation) -> Contribution:
    index, weight, weighted_flux = (
        _NO_CHUNKS if observation.spectrum is None else _on_grid(observation, observation.spectrum)
    )
    position = position_of(observation)
    photometry = observation.photometry
    document = observation.document
    return Contribution(
        observation_hash=observation_hash(observation.observation_id),
        position=position,
        position_sums=position_sums(position),
        chunk_index=index,
        chunk_weight=weight,
        chunk_weighted_flux=weighted_flux,
        bands=[] if photometry is None else list(map(_band, photometry.measurements)),
        maps=_maps(observation),
        photometric_redshifts=_published(observation, observation.photometric_redshift),
        documents=[] if document is None else [document],
        acquisition=_acquisition(observation),
        instruments=[observation.instrument],
    )


def position_of(observation: Observation) -> Position:
    """The position of an observation, with its error."""
    return Position(
        observation.right_ascension_deg,
        observation.declination_deg,
        observation.position_error_arcsec,
    )


def position_sums(position: Position) -> Floats:
    """What a position adds to ``Fingerprint.position_sums``, float64, shape (4,)."""
    weight = position.error_arcsec**-2
    vector = unit_vector(position.right_ascension_deg, position.declination_deg)
    sums = np.empty(4)
    sums[:3], sums[3] = weight * vector, weight
    return sums


def spectrum_on_grid(
    frequency_hz: Floats, flux_jy: Floats, error_jy: Floats
) -> tuple[Floats, Floats]:
    """Sums of inverse variance, and of inverse variance times flux density, per bin.

    The weight of a channel is spread over the bins that it covers in proportion to the overlap. So
    the total weight is conserved for channels narrower and wider than a bin. The width of a channel
    is the distance to the nearer of its two neighbours, so that gaps between spectral windows stay
    empty.

    Args:
        frequency_hz: strictly monotonic channel centres, float64, shape (channels,).
        flux_jy: flux densities, shape (channels,); NaN marks a flagged channel.
        error_jy: 1 sigma errors, shape (channels,); NaN marks a flagged channel.

    Returns:
        Weight in Jy**-2 and weighted flux in Jy**-1, float64, shape (BINS,) each.
    """
    ascending = slice(None, None, -1 if frequency_hz[0] > frequency_hz[-1] else 1)
    # Copies of one type and layout: numba would compile the function again for every other one.
    frequency, flux, error = (
        np.array(each[ascending], float) for each in (frequency_hz, flux_jy, error_jy)
    )
    edge_hz, *sums = _summed(frequency, flux, error)
    weight, weighted_flux = (np.diff(np.interp(EDGES_HZ, edge_hz, each)) for each in sums)
    return weight, weighted_flux


@njit(cache=True)
def _summed(
    frequency_hz: Floats, flux_jy: Floats, error_jy: Floats
) -> tuple[Floats, Floats, Floats]:
    """The edges of all channels, low and high in turn, and the sums over channels below each edge.

    Args:
        frequency_hz: as for ``spectrum_on_grid``, but ascending.
        flux_jy: as for ``spectrum_on_grid``.
        error_jy: as for ``spectrum_on_grid``.

    Returns:
        Edges in Hz, sums of weight in Jy**-2, and sums of weighted flux in Jy**-1; float64, shape
        (2 * channels,) each.
    """
    channels = len(frequency_hz)
    edge_hz, below, flux_below = np.empty((3, 2 * channels))
    total = flux_total = 0.0
    for channel in range(channels):
        left, right = max(channel, 1), min(channel, channels - 2)
        width = min(
            frequency_hz[left] - frequency_hz[left - 1],
            frequency_hz[right + 1] - frequency_hz[right],
        )
        low, high = 2 * channel, 2 * channel + 1
        edge_hz[low] = frequency_hz[channel] - width / 2
        edge_hz[high] = frequency_hz[channel] + width / 2
        below[low], flux_below[low] = total, flux_total
        error = error_jy[channel]
        if math.isfinite(flux_jy[channel]) and math.isfinite(error) and error > 0:
            total += 1.0 / (error * error)
            flux_total += 1.0 / (error * error) * flux_jy[channel]
        below[high], flux_below[high] = total, flux_total
    return edge_hz, below, flux_below


def _on_grid(
    observation: Observation, spectrum: Spectrum
) -> tuple[NDArray[np.int32], Floats, Floats]:
    weight, weighted_flux = spectrum_on_grid(
        barycentric_frequency_hz(observation, spectrum),
        spectrum.flux_density_jy,
        spectrum.flux_error_jy,
    )
    chunk_weight = weight.reshape(-1, CHUNK_BINS)
    index = np.flatnonzero(chunk_weight.any(axis=1)).astype(np.int32)
    if not index.size:
        low, high = spectrum.frequency_hz.min(), spectrum.frequency_hz.max()
        raise UnusableError(
            f"spectrum.frequency_hz = {low:.6g} ... {high:.6g} has no valid channel between "
            f"{EDGES_HZ[0]:.3g} and {EDGES_HZ[-1]:.3g} Hz"
        )
    return index, chunk_weight[index], weighted_flux.reshape(-1, CHUNK_BINS)[index]


def barycentric_frequency_hz(observation: Observation, spectrum: Spectrum) -> Floats:
    """The channels' frequencies in the barycentric frame in Hz, float64, shape (channels,).

    Topocentric axes are corrected for the Earth's orbit. Its rotation is left out: it is at most
    0.5 km/s, a five-hundredth of a bin.
    """
    if spectrum.frame == "BARYCENTRIC":
        return spectrum.frequency_hz
    direction = unit_vector(observation.right_ascension_deg, observation.declination_deg)
    if spectrum.frame == "LSRK":
        apex = unit_vector(LSRK_APEX_RIGHT_ASCENSION_DEG, LSRK_APEX_DECLINATION_DEG)
        towards = -LSRK_SOLAR_SPEED_KM_S * float(apex @ direction)
    else:
        time = Time(observation.time_mjd, format="mjd", scale=observation.time_scale.lower())
        _, velocity = get_body_barycentric_posvel("earth", time, ephemeris="builtin")
        towards = float(velocity.xyz.to_value("km / s") @ direction)
    return spectrum.frequency_hz * (1.0 - towards / SPEED_OF_LIGHT_KM_S)


def _band(measurement: BandMeasurement) -> BandStatistics:
    if measurement.flux_density_jy is None:
        return BandStatistics(
            measurement.band,
            measurement.frequency_hz,
            upper_limit_jy=measurement.upper_limit_jy,
            upper_limit_error_jy=measurement.flux_error_jy,
        )
    weight = measurement.flux_error_jy**-2
    flux = measurement.flux_density_jy
    return BandStatistics(
        measurement.band, measurement.frequency_hz, weight, weight * flux, weight * flux**2, 1
    )


def _maps(observation: Observation) -> list[MapStatistics]:
    if observation.continuum_map is None:
        return []
    return [
        measure(
            observation.continuum_map,
            observation.right_ascension_deg,
            observation.declination_deg,
        )
    ]


def _published(
    observation: Observation, estimate: PhotometricRedshift | None
) -> list[PublishedRedshift]:
    if estimate is None:
        return []
    return [
        PublishedRedshift(
            estimate.method,
            observation.time_mjd,
            observation.observation_id,
            estimate.redshift,
            estimate.lower_68,
            estimate.upper_68,
            estimate.grid_redshift,
            estimate.grid_density,
        )
    ]


def _acquisition(observation: Observation) -> AcquisitionStatistics:
    how = observation.acquisition
    return AcquisitionStatistics(
        observations=1,
        spectra=int(observation.spectrum is not None),
        maps=int(observation.continuum_map is not None),
        photometry=int(observation.photometry is not None),
        photometric_redshifts=int(observation.photometric_redshift is not None),
        documents=int(observation.document is not None),
        simulated=int(observation.simulated),
        quality_pass=int(how.quality == "PASS"),
        quality_semipass=int(how.quality == "SEMIPASS"),
        quality_fail=int(how.quality == "FAIL"),
        calibration_known=int(how.calibration is not None),
        project_known=int(how.project is not None or how.bibcode is not None),
        open_data=int(how.data_url is not None or how.bibcode is not None),
        array_known=int(how.array is not None and how.integration_time_s is not None),
        integration_time_s=how.integration_time_s or 0.0,
        first_mjd=observation.time_mjd,
        last_mjd=observation.time_mjd,
    )
