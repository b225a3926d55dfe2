"""Names what a redshift rests on: lines, published redshifts, far infrared, or colours alone."""

from __future__ import annotations

from enum import StrEnum

from mmbroker.schemas.events import Fingerprint, RedshiftPosterior

SAME_MODE = 0.005
"""A redshift within this fraction of 1 + z of an identification is that of its lines."""

_FAR = frozenset({"dust", "radio"})


class EvidenceKind(StrEnum):
    """What a redshift rests on; the first that fits."""

    LINES = "lines identified"
    ONE_LINE = "one line"
    PUBLISHED_AND_FAR = "published with far infrared or radio"
    PUBLISHED = "published alone"
    FAR = "far infrared or radio alone"
    OPTICAL = "optical alone"
    PRIOR = "prior alone"


NO_REDSHIFT = frozenset({EvidenceKind.OPTICAL, EvidenceKind.PRIOR})
"""Redshifts by these kinds are not in force: how often they are right is not known."""


def why_no_redshift(fingerprint: Fingerprint) -> str:
    """Why no redshift of a galaxy is in force, which no line and no published one tells."""
    if len(fingerprint.chunk_index):
        return "no redshift yet: no line of its spectrum was identified"
    if fingerprint.bands:
        return (
            "no redshift yet: optical to mid-infrared bands alone, and how often colours are right "
            "is not known"
        )
    return "no redshift yet: nothing that tells one was observed"


def evidence_kind(posterior: RedshiftPosterior) -> EvidenceKind:
    """The kind of evidence of a posterior's best redshift.

    Args:
        posterior: of one galaxy.
    """
    one_plus_best = 1.0 + posterior.best
    # Two lines that fall on one feature are told by one line.
    lines = [
        len(set(mode.observed_frequencies_hz))
        for mode in posterior.identifications
        if abs(mode.redshift - posterior.best) <= SAME_MODE * one_plus_best
    ]
    if lines:
        return EvidenceKind.LINES if max(lines) > 1 else EvidenceKind.ONE_LINE
    inputs = set(posterior.inputs)
    if "photometric-redshift" in inputs:
        return EvidenceKind.PUBLISHED_AND_FAR if inputs & _FAR else EvidenceKind.PUBLISHED
    if inputs & _FAR:
        return EvidenceKind.FAR
    return EvidenceKind.OPTICAL if "templates" in inputs else EvidenceKind.PRIOR
