"""Makes corrections of tables: compares each row with what was published of it before.

The id of an observation follows from its place in the table. A row that has changed needs another
id: the next revision, ``ID@2`` and then ``ID@3``, each of which replaces the one before. The newest
revision and its content are in the archive of the store.
"""

from __future__ import annotations

import dataclasses
import itertools

from mmbroker.processors.fingerprint.contribution import observation_hash
from mmbroker.schemas.codec import Codec
from mmbroker.schemas.events import Observation
from mmbroker.streams.store import Reading


class NotCorrectableError(ValueError):
    """What was published of an observation cannot be replaced; the message says why."""


def correction(observation: Observation, reading: Reading, codec: Codec) -> Observation | None:
    """What has to be published so that the broker has an observation as it is now.

    Args:
        observation: the observation as it is now.
        reading: the store.
        codec: events to bytes and back.

    Returns:
        The observation itself if it is new, its next revision if it has changed, None if it has
        not changed.

    Raises:
        NotCorrectableError: it was replaced under an id of another form, or its content is not in
            the archive.
    """
    newest, replaces = None, None
    for number in itertools.count(1):
        name = observation.observation_id + (f"@{number}" if number > 1 else "")
        found = reading.archived(observation_hash(name))
        if found is None:
            break
        newest, replaces = found, name
    if newest is None:
        return observation
    if newest.status != "merged":
        raise NotCorrectableError(
            f"{replaces} was replaced or withdrawn under an id that does not follow from it: "
            "correct that one"
        )
    if not newest.data:
        raise NotCorrectableError(
            f"{replaces} is not in the archive since the store was rebuilt: first publish it again "
            "as it was"
        )
    revision = dataclasses.replace(observation, observation_id=name, replaces=replaces)
    before = dataclasses.replace(
        codec.decode_as(Observation, newest.data), observation_id=name, replaces=replaces
    )
    return None if codec.encode(before) == codec.encode(revision) else revision
