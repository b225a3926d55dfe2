"""Makes a galaxy's fingerprint, merges contributions into it, and reads it.

Almost all parts are sums, minima or maxima. So merging is associative and commutative up to
rounding, and its cost depends on the contribution, not on the history. The exceptions are the
hashes of the observations and the recent sources, which are in the order of merging.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import numpy as np

from mmbroker.processors.fingerprint.contribution import Contribution, contribution
from mmbroker.processors.sky import Position
from mmbroker.schemas.events import (
    CHUNK_BINS,
    AcquisitionStatistics,
    BandStatistics,
    Document,
    Fingerprint,
    Floats,
    MapStatistics,
    Observation,
    ParsedObservation,
    PublishedRedshift,
    Source,
)

MAX_OBSERVATIONS = 100_000
"""Most observations of a fingerprint: their hashes, 16 bytes each, grow with its history."""

MAX_BANDS = 256
MAX_MAPS = 256
MAX_METHODS = 16
MAX_DOCUMENTS = 16
MAX_INSTRUMENTS = 32
MAX_CANDIDATES = 8
MAX_RECENT_SOURCES = 8
MAX_PARSED = 8

T = TypeVar("T")


class FingerprintFullError(ValueError):
    """Raised when an observation would make a fingerprint too large; the message says in what."""


def galaxy_id(founding_observation_id: str) -> str:
    """The id of the galaxy that an observation founds; it never changes."""
    digest = hashlib.blake2b(founding_observation_id.encode(), digest_size=10).digest()
    return "mm-" + base64.b32encode(digest).decode().lower()


def empty(galaxy: str) -> Fingerprint:
    """The fingerprint of a galaxy without observations."""
    return Fingerprint(
        galaxy_id=galaxy,
        version=0,
        right_ascension_deg=0.0,
        declination_deg=0.0,
        position_error_arcsec=math.inf,
        position_sums=np.zeros(4),
        chunk_index=np.zeros(0, np.int32),
        chunk_weight=np.zeros((0, CHUNK_BINS)),
        chunk_weighted_flux=np.zeros((0, CHUNK_BINS)),
        bands=[],
        maps=[],
        photometric_redshifts=[],
        documents=[],
        acquisition=AcquisitionStatistics(),
        instruments=[],
        candidates=[],
        observation_hashes=b"",
        digest=bytes(16),
        recent_sources=[],
    )


def vacated(fingerprint: Fingerprint) -> Fingerprint:
    """The fingerprint of a galaxy whose last observation was withdrawn; it keeps its position."""
    return dataclasses.replace(
        empty(fingerprint.galaxy_id),
        right_ascension_deg=fingerprint.right_ascension_deg,
        declination_deg=fingerprint.declination_deg,
        position_error_arcsec=fingerprint.position_error_arcsec,
    )


def merge(
    fingerprint: Fingerprint,
    added: Contribution,
    source: Source,
    candidates: Iterable[str] = (),
) -> Fingerprint:
    """The fingerprint with one more observation; its version grows by one.

    The caller must merge an observation only once, because a repeat would count twice.

    Args:
        fingerprint: fingerprint of the galaxy so far, or ``empty``.
        added: contribution of the observation.
        source: where the observation was read.
        candidates: other galaxies that it could belong to, when the association is ambiguous.

    Raises:
        FingerprintFullError: a list would grow beyond its largest length.
    """
    if fingerprint.acquisition.observations >= MAX_OBSERVATIONS:
        raise FingerprintFullError(f"the fingerprint holds {MAX_OBSERVATIONS} observations already")
    position_sums = fingerprint.position_sums + added.position_sums
    position = mean_position(position_sums)
    index, weight, weighted_flux = _merge_chunks(fingerprint, added)
    candidates = list(candidates)
    acquisition = dataclasses.replace(added.acquisition, ambiguous=int(bool(candidates)))
    return Fingerprint(
        galaxy_id=fingerprint.galaxy_id,
        version=fingerprint.version + 1,
        right_ascension_deg=position.right_ascension_deg,
        declination_deg=position.declination_deg,
        position_error_arcsec=position.error_arcsec,
        position_sums=position_sums,
        chunk_index=index,
        chunk_weight=weight,
        chunk_weighted_flux=weighted_flux,
        bands=_merge_lists(fingerprint.bands, added.bands, _band_key, _merge_bands, MAX_BANDS),
        maps=_merge_lists(fingerprint.maps, added.maps, _map_key, _merge_maps, MAX_MAPS),
        photometric_redshifts=_merge_lists(
            fingerprint.photometric_redshifts,
            added.photometric_redshifts,
            lambda each: each.method,
            _newer,
            MAX_METHODS,
        ),
        documents=_merge_lists(
            fingerprint.documents, added.documents, lambda each: each.url, _same_document
        )[:MAX_DOCUMENTS],
        acquisition=_add_acquisition(fingerprint.acquisition, acquisition),
        instruments=_smallest(fingerprint.instruments, added.instruments, MAX_INSTRUMENTS),
        candidates=_smallest(fingerprint.candidates, candidates, MAX_CANDIDATES),
        observation_hashes=fingerprint.observation_hashes + added.observation_hash,
        digest=_add_digest(fingerprint.digest, added.observation_hash),
        recent_sources=[*fingerprint.recent_sources, source][-MAX_RECENT_SOURCES:],
        parsed=_newest_parsed(fingerprint.parsed, added.parsed),
    )


def observation_hashes(fingerprint: Fingerprint) -> list[bytes]:
    """Hashes of the merged observations, 16 bytes each, in the order of merging."""
    joined = fingerprint.observation_hashes
    return [joined[start : start + 16] for start in range(0, len(joined), 16)]


def takes_tree(fingerprint: Fingerprint, time_mjd: float, observation_id: str) -> bool:
    """Whether the feature tree of an observation is new enough to be kept."""
    kept = fingerprint.parsed
    return len(kept) < MAX_PARSED or _tree_key(kept[0]) < (time_mjd, observation_id)


def with_tree(fingerprint: Fingerprint, tree: ParsedObservation) -> Fingerprint:
    """The fingerprint with the feature tree of an observation that is merged already."""
    return dataclasses.replace(fingerprint, parsed=_newest_parsed(fingerprint.parsed, [tree]))


def build(
    galaxy: str,
    observations: Iterable[Observation],
    trees: Mapping[str, ParsedObservation] | None = None,
) -> Fingerprint:
    """Make the fingerprint of observations that are known to be of one galaxy.

    Args:
        galaxy: id of the galaxy.
        observations: its observations, in the order of merging.
        trees: feature trees by the ids of observations; other observations may be among them.

    Raises:
        UnusableError: an observation cannot be used.
        FingerprintFullError: the observations exceed what a fingerprint can hold.
    """
    fingerprint = empty(galaxy)
    for offset, observation in enumerate(observations):
        source = Source(observation.observation_id, "", 0, offset)
        added = contribution(observation)
        tree = (trees or {}).get(observation.observation_id)
        if tree is not None:
            added = dataclasses.replace(added, parsed=[tree])
        fingerprint = merge(fingerprint, added, source)
    return fingerprint


def mean_position(position_sums: Floats) -> Position:
    """The inverse-variance mean position, from ``Fingerprint.position_sums``."""
    x, y, z, weight = position_sums.tolist()
    right_ascension = math.degrees(math.atan2(y, x)) % 360.0
    declination = math.degrees(math.atan2(z, math.hypot(x, y)))
    return Position(right_ascension, declination, weight**-0.5)


def position(fingerprint: Fingerprint) -> Position:
    """The position of the galaxy, with its error."""
    return Position(
        fingerprint.right_ascension_deg,
        fingerprint.declination_deg,
        fingerprint.position_error_arcsec,
    )


def _merge_chunks(fingerprint: Fingerprint, added: Contribution) -> tuple[Any, Floats, Floats]:
    if not added.chunk_index.size:
        return fingerprint.chunk_index, fingerprint.chunk_weight, fingerprint.chunk_weighted_flux
    index = np.union1d(fingerprint.chunk_index, added.chunk_index).astype(np.int32)
    weight = np.zeros((index.size, CHUNK_BINS))
    weighted_flux = np.zeros_like(weight)
    for part in (fingerprint, added):
        rows = np.searchsorted(index, part.chunk_index)
        weight[rows] += part.chunk_weight
        weighted_flux[rows] += part.chunk_weighted_flux
    return index, weight, weighted_flux


def _merge_lists(
    merged: list[T],
    added: list[T],
    key: Callable[[T], Any],
    combine: Callable[[T, T], T],
    limit: float = math.inf,
) -> list[T]:
    """Combine the entries of two lists that have the same key; the result ascends by key."""
    if not added:
        return merged
    entries = {key(each): each for each in merged}
    for each in added:
        name = key(each)
        entries[name] = combine(entries[name], each) if name in entries else each
    if len(entries) > limit:
        kind = type(added[0]).__name__
        raise FingerprintFullError(
            f"the fingerprint would hold {len(entries)} {kind}, over {limit}"
        )
    return [entries[name] for name in sorted(entries)]


def _band_key(band: BandStatistics) -> tuple[str, float]:
    return band.band, band.frequency_hz


def _merge_bands(one: BandStatistics, other: BandStatistics) -> BandStatistics:
    limits = [
        (each.upper_limit_jy, each.upper_limit_error_jy)
        for each in (one, other)
        if each.upper_limit_jy is not None and each.upper_limit_error_jy is not None
    ]
    tightest, error = min(limits, default=(None, None))
    return BandStatistics(
        one.band,
        one.frequency_hz,
        one.weight + other.weight,
        one.weighted_flux + other.weighted_flux,
        one.weighted_square + other.weighted_square,
        one.count + other.count,
        tightest,
        error,
    )


def _map_key(each: MapStatistics) -> int:
    return each.frequency_bin


def _merge_maps(one: MapStatistics, other: MapStatistics) -> MapStatistics:
    return MapStatistics(
        one.frequency_bin,
        one.weight + other.weight,
        one.weighted_frequency + other.weighted_frequency,
        one.weighted_flux + other.weighted_flux,
        one.weighted_square + other.weighted_square,
        one.weighted_peak + other.weighted_peak,
        one.weighted_extent + other.weighted_extent,
        min(one.smallest_beam_arcsec, other.smallest_beam_arcsec),
        one.count + other.count,
    )


def _newer(one: PublishedRedshift, other: PublishedRedshift) -> PublishedRedshift:
    """The later of two estimates; of two at the same time the one with the larger id."""
    return max(one, other, key=lambda each: (each.time_mjd, each.observation_id))


def _newest_parsed(
    one: list[ParsedObservation], other: list[ParsedObservation]
) -> list[ParsedObservation]:
    """The feature trees of the newest observations, oldest first, whatever the order of merging."""
    if not other:
        return one
    return sorted([*one, *other], key=_tree_key)[-MAX_PARSED:]


def _tree_key(tree: ParsedObservation) -> tuple[float, str]:
    return tree.time_mjd, tree.observation_id


def _same_document(one: Document, other: Document) -> Document:
    """Choose one of two descriptions of the document at one address, whatever their order."""
    return max(one, other, key=lambda each: (each.sha256 or "", each.title or "", each.media_type))


def _add_acquisition(
    one: AcquisitionStatistics, other: AcquisitionStatistics
) -> AcquisitionStatistics:
    sums = {name: getattr(one, name) + getattr(other, name) for name in _SUMMED}
    return AcquisitionStatistics(
        **sums,
        first_mjd=min(one.first_mjd, other.first_mjd),
        last_mjd=max(one.last_mjd, other.last_mjd),
    )


_SUMMED = [
    field.name
    for field in dataclasses.fields(AcquisitionStatistics)
    if field.name not in ("first_mjd", "last_mjd")
]


def _smallest(one: list[str], other: Iterable[str], count: int) -> list[str]:
    """The smallest names of two sets, at most ``count``; their order of merging does not matter."""
    if set(other) <= set(one):
        return one
    return sorted({*one, *other})[:count]


def _add_digest(digest: bytes, added: bytes) -> bytes:
    total = int.from_bytes(digest, "little") + int.from_bytes(added, "little")
    return (total % 2**128).to_bytes(16, "little")
