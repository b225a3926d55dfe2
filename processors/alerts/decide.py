"""Decides whether a scored galaxy causes an alert in a stream, of which type, and why."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal

from mmbroker.processors.sky import separation_arcsec
from mmbroker.schemas.events import AlertType, Score

NOTHING_REMAINS = "no observation remains"


@dataclass(frozen=True)
class Region:
    """A circle on the sky.

    Attributes:
        right_ascension_deg: ICRS right ascension of the centre in degrees.
        declination_deg: ICRS declination of the centre in degrees.
        radius_deg: radius in degrees.
    """

    right_ascension_deg: float
    declination_deg: float
    radius_deg: float


@dataclass(frozen=True)
class SignificantChange:
    """The smallest changes that are worth an update.

    Attributes:
        redshift: change of the best redshift, in units of 1 + z.
        probability: change of the calibrated probability.
        hyperscore: change of the HyperScore.
    """

    redshift: float = 0.02
    probability: float = 0.1
    hyperscore: float = 5.0


@dataclass(frozen=True)
class AlertStream:
    """One alert stream as an operator declares it; a limit that is None does not apply.

    Attributes:
        name: name of the stream, which is part of its topic: lower-case letters, digits and
            hyphens.
        format: Avro container or JSON on the wire.
        minimum_probability: least calibrated probability.
        minimum_hyperscore: least HyperScore.
        minimum_redshift: least best redshift.
        maximum_redshift: largest best redshift.
        minimum_flux_density_jy: least (sub)millimetre flux density in Jy.
        region: the part of the sky that a galaxy has to be in.
        include_simulated: whether simulated galaxies may pass.
        update: the smallest changes that are worth an update.
    """

    name: str
    format: Literal["container", "json"] = "container"
    minimum_probability: float | None = None
    minimum_hyperscore: float | None = None
    minimum_redshift: float | None = None
    maximum_redshift: float | None = None
    minimum_flux_density_jy: float | None = None
    region: Region | None = None
    include_simulated: bool = True
    update: SignificantChange = SignificantChange()


@dataclass(frozen=True)
class LastAlert:
    """The last alert of a stream about a galaxy.

    Attributes:
        alert_id: id of the alert.
        version: version of the fingerprint that it was about.
        active: whether the galaxy is in the stream; False after a retraction.
        redshift: redshift at that time; 0 of a galaxy that had none, which is not active.
        probability: calibrated probability at that time, 0 likewise.
        hyperscore: HyperScore at that time.
    """

    alert_id: str
    version: int
    active: bool
    redshift: float
    probability: float
    hyperscore: float


@dataclass(frozen=True)
class Decision:
    """An alert to send: its type, and the reasons, each in one sentence."""

    alert_type: AlertType
    reasons: list[str]


def decide(galaxy: Score, stream: AlertStream, last: LastAlert | None) -> Decision | None:
    """Decide which alert a stream sends about a newly scored galaxy.

    Args:
        galaxy: the scored galaxy.
        stream: the stream.
        last: its last alert about the galaxy; None without one.

    Returns:
        The alert to send; None when there is none.
    """
    passed, failed = _limits(galaxy, stream)
    active = last is not None and last.active
    if failed:
        return Decision("RETRACTION", failed) if active else None
    if last is None or not last.active:
        return Decision("INITIAL", passed or ["the stream has no limits"])
    changes = _changes(galaxy, stream.update, last)
    return Decision("UPDATE", changes) if changes else None


def last_alert(galaxy: Score, stream: AlertStream, decision: Decision) -> LastAlert:
    """What is kept of an alert.

    Args:
        galaxy: the scored galaxy.
        stream: the stream.
        decision: the decision to send the alert.
    """
    return LastAlert(
        alert_id=alert_id(galaxy, stream, decision.alert_type),
        version=galaxy.version,
        active=decision.alert_type != "RETRACTION",
        redshift=galaxy.redshift.best if galaxy.redshift else 0.0,
        probability=galaxy.probability or 0.0,
        hyperscore=galaxy.hyperscore,
    )


def alert_id(galaxy: Score, stream: AlertStream, alert_type: AlertType) -> str:
    """Id of an alert: a repeat of the same alert has the same id, every other alert another."""
    parts = (
        stream.name,
        galaxy.galaxy_id,
        str(galaxy.version),
        galaxy.provenance.scorer_hash,
        alert_type,
    )
    return hashlib.blake2b("\n".join(parts).encode(), digest_size=16).hexdigest()


def _limits(galaxy: Score, stream: AlertStream) -> tuple[list[str], list[str]]:
    """Sentences for the limits that the galaxy meets and for those that it does not.

    A galaxy without a redshift in force meets none.
    """
    passed: list[str] = []
    failed: list[str] = []

    def check(name: str, value: float | None, least: float | None, most: float | None) -> None:
        if least is not None:
            fits = value is not None and value >= least
            said = "is unknown, needed" if value is None else f"{value:.4g} is"
            relation = "at least" if fits or value is None else "below"
            (passed if fits else failed).append(f"{name} {said} {relation} {least:g}")
        if most is not None:
            fits = value is not None and value <= most
            said = "is unknown, needed" if value is None else f"{value:.4g} is"
            relation = "at most" if fits or value is None else "above"
            (passed if fits else failed).append(f"{name} {said} {relation} {most:g}")

    if galaxy.redshift is None:
        remains = galaxy.provenance.observation_count
        return [], [galaxy.redshift_reason if remains else NOTHING_REMAINS]
    check("probability", galaxy.probability, stream.minimum_probability, None)
    check("HyperScore", galaxy.hyperscore, stream.minimum_hyperscore, None)
    check("redshift", galaxy.redshift.best, stream.minimum_redshift, stream.maximum_redshift)
    check("flux density in Jy", galaxy.peak_flux_density_jy, stream.minimum_flux_density_jy, None)
    if stream.region is not None:
        distance = separation_arcsec(
            stream.region.right_ascension_deg,
            stream.region.declination_deg,
            galaxy.right_ascension_deg,
            galaxy.declination_deg,
        )
        check("distance in degrees", distance / 3600.0, None, stream.region.radius_deg)
    if not galaxy.provenance.observation_count:
        failed.append(NOTHING_REMAINS)
    if galaxy.simulated and not stream.include_simulated:
        failed.append("the galaxy is simulated and the stream takes real ones only")
    return passed, failed


def _changes(galaxy: Score, significant: SignificantChange, last: LastAlert) -> list[str]:
    """One sentence for each value that changed significantly since the last alert."""
    changes: list[str] = []
    if galaxy.redshift is None or galaxy.probability is None:
        return changes
    redshift_change = abs(galaxy.redshift.best - last.redshift) / (1 + last.redshift)
    if redshift_change >= significant.redshift:
        changes.append(f"redshift went from {last.redshift:.4g} to {galaxy.redshift.best:.4g}")
    if abs(galaxy.probability - last.probability) >= significant.probability:
        changes.append(f"probability went from {last.probability:.4g} to {galaxy.probability:.4g}")
    if abs(galaxy.hyperscore - last.hyperscore) >= significant.hyperscore:
        changes.append(f"HyperScore went from {last.hyperscore:.4g} to {galaxy.hyperscore:.4g}")
    return changes
