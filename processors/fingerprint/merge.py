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
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np

from mmbroker.processors.fingerprint.contribution import (
    Contribution,
    contribution,
    position_of,
    position_sums,
)
from mmbroker.processors.fingerprint.map_photometry import frequency_bin
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


def vacated(galaxy: str, place: Position) -> Fingerprint:
    """The fingerprint of a galaxy whose last observation was withdrawn; it keeps its place."""
    return dataclasses.replace(
        empty(galaxy),
        right_ascension_deg=place.right_ascension_deg,
        declination_deg=place.declination_deg,
        position_error_arcsec=place.error_arcsec,
    )


@dataclass(frozen=True, slots=True)
class Addition:
    """An observation that is merged into a fingerprint.

    Attributes:
        contribution: what it contributes.
        source: where it was read.
        candidates: other galaxies that it could belong to, when the association is ambiguous.
    """

    contribution: Contribution
    source: Source
    candidates: Sequence[str] = ()


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
    merging = Merging(fingerprint)
    merging.add(Addition(added, source, [*candidates]))
    return merging.fingerprint()


class Merging:
    """Merges observations into a fingerprint, one after the other.

    The time for each depends on its contribution, not on what was merged before it.

    Args:
        fingerprint: fingerprint of the galaxy so far, or ``empty``; it stays as it is.
    """

    def __init__(self, fingerprint: Fingerprint) -> None:
        self._before = fingerprint
        self._position_sums = fingerprint.position_sums
        self._chunks = (
            fingerprint.chunk_index,
            fingerprint.chunk_weight,
            fingerprint.chunk_weighted_flux,
        )
        self._bands = _Entries(fingerprint.bands, _band_key, _merge_bands, MAX_BANDS)
        self._maps = _Entries(fingerprint.maps, _map_key, _merge_maps, MAX_MAPS)
        self._redshifts = _Entries(fingerprint.photometric_redshifts, _method, _newer, MAX_METHODS)
        self._documents = fingerprint.documents
        self._acquisition = fingerprint.acquisition
        self._instruments = fingerprint.instruments
        self._candidates = fingerprint.candidates
        self._hashes: list[bytes] = []
        self._digest = fingerprint.digest
        self._sources = fingerprint.recent_sources
        self._parsed = fingerprint.parsed

    @property
    def observations(self) -> int:
        """How many observations are merged."""
        return self._acquisition.observations

    @property
    def position(self) -> Position:
        """The position of the galaxy, of which at least one observation has been added."""
        return mean_position(self._position_sums)

    def add(self, addition: Addition) -> None:
        """Merge one more observation.

        Raises:
            FingerprintFullError: a list would grow beyond its largest length; nothing has changed.
        """
        added = addition.contribution
        _require_room_for_one(self.observations)
        self._bands.require_room(added.bands)
        self._maps.require_room(added.maps)
        self._redshifts.require_room(added.photometric_redshifts)
        self._position_sums = self._position_sums + added.position_sums
        if added.chunk_index.size:
            self._chunks = _merge_chunks(self._chunks, added)
        self._bands.add(added.bands)
        self._maps.add(added.maps)
        self._redshifts.add(added.photometric_redshifts)
        if added.documents:
            documents = _Entries(self._documents, _url, _same_document)
            documents.add(added.documents)
            self._documents = documents.ascending()[:MAX_DOCUMENTS]
        acquisition = added.acquisition
        if addition.candidates:
            acquisition = dataclasses.replace(acquisition, ambiguous=1)
        self._acquisition = _add_acquisition(self._acquisition, acquisition)
        self._instruments = _smallest(self._instruments, added.instruments, MAX_INSTRUMENTS)
        self._candidates = _smallest(self._candidates, addition.candidates, MAX_CANDIDATES)
        self._hashes.append(added.observation_hash)
        self._digest = _add_digest(self._digest, added.observation_hash)
        self._sources = [*self._sources, addition.source][-MAX_RECENT_SOURCES:]
        self._parsed = _newest_parsed(self._parsed, added.parsed)

    def fingerprint(self) -> Fingerprint:
        """The fingerprint with all that was added; its version grew by one for each."""
        if not self._hashes:
            return self._before
        position = self.position
        index, weight, weighted_flux = self._chunks
        return Fingerprint(
            galaxy_id=self._before.galaxy_id,
            version=self._before.version + len(self._hashes),
            right_ascension_deg=position.right_ascension_deg,
            declination_deg=position.declination_deg,
            position_error_arcsec=position.error_arcsec,
            position_sums=self._position_sums,
            chunk_index=index,
            chunk_weight=weight,
            chunk_weighted_flux=weighted_flux,
            bands=self._bands.ascending(),
            maps=self._maps.ascending(),
            photometric_redshifts=self._redshifts.ascending(),
            documents=self._documents,
            acquisition=self._acquisition,
            instruments=self._instruments,
            candidates=self._candidates,
            observation_hashes=b"".join([self._before.observation_hashes, *self._hashes]),
            digest=self._digest,
            recent_sources=self._sources,
            parsed=self._parsed,
        )


@dataclass(frozen=True, slots=True)
class Outline:
    """What an observation has to do with the place of its galaxy and with the room in it.

    Attributes:
        position_sums: as in ``schemas.events.Fingerprint``, float64, shape (4,).
        bands: keys of its bands.
        maps: keys of its maps.
        methods: keys of its photometric redshifts.
    """

    position_sums: Floats
    bands: Sequence[tuple[str, float]]
    maps: Sequence[int]
    methods: Sequence[str]


def outline(observation: Observation) -> Outline:
    """The outline of an observation; it takes less time than its contribution."""
    photometry, continuum_map = observation.photometry, observation.continuum_map
    redshift = observation.photometric_redshift
    measured = [] if photometry is None else photometry.measurements
    return Outline(
        position_sums(position_of(observation)),
        [(each.band, each.frequency_hz) for each in measured],
        [] if continuum_map is None else [frequency_bin(continuum_map.frequency_hz)],
        [] if redshift is None else [redshift.method],
    )


class Tally:
    """Where a galaxy is and what room it has, while observations come in and are taken out.

    It says the same as a fingerprint that is made again after every change, in much less time.

    Args:
        outlines: the observations by the hashes of their ids, in the order of merging.
    """

    def __init__(self, outlines: Mapping[bytes, Outline]) -> None:
        self._outlines = dict(outlines)
        self._row = {hashed: row for row, hashed in enumerate(outlines, start=1)}
        sums = [np.zeros(4), *(each.position_sums for each in outlines.values())]
        self._rows = np.array(sums)  # the first row is the sum of no observation
        self._kept = np.ones(len(sums), bool)
        self._position_sums = _sum_in_order(self._rows)
        self._bands: Counter[tuple[str, float]] = Counter()
        self._maps: Counter[int] = Counter()
        self._methods: Counter[str] = Counter()
        for each in outlines.values():
            self._count(each, 1)

    @property
    def observations(self) -> int:
        """How many observations there are."""
        return len(self._outlines)

    @property
    def position(self) -> Position:
        """The position of the galaxy, which has to have an observation."""
        return mean_position(self._position_sums)

    def add(self, hashed: bytes, added: Outline) -> None:
        """Add an observation.

        Raises:
            FingerprintFullError: the fingerprint would be too large; nothing has changed.
        """
        _require_room_for_one(self.observations)
        _require_room(BandStatistics, self._bands, added.bands, MAX_BANDS)
        _require_room(MapStatistics, self._maps, added.maps, MAX_MAPS)
        _require_room(PublishedRedshift, self._methods, added.methods, MAX_METHODS)
        self._count(added, 1)
        row = self._row[hashed] = len(self._row) + 1
        if row == len(self._rows):
            self._rows = np.concatenate([self._rows, np.zeros_like(self._rows)])
            self._kept = np.concatenate([self._kept, np.zeros_like(self._kept)])
        self._rows[row], self._kept[row] = added.position_sums, True
        self._outlines[hashed] = added
        self._position_sums = self._position_sums + added.position_sums

    def take_out(self, hashed: bytes) -> None:
        """Take an observation out."""
        self._count(self._outlines.pop(hashed), -1)
        self._kept[self._row[hashed]] = False
        self._position_sums = _sum_in_order(self._rows[self._kept])

    def _count(self, outlined: Outline, step: int) -> None:
        _add_to(self._bands, outlined.bands, step)
        _add_to(self._maps, outlined.maps, step)
        _add_to(self._methods, outlined.methods, step)


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


def _add_to(counter: Counter[T], keys: Iterable[T], step: int) -> None:
    """Add a step to the counts of keys; those that come to 0 are left out."""
    for key in keys:
        counter[key] += step
        if not counter[key]:
            del counter[key]


def _sum_in_order(rows: Floats) -> Floats:
    """The sum of rows, added one after the other as ``Merging`` does; float64, shape (4,)."""
    total: Floats = np.add.accumulate(rows, axis=0)[-1]
    return total


def _merge_chunks(
    chunks: tuple[Any, Floats, Floats], added: Contribution
) -> tuple[Any, Floats, Floats]:
    index = np.union1d(chunks[0], added.chunk_index).astype(np.int32)
    weight = np.zeros((index.size, CHUNK_BINS))
    weighted_flux = np.zeros_like(weight)
    contribution = added.chunk_index, added.chunk_weight, added.chunk_weighted_flux
    for part_index, part_weight, part_weighted_flux in (chunks, contribution):
        rows = np.searchsorted(index, part_index)
        weight[rows] += part_weight
        weighted_flux[rows] += part_weighted_flux
    return index, weight, weighted_flux


class _Entries(Generic[T]):
    """The entries of a list by their keys; those of the same key are combined.

    Args:
        merged: the entries so far; the list stays as it is.
        key: key of an entry.
        combine: makes one entry of two that have the same key.
        limit: most entries.
    """

    def __init__(
        self,
        merged: list[T],
        key: Callable[[T], Any],
        combine: Callable[[T, T], T],
        limit: float = math.inf,
    ) -> None:
        self._merged = merged
        self._key = key
        self._combine = combine
        self._limit = limit
        self._entries: dict[Any, T] | None = None

    def require_room(self, added: list[T]) -> None:
        """Make sure that entries can be added.

        Raises:
            FingerprintFullError: there would be too many.
        """
        if added and len(self._by_key()) + len(added) > self._limit:
            _require_room(type(added[0]), self._by_key(), map(self._key, added), self._limit)

    def add(self, added: list[T]) -> None:
        """Add entries, for which there has to be room."""
        if not added:
            return
        entries = self._by_key()
        for each in added:
            name = self._key(each)
            entries[name] = self._combine(entries[name], each) if name in entries else each

    def ascending(self) -> list[T]:
        """The entries, ascending by key."""
        if self._entries is None:
            return self._merged
        return [self._entries[name] for name in sorted(self._entries)]

    def _by_key(self) -> dict[Any, T]:
        if self._entries is None:
            self._entries = {self._key(each): each for each in self._merged}
        return self._entries


def _require_room_for_one(observations: int) -> None:
    if observations >= MAX_OBSERVATIONS:
        raise FingerprintFullError(f"the fingerprint holds {MAX_OBSERVATIONS} observations already")


def _require_room(kind: type, known: Mapping[Any, Any], added: Iterable[Any], limit: float) -> None:
    """Make sure that a list of a fingerprint can take entries with these keys.

    Raises:
        FingerprintFullError: it would be too long.
    """
    count = len(known) + len({key for key in added if key not in known})
    if count > limit:
        raise FingerprintFullError(
            f"the fingerprint would hold {count} {kind.__name__}, over {limit}"
        )


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


def _method(each: PublishedRedshift) -> str:
    return each.method


def _url(each: Document) -> str:
    return each.url


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
