"""Reads observations from the archive, and makes fingerprints again from them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mmbroker.processors.fingerprint import merge as fingerprints
from mmbroker.processors.fingerprint.contribution import contribution, observation_hash
from mmbroker.processors.fingerprint.merge import Addition
from mmbroker.schemas.codec import Codec, E, MalformedEventError
from mmbroker.schemas.events import Fingerprint, Observation, ParsedObservation
from mmbroker.streams.store import REMEDY, Archived, Reading, StoreDamagedError

Parse = Callable[[Sequence[Observation]], Sequence[ParsedObservation | None] | None]
"""Function from valid observations to their feature trees.

A tree is None if no parser can read the observation. The result is None as long as a tree is still
unknown.
"""


class NotArchivedError(ValueError):
    """A galaxy cannot be made again from the archive; the message says what is missing."""


def missing(reading: Reading, hashes: Sequence[bytes]) -> set[bytes]:
    """Which of some merged observations are not in the archive, by the hashes of their ids."""
    archived = ((hashed, reading.archived(hashed)) for hashed in hashes)
    return {hashed for hashed, each in archived if each is None or not each.data}


def require_archived(galaxy_id: str, observations: int, absent: int) -> None:
    """Make sure that a galaxy can be made again from the archive.

    Args:
        galaxy_id: the galaxy.
        observations: how many observations it is made of.
        absent: how many of these are not in the archive.

    Raises:
        NotArchivedError: some are not.
    """
    if absent:
        raise NotArchivedError(
            f"{absent} of {observations} observations of {galaxy_id} are not in the archive since "
            "the store was rebuilt: publish them again, repeats fill it"
        )


def archived_observations(
    reading: Reading, codec: Codec, observation_ids: Sequence[str]
) -> list[Observation]:
    """Observations by their ids.

    Raises:
        NotArchivedError: an observation is not in the archive.
        StoreDamagedError: an observation cannot be read.
    """
    found = []
    for name in observation_ids:
        archived = reading.archived(observation_hash(name))
        if archived is None or not archived.data:
            raise NotArchivedError(f"observation {name!r} is not in the archive")
        found.append(decoded(codec, archived))
    return found


def rebuild(reading: Reading, codec: Codec, before: Fingerprint) -> Fingerprint:
    """Make a galaxy's fingerprint again from its archived observations, in the order of merging.

    The version of the result counts only these observations. If there are none, only the galaxy's
    place is left. The feature trees stay as they are.

    Args:
        reading: the store.
        codec: bytes to events.
        before: the fingerprint so far.

    Raises:
        NotArchivedError: some observations are not in the archive.
        StoreDamagedError: an observation cannot be read.
    """
    hashes = fingerprints.observation_hashes(before)
    require_archived(before.galaxy_id, len(hashes), len(missing(reading, hashes)))
    rebuilding = Rebuilding(before.galaxy_id)
    rebuilding.extend(reading, codec, hashes)
    rebuilt = rebuilding.fingerprint()
    for tree in before.parsed:
        rebuilt = fingerprints.with_tree(rebuilt, tree)
    return (
        rebuilt if hashes else fingerprints.vacated(before.galaxy_id, fingerprints.position(before))
    )


class Rebuilding:
    """The fingerprint of a galaxy as it is made again from the archive, without feature trees.

    Args:
        galaxy_id: the galaxy.
    """

    def __init__(self, galaxy_id: str) -> None:
        self._merging = fingerprints.Merging(fingerprints.empty(galaxy_id))
        self._hashes: list[bytes] = []
        self.parseable: list[tuple[float, str, bytes]] = []
        """(time as MJD, id, hash of the id) of the spectra and maps that are merged."""

    def begins(self, hashes: Sequence[bytes]) -> bool:
        """Whether what is merged so far is the beginning of these observations."""
        return self._hashes == hashes[: len(self._hashes)]

    def extend(
        self,
        reading: Reading,
        codec: Codec,
        hashes: Sequence[bytes],
        go_on: Callable[[], bool] = lambda: True,
    ) -> bool:
        """Merge the observations that are not merged yet, as long as it may go on.

        Args:
            reading: the store.
            codec: bytes to events.
            hashes: hashes of all observations in the order of merging, which it ``begins``.
            go_on: is asked before each.

        Returns:
            Whether all are merged.

        Raises:
            StoreDamagedError: an observation cannot be read.
        """
        for hashed in hashes[len(self._hashes) :]:
            if not go_on():
                return False
            archived, observation = archived_observation(reading, codec, hashed)
            added = contribution(observation)
            self._merging.add(Addition(added, archived.source, archived.candidates))
            self._hashes.append(hashed)
            if observation.spectrum is not None or observation.continuum_map is not None:
                self.parseable.append((observation.time_mjd, observation.observation_id, hashed))
        return True

    def fingerprint(self) -> Fingerprint:
        """The fingerprint of what is merged so far; its version counts the observations."""
        return self._merging.fingerprint()


def with_older_trees(
    rebuilt: Fingerprint,
    newest_first: Sequence[tuple[float, str, bytes]],
    observation: Callable[[bytes], Observation],
    parse: Parse,
) -> Fingerprint:
    """Add the newest trees of observations without one, as long as the fingerprint has room.

    A fingerprint has room for the newest trees only. When an observation is left out, trees of
    older ones find room again.

    Args:
        rebuilt: the fingerprint with the trees that are known.
        newest_first: (time as MJD, id, hash of the id) of its spectra and maps without a tree.
        observation: function from the hash of an id to the observation.
        parse: makes trees.
    """
    for start in range(0, len(newest_first), fingerprints.MAX_PARSED):
        some = [
            each
            for each in newest_first[start : start + fingerprints.MAX_PARSED]
            if fingerprints.takes_tree(rebuilt, *each[:2])
        ]
        trees = parse([observation(hashed) for _, _, hashed in some]) if some else None
        if trees is None:
            break
        for (time_mjd, name, _), tree in zip(some, trees, strict=True):
            if tree is not None and fingerprints.takes_tree(rebuilt, time_mjd, name):
                rebuilt = fingerprints.with_tree(rebuilt, tree)
    return rebuilt


def archived_observation(
    reading: Reading, codec: Codec, hashed: bytes
) -> tuple[Archived, Observation]:
    """An observation of which the archive has the content, by the hash of its id.

    Raises:
        StoreDamagedError: it cannot be read.
    """
    archived = reading.archived(hashed)
    if archived is None or not archived.data:
        raise StoreDamagedError(
            f"the store is damaged: observation {hashed.hex()} is gone from its archive; {REMEDY}"
        )
    return archived, decoded(codec, archived)


def decoded(codec: Codec, archived: Archived) -> Observation:
    """An observation of which the archive has the content.

    Raises:
        StoreDamagedError: it cannot be read.
    """
    what = f"observation {archived.source.observation_id!r}"
    return stored_event(codec, Observation, archived.data, what)


def stored_event(codec: Codec, event_type: type[E], data: bytes, what: str) -> E:
    """Decode an event that was read from the store.

    If this fails, the store is damaged. The event that is being processed is not to blame.

    Args:
        codec: bytes to events.
        event_type: the type that it has to have.
        data: its bytes.
        what: its name in the error message.

    Raises:
        StoreDamagedError: it cannot be decoded.
    """
    try:
        return codec.decode_as(event_type, data)
    except MalformedEventError as error:
        raise StoreDamagedError(f"the store is damaged: {what}: {error}; {REMEDY}") from error
