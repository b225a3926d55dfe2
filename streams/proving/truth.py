"""Checks that what the stages published agrees with the observations that were sent."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

from mmbroker.processors.fingerprint import merge
from mmbroker.processors.fingerprint.contribution import observation_hash
from mmbroker.processors.sky import separation_arcsec
from mmbroker.schemas.events import Alert, Fingerprint, Observation, ParsedObservation, Quarantine
from mmbroker.schemas.records import to_rows
from mmbroker.streams.proving.embedded import ledger_now
from mmbroker.streams.proving.traffic import Traffic
from mmbroker.streams.settings import Settings
from mmbroker.streams.stages.clients import (
    make_parsers,
)
from mmbroker.streams.stages.metrics import StageMetrics
from mmbroker.streams.stages.parsing import Parsing
from mmbroker.streams.store import open_store
from mmbroker.streams.subscribing.read import Read, read

APART_ARCSEC = 30.0
"""Observations further apart than this belong to different galaxies; those of one galaxy are within
2 arcsec."""

SPLIT = 0.02
"""Share of the galaxies that may be found twice. Under 1 % are, in any order of the observations:
some positions err by more than the association allows."""

NOT_COMPARED = {"recent_sources", "candidates", "version"}
"""Fields of a fingerprint that do not depend on its observations alone, but also on where these
were read, on other galaxies nearby, and on what was replaced before. The number of ambiguous
observations is not compared either."""


def parse_at_once(
    settings: Settings, observations: Sequence[Observation]
) -> dict[str, ParsedObservation]:
    """The feature trees of valid observations, by observation id, from the parsers in force.

    Raises:
        InfrastructureError: Triton does not answer, or does not serve a version in force.
    """
    with closing(open_store(settings)) as store:
        trees = Parsing(make_parsers(settings), store, StageMetrics("parse")).trees(observations)
    return {tree.observation_id: tree for found in trees for tree in found}


@dataclass
class Untrue:
    """Differences between what the broker has and what was sent; all are empty if it works.

    Attributes:
        lost: ids of observations that are in no galaxy.
        doubled: ids of observations that are in several galaxies, or in one more than once.
        mixed: ids of galaxies with observations of several true galaxies that are far apart.
        split: numbers of true galaxies that were found more than once, if they are more than their
            positions explain.
        unwanted: hashes of observations that are in a galaxy but should not be.
        unlike_store: ids of galaxies whose last message is not, byte for byte, what the store has.
        unlike_rebuild: ids of galaxies whose fingerprint is not the one that their observations
            make in one batch.
        unlike_score: ids of galaxies whose last score is not of their newest version.
        unlike_alert: streams and ids of galaxies whose last alert is not the one in the store.
        alerts_astray: ids of alerts that were sent with different contents, or that replace one
            that was never sent.
        not_quarantined: number of malformed messages that are missing in the quarantine, and of
            those that are there without reason or more than once.
        outcomes: number of events that the ledger of the first stage has too many (or, negative,
            too few), by outcome.
    """

    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    mixed: list[str] = field(default_factory=list)
    split: list[int] = field(default_factory=list)
    unwanted: list[str] = field(default_factory=list)
    unlike_store: list[str] = field(default_factory=list)
    unlike_rebuild: list[str] = field(default_factory=list)
    unlike_score: list[str] = field(default_factory=list)
    unlike_alert: list[str] = field(default_factory=list)
    alerts_astray: list[str] = field(default_factory=list)
    not_quarantined: int = 0
    outcomes: dict[str, int] = field(default_factory=dict)


def untrue(settings: Settings, traffic: Traffic) -> Untrue:
    """Compare topics and store with the traffic.

    Args:
        settings: the settings.
        traffic: all that was sent to a broker that was empty before, and is done with it now.
    """
    published = _newest(settings, "fingerprints")
    scored = _newest(settings, "scored")
    by_hash = {observation_hash(name): each for name, each in traffic.distinct.items()}
    trees = parse_at_once(settings, list(traffic.distinct.values()))
    members: Counter[bytes] = Counter()
    true_galaxies: Counter[int] = Counter()
    found = Untrue()
    for galaxy_id, message in published.items():
        fingerprint = message.event
        assert isinstance(fingerprint, Fingerprint)
        hashes = merge.observation_hashes(fingerprint)
        members.update(hashes)
        known = [by_hash[each] for each in hashes if each in by_hash]
        numbers = {traffic.galaxy(each.observation_id) for each in known}
        true_galaxies.update(numbers)
        if len(numbers) > 1 and _extent_arcsec(known) > APART_ARCSEC:
            found.mixed.append(galaxy_id)
        if not _same(fingerprint, merge.build(galaxy_id, known, trees)):
            found.unlike_rebuild.append(galaxy_id)
        score = scored.get(galaxy_id)
        galaxy = None if score is None else score.galaxy
        if galaxy is None or galaxy.version != fingerprint.version:
            found.unlike_score.append(galaxy_id)
    wanted = {observation_hash(name): name for name in traffic.merged}
    found.lost = sorted(wanted[each] for each in wanted.keys() - members.keys())
    found.unwanted = sorted(each.hex() for each in members.keys() - wanted.keys())
    found.doubled = sorted(wanted.get(each, each.hex()) for each, n in members.items() if n > 1)
    split = sorted(number for number, times in true_galaxies.items() if times > 1)
    found.split = split if len(split) > SPLIT * len(true_galaxies) else []
    found.unlike_store = _unlike_store(settings, published)
    for stream in settings.topics.alert_streams:
        _compare_alerts(settings, stream.name, found)
    kept = Counter(
        message.event.original
        for message in _newest(settings, "quarantine").values()
        if isinstance(message.event, Quarantine)
    )
    sent = Counter(traffic.malformed)
    found.not_quarantined = ((kept - sent) + (sent - kept)).total()
    found.outcomes = _unexpected_outcomes(settings, traffic)
    return found


def _extent_arcsec(observations: Sequence[Observation]) -> float:
    """The largest distance in arcsec of an observation from the first one."""
    places = [(each.right_ascension_deg, each.declination_deg) for each in observations]
    return max(separation_arcsec(*places[0], *place) for place in places)


def _newest(settings: Settings, stream: str) -> dict[str, Read]:
    """The last message of every key, by key, as a compacted topic keeps it."""
    return {each.key.decode(): each for each in read(settings, stream, until_end=True)}


def _same(one: Fingerprint, other: Fingerprint) -> bool:
    if not one.observation_hashes:  # all were withdrawn; only the place is left, not compared
        return not other.observation_hashes
    return _compared(one) == _compared(other)


def _compared(fingerprint: Fingerprint) -> dict[str, Any]:
    """The fields of a fingerprint that depend on its observations alone."""
    record = {
        name: value for name, value in to_rows(fingerprint).items() if name not in NOT_COMPARED
    }
    return {**record, "acquisition": {**record["acquisition"], "ambiguous": 0}}


def _unlike_store(settings: Settings, published: dict[str, Read]) -> list[str]:
    with closing(open_store(settings)) as store, store.reading() as reading:
        stored = {each: reading.fingerprint(each) for each in reading.galaxy_ids()}
    return [
        galaxy_id
        for galaxy_id in sorted(stored.keys() | published.keys())
        if galaxy_id not in published or stored.get(galaxy_id) != published[galaxy_id].value
    ]


def _compare_alerts(settings: Settings, stream: str, found: Untrue) -> None:
    """Compare the alerts of a stream with each other and with the store.

    Ranks are not compared, because an alert has those of the time when it was made.
    """
    contents: dict[str, dict[str, Any]] = {}
    last: dict[str, Alert] = {}
    for message in read(settings, stream, until_end=True):
        alert = message.event
        assert isinstance(alert, Alert)
        said = {**to_rows(alert), "stream_rank": 0, "stream_galaxies": 0}
        said["galaxy"] = {**said["galaxy"], "rank": 0, "ranked_galaxies": 0}
        if contents.setdefault(alert.alert_id, said) != said:
            found.alerts_astray.append(alert.alert_id)
        before = last.get(alert.galaxy.galaxy_id)
        if before is None or alert.galaxy.version >= before.galaxy.version:
            last[alert.galaxy.galaxy_id] = alert
    found.alerts_astray += [
        alert_id
        for alert_id, said in contents.items()
        if said["supersedes"] is not None and said["supersedes"] not in contents
    ]
    with closing(open_store(settings)) as store, store.reading() as reading:
        remembered = {name: each.alert_id for name, each in reading.last_alerts(stream)}
    sent = {name: alert.alert_id for name, alert in last.items()}
    found.unlike_alert += [
        f"{stream}: {name}"
        for name in sorted(sent.keys() | remembered.keys())
        if sent.get(name) != remembered.get(name)
    ]


def _unexpected_outcomes(settings: Settings, traffic: Traffic) -> dict[str, int]:
    """Number of events of the first stage that are too many or (negative) too few, by outcome."""
    counted = Counter(ledger_now(settings)[0].outcomes)
    taken_in = ("merged", "corrected", "withdrawn", "superseded")
    distinct = sum(counted.pop(outcome, 0) for outcome in taken_in)
    expected = Counter(
        {
            "taken in": len(traffic.distinct),
            "repeated": traffic.sent - len(traffic.distinct) - len(traffic.malformed),
            "quarantined: undecodable": len(traffic.malformed),
        }
    )
    counted["taken in"] = distinct
    counted.subtract(expected)
    return {outcome: number for outcome, number in counted.items() if number}
