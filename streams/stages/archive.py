"""Reads observations from the archive, and makes fingerprints again from them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

from mmbroker.processors.fingerprint import merge as fingerprints
from mmbroker.processors.fingerprint.contribution import contribution, observation_hash
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


def require_archived(
    reading: Reading, fingerprint: Fingerprint, but: bytes = b""
) -> list[Archived]:
    """The archived observations of a galaxy, in the order in which they were merged.

    Args:
        reading: the store.
        fingerprint: the galaxy's fingerprint.
        but: hash of an observation that is left out; empty to leave out none.

    Raises:
        NotArchivedError: some of them are not in the archive.
    """
    hashes = [each for each in fingerprints.observation_hashes(fingerprint) if each != but]
    archived = [reading.archived(hashed) for hashed in hashes]
    found = [each for each in archived if each is not None and each.data]
    if len(found) < len(hashes):
        missing = f"{len(hashes) - len(found)} of {len(hashes)} observations"
        raise NotArchivedError(
            f"{missing} of {fingerprint.galaxy_id} are not in the archive since the store was "
            "rebuilt: publish them again, repeats fill it"
        )
    return found


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
        found.append(_observation(codec, archived))
    return found


def rebuild(
    reading: Reading,
    codec: Codec,
    before: Fingerprint,
    parse: Parse | None = None,
    but: bytes = b"",
) -> Fingerprint:
    """Make a galaxy's fingerprint again from its archived observations, in the order of merging.

    The version of the result counts only these observations. If there are none, only the galaxy's
    place is left. Feature trees that the fingerprint had stay as they are.

    Args:
        reading: the store.
        codec: bytes to events.
        before: the fingerprint so far.
        parse: makes feature trees. A fingerprint has room for the newest trees only; when an
            observation is left out, trees of older ones find room again. ``parse`` is asked for
            them, from the newest on. None leaves them out.
        but: hash of an observation that is left out; empty to leave out none.

    Raises:
        NotArchivedError: some observations are not in the archive.
        StoreDamagedError: an observation cannot be read.
    """
    trees = {tree.observation_id: tree for tree in before.parsed}
    rebuilt = fingerprints.empty(before.galaxy_id)
    without_tree: list[tuple[float, str, Archived]] = []
    for archived in require_archived(reading, before, but):
        observation = _observation(codec, archived)
        added = contribution(observation)
        tree = trees.get(observation.observation_id)
        if tree is not None:
            added = dataclasses.replace(added, parsed=[tree])
        elif observation.spectrum is not None or observation.continuum_map is not None:
            without_tree.append((observation.time_mjd, observation.observation_id, archived))
        rebuilt = fingerprints.merge(rebuilt, added, archived.source, archived.candidates)
    if parse is not None:
        newest_first = sorted(without_tree, key=lambda each: each[:2])[::-1]
        rebuilt = _with_trees(rebuilt, codec, newest_first, parse)
    return rebuilt if rebuilt.acquisition.observations else fingerprints.vacated(before)


def _with_trees(
    rebuilt: Fingerprint,
    codec: Codec,
    newest_first: Sequence[tuple[float, str, Archived]],
    parse: Parse,
) -> Fingerprint:
    """Add the newest trees of observations without one, as long as the fingerprint has room."""
    for start in range(0, len(newest_first), fingerprints.MAX_PARSED):
        some = [
            (time_mjd, name, archived)
            for time_mjd, name, archived in newest_first[start : start + fingerprints.MAX_PARSED]
            if fingerprints.takes_tree(rebuilt, time_mjd, name)
        ]
        trees = parse([_observation(codec, archived) for _, _, archived in some]) if some else None
        if trees is None:
            break
        for (time_mjd, name, _), tree in zip(some, trees, strict=True):
            if tree is not None and fingerprints.takes_tree(rebuilt, time_mjd, name):
                rebuilt = fingerprints.with_tree(rebuilt, tree)
    return rebuilt


def _observation(codec: Codec, archived: Archived) -> Observation:
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
