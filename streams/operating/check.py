"""Checks whether everything that the settings name is reachable and right."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass

from mmbroker.models.packaged.scoring_code import code_version
from mmbroker.models.serving.errors import ModelUnavailable
from mmbroker.models.serving.triton import Model
from mmbroker.processors.evaluations import EVALUATIONS
from mmbroker.streams.errors import InfrastructureError
from mmbroker.streams.kafka.client import existing_topics, topic_config, why_missing
from mmbroker.streams.kafka.offsets import newest_timestamp
from mmbroker.streams.kafka.registry import make_codec
from mmbroker.streams.operating.ledger import Entry, ledger
from mmbroker.streams.settings import Settings
from mmbroker.streams.stages.accounting import EXPIRED, SKIPPED, UNREADABLE
from mmbroker.streams.stages.clients import (
    make_critic,
    make_evaluation_models,
    make_parsers,
    make_refined_networks,
)
from mmbroker.streams.stages.scorers import Scorers
from mmbroker.streams.store import REMEDY, StoreDamagedError, damage, read_store
from mmbroker.streams.topics import flow

LEAST_ROOM_BYTES = 2 * 10**9
"""Less room for the store than this is too little; the alert DiskFills has the same limit."""

LARGEST_LEAD_S = 60.0
"""An event may be timed so far in the future of this machine; the alert ClocksDiffer has the same
limit."""

ACKNOWLEDGED_WITHIN_S = 2.0
"""A stage acknowledges a batch this soon after it has counted it, unless something holds it up."""


@dataclass(frozen=True)
class Finding:
    """What one check found.

    Attributes:
        subject: what was checked.
        good: whether it is as it should be.
        detail: what was found, or what is wrong and how to mend it.
    """

    subject: str
    good: bool
    detail: str


def check(settings: Settings) -> Iterator[Finding]:
    """Check Kafka, topics, schemas, scorer, Triton, store, disk, what the stages missed, clocks."""
    yield from _kafka(settings)
    yield _try("schemas", lambda: _schemas(settings))
    yield _try("scorer", lambda: _scorer(settings))
    yield _try("triton", lambda: _triton(settings))
    yield _try("store", lambda: _store(settings))
    yield _try("disk", lambda: _disk(settings))
    yield _try("ledger", lambda: _ledger(settings))
    yield _try("clock", lambda: _clock(settings))


def _try(subject: str, examine: Callable[[], str]) -> Finding:
    try:
        return Finding(subject, True, examine())
    except (InfrastructureError, ModelUnavailable, OSError, ValueError) as error:
        return Finding(subject, False, str(error))


def _kafka(settings: Settings) -> Iterator[Finding]:
    try:
        existing = existing_topics(settings.kafka)
    except InfrastructureError as error:
        yield Finding("kafka", False, str(error))
        return
    wanted = settings.topics.all()
    ours = sum(topic.name in existing for topic in wanted)
    there = f"{ours} of the {len(wanted)} topics of this broker"
    yield Finding("kafka", True, f"{settings.kafka.bootstrap_servers}, {there}")
    absent = [topic.name for topic in wanted if topic.name not in existing]
    reasons = why_missing(settings.kafka, absent) if absent else {}
    for topic in wanted:
        subject = f"topic {topic.name}"
        if topic.name in reasons:
            yield Finding(subject, False, reasons[topic.name])
            continue
        partitions = existing[topic.name]
        try:
            actual = topic_config(settings.kafka, topic.name)
        except InfrastructureError as error:
            yield Finding(subject, False, str(error))
            continue
        different = [
            f"{key} is {actual.get(key)}, should be {value}"
            for key, value in topic.config.items()
            if actual.get(key) != value
        ]
        if topic.partitions is None and partitions < settings.kafka.partitions:
            wanted_partitions = settings.kafka.partitions
            different.append(f"it has {partitions} partitions, should have {wanted_partitions}")
        policy = ", ".join(f"{key}={value}" for key, value in topic.config.items())
        many = f"{partitions} partition{'' if partitions == 1 else 's'}"
        detail = "; ".join(different) or f"{many}, {policy}"
        yield Finding(subject, not different, detail)


def _schemas(settings: Settings) -> str:
    source = "manifest" if settings.registry.url is None else f"registry {settings.registry.url}"
    return f"ids from the {source}: {', '.join(make_codec(settings).describe())}"


def _scorer(settings: Settings) -> str:
    scorers = Scorers(settings)
    reliability = scorers.reliability.identity
    redshift = f"redshift {scorers.redshift.identity}, its reliability {reliability}"
    return f"code {code_version()}, {redshift}"


def _triton(settings: Settings) -> str:
    critic = make_critic(settings)
    models: list[Model] = [*make_parsers(settings)]
    if critic is not None:
        models.append(critic)
    if settings.triton.refined_redshift:
        models += make_refined_networks(settings)
    models += make_evaluation_models(settings, EVALUATIONS).values()
    if not models:
        return "no model is configured: no critic's output, feature trees and refined redshifts"
    with closing(read_store(settings)) as store, store.reading() as reading:
        in_force = [reading.model_version(model.model) for model in models]
    each = [_in_force(*pair) for pair in zip(models, in_force, strict=True)]
    return f"{settings.triton.url}, {'; '.join(each)}"


def _in_force(model: Model, number: int) -> str:
    """The version of a model in force, which answers, and the others that Triton serves.

    Raises:
        InfrastructureError: Triton does not serve the version in force.
        ModelUnavailable: Triton or the version does not answer, or it cannot be used.
    """
    numbers = model.versions()
    if number not in numbers:
        raise InfrastructureError(
            f"{model.url} does not serve version {number} of model {model.model!r}, which is in "
            f"force; it serves {', '.join(map(str, numbers))}: mmbroker models use {model.model} N"
        )
    model.probe(number)
    model.require_usable(number)
    version = model.version(number)
    others = ", ".join(str(other) for other in numbers if other != number)
    return (
        f"model {model.model} version {number} in force, SHA-256 {version.sha256[:16]}..."
        + (f", calibration {version.calibration_id}" if version.calibration_id else "")
        + (f", also served: version {others}" if others else "")
    )


def _store(settings: Settings) -> str:
    with closing(read_store(settings)) as store, store.reading() as reading:
        galaxies = reading.galaxies()
        size, room = store.size_bytes() / 1e6, store.room_bytes()
    found = damage(settings.store_directory)
    if found is not None:
        raise StoreDamagedError(
            f"the store in {settings.store_directory} is damaged: {found}; {REMEDY}"
        )
    if room < LEAST_ROOM_BYTES:
        raise InfrastructureError(
            f"the store in {settings.store_directory} has {size:,.1f} MB and can grow by "
            f"{room / 1e6:,.0f} MB only, in the address space of a process: raise the limit of the "
            "stages (ulimit -v)"
        )
    return f"{settings.store_directory}, {galaxies:,} galaxies, {size:.1f} MB, all of it readable"


def _disk(settings: Settings) -> str:
    directory = settings.data_directory
    free = shutil.disk_usage(directory).free
    if free < LEAST_ROOM_BYTES:
        raise InfrastructureError(
            f"the disk of data_directory = {directory} has {free / 1e6:,.0f} MB left: make room, "
            "or stop the stages and move the data directory"
        )
    return f"{free / 1e9:,.1f} GB left on the disk of {directory}"


def _ledger(settings: Settings) -> str:
    entries = _entries(settings)
    problems = [problem for each in entries for problem in each.problems]
    if problems:
        raise InfrastructureError("; ".join(problems))
    gone = [f"{each.expired:,} of {each.stage}" for each in entries if each.expired]
    if gone:
        raise InfrastructureError(
            f"Kafka has deleted events before they were read, by the retention of the topic: "
            f"{', '.join(gone)}; they are lost unless published again"
        )
    _require_published(settings, entries)
    waiting = ", ".join(f"{each.stage} {each.waiting:,}" for each in entries)
    told = [f"events that wait: {waiting}"]
    for what, outcome in (
        ("expired unread", EXPIRED),
        ("of batches that cannot be unpacked", UNREADABLE),
        (SKIPPED, SKIPPED),
    ):
        lost = sum(each.outcomes.get(outcome, 0) for each in entries)
        if lost or outcome == EXPIRED:
            told.append(f"{what} so far: {lost:,}")
    unsendable = sum(sum(each.unsendable.values()) for each in entries)
    if unsendable:
        told.append(f"messages that Kafka refused and quarantine has instead: {unsendable:,}")
    return "; ".join([*told, *(note for each in entries for note in each.notes)])


def _clock(settings: Settings) -> str:
    topics = [topic for _, topic in flow(settings.topics)]
    newest_s = {topic: newest_timestamp(settings, topic) for topic in topics}
    now_s = time.time()
    ahead = [
        f"{topic} by {newest_s[topic] - now_s:,.0f} s"
        for topic in topics
        if newest_s[topic] - now_s > LARGEST_LEAD_S
    ]
    if ahead:
        raise InfrastructureError(
            f"events have timestamps in the future of this machine: {', '.join(ahead)}. Its clock "
            "is behind, or the clock of a publisher or of Kafka is ahead: latencies are wrong, and "
            "Kafka keeps these events beyond its retention. Compare all of them with a time server"
        )
    return "no event has a timestamp in the future of this machine"


def _entries(settings: Settings) -> list[Entry]:
    with closing(read_store(settings)) as store, store.reading() as reading:
        return ledger(settings, reading, again=True)


def _require_published(settings: Settings, entries: Sequence[Entry]) -> None:
    """Make sure that what a stage has counted is also published, a moment later at the latest.

    Raises:
        InfrastructureError: some is not.
    """
    if not any(each.again for each in entries):
        return
    time.sleep(ACKNOWLEDGED_WITHIN_S)
    later = _entries(settings)
    held = [
        f"{now.again:,} of {now.stage}"
        for before, now in zip(entries, later, strict=True)
        if before.again and now.again >= before.again
    ]
    if held:
        raise InfrastructureError(
            f"events are counted, and what they caused is not yet acknowledged as published: "
            f"{', '.join(held)}; a running stage says at /readyz why, a stopped one reads them "
            "again when it is started (as after mmbroker rescore)"
        )
